"""The kernels of `vandermonde`: one channel as a product of two small real matrices.

Design
------
* l = j M + k splits a power into two short tables, ``A^l = Z_j W_k`` [VAND-3], and the sum over the
  modes becomes a matrix product of real numbers [VAND-4], which BLAS does at the machine's full
  rate. Its two factors hold O((L / M + M) N) numbers; K is written once, by BLAS, in place.
* Tables are formed in double precision and then rounded to the working precision. For double
  precision that is not enough: a chain of l products loses l units. There the chains run in
  double-double, over a few anchors, and every entry is one product of two anchors [VAND-6].
* A channel is computed by one thread from its own data, with BLAS on one thread: the bits do not
  depend on the number of threads.
* Complex K is a real array of twice the length: re, im, re, im, ... Each power then has two rows in
  the table W instead of one, and nothing else changes.
* The loops that form tables run over modes, contiguous in memory, so that they vectorise.
"""

import contextlib
import math

import numpy as np

from ssm_manual._blas import single_threaded
from ssm_manual._numba import jit, parallel_jit, prange
from ssm_manual.ops._double_double_rows import exponential, multiply

#: Modes times samples, over all channels, from which on these are shared out among threads.
PARALLEL_FROM = 1 << 20

#: Numbers in the table of a block, and multiply-adds in the larger product, up to which BLAS keeps
#: to one thread unasked: it looks at the first for a vector, at the second for a matrix.
TINY, TINY_PRODUCT = 1 << 12, 1 << 18

LARGEST_BLOCK = 256


def block_length(length):
    """M, the power of two nearest to the root of ``length``, at most 256.

    Measured: with 32 modes and 16384 samples any M from 64 to 256 is equally fast.
    """
    return min(1 << round(math.log2(max(length, 1)) / 2), LARGEST_BLOCK)


def sum_modes(poles, is_exponent, weight, parts, K):
    """``K_l = sum_n weight_n A_n^l`` [VAND-1] into the rows of K, (rows, parts L).

    ``poles`` (rows, N) holds A, or log A if ``is_exponent``; it is complex128, as is ``weight``.
    ``parts`` is 1 for the real part alone, 2 for a real view of a complex K. The dtype of K is the
    working precision.
    """
    length = K.shape[1] // parts
    kernel, guard = _choose(poles, length, parts, _sum_modes, _sum_modes_parallel)
    if length:
        with guard:
            kernel(poles, is_exponent, weight, block_length(length), parts, K)


def moments(poles, is_exponent, g, parts, m0, m1):
    """The two moments of [VAND-2] for the cotangents g, (rows, parts L), into m0 and m1.

    With exponents m1 comes multiplied by conj(A), the gradient to log A [VAND-7].
    """
    length = g.shape[1] // parts
    kernel, guard = _choose(poles, length, parts, _moments, _moments_parallel)
    with guard:
        kernel(poles, is_exponent, g, block_length(length - 1), parts, m0, m1)


def _choose(poles, length, parts, serial, parallel):
    """The driver for a problem of this size, and whether BLAS must be kept to one thread."""
    rows, N = poles.shape
    if rows > 1 and rows * N * length >= PARALLEL_FROM:
        return parallel, single_threaded()
    columns = parts * 4 * N
    tiny = columns * block_length(length) <= TINY and columns * length <= TINY_PRODUCT
    return serial, contextlib.nullcontext() if tiny else single_threaded()


# ---------------------------------------------------------------------------------------- channels


@jit
def _kernel_of_row(poles, is_exponent, weight, M, parts, K):
    N, L = poles.shape[0], K.shape[0] // parts
    full = L // M
    rest = L - full * M
    J = full + (rest > 0)
    Z, W = np.empty((J, N), np.complex128), np.empty((M, N), np.complex128)
    tables(poles, is_exponent, K.itemsize == 8, W, Z)
    left, right = np.empty((J, 2 * N), K.dtype), np.empty((parts * M, 2 * N), K.dtype)
    tiny = float(np.finfo(K.dtype).tiny)
    small = 4096 * tiny  # so that products with W are normal numbers too, but for very fast modes
    for j in range(J):
        row = left[j]
        for n in range(N):
            z = weight[n] * Z[j, n]
            row[n], row[N + n] = _normal(z.real, small), _normal(z.imag, small)
    _real_rows(W, parts, tiny, right)
    end = full * M * parts
    np.dot(left[:full], right.T, K[:end].reshape(full, M * parts))  # [VAND-4]
    if rest:
        np.dot(right[: parts * rest], left[full], K[end:])


@jit
def _moments_of_row(poles, is_exponent, g, M, parts, m0, m1):
    N, L = poles.shape[0], g.shape[0] // parts
    m0[:], m1[:] = 0, 0
    if L == 0:
        return
    g0 = complex(g[0], g[1] if parts == 2 else 0.0)
    if L == 1:  # a table of no rows has no first row to begin with
        m0[:] = g0
        return
    h = g[parts:]  # h_l = g_{l+1} [VAND-5]
    full = (L - 1) // M
    rest = L - 1 - full * M
    J = full + (rest > 0)
    Z, W = np.empty((J, N), np.complex128), np.empty((M, N), np.complex128)
    A = tables(poles, is_exponent, g.itemsize == 8, W, Z)
    right, S = np.empty((parts * M, 4 * N), g.dtype), np.empty((J, 4 * N), g.dtype)
    _real_rows(W, parts, float(np.finfo(g.dtype).tiny), right)
    for i in range(parts * M):
        row = right[i]
        for n in range(2 * N):
            row[2 * N + n] = (i // parts + 1) * row[n]
    end = full * M * parts
    np.dot(h[:end].reshape(full, M * parts), right, S[:full])
    if rest:
        np.dot(h[end:], right[: parts * rest], S[full])
    for j in range(J):
        row = S[j]
        for n in range(N):
            z = Z[j, n].conjugate()
            s = complex(row[n], row[N + n])
            m0[n] += z * s
            m1[n] += z * (j * M * s + complex(row[2 * N + n], row[3 * N + n]))
    for n in range(N):
        m0[n] = g0 + A[n].conjugate() * m0[n]
        if is_exponent:
            m1[n] *= A[n].conjugate()  # [VAND-7]


@jit
def _normal(x, small):
    """x, or zero where it is small: a processor is a hundred times slower on subnormal numbers."""
    return 0.0 if abs(x) < small else x


@jit
def _real_rows(W, parts, tiny, right):
    """Rows (Re W, -Im W), and (Im W, Re W) where K has an imaginary part [VAND-4]."""
    M, N = W.shape
    for k in range(M):
        row = right[parts * k]
        for n in range(N):
            row[n], row[N + n] = _normal(W[k, n].real, tiny), _normal(-W[k, n].imag, tiny)
        if parts == 2:
            below = right[2 * k + 1]
            for n in range(N):
                below[n], below[N + n] = -row[N + n], row[n]


# ------------------------------------------------------------------------------------------ tables


@jit
def tables(poles, is_exponent, exact, W, Z):
    """``W_k = A^k`` and ``Z_j = A^(j M)`` [VAND-3]; returns A."""
    N = poles.shape[0]
    a, A = np.zeros((N, 4)), np.empty(N, np.complex128)
    if is_exponent and exact:
        exponential(poles, a)
    else:
        for n in range(N):
            z = np.exp(poles[n]) if is_exponent else poles[n]
            a[n, 0], a[n, 2] = z.real, z.imag
    for n in range(N):
        A[n] = complex(a[n, 0], a[n, 2])
    if exact:
        _anchored_powers(a, W)
        _anchored_powers(a, Z)  # a is A^M now
    else:
        _powers(A, W)
        _powers(W[-1] * A, Z)
    return A


@jit
def _powers(a, T):
    """``T_k = a^k``, one product after the other."""
    T[0] = 1
    for k in range(1, T.shape[0]):
        row, before = T[k], T[k - 1]
        for n in range(a.shape[0]):
            row[n] = before[n] * a[n]


@jit
def _anchored_powers(a, T):
    """``T_{iR+k} = a^(iR) a^k``, the two factors from double-double chains; a becomes a^rows."""
    rows, N = T.shape
    R = int(np.ceil(np.sqrt(rows)))
    fine, coarse = np.zeros((R + 1, N, 4)), np.zeros((N, 4))
    fine[0, :, 0], coarse[:, 0] = 1, 1
    for k in range(R):
        multiply(fine[k], a, fine[k + 1])
    for start in range(0, rows, R):
        count = min(R, rows - start)
        for k in range(count):
            row = T[start + k]
            for n in range(N):
                row[n] = complex(coarse[n, 0], coarse[n, 2]) * complex(fine[k, n, 0], fine[k, n, 2])
        multiply(coarse, fine[count], coarse)
    multiply(coarse, fine[0], a)


# ----------------------------------------------------------------------------------------- drivers


@jit
def _sum_modes(poles, is_exponent, weight, M, parts, K):
    for row in range(K.shape[0]):
        _kernel_of_row(poles[row], is_exponent, weight[row], M, parts, K[row])


@parallel_jit
def _sum_modes_parallel(poles, is_exponent, weight, M, parts, K):
    for row in prange(K.shape[0]):
        _kernel_of_row(poles[row], is_exponent, weight[row], M, parts, K[row])


@jit
def _moments(poles, is_exponent, g, M, parts, m0, m1):
    for row in range(g.shape[0]):
        _moments_of_row(poles[row], is_exponent, g[row], M, parts, m0[row], m1[row])


@parallel_jit
def _moments_parallel(poles, is_exponent, g, M, parts, m0, m1):
    for row in prange(g.shape[0]):
        _moments_of_row(poles[row], is_exponent, g[row], M, parts, m0[row], m1[row])
