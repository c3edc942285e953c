"""The state after the last sample, as a sum over the input."""

import numpy as np


def terminal_state(A_bar, B_bar, u, x0=None):
    """``x_last = A_bar^L x0 + sum_t A_bar^(L-1-t) B_bar u_t`` [STATE-1]."""
    batch, H, L = u.shape
    A_bar, B_bar = np.broadcast_arrays(A_bar, B_bar, np.ones((H, 1)))[:2]
    x = np.zeros((batch, *A_bar.shape), complex)
    if x0 is not None:
        x += A_bar**L * x0
    for t in range(L):
        x += A_bar ** (L - 1 - t) * B_bar * u[:, :, t, None]
    return x


def terminal_state_vjp(A_bar, B_bar, u, x0, grad_x_last):
    """Gradients to A_bar, B_bar, u and x0 as sums of lambda [STATE-2 to 5], for weights (H, N)."""
    L = u.shape[-1]
    grad_A, grad_B = np.zeros(A_bar.shape, complex), np.zeros(A_bar.shape, complex)
    grad_u = np.zeros(u.shape, complex)
    for t in range(L):
        lam = np.conj(A_bar) ** (L - 1 - t) * grad_x_last
        before = terminal_state(A_bar, B_bar, u[..., :t], x0)  # x_{t-1}
        grad_A += np.sum(lam * np.conj(before), axis=0)
        grad_B += np.sum(lam * np.conj(u[:, :, t, None]), axis=0)
        grad_u[..., t] = np.sum(np.conj(B_bar) * lam, axis=-1)
    return grad_A, grad_B, grad_u, np.conj(A_bar) ** L * grad_x_last
