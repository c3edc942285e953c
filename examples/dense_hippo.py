"""What of the HiPPO matrix do dense models need? Parts of it are replaced, and two tasks tried.

    python examples/dense_hippo.py [--quick] [--seed N] [--json FILE] [--figure FILE]

One task is trained: the bit before, by a model without bias, for which there is a floor. The other
asks what the states know: a delayed signal is read out of them by least squares.
"""

import argparse
import json
import sys

from ssm_manual import plots
from ssm_manual.tasks import hippo_matrices


def main(argv=None):
    """Print two tables, write results and figure if asked to; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, T 10 and 100, 300 updates")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first of the seeds")
    parser.add_argument("--json", metavar="FILE", help="write every single result to FILE")
    parser.add_argument("--figure", metavar="FILE", help="draw both tables into FILE")
    options = parser.parse_args(argv)
    lengths = (10, 100) if options.quick else (10, 100, 1000, 10_000)
    seeds = range(options.seed, options.seed + (1 if options.quick else 3))
    updates = 300 if options.quick else 2000

    results = hippo_matrices.survey(lengths, seeds, updates=updates)
    for task, title in hippo_matrices.TASKS.items():
        of = "one seed" if len(seeds) == 1 else f"mean over {len(seeds)} seeds (half the range)"
        print(f"\n{title}: {of}")
        print(f"{'matrix':>22}" + "".join(f"{f'T {T}':>18}" for T in lengths))
        for kind in hippo_matrices.KINDS:
            cells = [results.spread(task, kind, T) for T in lengths]
            print(f"{kind:>22}" + "".join(f"{cell:>18}" for cell in cells))

    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results.records(), file, indent=1)
        print(f"Results: {options.json}")
    if options.figure:
        plots.hippo_experiments(results).savefig(options.figure, dpi=110)
        print(f"Figure: {options.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
