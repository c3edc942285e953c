"""Activation functions of one number: ``relu``, ``sigmoid``, ``tanh``.

    relu(x) = max(x, 0)              [ACT-11]
    sigmoid(x) = 1 / (1 + exp(-x))   [ACT-7]
    tanh(x)                          [ACT-9]

All save x: the slope of a sigmoid from its value, s (1 - s), has no digits left where s is near 1.
Derivation: docs/derivations/activations.md. Cost: one pass forward, one backward.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import reference
from ssm_manual.ops import _pointwise
from ssm_manual.ops.registry import Example, register

__all__ = [
    "relu",
    "relu_fwd",
    "relu_vjp",
    "sigmoid",
    "sigmoid_fwd",
    "sigmoid_vjp",
    "tanh",
    "tanh_fwd",
    "tanh_vjp",
]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    x: np.ndarray  # the input, not copied where it is contiguous


def relu(x):
    """``max(x, 0)`` [ACT-11].

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
    The gradient at x = 0 is taken to be zero.

    Examples
    --------
    >>> relu([-1.0, 0.0, 2.0]).tolist()
    [0.0, 0.0, 2.0]
    """
    return relu_fwd(x)[0]


def relu_fwd(x):
    """`relu` and its residuals."""
    return _forward(_pointwise.RELU, x)


def relu_vjp(residuals, grad_y):
    """The gradient to x: g where x > 0, else zero [ACT-11]."""
    return (_pointwise.backward(_pointwise.RELU, residuals.x, grad_y),)


def sigmoid(x):
    """``1 / (1 + exp(-x))`` without overflow [ACT-7].

    Parameters
    ----------
    x : array_like
        Real, any shape and size of numbers.

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
    In single precision the relative error is at most 3 units of 2^-24, of the derivative too; below
    1.2e-38 both are zero.

    Examples
    --------
    >>> sigmoid([-1e4, 0.0, 1e4]).tolist()
    [0.0, 0.5, 1.0]
    """
    return sigmoid_fwd(x)[0]


def sigmoid_fwd(x):
    """`sigmoid` and its residuals."""
    return _forward(_pointwise.SIGMOID, x)


def sigmoid_vjp(residuals, grad_y):
    """The gradient to x, ``exp(-|x|) / (1 + exp(-|x|))^2 g`` [ACT-8]."""
    return (_pointwise.backward(_pointwise.SIGMOID, residuals.x, grad_y),)


def tanh(x):
    """``tanh x`` [ACT-9].

    Parameters
    ----------
    x : array_like
        Real, any shape and size of numbers.

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
    In single precision the relative error is at most 4 units of 2^-24, of the derivative too.

    Examples
    --------
    >>> tanh([-1e4, 0.0, 1e4]).tolist()
    [-1.0, 0.0, 1.0]
    """
    return tanh_fwd(x)[0]


def tanh_fwd(x):
    """`tanh` and its residuals."""
    return _forward(_pointwise.TANH, x)


def tanh_vjp(residuals, grad_y):
    """The gradient to x, ``4 exp(-2 |x|) / (1 + exp(-2 |x|))^2 g`` [ACT-10]."""
    return (_pointwise.backward(_pointwise.TANH, residuals.x, grad_y),)


def _forward(kind, x):
    x = _pointwise.argument(x)
    return _pointwise.forward(kind, x), Residuals(x)


def _examples(rng):
    for shape in [(), (1,), (3, 2, 17)]:
        x = 2 * rng.standard_normal(shape)
        # Away from the corner of relu, so that no difference quotient reaches across it.
        yield Example((x + np.copysign(0.5, x),), {}, f"shape {shape}")
    yield Example((np.array([-15.0, 14.0, -4.0, 1.0]),), {}, "far from zero")


for _name, _fwd, _vjp in [
    ("relu", relu_fwd, relu_vjp),
    ("sigmoid", sigmoid_fwd, sigmoid_vjp),
    ("tanh", tanh_fwd, tanh_vjp),
]:
    register(
        _name,
        _fwd,
        _vjp,
        reference=getattr(reference.activations, _name),
        examples=_examples,
        arguments=("x",),
    )
