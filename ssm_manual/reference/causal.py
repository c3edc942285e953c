"""Causal convolution by its definition."""

import numpy as np


def causal(u, K):
    """``y_t = sum_{j <= t} K_j u_{t-j}`` along the last axis; the leading axes broadcast."""
    L = u.shape[-1]
    shape = np.broadcast_shapes(u.shape[:-1], K.shape[:-1])
    u, K = np.broadcast_to(u, (*shape, L)), np.broadcast_to(K, (*shape, K.shape[-1]))
    y = np.zeros((*shape, L), np.result_type(u, K))
    for t in range(L):
        for j in range(min(t + 1, K.shape[-1])):
            y[..., t] += K[..., j] * u[..., t - j]
    return y


def causal_vjp(u, K, grad_y):
    """Correlations [CONV-3] and [CONV-4], before the sum over broadcast axes."""
    L, M = u.shape[-1], K.shape[-1]
    grad_u = np.zeros((*grad_y.shape[:-1], L), complex)
    grad_K = np.zeros((*grad_y.shape[:-1], M), complex)
    for t in range(L):
        for j in range(min(t + 1, M)):
            grad_u[..., t - j] += np.conj(K[..., j]) * grad_y[..., t]
            grad_K[..., j] += grad_y[..., t] * np.conj(u[..., t - j])
    return grad_u, grad_K
