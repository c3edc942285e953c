"""The kernel of dense systems, one power of the matrix after another."""

import numpy as np


def kernel(A_bar, B_bar, C, length):
    """``K_l = C A_bar^l B_bar``, (H, m, p, length)."""
    K = np.zeros((len(A_bar), C.shape[1], B_bar.shape[2], length), np.result_type(A_bar, B_bar, C))
    for h in range(len(A_bar)):
        power = np.eye(A_bar.shape[-1])
        for l in range(length):
            K[h, :, :, l] = C[h] @ power @ B_bar[h]
            power = A_bar[h] @ power
    return K


def kernel_vjp(A_bar, B_bar, C, grad_K):
    """Gradients to A_bar, B_bar and C: the product rule for every factor of every power."""
    grads = tuple(np.zeros(a.shape, complex) for a in (A_bar, B_bar, C))
    grad_A, grad_B, grad_C = grads
    for h in range(len(A_bar)):
        A, B, readout = A_bar[h], B_bar[h], C[h]
        for l in range(grad_K.shape[-1]):
            G, power = grad_K[h, :, :, l], np.linalg.matrix_power
            grad_C[h] += G @ adjoint(power(A, l) @ B)
            grad_B[h] += adjoint(readout @ power(A, l)) @ G
            for j in range(l):  # C A^j dA A^(l-1-j) B
                grad_A[h] += adjoint(readout @ power(A, j)) @ G @ adjoint(power(A, l - 1 - j) @ B)
    return grads


def adjoint(M):
    """The conjugate transpose."""
    return np.conj(M.T)
