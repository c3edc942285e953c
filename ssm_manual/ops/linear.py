"""A dense map of the features: ``y = W x + bias`` at every place [LINEAR-1].

Derivation: docs/derivations/linear.md. Kernels: `_dense_kernels`. Cost: one matrix product forward,
two backward, on all threads.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import _dense_kernels
from ssm_manual.ops.registry import Example, register

__all__ = ["linear", "linear_fwd", "linear_vjp"]


def linear(x, weight, bias, *, axis=-1):
    """``y = W x + bias`` over one axis, any axes before it [LINEAR-1].

    Parameters
    ----------
    x : array_like
        Real, (..., I) or, with ``axis=-2``, (..., I, L): features before time.
    weight : array_like
        W, (O, I).
    bias : array_like or None
        (O,).
    axis : int
        The axis of the features, -1 or -2.

    Returns
    -------
    ndarray
        (..., O) or (..., O, L).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit or a value is not finite.

    Notes
    -----
    Saved for the backward pass: x and W, not copied where they are contiguous. Weight gradients are
    sums over blocks of 256 places in at most 16 groups, the groups added up in double precision.
    While the call lasts, BLAS runs on one thread in the whole process: the threads are ours, and
    the bits do not depend on their number.

    Examples
    --------
    >>> linear([1.0, 2.0], [[3.0, 0.0], [0.0, 4.0], [1.0, 1.0]], [0.0, 0.0, 0.5]).tolist()
    [3.0, 8.0, 3.5]
    """
    return linear_fwd(x, weight, bias, axis=axis)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    x: np.ndarray  # as the kernels take it
    weight: np.ndarray
    given: tuple  # (x, weight, bias) as they came, for their shapes
    shape: tuple  # of the output
    axis: int


@_validate.sound("y")
def linear_fwd(x, weight, bias, *, axis=-1):
    """`linear` and its residuals."""
    x, weight, bias, given, shape = _dense_kernels.arguments(x, weight, bias, axis, 1)
    y = np.empty(shape, x.dtype)
    nothing = np.empty((0, 0, 0), x.dtype)
    z = _dense_kernels.blocks(y, axis)
    if _dense_kernels.forward(x, weight, bias, axis, z, nothing):
        _validate.finite_values("x", given[0])
    return y, Residuals(x, weight, given, shape, axis)


@_validate.sound("grad_x", "grad_weight", "grad_bias")
def linear_vjp(residuals, grad_y):
    """Gradients to x [LINEAR-2], weight [LINEAR-3] and bias [LINEAR-4]."""
    x, weight, given, shape, axis = residuals
    like = _validate.stand_in(shape, x.dtype)
    g = _validate.plain(_validate.cotangent("grad_y", grad_y, like, finite=False))
    nothing = np.empty((0, 0, 0), x.dtype)
    *grads, bad = _dense_kernels.backward(x, weight, axis, nothing, _dense_kernels.blocks(g, axis))
    if bad:
        _validate.finite_values("grad_y", g)
    return grads[0].reshape(given[0].shape), grads[1], None if given[2] is None else grads[2]


def _examples(rng):
    linear = (("x", "bias"), ("weight", "bias"))
    for shape, axis in [((3,), -1), ((2, 3), -1), ((2, 2, 3), -1), ((2, 3, 5), -2), ((3, 1), -2)]:
        args = rng.standard_normal(shape), rng.standard_normal((4, 3)), rng.standard_normal(4)
        yield Example(args, {"axis": axis}, f"x {shape}, axis {axis}", linear)
    args = rng.standard_normal((2, 3, 17)), rng.standard_normal((2, 3)), None
    yield Example(args, {"axis": -2}, "no bias", (("x",), ("weight",)))
    args = rng.standard_normal((600, 2)), rng.standard_normal((2, 2)), rng.standard_normal(2)
    yield Example(args, {}, "three blocks", linear)


register(
    "linear",
    linear_fwd,
    linear_vjp,
    reference=reference.linear.linear,
    examples=_examples,
    arguments=("x", "weight", "bias"),
)
