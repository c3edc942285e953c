"""``ssm-manual gradcheck``: prove every registered gradient, or look at one of them."""

import argparse
import sys

import numpy as np
from tqdm import tqdm

from ssm_manual import gradcheck
from ssm_manual._gradcheck.differences import as_tuple, is_number, like_output, random_cotangents
from ssm_manual._numba import announce_compilation
from ssm_manual._version import __version__
from ssm_manual.cli import _output

DESCRIPTION = (
    "Compare every hand-derived gradient with finite differences; exit status 1 if one fails."
)

EPILOG = """\
what is compared with what
  differences  An op y = f(x) and its vector-Jacobian product J* are two pieces of code.
               For random directions d and random cotangents g, the number <J* g, d> must
               equal the derivative of <g, f(x + s d)> with respect to s: here a five-point
               difference in double precision. <a, b> is Re sum conj(a) b. The error is
               |numeric - analytic| divided by the larger of the two, at most 1e-7; a
               gradient that must be zero must be exactly zero. Each is checked twice: with
               a cotangent on the whole output and with one on the last step alone.
  adjoint      Where f is linear in an argument, <g, J v> = <J* g, v> must hold to 1e-12:
               no step, no truncation.
  reference    The output must equal that of the slow, obvious version in
               ssm_manual.reference to 1e-10.
  A row is the worst case of its op and argument over all examples; --verbose shows all.

examples
  ssm-manual gradcheck                     every op
  ssm-manual gradcheck tustin scan         only these
  ssm-manual gradcheck --show tustin       analytic and numeric gradient, element by element
  ssm-manual gradcheck --seed 7 --json gradients.json

The first time every op is compiled, which takes some minutes; it is kept for later runs.
The derivation is in docs/derivations/gradient_checks.md. Your own op is proved with
ssm_manual.gradcheck.check_vjp; see examples/check_your_own_op.py.
"""


def add_parser(subparsers):
    """Enter the command into the parser of ``ssm-manual``.

    Parameters
    ----------
    subparsers : argparse._SubParsersAction
        From ``parser.add_subparsers()``.
    """
    parser = subparsers.add_parser(
        "gradcheck",
        help="prove the hand-derived gradients against finite differences",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="ops to check (default: all)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of all random numbers (default 0)"
    )
    parser.add_argument("--json", metavar="FILE", help="write every check to FILE as well")
    parser.add_argument("--verbose", action="store_true", help="a row for every example")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--show", metavar="NAME", help="print both gradients of a small example")
    other.add_argument("--list", action="store_true", help="list the registered ops and stop")
    parser.set_defaults(run=run)


def run(args):
    """Run the command.

    Parameters
    ----------
    args : argparse.Namespace
        The parsed arguments.

    Returns
    -------
    int
        The exit status: 0, or 1 if a check fails.

    Raises
    ------
    ValueError
        If an op is not registered or options contradict each other.
    OSError
        If the file of ``--json`` cannot be written.
    """
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; it must not be negative")
    if args.list:
        return _list(args.names)
    if args.show is not None:
        if args.names or args.json:
            raise ValueError("--show takes one op and goes with neither further names nor --json")
        return _show(args.show, args.seed)
    return _check(args)


def _say(line):
    tqdm.write(line, file=sys.stderr)


def _list(names):
    for pair in gradcheck.registered(names or None):
        print(f"{pair.name}({', '.join(pair.arguments)})")
    return 0


def _check(args):
    gradcheck.registered(args.names or None)  # an unknown name is reported before the bar appears
    if args.json:
        _output.check_writable("--json", args.json)
    with (
        tqdm(file=sys.stderr, disable=not sys.stderr.isatty(), unit="example", leave=False) as bar,
        announce_compilation(_say),
    ):

        def progress(done, total, name):
            bar.total = total
            bar.set_description(name, refresh=False)
            bar.update(done - bar.n)

        report = gradcheck.check_registry(args.names or None, seed=args.seed, progress=progress)
    if args.verbose:
        print(report.table(columns=(*report.columns[:-1], "cotangent", "verdict", "example")))
    else:
        print(report.table(report.worst()))
    ops = len({row.op for row in report})
    print(f"\n{len(report)} checks of {ops} ops: {_conclusion(report)}")
    if args.json:
        _output.write_json(args.json, _as_json(report, args.seed))
        print(f"results: {args.json}")
    return 0 if report else 1


def _conclusion(report):
    if report:
        return "all pass"
    lines = [f"{len(report.failures)} fail"]
    for row in report.failures:
        lines.append(
            f"  {row.op}, {row.argument} against {row.against}: {row.verdict} "
            f"(error {row.error:.1e}, tolerance {row.tolerance:.0e}; {row.example or 'no note'})"
        )
    return "\n".join(lines)


def _show(name, seed):
    """Both gradients of the op's smallest example, one element a line."""
    (pair,) = gradcheck.registered([name])
    calls, rng = gradcheck.registry_examples(pair, seed)
    if not calls:
        raise ValueError(f"{name} has no examples; there is nothing to show")

    def elements(example):
        sizes = [np.size(x) for x in example.args if is_number(x)]
        return (min(sizes, default=0) == 0, sum(sizes))

    example = min(calls, key=elements)
    with announce_compilation(_say):
        out, residuals = pair.fwd(*example.args, **example.options)
    cotangents = random_cotangents(rng, as_tuple(out), "random")
    grads = pair.vjp(residuals, like_output(cotangents, out))
    options = "".join(f", {key}={value!r}" for key, value in example.options.items())
    print(f"{name}({', '.join(pair.arguments)}{options}): {example.note or 'an example'}")
    print("The loss is <g, out> with a random cotangent g; a line is one element of its gradient.")
    rows = [("element", "analytic", "numeric", "relative difference")]
    for index, (argument, x, grad) in enumerate(zip(pair.arguments, example.args, grads)):
        if not is_number(x) or grad is None:
            continue
        numeric = gradcheck.numeric_gradient(
            pair.fwd, example.args, index, cotangents if isinstance(out, tuple) else cotangents[0],
            **example.options,
        )  # fmt: skip
        rows += _side_by_side(argument, np.asarray(grad), numeric)
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        _, *others = (cell.rjust(w) for cell, w in zip(row, widths))
        print("  ".join([row[0].ljust(widths[0]), *others]).rstrip())
    report = gradcheck.check_example(pair, example, rng=rng)
    print(f"\nAlong random directions: {report.headline}")
    return 0 if report else 1


def _side_by_side(argument, analytic, numeric, limit=24):
    """Rows of text for at most ``limit`` elements."""
    rows = []
    for where in list(np.ndindex(analytic.shape))[:limit]:
        a, b = analytic[where], numeric[where]
        scale = max(abs(a), abs(b))
        index = ", ".join(map(str, where))
        rows.append(
            (
                f"{argument}[{index}]" if where else argument,
                _number(a),
                _number(b),
                f"{abs(a - b) / scale if scale else 0.0:.1e}",
            )
        )
    if analytic.size > limit:
        rows.append((f"{argument}: {analytic.size - limit} more", "", "", ""))
    return rows


def _number(z):
    if np.iscomplexobj(z):
        return f"{z.real:+.10e} {'-' if z.imag < 0 else '+'} {abs(z.imag):.10e}i"
    return f"{z:+.10e}"


def _as_json(report, seed):
    """The report as plain data; an infinite error (nothing to compare) becomes null."""

    def plain(value):
        if isinstance(value, float) and not np.isfinite(value):
            return None
        return list(value) if isinstance(value, tuple) else value

    rows = [{key: plain(v) for key, v in row._asdict().items()} for row in report]
    return {
        "version": __version__,
        "seed": seed,
        "passed": bool(report),
        "checks": rows,
    }
