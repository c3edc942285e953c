"""Linear regression, one row at a time. Scalars keep the arrays' precision throughout."""

import numpy as np


def predict(weights, bias, X):
    """``p_i = sum_k w_k x_ik + b``, the products summed from the first, the bias last."""
    out = np.empty(len(X), X.dtype)
    for i in range(len(X)):
        total = weights[0] * X[i, 0]
        for k in range(1, weights.size):
            total = total + weights[k] * X[i, k]
        out[i] = total + bias
    return out


def loss_and_grads(weights, bias, X, y, l2=0.0):
    """``sum_i e_i^2 / (2 n) + (l2 / 2) |w|^2`` and its gradients, in double precision."""
    n, F = X.shape
    loss, grad_weights, grad_bias = 0.0, np.zeros(F), 0.0
    for i in range(n):
        e = predict(weights, bias, X[i : i + 1])[0] - y[i]
        loss += float(e) ** 2 / (2 * n)
        for k in range(F):
            grad_weights[k] += float(e) * float(X[i, k]) / n
        grad_bias += float(e) / n
    for k in range(F):
        loss += l2 / 2 * float(weights[k]) ** 2
        grad_weights[k] += l2 * float(weights[k])
    return loss, grad_weights, grad_bias


def per_sample_epoch(weights, bias, X, y, rate, l2=0.0):
    """One update a row, in order: ``w -= rate e x + rate l2 w``, ``b -= rate e``.

    Returns the new weights and bias, and mean e^2 as the rows were met.
    """
    real = X.dtype.type
    weights, bias = weights.copy(), real(bias)
    rate, decay = real(rate), real(rate) * real(l2)
    total = 0.0
    for i in range(len(X)):
        e = predict(weights, bias, X[i : i + 1])[0] - y[i]
        total += float(e) * float(e)
        step = rate * e
        for k in range(weights.size):
            move = step * X[i, k]
            if decay != 0:
                move = move + decay * weights[k]
            weights[k] = weights[k] - move
        bias = bias - step
    return weights, bias, total / len(X)


def full_batch_epoch(weights, bias, X, y, rate, l2=0.0):
    """One update by the mean gradient, which is summed in double precision, row after row.

    Returns the new weights and bias, and mean e^2 before the update.
    """
    real = X.dtype.type
    n, F = X.shape
    total, grad_weights, grad_bias = 0.0, [0.0] * F, 0.0
    for i in range(n):
        e = predict(weights, bias, X[i : i + 1])[0] - y[i]
        total += float(e) * float(e)
        for k in range(F):
            grad_weights[k] += float(e) * float(X[i, k])
        grad_bias += float(e)
    rate, l2 = float(real(rate)), float(real(l2))
    weights = weights.copy()
    for k in range(F):
        weights[k] = weights[k] - real(rate * (grad_weights[k] / n + l2 * float(weights[k])))
    return weights, real(bias) - real(rate * (grad_bias / n)), total / n
