"""The kernel of a diagonal channel: its modes summed."""

import numpy as np

from ssm_manual.reference import kernels


def kernel(A_bar, B_bar, C, length, *, real=True):
    """``K_t = 2 Re sum_n C_n A_n^t B_n``, or the complex sum itself."""
    K = np.sum(kernels.generate(A_bar, B_bar, C, length), axis=-2)
    return 2 * np.real(K) if real else K


def kernel_vjp(A_bar, B_bar, C, length, grad_K, *, real=True):
    """Gradients to A_bar, B_bar and C [VAND-2]: every mode sees the cotangent, doubled if real."""
    gain = 2 if real else 1
    return kernels.generate_vjp(A_bar, B_bar, C, length, gain * grad_K[..., None, :])
