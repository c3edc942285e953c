"""``ssm-manual vectors``: test vectors of every op, for ports to other languages."""

import argparse
import sys

DESCRIPTION = """\
Write inputs, outputs and gradients of every op into a folder, as .npz and .json with a README, for
whoever ports this to C, Zig, Rust or a microcontroller. Every case passes its proof (the slow
reference, finite differences) before it is written.
"""

EPILOG = """\
examples
  ssm-manual vectors DIR                      every op, about 430 cases
  ssm-manual vectors DIR tustin scan mse      these alone
  ssm-manual vectors DIR --seed 7             other numbers

The first time every op is compiled, which takes some minutes; it is kept for later runs.
examples/port/ has a C99 program that reads such a folder and passes.
"""


def add_parser(subparsers):
    """Enter the command into the parser of ``ssm-manual``."""
    parser = subparsers.add_parser(
        "vectors",
        help="write test vectors of every op, for ports to other languages",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR", help="made if there is none")
    parser.add_argument(
        "names", nargs="*", default=[], metavar="OP", help="which ops (default: all)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of all numbers (default 0)"
    )
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    from tqdm import tqdm

    from ssm_manual import vectors
    from ssm_manual._numba import announce_compilation

    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; it must be at least 0")
    with (
        tqdm(file=sys.stderr, disable=not sys.stderr.isatty(), unit="case", leave=False) as bar,
        announce_compilation(lambda line: tqdm.write(line, file=sys.stderr)),
    ):

        def progress(done, total, name):
            bar.total = total
            bar.set_description(name, refresh=False)
            bar.update(done - bar.n)

        index = vectors.write(args.folder, args.names or None, seed=args.seed, progress=progress)
    cases = sum(op["cases"] for op in index["ops"])
    ops = len(index["ops"])
    print(f"{cases} cases of {ops} op{'s' * (ops > 1)}: {args.folder}")
    return 0
