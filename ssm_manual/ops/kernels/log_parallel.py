"""Log-space done right: octaves and turns, reduced exactly, over blocks of time on threads.

    K_t = 2^(lambda_0 + t lambda) exp(2 pi i (phi_0 + t phi))                            [LOG-1]

with ``lambda = log2 |A_bar|`` in octaves and ``phi = arg A_bar / (2 pi)`` in turns, and those of
C B_bar. `log` rounds log A_bar and multiplies the rounding by t; here lambda and phi have twice the
digits, and whole turns and whole octaves are taken off exactly before anything is rounded.

Design
------
* Logarithms once a pole, in double-double: a first value from the library, and one correction
  ``log A = z + log(A exp(-z))`` with the exponential by its series [LOG-2].
* Octaves and turns at the head of a block in double-double. Within a block t = first + k, k < 1024:
  the upper parts of lambda and phi are shortened so that k times them is exact [LOG-3].
* Exponential, sine and cosine by polynomials of our own on the reduced arguments [LOG-4]: library
  functions stay scalar calls, polynomials become vector instructions.
* Blocks have a fixed length and every sample comes of its own t: the same bits for any number of
  threads.

Error: below 8 units at any t up to 2^40, 2.2 in practice [LOG-5]; complex64 is formed in double and
rounded once. Derivation and proof: docs/derivations/precise_kernels.md.
"""

import math

import numpy as np

from ssm_manual._numba import jit, jit_inlined_contracted, parallel_jit, prange
from ssm_manual.ops._double_double import (
    INVERSE_FACTORIALS,
    LN2,
    TAU,
    normalised,
    parts,
    product,
    two_product,
    two_sum,
    unit_scaled,
)

__all__ = ["BLOCK", "log_parallel"]

#: Samples a block: enough to hide its start (a tenth of a microsecond), few enough for ten bits.
BLOCK = 1024

_PER_TURN, _PER_OCTAVE = parts(1 / TAU), parts(1 / LN2)

#: Of the exponential series by Horner's rule; |z|^33 / 33! < 2^-118.
_DEGREE = 32

# The series of 2^f, |f| <= 1/2, and of cos and sin of 2 pi r, |r| <= 1/8 [LOG-4].
_E = tuple(float(LN2**n / math.factorial(n)) for n in range(15))
_C = tuple(float((-1) ** n * TAU ** (2 * n) / math.factorial(2 * n)) for n in range(10))
_S = tuple(float((-1) ** n * TAU ** (2 * n + 1) / math.factorial(2 * n + 1)) for n in range(9))

#: Adding and subtracting it rounds to an integer, and leaves that integer in the lowest bits.
_ROUNDER = 1.5 * 2.0**52


@parallel_jit
def log_parallel(A_bar, B_bar, C, support, K):
    """Fill ``K (rows, length)`` up to ``support[row]`` [LOG-1].

    Parameters
    ----------
    A_bar, B_bar, C : ndarray
        (rows,), complex.
    support : ndarray
        (rows,), int64: samples that are not cut off.
    K : ndarray
        The result, of A_bar's dtype, C-contiguous.
    """
    rows, length = K.shape
    blocks = (length + BLOCK - 1) // BLOCK
    numbers = K.view(K.real.dtype)
    logarithms = np.empty((rows, 8))
    for row in prange(rows):
        if not (A_bar[row] == 0 or B_bar[row] == 0 or C[row] == 0):
            _logarithms(A_bar[row], B_bar[row], C[row], logarithms[row])
    for task in prange(rows * blocks):
        row, first = task // blocks, task % blocks * BLOCK
        last = min(length, first + BLOCK)
        n = min(max(support[row] - first, 0), last - first)
        out = numbers[row, 2 * first : 2 * last]
        out[2 * n :] = 0
        if A_bar[row] == 0 or B_bar[row] == 0 or C[row] == 0:  # they have no logarithm
            out[:] = 0
            if n > 0 and first == 0:
                K[row, 0] = C[row] * B_bar[row]
        elif n > 0:
            _block(logarithms[row], first, out[: 2 * n])


@jit
def _logarithms(A_bar, B_bar, C, out):
    """Octaves and turns of C B_bar and of A_bar, each as (high, low)."""
    b, B_exponent = unit_scaled(B_bar)
    c, C_exponent = unit_scaled(C)
    out[0], out[1], out[2], out[3] = _logarithm(*normalised(product(c, b), B_exponent + C_exponent))
    out[4], out[5], out[6], out[7] = _logarithm(*unit_scaled(A_bar))


@jit
def _block(logarithms, first, out):
    """Samples first, first + 1, ... into ``out``, (re, im) interleaved."""
    # The head of the block, whole octaves and turns taken off [LOG-3].
    start, step = logarithms[:4], logarithms[4:]
    octave, octave_low, whole = _advanced(start[0], start[1], step[0], step[1], float(first))
    turn, turn_low, _ = _advanced(start[2], start[3], step[2], step[3], float(first))
    # Upper parts short enough for exact products with k, and the rests.
    octave1, octave2 = _shortened(octave, octave_low, 2.0**31)
    octaves1, octaves2 = _shortened(step[0], step[1], 2.0**31)
    turn1, turn2 = _shortened(turn, turn_low, 2.0**41)
    turns1, turns2 = _shortened(step[2], step[3], 2.0**41)
    limits = np.finfo(out.dtype)
    scale = np.empty(BLOCK)
    magnitude = octave1, octave2, octaves1, octaves2
    phase = turn1, turn2, turns1, turns2
    _samples(magnitude, phase, whole, float(limits.minexp), scale, scale.view(np.int64), out)


@jit
def _logarithm(a, exponent):
    """``log2 |a 2^exponent|`` in octaves and its argument in turns, in double-double [LOG-2]."""
    quarter = 0.0
    while abs(a[2]) > abs(a[0]) or a[0] < 0:  # quarter turns back, exact
        a = a[2], a[3], -a[0], -a[1]
        quarter += 0.25
    x, y = math.log(math.hypot(a[0], a[2])), math.atan2(a[2], a[0])
    near = product(a, _exponential(-x, -y))
    # near = 1 + e with |e| about 2^-52, and log near = e - e^2 / 2.
    e, f = (near[0] - 1) + near[1], near[2] + near[3]
    e, f = e - (e * e - f * f) / 2, f - e * f
    octaves, octaves_low = _scaled(*two_sum(x, e), _PER_OCTAVE)
    turns, turns_low = _scaled(*two_sum(y, f), _PER_TURN)
    octaves, more = two_sum(float(exponent), octaves)
    turns, more_turns = two_sum(quarter, turns)
    octaves, octaves_low = two_sum(octaves, more + octaves_low)
    turns, turns_low = two_sum(turns, more_turns + turns_low)
    return octaves, octaves_low, turns, turns_low


@jit
def _exponential(x, y):
    """``exp(x + i y)`` for |x + i y| < 1.05 in double-double, by Horner's rule [LOG-2]."""
    z = x, 0.0, y, 0.0
    value = 0.0, 0.0, 0.0, 0.0
    for n in range(_DEGREE, -1, -1):
        value = product(value, z)
        re, e = two_sum(value[0], INVERSE_FACTORIALS[n, 0])
        re, e = two_sum(re, e + (value[1] + INVERSE_FACTORIALS[n, 1]))
        value = re, e, value[2], value[3]
    return value


@jit
def _scaled(x, x_low, constant):
    p, e = two_product(x, constant[0])
    return two_sum(p, e + (x * constant[1] + x_low * constant[0]))


@jit
def _advanced(x0, x0_low, x, x_low, t):
    """``x0 + t x`` without its nearest integer, and that integer."""
    p, e = two_product(t, x)
    whole = np.rint(p)
    p, e = two_sum(p - whole, e + t * x_low)
    q = np.rint(x0)
    s, f = two_sum(p, x0 - q)
    s, f = two_sum(s, f + (e + x0_low))
    return s, f, whole + q


@jit
def _shortened(x, x_low, unit):
    """``x + x_low`` as a multiple of ``1 / unit`` and a small rest."""
    upper = np.rint(x * unit) / unit
    return upper, (x - upper) + x_low


@jit_inlined_contracted
def _samples(magnitude, phase, whole, lowest, scale, bits, out):
    """2^octaves exp(2 pi i turns) of one block; every loop is made of vector instructions."""
    octave1, octave2, octaves1, octaves2 = magnitude
    turn1, turn2, turns1, turns2 = phase
    n = out.size // 2
    for k in range(n):
        whole_k = np.rint(octave1 + k * octaves1) + whole
        # One octave is left to the polynomial: the largest numbers have the exponent 1024.
        power = min(max(whole_k - 1, -1023.0), 1024.0) if whole_k > lowest else -1023.0
        scale[k] = power + _ROUNDER
    for k in range(n):
        bits[k] = (bits[k] + 1023) << 52  # 2^power, 0 or inf
    for k in range(n):
        octave = octave1 + k * octaves1
        f = (octave - np.rint(octave)) + (octave2 + k * octaves2)
        turn = turn1 + k * turns1
        quarters = np.rint(4 * turn)
        r = (turn - 0.25 * quarters) + (turn2 + k * turns2)  # [LOG-3]
        size = 2 * _exp2(f) * scale[k]
        cosine, sine = size * _cos(r * r), size * r * _sin(r * r)
        quarters -= 4 * np.floor(0.25 * quarters)
        odd = quarters == 1 or quarters == 3
        re, im = (sine if odd else cosine), (cosine if odd else sine)
        out[2 * k] = -re if quarters == 1 or quarters == 2 else re
        out[2 * k + 1] = -im if quarters >= 2 else im


@jit_inlined_contracted
def _exp2(f):
    """2^f for |f| <= 1/2 [LOG-4]."""
    p = ((_E[14] * f + _E[13]) * f + _E[12]) * f + _E[11]
    p = ((p * f + _E[10]) * f + _E[9]) * f + _E[8]
    p = (((p * f + _E[7]) * f + _E[6]) * f + _E[5]) * f + _E[4]
    return (((p * f + _E[3]) * f + _E[2]) * f + _E[1]) * f + _E[0]


@jit_inlined_contracted
def _cos(x):
    """cos(2 pi r) for |r| <= 1/8 and x = r^2 [LOG-4]."""
    p = (((_C[9] * x + _C[8]) * x + _C[7]) * x + _C[6]) * x + _C[5]
    return ((((p * x + _C[4]) * x + _C[3]) * x + _C[2]) * x + _C[1]) * x + _C[0]


@jit_inlined_contracted
def _sin(x):
    """sin(2 pi r) / r for |r| <= 1/8 and x = r^2 [LOG-4]."""
    p = (((_S[8] * x + _S[7]) * x + _S[6]) * x + _S[5]) * x + _S[4]
    return (((p * x + _S[3]) * x + _S[2]) * x + _S[1]) * x + _S[0]
