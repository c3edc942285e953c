"""``ssm-manual kernels``: how fast and how precise every way of making a kernel is, measured."""

import argparse
import sys

import numpy as np

from ssm_manual import _validate
from ssm_manual._version import __version__
from ssm_manual.cli import _output

DESCRIPTION = """\
Make the kernel of one pole, K_t = C A_bar^t B_bar, by every method there is; time each of them on
this machine, and compare each with exact arithmetic. Draws kernels.png.
"""

EPILOG = """\
the methods
  anchored      anchors times a short table of powers, both in double-double: no drift, one product
                a sample; long kernels in little more than the time of writing the array. What
                "auto" takes.
  recursive     K_t = A_bar K_(t-1): one product a sample, each after the one before; every one
                adds its rounding.
  naive         the definition: the powers P_t = A_bar P_(t-1) one after the other, then C P_t B.
  log           exp(log C B_bar + t log A_bar): t multiplies the rounding of the logarithm.
  log_parallel  the same with logarithms in double-double and whole turns taken off exactly; own
                exp, sin and cos in vector registers; on threads.
  hybrid        a published rule: recursive up to 1024 samples, log_parallel beyond.

what is measured
  time          The shortest of many calls of ops.kernels.generate into an array that is in memory
                already; the methods take turns. "fill" writes the same array and does nothing
                else: the floor. A call has some 20 microseconds of checks, which short kernels
                show.
  error         The largest over the poles of |K_t - exact| / |exact|, in units of 2^-53
                (complex128) or 2^-24 (complex64). Exact: the pole's powers in integers of 384 bits.
                The table has the worst and the median over t.

examples
  ssm-manual kernels                         half a minute
  ssm-manual kernels --quick
  ssm-manual kernels --longest 10000000      errors up to ten million samples
  NUMBA_NUM_THREADS=1 ssm-manual kernels     on one thread

Formulas and proofs of the error bounds: docs/derivations/precise_kernels.md.
"""

#: Shortest kernel that is timed: below, a call is mostly checks.
SHORTEST = 2**10

QUICK = 2**14


def add_parser(subparsers):
    """Enter the command into the parser of ``ssm-manual``."""
    parser = subparsers.add_parser(
        "kernels",
        help="time and error of every way of making a kernel",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--length",
        type=int,
        metavar="L",
        help=f"longest kernel that is timed, from {SHORTEST} to 2^26 (default 2^20)",
    )
    parser.add_argument(
        "--longest",
        type=int,
        metavar="T",
        help="how far the errors are followed, in samples, up to 2^26 (default 2^20)",
    )
    parser.add_argument(
        "--poles", type=int, default=3, metavar="N", help="random poles for the errors (default 3)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the poles (default 0)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--figure", metavar="FILE", help=".png, .pdf or .svg (default kernels.png, overwritten)"
    )
    which.add_argument("--no-figure", action="store_true", help="write no figure")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    parser.add_argument("--quick", action="store_true", help="up to 2^14 samples: a first look")
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    default = QUICK if args.quick else 2**20
    length = default if args.length is None else args.length
    longest = default if args.longest is None else args.longest
    _validate.integer("--length", length, minimum=SHORTEST, maximum=2**26)
    _validate.integer("--longest", longest, minimum=2, maximum=2**26)
    _validate.integer("--poles", args.poles, minimum=1, maximum=1000)
    _validate.integer("--seed", args.seed, minimum=0)
    figure = None if args.no_figure else args.figure or "kernels.png"
    _output.check_outputs({}, figure=figure, json=args.json)
    lengths = [2**n for n in range(SHORTEST.bit_length() - 1, length.bit_length(), 2)]
    if lengths[-1] != length:
        lengths.append(length)
    found = _survey(lengths, longest, args)
    print(table(found))
    if args.json:
        _output.write_json(args.json, _as_json(found))
        print(f"results: {args.json}")
    if figure:
        from ssm_manual import plots

        _output.write_figure(figure, plots.kernel_methods(found))
        print(f"figure: {figure}")
    return 0


def _survey(lengths, longest, args):
    from tqdm import tqdm

    from ssm_manual._numba import announce_compilation
    from ssm_manual.tasks import kernel_survey

    with (
        tqdm(unit="step", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False) as bar,
        announce_compilation(lambda line: tqdm.write(line, file=sys.stderr)),
    ):

        def progress(done, total):
            bar.total = total
            bar.update(done - bar.n)

        return kernel_survey.survey(
            lengths=lengths,
            longest=longest,
            poles=args.poles,
            rng=np.random.default_rng(args.seed),
            progress=progress,
        )


def table(found):
    """Time a sample at the longest kernel, and errors, as text.

    Parameters
    ----------
    found : ssm_manual.tasks.kernel_survey.Survey
        What was measured.

    Returns
    -------
    str
    """
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    lines = []
    for dtype, seconds in found.seconds.items():
        errors = found.errors[dtype]
        length = found.lengths[-1]
        lines += [
            f"{dtype}: time at {length} samples ({threads} for log_parallel and hybrid), "
            f"error up to t = {found.t[-1]}",
            f"  {'method':14}{'ns/sample':>10}{'x fill':>8}{'error, worst':>15}{'median':>12}",
        ]
        floor = seconds["fill"][-1]
        for method, times in seconds.items():
            line = f"  {method:14}{times[-1] / length * 1e9:10.2f}{times[-1] / floor:8.1f}"
            if method in errors:
                worst, median = np.max(errors[method]), np.median(errors[method])
                line += f"{worst:15,.2f}{median:12,.2f}"
            lines.append(line)
        lines.append("")
    lines.append(
        "fill merely writes the array; errors relative to |K_t|, in units of 2^-53 and 2^-24"
    )
    return "\n".join(lines)


def _as_json(found):
    finite = {
        dtype: {
            method: [e if np.isfinite(e) else None for e in values]
            for method, values in own.items()
        }
        for dtype, own in found.errors.items()
    }
    return {"version": __version__, **found._asdict(), "errors": finite}
