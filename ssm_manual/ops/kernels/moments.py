"""The two moments of a cotangent that every kernel gradient is made of, by Horner's rule.

    m0 = sum_t g_t conj(A_bar)^t          m1 = sum_t t g_t conj(A_bar)^(t-1)        [KERNEL-5]

Written as they stand they want a power of A_bar and an iota vector for t. Horner's rule from the
last sample wants neither:

    h_t = g_t     + conj(A_bar) h_{t+1},    h_L = 0                                 [KERNEL-8]
    d_t = h_{t+1} + conj(A_bar) d_{t+1},    d_L = 0

and m0 = h_0, m1 = d_0: the second line is the derivative of the first. It is also the adjoint
recursion of back-propagation through time, which is why both views have one gradient. For |A_bar|
<= 1 no term is ever amplified. The chain runs in double precision for complex64 too, which costs
nothing: it waits for the latency of a product, which is the same.
"""

import numpy as np

from ssm_manual._numba import FLUSH_EVERY, flushed, jit

__all__ = ["moments"]


@jit
def moments(A_bar, grad_K, support, m0, m1):
    """Fill ``m0`` and ``m1 (rows,)`` from ``grad_K (rows, length)`` up to ``support[row]``."""
    for row in range(grad_K.shape[0]):
        a = np.complex128(A_bar[row]).conjugate()
        h = d = 0j
        for t in range(support[row] - 1, -1, -1):
            d = h + a * d  # [KERNEL-8]
            h = grad_K[row, t] + a * h
            if t % FLUSH_EVERY == 0:
                d, h = flushed(d), flushed(h)
        m0[row] = h
        m1[row] = d
