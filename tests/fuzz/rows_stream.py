"""Rows of a stream's state: what it is given to go on from may come from anywhere."""

import functools

import numpy as np

from fuzz.hazard import EITHER
from fuzz.making import simple
from fuzz.rows_models import diagonal
from ssm_manual.models import RecordingFilter, SequenceModel

#: Samples before the state is taken.
BEFORE = 70

#: The arrays of a state, whose names have dots where these have underscores.
WORDS = {
    "diagonal": "models_0_x:array models_0_border:array models_0_since:real",
    "deep": "models_0_0_0_0:array",
}


@functools.cache
def _filter(dtype, kind):
    if kind == "deep":
        rng = np.random.default_rng(0)
        model = SequenceModel(1, 2, 1, n_layers=1, modes=3, task="regression", dtype=dtype, rng=rng)
        return RecordingFilter(model, delay=2)
    return RecordingFilter(diagonal(np.dtype(dtype)), offset=0.5, scale=2.0, delay=2)


def _state(kind):
    def make(rng, dtype):
        filter = _filter(dtype.name, kind)
        stream = filter.stream(2)
        stream.push(rng.standard_normal((2, int(rng.integers(1, BEFORE)))))
        state = {name.replace(".", "_"): a for name, a in stream.state().items()}
        state |= {"skip": int(state["skip"]), "channels": int(state["channels"])}
        return {"filter": filter, **state}

    return make


def _gone_on(filter, **state):
    """The rest of a recording, whose state goes through `Stream.state` once more."""
    names = {key.replace("_", "."): a for key, a in state.items()}
    stream = filter.stream(2, state=names)
    again = filter.stream(2, state=stream.state())
    block = np.linspace(-1, 1, 34).reshape(2, 17)
    first, second = stream.push(block), again.push(block)
    assert np.array_equal(first, second, equal_nan=True)
    return first, stream.finish()


def _rows():
    about = {
        "* dtype: other precision": ("refused", "the state has the dtype of the model"),
        "channels int": (EITHER, "arrays of one number too"),
        "skip int": (EITHER, "arrays of one number too"),
    }
    for kind, words in WORDS.items():
        arrays = [word.split(":")[0] for word in words.split()]
        yield simple(
            f"models.recording_filter.Stream.state ({kind})",
            _gone_on,
            f"{words} channels:int skip:int",
            _state(kind),
            exceptions={
                **about,
                **{f"{name} layout: nested lists": (EITHER, "arrays") for name in arrays},
            },
            also=("state", "models", "block", "y", "x"),
            overflows="a state near the end of the range",
        )
    yield simple(
        "models.RecordingFilter.stream (state)",
        lambda filter, state: filter.stream(2, state=state).state(),
        "state:object?",
        lambda rng, dtype: {
            "filter": _filter(dtype.name, "diagonal"),
            "state": _filter(dtype.name, "diagonal").stream(2).state(),
        },
    )


ROWS = [*_rows()]
