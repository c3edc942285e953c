"""Log-space over independent blocks of time, on threads [KERNEL-10].

Blocks have a fixed length, whatever the number of threads, and every sample is computed from its
own t: the bits do not depend on the threads. It has the error of `log`.
"""

import numpy as np

from ssm_manual._numba import parallel_jit, prange

__all__ = ["BLOCK", "log_parallel"]

#: Samples a block: long enough to hide the start of a task (microseconds) behind 1024 exponentials
#: (tens of them).
BLOCK = 1024


@parallel_jit
def log_parallel(A_bar, B_bar, C, support, K):
    """Fill ``K (rows, length)`` up to ``support[row]``.

    Parameters
    ----------
    A_bar, B_bar, C : ndarray
        (rows,), complex.
    support : ndarray
        (rows,), int64: samples that are not cut off.
    K : ndarray
        The result, of A_bar's dtype.
    """
    rows, length = K.shape
    blocks = (length + BLOCK - 1) // BLOCK
    real = K.real.dtype.type
    for task in prange(rows * blocks):
        row, block = task // blocks, task % blocks
        A, start, n = A_bar[row], C[row] * B_bar[row], support[row]
        first = block * BLOCK
        last = min(length, first + BLOCK)
        for t in range(first, last):
            K[row, t] = 0
        if start == 0:
            continue
        if A == 0:
            if block == 0 and n > 0:
                K[row, 0] = start
            continue
        log_A, log_start = np.log(A), np.log(start)
        for t in range(first, min(last, n)):
            K[row, t] = np.exp(log_start + real(t) * log_A)  # [KERNEL-10]
