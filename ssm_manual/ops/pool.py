"""Pooling over time: the mean or the last sample of every channel, padding left out.

    mean: y = (1 / n) sum_{t < n} x_t        [POOL-1]
    last: y = x_{n-1}                        [POOL-2]

n is the item's length. Derivation: docs/derivations/pooling.md. Cost: one pass.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops.registry import Example, register

__all__ = ["pool", "pool_fwd", "pool_vjp"]


def pool(x, *, method="mean", lengths=None):
    """``y = mean_{t < n} x_t`` or ``x_{n-1}`` over the last axis [POOL-1, 2].

    Parameters
    ----------
    x : array_like
        Real, (batch, H, L).
    method : str
        ``"mean"`` or ``"last"``.
    lengths : array_like of int, optional
        (batch,): the samples of each item that count, from 1 to L. None counts all.

    Returns
    -------
    ndarray
        (batch, H).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite (padding included), L is 0, or a
        length is out of range.

    Notes
    -----
    Sums are in double precision; one beyond its range makes the mean infinite. Saved for the
    backward pass: the shape and the lengths.

    Examples
    --------
    >>> pool([[[1.0, 3.0, 99.0]]], lengths=[2]).tolist()
    [[2.0]]
    >>> pool([[[1.0, 3.0, 99.0]]], method="last", lengths=[2]).tolist()
    [[3.0]]
    """
    return pool_fwd(x, method=method, lengths=lengths)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    x: np.ndarray  # of x, but without memory
    method: str
    lengths: np.ndarray  # (batch,)


@_validate.sound("y")
def pool_fwd(x, *, method="mean", lengths=None):
    """`pool` and its residuals."""
    x = _validate.arrays(x=x, real=("x",))[0]
    _validate.shape("x", x, (None, None, -1), meaning="(batch, H, L)")
    _validate.one_of("method", method, ("mean", "last"))
    batch, _, L = x.shape
    counts = np.full(batch, L) if lengths is None else _checked(lengths, batch, L)
    if method == "last":
        y = x[np.arange(batch), :, counts - 1]  # [POOL-2]
    else:
        y = np.empty(x.shape[:2], x.dtype)
        for b in range(batch):
            y[b] = x[b, :, : counts[b]].sum(axis=-1, dtype=np.float64) / counts[b]  # [POOL-1]
    return y, Residuals(_validate.stand_in(x.shape, x.dtype), method, counts)


def pool_vjp(residuals, grad_y):
    """The gradient to x: g / n at the times that count, or g at the last of them [POOL-3]."""
    x, method, counts = residuals
    like = _validate.stand_in(x.shape[:2], x.dtype)
    g = _validate.cotangent("grad_y", grad_y, like)
    grad_x = np.zeros(x.shape, x.dtype)
    if method == "last":
        grad_x[np.arange(len(counts)), :, counts - 1] = g
    else:
        for b, n in enumerate(counts):
            grad_x[b, :, :n] = (g[b] / x.dtype.type(n))[:, None]
    return (grad_x,)


def _checked(lengths, batch, L):
    lengths = _validate.integers("lengths", lengths)
    _validate.shape("lengths", lengths, (batch,), meaning="(batch,)")
    if lengths.size and not (lengths.min() >= 1 and lengths.max() <= L):
        raise ValueError(
            f"lengths lie between {lengths.min()} and {lengths.max()}; they must be from 1 to L = "
            f"{L}"
        )
    return lengths.astype(np.int64)


def _examples(rng):
    x = rng.standard_normal((3, 2, 17))
    for method in ("mean", "last"):
        for lengths in (None, (17, 1, 5)):
            options = {"method": method, "lengths": lengths}
            yield Example((x,), options, f"{method}, lengths {lengths}", (("x",),))


register(
    "pool",
    pool_fwd,
    pool_vjp,
    reference=reference.pool.pool,
    examples=_examples,
    arguments=("x",),
)
