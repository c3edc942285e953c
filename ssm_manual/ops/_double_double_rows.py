"""Rows of complex numbers in double-double: their products, and the exponential [VAND-6].

A power a^l multiplies the relative error of a by l. Carried to twice the digits it may be
multiplied by a million and still be far below the last bit of a double.
"""

import numpy as np

from ssm_manual._numba import jit
from ssm_manual.ops._double_double import product, two_product, two_sum

#: 2 pi and log 2 in three parts of 53 bits each.
_TWO_PI = (6.283185307179586, 2.4492935982947064e-16, -5.989539619436679e-33)
_LOG_2 = (0.6931471805599453, 2.3190468138462996e-17, 5.707708438416212e-34)
_INVERSE_LOG_2 = 1 / _LOG_2[0]

#: exp(z) = exp(z / 2^SQUARINGS)^(2^SQUARINGS); the small exponential by its Taylor polynomial.
_SQUARINGS = 8
_INVERSE_FACTORIALS = np.array(
    [
        (1.0, 0.0),
        (1.0, 0.0),
        (0.5, 0.0),
        (0.16666666666666666, 9.25185853854297e-18),
        (0.041666666666666664, 2.3129646346357427e-18),
        (0.008333333333333333, 1.1564823173178714e-19),
        (0.001388888888888889, -5.300543954373577e-20),
        (0.0001984126984126984, 1.7209558293420705e-22),
        (2.48015873015873e-05, 2.1511947866775882e-23),
        (2.7557319223985893e-06, -1.858393274046472e-22),
        (2.755731922398589e-07, 2.3767714622250297e-23),
        (2.505210838544172e-08, -1.448814070935912e-24),
        (2.08767569878681e-09, -1.20734505911326e-25),
    ]
)


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
    last = _INVERSE_FACTORIALS.shape[0] - 1
    out[:, 0], out[:, 1] = _INVERSE_FACTORIALS[last, 0], _INVERSE_FACTORIALS[last, 1]
    out[:, 2:] = 0.0
    for i in range(last - 1, -1, -1):  # Horner's rule
        multiply(out, small, out)
        for n in range(N):
            s, e = two_sum(out[n, 0], _INVERSE_FACTORIALS[i, 0])
            out[n, 0], out[n, 1] = two_sum(s, e + (out[n, 1] + _INVERSE_FACTORIALS[i, 1]))
    for _ in range(_SQUARINGS):
        multiply(out, out, out)
    for n in range(N):
        power = int(halvings[n])
        for part in range(4):
            out[n, part] = np.ldexp(out[n, part], power)
