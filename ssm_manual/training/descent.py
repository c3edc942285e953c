"""Plain gradient descent: ``theta <- theta - rate grad``, then the clamp [DESCENT-1, 4, 5].

Two paths compute the same, to rounding. One sequence an epoch, real input and a recurrent mode run
in one compiled loop (`ssm_manual.training.fused`); everything else (batches, complex input, the
convolution mode) goes op by op, through `loss_and_grads`. They are tested against each other.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual._modes import MODES
from ssm_manual.training import fused
from ssm_manual.training.clamp import clamp_continuous, clamp_discrete
from ssm_manual.training.data import Data
from ssm_manual.training.objective import loss_and_grads

__all__ = ["DEFAULT_RATES", "MODES", "DivergenceError", "History", "fit"]

#: Learning rates, each parameter's own. That of dt applies to its logarithm, so that dt stays
#: positive.
DEFAULT_RATES = {"A": 0.01, "B": 0.05, "C": 0.5, "D": 0.05, "dt": 0.001}

#: Steps between cuts in windowed mode.
DEFAULT_WINDOW = 128

#: A loss this many times the first one counts as divergence [DESCENT-6].
EXPLOSION = 1e6

#: Pole-steps between two reports of progress: some 20 milliseconds of the compiled loop.
CHUNK = 8_000_000

_REASONS = {
    fused.FINISHED: "finished",
    fused.TARGET_REACHED: "target_loss",
    fused.NO_PROGRESS: "patience",
}


class DivergenceError(ArithmeticError):
    """Training left the range in which the loss means anything.

    Parameters
    ----------
    epoch : int
        The epoch, counted from 0, whose loss was not finite or exploded.
    loss : float
        That loss.
    parameter : str
        The parameter that moved furthest, relative to its size before.
    losses : ndarray
        The losses up to it. All four are kept as attributes.
    """

    def __init__(self, epoch, loss, parameter, losses):
        super().__init__(
            f"training diverged at epoch {epoch} (loss {loss:g}); the parameter that moved "
            f"furthest is {parameter}: lower its learning rate. The model holds its last sound "
            "parameters"
        )
        self.epoch, self.loss, self.parameter, self.losses = epoch, loss, parameter, losses


class History(NamedTuple):
    """What a run did.

    Attributes
    ----------
    losses : ndarray
        mean |e|^2 of each epoch, before its update (twice the objective `half_mse`).
    reason : str
        Why it ended: ``"finished"``, ``"target_loss"`` or ``"patience"``.
    """

    losses: np.ndarray
    reason: str

    @property
    def epochs(self):
        """The number of epochs that were evaluated."""
        return self.losses.size


def fit(
    model,
    u,
    target=None,
    *,
    epochs,
    rates=None,
    mode="bptt",
    window=None,
    radius=0.999,
    margin=1e-4,
    target_loss=0.0,
    patience=None,
    improvement=1e-4,
    progress=None,
):
    """Train ``model`` in place by gradient descent on ``half_mse(y, target)`` [DESCENT-1].

    Parameters
    ----------
    model : DiagonalSSM
        The model; its parameters are updated in place.
    u : array_like or callable
        Input, (length,) or (batch, length), in the model's precision; every sequence starts from a
        zero state. Or a callable ``batches(start_epoch, n_epochs)`` that returns ``(u, target)``,
        each (n_epochs, length), one row for each epoch: fresh noise every time.
    target : array_like, optional
        What the output should be, of u's shape; left out where u is a callable.
    epochs : int
        Updates to make, at least 1.
    rates : dict, optional
        Learning rates by parameter, ``{"A": ..., "B": ..., "C": ..., "D": ..., "dt": ...}``; what
        is left out takes `DEFAULT_RATES`, and 0 freezes a parameter. That of dt applies to log dt.
    mode : {"bptt", "windowed", "one_step", "convolution"}
        How the gradient is formed. ``bptt`` and ``convolution`` are the gradient, by the recurrence
        and by the kernel. ``windowed`` carries the state over but cuts the gradient at each
        window's edge [TRUNC-3]; ``one_step`` is the published variant, a window of 1. Neither of
        the last two is a gradient of the loss.
    window : int, optional
        Steps a window, for ``mode="windowed"`` alone (default 128).
    radius : float
        Discrete poles are rescaled onto this modulus where they pass it, in (0, 1) [DESCENT-4].
    margin : float
        Continuous poles are kept at Re A <= -margin, in 1/s, positive [DESCENT-5].
    target_loss : float
        Stop at a loss (mean |e|^2) no larger than this.
    patience : int, optional
        Stop after this many epochs without progress.
    improvement : float
        The relative decrease of the best loss that counts as progress.
    progress : callable, optional
        Called as ``progress(epochs_done, loss)`` every few milliseconds.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If an argument does not fit.
    DivergenceError
        If a loss is not finite or grows beyond a million times the first [DESCENT-6]. The model is
        put back to its last sound parameters.
    """
    from ssm_manual.models import DiagonalSSM  # the model's `fit` comes here

    if not isinstance(model, DiagonalSSM):
        raise ValueError(f"model is {_validate.show(model)}; it must be a DiagonalSSM")
    if progress is not None and not callable(progress):
        raise ValueError(f"progress is {progress!r}; it must be callable, or None")
    epochs = _validate.length("epochs", epochs, minimum=1)
    data = Data(model, u, target)
    run = _Run(model, data, rates, mode, window, radius, margin)
    patience = np.inf if patience is None else _validate.integer("patience", patience, minimum=1)
    target_loss = _validate.real_number("target_loss", target_loss, minimum=0)
    improvement = _validate.real_number("improvement", improvement, minimum=0, maximum=1)
    best = np.array([np.inf, 0.0])
    losses = np.empty(epochs, model.params["A"].real.dtype)
    limit = np.inf  # no scale to compare with before the first loss is known
    start = {name: value.copy() for name, value in model.params.items()}
    done, reason = 0, fused.FINISHED
    while done < epochs and reason == fused.FINISHED:
        count = 1 if done == 0 else min(epochs - done, run.chunk)
        sound = {name: value.copy() for name, value in model.params.items()}
        stops = (target_loss, limit, float(patience), improvement)
        evaluated, reason = run.epochs(done, losses[done : done + count], stops, best)
        done += evaluated
        if reason == fused.FINISHED and not _sound(model):
            reason = fused.DIVERGED
        if reason == fused.DIVERGED or not np.isfinite(losses[done - 1]):
            parameter = _moved_furthest(start, model.params)
            for name, value in sound.items():
                model.params[name][...] = value
            # On to the best epoch of the stretch: the same rows give the same bits again.
            forward = int(np.argmin(losses[done - evaluated : done - 1])) if evaluated > 1 else 0
            if forward:
                never = (0.0, np.inf, np.inf, 0.0)
                again = np.empty(forward, losses.dtype)
                run.run(*run.rows, again, never, np.array([np.inf, 0.0]))
            loss = float(losses[done - 1])
            raise DivergenceError(done - 1, loss, parameter, losses[:done].copy())
        if done == 1:
            limit = EXPLOSION * max(float(losses[0]), data.power)
        if progress is not None:
            progress(done, float(losses[done - 1]))
    return History(losses[:done].copy(), _REASONS[reason])


class _Run:
    """One way of running epochs, fused or op by op, behind one call."""

    def __init__(self, model, data, rates, mode, window, radius, margin):
        _validate.one_of("mode", mode, MODES)
        self.model, self.data, self.mode = model, data, mode
        self.rates = _rates(model, rates)
        self.window = _window(mode, window, data.length)
        eps = float(np.finfo(model.params["A"].dtype).eps)
        self.radius = _validate.real_number("radius", radius, above=0)
        if self.radius > 1 - 4 * eps:
            raise ValueError(
                f"radius is {radius}; it must be below 1, by 4 units of {model.dtype} rounding"
            )
        self.margin = _validate.real_number("margin", margin, above=0)
        self.gap = 16 * eps
        if self.rates["A"] == 0 and self.rates.get("log_dt", 0.0) == 0:  # frozen: no clamp either
            self.radius, self.margin, self.gap = np.inf, -np.inf, 1e-300
        one_sequence = data.batches is not None or data.batch == 1
        self.fused = one_sequence and mode != "convolution" and data.u.dtype.kind != "c"
        work = data.length * model.params["A"].size * (1 if self.fused else 20 * data.batch)
        self.chunk = max(1, CHUNK // work)

    def epochs(self, start, losses, stops, best):
        """Run ``losses.size`` epochs; returns how many were evaluated and why they ended."""
        if self.data.batches is not None:
            u, target = self.data.rows(start, losses.size)
        else:
            u, target = self.data.u, self.data.target
        self.rows = u, target
        return self.run(u, target, losses, stops, best)

    def run(self, u, target, losses, stops, best):
        if self.fused:
            return self._fused(u, target, losses, stops, best)
        window = self.window if self.mode == "windowed" else None
        for epoch in range(losses.size):
            rows = slice(epoch, epoch + 1) if self.data.batches is not None else slice(None)
            with np.errstate(over="ignore", invalid="ignore"):  # seen by `judge`
                try:
                    half, grads = loss_and_grads(
                        self.model, u[rows], target[rows], mode=self.mode, window=window
                    )
                except _validate.NonFiniteError:  # an overflow in the output or on the way back
                    half = np.inf
                losses[epoch] = 2 * half
            reason = fused.judge(float(losses[epoch]), stops, best)
            if reason != fused.FINISHED:
                return epoch + 1, reason
            with np.errstate(over="ignore", invalid="ignore"):
                self._update(grads)
            if not _sound(self.model):
                return epoch + 1, fused.DIVERGED
        return losses.size, fused.FINISHED

    def _update(self, grads):
        params = self.model.params
        for name, grad in grads.items():
            params[name] -= params[name].real.dtype.type(self.rates[name]) * grad  # [DESCENT-1]
        if self.model.parameters == "discrete":
            clamp_discrete(params["A"], params["A"].real.dtype.type(self.radius))
        else:
            clamp_continuous(params["A"], float(self.model.dt), self.margin, self.gap)

    def _fused(self, u, target, losses, stops, best):
        params = self.model.params
        A = params["A"]
        real = A.real.dtype.type
        poles = -(-A.size // fused.LANES) * fused.LANES
        weights = np.zeros((3, poles), A.dtype)
        weights[:, : A.size] = params["A"], params["B"], params["C"]
        D = np.array([params.get("D", 0)], A.dtype)
        continuous = self.model.parameters == "continuous"
        log_dt = params["log_dt"].reshape(1).copy() if continuous else np.zeros(1, real)
        if continuous:  # padding poles must be stable too
            weights[0, A.size :] = -1 / self.model.dt  # at half the rate of the samples
        parts = np.stack([target.real, np.broadcast_to(target.imag, target.shape)], axis=1)
        # A parameter that the model does not have stays at zero with a rate of zero.
        rates = np.array([self.rates.get(n, 0.0) for n in ("A", "B", "C", "D", "log_dt")], real)
        evaluated, reason = fused.run(
            weights,
            D,
            log_dt,
            np.ascontiguousarray(u),
            np.ascontiguousarray(parts, real),
            real(2 if self.model.real else 1),
            self.window,
            rates,
            (real(self.radius), self.margin, self.gap),
            stops,
            best,
            (continuous, self.model.input_scale == "sqrt_dt"),
            losses,
        )
        for name, row in zip("ABC", weights):
            params[name][...] = row[: A.size]
        if "D" in params:
            params["D"][...] = D[0] if params["D"].dtype.kind == "c" else D[0].real
        if continuous:
            params["log_dt"][...] = log_dt[0]
        return evaluated, reason


def _rates(model, rates):
    """Rates by the model's parameter names; unknown names and negative rates are refused."""
    if not isinstance(rates, (dict, type(None))):
        raise ValueError(f"rates is {_validate.show(rates)}; it must be a dict by parameter name")
    rates = {} if rates is None else rates
    allowed = {"log_dt" if key == "dt" else key: key for key in DEFAULT_RATES}
    allowed = {name: key for name, key in allowed.items() if name in model.params}
    unknown = sorted(set(rates) - set(allowed.values()), key=str)
    if unknown:
        names = ", ".join(repr(n) for n in allowed.values())
        raise ValueError(f"rates names {unknown[0]!r}; this model's parameters are {names}")
    largest = float(np.finfo(model.dtype).max)
    return {
        name: _validate.real_number(
            f"rates[{key!r}]", rates.get(key, DEFAULT_RATES[key]), minimum=0, maximum=largest
        )
        for name, key in allowed.items()
    }


def _window(mode, window, length):
    if window is not None and mode != "windowed":
        raise ValueError(f"window is {window!r}; it goes with mode='windowed' alone")
    if mode == "one_step":
        return 1  # [TRUNC-4]
    if mode == "windowed":
        return min(
            length,
            _validate.integer("window", DEFAULT_WINDOW if window is None else window, minimum=1),
        )
    return length


def _sound(model):
    """Whether the parameters are numbers that the next epoch can start from."""
    if not all(np.isfinite(value).all() for value in model.params.values()):
        return False
    with np.errstate(over="ignore", under="ignore"):
        return model.dt is None or (np.isfinite(model.dt) and model.dt > 0)


def _moved_furthest(start, now):
    """The parameter with the largest change relative to its size; a non-finite one first."""

    def change(name):
        size = np.max(np.abs(start[name]))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if name == "log_dt" and not 0 < np.exp(now[name]) < np.inf:
                return np.inf
            moved = float(np.max(np.abs(now[name] - start[name])))
        if not np.isfinite(moved):
            return np.inf
        # One that began at zero, as D does, is measured as if it had begun at one.
        return moved / float(size) if size > 0 else moved

    # dt first among equals: once it has overflowed, the clamp takes A with it.
    return max(sorted(start, reverse=True), key=change).replace("log_dt", "dt")
