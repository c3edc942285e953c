"""GELU, one number at a time."""

import math

import numpy as np


def gelu(x):
    """``x Phi(x)``."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = x[index] * math.erfc(-x[index] / math.sqrt(2)) / 2
    return y


def gelu_vjp(x, grad_y):
    """``(Phi(x) + x phi(x)) g``."""
    grad = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        value = float(x[index])
        whole = math.erfc(-value / math.sqrt(2)) / 2
        density = math.exp(-value * value / 2) / math.sqrt(2 * math.pi)
        grad[index] = (whole + value * density) * grad_y[index]
    return (grad,)
