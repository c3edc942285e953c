"""One sample through a diagonal layer, in one compiled call.

The discrete system is kept between calls. Whether it still belongs to the parameters is seen by
comparing them with a copy, which takes less time than the sample itself; so a layer that is trained
between two samples, or edited in place, is never run with stale tables.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual._numba import jit, jit_contracted

#: What `step` returns.
DONE, STALE, NOT_FINITE, UNSOUND = 0, 1, 2, 3


class Tables(NamedTuple):
    """The discrete system as `step` takes it, and the parameters that it was formed from."""

    kept: np.ndarray  # all parameters as real numbers, one after the other
    A_bar: np.ndarray  # (2, H, N): real parts, then imaginary parts
    B_bar: np.ndarray  # (2, H, N)
    C: np.ndarray  # (2, H, N): 2 Re C, -2 Im C
    D: np.ndarray  # (H,)


def tables(parameters, A_bar, B_bar, C, D, dtype):
    """`Tables` in a layer's precision."""

    parts = [in_parts(z, dtype) for z in (A_bar, B_bar, 2 * np.conj(C))]
    return Tables(copied(parameters, dtype), *parts, np.array(D, dtype))


def copied(parameters, dtype):
    """All parameters as real numbers, one after the other."""
    return np.concatenate([np.ascontiguousarray(p).ravel().view(dtype) for p in parameters])


def in_parts(z, dtype):
    """Real parts, then imaginary parts, along a new first axis."""
    return np.ascontiguousarray(np.stack([z.real, z.imag]), dtype)


@jit
def differences(parameter, kept, at):
    """In how many numbers a parameter differs from what was kept, and where the next one begins."""
    flat = parameter.ravel().view(kept.dtype)
    if at + flat.size > kept.size:  # another size: there is nothing to compare with
        return 1, at
    own = kept[at : at + flat.size]
    count = 0
    for i in range(flat.size):  # without a way out, so that it runs in vector registers
        count += flat[i] != own[i]  # as NaN always does
    return count, at + flat.size


@jit
def changed(parameters, kept):
    """How many numbers of these six have changed, and where in ``kept`` the next parameter begins.

    They are of several types, so that no loop can run over them.
    """
    log_dt, log_A_real, A_imag, C, B, D = parameters
    a, at = differences(log_dt, kept, 0)
    b, at = differences(log_A_real, kept, at)
    c, at = differences(A_imag, kept, at)
    d, at = differences(C, kept, at)
    e, at = differences(B, kept, at)
    f, at = differences(D, kept, at)
    return a + b + c + d + e + f, at


@jit_contracted
def step(parameters, tables, u, state, y, after):
    """``after = A_bar state + B_bar u``, ``y = 2 Re(C after) + D u`` [S4D-5].

    Parameters
    ----------
    parameters : tuple of ndarray
        All that the tables depend on: log_dt, log_A_real, A_imag, C, B, D.
    tables : Tables
        The discrete system.
    u, state, y, after : ndarray
        (batch, H), (batch, H, N) complex, (batch, H) and (batch, H, N) complex; the last two are
        filled.

    Returns
    -------
    int
        `DONE`; or `STALE` where the parameters have changed, `NOT_FINITE` where u is not finite:
        then nothing was computed. `UNSOUND` where an output is not finite.
    """
    kept, A_bar, B_bar, C, D = tables
    count, at = changed(parameters, kept)
    if count > 0 or at != kept.size:
        return STALE
    for value in u.flat:
        if not np.isfinite(value):
            return NOT_FINITE
    sound = True
    batch, H, N = state.shape
    before, now = state.view(A_bar.dtype), after.view(A_bar.dtype)
    for b in range(batch):
        for h in range(H):
            u_t = u[b, h]
            total = D[h] * u_t
            x, new = before[b, h], now[b, h]
            ar, ai, br, bi = A_bar[0, h], A_bar[1, h], B_bar[0, h], B_bar[1, h]
            for n in range(N):
                new[2 * n] = ar[n] * x[2 * n] - ai[n] * x[2 * n + 1] + br[n] * u_t
                new[2 * n + 1] = ar[n] * x[2 * n + 1] + ai[n] * x[2 * n] + bi[n] * u_t
            cr, ci = C[0, h], C[1, h]
            for n in range(N):
                total += cr[n] * new[2 * n] + ci[n] * new[2 * n + 1]
            y[b, h] = total
            sound = sound and np.isfinite(total)  # NaN in a state reaches its output
    return DONE if sound else UNSOUND
