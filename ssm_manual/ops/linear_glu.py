"""``glu(linear(x))`` while each block is in the cache.

    z = W x + bias,    y = z_1 sigmoid(z_2)          [LINEAR-5]

z_1 and z_2 are the two halves of z. Apart, the two would write z, read it, and in the backward pass
write and read its gradient, which is the largest array of a block of layers. Derivation:
docs/derivations/linear.md.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import _dense_kernels
from ssm_manual.ops.registry import Example, register

__all__ = ["linear_glu", "linear_glu_fwd", "linear_glu_vjp"]


def linear_glu(x, weight, bias, *, axis=-1):
    """``glu(linear(x, weight, bias, axis), axis)``, the same numbers [LINEAR-5].

    Parameters
    ----------
    x : array_like
        Real, (..., I) or, with ``axis=-2``, (..., I, L): features before time.
    weight : array_like
        W, (2 O, I); the second half of its rows forms the gate.
    bias : array_like or None
        (2 O,).
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
    Saved for the backward pass: x and W, not copied where they are contiguous, and z. Forming z
    again would cost a third more products and save two arrays of the size of y.

    Examples
    --------
    >>> linear_glu([3.0], [[1.0], [0.0]], None).tolist()
    [1.5]
    """
    return linear_glu_fwd(x, weight, bias, axis=axis)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    x: np.ndarray  # as the kernels take it
    weight: np.ndarray
    z: np.ndarray  # before the gate: saved, since a matrix product costs more than reading it
    given: tuple  # (x, weight, bias) as they came, for their shapes
    shape: tuple  # of the output
    axis: int


@_validate.sound("y")
def linear_glu_fwd(x, weight, bias, *, axis=-1):
    """`linear_glu` and its residuals."""
    x, weight, bias, given, shape = _dense_kernels.arguments(x, weight, bias, axis, 2)
    z = _dense_kernels.blocks(np.empty(shape, x.dtype), axis)
    shape = list(shape)
    shape[axis] //= 2
    y = np.empty(shape, x.dtype)
    if _dense_kernels.forward(x, weight, bias, axis, z, _dense_kernels.blocks(y, axis)):
        _validate.finite_values("x", given[0])
    return y, Residuals(x, weight, z, given, tuple(shape), axis)


@_validate.sound("grad_x", "grad_weight", "grad_bias")
def linear_glu_vjp(residuals, grad_y):
    """Gradients to x, weight and bias [LINEAR-6]."""
    x, weight, z, given, shape, axis = residuals
    like = _validate.stand_in(shape, x.dtype)
    g = _validate.plain(_validate.cotangent("grad_y", grad_y, like, finite=False))
    *grads, bad = _dense_kernels.backward(x, weight, axis, z, _dense_kernels.blocks(g, axis))
    if bad:
        _validate.finite_values("grad_y", g)
    return grads[0].reshape(given[0].shape), grads[1], None if given[2] is None else grads[2]


def _examples(rng):
    for shape, axis in [((3,), -1), ((2, 2, 3), -1), ((2, 3, 5), -2), ((3, 1), -2)]:
        args = rng.standard_normal(shape), rng.standard_normal((4, 3)), rng.standard_normal(4)
        yield Example(args, {"axis": axis}, f"x {shape}, axis {axis}")
    args = rng.standard_normal((2, 3, 17)), rng.standard_normal((2, 3)), None
    yield Example(args, {"axis": -2}, "no bias")


register(
    "linear_glu",
    linear_glu_fwd,
    linear_glu_vjp,
    reference=reference.linear_glu.linear_glu,
    examples=_examples,
    arguments=("x", "weight", "bias"),
)
