"""Rows of the store of runs: what is refused has changed nothing, what is accepted is read back.

One store serves all cases of a process. Each begins a run, which is deleted when the case is over;
so all that the file holds can be compared, before a call that is refused and after it. What a run
goes through in a random order is in `store_session`.
"""

import contextlib
import functools
import math
import os
import tempfile

import numpy as np

from fuzz.engine import Fault
from fuzz.forged import NAMES
from fuzz.hazard import EITHER
from fuzz.making import simple
from fuzz.store_files import COLUMNS, PATHS
from ssm_manual import store
from ssm_manual.models import LinearRegression
from ssm_manual.store import Store, StoreError

#: Any text but the empty one that UTF-8 can hold.
TEXTS = [name for name in ("a", "ö", *NAMES, *PATHS) if "\ud800" not in name]

#: What hazards to a text come to where any will do.
ANY_TEXT = {
    f"choice: {key}": (EITHER, "any text is a name")
    for key in ("unknown", "upper case", "text with NUL", "a megabyte")
}


def texts(*arguments):
    """Exceptions of arguments that may be any text."""
    found = {f"{a} {key}": value for a in arguments for key, value in ANY_TEXT.items()}
    return found | {f"{a} type: a word": (EITHER, "a text") for a in arguments}


#: What stands for the run of a case, and for its number.
OWN, NUMBER = object(), 3

ANOTHER = {
    f"* int: {key}": (EITHER, "another run")
    for key in ("int64", "uint8", "an array without axes", "one")
}


@functools.cache
def _opened():
    folder = tempfile.TemporaryDirectory(prefix="rows_store.")
    return folder, Store(os.path.join(folder.name, "rows.db"))


def held(opened):
    """All rows of all tables."""
    return [opened._database.execute(f"SELECT * FROM {name}") for name in COLUMNS]


def on_a_run(function, filled=False, ended=False):
    """``call(**given)``, which hands a new run to ``function`` and forgets it afterwards."""

    def call(**given):
        opened = _opened()[1]
        run = opened.start("case", {"a": [1, 2.5]}, seed=1, tags=["t"])
        opened._started.remove(run)
        try:
            if filled:
                _fill(run)
            if ended:
                run.finish()
            before = held(opened)
            try:
                return function(run, **given)
            except Fault:
                raise
            except (ValueError, TypeError):
                if held(opened) != before:
                    raise Fault("is refused, and has changed the store") from None
                raise
        finally:
            if run.writable:
                run.interrupt()
            if run.id in [found.id for found in opened.runs()]:
                opened.delete(run)

    return call


MODEL = LinearRegression(np.array([0.5, 0.2]), np.zeros(()))


def _fill(run):
    run.log(0, loss=1.0, other=math.nan)
    run.log(2, loss=0.5)
    run.append("s", np.arange(50, dtype=np.float32))
    run.append("two", np.arange(80.0).reshape(2, 40))
    run.save_checkpoint(MODEL, "m")


def equal(what, found, expected):
    """Raise `Fault` unless what is read is what was written."""
    if isinstance(expected, np.ndarray):
        same = found.dtype == expected.dtype and found.shape == expected.shape
        same = same and np.asarray(found).tobytes() == np.asarray(expected).tobytes()
    else:
        same = found == expected or (found != found and expected != expected)
    if not same:
        raise Fault(f"{what} is read back as {found!r}, and was {expected!r}")


def draw(rng):
    """Any name."""
    return TEXTS[rng.integers(len(TEXTS))]


# ------------------------------------------------------------------------------------ the store


def _path(path, **options):
    folder = _opened()[0].name
    if isinstance(path, str) and path:
        path = os.path.join(folder, path)
    around = set(os.listdir(folder))
    try:
        with Store(path, **options) as opened:
            if not opened.path == path:
                raise Fault("another path")
            if not options["readonly"]:
                opened.start("a").finish()
            opened.runs()
        opened.close()
        with contextlib.suppress(StoreError):
            opened.run(1)
            raise Fault("a closed store answers")
    finally:
        for name in set(os.listdir(folder)) - around:
            os.unlink(os.path.join(folder, name))


def _start(name, config, seed, tags, versions):
    opened = _opened()[1]
    before = held(opened)
    try:
        run = opened.start(name, config, seed=seed, tags=tags, versions=versions)
    except (ValueError, TypeError):
        if held(opened) != before:
            raise Fault("is refused, and has changed the store") from None
        raise
    again = opened.run(run.id)
    equal("name", again.name, name)
    equal("config", again.config, config or {})
    equal("seed", again.seed, np.asarray(seed).tolist())
    equal("tags", again.tags, sorted(set(tags)))
    if versions:
        equal("versions", {k: again.versions[k] for k in versions}, versions)
    repr(again), store.describe(again)
    run.interrupt()
    opened.delete(run)
    opened._started.remove(run)
    return float(again.id > 0)


def _runs(name, status, tag, since):
    opened = _opened()[1]
    run = opened.start("the name", tags=["the tag"])
    opened._started.remove(run)
    try:
        found = opened.runs(name=name, status=status, tag=tag, since=since)
        return [float(run.id in [r.id for r in found])]
    finally:
        run.finish()
        opened.delete(run)


def own(run, given):
    """The run itself, or what a hazard has made of it."""
    return run if given is OWN else run.id if type(given) is int and given == NUMBER else given


def _export(run, given, folder):
    given = own(run, given)
    with tempfile.TemporaryDirectory() as parent:
        if isinstance(folder, str) and folder:
            folder = os.path.join(parent, folder)
        try:
            run._store.export(given, folder)
        except OSError as error:
            if error.filename is None:
                raise
            raise ValueError(f"folder: {error}") from None
        finally:
            if set(os.listdir(parent)) - {os.path.basename(os.fsdecode(folder))
                                          if isinstance(folder, (str, bytes)) else ""}:  # fmt: skip
                raise Fault(f"leaves {os.listdir(parent)[0]!r} behind")
        if not os.path.exists(os.path.join(folder, "config.json")):
            raise Fault("no export")


def _delete(run, given):
    store_ = run._store
    store_.delete(own(run, given))
    with contextlib.suppress(StoreError):
        store_.run(run.id)
        raise Fault("is still there")


def _store_rows():
    fixed = {"readonly": False, "durable": False, "create": True, "timeout": 1.0}
    yield simple(
        "store.Store",
        _path,
        "path:choice create:flag readonly:flag durable:flag timeout:number",
        lambda rng, dtype: {"path": "new.db", **fixed, "durable": bool(rng.integers(2))},
        covers=("ssm_manual.store.Store.close",),
        exceptions={
            **texts("path"),
            "path choice: empty": (EITHER, "no file"),
            "path type: bytes": (EITHER, "refused"),
        },
        also=("store",),
    )
    yield simple(
        "store.Store.start",
        _start,
        "name:choice config:object? seed:int? tags:object versions:object?",
        lambda rng, dtype: {
            "name": draw(rng),
            "config": {draw(rng): rng.standard_normal(2).tolist(), "b": {draw(rng): None}},
            "seed": int(rng.integers(2**62)),
            "tags": [draw(rng), draw(rng)],
            "versions": {draw(rng): draw(rng)},
        },
        exceptions={
            **texts("name"),
            "config type: a dict": (EITHER, "a dict"),
            "config object: an empty dict": (EITHER, "a dict"),
            "versions object: an empty dict": (EITHER, "a dict"),
            "seed int": (EITHER, "any whole number, or a list of them"),
            "tags type: a dict": (EITHER, "its keys"),
            "tags object: an empty dict": (EITHER, "no tags"),
        },
        also=("a tag",),
    )
    yield simple(
        "store.Store.run",
        on_a_run(lambda run, number: run._store.run(own(run, number)) and None),
        "number:int",
        lambda rng, dtype: {"number": NUMBER},
        exceptions=ANOTHER,
        covers=("ssm_manual.store.Run",),
        also=("run",),
    )
    yield simple(
        "store.Store.runs",
        _runs,
        "name:choice? status:choice? tag:choice? since:number?",
        lambda rng, dtype: {
            "name": "the name",
            "status": "running",
            "tag": "the tag",
            "since": 1.5e4,
        },
        exceptions=texts("name", "tag"),
    )
    yield simple(
        "store.Store.export",
        on_a_run(_export, filled=True),
        "given:object folder:choice",
        lambda rng, dtype: {"given": OWN, "folder": "new"},
        exceptions={**texts("folder"), "folder choice: empty": (EITHER, "refused")},
        also=("run", "number"),
    )
    yield simple(
        "store.Store.delete",
        on_a_run(_delete, filled=True, ended=True),
        "given:int",
        lambda rng, dtype: {"given": NUMBER},
        exceptions=ANOTHER,
        covers=("ssm_manual.store.StoreError",),
        also=("run", "number"),
    )
    yield simple(
        "store.describe",
        on_a_run(lambda run, given: store.describe(own(run, given)) and None),
        "given:object",
        lambda rng, dtype: {"given": OWN},
        also=("run",),
    )
    yield simple(
        "store.strict",
        store.strict,
        "value:object",
        lambda rng, dtype: {"value": {draw(rng): [math.inf, (1, "x"), {"b": -math.inf}]}},
        exceptions={"value *": (EITHER, "given back as it is")},
    )


ROWS = [*_store_rows()]
