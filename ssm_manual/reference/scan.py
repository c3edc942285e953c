"""The recurrence and back-propagation through time, one channel and one step at a time."""

import numpy as np


def scan(A_bar, B_bar, C, D, u, x0=None, *, real=True):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = 2 Re(C x_t) + D u_t`` (or ``C x_t + D u_t``)."""
    batch, H, L = u.shape
    A_bar, B_bar, C, D = _every_channel(A_bar, B_bar, C, D, H)
    x_last = np.zeros((batch, *A_bar.shape), complex)
    if x0 is not None:
        x_last[:] = x0
    y = np.zeros(u.shape, u.dtype if real else x_last.dtype)
    for b in range(batch):
        for h in range(H):
            x = x_last[b, h]
            for t in range(L):
                x = A_bar[h] * x + B_bar[h] * u[b, h, t]
                out = np.sum(C[h] * x)
                y[b, h, t] = 2 * out.real if real else out
                if D is not None:
                    y[b, h, t] += D[h] * u[b, h, t]
            x_last[b, h] = x
    return y, x_last


def scan_vjp(A_bar, B_bar, C, D, u, x0, grad_y, grad_x_last, *, real=True, horizon=None):
    """Gradients of `scan`, all states stored; a horizon is summed as it is written [TRUNC-1].

    Returns gradients to A_bar, B_bar, C, D, u, x0 (complex where the argument is real: the caller
    takes the real part).
    """
    batch, H, L = u.shape
    A_bar, B_bar, C, D = _every_channel(A_bar, B_bar, C, D, H)
    N = A_bar.shape[1]
    horizon = L if horizon is None else horizon
    gain = 2 if real else 1
    grad_A, grad_B, grad_C = (np.zeros((H, N), complex) for _ in range(3))
    grad_D = np.zeros(H, complex)
    grad_u = np.zeros((batch, H, L), complex)
    grad_x0 = np.zeros((batch, H, N), complex)
    for b in range(batch):
        for h in range(H):
            x = np.zeros((L + 1, N), complex)  # x[t + 1] is x_t; x[0] is the initial state
            if x0 is not None:
                x[0] = x0[b, h]
            source = np.zeros((L, N), complex)
            for t in range(L):
                x[t + 1] = A_bar[h] * x[t] + B_bar[h] * u[b, h, t]
                source[t] = gain * np.conj(C[h]) * grad_y[b, h, t]
            if L == 0:
                grad_x0[b, h] = grad_x_last[b, h]
                continue
            source[L - 1] += grad_x_last[b, h]
            for t in range(L):
                lam = np.zeros(N, complex)
                for j in range(min(horizon, L - t)):
                    lam = lam + np.conj(A_bar[h]) ** j * source[t + j]
                e = grad_y[b, h, t]
                grad_A[h] += lam * np.conj(x[t])
                grad_B[h] += lam * np.conj(u[b, h, t])
                grad_C[h] += gain * e * np.conj(x[t + 1])
                grad_u[b, h, t] = np.sum(np.conj(B_bar[h]) * lam)
                if D is not None:
                    grad_D[h] += e * np.conj(u[b, h, t])
                    grad_u[b, h, t] += np.conj(D[h]) * e
                if t == 0:
                    grad_x0[b, h] = np.conj(A_bar[h]) * lam
    return grad_A, grad_B, grad_C, grad_D, grad_u, grad_x0


def _every_channel(A_bar, B_bar, C, D, H):
    """Weights that channels share, written out for each channel."""
    shape = np.broadcast_shapes((H, 1), np.shape(A_bar), np.shape(B_bar), np.shape(C))
    A_bar, B_bar, C = (np.broadcast_to(a, shape) for a in (A_bar, B_bar, C))
    return A_bar, B_bar, C, None if D is None else np.broadcast_to(D, H)
