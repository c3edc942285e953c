"""``K_{jM+k} = Z_j W_k``: anchors and a short table of powers, no drift, at the speed of memory.

    W_k = A_bar^k,  k < M        Z_j = C B_bar A_bar^(jM)        K_{jM+k} = Z_j W_k   [ANCHORED-1]

Design
------
* Both tables are formed in double-double (`_double_double`), so that their error at any t up to
  2^40 is that of their final rounding. W is rounded to double; Z keeps its rounding error as a
  second part, which costs two multiply-adds that hide behind the writing of K.
* The tables grow by doubling (A^(s+i) = A^i A^s for i < s) and the anchors of one span of M N
  samples are the head of the span times the powers of A^M [ANCHORED-4]. The only chain is that of
  the heads, one product a span, and every loop runs in vector registers.
* W is stored interleaved, (re, im), beside i W, so that the loop over k is
  ``out[i] = zr W[i] + zi iW[i]`` on plain reals: contiguous, no shuffle.
* M and N shrink for poles far from the circle, so that no table leaves the range of a double; the
  head carries its power of two apart. A kernel whose first or last sample is near the limits of the
  format loses nothing on the way.
* What a kernel does at t depends on t and the pole alone, never on the length.

Error: below 3 units with fused multiply-adds and 2 + sqrt(5) without, at every t up to 2^40;
complex64 is formed in double and rounded once, 1 unit [ANCHORED-5]. Derivation and proof:
docs/derivations/precise_kernels.md.
"""

import math

import numpy as np

from ssm_manual._numba import jit, jit_inlined_contracted
from ssm_manual.ops._double_double import normalised, product, scales, unit_scaled

__all__ = ["anchored", "anchored_one"]

#: Entries of W. 128 would save 3 % of 2^20 samples and cost 0.2 microseconds of 1000.
M_MAX = 64

#: Anchors in a span; at most M_MAX, by the layout of the tables.
N_MAX = 64

#: Octaves that W, and that one span, may cover: far from the limits of a double (and of a float).
W_OCTAVES, SPAN_OCTAVES = 32, 256


@jit
def anchored(A_bar, B_bar, C, support, K):
    """Fill ``K (rows, length)`` up to ``support[row]`` [ANCHORED-1].

    Parameters
    ----------
    A_bar, B_bar, C : ndarray
        (rows,), complex.
    support : ndarray
        (rows,), int64: samples that are not cut off.
    K : ndarray
        The result, of A_bar's dtype, C-contiguous.
    """
    parts = K.view(K.real.dtype)
    space = _space()
    for row in range(K.shape[0]):
        K[row, support[row] :] = 0
        _row(A_bar[row], B_bar[row], C[row], parts[row, : 2 * support[row]], space)


@jit
def anchored_one(A_bar, B_bar, C, K):
    """As `anchored` for one pole given as numbers and the contiguous ``K (length,)``.

    Parameters
    ----------
    A_bar, B_bar, C : complex
        Pole and weights.
    K : ndarray
        The result.
    """
    _row(A_bar, B_bar, C, K.view(K.real.dtype), _space())


@jit
def _space():
    """Four tables. Part p of entry k stands at ``p M_MAX + k``.

    Constant distances: from four rows of an array, older compilers make no vector loop.
    """
    return np.empty((4, 4 * M_MAX))


@jit
def _row(A_bar, B_bar, C, out, space):
    """One kernel into ``out``, (re, im) interleaved."""
    length = out.size // 2
    A, A_exponent = unit_scaled(A_bar)
    B, B_exponent = unit_scaled(B_bar)
    c, C_exponent = unit_scaled(C)
    head, exponent = normalised(product(c, B), B_exponent + C_exponent)
    # With A_bar = 0, octaves is -inf and M = N = 1.
    octaves = math.log2(math.hypot(A[0], A[2])) + A_exponent
    M = _halved(M_MAX, W_OCTAVES, abs(octaves))
    N = _halved(N_MAX, SPAN_OCTAVES, abs(octaves) * M)
    powers, V, Z = space[0], space[1], space[2]
    W, turned = space[3, : 2 * M], space[3, 2 * M_MAX : 2 * (M_MAX + M)]
    step_exponent = A_exponent
    if M * N > 1:  # then A_bar itself is of moderate size
        A = float(A_bar.real), 0.0, float(A_bar.imag), 0.0
        step_exponent = 0

    step = _table(A, min(M, length), powers, Z)
    for k in range(min(M, length)):
        re, im = powers[k], powers[2 * M_MAX + k]
        W[2 * k], W[2 * k + 1] = re, im
        turned[2 * k], turned[2 * k + 1] = -im, re
    step = _table(step, min(N, -(-length // M)), V, Z)  # of A^M
    step, step_exponent = normalised(step, step_exponent)

    for first in range(0, length, M * N):
        count = min(N, -(-(length - first) // M))
        _times(head, V, count, Z)  # [ANCHORED-4]
        last = min(length, first + M * N)
        ended = _span(Z, count, exponent, W, turned, out[2 * first : 2 * last])
        if ended and octaves < 0:
            out[2 * first + 2 * M * N :] = 0
            return
        head, exponent = normalised(product(head, step), exponent + step_exponent)


@jit
def _halved(size, limit, octaves):
    """``size`` divided by two until so many steps of so many octaves stay below the limit."""
    while size > 1 and size * octaves > limit:
        size //= 2
    return size


@jit
def _table(step, count, table, scratch):
    """Entries ``step^k`` for k < count, by doubling [ANCHORED-4].

    Returns ``step^count`` if count is a power of two; a table that is not full has no successor.
    """
    for part in range(4):
        table[part * M_MAX] = 1.0 if part == 0 else 0.0
    done = 1
    while done < count:
        more = min(done, count - done)
        _times(step, table, more, scratch)  # apart, as a loop on one array is no vector loop
        for k in range(more):
            for part in range(4):
                table[part * M_MAX + done + k] = scratch[part * M_MAX + k]
        step = product(step, step)
        done *= 2
    return step


@jit
def _times(a, table, count, out):
    """Entries of ``out``: those of ``table`` times a, for k < count."""
    for k in range(count):
        b = table[k], table[M_MAX + k], table[2 * M_MAX + k], table[3 * M_MAX + k]
        c = product(a, b)
        out[k], out[M_MAX + k], out[2 * M_MAX + k], out[3 * M_MAX + k] = c


@jit
def _span(Z, count, exponent, W, turned, out):
    """The samples of all anchors of a span; whether the last anchor was flushed to zero."""
    limits = np.finfo(out.dtype)
    low_parts = limits.eps < 1e-10
    one, other = scales(exponent)
    ended = False
    for j in range(count):
        zr, zr_low = Z[j] * one * other, Z[M_MAX + j] * one * other
        zi, zi_low = Z[2 * M_MAX + j] * one * other, Z[3 * M_MAX + j] * one * other
        block = out[j * W.size : (j + 1) * W.size]
        ended = abs(zr) < limits.tiny and abs(zi) < limits.tiny
        if ended:
            block[:] = 0
        elif low_parts:
            beyond = (
                max(abs(zr), abs(zi)) == np.inf
            )  # a decaying kernel may come back in this block
            if beyond:
                less, other_less = scales(exponent - W_OCTAVES)
                zr, zr_low = Z[j] * less * other_less, Z[M_MAX + j] * less * other_less
                zi = Z[2 * M_MAX + j] * less * other_less
                zi_low = Z[3 * M_MAX + j] * less * other_less
            # Subnormal low parts are worth nothing and cost much; those of infinity are no numbers.
            zr_low = zr_low if limits.tiny <= abs(zr_low) < np.inf and abs(zr) < np.inf else 0.0
            zi_low = zi_low if limits.tiny <= abs(zi_low) < np.inf and abs(zi) < np.inf else 0.0
            _samples(zr, zr_low, zi, zi_low, W, turned, block)
            if beyond:
                for i in range(block.size):
                    block[i] *= 2.0**W_OCTAVES
        else:
            _samples_single(zr, zi, W, turned, block)
    return ended


@jit_inlined_contracted
def _samples(zr, zr_low, zi, zi_low, W, turned, out):
    for i in range(out.size):
        low = zr_low * W[i] + zi_low * turned[i]
        out[i] = zr * W[i] + (zi * turned[i] + low)  # [ANCHORED-5]


@jit_inlined_contracted
def _samples_single(zr, zi, W, turned, out):
    for i in range(out.size):
        out[i] = zr * W[i] + zi * turned[i]  # [ANCHORED-1], in double, rounded once
