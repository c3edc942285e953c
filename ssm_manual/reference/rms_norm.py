"""RMS norm, one vector at a time."""

import numpy as np


def rms_norm(x, scale, *, axis=-1, eps=1e-5):
    """``x / sqrt(mean(x^2) + eps) scale``."""
    vectors = np.moveaxis(x, axis, -1)
    y = np.zeros(vectors.shape)
    for index in np.ndindex(vectors.shape[:-1]):
        v = vectors[index]
        y[index] = v / np.sqrt(sum(v**2) / len(v) + eps) * scale
    return np.moveaxis(y, -1, axis)


def rms_norm_vjp(x, scale, grad_y, *, axis=-1, eps=1e-5):
    """Gradients to x and scale: the Jacobian of every vector, written out."""
    vectors, cotangents = np.moveaxis(x, axis, -1), np.moveaxis(grad_y, axis, -1)
    n = vectors.shape[-1]
    grad_x, grad_scale = np.zeros(vectors.shape), np.zeros(n)
    for index in np.ndindex(vectors.shape[:-1]):
        v, g = vectors[index], cotangents[index]
        size = np.sqrt((v**2).mean() + eps)
        jacobian = np.eye(n) / size - np.outer(v, v) / (n * size**3)
        grad_x[index] = jacobian.T @ (g * scale)
        grad_scale += g * v / size
    return np.moveaxis(grad_x, -1, axis), grad_scale
