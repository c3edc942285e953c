"""Repeat ten symbols after a long gap: an S4D beside an LSTM of the same size.

    python examples/copying_memory.py [--quick] [--delay N] [--seed N] [--figure FILE]

The protocol is that of `ssm_manual.tasks.copying.CopyingMemory`. A delay of 1000 samples takes
minutes, most of them for the LSTM.
"""

import argparse
import sys

from ssm_manual import plots
from ssm_manual.tasks import copying, training_run


def main(argv=None):
    """Train both, print a table; returns 0 if S4D reaches the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 symbols, delay 20, 3 epochs")
    parser.add_argument("--delay", type=int, metavar="N", help="samples (default 100)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random numbers")
    parser.add_argument("--figure", metavar="FILE", help="draw a question and answers into FILE")
    args = parser.parse_args(argv)

    task = copying.CopyingMemory(quick=args.quick, delay=args.delay)
    found = training_run.compare(task, ("s4d", "lstm"), seed=args.seed)
    print(f"{task.title}, {task.symbols} symbols, delay {task.delay}: test part")
    print(f"{'model':>6}{'parameters':>12}{'updates':>9}{'seconds':>9}{'symbols':>10}{'whole':>9}")
    for run in found.runs:
        shares = f"{run.test['accuracy']:>10.2%}{run.further['whole answers']:>9.2%}"
        print(f"{run.title:>6}{run.parameters:>12}{run.updates:>9}{run.seconds:>9.1f}{shares}")
    goal = task.goal()
    print(f"goal {goal['goal']:.1%} of the symbols; chance {goal['chance']:.1%}")

    if args.figure:
        figure = plots.figure(7, 2.4)
        task.draw(found.runs, figure.add_subplot())
        figure.savefig(args.figure)
        print(f"Figure: {args.figure}")
    return 0 if found.runs[0].test["accuracy"] >= goal["goal"] else 1


if __name__ == "__main__":
    sys.exit(main())
