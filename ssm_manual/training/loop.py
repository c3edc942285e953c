"""`Trainer`: any model, any loss, seeded, with an exact resume; see docs/training.md.

What happens within an epoch is in ``_epochs.py``.
"""

import contextlib
import os

from ssm_manual import _files, _validate
from ssm_manual.training import _passes, batches, state
from ssm_manual.training._epochs import Epochs
from ssm_manual.training._progress import bar as progress_bar
from ssm_manual.training.optimizers import _Optimizer
from ssm_manual.training.schedules import constant
from ssm_manual.training.stopping import EarlyStopping

__all__ = ["Trainer"]


class Trainer(Epochs):
    """Trains a model in place by mini-batches.

    Parameters
    ----------
    model : object
        With ``params`` (a dict of arrays), ``forward(u, ...)`` and ``backward(grad_y, cache)``, as
        the layers and models of this package. Of ``lengths``, ``seed`` and ``cache`` its
        ``forward`` is given what it takes.
    loss : str or tuple
        ``"mse"``, ``"half_mse"``, ``"softmax_cross_entropy"``, ``"binary_cross_entropy"``, or
        ``(fwd, vjp)`` of an op of prediction and target.
    optimizer : GradientDescent, SGD, Adam or AdamW
        Of the model's ``params``.
    schedule : callable, optional
        ``schedule(updates made) -> factor`` of all learning rates, such as
        `ssm_manual.training.warmup_cosine` with its options bound. None: 1.
    max_norm : float, optional
        Gradients with a larger global norm are scaled to it [OPTIM-7]. None: never.
    accumulate : int
        Batches whose gradients make one update [OPTIM-8]; fewer at the end of an epoch.
    seed : int
        Of shuffling and dropout.
    loss_options : dict, optional
        Options of the loss, such as ``{"axis": 1}``.
    metrics : dict, optional
        ``{name: function(prediction, target) -> number}``, for validation.

    Attributes
    ----------
    history : dict of list
        Plain floats. For each update ``loss``, ``lr`` (before groups) and ``grad_norm`` (before
        clipping); for each epoch ``epoch_loss``, ``epoch_end`` (updates made) and
        ``items_per_second``, and with validation data ``validation_loss`` and ``validation_`` with
        the name of each metric.
    reason : str
        Why `fit` ended: ``"finished"`` or ``"early_stopping"``.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from ssm_manual.layers import S4D
    >>> from ssm_manual.training import AdamW, Batches
    >>> rng = np.random.default_rng(0)
    >>> layer = S4D(2, 4, rng=rng)
    >>> u = rng.standard_normal((8, 2, 50), dtype=np.float32)
    >>> trainer = Trainer(layer, "mse", AdamW(layer.params, lr=0.01), seed=1)
    >>> history = trainer.fit(Batches(u, np.roll(u, 1, axis=-1), batch_size=4), epochs=3)
    >>> len(history["loss"]), history["loss"][-1] < history["loss"][0]
    (6, True)
    """

    def __init__(
        self,
        model,
        loss,
        optimizer,
        *,
        schedule=None,
        max_norm=None,
        accumulate=1,
        seed=0,
        loss_options=None,
        metrics=None,
    ):
        self._passes = _passes.Passes(model, loss, loss_options)
        self.model, self.optimizer = model, optimizer
        if not isinstance(optimizer, _Optimizer):
            raise ValueError(
                f"optimizer is {_validate.show(optimizer)}; it must be one of "
                "GradientDescent, SGD, Adam, AdamW"
            )
        self._check_arrays()
        if schedule is not None and not callable(schedule):
            raise ValueError(f"schedule is {_validate.show(schedule)}; it must be callable")
        self.schedule = constant if schedule is None else schedule
        self.max_norm = max_norm
        if max_norm is not None:
            self.max_norm = _validate.real_number("max_norm", max_norm, above=0)
        self.accumulate = _validate.integer("accumulate", accumulate, minimum=1)
        self.seed = _validate.integer("seed", seed, minimum=0)
        if not isinstance(metrics, (dict, type(None))):
            raise ValueError(f"metrics is {_validate.show(metrics)}; it must be a dict")
        self.metrics = dict(metrics or {})
        for name, function in self.metrics.items():
            if not callable(function):
                raise ValueError(
                    f"metrics[{name!r}] is {_validate.show(function)}; it must be callable"
                )
        self._run = state.Run(history={"loss": [], "lr": [], "grad_norm": []})
        self._sound = {}  # parameters before the last update
        self._kept = None, 0  # path and updates of the last checkpoint

    @property
    def history(self):
        """Lists of plain floats, see the class."""
        return self._run.history

    @property
    def reason(self):
        """Why `fit` ended, see the class."""
        return self._run.reason

    # -------------------------------------------------------------------------------------- public

    def fit(
        self,
        data,
        *,
        epochs,
        validation=None,
        early_stopping=None,
        curriculum=None,
        checkpoint=None,
        checkpoint_every=None,
        resume=False,
        progress=None,
    ):
        """Train until ``epochs`` epochs are done, those of earlier calls included.

        Parameters
        ----------
        data : Batches, callable or iterable
            Training data, see `ssm_manual.training.batches`.
        epochs : int
            In all, at least 1.
        validation : Batches, callable or iterable, optional
            Evaluated after every epoch.
        early_stopping : EarlyStopping, optional
            When to end before.
        curriculum : callable, optional
            ``curriculum(epoch, data) -> data`` of that epoch; of its arguments alone, for a resume
            to be exact.
        checkpoint : path_like, optional
            A file that is replaced as the run goes on.
        checkpoint_every : int, optional
            Updates between checkpoints. None: one an epoch.
        resume : bool
            Go on from ``checkpoint`` where it exists. The run ends with the same bits as one that
            was never interrupted.
        progress : bool, optional
            Whether a bar is drawn on standard error. None: where that is a terminal.

        Returns
        -------
        dict of list
            The history.

        Raises
        ------
        ValueError
            If an argument does not fit, or data is not finite.
        CheckpointError
            If the file is not sound, or of another run: the message says in what they differ.
        StepDivergenceError
            If a loss or a gradient is not finite. The model is put back to its parameters before
            the last update, and no checkpoint is written.
        """
        epochs = _validate.integer("epochs", epochs, minimum=1)
        batches.check("data", data)
        if validation is not None:
            batches.check("validation", validation)
        if not isinstance(early_stopping, (EarlyStopping, type(None))):
            raise ValueError(
                f"early_stopping is {_validate.show(early_stopping)}; it must be an EarlyStopping"
            )
        if curriculum is not None and not callable(curriculum):
            raise ValueError(f"curriculum is {_validate.show(curriculum)}; it must be callable")
        every = checkpoint_every
        if every is not None:
            every = _validate.integer("checkpoint_every", every, minimum=1)
        for name, given in [("checkpoint_every", every), ("resume", resume)]:
            if given and checkpoint is None:
                raise ValueError(f"{name} is {given}; it goes with a checkpoint")
        self._check_arrays()
        if early_stopping is not None:
            self._check_metric(early_stopping.metric, validation)
        settings = self._settings(data, validation, early_stopping, curriculum)
        path = checkpoint if checkpoint is None else os.fspath(checkpoint)
        self._kept = None, self._run.updates
        if path is not None:
            _files.check_writable("checkpoint", path)
            if _validate.flag("resume", resume) and os.path.exists(path):
                self._restore(path, settings)
        run = self._run
        if run.reason != "early_stopping":
            run.reason = ""
        with progress_bar(progress, data, curriculum, run, epochs) as bar:
            while run.epoch < epochs and not run.reason:
                now = data if curriculum is None else curriculum(run.epoch, data)
                self._epoch(now, path, every, settings, bar)
                self._end_epoch(validation, early_stopping)
        run.reason = run.reason or "finished"
        self._check_end()
        if path is not None:
            self._save(path, settings)
        if early_stopping is not None and early_stopping.restore and run.best_params:
            for name, value in run.best_params.items():
                self.model.params[name][...] = value
        return self.history

    def evaluate(self, data):
        """Mean loss and metrics over data, without dropout and without caches.

        Parameters
        ----------
        data : Batches, callable or iterable
            See `ssm_manual.training.batches`.

        Returns
        -------
        dict
            ``{"loss": ..., metric: ...}``, floats; means over batches by their sizes.

        Raises
        ------
        ValueError
            If there is no batch, or a value is not finite.
        """
        return self._evaluate("data", data, lambda *_: contextlib.nullcontext())

    # ----------------------------------------------------------------------------------- internals

    def _check_arrays(self):
        mine, given = self.model.params, self.optimizer.params
        if mine.keys() != given.keys() or any(mine[name] is not given[name] for name in mine):
            raise ValueError(
                "optimizer holds other arrays than the model's params; make it of them"
            )

    def _check_metric(self, metric, validation):
        known = ["epoch_loss"]
        if validation is not None:
            known += [f"validation_{name}" for name in ("loss", *self.metrics)]
        known_for = "" if validation is not None else ", without validation,"
        _validate.one_of(f"metric of early_stopping{known_for}", metric, known)
