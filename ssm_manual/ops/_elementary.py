"""exp, sigmoid, tanh and the normal distribution, one real number at a time, for vector loops.

In double precision these are the machine's functions, called number by number. In single precision
they are polynomials without branches, so that a loop over them becomes a vector loop: Numba calls
no vector library. Their errors, in units of 2^-24 relative to the value, are measured in
tests/test_activations.py. Derivation: docs/derivations/activations.md.
"""

import math

import numpy as np

from ssm_manual._numba import by_precision, jit_inlined_contracted

_f = np.float32

# ------------------------------------------------------------------------------------- exponential

#: Added and taken away again, 1.5 * 2^23 rounds to an integer, whose bits are the last ones.
_ROUNDER, _ROUNDER_BITS = _f(12582912.0), np.int32(0x4B400000)
_LOG2_E = _f(1.44269504)
_LN2_HIGH, _LN2_LOW = (
    _f(0.693359375),
    _f(-2.12194440e-4),
)  # the first has 9 bits: n times it is exact
_E2, _E3, _E4 = _f(5.0000001201e-1), _f(1.6666665459e-1), _f(4.1665795894e-2)
_E5, _E6, _E7 = _f(8.3334519073e-3), _f(1.3981999507e-3), _f(1.9875691500e-4)
_ONE, _ZERO, _HALF, _TWO = _f(1), _f(0), _f(0.5), _f(2)
_LEAST = _f(-126)  # exponent of the smallest normal number


@jit_inlined_contracted
def _exp_of_sum(high, low):
    """``exp(high + low)`` for a sum <= 0 [ACT-3]; zero where that is not a normal number."""
    t = (high + low) * _LOG2_E + _ROUNDER
    n = t - _ROUNDER
    r = ((high - n * _LN2_HIGH) - n * _LN2_LOW) + low
    p = ((((_E7 * r + _E6) * r + _E5) * r + _E4) * r + _E3) * r + _E2
    p = (p * r) * r + r + _ONE
    bits = np.int32((_f(t).view(np.int32) - _ROUNDER_BITS + np.int32(127)) << np.int32(23))
    return p * np.int32(bits).view(np.float32) if n >= _LEAST else _ZERO


@jit_inlined_contracted
def _decay_single(x):
    # From -100 on the result is zero; far beyond it the exponent's bits would overflow.
    return _exp_of_sum(-abs(x) if abs(x) < _f(100) else _f(-100), _ZERO)


@jit_inlined_contracted
def _decay_double(x):
    return math.exp(-abs(x))


#: ``exp(-|x|)``
decay = by_precision(_decay_single, _decay_double)


# -------------------------------------------------------------------------------- sigmoid and tanh


@jit_inlined_contracted
def sigmoid(x):
    """``1 / (1 + exp(-x))`` by ``exp(-|x|)``, which cannot overflow [ACT-7]."""
    e = decay(x)
    return (e if x < 0 else e * 0 + 1) / (1 + e)


@jit_inlined_contracted
def sigmoid_slope(x):
    """The derivative of the sigmoid [ACT-8]: from x, for 1 - s has lost its digits where s is 1."""
    e = decay(x)
    return e / ((1 + e) * (1 + e))


_T1, _T2, _T3 = _f(-3.33332819422e-1), _f(1.33314422036e-1), _f(-5.37397155531e-2)
_T4, _T5 = _f(2.06390887954e-2), _f(-5.70498872745e-3)


@jit_inlined_contracted
def _tanh_single(x):
    e = _decay_single(_TWO * x)
    far = (_ONE - e) / (_ONE + e)  # [ACT-9]
    z = x * x
    near = (((((_T5 * z + _T4) * z + _T3) * z + _T2) * z + _T1) * z) * x + x
    return near if abs(x) < _f(0.625) else (far if x > 0 else -far)


@jit_inlined_contracted
def _tanh_double(x):
    return math.tanh(x)


#: ``tanh x``
tanh = by_precision(_tanh_single, _tanh_double)


@jit_inlined_contracted
def tanh_slope(x):
    """``1 - tanh(x)^2`` without the difference [ACT-10]."""
    e = decay(x + x)
    return 4 * e / ((1 + e) * (1 + e))


# ------------------------------------------------------------------------- the normal distribution

#: The upper 12 bits of a significand: the square of what they leave is exact.
_UPPER = np.int32(-4096)
_P0, _P1, _P2 = _f(0.5), _f(0.437884606434), _f(0.182930974768)
_P3, _P4 = _f(0.04053063846), _f(0.004101064715)
_Q1, _Q2, _Q3 = _f(1.673654183796), _f(1.201240100742), _f(0.468667603387)
_Q4, _Q5 = _f(0.101601832403), _f(0.010279721544)
_INVERSE_ROOT_2PI = 1 / math.sqrt(2 * math.pi)
_ROOT_HALF = math.sqrt(0.5)


@jit_inlined_contracted
def _normal_single(x):
    z = abs(x) if abs(x) < _f(14) else _f(14)  # both results are zero or one from there on
    upper = np.int32(_f(z).view(np.int32) & _UPPER).view(np.float32)
    e = _exp_of_sum(-_HALF * upper * upper, -_HALF * (z - upper) * (z + upper))  # [ACT-4]
    p = (((_P4 * z + _P3) * z + _P2) * z + _P1) * z + _P0
    q = ((((_Q5 * z + _Q4) * z + _Q3) * z + _Q2) * z + _Q1) * z + _ONE
    tail = e * (p / q)  # [ACT-5]
    return (tail if x < 0 else _ONE - tail), e * _f(_INVERSE_ROOT_2PI)


@jit_inlined_contracted
def _normal_double(x):
    return 0.5 * math.erfc(-x * _ROOT_HALF), _INVERSE_ROOT_2PI * math.exp(-0.5 * x * x)


#: ``(Phi(x), phi(x))``: the standard normal distribution and its density.
normal = by_precision(_normal_single, _normal_double)


# ------------------------------------------------------------------------------------ finite values


@jit_inlined_contracted
def is_bad(x):
    """Whether x is NaN or infinite, in a form that a vector loop keeps."""
    return (x - x) != 0
