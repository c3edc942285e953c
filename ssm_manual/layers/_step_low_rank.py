"""One sample through a layer that is diagonal plus low rank, in one compiled call.

As `_step`, with what the low-rank part sees of the state before: O(N r) a channel, not O(N^2).
"""

from typing import NamedTuple

import numpy as np

from ssm_manual._numba import jit_contracted
from ssm_manual.layers._step import (
    DONE,
    NOT_FINITE,
    STALE,
    UNSOUND,
    changed,
    copied,
    differences,
    in_parts,
)


class Tables(NamedTuple):
    """The discrete system as `step` takes it, and the parameters that it was formed from."""

    kept: np.ndarray  # all parameters as real numbers, one after the other
    Lambda: np.ndarray  # (2, H, N): real parts, then imaginary parts
    P: np.ndarray  # (2, H, r, N)
    Q: np.ndarray  # (2, H, r, N): 2 Q_bar
    B: np.ndarray  # (2, H, N)
    C: np.ndarray  # (2, H, N): 2 Re C, -2 Im C
    D: np.ndarray  # (H,)


def tables(parameters, discrete, C, D, dtype):
    """`Tables` in a layer's precision."""
    Lambda, P, Q, B = discrete
    parts = [in_parts(z, dtype) for z in (Lambda, P, 2 * Q, B, 2 * np.conj(C))]
    return Tables(copied(parameters, dtype), *parts, np.array(D, dtype))


@jit_contracted
def step(parameters, tables, u, state, y, after):
    """``after = Lambda_bar state - P_bar (Q_bar^* state) + B_bar u`` and its output [DPLR-8].

    Parameters
    ----------
    parameters : tuple of ndarray
        All that the tables depend on: log_dt, log_A_real, A_imag, C, B, D, P.
    tables : Tables
        The discrete system.
    u, state, y, after : ndarray
        (batch, H), (batch, H, N) complex, (batch, H) and (batch, H, N) complex; the last two are
        filled.

    Returns
    -------
    int
        As of `_step.step`.
    """
    kept, Lambda, P, Q, B, C, D = tables
    log_dt, log_A_real, A_imag, weights, inputs, through, low_rank = parameters
    count, at = changed((log_dt, log_A_real, A_imag, weights, inputs, through), kept)
    more, at = differences(low_rank, kept, at)
    if count + more > 0 or at != kept.size:
        return STALE
    for value in u.flat:
        if not np.isfinite(value):
            return NOT_FINITE
    sound = True
    batch, H, N = state.shape
    before, now = state.view(D.dtype), after.view(D.dtype)
    for b in range(batch):
        for h in range(H):
            u_t = u[b, h]
            x, new = before[b, h], now[b, h]
            ar, ai, br, bi = Lambda[0, h], Lambda[1, h], B[0, h], B[1, h]
            for n in range(N):
                new[2 * n] = ar[n] * x[2 * n] - ai[n] * x[2 * n + 1] + br[n] * u_t
                new[2 * n + 1] = ar[n] * x[2 * n + 1] + ai[n] * x[2 * n] + bi[n] * u_t
            for j in range(P.shape[2]):
                pr, pi, qr, qi = P[0, h, j], P[1, h, j], Q[0, h, j], Q[1, h, j]
                seen = D.dtype.type(0)
                for n in range(N):
                    seen += qr[n] * x[2 * n] + qi[n] * x[2 * n + 1]
                for n in range(N):
                    new[2 * n] -= pr[n] * seen
                    new[2 * n + 1] -= pi[n] * seen
            total = D[h] * u_t
            cr, ci = C[0, h], C[1, h]
            for n in range(N):
                total += cr[n] * new[2 * n] + ci[n] * new[2 * n + 1]
            y[b, h] = total
            sound = sound and np.isfinite(total)  # NaN in a state reaches its output
    return DONE if sound else UNSOUND
