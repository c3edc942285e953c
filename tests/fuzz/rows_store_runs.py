"""Rows of one run of a store: what it takes and gives back; see `rows_store`."""

import contextlib
import io

import numpy as np
from conftest import cast

from fuzz.engine import Fault
from fuzz.hazard import EITHER
from fuzz.making import simple
from fuzz.rows_store import MODEL, draw, equal, held, on_a_run, texts
from fuzz.store_session import session
from ssm_manual.models import LinearRegression
from ssm_manual.store import StoreError


def _keyword(name, value):
    """``{name: value}``; what is no text is refused by Python, not by a run."""
    if not isinstance(name, str):
        raise ValueError("name is no keyword")
    return {name: value}


def _log(run, step, name, value):
    run.log(step, **_keyword(name, value))
    run.log(step, **_keyword(name, value))
    steps, values = run.metrics(name)
    equal("step", steps.tolist(), [int(step)] * 2)
    for found in values.tolist():
        equal("value", found, float(value))
    return values


def _signal(run, name, dtype, rate, channels):
    run.signal(name, dtype=dtype, rate=rate, channels=channels)
    (found,) = run.signals.values()
    equal("name", found.name, name)
    equal("dtype", np.dtype(found.dtype), np.dtype(dtype))
    equal("rate", found.rate, None if rate is None else float(rate))
    equal("channels", found.channels, None if channels is None else int(channels))
    equal("length", found.length, 0)
    return float(found.rate or 0)


def _append(run, name, dtype, channels, block):
    run.signal(name, dtype=dtype, channels=channels)
    before = held(run._store)
    try:
        first = run.append(name, block)
    except (ValueError, TypeError):
        if held(run._store) != before:
            raise Fault("a block is refused, and has changed the store") from None
        run._store._database.execute("DELETE FROM signal")  # as it was before the row
        raise
    equal("length", first, np.shape(block)[-1])
    equal("length", run.append(name, block), 2 * first)
    expected = np.concatenate([block, block], axis=-1)
    for reader in (run, run._store.run(run.id)):
        found = reader.read(name)
        equal("block", found, np.asarray(expected).astype(dtype))
    return found


def _first_block(run, name, block):
    run.append(name, block)
    found = run.read(name)
    equal("block", found, np.asarray(block).astype(block.dtype.newbyteorder("=")))
    return found


def _samples(rng, dtype):
    shape = [(7,), (2, 5), (1, 3), (0,), (2, 0), (3, 5000)][rng.integers(6)]
    block = rng.standard_normal(shape)
    return cast(block + 1j * block[::-1] if rng.integers(2) else block, dtype)


def _to_append(rng, dtype):
    block = _samples(rng, dtype)
    channels = None if block.ndim == 1 else len(block)
    return {"name": draw(rng), "dtype": block.dtype.name, "channels": channels, "block": block}


def _read(run, name, start, stop):
    found = run.read(name, start, stop)
    whole = np.arange(80.0).reshape(2, 40)
    equal("samples", found, whole[:, int(start) : None if stop is None else int(stop)])
    return found


def _ended(run, function, status, error, **given):
    function(run, **given)
    again = run._store.run(run.id)
    for reader in (run, again):
        equal("status", reader.status, status)
        if error is not None:
            equal("error", reader.error, error)
        repr(reader)
    with contextlib.suppress(StoreError):
        run.check_writable()
        raise Fault("an ended run can be written to")
    return again


def _finish(run, name, score):
    again = _ended(run, lambda run: run.finish(**_keyword(name, score)), "finished", "")
    equal("scores", list(again.scores), [name])
    equal("score", again.scores[name], float(score))
    return float(score)


def _fail(run, error):
    text = error.rstrip(": ") if isinstance(error, str) and "\ud800" not in error else None
    _ended(run, lambda run: run.fail(error), "failed", text)


def _interrupt(run, reason):
    text = reason.rstrip(": ") if isinstance(reason, str) and "\ud800" not in reason else None
    _ended(run, lambda run: run.interrupt(reason), "interrupted", text)


def _checkpoint(run, model, name, metadata):
    run.save_checkpoint(model, name, metadata=metadata)
    equal("names", run.checkpoints, [name])
    found = run.load_checkpoint(name)
    equal("weights", found.params["weights"], model.params["weights"])
    return found


def _written(run, name, file):
    run.write_checkpoint(name, io.BytesIO() if file is None else file)


NOT_FINITE = {
    f"{a} number: {key}": (EITHER, "a loss that diverged is kept")
    for a in ("value", "score")
    for key in ("NaN", "infinity", "-infinity")
}


def _of(exceptions, *arguments):
    return {k: v for k, v in exceptions.items() if k.split(" ")[0] in arguments}


def _run_rows():
    yield simple(
        "store.Run.log",
        on_a_run(_log),
        "step:int name:choice value:number",
        lambda rng, dtype: {"step": int(rng.integers(2**62)), "name": draw(rng), "value": 0.5},
        exceptions={**texts("name"), **_of(NOT_FINITE, "value")},
        covers=("ssm_manual.store.Run.metrics",),
        also=("a name", "values"),
        given_back=True,
    )
    yield simple(
        "store.Run.signal",
        on_a_run(_signal),
        "name:choice dtype:choice rate:number? channels:int?",
        lambda rng, dtype: {
            "name": draw(rng),
            "dtype": ("float32", "int8", "complex128")[rng.integers(3)],
            "rate": 48000.0,
            "channels": 2,
        },
        exceptions=texts("name"),
        covers=("ssm_manual.store.Signal",),
    )
    anything = {
        "block value": (EITHER, "any values"),
        "block type": (EITHER, "refused, but for an array"),
        "block layout: nested lists": (EITHER, "arrays alone"),
        "block layout: number of NumPy": (EITHER, "arrays alone"),
    }
    yield simple(
        "store.Run.append",
        on_a_run(_append),
        "block:array",
        _to_append,
        exceptions=anything,
        given_back=True,
    )
    yield simple(
        "store.Run.append (of a new signal)",
        on_a_run(_first_block),
        "name:choice block:array",
        lambda rng, dtype: {"name": draw(rng), "block": _samples(rng, dtype)},
        exceptions={
            **texts("name"),
            **anything,
            "block dtype": (EITHER, "the first block says it"),
        },
        also=("dtype", "channels"),
        given_back=True,
    )
    yield simple(
        "store.Run.read",
        on_a_run(_read, filled=True),
        "name:choice start:int stop:int?",
        lambda rng, dtype: {"name": "two", "start": int(rng.integers(9)), "stop": 20},
    )
    yield simple(
        "store.Run.metrics (by name)",
        on_a_run(lambda run, name: run.metrics(name)[0] if name is not None else None, filled=True),
        "name:choice?",
        lambda rng, dtype: {"name": "loss"},
    )
    yield simple(
        "store.Run.finish",
        on_a_run(_finish),
        "name:choice score:number",
        lambda rng, dtype: {"name": draw(rng), "score": 0.5},
        exceptions={**texts("name"), **_of(NOT_FINITE, "score")},
        covers=("ssm_manual.store.Run.check_writable",),
        also=("a name", "scores"),
        given_back=True,
    )
    yield simple(
        "store.Run.fail",
        on_a_run(_fail),
        "error:object",
        lambda rng, dtype: {"error": ValueError(draw(rng)) if rng.integers(2) else draw(rng)},
        exceptions={"error *": (EITHER, "put into words")},
    )
    yield simple(
        "store.Run.interrupt",
        on_a_run(_interrupt),
        "reason:choice",
        lambda rng, dtype: {"reason": draw(rng)},
        exceptions={"reason *": (EITHER, "put into words")},
    )
    yield simple(
        "store.Run.save_checkpoint",
        on_a_run(_checkpoint),
        "model:object name:choice metadata:object?",
        lambda rng, dtype: {"model": MODEL, "name": draw(rng), "metadata": {"a": "b"}},
        exceptions={
            **texts("name"),
            "metadata object: an empty dict": (EITHER, "a dict"),
            "metadata type: a dict": (EITHER, "a dict"),
        },
    )
    yield simple(
        "store.Run.load_checkpoint",
        on_a_run(lambda run, **given: run.load_checkpoint(**given), filled=True),
        "name:choice expected:object?",
        lambda rng, dtype: {"name": "m", "expected": LinearRegression},
        also=("m",),
    )
    yield simple(
        "store.Run.write_checkpoint",
        on_a_run(_written, filled=True),
        "name:choice file:object?",
        lambda rng, dtype: {"name": "m", "file": None},
    )
    yield simple(
        "store.Run.together",
        session,
        "",
        lambda rng, dtype: {"seed": int(rng.integers(2**32))},
        covers=("ssm_manual.store.Run",),
    )


ROWS = [*_run_rows()]
