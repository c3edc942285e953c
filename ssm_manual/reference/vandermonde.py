"""The kernel of a diagonal channel: its modes summed."""

import numpy as np

from ssm_manual.reference import kernels


def kernel(A_bar, B_bar, C, length, *, real=True):
    """``K_t = sum_n C_n A_n^t B_n``, or twice its real part where one pole of each conjugate pair is stored."""
    K = np.sum(kernels.generate(A_bar, B_bar, C, length), axis=-2)
    return 2 * np.real(K) if real else K
