"""The command ``ssm-manual``: one short file per subcommand.

A subcommand's module has ``add_parser(subparsers)`` and ``run(args) -> exit status``. A
`ValueError` or an `OSError` out of ``run`` becomes one line on standard error and exit status 2:
bad input is the user's to mend, not a traceback to read.
"""

import argparse
import importlib
import sys

from ssm_manual._version import __version__

COMMANDS = ("denoise", "apply", "regress", "kernels", "gradcheck", "train", "vectors", "runs")


def build_parser():
    """The parser with all its subcommands."""
    parser = argparse.ArgumentParser(
        prog="ssm-manual",
        description="State-space sequence models with hand-derived gradients.",
        epilog="Each command explains itself: ssm-manual COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=f"ssm_manual {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"ssm_manual.cli.{name}").add_parser(subparsers)
    return parser


def main(argv=None):
    """Run the command line; returns the exit status.

    0: done. 1: a check that the command exists to make has failed. 2: bad input.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without a character shows "?" in its place
            stream.reconfigure(errors="replace")
    parser = build_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return 2
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except BrokenPipeError:  # the reader of a pipe has left: nothing is wrong
        return 0
    except (ValueError, OSError) as error:
        print(f"ssm-manual {args.command}: {_one_line(error)}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"ssm-manual {args.command}: {str(error) or 'out of memory'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"ssm-manual {args.command}: interrupted", file=sys.stderr)
        return 130


def _one_line(error):
    """An error's text; what a terminal would obey, in the name of a file say, is written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
