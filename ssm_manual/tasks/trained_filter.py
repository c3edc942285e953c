"""The diagonal SSM as one of the methods that remove noise: fresh noise in every epoch."""

import copy
from typing import Any, NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual._modes import MODES

__all__ = ["MODES", "RATES", "STAGES", "TrainedFilter", "train"]

#: Learning rates, for input of power one (noise included); chosen by the error on training parts
#: alone.
RATES = {"A": 0.002, "B": 0.03, "C": 0.03, "D": 0.03}

#: Share of the epochs, and factor on the rates: the noise of the last gradients averages out where
#: the steps are short.
STAGES = ((0.7, 1.0), (0.2, 0.3), (0.1, 0.1))

#: Poles stay within ``exp(-FORGET / training length)`` and within `RADIUS`: stretches longer than a
#: quarter of the training part are too few to learn from them what a pole should remember.
FORGET, RADIUS = 4.0, 0.999

#: A longer training part gives every epoch a stretch of this many samples, at a random place.
LONGEST_EPOCH = 4096

#: How often the rates may be halved.
ATTEMPTS = 12

#: Samples that the trained model takes at once; the state is carried over.
BLOCK = 2**16


class TrainedFilter(NamedTuple):
    """A trained model, used like the filters of `ssm_manual.tasks.filters`.

    Attributes
    ----------
    model : DiagonalSSM
        Maps ``gain * noisy`` to ``gain * clean``, ``delay`` samples late.
    gain : float
        Brings the noisy signal's power to one.
    delay : int
        The lookahead.
    losses : ndarray
        ``(epochs,)``, float64: mean e^2 in units of the clean training power, each before its
        epoch's update.
    initial_A_bar : ndarray
        ``(poles,)``: the poles before training.
    halvings : int
        How often training diverged and began anew with all rates halved.
    """

    model: Any
    gain: float
    delay: int
    losses: np.ndarray
    initial_A_bar: np.ndarray
    halvings: int

    name = "diagonal SSM"
    causal = True

    @property
    def settings(self):
        """The model in words."""
        return f"{self.model.A_bar.size} poles, {self.losses.size} epochs"

    def __call__(self, noisy):
        """Restore a signal ``(length,)``, aligned with the clean one; zeros come after its end."""
        u = (self.gain * np.asarray(noisy)).astype(self.model.dtype)
        u = np.concatenate([u, np.zeros(self.delay, u.dtype)])
        pieces, state = [], None
        for start in range(0, u.size, BLOCK):
            y, state, _ = self.model.forward(u[start : start + BLOCK], state)
            pieces.append(y)
        return np.concatenate(pieces).astype(np.float64)[self.delay :] / self.gain


def train(
    task,
    *,
    poles=16,
    parameters="discrete",
    rate=None,
    mode="bptt",
    window=None,
    epochs=5000,
    dtype="float32",
    rng,
    progress=None,
):
    """Train a `DiagonalSSM` of real output on the training part, with fresh noise in every epoch.

    Plain gradient descent on (1/2) mean e^2 with the rates `RATES`, lowered in the `STAGES`. Should
    it diverge, it begins anew from the same initial model with all rates halved.

    Parameters
    ----------
    task : denoising.Task
    poles : int
        Poles stored, each standing for a conjugate pair.
    parameters : {"discrete", "continuous"}
        What is trained, see `DiagonalSSM`. Continuous parameters are trained in units of a sample,
        so that the rates fit any sampling rate, and are in seconds afterwards; dt stays what it is.
    rate : float or None
        Samples per second; None counts time in samples. For continuous parameters alone.
    mode : {"bptt", "windowed", "one_step", "convolution"}
        How the direction of descent is formed, see `DiagonalSSM.fit`.
    window : int or None
        Steps of a window, for ``mode="windowed"`` alone.
    epochs : int
        Updates.
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator
    progress : callable or None
        ``progress(epochs_done, loss)``.

    Returns
    -------
    TrainedFilter

    Raises
    ------
    ValueError
        If an argument is out of its range, or training diverges however small the rates.
    """
    # imported here, because the kernels' compiler takes a while to load
    from ssm_manual.models import DiagonalSSM
    from ssm_manual.training import DivergenceError

    poles = _validate.size("poles", poles)
    _validate.one_of("mode", mode, MODES)
    if window is not None:
        window = _validate.integer("window", window, minimum=1)
        if mode != "windowed":
            raise ValueError(f"window is {window}; it goes with mode='windowed' alone")
    epochs = _validate.integer("epochs", epochs, minimum=1)
    dtype = np.dtype(_validate.one_of("dtype", dtype, ("float32", "float64")))
    gain = 1 / np.sqrt(1 + task.sigma**2)
    batches = _batches(task, gain, dtype, rng)
    dt = None if parameters == "discrete" else 1.0
    first = DiagonalSSM.initial(poles, rng=rng, parameters=parameters, dt=dt, dtype=dtype.name)
    learnt = RATES if dt is None else RATES | {"dt": 0.0}
    forget = FORGET / task.start
    for halvings in range(ATTEMPTS):
        model = copy.deepcopy(first)
        losses, error = [], None
        try:
            for first_epoch, count, factor in _stages(epochs):
                history = model.fit(
                    batches,
                    epochs=count,
                    rates={name: r * factor / 2**halvings for name, r in learnt.items()},
                    mode=mode,
                    window=window,
                    radius=min(RADIUS, float(np.exp(-forget))),
                    margin=max(forget, -float(np.log(RADIUS))),
                    progress=progress and _shifted(progress, first_epoch, gain),
                )
                losses.append(history.losses.astype(np.float64) / gain**2)
        except DivergenceError as divergence:
            error = divergence
            continue
        losses = np.concatenate(losses)
        if not _grown(losses):
            break
    else:
        why = "the loss ends above its start" if error is None else str(error)
        raise ValueError(
            f"mode is {mode!r}; with it training fails here however small the rates ({why})"
        )
    if rate is not None and dt is not None:
        model = _in_seconds(model, rate)
    return TrainedFilter(model, gain, task.lookahead, losses, np.array(first.A_bar), halvings)


def _in_seconds(model, rate):
    """The same filter with time in seconds, where one unit was a sample: ``dt A`` stays."""
    A, B, C, D = (model.params[name] for name in "ABCD")
    per_second = model.dtype.type(rate)
    dt = model.dtype.type(1 / rate)
    return type(model)(A * per_second, B * per_second, C, D, dt=dt, parameters="continuous")


def _stages(epochs):
    """``(first epoch, number, factor on the rates)`` of every stage; together ``epochs``."""
    shares = np.cumsum([0.0, *(share for share, _ in STAGES)])
    edges = [round(float(share) * epochs) for share in shares]
    return [
        (first, last - first, factor)
        for first, last, (_, factor) in zip(edges, edges[1:], STAGES)
        if last > first
    ]


def _grown(losses):
    """Whether training ended well above where it began: it left the basin, if not all numbers."""
    tenth = max(1, losses.size // 10)
    return losses.size >= 20 and losses[-tenth:].mean() > 1.5 * losses[:tenth].mean()


def _shifted(progress, first_epoch, gain):
    """``progress`` over all stages, its loss in units of the clean training power."""
    return lambda done, loss: progress(first_epoch + done, loss / gain**2)


def _batches(task, gain, dtype, rng):
    """A source of epochs: ``batches(start_epoch, n) -> (u, target)``, a row an epoch."""
    clean = (gain * task.clean[: task.start]).astype(dtype)
    silence = np.zeros(task.lookahead, dtype)  # before the recording: unknown, so the mean
    delayed = np.concatenate([silence, clean[: clean.size - task.lookahead]])
    length = min(clean.size, LONGEST_EPOCH)
    sigma = dtype.type(gain * task.sigma)

    def batches(start_epoch, count):
        noise = sigma * rng.standard_normal((count, length), dtype=dtype)
        if length == clean.size:
            return clean + noise, np.broadcast_to(delayed, noise.shape)
        offsets = rng.integers(0, clean.size - length + 1, count)
        rows = offsets[:, np.newaxis] + np.arange(length)
        return clean[rows] + noise, delayed[rows]

    return batches
