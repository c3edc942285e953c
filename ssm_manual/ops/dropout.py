"""Dropout: numbers, or whole rows of them, are set to zero at random, the others scaled up.

    y_k = m_k x_k,    m_k = 1 / (1 - rate) or 0          [DROPOUT-1]

The mask is a function of the seed and the number's place alone [DROPOUT-3]: the backward pass forms
it again, and nothing is stored. Derivation: docs/derivations/dropout.md. Cost: one pass.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import _pointwise
from ssm_manual.ops.registry import Example, register

__all__ = ["dropout", "dropout_fwd", "dropout_vjp"]


def dropout(x, *, rate, seed, tied=False):
    """``y = m x``, with m 0 at probability ``rate``, else ``1 / (1 - rate)`` [DROPOUT-1, 2].

    Parameters
    ----------
    x : array_like
        Real, any shape; with ``tied`` at least one axis, the last of which is time.
    rate : float
        Probability that a number is dropped, at least 0 and less than 1; it is rounded to a
        multiple of 2^-32.
    seed : int or None
        At least 0 and less than 2^64. None is evaluation: x itself is returned, not a copy.
    tied : bool
        Whether all times of a channel share one value of the mask.

    Returns
    -------
    ndarray
        Of the shape and precision of x.

    Raises
    ------
    ValueError
        If x is complex or not finite, or an option is out of range.

    Notes
    -----
    The same seed, shape and ``tied`` give the same mask, in either precision and for any number of
    threads. Saved for the backward pass: shape, dtype and options.

    Examples
    --------
    >>> import numpy as np
    >>> dropout(np.ones(6), rate=0.5, seed=3).tolist()
    [2.0, 0.0, 2.0, 0.0, 0.0, 0.0]
    """
    return dropout_fwd(x, rate=rate, seed=seed, tied=tied)[0]


class Residuals(NamedTuple):
    """What the backward pass needs; the mask is formed again."""

    like: np.ndarray  # of x, but without memory
    mask: "Options"


class Options(NamedTuple):
    """Which mask."""

    rate: float
    seed: int | None
    tied: bool


def dropout_fwd(x, *, rate, seed, tied=False):
    """`dropout` and its residuals."""
    x = _pointwise.argument(x)
    chosen = options(x, rate, seed, tied)
    kept = Residuals(_validate.stand_in(x.shape, x.dtype), chosen)
    if chosen.seed is None or chosen.rate == 0:
        return _validate.finite_values("x", x), kept
    return _pointwise.forward(_pointwise.IDENTITY, x, mask(x, chosen)), kept


def dropout_vjp(residuals, grad_y):
    """The gradient to x, ``m g`` with the same mask [DROPOUT-4]; in evaluation g, not a copy."""
    like, chosen = residuals
    if chosen.seed is None or chosen.rate == 0:
        return (_validate.cotangent("grad_y", grad_y, like),)
    return (_pointwise.backward(_pointwise.IDENTITY, like, grad_y, mask(like, chosen)),)


# ---------------------------------------------------------------------------------------- the mask


def options(x, rate, seed, tied):
    """The options of a mask on x, checked."""
    rate = _validate.real_number("rate", rate, minimum=0)
    if rate >= 1:
        raise ValueError(f"rate is {rate!r}; it must be at least 0 and less than 1")
    if seed is not None:
        seed = _validate.integer("seed", seed, minimum=0, maximum=2**64 - 1)
    if _validate.flag("tied", tied) and x.ndim == 0:
        raise ValueError("x has shape (); with tied it must have an axis of time")
    return Options(rate, seed, tied)


def mask(x, chosen):
    """The mask on x in the form that the kernels take [DROPOUT-2, 3], or None."""
    rate, seed, tied = chosen
    if seed is None or rate == 0:
        return None
    threshold = np.uint32(min(round(rate * 2**32), 2**32 - 1))
    kept = x.dtype.type(1 / (1 - rate))
    none = np.empty(0, x.dtype)
    if not tied:
        return _pointwise.Mask(_keys(seed, x.size), threshold, kept, none, 1)
    rows = np.ones(x.size // max(x.shape[-1], 1), x.dtype)
    over_rows = _pointwise.Mask(_keys(seed, rows.size), threshold, kept, none, 1)
    rows = _pointwise.forward(_pointwise.IDENTITY, rows, over_rows)
    return _pointwise.Mask(_keys(seed, 0), threshold, kept, rows, max(x.shape[-1], 1))


def _keys(seed, size):
    """Two words for every block of counters: a 64-bit hash of (seed, block) [DROPOUT-3]."""
    z = np.arange(-(-size // _pointwise.BLOCK), dtype=np.uint64)
    z = _mixed(z * np.uint64(0x9E3779B97F4A7C15) + _mixed(np.array([seed], np.uint64)))
    return np.stack([z & np.uint64(0xFFFFFFFF), z >> np.uint64(32)], axis=1).astype(np.uint32)


def _mixed(z):
    """The finaliser of SplitMix64, on an array; products keep their lower half."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _examples(rng):
    x = rng.standard_normal((3, 2, 17))
    for chosen in [
        {"rate": 0.3, "seed": 5},
        {"rate": 0.5, "seed": 2**64 - 1, "tied": True},
        {"rate": 0.3, "seed": None},
        {"rate": 0, "seed": 1},
    ]:
        yield Example((x,), chosen, str(chosen), (("x",),))
    x = rng.standard_normal(4099)
    yield Example((x,), {"rate": 0.2, "seed": 1}, "more than one block", (("x",),))


register(
    "dropout",
    dropout_fwd,
    dropout_vjp,
    reference=reference.dropout.dropout,
    examples=_examples,
    arguments=("x",),
)
