"""Binary cross-entropy, one element at a time, from probabilities."""

import numpy as np


def binary_cross_entropy(logits, targets, *, weights=None):
    """Mean of ``-t log p - (1 - t) log(1 - p)`` with ``p = 1 / (1 + exp(-z))``."""
    weights = np.ones(logits.shape) if weights is None else weights
    total = 0.0
    for z, t, w in zip(logits.ravel(), targets.ravel(), weights.ravel()):
        total += w * (t * np.log(1 + np.exp(-z)) + (1 - t) * np.log(1 + np.exp(z)))
    return total / weights.sum()


def binary_cross_entropy_vjp(logits, targets, grad_loss, *, weights=None):
    """Gradients to logits, ``w (p - t) / W``, and to targets, ``-w z / W``, times grad_loss."""
    weights = np.ones(logits.shape) if weights is None else weights
    scale = grad_loss * weights / weights.sum()
    return scale * (1 / (1 + np.exp(-logits)) - targets), -scale * logits
