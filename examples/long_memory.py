"""How far back do gradients reach? S4D, LSTM and RNN as they are drawn, and after training.

    python examples/long_memory.py [--quick] [--seed N] [--figure FILE]

First the gradient of the last output to the input at every time before, of layers with random
weights: what it does not reach, training cannot find. Then models of one size learn to repeat ten
symbols after 100 samples; a model that can do it has its gradient where the symbols stood. All get
the same number of updates. Three minutes on one core.
"""

import argparse
import sys

from ssm_manual import plots
from ssm_manual.tasks import gradient_reach


def main(argv=None):
    """Print two tables, draw them if asked to; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter, and few updates")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything")
    parser.add_argument("--figure", metavar="FILE", help="draw both into FILE")
    args = parser.parse_args(argv)
    length, features, delay, updates = (200, 16, 10, 100) if args.quick else (1000, 64, 100, 1000)

    start = gradient_reach.at_start(length, features=features, seed=args.seed)
    far = [length // 100, length // 10, length - 1]
    print("RMS gradient of the last output to the input so many samples before, as drawn")
    print(f"{'':>26}" + "".join(f"{k:>11}" for k in far))
    for label, reach in start.items():
        print(f"{label:>26}" + "".join(f"{reach[k]:>11.1e}" for k in far))

    trained = gradient_reach.after_training(delay=delay, updates=updates, seed=args.seed)
    asked = delay + gradient_reach.SYMBOLS  # from an answer back to its symbol
    print(f"\nCopying {gradient_reach.SYMBOLS} symbols after {delay} samples, {updates} updates")
    print(f"{'':>26}{'parameters':>12}{'recalled':>10}{f'at {asked}, before':>18}{'after':>10}")
    for label, run in trained.items():
        ends = f"{run.before[asked]:>18.1e}{run.after[asked]:>10.1e}"
        print(f"{label:>26}{run.parameters:>12,}{run.recalled:>10.1%}{ends}")

    if args.figure:
        figure = plots.figure(11.5, 4.4)
        left, right = figure.subplots(1, 2)
        plots.gradient_reach(start, left).set_title("as drawn", loc="left")
        after = {label: run.after for label, run in trained.items()}
        plots.gradient_reach(after, right, mark=asked, floor=1e-12)
        right.set_title("after training on copying memory", loc="left")
        figure.savefig(args.figure, dpi=110)
        print(f"Figure: {args.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
