"""The convolution view of dense systems: direct sums over the kernel."""

import numpy as np

from ssm_manual.reference import dense_scan
from ssm_manual.reference.dense_kernel import kernel, kernel_vjp  # noqa: F401
from ssm_manual.reference.dense_terminal_state import terminal_state


def convolve(A_bar, B_bar, C, D, u, x0=None):
    """``y_t = sum_j K_j u_{t-j} + C A_bar^(t+1) x0 + D u_t``, and the last state."""
    batch, H, _, L = u.shape
    dtype = np.result_type(*(a for a in (A_bar, B_bar, C, D, u, x0) if a is not None))
    y = np.zeros((batch, H, C.shape[1], L), dtype)
    K = kernel(A_bar, B_bar, C, L)
    for b in range(batch):
        for h in range(H):
            for t in range(L):
                for j in range(t + 1):
                    y[b, h, :, t] += K[h, :, :, j] @ u[b, h, :, t - j]
                if x0 is not None:
                    y[b, h, :, t] += C[h] @ np.linalg.matrix_power(A_bar[h], t + 1) @ x0[b, h]
                if D is not None:
                    y[b, h, :, t] += D[h] @ u[b, h, :, t]
    x_last = terminal_state(A_bar, B_bar, u, x0)
    return y, x_last.astype(dtype)


#: The same operator as the scan, so the same gradient.
convolve_vjp = dense_scan.scan_vjp
