"""The operator by its kernel: a convolution, the free response of x0, and the feed-through."""

import numpy as np

from ssm_manual.reference.causal import causal, causal_vjp
from ssm_manual.reference.scan import scan_vjp
from ssm_manual.reference.terminal_state import terminal_state
from ssm_manual.reference.vandermonde import kernel

__all__ = ["causal", "causal_vjp", "convolve", "convolve_vjp"]


def convolve(A_bar, B_bar, C, D, u, x0=None, *, real=True):
    """``y = causal(u, K) + 2 Re(C A_bar^(t+1) x0) + D u`` [CONV-6], and the last state."""
    L = u.shape[-1]
    y = causal(u, kernel(A_bar, B_bar, C, L, real=real))
    if x0 is not None:
        y = y + kernel(A_bar, A_bar * x0, C, L, real=real)
    if D is not None:
        y = y + np.broadcast_to(D, u.shape[1])[:, None] * u
    return y, terminal_state(A_bar, B_bar, u, x0)


#: One operator has one gradient [CONV-7].
convolve_vjp = scan_vjp
