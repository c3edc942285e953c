"""Experiments on the HiPPO matrix: parts of LegS replaced or zeroed, and two tasks tried with it.

What is learned from them, and what is noise: docs/dense_models.md.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, hippo
from ssm_manual.layers import DenseSSM
from ssm_manual.ops import dense_discretize
from ssm_manual.tasks import memory
from ssm_manual.training import sequences
from ssm_manual.training.descent import DivergenceError

__all__ = ["KINDS", "TASKS", "Survey", "matrix", "read_out", "survey", "train_previous_bit"]

#: What is done to LegS.
KINDS = (
    "LegS",
    "random",
    "rows shuffled",
    "rows random",
    "block zero",
    "block random",
    "diagonal pairs zero",
    "diagonal zero",
)

#: The tasks and what their numbers are.
TASKS = {
    "previous_bit": "previous bit, trained: loss above the floor of the model (nats)",
    "delay": "delay of T/4, read out by least squares: error relative to the signal",
}

#: States, of the published experiments.
STATES = 8

#: Sequences an epoch.
SEQUENCES = 50

#: A trained model whose loss is above this many nats counts as lost: its state has run away.
LOST = 10.0


def matrix(kind, rng, N=STATES):
    """LegS with a part of it replaced.

    Random numbers are normal with the root mean square of LegS's entries that are not zero. A block
    is the lower left quarter (rows from N/2 on, columns before), which couples slow states into
    fast ones. Diagonal pairs are the 2 x 2 blocks along the diagonal.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    rng : numpy.random.Generator
        Draws what is random.
    N : int
        States, even.

    Returns
    -------
    ndarray
        (N, N), in 1/s, without eigenvalues in the right half-plane: where the change has put some
        there, a multiple of the identity is taken off that brings the rightmost to the axis.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    _validate.one_of("kind", kind, KINDS)
    _validate.generator("rng", rng)
    N = _validate.integer("N", N, minimum=2)
    if N % 2:
        raise ValueError(f"N is {N}; it must be even")
    A, _ = hippo.legs(N)
    random = rng.standard_normal((N, N)) * np.sqrt(np.mean(A[A != 0] ** 2))
    half = N // 2
    if kind == "random":
        A = random
    elif kind == "rows shuffled":
        A = A[rng.permutation(N)]
    elif kind == "rows random":
        rows = rng.permutation(N)[:half]
        A[rows] = random[rows]
    elif kind == "block zero":
        A[half:, :half] = 0
    elif kind == "block random":
        A[half:, :half] = random[half:, :half]
    elif kind == "diagonal pairs zero":
        for n in range(0, N, 2):
            A[n : n + 2, n : n + 2] = 0
    elif kind == "diagonal zero":
        np.fill_diagonal(A, 0)
    unstable = np.linalg.eigvals(A).real.max()
    return A - max(unstable, 0.0) * np.eye(N)


def train_previous_bit(kind, rng, length, *, updates=2000, rate=0.03, limit=0.1):
    """Train A_bar, B_bar and C on the previous bit as published: dt 1, no bias, no D.

    Plain descent, one sequence an update, gradients clipped elementwise. B_bar and C are normal of
    deviation 0.1. A_bar is brought to spectral radius 0.95 first where it is larger, so that it
    starts within the range of LegS; while it is trained nothing holds it.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    rng : numpy.random.Generator
        Draws matrix, weights and data.
    length : int
        Samples of a sequence.
    updates : int
        How many, at least 1.
    rate, limit : float
        Learning rate and limit of each number of a gradient.

    Returns
    -------
    float
        Loss on 200 new sequences (20 from length 1000 on), less the floor of the model on them
        [FLOOR-2]; NaN where training diverged, or ended above 10 nats.
    """
    u, target = memory.previous_bit(rng, SEQUENCES, length)
    new, new_target = memory.previous_bit(rng, 200 if length < 1000 else 20, length)
    B, C = 0.1 * rng.standard_normal((2, STATES))
    A = matrix(kind, rng)[np.newaxis]
    A_bar, _ = dense_discretize.tustin(A, np.zeros((1, STATES, 1)), 1.0)
    view = "chunked" if length >= 1000 else "scan"
    layer = DenseSSM.from_arrays(A=A_bar[0], B=B[:, np.newaxis], C=C[np.newaxis], view=view)
    layer.clamp(0.95)
    loss = "binary_cross_entropy"
    try:
        sequences.train(
            layer, u, target, loss, rate=rate, epochs=-(-updates // SEQUENCES), limit=limit
        )
        value, _ = sequences.evaluate(layer, new, new_target, loss, backward=False)
    except (DivergenceError, _validate.NonFiniteError):
        return float("nan")
    return value - memory.previous_bit_floor(new) if value < LOST else float("nan")


def read_out(kind, rng, length, *, sequences=8):
    """Error of the best linear reading of a delayed signal from the states, nothing trained.

    dt is 4 / length, so that a sequence takes the same time whatever its length; the delay is a
    quarter of it. The reading is fitted to eight sequences and judged on eight others, from the
    delay on: least squares on columns scaled to one, singular values below 1e-10 left out.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    rng : numpy.random.Generator
        Draws matrix and signals.
    length : int
        Samples of a sequence, at least 4.
    sequences : int
        How many signals to fit, and how many to judge by.

    Returns
    -------
    float
        Root mean square error relative to the signal's.
    """
    delay = length // 4
    drawn = [memory.delayed(rng, sequences, length, delay) for _ in range(2)]
    A, (_, B) = matrix(kind, rng), hippo.legs(STATES)
    layer = DenseSSM.from_arrays(
        A=A, B=B[:, np.newaxis], C=np.eye(STATES), discretisation="tustin", dt=4 / length
    )
    parts = []
    for u, target in drawn:
        x, _, _ = layer.forward(u)
        rows = np.moveaxis(x[..., delay:], 1, -1).reshape(-1, STATES)
        parts.append((rows, target[:, 0, delay:].ravel()))
    (X, d), (X_new, d_new) = parts
    scale = np.sqrt(np.mean(X**2, axis=0))
    C, *_ = np.linalg.lstsq(X / scale, d, rcond=1e-10)
    return float(np.linalg.norm(X_new / scale @ C - d_new) / np.linalg.norm(d_new))


class Survey(NamedTuple):
    """Results of both tasks.

    Attributes
    ----------
    lengths, seeds : tuple of int
        What was run.
    values : dict
        (task, kind, length) -> list with one number a seed; NaN where training diverged.
    """

    lengths: tuple
    seeds: tuple
    values: dict

    def spread(self, task, kind, length):
        """``mean (half the range)`` of the seeds that came to an end, as text.

        Parameters
        ----------
        task, kind : str
            Of `TASKS` and `KINDS`.
        length : int
            One of the lengths.

        Returns
        -------
        str
        """
        values = np.array(self.values[task, kind, length])
        sound = values[np.isfinite(values)]
        lost = f", {values.size - sound.size} lost" if sound.size < values.size else ""
        if not sound.size:
            return "all lost"
        return f"{sound.mean():.2g} ({np.ptp(sound) / 2:.1g}){lost}"

    def records(self):
        """Every single result, for a JSON file.

        Returns
        -------
        list of dict
            ``task``, ``matrix``, ``length``, ``seed`` and ``value``, None where it diverged.
        """
        return [
            {
                "task": task,
                "matrix": kind,
                "length": length,
                "seed": seed,
                "value": value if np.isfinite(value) else None,
            }
            for (task, kind, length), values in self.values.items()
            for seed, value in zip(self.seeds, values)
        ]


def survey(lengths, seeds, *, updates=2000):
    """Both tasks with every matrix.

    A seed draws the same data for every matrix.

    Parameters
    ----------
    lengths, seeds : sequence of int
        What to run.
    updates : int
        Of the training.

    Returns
    -------
    Survey
    """
    values = {}
    for length in lengths:
        for kind in KINDS:
            values["previous_bit", kind, length] = [
                train_previous_bit(kind, np.random.default_rng(seed), length, updates=updates)
                for seed in seeds
            ]
            values["delay", kind, length] = [
                read_out(kind, np.random.default_rng(seed), length) for seed in seeds
            ]
    return Survey(tuple(lengths), tuple(seeds), values)
