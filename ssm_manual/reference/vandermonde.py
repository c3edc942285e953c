"""The kernel of a diagonal channel: its modes summed."""

import numpy as np

from ssm_manual.reference import kernels


def kernel(A_bar, B_bar, C, length, *, real=True):
    """``K_t = 2 Re sum_n C_n A_n^t B_n``, or the complex sum itself."""
    K = np.sum(kernels.generate(A_bar, B_bar, C, length), axis=-2)
    return 2 * np.real(K) if real else K
