"""Losses: ``half_mse`` and ``mse``, real and complex. Two names, never one with a switch.

    half_mse = (1 / 2n) sum |prediction - target|^2,   gradient  e / n        [LOSS-1]
    mse      = (1 / n)  sum |prediction - target|^2,   gradient  2 e / n      [LOSS-2]

n counts all elements, batch and outputs included. Derivation: docs/derivations/loss.md. Cost: one
pass.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops.registry import Example, register

__all__ = ["half_mse", "half_mse_fwd", "half_mse_vjp", "mse", "mse_fwd", "mse_vjp"]


def half_mse(prediction, target):
    """``(1 / 2n) sum |prediction - target|^2`` [LOSS-1].

    Parameters
    ----------
    prediction, target : array_like
        Same shape, at least one element, one precision; real or complex. The unit is yours.

    Returns
    -------
    numpy floating
        Scalar of the arguments' precision.

    Raises
    ------
    ValueError
        If the shapes differ, an array is empty, the precisions differ or a value is not finite.

    Examples
    --------
    >>> float(half_mse([1.0, 3.0], [0.0, 0.0]))
    2.5
    """
    return half_mse_fwd(prediction, target)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    error: np.ndarray  # saved, not recomputed: it is the gradient but for a factor
    target_is_real: bool
    factor: float


@_validate.sound("loss")
def half_mse_fwd(prediction, target):
    """`half_mse` and its residuals."""
    return _forward(prediction, target, 0.5)


@_validate.sound("grad_prediction", "grad_target")
def half_mse_vjp(residuals, grad_loss):
    """Gradients to prediction and target: ``grad_loss e / n`` and its negative [LOSS-1]."""
    return _backward(residuals, grad_loss)


def mse(prediction, target):
    """``(1 / n) sum |prediction - target|^2`` [LOSS-2].

    Parameters
    ----------
    prediction, target : array_like
        Same shape, at least one element, one precision; real or complex.

    Returns
    -------
    numpy floating
        Scalar of the arguments' precision.

    Raises
    ------
    ValueError
        If the shapes differ, an array is empty, the precisions differ or a value is not finite.

    Examples
    --------
    >>> float(mse([1.0, 3.0], [0.0, 0.0]))
    5.0
    """
    return mse_fwd(prediction, target)[0]


@_validate.sound("loss")
def mse_fwd(prediction, target):
    """`mse` and its residuals."""
    return _forward(prediction, target, 1.0)


@_validate.sound("grad_prediction", "grad_target")
def mse_vjp(residuals, grad_loss):
    """Gradients to prediction and target: ``grad_loss 2 e / n`` and its negative [LOSS-2]."""
    return _backward(residuals, grad_loss)


def _forward(prediction, target, factor):
    prediction, target = _validate.arrays(prediction=prediction, target=target)
    _validate.shape("target", target, prediction.shape, meaning="the prediction's")
    if prediction.size == 0:
        raise ValueError(f"prediction has shape {prediction.shape}; it must not be empty")
    if prediction.dtype.kind != "c" and target.dtype.kind == "c":
        raise ValueError(f"target has dtype {target.dtype}; it must be real, as the prediction is")
    error = prediction - target
    # abs() would take a square root only for it to be squared again.
    total = np.sum(error.real**2) + (np.sum(error.imag**2) if error.dtype.kind == "c" else 0)
    loss = error.real.dtype.type(factor * total / error.size)
    return loss, Residuals(error, target.dtype.kind != "c", factor)


def _backward(residuals, grad_loss):
    error, target_is_real, factor = residuals
    scale = _validate.cotangent("grad_loss", grad_loss, np.zeros((), error.real.dtype))
    grad = error * error.real.dtype.type(2 * factor * float(scale) / error.size)
    return grad, -grad.real if target_is_real else -grad  # [COMPLEX-4]


def _examples(rng):
    for shape in [(1,), (7,), (3, 2, 5)]:
        real = rng.standard_normal(shape)
        other = rng.standard_normal(shape)
        yield Example((real, other), {}, f"real {shape}")
        yield Example(
            (real + 1j * other, rng.standard_normal(shape) + 0.5j), {}, f"complex {shape}"
        )
        yield Example((real + 1j * other, other), {}, f"complex, real target {shape}")


for _name, _fwd, _vjp in [
    ("half_mse", half_mse_fwd, half_mse_vjp),
    ("mse", mse_fwd, mse_vjp),
]:
    register(
        _name,
        _fwd,
        _vjp,
        reference=getattr(reference.loss, _name),
        examples=_examples,
        arguments=("prediction", "target"),
    )
