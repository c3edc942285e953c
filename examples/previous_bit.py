"""Say which bit came before, at every time: an S4D beside an LSTM of the same size.

    python examples/previous_bit.py [--quick] [--length N] [--seed N] [--figure FILE]

The first bit follows a rule of its own, which no linear model can follow beside the other one; see
`ssm_manual.tasks.previous_bit.PreviousBit` for the protocol.
"""

import argparse
import sys

from ssm_manual import plots
from ssm_manual.tasks import previous_bit, training_run


def main(argv=None):
    """Train both, print a table; returns 0 if S4D has all bits right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer sequences and epochs")
    parser.add_argument("--length", type=int, metavar="N", help="bits (default 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random numbers")
    parser.add_argument("--figure", metavar="FILE", help="draw bits and answers into FILE")
    args = parser.parse_args(argv)

    task = previous_bit.PreviousBit(quick=args.quick, length=args.length)
    found = training_run.compare(task, ("s4d", "lstm"), seed=args.seed)
    print(f"{task.title}, length {task.length}: test part")
    print(f"{'model':>6}{'parameters':>12}{'updates':>9}{'seconds':>9}{'bits right':>12}")
    for run in found.runs:
        share = f"{100 * run.test['accuracy']:.3f} %"
        print(f"{run.title:>6}{run.parameters:>12}{run.updates:>9}{run.seconds:>9.1f}{share:>12}")
    print(f"right but for every first bit: {100 * task.goal()['wrong at the first alone']:.3f} %")

    if args.figure:
        figure = plots.figure(7, 3)
        task.draw(found.runs, figure.add_subplot())
        figure.savefig(args.figure)
        print(f"Figure: {args.figure}")
    return 0 if found.runs[0].test["accuracy"] == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
