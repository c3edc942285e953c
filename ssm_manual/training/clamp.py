"""Keeping a model stable while it is trained: spectral-radius clamping.

Discrete poles beyond the radius are pulled straight back onto it [DESCENT-4]; continuous poles are
kept at Re A <= -margin, and further to the left where rounding would still put |A_bar| at 1
[DESCENT-5]. A margin alone does not do: in float32 with dt 1e-3, Re A = -1e-4 rounds to
|A_bar| >= 1 at several of 81 frequencies between 0 and 40 pi, at more of them higher up.
"""

import numpy as np

from ssm_manual._numba import jit

__all__ = ["clamp_continuous", "clamp_discrete"]


@jit
def clamp_discrete(A_bar, radius):
    """``A_bar <- A_bar radius / |A_bar|`` wherever ``|A_bar| > radius``, in place [DESCENT-4].

    Parameters
    ----------
    A_bar : ndarray
        (N,) complex.
    radius : float
        Of A_bar's precision, below 1 by a few units of its rounding.
    """
    for n in range(A_bar.size):
        modulus = np.hypot(A_bar[n].real, A_bar[n].imag)
        if modulus > radius:
            A_bar[n] *= radius / modulus


@jit
def clamp_continuous(A, dt, margin, gap):
    """``Re A <- min(Re A, -margin)``, in place, and on until ``1 - |A_bar|^2 >= gap`` [DESCENT-5].

    Parameters
    ----------
    A : ndarray
        (N,) complex, in 1/s.
    dt : float
        Seconds per sample, of A's precision.
    margin : float
        In 1/s, positive.
    gap : float
        What rounding cannot bridge: 32 units of the dtype's rounding.
    """
    if not 0 < dt < np.inf:
        return  # training has left the range of its numbers: no A could help, and A is not to blame
    for n in range(A.size):
        # In double precision whatever the dtype: 1 - |A_bar|^2 = -2 dt Re A / ((1 - x)^2 + y^2) for
        # dt A / 2 = x + i y.
        # It is at least gap for -x between the roots of gap s^2 - 2 (2 - gap) s + gap (1 + y^2): a
        # pole too slow is brought to the lower one, a pole too fast (A_bar near -1) to the upper.
        re = min(float(A[n].real), -float(margin))
        y = 0.5 * float(dt) * float(A[n].imag)
        half = (2 - gap) / gap
        high = half + np.sqrt(max(half * half - 1 - y * y, 0.0))
        low = (1 + y * y) / high
        s = min(max(-0.5 * float(dt) * re, low), high)
        if s != -0.5 * float(dt) * re:
            re = -2 * s / float(dt)
        A[n] = complex(re, A[n].imag)
