"""The tables of `dense_chunked` for one system, and the way back from their cotangents.

    T (p, m, Q, Q): samples -> output      W (m, N, Q): state before a chunk -> output
    V (p, Q, N): samples -> state after it      M (N, N): state before -> state after  [TABLE-1, 2]

Design
------
* Squares A, A^2, A^4, ... and, along with them, the rows ``A^k B`` and ``C A^k`` by doubling
  [TABLE-4, 5]: everything is a matrix product, in double precision, and is rounded once to the
  working precision.
* A product transposed needs the table transposed, and BLAS is fastest where no factor of a small
  product is: the forward pass takes the tables as they stand, the backward pass their transposes.
* Nothing is kept from the forward to the backward pass: squares in double precision would be the
  largest thing kept of a short call.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual._numba import gemm, jit
from ssm_manual.ops._chunked_tables import diagonals, normal, toeplitz


class Model(NamedTuple):
    """Real systems in double precision, or their gradients, which have an axis of groups first."""

    A: np.ndarray  # (H, N, N)
    B: np.ndarray  # (H, N, p)
    C: np.ndarray  # (H, m, N)
    D: np.ndarray  # (H, m, p)


class Powers(NamedTuple):
    """What the tables are made of, in double precision; or the cotangents of all this."""

    squares: np.ndarray  # (S, N, N): A^(2^j), as long as 2^j <= Q
    reached: np.ndarray  # (Q, p, N): row k is A^k B
    seen: np.ndarray  # (Q + 1, m, N): row k is C A^k
    K: np.ndarray  # (m, p, 1, Q): C A^k B, and D beside k = 0
    last: np.ndarray  # (2, N, N): A^Q, and A^rest of a last short chunk
    partial: np.ndarray  # (S, N, N): products on the way to `last`


class Tables(NamedTuple):
    """In the working precision; every matrix is transposed in the backward pass."""

    T: np.ndarray  # (p, m, Q, Q)
    V: np.ndarray  # (p, Q, N); transposed (p, N, Q)
    W: np.ndarray  # (m, N, Q); transposed (m, Q, N)
    M: np.ndarray  # (2, N, N): transposed in the *forward* pass, where it stands on the right


class Cotangents(NamedTuple):
    """Of the tables, in the working precision."""

    T: np.ndarray  # (p, m, Q, Q)
    V: np.ndarray  # (p, Q, N)
    W: np.ndarray  # (m, Q, N), transposed
    M: np.ndarray  # (2, N, N)


@jit
def empty_powers(N, p, m, Q):
    """Memory for the powers of one system."""
    count = 1
    while 1 << count <= Q:
        count += 1
    return Powers(
        np.empty((count, N, N)),
        np.empty((Q, p, N)),
        np.empty((Q + 1, m, N)),
        np.empty((m, p, 1, Q)),
        np.empty((2, N, N)),
        np.empty((count, N, N)),
    )


@jit
def empty_tables(N, p, m, Q, forward, like):
    """Memory for the tables of one system, as the forward or the backward pass reads them."""
    V, W = ((Q, N), (N, Q)) if forward else ((N, Q), (Q, N))
    return Tables(
        np.empty((p, m, Q, Q), like.dtype),
        np.empty((p, V[0], V[1]), like.dtype),
        np.empty((m, W[0], W[1]), like.dtype),
        np.empty((2, N, N), like.dtype),
    )


@jit
def empty_cotangents(N, p, m, Q, like):
    """Memory for the tables' cotangents."""
    return Cotangents(
        np.empty((p, m, Q, Q), like.dtype),
        np.empty((p, Q, N), like.dtype),
        np.empty((m, Q, N), like.dtype),
        np.empty((2, N, N), like.dtype),
    )


# ---------------------------------------------------------------------------------------- forming


@jit
def form(A, B, C, D, rest, P):
    """The powers of one system; ``rest`` is the length of a last short chunk, or 0."""
    Q, p, _ = P.reached.shape
    P.squares[0] = A
    for j in range(1, P.squares.shape[0]):
        gemm(P.squares[j - 1], P.squares[j - 1], 0.0, P.squares[j])  # [TABLE-4]
    for i in range(p):
        P.reached[0, i] = B[:, i]
    P.seen[0] = C
    for j in range(P.squares.shape[0]):
        _double(P.reached, 1 << j, P.squares[j].T)
        _double(P.seen, 1 << j, P.squares[j])
    for o in range(C.shape[0]):
        gemm(B.T, P.seen[:Q, o].T, 0.0, P.K[o, :, 0])
        for i in range(p):
            P.K[o, i, 0, 0] += D[o, i]  # D is a part of the diagonal [TABLE-1]
    P.last[0] = P.partial[_power(P, Q)]
    if rest:
        P.last[1] = P.partial[_power(P, rest)]


@jit
def _double(rows, k, square):
    """``rows[k : 2k] = rows[:k] A^k`` [TABLE-5], as far as there are rows."""
    count, width, N = min(k, rows.shape[0] - k), rows.shape[1], rows.shape[2]
    if count > 0:
        known = rows[:count].reshape((count * width, N))
        gemm(known, square, 0.0, rows[k : k + count].reshape((count * width, N)))


@jit
def _power(P, n):
    """``A^n`` by the binary digits of n [TABLE-4]; returns its place among the partial products."""
    place = -1
    for j in range(P.squares.shape[0]):
        if n >> j & 1:
            place += 1
            if place == 0:
                P.partial[0] = P.squares[j]
            else:
                gemm(P.partial[place - 1], P.squares[j], 0.0, P.partial[place])
    return place


@jit
def fill(P, forward, rest, tables):
    """The tables from the powers, rounded to the working precision."""
    tiny = float(np.finfo(tables.T.dtype).tiny)
    for i in range(P.reached.shape[1]):
        for o in range(P.seen.shape[1]):
            toeplitz(P.K[o, i], 1, forward, tiny, tables.T[i, o])
        V = P.reached[::-1, i]
        _round(V if forward else V.T, tiny, tables.V[i])
    for o in range(P.seen.shape[1]):
        W = P.seen[1:, o]
        _round(W.T if forward else W, tiny, tables.W[o])
    for k in range(2 if rest else 1):
        if forward:
            _round(P.last[k].T, tiny, tables.M[k])
        else:
            _round(P.last[k], tiny, tables.M[k])


@jit
def _round(values, tiny, out):
    for i in range(out.shape[0]):
        row, line = out[i], values[i]
        for j in range(out.shape[1]):
            row[j] = normal(line[j], tiny)


# ----------------------------------------------------------------------------------- the way back


@jit
def pull_back(P, B, rest, given, to, grad_A, grad_B, grad_C, grad_D):
    """Cotangents of the tables to those of the system; ``to`` is memory for those of the powers."""
    Q, p, _ = P.reached.shape
    m = P.seen.shape[1]
    to.squares[:], to.seen[0], grad_B[:] = 0, 0, 0
    for i in range(p):
        for q in range(Q):
            to.reached[Q - 1 - q, i] = given.V[i, q]
    for o in range(m):
        for q in range(Q):
            to.seen[q + 1, o] = given.W[o, q]
        for i in range(p):
            to.K[o, i, 0] = diagonals(given.T[i, o], 1, Q)[0, :Q]  # [TABLE-8]
            grad_D[o, i] = to.K[o, i, 0, 0]
        if p:
            gemm(to.K[o, :, 0].T, B.T, 1.0, to.seen[:Q, o])  # K_l = C A^l B [TABLE-9]
            gemm(P.seen[:Q, o].T, to.K[o, :, 0].T, 1.0, grad_B)
    to.last[0] = given.M[0]
    _power_vjp(P, Q, to.last[0], to)
    if rest:
        to.last[1] = given.M[1]
        _power_vjp(P, rest, to.last[1], to)
    for j in range(P.squares.shape[0] - 1, -1, -1):
        if j + 1 < P.squares.shape[0]:  # of a square, both factors [TABLE-11]
            gemm(to.squares[j + 1], P.squares[j].T, 1.0, to.squares[j])
            gemm(P.squares[j].T, to.squares[j + 1], 1.0, to.squares[j])
        _double_vjp(P.reached, to.reached, 1 << j, P.squares[j], True, to.squares[j])
        _double_vjp(P.seen, to.seen, 1 << j, P.squares[j], False, to.squares[j])
    for i in range(p):
        grad_B[:, i] += to.reached[0, i]
    grad_C[:], grad_A[:] = to.seen[0], to.squares[0]


@jit
def _double_vjp(rows, grads, k, square, transposed, grad_square):
    """The adjoint of `_double` [TABLE-10]."""
    count, width, N = min(k, rows.shape[0] - k), rows.shape[1], rows.shape[2]
    if count > 0 and width:
        known = rows[:count].reshape((count * width, N))
        to_known = grads[:count].reshape((count * width, N))
        given = grads[k : k + count].reshape((count * width, N))
        if transposed:
            gemm(given, square, 1.0, to_known)
            gemm(given.T, known, 1.0, grad_square)
        else:
            gemm(given, square.T, 1.0, to_known)
            gemm(known.T, given, 1.0, grad_square)


@jit
def _power_vjp(P, n, given, to):
    """The adjoint of `_power`, last digit first [TABLE-11]; ``given`` is overwritten."""
    place = _power(P, n)
    for j in range(P.squares.shape[0] - 1, -1, -1):
        if n >> j & 1:
            if place == 0:
                to.squares[j] += given
            else:
                gemm(P.partial[place - 1].T, given, 1.0, to.squares[j])
                gemm(given, P.squares[j].T, 0.0, to.partial[0])
                given[:] = to.partial[0]
            place -= 1
