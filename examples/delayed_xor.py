"""Do two marked bits, far apart in a sequence, differ? With a curriculum and without.

    python examples/delayed_xor.py [--quick] [--seed N] [--figure FILE] [--signal FILE]

S4D and an LSTM with as many parameters are trained twice. Once on sequences that begin with six
samples and grow as they are learned; once on sequences of the full length from the first update
on. All four see the same kind of items, new in every batch, in at most as many updates; training
ends before when no validation item is wrong. The test part is read once, at the end. Why the
second way learns nothing: docs/why_xor_is_hard.md.
"""

import argparse
import sys

import numpy as np

from ssm_manual.models import SequenceModel
from ssm_manual.plots import xor_signal, xor_training
from ssm_manual.tasks import training_run
from ssm_manual.tasks.protocol import TITLES
from ssm_manual.tasks.xor import DelayedXOR
from ssm_manual.tasks.xor_signal import label_signal


def main(argv=None):
    """Train, print a table, and draw the figure if asked to; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short sequences, few updates")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of data and models")
    parser.add_argument("--length", type=int, metavar="N", help="samples (256; quick: 6)")
    parser.add_argument("--figure", metavar="FILE", help="draw lengths and accuracies into FILE")
    parser.add_argument("--signal", metavar="FILE", help="draw what labels say before training")
    options = parser.parse_args(argv)

    growing = DelayedXOR(quick=options.quick, length=options.length)
    length = growing.chosen["length"]
    at_once = DelayedXOR(quick=options.quick, length=length, shortest=length)
    ways = {"growing": growing, "full length": at_once}
    histories = {}
    print(f"{'model':>8} {'trained on':>12} {'updates':>8} {'seconds':>8} {'test':>8} {'twice':>8}")
    for way, task in ways.items():
        for run in training_run.compare(task, seed=options.seed).runs:
            test, twice = run.test["accuracy"], run.further["accuracy at twice the length"]
            print(
                f"{run.title:>8} {way:>12} {run.updates:8d} {run.seconds:8.1f} "
                f"{test:8.1%} {twice:8.1%}"
            )
            histories[f"{run.title}, {way}"] = [run.history]
    print("test: right answers at the full length; twice: at twice that length")
    if options.figure:
        xor_training(histories).savefig(options.figure, dpi=110)
        print(f"Figure: {options.figure}")
    if options.signal:
        xor_signal(signals(range(1 if options.quick else 3))).savefig(options.signal, dpi=110)
        print(f"Figure: {options.signal}")
    return 0


def signals(seeds, batches=60):
    """What the labels say to models as they are drawn, at a few lengths."""
    found = {}
    for name, lengths in {"s4d": (6, 16, 45, 128), "lstm": (6, 11, 16)}.items():
        _, options = training_run.options_of(DelayedXOR(), name)
        title = TITLES[name]
        found[title] = {length: [] for length in lengths}
        for length in lengths:
            for seed in seeds:
                model = SequenceModel(**options, rng=np.random.default_rng([seed, 1]))
                rng = np.random.default_rng([seed, 6, length])
                found[title][length].append(label_signal(model, rng, length, batches))
    return found


if __name__ == "__main__":
    sys.exit(main())
