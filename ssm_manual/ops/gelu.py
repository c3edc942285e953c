"""The Gaussian error linear unit, exact: ``gelu(x) = x Phi(x)`` [ACT-2].

Phi is the standard normal distribution. Derivation: docs/derivations/activations.md. Cost: one
pass forward, one backward.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import _pointwise
from ssm_manual.ops.registry import Example, register

__all__ = ["gelu", "gelu_fwd", "gelu_vjp"]


def gelu(x):
    """``x Phi(x) = x erfc(-x / sqrt 2) / 2`` [ACT-2].

    Parameters
    ----------
    x : array_like
        Real, any shape.

    Returns
    -------
    ndarray
        Of the shape and precision of x.

    Raises
    ------
    ValueError
        If x is complex, not of floating point or not finite.

    Notes
    -----
    Saved for the backward pass: x itself, which is not copied where it is contiguous. In single
    precision the relative error is at most 8 units of 2^-24, in the far negative tail too, down to
    results of 1e-37; below, digits are lost, then all. In double precision it is that of the
    machine's erfc at an argument that is rounded.

    References
    ----------
    Hendrycks and Gimpel (2016), Gaussian error linear units, eq. 1; not its approximation by tanh,
    which is wrong by up to 5e-4.

    Examples
    --------
    >>> gelu([-1.0, 0.0, 1.0]).round(4).tolist()
    [-0.1587, 0.0, 0.8413]
    """
    return gelu_fwd(x)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    x: np.ndarray  # the input: Phi and its density come from one exponential, formed again


@_validate.sound("y")
def gelu_fwd(x):
    """`gelu` and its residuals."""
    x = _pointwise.argument(x)
    return _pointwise.forward(_pointwise.GELU, x), Residuals(x)


@_validate.sound("grad_x")
def gelu_vjp(residuals, grad_y):
    """The gradient to x, ``(Phi(x) + x phi(x)) g`` [ACT-6]."""
    return (_pointwise.backward(_pointwise.GELU, residuals.x, grad_y),)


def _examples(rng):
    for shape in [(), (1,), (3, 2, 17)]:
        yield Example((2 * rng.standard_normal(shape),), {}, f"shape {shape}")
    yield Example((np.array([-8.0, -3.0, 0.0, 3.0, 9.0]),), {}, "far from zero")


register(
    "gelu",
    gelu_fwd,
    gelu_vjp,
    reference=reference.gelu.gelu,
    examples=_examples,
    arguments=("x",),
)
