"""The tables of `chunked` for one channel, and the way back from their cotangents.

    T (R, R): samples -> output            W (2N, R): state before a chunk -> output
    V (R, 2N): samples -> state after it                                  [CHUNK-1 to 3]

with R = parts Q numbers a chunk.

Design
------
* Powers, kernel and tables are formed in double precision (in double precision from double-double
  anchors, as `_vandermonde_rows` does) and rounded once to the working precision.
* Forming runs over modes, contiguous in memory, and the sums over time of the backward pass over
  time, so that every loop vectorises. BLAS is fastest where no factor of a small product is
  transposed, so W and V are kept both ways.
* Complex signals are real ones of twice the length: re, im, re, im, ... Each entry becomes a block
  of two by two, and only this file knows of it.
"""

import numpy as np

from ssm_manual._numba import jit, jit_reassociated
from ssm_manual.ops._vandermonde_rows import tables as anchored_powers


@jit
def powers(poles, is_exponent, exact, P):
    """Row k of P: the real parts of A^k, then the imaginary parts; k = 0, ..., Q, Q at least 1."""
    count, N = P.shape[0], poles.shape[0]
    if exact:
        W, Z = np.empty((count, N), np.complex128), np.empty((1, N), np.complex128)
        anchored_powers(poles, is_exponent, True, W, Z)
        for k in range(count):
            for n in range(N):
                P[k, n], P[k, N + n] = W[k, n].real, W[k, n].imag
        return
    P[0, :N], P[0, N:] = 1, 0
    for k in range(1, count):
        _scaled(poles, P[k - 1], P[k])


@jit
def _scaled(w, row, out):
    """``w`` times a row of P."""
    N = w.shape[0]
    x, y, u, v = row[:N], row[N:], out[:N], out[N:]
    for n in range(N):
        u[n] = w[n].real * x[n] - w[n].imag * y[n]
        v[n] = w[n].real * y[n] + w[n].imag * x[n]


@jit
def fill(P, B, weight, D, parts, forward, T, W, V, W_transposed, V_transposed):
    """Form V, with T and W (forward), or with T^T, W^T and V^T; ``weight`` is C, or twice C."""
    Q = P.shape[0] - 1
    tiny = float(np.finfo(T.dtype).tiny)
    row, product = np.empty(P.shape[1]), weight * B
    K = np.empty((2, Q))
    for k in range(Q):
        K[0, k], K[1, k] = _summed(product, P[k])
        _scaled(B, P[k], row)
        _write(row, 1.0, parts, tiny, Q - 1 - k, V)
        _scaled(weight, P[k + 1], row)
        _write(row, -1.0, parts, tiny, k, W_transposed)
    K[0, 0] += D.real  # D is a part of the diagonal [CHUNK-1]
    K[1, 0] += D.imag
    toeplitz(K, parts, forward, tiny, T)
    if forward:
        _transpose(W_transposed, W)
    else:
        _transpose(V, V_transposed)


@jit_reassociated
def _summed(w, row):
    """The sum of ``w`` times a row of P."""
    N = w.shape[0]
    x, y = row[:N], row[N:]
    a, b = 0.0, 0.0
    for n in range(N):
        a += w[n].real * x[n] - w[n].imag * y[n]
        b += w[n].real * y[n] + w[n].imag * x[n]
    return a, b


@jit
def _write(values, sign, parts, tiny, k, table):
    """Sample k of V (sign 1) or of W^T (sign -1): one row, or two of a complex signal."""
    N = values.shape[0] // 2
    row = table[parts * k]
    u, v, first, second = values[:N], values[N:], row[:N], row[N:]
    for n in range(N):
        first[n], second[n] = normal(u[n], tiny), normal(sign * v[n], tiny)
    if parts == 2:
        below = table[2 * k + 1]
        for n in range(N):
            below[n], below[N + n] = -sign * normal(v[n], tiny), first[n]


@jit
def normal(x, small):
    """x, or zero where it is small: a processor is a hundred times slower on subnormal numbers."""
    return 0.0 if abs(x) < small else x


@jit
def _transpose(A, out):
    for j in range(out.shape[0]):
        row = out[j]
        for i in range(out.shape[1]):
            row[i] = A[i, j]


@jit
def toeplitz(K, parts, forward, tiny, T):
    """``T[p, q] = K_{q-p}``, p <= q, or its transpose; blocks of two by two for complex K."""
    Q = K.shape[1]
    if parts == 1:
        line = np.zeros(2 * Q, T.dtype)  # K between zeros, or K from its end
        for k in range(Q):
            line[Q + k if forward else Q - 1 - k] = normal(K[0, k], tiny)
        for p in range(Q):
            start = Q - p if forward else Q - 1 - p
            row, values = T[p], line[start : start + Q]
            for q in range(Q):
                row[q] = values[q]
        return
    T[:] = 0
    for p in range(Q):
        for q in range(p, Q):
            a, b = normal(K[0, q - p], tiny), normal(K[1, q - p], tiny)
            i, j = (2 * p, 2 * q) if forward else (2 * q, 2 * p)
            T[i, j] = T[i + 1, j + 1] = a
            T[2 * p if forward else 2 * q + 1, 2 * q + 1 if forward else 2 * p] = b
            T[2 * p + 1 if forward else 2 * q, 2 * q if forward else 2 * p + 1] = -b


@jit
def pull_back(P, B, weight, parts, grad_T, grad_W, grad_V, grad_last, rest, grads):
    """Cotangents of the tables to those of A, B and ``weight`` [CHUNK-8, 9]; returns that of D.

    ``grad_V`` is transposed. ``grad_last`` (2, 2, N): cotangents of A^Q and of A^rest, real and
    imaginary parts. ``grads`` (3, N), complex.
    """
    count, N = P.shape[0], B.shape[0]
    Q = count - 1
    K = diagonals(grad_T, parts, Q)
    v, w = np.zeros((2, count)), np.zeros((2, count))  # cotangents beside the powers A^k
    powers_of = np.empty((2 * N, count))
    _transpose(P, powers_of)
    x, y = powers_of[:N], powers_of[N:]
    for n in range(N):
        _read(grad_V[n], grad_V[N + n], 1.0, parts, v[0, :Q][::-1], v[1, :Q][::-1])
        _read(grad_W[n], grad_W[N + n], -1.0, parts, w[0, 1:], w[1, 1:])
        for_V, for_W, for_K = _moments(x[n], y[n], v[0], v[1], w[0], w[1], K[0], K[1])
        b, c = B[n].conjugate(), weight[n].conjugate()
        grads[0, n] = b * for_V[1] + c * for_W[1] + b * c * for_K[1]
        for i, power in enumerate((Q, rest)):
            if power:
                slope = power * complex(x[n, power - 1], -y[n, power - 1])
                grads[0, n] += slope * complex(grad_last[i, 0, n], grad_last[i, 1, n])
        grads[1, n] = for_V[0] + c * for_K[0]
        grads[2, n] = for_W[0] + b * for_K[0]
    return complex(K[0, 0], K[1, 0])


@jit
def diagonals(grad_T, parts, Q):
    """Sums along the diagonals of T's cotangent: that of K [CHUNK-8]; a zero beside A^Q."""
    K = np.zeros((2, Q + 1))
    total = K[0]
    for p in range(parts * Q):
        row = grad_T[p]
        if parts == 1:
            values = row[p:]
            for k in range(Q - p):
                total[k] += values[k]
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
    """The adjoint of `_write`, one mode over time."""
    Q = u.shape[0]
    if parts == 1:
        for k in range(Q):
            u[k], v[k] = first[k], sign * second[k]
    else:
        for k in range(Q):
            u[k] = first[2 * k] + second[2 * k + 1]
            v[k] = sign * (second[2 * k] - first[2 * k + 1])


@jit_reassociated
def _moments(x, y, v, v_imag, w, w_imag, k, k_imag):
    """Of each cotangent g: ``sum_i conj(A^i) g_i`` and ``sum_i i conj(A^(i-1)) g_i`` [CHUNK-9]."""
    a, b, c, d, e, f = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(x.shape[0]):
        a += x[i] * v[i] + y[i] * v_imag[i]
        b += x[i] * v_imag[i] - y[i] * v[i]
        c += x[i] * w[i] + y[i] * w_imag[i]
        d += x[i] * w_imag[i] - y[i] * w[i]
        e += x[i] * k[i] + y[i] * k_imag[i]
        f += x[i] * k_imag[i] - y[i] * k[i]
    p, q, r, s, t, u = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(x.shape[0] - 1):
        m = i + 1.0
        p += m * (x[i] * v[i + 1] + y[i] * v_imag[i + 1])
        q += m * (x[i] * v_imag[i + 1] - y[i] * v[i + 1])
        r += m * (x[i] * w[i + 1] + y[i] * w_imag[i + 1])
        s += m * (x[i] * w_imag[i + 1] - y[i] * w[i + 1])
        t += m * (x[i] * k[i + 1] + y[i] * k_imag[i + 1])
        u += m * (x[i] * k_imag[i + 1] - y[i] * k[i + 1])
    return (
        (complex(a, b), complex(p, q)),
        (complex(c, d), complex(r, s)),
        (complex(e, f), complex(t, u)),
    )
