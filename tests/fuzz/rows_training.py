"""Rows of training: optimisers, clipping, batches, loops, schedules."""

import functools

import numpy as np
from conftest import cast, complex_normal

from fuzz.hazard import EITHER
from fuzz.making import for_years, simple
from fuzz.rows_models import diagonal
from ssm_manual import layers, training
from ssm_manual.models import LinearRegression
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
            alters=True,
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
        lambda grads, limit: (training.clip_elementwise(grads, limit), grads),
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


def _trainer_settings(**given):
    trainer = Trainer(**given)
    return trainer.max_norm, trainer.accumulate, trainer.seed


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
        _trainer_settings,
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
        alters=True,
        exceptions={
            "epochs number": (EITHER, ""),
            "u layout: nested lists": (EITHER, "arrays"),
            "target layout: nested lists": (EITHER, "arrays"),
            "u value": (EITHER, "named as data"),
            "target value": (EITHER, "named as data"),
            **for_years("epochs"),
        },
        also=("data",),
    )
    yield simple(
        "training.fit",
        _small_fit,
        "u:real target:real epochs:int mode:choice window:int? radius:number margin:number "
        "target_loss:number patience:int? improvement:number",
        lambda rng, dtype: {
            "model": diagonal(dtype),
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
        alters=True,
        covers=("ssm_manual.models.DiagonalSSM.fit",),
        exceptions={"window type: None": (EITHER, ""), **for_years("epochs", bounded=True)},
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
        exceptions={"labels id": (EITHER, "no class: wrong"), "axis int: -1": (EITHER, "the last")},
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
        alters=True,
        exceptions=for_years("epochs", bounded=True),
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


ROWS = [*_training_rows()]
