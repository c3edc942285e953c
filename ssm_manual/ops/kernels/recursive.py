"""``K_t = K_{t-1} A_bar``: one complex product a step [KERNEL-3].

The products form one dependency chain, so a step costs the latency of a complex product, not its
throughput. The relative error grows like t units of rounding at worst, like sqrt(t) as a rule.
"""

from ssm_manual._numba import FLUSH_EVERY, flushed, jit

__all__ = ["recursive"]


@jit
def recursive(A_bar, B_bar, C, support, K):
    """Fill ``K (rows, length)`` up to ``support[row]``."""
    for row in range(K.shape[0]):
        A = A_bar[row]
        value = C[row] * B_bar[row]
        for first in range(0, support[row], FLUSH_EVERY):
            value = flushed(value)
            for t in range(first, min(support[row], first + FLUSH_EVERY)):
                K[row, t] = value
                value = value * A  # [KERNEL-3]
        K[row, support[row] :] = 0
