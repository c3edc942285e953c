"""Train models on a task by its protocol, and score them side by side.

`compare` is what ``ssm-manual train`` does; `choose` is how the settings came about.
"""

import dataclasses
import functools
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.models import SequenceModel
from ssm_manual.models.presets import parameter_count
from ssm_manual.tasks import protocol
from ssm_manual.training import AdamW, EarlyStopping, Group, Trainer, warmup_cosine
from ssm_manual.training.groups import SSM_RATE, is_ssm

__all__ = ["Comparison", "Run", "choose", "compare", "options_of", "train"]


@dataclass(frozen=True)
class Run:
    """One model trained on one task.

    Attributes
    ----------
    name : str
        Of `protocol.MODELS`.
    seed : int
    settings : Settings
        With the width that the model had.
    model : SequenceModel
        With the parameters of its best epoch.
    parameters : int
        Real numbers; a complex one counts twice.
    trainer : Trainer
        With the ``history``.
    best_epoch : int
        Counted from 1.
    seconds : float
        Training and validation, without compilation.
    validation, test, further : dict of float
        Scores of the model that was kept; ``test`` and ``further`` are empty until `compare` has
        opened the test part.
    """

    name: str
    seed: int
    settings: protocol.Settings
    model: Any
    parameters: int
    trainer: Any
    best_epoch: int
    seconds: float
    validation: dict
    test: dict = dataclasses.field(default_factory=dict)
    further: dict = dataclasses.field(default_factory=dict)

    @property
    def title(self):
        """What the model is called in tables and figures."""
        return protocol.TITLES.get(self.name, self.name)

    @property
    def history(self):
        """Of the trainer."""
        return self.trainer.history

    @property
    def updates(self):
        """Updates made."""
        return len(self.history["loss"])


class Comparison(NamedTuple):
    """A task, what was trained on it, and what was not.

    Attributes
    ----------
    task : Task
    seed : int
    runs : tuple of Run
        As they were asked for, with scores on the test part.
    rivals : tuple of Score
    test : Batches
        The opened test part.
    """

    task: Any
    seed: int
    runs: tuple
    rivals: tuple
    test: Any


def options_of(task, name):
    """Settings of a model on a task, and all arguments of its `SequenceModel`.

    Parameters
    ----------
    task : Task
    name : str
        Of ``task.models``.

    Returns
    -------
    settings : Settings
        With a width: where the task leaves it open, the one that brings the number of parameters
        nearest to that of S4D on the same task.
    options : dict
    """
    _validate.one_of("model", name, task.models)
    return _completed(task, name, task.settings(name))


def train(task, name, parts, *, seed, settings=None, progress=None, each_epoch=None):
    """Train one model; the test part stays sealed.

    Parameters
    ----------
    task : Task
    name : str
        Of ``task.models``.
    parts : Parts
        Of the task and the seed.
    seed : int
        Of initial parameters, order of items and dropout.
    settings : Settings, optional
        None: the task's.
    progress : bool, optional
        As of `Trainer.fit`.
    each_epoch : callable, optional
        ``each_epoch(name, history)`` at the end of every epoch, once or twice, with the trainer's
        history so far.

    Returns
    -------
    Run
    """
    _validate.one_of("model", name, task.models)
    seed = _validate.integer("seed", seed, minimum=0)
    chosen = task.settings(name) if settings is None else settings
    settings, options = _completed(task, name, chosen)
    _warm(task, settings, options, parts, seed)
    model, trainer = _made(task, settings, options, parts, seed)
    metric = f"validation_{task.metric}"
    mode = "max" if task.higher_is_better else "min"
    stopping = _Watched(settings.epochs, metric, mode, enough=settings.enough)
    if each_epoch is not None:
        object.__setattr__(stopping, "tell", lambda: each_epoch(name, trainer.history))
    clock = time.perf_counter()
    task.fit(trainer, parts, settings, early_stopping=stopping, progress=progress)
    seconds = time.perf_counter() - clock
    values = trainer.history[metric]
    best = int(np.argmax(values) if task.higher_is_better else np.argmin(values))
    return Run(
        name,
        seed,
        settings,
        model,
        model.count_parameters(),
        trainer,
        best + 1,
        seconds,
        trainer.evaluate(parts.validation),
    )


def compare(
    task, models=("s4d", "lstm"), *, seed=0, progress=None, begin=None, each_epoch=None, end=None
):
    """Train models on the same data, then open the test part, once.

    Parameters
    ----------
    task : Task
    models : sequence of str
        Of ``task.models``, each once.
    seed : int
        Of everything.
    progress : bool, optional
        As of `Trainer.fit`.
    begin : callable, optional
        ``begin(name, settings, parameters)`` before each training.
    each_epoch : callable, optional
        See `train`.
    end : callable, optional
        ``end(run)`` after each training, before the test part is opened.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    seed = _validate.integer("seed", seed, minimum=0)
    for name in models:  # before any is trained
        _validate.one_of("model", name, task.models)
    if len(models) != len(set(models)) or not models:
        raise ValueError(f"models is {_validate.show(models)}; it must name some, each once")
    parts = task.parts(seed)
    runs = []
    for name in models:
        if begin is not None:
            settings, options = options_of(task, name)
            begin(name, settings, parameter_count(**options))
        runs.append(train(task, name, parts, seed=seed, progress=progress, each_epoch=each_epoch))
        if end is not None:
            end(runs[-1])
    test = parts.test.open()
    runs = tuple(
        dataclasses.replace(
            run, test=run.trainer.evaluate(test), further=task.further(run.model, test)
        )
        for run in runs
    )
    return Comparison(task, seed, runs, tuple(task.rivals(parts, test)), test)


def choose(task, name, *, seed=protocol.CHOICE_SEED, progress=None):
    """Train with each of the task's candidate settings, and score them on validation alone.

    Parameters
    ----------
    task : Task
    name : str
        Of ``task.models``.
    seed : int
        One that no reported run has.
    progress : bool, optional
        As of `Trainer.fit`.

    Yields
    ------
    Run
        In the order of ``task.candidates(name)``.
    """
    for settings in task.candidates(_validate.one_of("model", name, task.models)):
        yield train(task, name, task.parts(seed), seed=seed, settings=settings, progress=progress)


# --------------------------------------------------------------------------------------- internals


class _Watched(EarlyStopping):
    """Judges as ever, and tells that it has been asked: once or twice at the end of an epoch."""

    tell = None

    def reached(self, value):
        """As ever."""
        if self.tell is not None:
            self.tell()
        return super().reached(value)


def _completed(task, name, settings):
    options = task.shape() | {"n_layers": settings.n_layers, "block": name} | settings.options
    width = settings.d_model
    if width is None:
        wanted = parameter_count(**options_of(task, "s4d")[1])
        # the number of parameters grows with the width
        low, high = 1, 2
        while parameter_count(**options | {"d_model": high}) < wanted:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            enough = parameter_count(**options | {"d_model": middle}) >= wanted
            low, high = (low, middle) if enough else (middle, high)
        width = min(
            low, high, key=lambda w: abs(parameter_count(**options | {"d_model": w}) - wanted)
        )
    options["d_model"] = width
    return dataclasses.replace(settings, d_model=width), options


def _made(task, settings, options, parts, seed):
    """A model and its trainer. The seed's stream 1 is the model's; `Task.parts` takes others."""
    model = SequenceModel(**options, rng=np.random.default_rng([seed, 1]))
    rates = settings.ssm_lr if settings.ssm_lr is not None else min(settings.lr, SSM_RATE)
    groups = [Group("ssm", is_ssm, lr=rates, weight_decay=0.0)]
    if settings.frozen is not None:
        groups.insert(0, Group("frozen", settings.frozen, lr=0.0, weight_decay=0.0))
        trained = [key for key in model.params if not settings.frozen(key)]
    else:
        trained = list(model.params)
    if not any(is_ssm(key) for key in trained):
        groups.pop()
    optimizer = AdamW(
        model.params,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        groups=groups or None,
    )
    total = max(2, settings.epochs * len(parts.train))
    trainer = Trainer(
        model,
        task.loss,
        optimizer,
        schedule=functools.partial(
            warmup_cosine, warmup=int(settings.warmup * total), total=total, floor=0.0
        ),
        max_norm=settings.max_norm,
        seed=seed,
        loss_options=task.loss_options,
        metrics=task.metrics(),
    )
    return model, trainer


def _warm(task, settings, options, parts, seed):
    """An epoch of one batch, thrown away: what must be compiled is compiled before the clock."""
    _, trainer = _made(task, settings, options, parts, seed)
    first = [
        [next(iter(data(0, np.random.default_rng(seed))))]
        for data in (parts.train, parts.validation)
    ]
    trainer.fit(first[0], epochs=1, validation=first[1], progress=False)
