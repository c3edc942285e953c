"""What the states of HiPPO know of a signal, and what diagonal layers start from.

    python examples/remember_a_signal.py [--quick] [--figures FOLDER]

A signal of five sinusoids runs through LegS, LegT and FouT. After the last sample its past is read
out of the states alone, and compared with the signal: LegS over all of it, the other two over the
last half, which is their window.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from ssm_manual import hippo, plots
from ssm_manual.tasks import signals


def reading_error(measure, u, N, window):
    """Of the past as the last state has it: root mean square, relative to the signal's."""
    span = u.size if measure == "legs" else window
    state = hippo.project(measure, u, N, window=None if measure == "legs" else window)[-1]
    age = (np.arange(span) + 0.5) / span  # the middles of the samples, the last one first
    past = u[::-1][:span]
    return np.linalg.norm(hippo.basis(measure, N, age).T @ state - past) / np.linalg.norm(past)


def main(argv=None):
    """Print the table, write the figures if asked to; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="400 samples instead of 2000")
    parser.add_argument("--figures", metavar="FOLDER", help="write two figures to FOLDER")
    options = parser.parse_args(argv)
    length = 400 if options.quick else 2000

    cycles = {"lowest": 1 / length, "highest": 10 / length}
    rng = np.random.default_rng(2)
    u = signals.sinusoids(length, components=5, rng=rng, **cycles).samples[0]
    print(f"{length} samples, read out of N numbers: relative error")
    print(f"{'N':>4}" + "".join(f"{measure:>10}" for measure in hippo.MEASURES))
    for N in (8, 16, 32, 64):
        errors = [reading_error(measure, u, N, length // 2) for measure in hippo.MEASURES]
        print(f"{N:4d}" + "".join(f"{error:10.4f}" for error in errors))

    if options.figures:
        folder = Path(options.figures)
        for name, figure in (
            ("hippo_memory", plots.hippo_memory(u, 16).figure),
            ("hippo_initialisations", plots.initialisations()),
        ):
            figure.savefig(folder / f"{name}.png", dpi=110)
            print(f"Figure: {folder / name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
