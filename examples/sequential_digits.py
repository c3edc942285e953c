"""Which digit is it? An image of 8 x 8 pixels is read one pixel after the other.

    python examples/sequential_digits.py [--quick] [--seed N] [--figure FILE]

S4D and an LSTM with as many parameters get the same 1197 images, as often. The epoch that is kept
is the one that does best on 300 others; 300 more are looked at once, at the end. Methods that see
all pixels at once are fitted beside. Needs scikit-learn: pip install 'ssm_manual[examples]'.
"""

import argparse
import sys

from ssm_manual import plots
from ssm_manual.tasks import training_run
from ssm_manual.tasks.digits import SequentialDigits


def main(argv=None):
    """Print a table, draw if asked to; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="600 images, three epochs")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random numbers")
    parser.add_argument("--figure", metavar="FILE", help="draw the hardest digits into FILE")
    args = parser.parse_args(argv)

    task = SequentialDigits(quick=args.quick)
    found = training_run.compare(task, ("s4d", "lstm"), seed=args.seed)
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
