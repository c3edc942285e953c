"""``ssm-manual runs``: what has been kept in a store, as tables, figures and files."""

import argparse
import datetime
import sys

from ssm_manual.cli import _output, _runs_report

DESCRIPTION = """\
Look at runs that were kept in a store: by ssm-manual denoise --store, by train and apply, or from
Python. A store is one file; DB below is its name, RUN the number that "list" shows.
"""

EPILOG = """\
status
  running      its process is still there
  finished     it came to its end
  failed       it raised an error, which is kept
  interrupted  it was broken off, or its process was killed: then all that it had acknowledged is
               there

examples
  ssm-manual denoise --quick --store runs.db      a run to look at
  ssm-manual denoise --quick --poles 4 --store runs.db
  ssm-manual runs list runs.db
  ssm-manual runs list runs.db --status failed --since 2026-01-31
  ssm-manual runs show runs.db 1
  ssm-manual runs compare runs.db 1 2             in what they differ, and what came out
  ssm-manual runs plot runs.db 1 2 --metric loss --out loss.png
  ssm-manual runs export runs.db 1 run1           a folder of .json, .csv, .npy, .wav, .safetensors
  ssm-manual runs delete runs.db 2

In Python: ssm_manual.store.Store. Any tool that reads SQLite reads the file too.
"""

STATUSES = ("running", "finished", "failed", "interrupted")


def add_parser(subparsers):
    """Enter the command into the parser of ``ssm-manual``."""
    parser = subparsers.add_parser(
        "runs",
        help="look at runs that were kept: list, compare, plot, export",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    one = _action(actions, "list", _list, "one line a run, in the order in which they began")
    one.add_argument("--name", help="runs of this name alone, such as 'denoise ecg'")
    one.add_argument("--status", choices=STATUSES, help="runs of this status alone")
    one.add_argument("--tag", help="runs with this tag alone")
    one.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help="runs that began then or later: 2026-01-31, or 2026-01-31T18:30",
    )
    one.add_argument("--json", metavar="FILE", help="write all about these runs")

    one = _action(actions, "show", _show, "all about one run")
    _add_runs(one, nargs=1)
    one.add_argument("--json", metavar="FILE", help="write it, with every logged value")

    one = _action(
        actions, "compare", _compare, "in what runs differ, and what came out, side by side"
    )
    _add_runs(one, nargs="+")
    one.add_argument("--json", metavar="FILE", help="write differences and values")

    one = _action(
        actions,
        "plot",
        _plot,
        "a figure of metrics over steps and of signals",
        "Without --metric: what has 'loss' in its name, or else all. Without --signal: signals of "
        "a single run.",
    )
    _add_runs(one, nargs="+")
    one.add_argument(
        "--metric", metavar="NAME", action="append", help="draw this one; may be given again"
    )
    one.add_argument(
        "--signal", metavar="NAME", action="append", help="draw this one; may be given again"
    )
    one.add_argument("--channel", type=int, default=0, metavar="N", help="of signals (default 0)")
    one.add_argument(
        "--start", type=int, metavar="N", help="first sample of signals (default: near the middle)"
    )
    one.add_argument(
        "--samples", type=int, default=1000, metavar="N", help="how many of them (default 1000)"
    )
    one.add_argument(
        "--out",
        default="runs.png",
        metavar="FILE",
        help=".png, .pdf or .svg (default runs.png, overwritten)",
    )

    one = _action(
        actions,
        "export",
        _export,
        "a run as a folder of plain files",
        "config.json, metrics.csv, signals as .npy and where possible .wav, checkpoints as "
        ".safetensors. The folder is there whole or not at all.",
    )
    _add_runs(one, nargs=1)
    one.add_argument("folder", metavar="FOLDER", help="a new one")

    one = _action(actions, "delete", _delete, "forget runs, all or none; asks before it does")
    _add_runs(one, nargs="+")
    one.add_argument("--yes", action="store_true", help="do not ask")
    one.add_argument(
        "--force",
        action="store_true",
        help="delete also what runs where it cannot be seen from here: on a machine that the file "
        "was copied from, or in another container",
    )


def _action(actions, name, function, summary, more=""):
    description = f"{summary[0].upper()}{summary[1:]}. {more}".strip()
    parser = actions.add_parser(name, help=summary, description=description)
    parser.add_argument("store", metavar="DB", help="the file of the store")
    parser.set_defaults(run=function)
    return parser


def _add_runs(parser, nargs):
    parser.add_argument(
        "numbers", type=_number, metavar="RUN", nargs=nargs, help='its number, as "list" shows it'
    )


def _number(text):
    if not (text.isdecimal() and 1 <= int(text) < 2**63):
        raise argparse.ArgumentTypeError(f'{text!r} is no number of a run, as "list" shows them')
    return int(text)


def _moment(text):
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        message = f"{text!r} is no time such as 2026-01-31 or 2026-01-31T18:30"
        raise argparse.ArgumentTypeError(message) from None


def _opened(args, *, write=False):
    """The store; for reading alone where nothing can be written."""
    import os

    from ssm_manual.store import Store

    if not os.path.lexists(args.store):
        raise ValueError(
            f"{args.store}: there is no such store; denoise, train and apply make one by --store"
        )
    writable = os.access(args.store, os.W_OK) and os.access(
        os.path.dirname(os.path.realpath(args.store)), os.W_OK
    )
    return Store(args.store, create=False, readonly=not writable and not write)


def _chosen(args, store):
    """The runs that were asked for; each once."""
    runs = [store.run(number) for number in args.numbers]
    if len({run.id for run in runs}) < len(runs):
        raise ValueError("RUN: each can be given once")
    return runs


def _list(args):
    _output.check_outputs({"DB": args.store}, json=args.json)
    with _opened(args) as store:
        runs = store.runs(name=args.name, status=args.status, tag=args.tag, since=args.since)
        print(_runs_report.listing(runs))
        if args.json:
            _write(args.json, [_runs_report.about(run) for run in runs])
    return 0


def _show(args):
    _output.check_outputs({"DB": args.store}, json=args.json)
    with _opened(args) as store:
        (run,) = _chosen(args, store)
        print(_runs_report.details(run))
        if args.json:
            _write(args.json, _runs_report.about(run) | {"metrics": _runs_report.curves(run)})
    return 0


def _compare(args):
    _output.check_outputs({"DB": args.store}, json=args.json)
    if len(args.numbers) < 2:
        raise ValueError("RUN: it takes two or more to compare")
    with _opened(args) as store:
        found = _runs_report.comparison(_chosen(args, store))
        print(_runs_report.side_by_side(found))
        if args.json:
            _write(args.json, found)
    return 0


def _plot(args):
    _output.check_figure("--out", args.out)
    _output.check_outputs({"DB": args.store}, out=args.out)
    for option, least in (("samples", 2), ("channel", 0), ("start", 0)):
        value = getattr(args, option)
        if value is not None and value < least:
            raise ValueError(f"--{option} is {value}; it must be at least {least}")
    from ssm_manual.cli import _runs_plot

    with _opened(args) as store:
        figure = _runs_plot.draw(_chosen(args, store), args)
    _output.write_figure(args.out, figure)
    print(f"figure: {args.out}")
    return 0


def _export(args):
    with _opened(args) as store:
        store.export(args.numbers[0], args.folder)
    print(f"run {args.numbers[0]}: {args.folder}")
    return 0


def _delete(args):
    with _opened(args, write=True) as store:
        runs = _chosen(args, store)
        print(_runs_report.listing(runs))
        if not args.yes:
            if not sys.stdin.isatty():
                raise ValueError("there is nobody to ask: --yes deletes without asking")
            what = "this run" if len(runs) == 1 else f"these {len(runs)} runs"
            print(f"Delete {what} for ever? [y/N] ", end="", flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                print("nothing was deleted")
                return 1
        store.delete(*runs, force=args.force)
    print(f"deleted {', '.join(str(one.id) for one in runs)}")
    return 0


def _write(path, data):
    from ssm_manual.store import strict

    _output.write_json(path, strict(data))
    print(f"results: {path}")
