"""Gradient descent for linear regression: its objective with gradients, and its compiled loop.

    p = X w + b,   L = (1/2n) sum e^2 + (l2/2) |w|^2,   e = p - y        [REGRESSION-1, 2]

Per-sample updates depend on one another from row to row, so that the loop is a chain; products and
sums are taken in the order as written and never fused, which makes a run the same to the bit on
every machine. Mean squared errors, and the gradient of a full batch, are summed in double
precision: a float32 running total over many rows would lose its digits.
"""

import os
from typing import NamedTuple

import numpy as np

from ssm_manual import _files, _validate
from ssm_manual._numba import jit
from ssm_manual.models._frame import frame_of
from ssm_manual.ops import loss as loss_op
from ssm_manual.training import fused
from ssm_manual.training.descent import EXPLOSION, DivergenceError

__all__ = ["UPDATES", "RegressionHistory", "fit", "objective_fwd", "objective_vjp"]

UPDATES = ("per_sample", "full_batch")

#: Products between two reports of progress: some 20 milliseconds of the compiled loop.
CHUNK = 10_000_000


class RegressionHistory(NamedTuple):
    """What a run did.

    Attributes
    ----------
    losses : ndarray
        mean (prediction - y)^2 of each epoch, (epochs,), float64. Of per-sample updates: each row
        under the parameters that it met. Of full batches: before the update.
    reason : str
        Why it ended: ``"finished"`` or ``"target_loss"``.
    stop : int
        Index of the last epoch, counted from 0.
    path : ndarray or None
        If asked for: weights, then bias, at the start and after each update epoch,
        (updates + 1, F + 1), in the units of X and y and in the model's precision.
    """

    losses: np.ndarray
    reason: str
    stop: int
    path: np.ndarray | None

    @property
    def epochs(self):
        """The number of epochs that were evaluated."""
        return self.losses.size


# --------------------------------------------------------------------------------- the objective


class Residuals(NamedTuple):
    """Saved by `objective_fwd`: the arguments by reference, and the error inside ``loss``."""

    weights: np.ndarray
    X: np.ndarray
    l2: float
    loss: tuple  # of half_mse: the error e, which costs as much as the prediction


@_validate.sound("loss")
def objective_fwd(weights, bias, X, y, *, l2=0.0):
    """``(1/2n) sum (X w + b - y)^2 + (l2/2) |w|^2`` [REGRESSION-1, 2]; arguments are not checked.

    Time O(n F), memory O(n).
    """
    half, residuals = loss_op.half_mse_fwd(X @ weights + bias, y)
    if l2:
        half = half + half.dtype.type(l2 / 2) * (weights @ weights)
    return half, Residuals(weights, X, l2, residuals)


@_validate.sound("grad_weights", "grad_bias", "grad_X", "grad_y")
def objective_vjp(residuals, grad_loss):
    """Gradients to weights, bias, X and y [REGRESSION-3]."""
    weights, X, l2, of_loss = residuals
    g, grad_y = loss_op.half_mse_vjp(of_loss, grad_loss)  # e / n
    grad_weights = g @ X  # [REGRESSION-3]
    if l2:
        grad_weights = grad_weights + weights.dtype.type(l2 * grad_loss) * weights
    return grad_weights, g.sum(), g[:, None] * weights, grad_y


# -------------------------------------------------------------------------------- compiled loops


@jit
def _judge(loss, target, limit):
    if not loss <= limit:  # NaN compares false
        return fused.DIVERGED
    return fused.TARGET_REACHED if loss <= target else fused.FINISHED


@jit
def _error(weights, bias, x, target):
    """``e = w x + b - y`` [REGRESSION-1], the bias last."""
    total = weights[0] * x[0]
    for k in range(1, weights.size):
        total += weights[k] * x[k]
    return (total + bias) - target


@jit
def _record(path, epoch, weights, bias):
    if path.shape[0] > epoch:
        path[epoch, : weights.size] = weights
        path[epoch, weights.size] = bias[0]


@jit
def _per_sample(X, y, rate, l2, stops, weights, bias, losses, path):
    """Epochs of one update a row, in order [REGRESSION-4]; returns how many, and why they ended."""
    decay = rate * l2
    for epoch in range(losses.size):
        total = 0.0
        for i in range(y.size):
            x = X[i]
            e = _error(weights, bias[0], x, y[i])
            total += np.float64(e) * np.float64(e)
            step = rate * e
            for k in range(weights.size):
                move = step * x[k]
                if decay != 0:
                    move += decay * weights[k]
                weights[k] -= move  # [REGRESSION-4]
            bias[0] -= step
        losses[epoch] = total / y.size
        _record(path, epoch, weights, bias)
        reason = _judge(losses[epoch], stops[0], stops[1])
        if reason != fused.FINISHED:
            return epoch + 1, reason
    return losses.size, fused.FINISHED


@jit
def _full_batch(X, y, rate, l2, stops, weights, bias, losses, path):
    """Epochs of one update by the mean gradient [REGRESSION-5]; the loss is judged before it."""
    n = y.size
    grad = np.empty(weights.size)
    wide_rate, wide_l2 = np.float64(rate), np.float64(l2)
    for epoch in range(losses.size):
        total, grad_bias = 0.0, 0.0
        grad[:] = 0.0
        for i in range(n):
            x = X[i]
            e = np.float64(_error(weights, bias[0], x, y[i]))
            total += e * e
            for k in range(grad.size):
                grad[k] += e * np.float64(x[k])  # [REGRESSION-3]
            grad_bias += e
        losses[epoch] = total / n
        reason = _judge(losses[epoch], stops[0], stops[1])
        if reason != fused.FINISHED:
            return epoch + 1, reason
        for k in range(grad.size):
            slope = grad[k] / n + wide_l2 * np.float64(weights[k])
            weights[k] -= X.dtype.type(wide_rate * slope)  # [REGRESSION-5]
        bias[0] -= X.dtype.type(wide_rate * (grad_bias / n))
        _record(path, epoch, weights, bias)
    return losses.size, fused.FINISHED


# -------------------------------------------------------------------------------------- training


def fit(
    model,
    X,
    y,
    *,
    epochs,
    rate=None,
    updates="per_sample",
    l2=0.0,
    target_loss=None,
    standardise=False,
    path=False,
    checkpoint=None,
    checkpoint_every=None,
    checkpoint_metadata=None,
    progress=None,
):
    """Train ``model`` in place by gradient descent [REGRESSION-4, 5].

    Parameters
    ----------
    model : LinearRegression
        Its parameters are updated in place, and its ``epochs`` are counted on.
    X : array_like
        Features, (n, F), real, in the model's precision.
    y : array_like
        What the predictions should be, (n,).
    epochs : int
        Passes over the rows to make, at least 1.
    rate : float, optional
        Learning rate, positive; None takes `LinearRegression.safe_rate`, which cannot diverge.
    updates : {"per_sample", "full_batch"}
        One update after each row, in the order of the rows, or one an epoch by the mean gradient.
        At one rate, an epoch of the former moves about n times as far.
    l2 : float
        Weight of the penalty ``(l2/2) |w|^2``, not negative; the bias is free. Each row's update
        carries the whole penalty, so that both kinds of updates descend on one objective.
    target_loss : float, optional
        Stop at a mean (prediction - y)^2 no larger than this. A pass of per-sample updates is
        finished first; a full batch stops before its update.
    standardise : bool
        Whether to train on features brought to mean 0 and deviation 1 [REGRESSION-10]. The model's
        parameters stay in the units of X: they are folded back in double precision and rounded
        once. A constant column becomes zero: its weight stays as it is (but for ``l2``) and the
        bias does its work. The penalty is on the standardised weights.
    path : bool
        Whether to keep the parameters of every epoch: 8 (F + 1) bytes each in double precision.
    checkpoint : path-like, optional
        File to write the model to, atomically, every ``checkpoint_every`` epochs of the model's
        count and at the end. Training that goes on from it ends with the same bits.
    checkpoint_every : int, optional
        Epochs between two checkpoints; goes with ``checkpoint``.
    checkpoint_metadata : dict, optional
        What every checkpoint holds beside the model, see `ssm_manual.checkpoint.save`.
    progress : callable, optional
        Called as ``progress(epochs_done, loss)`` every few milliseconds.

    Returns
    -------
    RegressionHistory

    Raises
    ------
    ValueError
        If an argument does not fit.
    DivergenceError
        If a loss is not finite or grows beyond a million times that of the start [DESCENT-6]. The
        model is put back to the parameters of its best epoch, and to its count of epochs there.
    """
    epochs = _validate.length("epochs", epochs, minimum=1)
    X, y = model.table(X, y)
    _validate.one_of("updates", updates, UPDATES)
    standardise = _validate.flag("standardise", standardise)
    l2 = in_range("l2", l2, model.dtype, minimum=0)
    if rate is None:
        rate = model.safe_rate(X, updates=updates, l2=l2, standardise=standardise)
    rate = in_range("rate", rate, model.dtype, above=0)
    target = -1.0  # never reached
    if target_loss is not None:
        target = _validate.real_number("target_loss", target_loss, minimum=0)
    if progress is not None and not callable(progress):
        raise ValueError(f"progress is {progress!r}; it must be callable, or None")
    every = _checkpoint_every(checkpoint, checkpoint_every)

    frame = frame_of(X, standardise)
    weights, bias = frame.enter(model)
    loop = _per_sample if updates == "per_sample" else _full_batch
    data = (_validate.plain(frame.features(X)), _validate.plain(y), model.dtype.type(rate))
    run = _Stretches(loop, (*data, model.dtype.type(l2)), weights, bias)
    losses = np.empty(epochs)
    rows = np.empty((epochs if _validate.flag("path", path) else 0, weights.size + 1), model.dtype)
    first = np.append(model.params["weights"], model.params["bias"])
    limit = EXPLOSION * _scale(model, X, y)
    done, made, reason, began = 0, 0, fused.FINISHED, model.epochs
    chunk = max(1, CHUNK // X.size)
    while done < epochs and reason == fused.FINISHED:
        count = min(epochs - done, chunk)
        if every:
            count = min(count, every - model.epochs % every)
        evaluated, updated, reason = run.go(
            losses[done : done + count], rows[done : done + count], (target, limit)
        )
        if reason == fused.DIVERGED:
            parameter, kept = run.back()
            frame.leave(model, weights, bias)
            model.epochs = began + kept
            bad = done + evaluated - 1
            raise DivergenceError(bad, float(losses[bad]), parameter, losses[: bad + 1].copy())
        done, made = done + evaluated, made + updated
        frame.leave(model, weights, bias)  # in step with its epochs, should anything below raise
        model.epochs += updated
        ended = done == epochs or reason != fused.FINISHED
        if every and (ended or model.epochs % every == 0):
            _save(checkpoint, model, checkpoint_metadata)
        if progress is not None:
            progress(done, float(losses[done - 1]))
    kept = np.vstack([first, frame.fold_rows(rows[:made])]) if path else None
    why = "target_loss" if reason == fused.TARGET_REACHED else "finished"
    return RegressionHistory(losses[:done].copy(), why, done - 1, kept)


class _Stretches:
    """Runs stretches of epochs, and can go back to the best epoch of all."""

    def __init__(self, loop, data, weights, bias):
        self.loop, self.data, self.weights, self.bias = loop, data, weights, bias
        self.start = weights.copy(), bias.copy()
        self.made = 0
        self.best = np.inf, *self.start, 0, 0

    def go(self, losses, rows, stops):
        """Run; returns epochs evaluated, epochs whose updates were made, and why they ended."""
        before = self.weights.copy(), self.bias.copy()
        evaluated, reason = self.loop(*self.data, stops, self.weights, self.bias, losses, rows)
        sound = (self.weights, self.bias, losses[evaluated - 1])
        if not all(np.isfinite(values).all() for values in sound):
            reason = fused.DIVERGED
        judged = losses[: evaluated - (reason == fused.DIVERGED)]
        if judged.size and judged.min() < self.best[0]:
            self.best = judged.min(), *before, self.made, int(judged.argmin())
        stopped_before = self.loop is _full_batch and reason == fused.TARGET_REACHED
        updated = evaluated - stopped_before
        self.made += updated
        return evaluated, updated, reason

    def back(self):
        """Go to the parameters that the best epoch began with.

        Returns what had moved furthest, and the number of epochs before the best.
        """
        moved = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for name, now, start in zip(("weights", "bias"), (self.weights, self.bias), self.start):
                size = np.max(np.abs(start)) or 1.0
                change = float(np.max(np.abs(now - start)) / size)
                moved[name] = change if np.isfinite(change) else np.inf
        _, self.weights[:], self.bias[:], made, forward = self.best
        if forward:  # the same rows give the same bits again
            rows = np.empty((0, self.weights.size + 1), self.weights.dtype)
            stops = (-1.0, np.inf)
            self.loop(*self.data, stops, self.weights, self.bias, np.empty(forward), rows)
        return max(moved, key=moved.get), made + forward


def _scale(model, X, y):
    """mean e^2 at the start or mean y^2, whichever is larger: what an explosion is measured by."""
    with np.errstate(over="ignore", invalid="ignore"):  # the first epoch will see it
        e = (X @ model.params["weights"] + model.params["bias"] - y).astype(float)
        return max(float(np.mean(e**2)), float(np.mean(np.square(y, dtype=float))))


def in_range(name, value, dtype, **bounds):
    """A real number that the model's precision can hold without becoming zero or infinite."""
    info = np.finfo(dtype)
    value = _validate.real_number(name, value, maximum=float(info.max), **bounds)
    if 0 < value < float(info.tiny):
        raise ValueError(f"{name} is {value!r}; {dtype} holds nothing below {info.tiny:g} but 0")
    return value


def _checkpoint_every(checkpoint, every):
    if (checkpoint is None) != (every is None):
        raise ValueError(
            f"checkpoint is {checkpoint!r} and checkpoint_every is {every!r}; both must be given, "
            "or neither"
        )
    if checkpoint is None:
        return 0
    every = _validate.integer("checkpoint_every", every, minimum=1)
    try:
        _files.check_writable("checkpoint", os.fspath(checkpoint))
    except TypeError:
        raise ValueError(f"checkpoint is {checkpoint!r}; it must be a path") from None
    return every


def _save(path, model, metadata):
    from ssm_manual import checkpoint

    checkpoint.save(path, model, metadata=metadata)
