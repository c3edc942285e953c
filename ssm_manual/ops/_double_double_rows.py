"""Rows of complex numbers in double-double: their products, and the exponential [VAND-6].

A power a^l multiplies the relative error of a by l. Carried to twice the digits it may be
multiplied by a million and still be far below the last bit of a double.
"""

import numpy as np

from ssm_manual._numba import jit
from ssm_manual.ops._double_double import (
    INVERSE_FACTORIALS,
    LN2,
    TAU,
    parts,
    product,
    two_product,
    two_sum,
)

_TWO_PI, _LOG_2 = parts(TAU, 3), parts(LN2, 3)
_INVERSE_LOG_2 = 1 / _LOG_2[0]

#: exp(z) = exp(z / 2^SQUARINGS)^(2^SQUARINGS); the small exponential by its Taylor polynomial.
_SQUARINGS, _DEGREE = 8, 12


@jit
def multiply(x, y, out):
    """``out_n = x_n y_n``; rows (N, 4) of high and low real part, high and low imaginary part."""
    for n in range(x.shape[0]):
        a = x[n, 0], x[n, 1], x[n, 2], x[n, 3]
        b = y[n, 0], y[n, 1], y[n, 2], y[n, 3]
        out[n, 0], out[n, 1], out[n, 2], out[n, 3] = product(a, b)


@jit
def _reduced(x, period, count):
    """``x - count * period`` in two parts; count an integer of at most 40 bits."""
    p, pe = two_product(count, period[0])
    q, qe = two_product(count, period[1])
    s, e = two_sum(x, -p)
    t, te = two_sum(-pe, -q)
    s, more = two_sum(s, t)
    return two_sum(s, (e + more) + (te - qe - count * period[2]))


@jit
def exponential(z, out):
    """``out_n = exp(z_n)``: z (N,) complex, |Im z| up to 2^40; out (N, 4)."""
    N = z.shape[0]
    small = np.empty((N, 4))
    scale = 0.5**_SQUARINGS
    halvings = np.empty(N)
    for n in range(N):
        # Beyond the exponents of a double the result is 0 or infinite, whatever the digits.
        x = min(max(z[n].real, -2000.0), 2000.0)
        halvings[n] = np.rint(x * _INVERSE_LOG_2)
        a, b = _reduced(x, _LOG_2, halvings[n])
        c, d = _reduced(z[n].imag, _TWO_PI, np.rint(z[n].imag / _TWO_PI[0]))
        small[n, 0], small[n, 1] = a * scale, b * scale
        small[n, 2], small[n, 3] = c * scale, d * scale
    out[:, 0], out[:, 1] = INVERSE_FACTORIALS[_DEGREE, 0], INVERSE_FACTORIALS[_DEGREE, 1]
    out[:, 2:] = 0.0
    for i in range(_DEGREE - 1, -1, -1):  # Horner's rule
        multiply(out, small, out)
        for n in range(N):
            s, e = two_sum(out[n, 0], INVERSE_FACTORIALS[i, 0])
            out[n, 0], out[n, 1] = two_sum(s, e + (out[n, 1] + INVERSE_FACTORIALS[i, 1]))
    for _ in range(_SQUARINGS):
        multiply(out, out, out)
    for n in range(N):
        power = int(halvings[n])
        for part in range(4):
            out[n, part] = np.ldexp(out[n, part], power)
