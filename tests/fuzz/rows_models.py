"""Rows of the models, small and deep."""

import functools

import numpy as np
from conftest import cast, complex_normal

from fuzz.draws import Maker, cotangents, draw_poles
from fuzz.hazard import EITHER
from fuzz.making import WORD, method, simple
from ssm_manual import models
from ssm_manual.models import DiagonalSSM, LinearRegression, RecordingFilter, SequenceModel, presets

LENGTHS = (1, 2, 5, 17, 65, 0)
# ---------------------------------------------------------------------------------------- diagonal


def diagonal(dtype, continuous=False):
    rng = np.random.default_rng(3)
    A = -rng.uniform(0.5, 2, 3) + 3j * rng.standard_normal(3) if continuous else draw_poles(rng, 3)
    B, C, D = complex_normal(rng, 3), complex_normal(rng, 3), rng.standard_normal()
    args = [cast(np.asarray(a), dtype) for a in (A, B, C, D)]
    if continuous:
        return DiagonalSSM(*args, dt=cast(np.asarray(0.1), dtype), parameters="continuous")
    return DiagonalSSM(*args)


def _system(rng, dtype):
    m = Maker(rng)
    draw = {"A": draw_poles(rng, m.N), "B": m.complex(m.N), "C": m.complex(m.N)}
    given = {n: cast(a, dtype) for n, a in draw.items()}
    given["D"] = m.maybe(cast(m.normal(), dtype))
    return given | {"real": m.real, "input_scale": "dt", "parameters": "discrete"}


def _sequence(rng, dtype):
    batch, L = int(rng.integers(1, 4)), LENGTHS[rng.integers(len(LENGTHS))]
    return {
        "self": diagonal(dtype),
        "u": rng.standard_normal((batch, L)).astype(dtype),
        "state": cast(complex_normal(rng, batch, 3), dtype) if rng.random() < 0.5 else None,
        "view": ("auto", "scan", "convolution", "chunked")[rng.integers(4)],
    }


def _way_back(rng, dtype):
    given = _sequence(rng, dtype)
    y, after, cache = given["self"].forward(given["u"], given["state"])
    grads = {"grad_y": cotangents(y), "grad_state": cotangents(after, 1)}
    return {"self": given["self"], "cache": cache, **grads}


def _one_sample(rng, dtype):
    given = _sequence(rng, dtype)
    return {
        "self": given["self"],
        "u_t": rng.standard_normal(len(given["u"])).astype(dtype),
        "state": given["state"],
    }


def _pair(rng, dtype):
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 40)))
    u, target = rng.standard_normal((2, *shape)).astype(dtype)
    mode = ("bptt", "one_step", "windowed")[rng.integers(3)]
    window = 3 if mode == "windowed" else None
    return {
        "self": diagonal(dtype),
        "u": u,
        "target": target,
        "mode": mode,
        "window": window,
    }


def _diagonal_rows():
    yield simple(
        "models.DiagonalSSM",
        DiagonalSSM,
        "A:pole B:array C:array D:real? real:flag input_scale:choice parameters:choice",
        _system,
        exceptions={"D dtype: complex": (EITHER, "complex where real=False")},
    )
    yield simple(
        "models.DiagonalSSM (continuous)",
        lambda **given: DiagonalSSM(parameters="continuous", **given),
        "A:cpole B:array C:array D:real? dt:real",
        lambda rng, dtype: {
            **{n: v for n, v in _system(rng, dtype).items() if n in "BCD"},
            "A": cast(-1 + 0 * (s := _system(rng, dtype))["A"] + s["A"], dtype),
            "B": s["B"],
            "C": s["C"],
            "dt": np.asarray(0.1, dtype),
        },
    )
    yield simple(
        "models.DiagonalSSM.initial",
        DiagonalSSM.initial,
        "poles:int rng:rng dtype:choice real:flag",
        lambda rng, dtype: {
            "poles": 3,
            "rng": np.random.default_rng(int(rng.integers(99))),
            "dtype": dtype.name,
            "real": True,
        },
        exceptions=WORD,
    )
    yield method("models.DiagonalSSM", "forward", "u:real state:array? view:choice", _sequence)
    yield method("models.DiagonalSSM", "backward", "grad_y:array grad_state:array?", _way_back)
    yield method("models.DiagonalSSM", "step", "u_t:real state:array?", _one_sample)
    yield method(
        "models.DiagonalSSM",
        "kernel",
        "length:length",
        lambda rng, dtype: {"self": diagonal(dtype), "length": int(rng.integers(0, 40))},
    )
    yield method(
        "models.DiagonalSSM",
        "frequency_response",
        "frequencies:real",
        lambda rng, dtype: {"self": diagonal(dtype), "frequencies": rng.random(4).astype(dtype)},
    )
    yield method(
        "models.DiagonalSSM",
        "loss_and_grads",
        "u:real target:real mode:choice window:int?",
        _pair,
        covers=("ssm_manual.training.objective.loss_and_grads",),
        exceptions={"window type: None": (EITHER, "needed by one mode")},
    )


# -------------------------------------------------------------------------------- deep and others


@functools.cache
def deep(dtype, task="classification"):
    """A small deep model that no case changes."""
    ids = {"encoder": "embedding"} if task == "tokens" else {}
    task = "classification" if task == "tokens" else task
    rng = np.random.default_rng(0)
    d_input = 5 if ids else 2
    return SequenceModel(d_input, 2, 3, 1, task=task, modes=3, dtype=dtype, rng=rng, **ids)


def _deep_input(rng, dtype):
    batch, L = int(rng.integers(1, 4)), int(rng.integers(1, 20))
    return {
        "self": deep(dtype.name),
        "u": rng.standard_normal((batch, L, 2)).astype(dtype),
        "lengths": rng.integers(1, L + 1, batch) if rng.random() < 0.5 else None,
        "seed": int(rng.integers(99)) if rng.random() < 0.5 else None,
    }


def _deep_back(rng, dtype):
    given = _deep_input(rng, dtype)
    y, _, cache = given["self"].forward(given["u"], lengths=given["lengths"], seed=given["seed"])
    return {"self": given["self"], "cache": cache, "grad_y": cotangents(y)}


def _first_two(out):
    return out[0] if isinstance(out, tuple) else out


def _deep_options(rng, dtype):
    return {
        "d_input": 2,
        "d_model": 2,
        "d_output": 3,
        "n_layers": 1,
        "modes": 3,
        "task": "classification",
        "block": "s4d",
        "encoder": "linear",
        "norm": "layer",
        "dropout": 0.1,
        "tied_dropout": False,
        "dtype": dtype.name,
        "rng": np.random.default_rng(int(rng.integers(99))),
    }


def _table(rng, dtype):
    rows, features = int(rng.integers(3, 9)), 2
    return {
        "self": LinearRegression(np.ones(features, dtype), 0.5),
        "X": rng.standard_normal((rows, features)).astype(dtype),
        "y": rng.standard_normal(rows).astype(dtype),
        "l2": 0.1,
        "standardise": bool(rng.integers(2)),
    }


def _some(make, *names):
    return lambda rng, dtype: {n: v for n, v in make(rng, dtype).items() if n in names}


def _filter(rng, dtype):
    return {
        "self": RecordingFilter(diagonal(dtype), offset=0.5, scale=2.0, delay=2, rate=100.0),
        "samples": rng.standard_normal((int(rng.integers(1, 3)), int(rng.integers(0, 30)))).astype(
            dtype
        ),
    }


def _stream(rng, dtype):
    given = _filter(rng, dtype)
    block = given["samples"]
    return {"stream": given["self"].stream(len(block)), "block": block}


def _push(stream, block):
    before = stream.push(block)
    return before, stream.state(), stream.finish()


def _model_rows():
    yield simple(
        "models.SequenceModel",
        SequenceModel,
        "d_input:int d_model:int d_output:int n_layers:int modes:int? task:choice block:choice "
        "encoder:choice norm:choice dropout:number tied_dropout:flag dtype:choice rng:rng",
        _deep_options,
        covers=(
            "ssm_manual.models.SequenceModel.count_parameters",
            "ssm_manual.models.SequenceModel.summary",
        ),
        exceptions=WORD,
    )
    yield simple(
        "models.SequenceModel.forward",
        lambda self, **given: _first_two(self.forward(**given)),
        "u:real lengths:ids? seed:int?",
        _deep_input,
    )
    yield method("models.SequenceModel", "backward", "grad_y:array?", _deep_back)
    yield simple(
        "models.look_inside",
        models.look_inside,
        "u:real lengths:ids? seed:int?",
        lambda rng, dtype: {
            {"self": "model"}.get(n, n): v for n, v in _deep_input(rng, dtype).items()
        },
    )
    yield simple(
        "models.presets.preset",
        presets.preset,
        "name:choice d_input:int d_output:int rng:rng dtype:choice",
        lambda rng, dtype: {
            "name": "tiny" if "tiny" in presets.PRESETS else next(iter(presets.PRESETS)),
            "d_input": 1,
            "d_output": 2,
            "rng": np.random.default_rng(0),
            "dtype": dtype.name,
        },
        covers=("ssm_manual.models.presets.count_parameters",),
        exceptions=WORD,
    )
    yield simple(
        "models.presets.parameter_count",
        presets.parameter_count,
        "d_input:int d_model:int d_output:int n_layers:int",
        lambda rng, dtype: {"d_input": 1, "d_model": 4, "d_output": 2, "n_layers": 2},
    )
    yield simple(
        "models.LinearRegression",
        LinearRegression,
        "weights:real bias:number",
        lambda rng, dtype: {"weights": rng.standard_normal(3).astype(dtype), "bias": 0.5},
        exceptions={"bias *": (EITHER, "a number or an array without axes")},
    )
    yield simple(
        "models.LinearRegression.initial",
        LinearRegression.initial,
        "features:int rng:rng? dtype:choice",
        lambda rng, dtype: {
            "features": 3,
            "rng": np.random.default_rng(0),
            "dtype": dtype.name,
        },
        exceptions=WORD,
    )
    yield method("models.LinearRegression", "predict", "X:real", _some(_table, "self", "X"))
    yield method(
        "models.LinearRegression",
        "loss_and_grads",
        "X:real y:real l2:number",
        _some(_table, "self", "X", "y", "l2"),
        covers=(
            "ssm_manual.training.regression.objective_fwd",
            "ssm_manual.training.regression.objective_vjp",
        ),
    )
    yield method(
        "models.LinearRegression", "table", "X:real y:real", _some(_table, "self", "X", "y")
    )
    yield simple(
        "models.LinearRegression.least_squares",
        LinearRegression.least_squares,
        "X:real y:real l2:number standardise:flag",
        _some(_table, "X", "y", "l2", "standardise"),
    )
    yield simple(
        "models.LinearRegression.curvatures",
        LinearRegression.curvatures,
        "X:real standardise:flag",
        _some(_table, "X", "standardise"),
    )
    yield simple(
        "models.LinearRegression.safe_rate",
        LinearRegression.safe_rate,
        "X:real l2:number standardise:flag updates:choice",
        lambda rng, dtype: (
            {**_some(_table, "X", "l2", "standardise")(rng, dtype), "updates": "batch"}
            if False
            else {**_some(_table, "X", "l2", "standardise")(rng, dtype), "updates": "per_sample"}
        ),
    )
    yield simple(
        "models.RecordingFilter",
        lambda models, **given: RecordingFilter(models, **given).offset,
        "offset:number scale:number delay:int rate:number?",
        lambda rng, dtype: {
            "models": diagonal(dtype),
            "offset": 0.5,
            "scale": 2.0,
            "delay": 3,
            "rate": 100.0,
        },
        exceptions={
            "offset *": (EITHER, "a number or an array, one for each model"),
            "scale *": (EITHER, "a number or an array, one for each model"),
        },
    )
    yield simple(
        "models.RecordingFilter (call)",
        lambda self, samples: self(samples),
        "samples:real",
        _filter,
    )
    yield simple(
        "models.recording_filter.Stream.push",
        _push,
        "block:real",
        _stream,
        covers=(
            "ssm_manual.models.recording_filter.Stream",
            "ssm_manual.models.recording_filter.Stream.finish",
            "ssm_manual.models.recording_filter.Stream.state",
        ),
    )
    yield method(
        "models.RecordingFilter",
        "stream",
        "channels:int",
        lambda rng, dtype: {**_some(_filter, "self")(rng, dtype), "channels": 2},
    )
    yield simple(
        "models.RecordingFilter.resampled",
        lambda self, rate: self.resampled(rate).delay,
        "rate:number",
        lambda rng, dtype: {
            "self": RecordingFilter(diagonal(dtype, continuous=True), delay=2, rate=100.0),
            "rate": 150.0,
        },
    )


ROWS = [*_diagonal_rows(), *_model_rows()]
