"""Rows of training, of what makes and scores the tasks' data, and of figures."""

import functools

import numpy as np
from conftest import cast, complex_normal

from fuzz.hazards import EITHER
from fuzz.rows_models import WORD, _diagonal, simple
from fuzz.rows_ops import draw_poles
from ssm_manual import layers, plots, training
from ssm_manual.models import LinearRegression
from ssm_manual.tasks import (
    denoising,
    filters,
    fir,
    free_run,
    memory,
    seasonal,
    sentinel,
    signals,
    sinusoids,
    xor,
)
from ssm_manual.training import (
    SGD,
    Adam,
    AdamW,
    Batches,
    EarlyStopping,
    Trainer,
    groups,
    schedules,
    sequences,
)
from ssm_manual.training import regression as training_regression


def _params(rng, dtype):
    return {
        "a": rng.standard_normal((2, 3)).astype(dtype),
        "b": cast(complex_normal(rng, 4), dtype),
    }


def _grads(rng, dtype):
    return {
        "a": rng.standard_normal((2, 3)).astype(dtype),
        "b": cast(complex_normal(rng, 4), dtype),
    }


def _stepped(optimizer, a, b, factor):
    optimizer.step({"a": a, "b": b}, factor)
    return optimizer.params, optimizer.settings()


OPTIMIZERS = {
    "SGD": (SGD, "lr:number momentum:number damped:flag weight_decay:number"),
    "Adam": (Adam, "lr:number eps:number weight_decay:number"),
    "AdamW": (AdamW, "lr:number eps:number weight_decay:number"),
    "GradientDescent": (training.GradientDescent, "lr:number"),
}
NUMBERS = {"lr": 0.01, "momentum": 0.5, "damped": False, "weight_decay": 0.01, "eps": 1e-8}


def _optimizer_rows():
    for name, (cls, words) in OPTIMIZERS.items():
        taken = [w.split(":")[0] for w in words.split()]
        extra = {"groups": None} if name.startswith("Adam") else {}
        yield simple(
            f"training.{name}",
            lambda params, cls=cls, **given: cls(params, **given).settings(),
            f"{words} params:object",
            lambda rng, dtype, taken=taken, extra=extra: {
                "params": _params(rng, dtype),
                **{n: NUMBERS[n] for n in taken},
                **extra,
            },
        )
        yield simple(
            f"training.{name}.step",
            _stepped,
            "a:real b:array factor:number",
            lambda rng, dtype, cls=cls, extra=extra: {
                "optimizer": cls(_params(rng, dtype), lr=0.01, **extra),
                **_grads(rng, dtype),
                "factor": 0.5,
            },
            covers=(f"ssm_manual.training.{name}.settings",),
            exceptions={
                "* layout: nested lists": (EITHER, "arrays alone"),
                "* layout: number of NumPy": (EITHER, "arrays alone"),
                "* layout: big-endian": (EITHER, "of the parameter's dtype"),
            },
            also=("grads",),
            overflows="the training loop looks at the parameters after the last update",
        )


def _limited(rng, dtype):
    return _grads(rng, dtype) | {"limit": 1.0}


def _named(name, make):
    return lambda rng, dtype: {name if n == "limit" else n: v for n, v in make(rng, dtype).items()}


def _clip_rows():
    yield simple(
        "training.clip_elementwise",
        lambda grads, limit: training.clip_elementwise(grads, limit),
        "limit:number grads:object",
        lambda rng, dtype: {"grads": _grads(rng, dtype), "limit": 0.5},
        exceptions={"grads object: an empty dict": (EITHER, "no gradients")},
    )
    yield simple(
        "training.clip_gradients",
        lambda a, b, max_norm: training.clip_gradients({"a": a, "b": b}, max_norm),
        "a:array b:array max_norm:number",
        _named("max_norm", _limited),
        covers=("ssm_manual.training.global_norm",),
        exceptions={
            "a value": (EITHER, "a norm that is not finite leaves them as they are"),
            "b value": (EITHER, "a norm that is not finite leaves them as they are"),
            "* layout: nested lists": (EITHER, "arrays alone"),
            "* layout: number of NumPy": (EITHER, "arrays alone"),
        },
        also=("grads",),
        overflows="docstring: not finite if an element is not",
        given_back=True,
    )


@functools.cache
def _arrays(dtype):
    rng = np.random.default_rng(5)
    return rng.standard_normal((6, 2, 9)).astype(dtype), rng.standard_normal((6, 2, 9)).astype(
        dtype
    )


def _batches(rng, dtype):
    u, target = _arrays(dtype)
    return {
        "u": u,
        "target": target,
        "batch_size": int(rng.integers(1, 7)),
        "lengths": None,
        "shuffle": bool(rng.integers(2)),
        "drop_last": False,
    }


def _through(**given):
    return [tuple(b) for b in Batches(**given)(0, np.random.default_rng(0))]


def _trainer(rng, dtype):
    layer = layers.Linear(2, 2, dtype=dtype.name, rng=np.random.default_rng(0))
    return {
        "model": layer,
        "loss": "mse",
        "optimizer": SGD(layer.params, lr=0.01),
        "max_norm": 1.0,
        "accumulate": 1,
        "seed": 3,
        "loss_options": None,
    }


def _fitted(rng, dtype):
    given = _trainer(rng, dtype)
    u, target = _arrays(dtype)
    return {**given, "u": u, "target": target, "epochs": 2}


def _fit(u, target, epochs, model, loss, optimizer, **options):
    trainer = Trainer(model, loss, optimizer, **options)
    data = Batches(u, target, batch_size=4)
    history = trainer.fit(data, epochs=epochs)
    return history["loss"], model, trainer.evaluate(data)


def _small_fit(model, **given):
    history = training.fit(model, **given)
    return history.losses, model


def _training_rows():
    yield from _optimizer_rows()
    yield from _clip_rows()
    yield simple(
        "training.Batches",
        _through,
        "u:array target:array batch_size:int shuffle:flag drop_last:flag",
        _batches,
        covers=("ssm_manual.training.batches.batches_of", "ssm_manual.training.batches.count"),
        exceptions={
            "* layout": (EITHER, "arrays of any kind; the model checks them"),
            "* dtype": (EITHER, "arrays of any kind; the model checks them"),
            "* value": (EITHER, "arrays of any kind; the model checks them"),
            "u type": (EITHER, "arrays of any kind"),
            "target type": (EITHER, "arrays of any kind"),
        },
        overflows="given back as it is",
        given_back=True,
    )
    yield simple(
        "training.Trainer",
        lambda **given: Trainer(**given).history,
        "model:object loss:choice optimizer:object max_norm:number? accumulate:int seed:int "
        "loss_options:object?",
        _trainer,
        exceptions={
            "loss *": (EITHER, "a word, or a pair of functions"),
            "loss_options object: an empty dict": (EITHER, "no options"),
        },
    )
    yield simple(
        "training.Trainer.fit",
        _fit,
        "u:real target:real epochs:int",
        _fitted,
        covers=("ssm_manual.training.Trainer.evaluate",),
        exceptions={
            "epochs number": (EITHER, ""),
            "u layout: nested lists": (EITHER, "arrays"),
            "target layout: nested lists": (EITHER, "arrays"),
            "u value": (EITHER, "named as data"),
            "target value": (EITHER, "named as data"),
            "epochs int: 2^36": (None, "would run for years"),
            "epochs int: 2^40": (None, "would run for years"),
            "epochs int: 2^62": (None, "would run for years"),
            "epochs int: 2^63": (None, "would run for years"),
            "epochs int: 2^64": (None, "would run for years"),
            "epochs int: uint64": (None, "would run for years"),
            "epochs int: a googol": (None, "would run for years"),
            "epochs int: 400 digits": (None, "would run for years"),
        },
    )
    yield simple(
        "training.fit",
        _small_fit,
        "u:real target:real mode:choice window:int? radius:number margin:number "
        "target_loss:number patience:int? improvement:number",
        lambda rng, dtype: {
            "model": _diagonal(dtype),
            **dict(zip(("u", "target"), rng.standard_normal((2, 20)).astype(dtype))),
            "epochs": 3,
            "mode": "windowed",
            "window": 4,
            "radius": 0.99,
            "margin": 1e-4,
            "target_loss": 0.0,
            "patience": None,
            "improvement": 1e-4,
            "rates": dict.fromkeys("ABCD", 1e-4),
        },
        covers=("ssm_manual.models.DiagonalSSM.fit",),
        exceptions={"window type: None": (EITHER, "")},
    )
    yield simple(
        "training.EarlyStopping",
        lambda **given: EarlyStopping(**given).patience,
        "patience:int mode:choice min_change:number restore:flag enough:number?",
        lambda rng, dtype: {
            "patience": 3,
            "mode": "min",
            "min_change": 0.0,
            "restore": True,
            "enough": 0.5,
        },
        covers=(
            "ssm_manual.training.EarlyStopping.better",
            "ssm_manual.training.EarlyStopping.reached",
        ),
    )
    yield simple(
        "training.constant",
        schedules.constant,
        "step:int",
        lambda rng, dtype: {"step": 3},
    )
    yield simple(
        "training.warmup_cosine",
        schedules.warmup_cosine,
        "step:int warmup:int total:int floor:number",
        lambda rng, dtype: {"step": 3, "warmup": 2, "total": 9, "floor": 0.1},
    )
    yield simple(
        "training.ssm_groups",
        lambda lr: [g.lr for g in groups.ssm_groups(lr)],
        "lr:number",
        lambda rng, dtype: {"lr": 0.01},
        covers=(
            "ssm_manual.training.groups.assign",
            "ssm_manual.training.groups.is_ssm",
            "ssm_manual.training.Group",
        ),
    )
    yield simple(
        "training.accuracy",
        training.accuracy,
        "logits:real labels:ids axis:int",
        lambda rng, dtype: {
            "logits": rng.standard_normal((3, 4, 5)).astype(dtype),
            "labels": rng.integers(0, 5, (3, 4)),
            "axis": -1,
        },
        exceptions={"labels id": (EITHER, "no class: wrong")},
    )
    yield simple(
        "training.regression.fit",
        lambda model, **given: training_regression.fit(model, **given).losses,
        "X:real y:real epochs:int l2:number rate:number? updates:choice standardise:flag path:flag",
        lambda rng, dtype: {
            "model": LinearRegression(np.ones(2, dtype), 0.5),
            "X": rng.standard_normal((5, 2)).astype(dtype),
            "y": rng.standard_normal(5).astype(dtype),
            "epochs": 3,
            "l2": 0.01,
            "rate": None,
            "updates": "per_sample",
            "standardise": bool(rng.integers(2)),
            "path": False,
        },
        covers=("ssm_manual.models.LinearRegression.fit",),
        exceptions={
            **{
                f"epochs int: {n}": (None, "would run for years")
                for n in ("2^62", "2^63", "2^64", "uint64", "2^40", "2^36")
            },
        },
    )
    yield simple(
        "training.sequences.evaluate",
        lambda layer, **given: sequences.evaluate(layer, **given),
        "inputs:real targets:real loss:choice",
        lambda rng, dtype: {
            "layer": layers.DenseSSM(3, 2, 2, dtype=dtype.name, rng=np.random.default_rng(0)),
            "inputs": rng.standard_normal((3, 2, 7)).astype(dtype),
            "targets": rng.standard_normal((3, 2, 7)).astype(dtype),
            "loss": "mse",
        },
        covers=("ssm_manual.training.sequences.train",),
        also=("u", "target", "prediction"),
    )


# ------------------------------------------------------------------------------------------- tasks


def _rng(rng):
    return np.random.default_rng(int(rng.integers(1 << 20)))


def _series(rng, dtype, n=260):
    t = np.arange(n)
    return (300 + 0.03 * t + 3 * np.sin(2 * np.pi * t / 52) + 0.1 * rng.standard_normal(n)).astype(
        dtype
    )


SERIES = {
    "values value": (EITHER, "NaN stands for a missing week"),
    "values dtype": (EITHER, "converted"),
    "values type": (EITHER, "converted"),
    "values type: None": ("refused", ""),
    "values layout": (EITHER, "converted"),
}


def _task_rows():
    drawn = "rng:rng sequences:int length:length"

    def made(rng, dtype, **more):
        return {"rng": _rng(rng), "sequences": 2, "length": 9, **more}

    yield simple("tasks.memory.previous_bit", memory.previous_bit, drawn, made)
    yield simple(
        "tasks.memory.delayed",
        memory.delayed,
        f"{drawn} delay:int cycles:int",
        lambda rng, dtype: made(rng, dtype, delay=2, cycles=2),
    )
    yield simple(
        "tasks.memory.copying_memory",
        memory.copying_memory,
        "rng:rng sequences:int symbols:int gap:length",
        lambda rng, dtype: {"rng": _rng(rng), "sequences": 2, "symbols": 3, "gap": 4},
    )
    yield simple(
        "tasks.memory.one_hot",
        memory.one_hot,
        "tokens:ids classes:int dtype:choice",
        lambda rng, dtype: {
            "tokens": rng.integers(0, 5, (2, 7)),
            "classes": 5,
            "dtype": dtype.name,
        },
        exceptions=WORD,
    )
    yield simple(
        "tasks.memory.previous_bit_floor",
        memory.previous_bit_floor,
        "inputs:real bias:flag",
        lambda rng, dtype: {
            "inputs": memory.previous_bit(_rng(rng), 2, 9, dtype=dtype.name)[0],
            "bias": bool(rng.integers(2)),
        },
    )
    yield simple(
        "tasks.sentinel.sentinel",
        sentinel.sentinel,
        f"{drawn} vocabulary:int",
        lambda rng, dtype: made(rng, dtype, vocabulary=10),
    )
    yield simple("tasks.xor.delayed_xor", xor.delayed_xor, drawn, made)
    yield simple(
        "tasks.sinusoids.sequences",
        lambda **given: tuple(sinusoids.sequences(**given)),
        "rng:rng items:int length:length features:int noise:number",
        lambda rng, dtype: {
            "rng": _rng(rng),
            "items": 2,
            "length": 12,
            "features": 2,
            "noise": 0.1,
        },
    )
    yield simple(
        "tasks.signals.sinusoids",
        lambda **given: signals.sinusoids(**given).samples,
        "length:length components:int rng:rng lowest:number highest:number rate:number?",
        lambda rng, dtype: {
            "length": 30,
            "components": 2,
            "rng": _rng(rng),
            "lowest": 0.01,
            "highest": 0.1,
            "rate": 10.0,
        },
    )
    yield simple(
        "tasks.denoising.prepare",
        lambda **given: denoising.prepare(**given).clean,
        "samples:real noise_snr:number lookahead:int train_share:number",
        lambda rng, dtype: {
            "samples": rng.standard_normal(200).astype(dtype),
            "noise_snr": 5.0,
            "lookahead": 2,
            "train_share": 0.7,
        },
    )
    for name in ("seasonal_naive", "carried", "autoregression"):
        options = {
            "seasonal_naive": {"weeks": 3},
            "autoregression": {"order": 3, "first": 120},
        }.get(name, {})
        horizons = {} if name == "carried" else {"horizons": (1, 4)}
        yield simple(
            f"tasks.seasonal.{name}",
            lambda name=name, **given: _finite_part(getattr(seasonal, name)(**given)),
            "values:real" + "".join(f" {n}:int" for n in options),
            lambda rng, dtype, options=options, horizons=horizons: {
                "values": _series(rng, dtype),
                **horizons,
                **options,
            },
            exceptions=SERIES,
            overflows="differences of values",
        )
    yield simple(
        "tasks.fir.advance",
        fir.advance,
        "y:real delay:int",
        lambda rng, dtype: {"y": rng.standard_normal(12).astype(dtype), "delay": 3},
        exceptions={"y *": (EITHER, "moved, not read")},
        overflows="given back as it is",
        given_back=True,
    )
    yield simple(
        "tasks.free_run.Autoregression",
        lambda x, order: free_run.Autoregression(x, order).next(x, order),
        "x:real order:int",
        lambda rng, dtype: {"x": rng.standard_normal((2, 2, 30)).astype(dtype), "order": 3},
        covers=(
            "ssm_manual.tasks.free_run.Autoregression.next",
            "ssm_manual.tasks.free_run.Autoregression.error",
            "ssm_manual.tasks.free_run.Autoregression.free_run",
        ),
    )
    for name in ("LeastSquaresFIR", "ChosenFIR"):
        yield simple(
            f"tasks.filters.{name}",
            lambda taps, name=name: getattr(filters, name)(taps) and None,
            "taps:int",
            lambda rng, dtype: {"taps": 8},
        )


def _finite_part(out):
    """Forecasts where there are any: NaN stands for weeks without one."""
    return [np.nan_to_num(a) for a in (out if isinstance(out, tuple) else (out,))]


# ----------------------------------------------------------------------------------------- figures


@functools.cache
def _axes():
    return plots.figure().subplots()


def _drawn(function):
    def call(**given):
        ax = _axes()
        ax.clear()
        if not hasattr(function(ax=ax, **given), "plot"):
            raise AssertionError("no axes")

    return call


def _figure_rows():
    yield simple(
        "plots.poles",
        _drawn(plots.poles),
        "A_bar:pole initial:pole? conjugates:flag",
        lambda rng, dtype: {
            "A_bar": cast(draw_poles(rng, 4), dtype),
            "initial": None,
            "conjugates": True,
        },
    )
    yield simple(
        "plots.kernel",
        _drawn(plots.kernel),
        "K:array dt:number?",
        lambda rng, dtype: {"K": rng.standard_normal(9).astype(dtype), "dt": 0.1},
    )
    yield simple(
        "plots.frequency_response",
        _drawn(plots.frequency_response),
        "frequencies:real response:array rate:number?",
        lambda rng, dtype: {
            "frequencies": np.sort(rng.random(9)).astype(dtype) / 2,
            "response": cast(complex_normal(rng, 9), dtype),
            "rate": 10.0,
        },
    )
    yield simple(
        "plots.loss_curve",
        _drawn(plots.loss_curve),
        "losses:real",
        lambda rng, dtype: {"losses": rng.uniform(0.1, 1, 9).astype(dtype)},
    )


ROWS = [*_training_rows(), *_task_rows(), *_figure_rows()]
