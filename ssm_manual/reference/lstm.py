"""A long short-term memory, one item and one time after the other."""

import numpy as np

from ssm_manual.reference.activations import sigmoid


def lstm(x, h0, c0, W_in, W_h, bias, *, lengths=None):
    """The outputs of all times, and the last output and cell of each item."""
    y, h, c, _ = _by_steps(x, h0, c0, W_in, W_h, bias, lengths)
    return y, h, c


def lstm_vjp(x, h0, c0, W_in, W_h, bias, grad_y, grad_h, grad_c, *, lengths=None):
    """Back-propagation through time: from the last sample to the first."""
    _, _, _, steps = _by_steps(x, h0, c0, W_in, W_h, bias, lengths)
    grad_x, grad_W_in = np.zeros(x.shape), np.zeros(W_in.shape)
    grad_W_h, grad_bias = np.zeros(W_h.shape), np.zeros(len(W_h))
    grad_h, grad_c = np.array(grad_h), np.array(grad_c)
    for b, t, h_before, c_before, (i, f, g, o), c in reversed(steps):
        to_h = grad_y[b, :, t] + grad_h[b]
        to_c = grad_c[b] + to_h * o * (1 - np.tanh(c) ** 2)
        grad_z = np.concatenate(
            [
                to_c * g * i * (1 - i),
                to_c * c_before * f * (1 - f),
                to_c * i * (1 - g**2),
                to_h * np.tanh(c) * o * (1 - o),
            ]
        )
        grad_x[b, :, t] = W_in.T @ grad_z
        grad_W_in += np.outer(grad_z, x[b, :, t])
        grad_W_h += np.outer(grad_z, h_before)
        grad_bias += grad_z
        grad_h[b], grad_c[b] = W_h.T @ grad_z, to_c * f
    return (
        grad_x,
        None if h0 is None else grad_h,
        None if c0 is None else grad_c,
        grad_W_in,
        grad_W_h,
        None if bias is None else grad_bias,
    )


def _by_steps(x, h0, c0, W_in, W_h, bias, lengths):
    batch, _, L = x.shape
    H = W_h.shape[1]
    y, last_h, last_c, steps = np.zeros((batch, H, L)), *np.zeros((2, batch, H)), []
    for b in range(batch):
        h = np.zeros(H) if h0 is None else h0[b]
        c = np.zeros(H) if c0 is None else c0[b]
        for t in range(L if lengths is None else lengths[b]):
            z = W_in @ x[b, :, t] + W_h @ h + (0 if bias is None else bias)
            i, f, o = sigmoid(z[:H]), sigmoid(z[H : 2 * H]), sigmoid(z[3 * H :])
            g = np.tanh(z[2 * H : 3 * H])
            h_before, c_before = h, c
            c = f * c_before + i * g
            h = o * np.tanh(c)
            y[b, :, t] = h
            steps.append((b, t, h_before, c_before, (i, f, g, o), c))
        last_h[b], last_c[b] = h, c
    return y, last_h, last_c, steps
