"""The command ``runs`` as doors: stores from strangers, through each of its actions.

What it prints holds nothing that a terminal would obey, and no more than some lines for each run;
what it writes is whole, and JSON that other programs read.
"""

import contextlib
import io
import json
import os
import shutil

from ssm_manual.cli import main

from .rule import FaultError, expect

#: Characters that a command may print of a store of some kilobytes.
PRINTED = 1 << 20


class CommandError(Exception):
    """Exit status 2: the message is on standard error."""


def _strict(text):
    raise FaultError(f"JSON with {text}")


def _told(*argv):
    """What a command prints, or `CommandError`."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(["runs", *map(str, argv)])
    if status == 2:
        raise CommandError
    expect(status == 0, f"exit status {status}")
    text = out.getvalue()
    expect(all(line.isprintable() for line in text.split("\n")), f"prints {text[:300]!r}")
    expect(len(text) < PRINTED, f"prints {len(text)} characters")
    return text


def _with_json(folder, *argv):
    """A command with ``--json``, whose old file stays unless the command is done."""
    path = folder / "out.json"
    path.write_bytes(b"old")
    try:
        _told(*argv, "--json", path)
    except CommandError:
        expect(path.read_bytes() == b"old", "an old output was touched")
        raise
    json.loads(path.read_text("utf-8"), parse_constant=_strict)


def listed(path, folder):
    """One line a run."""
    _with_json(folder, "list", path)


def shown(path, folder):
    """All about a run."""
    _with_json(folder, "show", path, 1)


def compared(path, folder):
    """Two runs; one of a store that holds one is refused, and that was the file's fault."""
    _with_json(folder, "compare", path, 1, 2)


def drawn(path, folder):
    """A figure, whole or not at all."""
    out = folder / "out.png"
    out.write_bytes(b"old")
    try:
        _told("plot", path, 1, "--out", out)
    except CommandError:
        expect(out.read_bytes() == b"old", "an old output was touched")
        raise
    expect(out.read_bytes()[:4] == b"\x89PNG", "no figure")


def exported(path, folder):
    """A folder, whole or not at all, and nothing beside it."""
    target = folder / "to" / "run"
    shutil.rmtree(folder / "to", ignore_errors=True)
    target.parent.mkdir()
    try:
        _told("export", path, 1, target)
    finally:
        expect(os.listdir(folder / "to") in ([], ["run"]), "an unfinished export")
    json.loads((target / "config.json").read_text("utf-8"), parse_constant=_strict)


def deleted(path, folder):
    """A run is gone, and the rest tells what it told."""
    _told("delete", path, 1, "--yes")
    text = _told("list", path)
    first = [line.split()[:1] for line in text.splitlines()]
    expect(["1"] not in first, "a deleted run is listed")


DOORS = {
    "runs list": listed,
    "runs show": shown,
    "runs compare": compared,
    "runs plot": drawn,
    "runs export": exported,
    "runs delete": deleted,
}
