"""``P_t = P_{t-1} A_bar``, ``K_t = C P_t B_bar``: the definition, three products a step [KERNEL-2].

Error: each step multiplies once, so the relative error grows like t units of rounding at worst,
like sqrt(t) as a rule.
"""

from ssm_manual._numba import jit

__all__ = ["naive"]


@jit
def naive(A_bar, B_bar, C, support, K):
    """Fill ``K (rows, length)`` up to ``support[row]``."""
    for row in range(K.shape[0]):
        A, B, c = A_bar[row], B_bar[row], C[row]
        P = K.dtype.type(1)
        for t in range(support[row]):
            K[row, t] = c * P * B  # [KERNEL-2]
            P = P * A
        K[row, support[row] :] = 0
