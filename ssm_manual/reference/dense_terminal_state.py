"""The last state of dense systems, as the sum over the input that it is."""

import numpy as np

from ssm_manual.reference import dense_scan


def terminal_state(A_bar, B_bar, u, x0=None):
    """``x_last = A_bar^L x0 + sum_t A_bar^(L-1-t) B_bar u_t``."""
    batch, H, _, L = u.shape
    dtype = np.result_type(*(a for a in (A_bar, B_bar, u, x0) if a is not None))
    x_last = np.zeros((batch, H, A_bar.shape[-1]), dtype)
    for b in range(batch):
        for h in range(H):
            if x0 is not None:
                x_last[b, h] = np.linalg.matrix_power(A_bar[h], L) @ x0[b, h]
            for t in range(L):
                power = np.linalg.matrix_power(A_bar[h], L - 1 - t)
                x_last[b, h] += power @ B_bar[h] @ u[b, h, :, t]
    return x_last


def terminal_state_vjp(A_bar, B_bar, u, x0, grad_x_last):
    """Gradients to A_bar, B_bar, u and x0: those of a scan whose output nobody reads."""
    C = np.zeros((len(A_bar), 0, A_bar.shape[-1]))
    nothing = np.zeros((*u.shape[:2], 0, u.shape[-1]))
    grads = dense_scan.scan_vjp(A_bar, B_bar, C, None, u, x0, nothing, grad_x_last)
    return grads[0], grads[1], grads[4], grads[5]
