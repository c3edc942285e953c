"""Everything that a run needs to go on as if it had never ended, and the file that holds it.

Nothing random is among it: the order of an epoch and the masks of dropout follow from the seed, the
epoch and the number of the batch. A float is kept in an array, not in JSON, so that it comes back
with its bits.
"""

from dataclasses import dataclass, field

import numpy as np

from ssm_manual import _validate, checkpoint

__all__ = ["Run", "TrainingState", "differences"]

#: Counters and sums of a `Run`, in the order of the file.
COUNTERS = ("epoch", "batch", "updates", "optimizer_updates", "best_epoch", "waited")
REASONS = ("finished", "early_stopping")
NUMBERS = ("loss_sum", "size", "items", "seconds", "best")


@dataclass
class Run:
    """Where a run stands.

    Attributes
    ----------
    epoch : int
        Epochs completed.
    batch : int
        Batches of the epoch that are in the parameters.
    updates : int
        Updates made.
    optimizer_updates : int
        Updates of the optimiser, which may have made some before.
    best_epoch : int
        Epoch of the best value, counted from 0; -1 before the first.
    waited : int
        Epochs since.
    loss_sum : float
        Sum over the epoch's batches of loss times size.
    size : float
        Sum of their sizes.
    items : float
        Items of theirs.
    seconds : float
        Time they took.
    best : float
        What early stopping has to beat; NaN before the first.
    reason : str
        Why the run ended, ``"finished"`` or ``"early_stopping"``; empty while it goes on.
    history : dict of list
        Of plain floats.
    best_params : dict of ndarray
        Parameters after the best epoch, copies.
    """

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    optimizer_updates: int = 0
    best_epoch: int = -1
    waited: int = 0
    loss_sum: float = 0.0
    size: float = 0.0
    items: float = 0.0
    seconds: float = 0.0
    best: float = float("nan")
    reason: str = ""
    history: dict = field(default_factory=dict)
    best_params: dict = field(default_factory=dict)


class TrainingState:
    """A `Run` with parameters, optimiser state and settings, as a checkpoint holds them.

    Parameters
    ----------
    run : Run
        Where it stands.
    params : dict of ndarray
        Of the model.
    optimizer : dict
        ``{slot: {name: array}}``.
    settings : dict
        Of the run, fit for JSON.
    """

    def __init__(self, run, params, optimizer, settings):
        self.run, self.params, self.optimizer, self.settings = run, params, optimizer, settings

    def to_checkpoint(self):
        """``(hyperparameters, arrays)`` for `ssm_manual.checkpoint.save`."""
        run = self.run
        hyperparameters = {
            "counters": {name: getattr(run, name) for name in COUNTERS},
            "history": list(run.history),
            "reason": run.reason,
            "settings": self.settings,
            "slots": list(self.optimizer),
        }
        arrays = {"numbers": np.array([getattr(run, name) for name in NUMBERS], np.float64)}
        groups = {"history": run.history, "params": self.params, "best": run.best_params}
        groups |= {f"optimizer.{slot}": values for slot, values in self.optimizer.items()}
        for group, values in groups.items():
            for name, value in values.items():
                arrays[f"{group}/{name}"] = np.asarray(
                    value, np.float64 if group == "history" else None
                )
        return hyperparameters, arrays

    @classmethod
    def from_checkpoint(cls, hyperparameters, arrays, *, check=True):
        """The inverse of `to_checkpoint`; see `ssm_manual.checkpoint.load`.

        Parameters
        ----------
        hyperparameters : dict
            From a file.
        arrays : dict of ndarray
            From a file.
        check : bool
            Whether the parameters' values are looked at.

        Returns
        -------
        TrainingState

        Raises
        ------
        ValueError
            If something is missing or does not fit.
        """

        def group(name):
            prefix = f"{name}/"
            return {k[len(prefix) :]: a for k, a in arrays.items() if k.startswith(prefix)}

        counters, slots = hyperparameters["counters"], hyperparameters["slots"]
        lowest = {"best_epoch": -1}
        for name in COUNTERS:
            _validate.integer(f"counter {name}", counters[name], minimum=lowest.get(name, 0))
        for name, wanted in (("settings", dict), ("slots", list), ("reason", str)):
            if not isinstance(hyperparameters[name], wanted):
                value = _validate.show(hyperparameters[name])
                raise ValueError(f"{name} is {value}; it must be a {wanted.__name__}")
        _validate.one_of("reason", hyperparameters["reason"], ("", *REASONS))
        history = group("history")
        for name, values in history.items():
            if values.ndim != 1 or values.dtype != np.float64:
                raise ValueError(
                    f"history {name} has shape {values.shape} and dtype {values.dtype}; it must be "
                    "float64 of one axis"
                )
        run = Run(
            **{name: counters[name] for name in COUNTERS},
            **{name: float(value) for name, value in zip(NUMBERS, arrays["numbers"], strict=True)},
            reason=hyperparameters["reason"],
            history={name: history[name].tolist() for name in hyperparameters["history"]},
            best_params=group("best"),
        )
        params = group("params")
        optimizer = {slot: group(f"optimizer.{slot}") for slot in slots}
        if check:
            own = {name: history[name] for name in ("loss", "lr") if name in history}
            groups = {"params": params, "best": run.best_params, "history": own, **optimizer}
            for name, values in groups.items():
                if not all(np.isfinite(a).all() for a in values.values()):
                    raise ValueError(f"{name} holds a number that is not finite")
        return cls(run, params, optimizer, hyperparameters["settings"])


def check_same(path, what, source, target):
    """An error unless two dicts hold arrays of the same names, shapes and dtypes."""
    for name in [*target, *(source.keys() - target.keys())]:
        a, b = source.get(name), target.get(name)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            found, wanted = (
                "nothing" if x is None else f"{x.dtype} of shape {x.shape}" for x in (a, b)
            )
            raise checkpoint.CheckpointError(
                f"{path}: holds {found} for {name!r} of {what}; this run has {wanted}"
            )


def copy_into(source, target):
    """Copy arrays into those of the same names, shapes and dtypes (`check_same`)."""
    for name, a in source.items():
        target[name][...] = a


def differences(made, now, prefix=""):
    """The settings in which two runs differ, as ``name: then, now``.

    Parameters
    ----------
    made, now : dict
        Settings, nested.
    prefix : str
        Before the names.

    Returns
    -------
    list of str
    """
    found = []
    for name in sorted(made.keys() | now.keys()):
        a, b = made.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(f"{prefix}{name} was {a!r} and is {b!r}")
    return found
