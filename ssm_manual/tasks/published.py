"""Two published training runs, rebuilt from their descriptions.

Both are demonstrations of zig-sashimi (https://github.com/sssssqew/zig-sashimi, commit 36a60cf),
which this package calls the published engine. The short run: four poles, 20 samples, 10,000 epochs
in complex64, a one-step direction in place of the gradient. Its log and verification table, as
printed by its authors, are in ``ssm_manual/data/published_log.json``. The long run: 500 samples,
four continuous poles through the bilinear map.
"""

import json
from importlib import resources
from typing import NamedTuple

import numpy as np

from ssm_manual.models import DiagonalSSM
from ssm_manual.ops.discretize import tustin

__all__ = [
    "LONG_EPOCHS",
    "LONG_RATES",
    "PUBLISHED_EPOCHS",
    "PUBLISHED_RATES",
    "PublishedRun",
    "long_data",
    "long_model",
    "published_data",
    "published_figures",
    "published_model",
    "run_published",
]

PUBLISHED_EPOCHS = 10_000
PUBLISHED_RATES = {"A": 0.01, "B": 0.05, "C": 0.5}

#: Epochs between two entries of the published log.
LOG_EVERY = 1000

LONG_EPOCHS = 5000
LONG_RATES = {"A": 0.007, "B": 0.01, "C": 0.01, "dt": 0.0}
LONG_MARGIN = 1e-4


class PublishedRun(NamedTuple):
    """A repetition of the short run.

    Attributes
    ----------
    losses : ndarray
        sum |e_t|^2 of every epoch, before its update.
    params_log : dict
        By epoch 0, 1000, ..., 9000: a dict of A, B, C after that epoch's update.
    model : DiagonalSSM
        The trained model.
    """

    losses: np.ndarray
    params_log: dict
    model: DiagonalSSM


def published_figures():
    """The printed log and verification table of the short run.

    Returns
    -------
    dict
        ``log``: a list of epoch, channel, loss, A_bar, B_bar, C; ``verification``: a list of step,
        prediction, target. Complex numbers are pairs.
    """
    path = resources.files("ssm_manual.data").joinpath("published_log.json")
    try:
        figures = json.loads(path.read_bytes())
        complete = {"log", "verification"} <= set(figures)
    except (ValueError, TypeError, RecursionError):
        complete = False
    if not complete:
        raise ValueError(f"{path}: is damaged; install ssm_manual again")
    return figures


def published_data():
    """20 samples of ``sin 2t + sin 20t`` at t = 0.1 k s, and the target ``sin 2t``.

    Returns
    -------
    u, target : ndarray
        (20,), float32 and complex64.
    """
    t = 0.1 * np.arange(20)
    return (np.sin(2 * t) + np.sin(20 * t)).astype(np.float32), np.sin(2 * t).astype(np.complex64)


def published_model():
    """Poles -1 + 1.99i, -1 + 2i, -1 + 2.01i, -1 + 5i (1/s), B 1, C 1/4, through Tustin's map once.

    From there on A_bar, B_bar and C themselves are trained.

    Returns
    -------
    DiagonalSSM
        Discrete, complex output, complex64.
    """
    A = np.array([-1 + 1.99j, -1 + 2j, -1 + 2.01j, -1 + 5j], np.complex64)
    A_bar, B_bar = tustin(A, 1.0, 0.1)
    return DiagonalSSM(A_bar, B_bar, 0.25, real=False)


def run_published(mode="one_step", rate_scale=1.0):
    """Repeat the short run.

    Parameters
    ----------
    mode : str
        ``"one_step"`` as published, or another mode of `ssm_manual.training.fit`.
    rate_scale : float
        Factor on all learning rates.

    Returns
    -------
    PublishedRun

    Raises
    ------
    ValueError
        If ``mode`` is unknown.
    DivergenceError
        If the rates are too high.
    """
    u, target = published_data()
    model = published_model()
    rates = {name: rate_scale * rate for name, rate in PUBLISHED_RATES.items()}
    losses, params_log = [], {}
    done = 0
    # Cut behind every epoch that the log prints: its parameters are those after the update.
    for stop in [*range(1, PUBLISHED_EPOCHS, LOG_EVERY), PUBLISHED_EPOCHS]:
        losses.append(model.fit(u, target, epochs=stop - done, rates=rates, mode=mode).losses)
        done = stop
        if stop < PUBLISHED_EPOCHS:
            params_log[stop - 1] = {name: value.copy() for name, value in model.params.items()}
    return PublishedRun(u.size * np.concatenate(losses), params_log, model)


def long_data(dtype=np.float32):
    """500 samples of ``sin 2t + sin 20t`` at t = 0.001 k s, and the target ``sin 2t``.

    Parameters
    ----------
    dtype : dtype
        float32 or float64.

    Returns
    -------
    u, target : ndarray
        (500,), real and complex.
    """
    t = 1e-3 * np.arange(500)
    u, target = np.sin(2 * t) + np.sin(20 * t), np.sin(2 * t)
    return u.astype(dtype), target.astype(np.result_type(dtype, np.complex64))


def long_model(dtype=np.float32):
    """Continuous poles ``-0.5 + i pi 10^(2n/3 - 1)`` (1/s), n = 0..3, B 1, C 1/4, dt 1e-3 s.

    Complex output.

    Parameters
    ----------
    dtype : dtype
        float32 or float64.

    Returns
    -------
    DiagonalSSM
    """
    A = -0.5 + 1j * np.pi * 10 ** (2 * np.arange(4) / 3 - 1)
    A = A.astype(np.result_type(dtype, np.complex64))
    return DiagonalSSM(A, 1.0, 0.25, dt=1e-3, parameters="continuous", real=False)
