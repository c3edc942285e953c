"""Numbers of twice the working precision, as unevaluated sums of two floats.

A real number is a pair ``high + low`` with ``|low| <= u |high|``, u = 2^-53; a complex one is the
tuple ``(re, re_low, im, im_low)``. The building blocks are exact [ANCHORED-2]:

    a + b = s + e     `two_sum` (Knuth)           a b = p + e     `two_product` (Dekker)

as long as nothing overflows and no product falls below 2^-969: the kernels keep to numbers of
moderate size and carry a power of two beside them. Nothing here may be compiled with fused or
reassociated sums, which would optimise the errors away that are to be kept. Dekker's product splits
its factors instead of asking for a fused multiply-add: the same bits on every machine, and whole
vector registers.
"""

import math
from fractions import Fraction

import numpy as np

from ssm_manual._numba import jit, jit_inlined

__all__ = [
    "INVERSE_FACTORIALS",
    "LN2",
    "TAU",
    "normalised",
    "parts",
    "product",
    "scales",
    "two_product",
    "two_sum",
    "unit_scaled",
]

#: 2^27 + 1: multiplying by it parts 53 bits into 26, 26 and a sign.
SPLITTER = 134217729.0

#: 2 pi and log 2 to 50 digits, for constants of two and three parts.
TAU = Fraction("6.2831853071795864769252867665590057683943387987502116")
LN2 = Fraction("0.69314718055994530941723212145817656807550013436025526")


def parts(x, count=2):
    """A fraction as a sum of ``count`` doubles, each of them what is left, rounded."""
    found = []
    for _ in range(count):
        found.append(float(x))
        x -= Fraction(found[-1])
    return tuple(found)


#: 1/n! as (high, low): the coefficients of the exponential series.
INVERSE_FACTORIALS = np.array([parts(Fraction(1, math.factorial(n))) for n in range(33)])


@jit_inlined
def two_sum(a, b):
    """``s, e`` with ``s = fl(a + b)`` and ``s + e = a + b`` exactly [ANCHORED-2]."""
    s = a + b
    b_seen = s - a
    return s, (a - (s - b_seen)) + (b - b_seen)


@jit_inlined
def split(a):
    """Two halves of at most 26 bits whose sum is ``a``: their products are exact."""
    shifted = SPLITTER * a
    high = shifted - (shifted - a)
    return high, a - high


@jit_inlined
def two_product(a, b):
    """``p, e`` with ``p = fl(a b)`` and ``p + e = a b`` exactly [ANCHORED-2]."""
    p = a * b
    a1, a2 = split(a)
    b1, b2 = split(b)
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


@jit_inlined
def product(a, b):
    """The complex product, to 15 sqrt(2) u^2 |a| |b| [ANCHORED-3]."""
    ar, ar_low, ai, ai_low = a
    br, br_low, bi, bi_low = b
    p, p_low = two_product(ar, br)
    q, q_low = two_product(ai, bi)
    s, e = two_sum(p, -q)
    cross = (ar * br_low + ar_low * br) - (ai * bi_low + ai_low * bi)
    re, re_low = two_sum(s, e + ((p_low - q_low) + cross))
    p, p_low = two_product(ar, bi)
    q, q_low = two_product(ai, br)
    s, e = two_sum(p, q)
    cross = (ar * bi_low + ar_low * bi) + (ai * br_low + ai_low * br)
    im, im_low = two_sum(s, e + ((p_low + q_low) + cross))
    return re, re_low, im, im_low


@jit
def unit_scaled(z):
    """``a, exponent``: any finite complex number as ``a 2^exponent`` with 1/2 <= |a|_max < 1."""
    re, im = float(z.real), float(z.imag)
    exponent = math.frexp(max(abs(re), abs(im)))[1]
    return (math.ldexp(re, -exponent), 0.0, math.ldexp(im, -exponent), 0.0), exponent


@jit
def normalised(a, exponent):
    """The same number with the size of ``a`` moved into the exponent; |a| within 2^(+-900)."""
    more = math.frexp(max(abs(a[0]), abs(a[2])))[1]
    scale = math.ldexp(1.0, -more)
    return (a[0] * scale, a[1] * scale, a[2] * scale, a[3] * scale), exponent + more


@jit
def scales(exponent):
    """Two powers of two whose product is ``2^exponent``; zero or infinity far beyond the range."""
    exponent = min(max(exponent, -2000), 2000)
    half = exponent // 2
    return math.ldexp(1.0, half), math.ldexp(1.0, exponent - half)
