"""Was one token anywhere in a long sequence? S4D, its frozen control and an LSTM of the same size.

    python examples/sentinel.py [--quick] [--length N] [--seed N] [--figure FILE]

The control is the same S4D with embedding and head trained alone: what it reaches needs no trained
layer. See `ssm_manual.tasks.sentinel.Sentinel` for the protocol. The full task takes minutes.
"""

import argparse
import sys

from ssm_manual import plots
from ssm_manual.tasks import sentinel, training_run


def main(argv=None):
    """Train all three, print a table; returns 0 if S4D reaches the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="30 tokens, 3 epochs")
    parser.add_argument("--length", type=int, metavar="N", help="tokens (default 500)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random numbers")
    parser.add_argument("--figure", metavar="FILE", help="draw all answers into FILE")
    args = parser.parse_args(argv)

    task = sentinel.Sentinel(quick=args.quick, length=args.length)
    found = training_run.compare(task, ("s4d", "s4d-frozen", "lstm"), seed=args.seed)
    print(f"{task.title}, length {task.length}: test part")
    print(f"{'model':>11}{'parameters':>12}{'updates':>9}{'seconds':>9}{'right':>10}")
    for run in found.runs:
        share = f"{run.test['accuracy']:.2%}"
        print(f"{run.title:>11}{run.parameters:>12}{run.updates:>9}{run.seconds:>9.1f}{share:>10}")
    print(f"goal {task.goal()['goal']:.0%}; chance 50%")

    if args.figure:
        figure = plots.figure(7, 3)
        task.draw(found.runs, figure.add_subplot())
        figure.savefig(args.figure)
        print(f"Figure: {args.figure}")
    return 0 if found.runs[0].test["accuracy"] >= task.goal()["goal"] else 1


if __name__ == "__main__":
    sys.exit(main())
