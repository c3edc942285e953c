"""The gated linear unit, halves taken apart and put together again."""

import numpy as np

from ssm_manual.reference.activations import sigmoid


def glu(x, *, axis=-1):
    """The first half times the sigmoid of the second."""
    first, second = np.split(x, 2, axis=axis)
    return first * sigmoid(second)


def glu_vjp(x, grad_y, *, axis=-1):
    """``s(b) g`` to the first half and ``a s(b) s(-b) g`` to the second."""
    first, second = np.split(x, 2, axis=axis)
    to_first = sigmoid(second) * grad_y
    to_second = first * sigmoid(second) * sigmoid(-second) * grad_y
    return (np.concatenate([to_first, to_second], axis=axis),)
