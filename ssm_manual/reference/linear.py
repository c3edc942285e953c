"""The dense map, one place at a time."""

import numpy as np


def linear(x, weight, bias, *, axis=-1):
    """``W x + bias`` of the vectors along ``axis``."""
    vectors = np.moveaxis(x, axis, -1)
    y = np.zeros((*vectors.shape[:-1], len(weight)))
    for index in np.ndindex(vectors.shape[:-1]):
        for o in range(len(weight)):
            y[index][o] = sum(weight[o] * vectors[index]) + (0 if bias is None else bias[o])
    return np.moveaxis(y, -1, axis)


def linear_vjp(x, weight, bias, grad_y, *, axis=-1):
    """``W^T g``, ``sum g x^T`` and ``sum g`` over all places."""
    vectors, cotangents = np.moveaxis(x, axis, -1), np.moveaxis(grad_y, axis, -1)
    grad_x, grad_weight = np.zeros(vectors.shape), np.zeros(weight.shape)
    grad_bias = np.zeros(len(weight))
    for index in np.ndindex(vectors.shape[:-1]):
        grad_x[index] = weight.T @ cotangents[index]
        grad_weight += np.outer(cotangents[index], vectors[index])
        grad_bias += cotangents[index]
    return np.moveaxis(grad_x, -1, axis), grad_weight, None if bias is None else grad_bias
