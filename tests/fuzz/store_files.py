"""Stores of runs: damaged databases, sound ones whose rows make no sense, names with tricks."""

import contextlib
import itertools
import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from ssm_manual.models import LinearRegression

from .forged import NAMES
from .rule import expect

#: Names that would leave the folder of an export, or meet another file there.
PATHS = (
    "../up", "../../up", "/tmp/up", "a/b", "a\\b", "..", ".", "...", "~", "C:\\up", "con",
    "NUL.txt",
    "a:b", "config.json", "metrics.csv", "config", "metrics", "A", "a", "a.npy", "a ", " a", "-rf",
    "%2e%2e%2f", "..\u2215up", "x' OR '1'='1", '"; DROP TABLE run; --', "?1", ":name",
    "sqlite_master",
)  # fmt: skip


def fill(path, names=("a", "b")):
    """A store with a run that has everything."""
    from ssm_manual.store import Store

    with Store(path) as store:
        for name in names:
            with store.start(name, {"rate": 0.1, name: [1, 2]}, seed=3, tags=[name]) as run:
                run.log(0, **{name: 1.0, "loss": float("nan")})
                run.log(1, **{name: 0.5})
                run.append(name, np.arange(50, dtype=np.float32))
                run.signal(name + "2", dtype="int16", rate=8000.0, channels=2)
                run.append(name + "2", np.arange(40, dtype=np.int16).reshape(2, 20))
                run.save_checkpoint(LinearRegression(np.array([0.5, 0.2]), np.zeros(())), name)
                run.finish(score=1.0)


def stores(folder):
    pytest.importorskip("ssm_manual.store")
    path = folder / "seed.db"
    _remove(path)
    fill(path)
    found = _bytes(path)
    _remove(path)
    return [found]


def _bytes(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    return path.read_bytes()


def _remove(path):
    for end in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{end}")


def changed(good, *statements):
    """The store after statements of somebody else's; None where SQLite refuses them."""
    path = "changed.db"
    _remove(path)
    with open(path, "wb") as file:
        file.write(good)
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            for statement, values in statements:
                connection.execute(statement, values)
            connection.commit()
        with open(path, "rb") as file:
            return file.read()
    except (sqlite3.Error, OverflowError, UnicodeEncodeError):
        return None
    finally:
        _remove(path)


#: In the place of any cell.
CELLS = (
    None, 0, 1, -1, 2**31, 2**42, 2**62, 2**63 - 1, -(2**63), 0.5, 1e308, "", "x", "NaN", "[]",
    "{}", "null", "[" * 5000, '{"a":' * 50, "\0", "\x1b[2J", b"", b"\0" * 7, b"\xff" * 16384,
    "float32",
    "|O",
    "<M8", "a" * 100_000,
)  # fmt: skip

COLUMNS = {
    "run": ("id", "name", "config", "seed", "tags", "versions", "owner", "status", "error",
            "scores", "started", "ended"),
    "series": ("id", "run", "name"),
    "metric": ("series", "step", "entry", "value"),
    "signal": ("id", "run", "name", "dtype", "channels", "rate"),
    "chunk": ("id", "data"),
    "checkpoint": ("id", "run", "name", "size"),
    "part": ("id", "data"),
}  # fmt: skip


def values(good, header, rng):
    """Every column of every table with every cell."""
    cases = [(table, column) for table, columns in COLUMNS.items() for column in columns]
    cases = list(itertools.product(cases, range(len(CELLS)), (True, False)))
    for i in rng.permutation(len(cases)).tolist():
        (table, column), which, every = cases[i]
        where = "" if every else f" WHERE rowid = (SELECT max(rowid) FROM {table})"
        if table == "metric" and not every:
            where = " WHERE step = 1"
        sql = f"UPDATE OR IGNORE {table} SET {column} = ?{where}"
        bad = changed(good, ("PRAGMA ignore_check_constraints = ON", ()), (sql, (CELLS[which],)))
        if bad is not None:
            yield f"{table}.{column} is {str(CELLS[which])[:30]!r}, every {every}", bad


def structure(good, header, rng):
    """Tables removed, replaced by views, guarded by triggers; other headers."""
    for table in COLUMNS:
        yield f"no {table}", changed(good, (f"DROP TABLE {table}", ()))
        yield f"empty {table}", changed(good, (f"DELETE FROM {table}", ()))
        view = f"CREATE VIEW {table} AS SELECT * FROM old"
        renamed = f"ALTER TABLE {table} RENAME TO old"
        yield f"{table} a view", changed(good, (renamed, ()), (view, ()))
        trigger = f"CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM run; END"
        yield f"a trigger on {table}", changed(good, (trigger, ()))
        yield f"a column more in {table}", changed(good, (f"ALTER TABLE {table} ADD x", ()))
    bomb = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS id FROM c"
    for name in ("run", "chunk", "metric"):
        endless = (f"CREATE VIEW {name} AS {bomb}", ())
        yield f"{name} without an end", changed(good, (f"DROP TABLE {name}", ()), endless)
    for pragma in ("user_version = 0", "user_version = 2", "user_version = -1",
                   "application_id = 0", "application_id = 1",
                   "encoding = 'UTF-16'", "auto_vacuum = 1"):  # fmt: skip
        yield pragma, changed(good, (f"PRAGMA {pragma}", ()))
    yield "a BLOB of 50 MB", changed(good, ("UPDATE chunk SET data = zeroblob(50000000)", ()))
    many = "INSERT INTO metric SELECT series, step + 10, entry, value FROM metric"
    yield "metrics twice", changed(good, (many, ()))


def names(good, header, rng):
    """Runs, signals, metrics, checkpoints, tags and keys of these names."""
    path = "named.db"
    for name in (*NAMES, *PATHS):
        try:
            name.encode()
        except UnicodeEncodeError:
            continue
        _remove(path)
        fill(path, names=(name,))
        yield f"named {name[:30]!r}", _bytes(Path(path))
        _remove(path)


# ------------------------------------------------------------------------------------------- doors


def read(path, folder):
    """Everything that a store tells, read; what is told twice is the same."""
    from ssm_manual.store import Store

    with Store(path, readonly=True) as opened:
        for run in opened.runs():
            about = [repr(run), run.name, run.status, run.config, run.seed, run.tags, run.scores]
            expect(len(about) == 7, "half of it")
            for steps, found in run.metrics().values():
                expect(steps.shape == found.shape, "steps without values")
            for name, signal in run.signals.items():
                block = run.read(name)
                expect(block.shape[-1] == signal.length, f"{block.shape} of {signal}")
                expect(block.nbytes <= os.path.getsize(path), "more than the file can hold")
            for name in run.checkpoints:
                run.load_checkpoint(name)


def export(path, folder):
    """Files in the folder that was asked for, and nowhere else."""
    from ssm_manual.store import Store

    target = folder / "to" / "export"
    shutil.rmtree(folder / "to", ignore_errors=True)
    target.parent.mkdir()
    around = set(os.listdir(folder)), set(os.listdir(folder.parent)), set(os.listdir(folder / "in"))
    ended = False
    try:
        with Store(path, readonly=True) as opened:
            for run in opened.runs():
                shutil.rmtree(target, ignore_errors=True)
                opened.export(run, target)
        ended = True
    finally:
        now = (
            set(os.listdir(folder)),
            set(os.listdir(folder.parent)),
            set(os.listdir(folder / "in")),
        )
        beside = {"-wal", "-shm"}
        strays = [name for a, b in zip(now, around) for name in a - b if name[-4:] not in beside]
        expect(not strays, f"files elsewhere: {strays}")
        expect(ended or os.listdir(folder / "to") in ([], ["export"]), "an unfinished export")
    if target.exists():
        about = json.loads((target / "config.json").read_text("utf-8"))
        named = {entry["file"] for entry in about["signals"].values()}
        named |= {entry["wav"] for entry in about["signals"].values() if "wav" in entry}
        named |= set(about["checkpoints"].values())
        expect(named | {"config.json", "metrics.csv"} == set(os.listdir(target)), "other files")
        expect(len(named) >= len(about["signals"]) + len(about["checkpoints"]), "names that met")
