"""Cross-entropy of a softmax from logits, a mean over all positions [SOFTMAX-1].

    L = (1 / W) sum w l,    l = log(sum_k exp z_k) - z_label
    grad_z = w (softmax(z) - onehot(label)) / W,    W = sum w

The logarithm is taken with the largest logit in front and left out of the sum, so that nothing
overflows and a small loss keeps its digits. Derivation: docs/derivations/cross_entropy.md. Cost:
one pass, one exponential a logit.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops._weights import weights_of
from ssm_manual.ops.registry import Example, register

__all__ = ["softmax_cross_entropy", "softmax_cross_entropy_fwd", "softmax_cross_entropy_vjp"]


def softmax_cross_entropy(logits, labels, *, axis=-1, weights=None):
    """``(1 / W) sum w (log sum_k exp z_k - z_label)`` [SOFTMAX-1].

    Parameters
    ----------
    logits : array_like
        z, real: any shape, with the classes along one axis.
    labels : array_like of int
        Of that shape without the axis of classes; each from 0 to the number of classes less one,
        where the weight is zero too. Not differentiated.
    axis : int
        The axis of the classes: -1, or 1 for the output ``(batch, classes, L)`` of a layer.
    weights : array_like, optional
        w, of the labels' shape and the logits' precision, none negative and not all zero: a mask,
        or how much each position counts. None: all alike. Not differentiated.

    Returns
    -------
    numpy floating
        Scalar of the logits' precision, in nats.

    Raises
    ------
    ValueError
        If a shape or precision does not fit, an array is empty, the logits are complex or not
        finite, a label is no integer or names no class, or a weight is negative or all are zero.

    Notes
    -----
    The sum over positions is taken in double precision. Saved for the backward pass: the gradient
    but for its factor.

    Examples
    --------
    >>> float(softmax_cross_entropy([[0.0, 0.0], [1000.0, -1000.0]], [0, 0]).round(4))
    0.3466
    >>> float(softmax_cross_entropy([[0.0, 0.0], [1000.0, -1000.0]], [0, 1], weights=[0.0, 1.0]))
    2000.0
    """
    return softmax_cross_entropy_fwd(logits, labels, axis=axis, weights=weights)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    error: np.ndarray  # w (softmax - onehot): saved, since its exponentials are the forward pass's
    total: float


@_validate.sound("loss")
def softmax_cross_entropy_fwd(logits, labels, *, axis=-1, weights=None):
    """`softmax_cross_entropy` and its residuals."""
    z = _validate.array("logits", logits, real=True)
    if z.ndim == 0 or z.size == 0:
        raise ValueError(f"logits has shape {z.shape}; it must have classes and not be empty")
    axis = _validate.integer("axis", axis, minimum=-z.ndim, maximum=z.ndim - 1) % z.ndim
    positions = z.shape[:axis] + z.shape[axis + 1 :]
    labels = np.expand_dims(_labels(labels, positions, z.shape[axis]), axis)
    w, total = weights_of(weights, positions, z.dtype)

    largest = np.expand_dims(np.argmax(z, axis=axis), axis)
    top = np.take_along_axis(z, largest, axis)
    with np.errstate(over="ignore"):  # a difference of -inf is a probability of zero
        p = np.exp(z - top)
    np.put_along_axis(p, largest, 0, axis)  # its own term is 1, and stays outside [SOFTMAX-2]
    rest = np.sum(p, axis=axis, keepdims=True)
    losses = (top - np.take_along_axis(z, labels, axis)) + np.log1p(rest)
    np.put_along_axis(p, largest, 1, axis)
    p /= 1 + rest
    np.put_along_axis(p, labels, 0, axis)
    np.put_along_axis(p, labels, -np.sum(p, axis=axis, keepdims=True), axis)  # p - 1 [SOFTMAX-4]
    if w is not None:
        w = np.expand_dims(w, axis)
        losses, p = w * losses, w * p
    return z.dtype.type(np.sum(losses, dtype=float) / total), Residuals(p, total)


@_validate.sound("grad_logits", "grad_labels")
def softmax_cross_entropy_vjp(residuals, grad_loss):
    """Gradient to the logits [SOFTMAX-3]; None for the labels."""
    error, total = residuals
    scale = _validate.cotangent("grad_loss", grad_loss, np.zeros((), error.dtype))
    return error.dtype.type(float(scale) / total) * error, None


def _labels(labels, shape, classes):
    given = _validate.integers("labels", labels)
    _validate.shape("labels", given, shape, meaning="the logits' without the axis of classes")
    if given.min() < 0 or given.max() >= classes:
        wrong = given.min() if given.min() < 0 else given.max()
        raise ValueError(f"labels holds {wrong}; every label must be from 0 to {classes - 1}")
    return given.astype(np.intp)


def _examples(rng):
    for shape, axis in [((1, 4), -1), ((5,), 0), ((2, 5, 7), 1), ((2, 3, 1), -1), ((3, 2, 6), -1)]:
        labels = rng.integers(0, shape[axis], np.delete(shape, axis))
        args = 2 * rng.standard_normal(shape), labels
        yield Example(args, {"axis": axis}, f"{shape}, classes along {axis}")
    weights = np.maximum(rng.random((3, 2)) - 0.3, 0) + np.eye(3, 2)
    yield Example(args, {"weights": weights}, "weights")
    yield Example((20 * args[0], labels), {}, "sure of itself: logits of 40")


register(
    "softmax_cross_entropy",
    softmax_cross_entropy_fwd,
    softmax_cross_entropy_vjp,
    reference=reference.softmax_cross_entropy.softmax_cross_entropy,
    examples=_examples,
    arguments=("logits", "labels"),
)
