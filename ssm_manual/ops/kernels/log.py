"""``K_t = exp(log(C B_bar) + t log A_bar)``: scalar log-space [KERNEL-4].

Every sample stands by itself, and costs an exponential, a sine and a cosine. It is often published
as free of drift; it is not: the rounding of log A_bar, about half a unit of its last place, is
multiplied by t. Both zero cases are taken apart, since log 0 is no number: A_bar = 0 leaves K_0
alone, C B_bar = 0 leaves nothing.
"""

import numpy as np

from ssm_manual._numba import jit

__all__ = ["log"]


@jit
def log(A_bar, B_bar, C, support, K):
    """Fill ``K (rows, length)`` up to ``support[row]``."""
    real = K.real.dtype.type
    for row in range(K.shape[0]):
        A = A_bar[row]
        start = C[row] * B_bar[row]
        n = support[row]
        K[row, :] = 0
        if n == 0 or start == 0:
            continue
        if A == 0:
            K[row, 0] = start
            continue
        log_A, log_start = np.log(A), np.log(start)
        for t in range(n):
            K[row, t] = np.exp(log_start + real(t) * log_A)  # [KERNEL-4]
