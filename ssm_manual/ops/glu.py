"""The gated linear unit: the first half of the features times the sigmoid of the second.

    y = a sigmoid(b),    x = [a, b]          [ACT-12]

Derivation: docs/derivations/activations.md. Cost: one pass forward, one backward.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._numba import jit_contracted, parallel_jit, prange, threads
from ssm_manual.ops import _pointwise
from ssm_manual.ops._elementary import is_bad, sigmoid, sigmoid_slope
from ssm_manual.ops.registry import Example, register

__all__ = ["glu", "glu_fwd", "glu_vjp"]


def glu(x, *, axis=-1):
    """``a sigmoid(b)`` of the two halves of one axis [ACT-12].

    Parameters
    ----------
    x : array_like
        Real, (..., 2 n) or, with ``axis=-2``, (..., 2 n, L).
    axis : int
        The axis that is halved, -1 or -2.

    Returns
    -------
    ndarray
        (..., n) or (..., n, L).

    Raises
    ------
    ValueError
        If x is complex or not finite, or the axis is odd or not there.

    Notes
    -----
    Saved for the backward pass: x, not copied where it is contiguous.

    References
    ----------
    Dauphin et al. (2017), Language modeling with gated convolutional networks, section 2.

    Examples
    --------
    >>> glu([3.0, 0.0]).tolist()
    [1.5]
    """
    return glu_fwd(x, axis=axis)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    x: np.ndarray  # the input; the sigmoid is formed again
    axis: int


@_validate.sound("y")
def glu_fwd(x, *, axis=-1):
    """`glu` and its residuals."""
    x = _pointwise.argument(x)
    _validate.one_of("axis", axis, (-1, -2))
    if x.ndim < -axis or x.shape[axis] % 2:
        raise ValueError(f"x has shape {x.shape}; axis {axis} must have an even length")
    shape = list(x.shape)
    shape[axis] //= 2
    y = np.empty(shape, x.dtype)
    halves, out = _halves(x, axis), y.reshape(_halves(x, axis).shape[::2])
    flags = _run(_forward, _forward_shared, halves, out)
    if flags.any():
        _validate.finite_values("x", x)
    return y, Residuals(x, axis)


@_validate.sound("grad_x")
def glu_vjp(residuals, grad_y):
    """The gradient to x: ``s(b) g`` and ``a s'(b) g`` side by side [ACT-13]."""
    x, axis = residuals
    halves = _halves(x, axis)
    shape = list(x.shape)
    shape[axis] //= 2
    like = _validate.stand_in(tuple(shape), x.dtype)
    g = _validate.plain(_validate.cotangent("grad_y", grad_y, like, finite=False))
    grad_x = np.empty_like(x)
    to = g.reshape(halves.shape[::2])
    flags = _run(_backward, _backward_shared, halves, to, _halves(grad_x, axis))
    if flags.any():
        _validate.finite_values("grad_y", g)
    return (grad_x,)


def _halves(x, axis):
    """x as (outer, 2, numbers a half): so its halves lie in memory, whichever the axis."""
    outer = int(np.prod(x.shape[:axis]))
    return x.reshape(outer, 2, x.size // (2 * outer) if outer else 0)


def _run(serial, shared, halves, *arrays):
    outer, _, n = halves.shape
    pieces = outer * -(-n // _pointwise.BLOCK)
    flags = np.zeros(max(1, threads()), np.bool_)
    if min(pieces, threads()) > 1 and halves.size >= _pointwise.PARALLEL_FROM:
        shared(threads(), halves, *arrays, flags)
    elif pieces:
        serial(0, 1, halves, *arrays, flags)
    return flags


@jit_contracted
def _forward(worker, workers, x, y, flags):
    outer, _, n = x.shape
    pieces = -(-n // _pointwise.BLOCK)
    for piece in range(worker, outer * pieces, workers):
        o, start = piece // pieces, piece % pieces * _pointwise.BLOCK
        stop = min(n, start + _pointwise.BLOCK)
        a, b, out = x[o, 0, start:stop], x[o, 1, start:stop], y[o, start:stop]
        bad = False
        for i in range(out.size):
            out[i] = a[i] * sigmoid(b[i])  # [ACT-12]
            bad |= is_bad(a[i]) | is_bad(b[i])
        flags[worker] |= bad


@parallel_jit
def _forward_shared(workers, x, y, flags):
    for worker in prange(workers):
        _forward(worker, workers, x, y, flags)


@jit_contracted
def _backward(worker, workers, x, g, grad_x, flags):
    outer, _, n = x.shape
    pieces = -(-n // _pointwise.BLOCK)
    for piece in range(worker, outer * pieces, workers):
        o, start = piece // pieces, piece % pieces * _pointwise.BLOCK
        stop = min(n, start + _pointwise.BLOCK)
        a, b, to = x[o, 0, start:stop], x[o, 1, start:stop], g[o, start:stop]
        to_a, to_b = grad_x[o, 0, start:stop], grad_x[o, 1, start:stop]
        bad = False
        for i in range(to.size):
            to_a[i] = to[i] * sigmoid(b[i])  # [ACT-13]
            to_b[i] = to[i] * a[i] * sigmoid_slope(b[i])
            bad |= is_bad(to[i])
        flags[worker] |= bad


@parallel_jit
def _backward_shared(workers, x, g, grad_x, flags):
    for worker in prange(workers):
        _backward(worker, workers, x, g, grad_x, flags)


def _examples(rng):
    for shape, axis in [((2,), -1), ((3, 6), -1), ((2, 4, 17), -2), ((3, 2, 1), -2)]:
        x = 2 * rng.standard_normal(shape)
        yield Example((x,), {"axis": axis}, f"shape {shape}, axis {axis}")


register(
    "glu",
    glu_fwd,
    glu_vjp,
    reference=reference.glu.glu,
    examples=_examples,
    arguments=("x",),
)
