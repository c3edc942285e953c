"""Binary cross-entropy from logits, a mean over all elements [BCE-1].

    L = (1 / W) sum w l,    l = max(z, 0) - z t + log(1 + exp(-|z|))
    grad_z = w ((1 - t) sigma(z) - t sigma(-z)) / W,    W = sum w

Nothing overflows and no probability is clamped, so that value and gradient belong to each other.
Derivation: docs/derivations/cross_entropy.md. Cost: one pass, one exponential an element.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops._weights import weights_of
from ssm_manual.ops.registry import Example, register

__all__ = ["binary_cross_entropy", "binary_cross_entropy_fwd", "binary_cross_entropy_vjp"]


def binary_cross_entropy(logits, targets, *, weights=None):
    """``(1 / W) sum w (max(z, 0) - z t + log1p(exp(-|z|)))`` [BCE-1].

    That is ``-t log p - (1 - t) log(1 - p)`` with ``p = sigma(z) = 1 / (1 + exp(-z))``.

    Parameters
    ----------
    logits : array_like
        z, any shape with at least one element, real: log-odds in natural units.
    targets : array_like
        t, of that shape and precision, each in [0, 1].
    weights : array_like, optional
        w, of that shape and precision, none negative and not all zero: a mask, or how much each
        element counts. None: all alike. Not differentiated.

    Returns
    -------
    numpy floating
        Scalar of the arguments' precision, in nats.

    Raises
    ------
    ValueError
        If a shape or precision differs, an array is empty, complex or not finite, a target lies
        outside [0, 1], or a weight is negative or all are zero.

    Notes
    -----
    The sum is taken in double precision. Saved for the backward pass: the gradient but for its
    factor, and the logits.

    Examples
    --------
    >>> float(binary_cross_entropy([0.0, 1000.0], [1.0, 1.0]).round(4))  # (log 2 + 0) / 2
    0.3466
    >>> float(binary_cross_entropy([0.0, -1000.0], [1.0, 1.0]).round(4))
    500.3466
    """
    return binary_cross_entropy_fwd(logits, targets, weights=weights)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    error: np.ndarray  # w (sigma(z) - t): saved, since its exponentials are the forward pass's
    logits: np.ndarray  # gradient to the targets, but for its sign and factor
    weights: np.ndarray | None
    total: float


@_validate.sound("loss")
def binary_cross_entropy_fwd(logits, targets, *, weights=None):
    """`binary_cross_entropy` and its residuals."""
    z, t = _validate.arrays(logits=logits, targets=targets, real=("logits", "targets"))
    _validate.shape("targets", t, z.shape, meaning="the logits'")
    if z.size == 0:
        raise ValueError(f"logits has shape {z.shape}; it must not be empty")
    if t.min() < 0 or t.max() > 1:
        wrong = t.min() if t.min() < 0 else t.max()
        raise ValueError(f"targets holds {wrong}; every target must be from 0 to 1")
    w, total = weights_of(weights, z.shape, z.dtype)
    decay = np.exp(-np.abs(z))  # at most 1 [BCE-1]
    likely, unlikely = 1 / (1 + decay), decay / (1 + decay)  # sigma(|z|) and sigma(-|z|)
    up = z >= 0
    # max(z, 0) - z t, without the difference of two numbers that are nearly one
    losses = np.where(up, 1 - t, t) * np.abs(z) + np.log1p(decay)
    error = (1 - t) * np.where(up, likely, unlikely) - t * np.where(up, unlikely, likely)  # [BCE-3]
    if w is not None:
        losses, error = w * losses, w * error
    loss = z.dtype.type(np.sum(losses, dtype=float) / total)
    return loss, Residuals(error, z, w, total)


@_validate.sound("grad_logits", "grad_targets")
def binary_cross_entropy_vjp(residuals, grad_loss):
    """Gradients to logits and targets [BCE-2, 3]."""
    error, z, w, total = residuals
    scale = _validate.cotangent("grad_loss", grad_loss, np.zeros((), z.dtype))
    scale = z.dtype.type(float(scale) / total)
    return scale * error, -scale * (z if w is None else w * z)


def _examples(rng):
    for shape in [(1,), (7,), (3, 2, 5)]:
        args = 3 * rng.standard_normal(shape), rng.uniform(0.1, 0.9, shape)
        yield Example(args, {}, f"{shape}")
        weights = rng.random(shape) + (0 if shape == (1,) else -0.3)
        yield Example(args, {"weights": np.maximum(weights, 0)}, f"weights, {shape}")
    bits = rng.integers(0, 2, (4, 6)).astype(float)
    args = 30 * rng.standard_normal((4, 6)), 0.1 + 0.8 * bits
    yield Example(args, {}, "sure of itself: logits of 30")


register(
    "binary_cross_entropy",
    binary_cross_entropy_fwd,
    binary_cross_entropy_vjp,
    reference=reference.binary_cross_entropy.binary_cross_entropy,
    examples=_examples,
    arguments=("logits", "targets"),
)
