"""Cross-entropy of a softmax, one position at a time, from probabilities."""

import numpy as np


def softmax_cross_entropy(logits, labels, *, axis=-1, weights=None):
    """Mean of ``-log p_label`` with ``p = exp(z) / sum exp(z)``."""
    weights = np.ones(labels.shape) if weights is None else weights
    rows = np.moveaxis(logits, axis, -1).reshape(-1, logits.shape[axis])
    total = 0.0
    for z, label, w in zip(rows, labels.ravel(), weights.ravel()):
        p = np.exp(z) / np.sum(np.exp(z))
        total += w * -np.log(p[label])
    return total / weights.sum()


def softmax_cross_entropy_vjp(logits, labels, grad_loss, *, axis=-1, weights=None):
    """Gradient to the logits, ``w (p - onehot(label)) / W`` times grad_loss; None for labels."""
    weights = np.ones(labels.shape) if weights is None else weights
    moved = np.moveaxis(logits, axis, -1)
    grad = np.zeros(moved.shape)
    for position in np.ndindex(labels.shape):
        p = np.exp(moved[position]) / np.sum(np.exp(moved[position]))
        p[labels[position]] -= 1
        grad[position] = grad_loss * weights[position] / weights.sum() * p
    return np.moveaxis(grad, -1, axis), None
