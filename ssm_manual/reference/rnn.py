"""A plain recurrent network, one item and one time after the other."""

import numpy as np


def rnn(x, h0, W_in, W_h, bias, *, nonlinearity="tanh", lengths=None):
    """The states of all times, and the last one of each item."""
    batch, _, L = x.shape
    H = len(W_h)
    h, last = np.zeros((batch, H, L)), np.zeros((batch, H))
    for b in range(batch):
        state = np.zeros(H) if h0 is None else h0[b]
        for t in range(L if lengths is None else lengths[b]):
            z = W_in @ x[b, :, t] + W_h @ state + (0 if bias is None else bias)
            state = np.tanh(z) if nonlinearity == "tanh" else np.maximum(z, 0)
            h[b, :, t] = state
        last[b] = state
    return h, last


def rnn_vjp(x, h0, W_in, W_h, bias, grad_h, grad_h_last, *, nonlinearity="tanh", lengths=None):
    """Back-propagation through time: from the last sample to the first."""
    h, _ = rnn(x, h0, W_in, W_h, bias, nonlinearity=nonlinearity, lengths=lengths)
    batch, _, L = x.shape
    grad_x, grad_h0 = np.zeros(x.shape), np.zeros((batch, len(W_h)))
    grad_W_in, grad_W_h, grad_bias = np.zeros(W_in.shape), np.zeros(W_h.shape), np.zeros(len(W_h))
    for b in range(batch):
        grad = grad_h_last[b]
        for t in reversed(range(L if lengths is None else lengths[b])):
            now = h[b, :, t]
            before = h[b, :, t - 1] if t else (np.zeros(len(W_h)) if h0 is None else h0[b])
            slope = 1 - now**2 if nonlinearity == "tanh" else (now > 0)
            grad_z = slope * (grad_h[b, :, t] + grad)
            grad_x[b, :, t] = W_in.T @ grad_z
            grad_W_in += np.outer(grad_z, x[b, :, t])
            grad_W_h += np.outer(grad_z, before)
            grad_bias += grad_z
            grad = W_h.T @ grad_z
        grad_h0[b] = grad
    return (
        grad_x,
        None if h0 is None else grad_h0,
        grad_W_in,
        grad_W_h,
        None if bias is None else grad_bias,
    )
