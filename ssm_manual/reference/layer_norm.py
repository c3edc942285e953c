"""Layer norm, one vector at a time."""

import numpy as np


def layer_norm(x, scale, shift, *, axis=-1, eps=1e-5):
    """``(x - mean) / sqrt(variance + eps) scale + shift``."""
    vectors = np.moveaxis(x, axis, -1)
    y = np.zeros(vectors.shape)
    for index in np.ndindex(vectors.shape[:-1]):
        v = vectors[index]
        mean = sum(v) / len(v)
        variance = sum((v - mean) ** 2) / len(v)
        y[index] = (v - mean) / np.sqrt(variance + eps) * scale + shift
    return np.moveaxis(y, -1, axis)


def layer_norm_vjp(x, scale, shift, grad_y, *, axis=-1, eps=1e-5):
    """Gradients to x, scale and shift: the Jacobian of every vector, written out."""
    vectors, cotangents = np.moveaxis(x, axis, -1), np.moveaxis(grad_y, axis, -1)
    n = vectors.shape[-1]
    grad_x, grad_scale, grad_shift = np.zeros(vectors.shape), np.zeros(n), np.zeros(n)
    for index in np.ndindex(vectors.shape[:-1]):
        v, g = vectors[index], cotangents[index]
        centred = v - v.mean()
        spread = np.sqrt((centred**2).mean() + eps)
        jacobian = (np.eye(n) - 1 / n) / spread - np.outer(centred, centred) / (n * spread**3)
        grad_x[index] = jacobian.T @ (g * scale)
        grad_scale += g * centred / spread
        grad_shift += g
    return np.moveaxis(grad_x, -1, axis), grad_scale, grad_shift
