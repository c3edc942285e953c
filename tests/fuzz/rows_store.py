"""Rows of the store of runs, a run for each call; for its files see `store_files`."""

import functools
import tempfile
from pathlib import Path

import numpy as np

from fuzz.hazard import EITHER
from fuzz.making import WORD, simple
from ssm_manual.models import LinearRegression
from ssm_manual.store import Store

NAMED = {
    "name choice": (EITHER, "any text"),
    "name type: a word": (EITHER, "any text"),
}
KEPT = {"* value": (EITHER, "NaN is kept"), "* number": (EITHER, "NaN is kept")}


class Folder:
    """A store in a folder that goes when the process does."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self._folder.name, "runs.db"))
        self.store = Store(self.path)
        self.full = self.started()
        self.full.append("x", np.arange(50, dtype=np.float32))
        self.full.log(0, loss=1.0)
        self.full.log(3, loss=0.5)
        self.full.save_checkpoint(LinearRegression(np.ones(2), 0.5))

    def started(self):
        return self.store.start("fuzz", {})


@functools.cache
def folder():
    return Folder()


def _in_a_run(act):
    """A row's call: ``act(run, **given)`` of a run that is deleted afterwards."""

    def call(**given):
        run = folder().started()
        try:
            return act(run, **given)
        finally:
            if run.writable:
                run.interrupt()
            folder().store.delete(run)

    return call


def _appended(run, name, block):
    lengths = [run.append(name, block), run.append(name, block)]
    return lengths, run.read(name), run.read(name, 1) if lengths[0] else None


def _logged(run, step, loss):
    run.log(step, loss=loss)
    return run.metrics("loss")


def _declared(run, name, dtype, rate, channels):
    run.signal(name, dtype=dtype, rate=rate, channels=channels)
    signal = run.signals[name]
    return str(signal.dtype), signal.rate, signal.channels


def _finished(run, score):
    run.finish(score=score)
    return run.scores, run.status


def _kept(run, model, name):
    run.save_checkpoint(model, name)
    return run.load_checkpoint(name)


def _begun(**given):
    run = folder().store.start(**given)
    again = folder().store.run(run.id)
    found = again.name, again.config, again.tags
    run.finish()
    folder().store.delete(run)
    return found


def _opened(**given):
    with Store(folder().path, **given) as store:
        return len(store.runs(name="fuzz", status="running"))


def _block(rng, dtype):
    shape = [(int(rng.integers(0, 40)),), (2, int(rng.integers(0, 40)))][rng.integers(2)]
    return {"name": "x", "block": rng.standard_normal(shape).astype(dtype)}


def _rows():
    yield simple(
        "store.Store",
        _opened,
        "create:flag readonly:flag durable:flag timeout:number",
        lambda rng, dtype: {"create": True, "readonly": False, "durable": False, "timeout": 5.0},
    )
    yield simple(
        "store.Store.start",
        _begun,
        "name:choice config:object? seed:int? tags:object",
        lambda rng, dtype: {"name": "a", "config": {"poles": 4}, "seed": 3, "tags": ["x"]},
        exceptions={
            **NAMED,
            "config object: an empty dict": (EITHER, "nothing to tell"),
            "seed *": (EITHER, "whatever JSON can hold"),
            "tags object: an empty dict": (EITHER, "no tags"),
        },
        covers=("ssm_manual.store.Store.delete",),
    )
    yield simple(
        "store.Store.run",
        lambda number: folder().store.run(number).id,
        "number:int",
        lambda rng, dtype: {"number": folder().full.id},
        also=("run",),
    )
    yield simple(
        "store.Store.runs",
        lambda **given: len(folder().store.runs(**given)),
        "name:choice? status:choice? since:number?",
        lambda rng, dtype: {"name": "fuzz", "status": "running", "since": 0.0},
        exceptions=NAMED,
    )
    yield simple(
        "store.Run.log",
        _in_a_run(_logged),
        "step:int loss:number",
        lambda rng, dtype: {"step": int(rng.integers(99)), "loss": rng.random()},
        exceptions=KEPT | {"loss number: NaN": (EITHER, "kept")},
        given_back=True,
        covers=("ssm_manual.store.Run", "ssm_manual.store.Run.metrics"),
    )
    yield simple(
        "store.Run.append",
        _in_a_run(_appended),
        "name:choice block:array",
        _block,
        exceptions={
            **NAMED,
            **KEPT,
            "block dtype": (EITHER, "integers, too"),
            "block type": (EITHER, "what NumPy takes for an array"),
            "block layout: nested lists": (EITHER, "arrays alone"),
        },
        given_back=True,
    )
    yield simple(
        "store.Run.read",
        lambda **given: folder().full.read(**given),
        "name:choice start:int stop:int?",
        lambda rng, dtype: {
            "name": "x",
            "start": int(rng.integers(0, 20)),
            "stop": int(rng.integers(20, 51)),
        },
    )
    yield simple(
        "store.Run.signal",
        _in_a_run(_declared),
        "name:choice dtype:choice rate:number? channels:int?",
        lambda rng, dtype: {"name": "x", "dtype": dtype.name, "rate": 100.0, "channels": 2},
        exceptions=NAMED | WORD,
    )
    yield simple(
        "store.Run.finish",
        _in_a_run(_finished),
        "score:number",
        lambda rng, dtype: {"score": rng.random()},
        exceptions={"score number": (EITHER, "NaN is kept")},
        given_back=True,
    )
    yield simple(
        "store.Run.save_checkpoint",
        _in_a_run(_kept),
        "model:object name:choice",
        lambda rng, dtype: {
            "model": LinearRegression(rng.standard_normal(3).astype(dtype), 0.5),
            "name": "model",
        },
        exceptions=NAMED,
        covers=("ssm_manual.store.Run.load_checkpoint", "ssm_manual.store.Run.write_checkpoint"),
    )
    yield simple(
        "store.Run.load_checkpoint",
        lambda name: folder().full.load_checkpoint(name),
        "name:choice",
        lambda rng, dtype: {"name": "model"},
    )


ROWS = [*_rows()]
