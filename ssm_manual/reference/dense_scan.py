"""The recurrence of dense systems and back-propagation through time, one step at a time."""

import numpy as np


def scan(A_bar, B_bar, C, D, u, x0=None):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = C x_t + D u_t``."""
    batch, H, _, L = u.shape
    m, N = C.shape[1:]
    dtype = np.result_type(*(a for a in (A_bar, B_bar, C, D, u, x0) if a is not None))
    y, x_last = np.zeros((batch, H, m, L), dtype), np.zeros((batch, H, N), dtype)
    if x0 is not None:
        x_last[:] = x0
    for b in range(batch):
        for h in range(H):
            x = x_last[b, h]
            for t in range(L):
                x = A_bar[h] @ x + B_bar[h] @ u[b, h, :, t]
                y[b, h, :, t] = C[h] @ x
                if D is not None:
                    y[b, h, :, t] += D[h] @ u[b, h, :, t]
            x_last[b, h] = x
    return y, x_last


def scan_vjp(A_bar, B_bar, C, D, u, x0, grad_y, grad_x_last):
    """Gradients of `scan`, all states stored.

    Returns gradients to A_bar, B_bar, C, D, u, x0 (complex: the caller takes the real part).
    """
    batch, H, _, L = u.shape
    grad_A, grad_B, grad_C = (np.zeros(a.shape, complex) for a in (A_bar, B_bar, C))
    grad_D = np.zeros((H, C.shape[1], u.shape[2]), complex)
    grad_u, grad_x0 = np.zeros(u.shape, complex), np.zeros(grad_x_last.shape, complex)
    for b in range(batch):
        for h in range(H):
            A, B, readout = A_bar[h], B_bar[h], C[h]
            states = [np.zeros(len(A)) if x0 is None else x0[b, h]]  # states[t + 1] is x_t
            for t in range(L):
                states.append(A @ states[t] + B @ u[b, h, :, t])
            through = grad_x_last[b, h]  # what the later steps say about x_t
            for t in reversed(range(L)):
                e, v = grad_y[b, h, :, t], u[b, h, :, t]
                lam = np.conj(readout.T) @ e + through
                grad_A[h] += np.outer(lam, np.conj(states[t]))
                grad_B[h] += np.outer(lam, np.conj(v))
                grad_C[h] += np.outer(e, np.conj(states[t + 1]))
                grad_D[h] += np.outer(e, np.conj(v))
                grad_u[b, h, :, t] = np.conj(B.T) @ lam
                if D is not None:
                    grad_u[b, h, :, t] += np.conj(D[h].T) @ e
                through = np.conj(A.T) @ lam
            grad_x0[b, h] = through
    return grad_A, grad_B, grad_C, grad_D, grad_u, grad_x0
