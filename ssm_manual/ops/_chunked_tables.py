"""The tables of `chunked` for one channel, and the way back from their cotangents.

Two stacked real matrices carry everything [CHUNK-4], R = parts Q numbers a chunk:

    TW = [T; W]    (R + 2N, R)    samples and state before the chunk -> output
    TV = [T^T; V^T]  (R + 2N, R)  cotangents of output and of state after it -> that of the input

Design
------
* Powers, kernel and tables are formed in double precision (in double precision from double-double
  anchors, as `_vandermonde_rows` does) and rounded once to the working precision.
* Time runs along rows, contiguous: a table row is one mode over Q samples, so that every loop here
  vectorises, and the sums over time of the backward pass stay in registers.
* Complex signals are real ones of twice the length: re, im, re, im, ... Each entry becomes a block
  of two by two, and only this file knows of it.
"""

import numpy as np

from ssm_manual._numba import jit, jit_reassociated
from ssm_manual.ops._vandermonde_rows import tables


@jit
def powers(poles, is_exponent, exact, P):
    """``P[:, n, k] = A_n^k``, k = 0, ..., Q, real parts and imaginary parts; Q + 1 at least 2."""
    N, count = P.shape[1], P.shape[2]
    if exact:
        W, Z = np.empty((count, N), np.complex128), np.empty((1, N), np.complex128)
        tables(poles, is_exponent, True, W, Z)
        for n in range(N):
            for k in range(count):
                P[0, n, k], P[1, n, k] = W[k, n].real, W[k, n].imag
        return
    for n in range(N):
        a = np.exp(poles[n]) if is_exponent else poles[n]
        x, y = P[0, n], P[1, n]
        x[0], y[0], x[1], y[1] = 1.0, 0.0, a.real, a.imag
        have = 2
        while have < count:  # A^(have + k) = A^have A^k
            c, d = x[have - 1], y[have - 1]
            c, d = c * a.real - d * a.imag, c * a.imag + d * a.real
            more = min(have, count - have)
            _scaled(c, d, x[:more], y[:more], x[have : have + more], y[have : have + more])
            have += more


@jit
def _scaled(c, d, x, y, u, v):
    """``u + i v = (c + i d) (x + i y)``."""
    for k in range(u.shape[0]):
        u[k] = c * x[k] - d * y[k]
        v[k] = c * y[k] + d * x[k]


@jit
def fill(P, B, weight, D, parts, TW, TV):
    """Form both tables from the powers; ``weight`` is C, twice C for real output [CHUNK-2]."""
    N, Q = P.shape[1], P.shape[2] - 1
    R = parts * Q
    tiny = float(np.finfo(TW.dtype).tiny)
    u, v = np.empty(Q), np.empty(Q)
    K = np.zeros((2, Q))
    for n in range(N):
        x, y = P[0, n], P[1, n]
        c, d = weight[n].real, weight[n].imag
        _scaled(c, d, x[1:], y[1:], u, v)
        _write(u, v, -1.0, parts, tiny, TW[R + n], TW[R + N + n])  # W
        _scaled(B[n].real, B[n].imag, x[:Q], y[:Q], u, v)
        for k in range(Q):
            K[0, k] += c * u[k] - d * v[k]
            K[1, k] += c * v[k] + d * u[k]
        _write(u[::-1], v[::-1], 1.0, parts, tiny, TV[R + n], TV[R + N + n])  # V^T
    K[0, 0] += D.real  # D is a part of the diagonal [CHUNK-1]
    K[1, 0] += D.imag
    _toeplitz(K, parts, tiny, TW[:R], TV[:R])


@jit
def _write(u, v, sign, parts, tiny, first, second):
    """Two rows of W (sign -1) or of V^T (sign 1) from a complex one."""
    Q = u.shape[0]
    if parts == 1:
        for k in range(Q):
            first[k], second[k] = normal(u[k], tiny), normal(sign * v[k], tiny)
    else:
        for k in range(Q):
            a, b = normal(u[k], tiny), normal(v[k], tiny)
            first[2 * k], first[2 * k + 1] = a, -sign * b
            second[2 * k], second[2 * k + 1] = sign * b, a


@jit
def normal(x, small):
    """x, or zero where it is small: a processor is a hundred times slower on subnormal numbers."""
    return 0.0 if abs(x) < small else x


@jit
def _toeplitz(K, parts, tiny, T, T_transposed):
    """``T[p, q] = K_{q-p}``, p <= q, and its transpose; blocks of two by two for complex K."""
    Q = K.shape[1]
    if parts == 1:
        row = np.zeros(2 * Q, T.dtype)  # zeros, then K
        back = np.zeros(2 * Q, T.dtype)  # K from its end, then zeros
        for k in range(Q):
            row[Q + k] = back[Q - 1 - k] = normal(K[0, k], tiny)
        for p in range(Q):
            T[p] = row[Q - p : 2 * Q - p]
            T_transposed[p] = back[Q - 1 - p : 2 * Q - 1 - p]
        return
    T[:] = 0
    for p in range(Q):
        for q in range(p, Q):
            a, b = normal(K[0, q - p], tiny), normal(K[1, q - p], tiny)
            T[2 * p, 2 * q] = T[2 * p + 1, 2 * q + 1] = a
            T[2 * p, 2 * q + 1], T[2 * p + 1, 2 * q] = b, -b
    for p in range(2 * Q):
        for q in range(2 * Q):
            T_transposed[p, q] = T[q, p]


@jit
def pull_back(P, B, weight, parts, grad_TW, grad_V, grad_last, rest, grads):
    """Cotangents of the tables to those of A, B and ``weight`` [CHUNK-8, 9]; returns that of D.

    ``grad_last`` (2, 2, N): cotangents of A^Q and of A^rest, real and imaginary parts. ``grads``
    (3, N), complex.
    """
    N, Q = P.shape[1], P.shape[2] - 1
    R = parts * Q
    K = _diagonals(grad_TW[:R], parts, Q)
    v, w = np.zeros((2, Q + 1)), np.zeros((2, Q + 1))  # cotangents beside the powers A^k
    for n in range(N):
        _read(grad_V[n], grad_V[N + n], 1.0, parts, v[0, :Q][::-1], v[1, :Q][::-1])
        _read(grad_TW[R + n], grad_TW[R + N + n], -1.0, parts, w[0, 1:], w[1, 1:])
        x, y = P[0, n], P[1, n]
        for_V, for_W = _moments(x, y, v[0], v[1]), _moments(x, y, w[0], w[1])
        for_K = _moments(x, y, K[0], K[1])
        b, c = B[n].conjugate(), weight[n].conjugate()
        grads[0, n] = b * for_V[1] + c * for_W[1] + b * c * for_K[1]
        for i, power in enumerate((Q, rest)):
            if power:
                slope = power * complex(x[power - 1], -y[power - 1])
                grads[0, n] += slope * complex(grad_last[i, 0, n], grad_last[i, 1, n])
        grads[1, n] = for_V[0] + c * for_K[0]
        grads[2, n] = for_W[0] + b * for_K[0]
    return complex(K[0, 0], K[1, 0])


@jit
def _diagonals(grad_T, parts, Q):
    """Sums along the diagonals of T's cotangent: that of K [CHUNK-8]; a zero beside A^Q."""
    K = np.zeros((2, Q + 1))
    for p in range(parts * Q):
        row = grad_T[p]
        if parts == 1:
            for k in range(Q - p):
                K[0, k] += row[p + k]
            continue
        i = p // 2
        for k in range(Q - i):
            a, b = row[2 * (i + k)], row[2 * (i + k) + 1]
            if p % 2:
                a, b = b, -a
            K[0, k] += a
            K[1, k] += b
    return K


@jit
def _read(first, second, sign, parts, u, v):
    """The adjoint of `_write`."""
    Q = u.shape[0]
    if parts == 1:
        for k in range(Q):
            u[k], v[k] = first[k], sign * second[k]
    else:
        for k in range(Q):
            u[k] = first[2 * k] + second[2 * k + 1]
            v[k] = sign * (second[2 * k] - first[2 * k + 1])


@jit_reassociated
def _moments(x, y, u, v):
    """``sum_k conj(A^k) g_k`` and ``sum_k k conj(A^(k-1)) g_k`` [CHUNK-9]; A^k = x + i y."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for k in range(x.shape[0]):
        a += x[k] * u[k] + y[k] * v[k]
        b += x[k] * v[k] - y[k] * u[k]
    for k in range(1, x.shape[0]):
        c += k * (x[k - 1] * u[k] + y[k - 1] * v[k])
        d += k * (x[k - 1] * v[k] - y[k - 1] * u[k])
    return complex(a, b), complex(c, d)
