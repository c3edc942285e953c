"""MNIST from a file of yours, one pixel after the other: 784 steps from the first to the answer.

    python examples/sequential_mnist.py FILE [FILE] [--items N] [--quick] [--seed N] [--figure FILE]
    python examples/sequential_mnist.py --quick

The file is an .npz archive with x and y (or x_train and y_train), or two IDX files, compressed or
not: images and labels. Nothing is downloaded; a quick look without a file takes scikit-learn's
digits, written into such an archive. Of the images used, 80 % are for training, 10 % say
which epoch is kept, and 10 % are looked at once, at the end. S4D and an LSTM with as many
parameters get the same updates.
"""

import argparse
import os
import sys
import tempfile

import numpy as np

from ssm_manual import plots
from ssm_manual.tasks import training_run
from ssm_manual.tasks.digits import handwritten_digits
from ssm_manual.tasks.mnist import SequentialMNIST


def loaded(parser, args):
    """The task, or a message that says what is wrong with the files."""
    try:
        return SequentialMNIST(data=args.data, items=args.items, quick=args.quick)
    except (OSError, ValueError) as error:
        return parser.error(str(error))


def main(argv=None):
    """Print a table, draw if asked to; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", metavar="FILE", nargs="*", help=SequentialMNIST.needs_data)
    parser.add_argument("--items", type=int, metavar="N", help="images used (default 10000)")
    parser.add_argument("--models", default="s4d,lstm", help="which are trained (s4d,lstm)")
    parser.add_argument("--quick", action="store_true", help="500 images at half the resolution")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random numbers")
    parser.add_argument("--figure", metavar="FILE", help="draw the hardest images into FILE")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        if args.quick and not args.data:
            args.data = [os.path.join(folder, "digits.npz")]
            images, labels = handwritten_digits()
            np.savez(args.data[0], x=np.repeat(np.repeat(images, 2, axis=1), 2, axis=2), y=labels)
        task = loaded(parser, args)
    found = training_run.compare(task, args.models.split(","), seed=args.seed)
    print(f"{'':24}{'parameters':>10}{'updates':>9}{'seconds':>9}{'test':>9}")
    for run in found.runs:
        size = f"{run.parameters:>10}{run.updates:>9}{run.seconds:>9.0f}"
        print(f"{run.title:24}{size}{run.test['accuracy']:>9.1%}")
    for rival in found.rivals:
        print(f"{rival.name:52}{rival.value:>9.1%}  {rival.note}")

    if args.figure:
        ax = plots.figure(6.4, 4.0).add_subplot()
        task.draw(list(found.runs), ax)
        ax.figure.savefig(args.figure)
        print(f"Figure: {args.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
