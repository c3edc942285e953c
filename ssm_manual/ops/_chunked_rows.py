"""The kernels of `chunked`: blocks of chunks, a few matrix products each.

Design
------
* One *task* is one channel of a few sequences. It forms the channel's tables and goes through time
  in blocks of some 512 chunks, all sequences together, so that a block stays in the second cache
  and u and grad_y are read from memory once a pass.
* A *piece* of a block is what one matrix product takes: the chunks of one sequence, or one chunk of
  every sequence, whichever makes more rows. Both are matrices as they lie in memory, with another
  distance between the rows: nothing is copied. So is a last short chunk, of all sequences.
* Small products run fastest, and BLAS need not copy their factors either, up to some 10^6 terms.
* Only the states at the beginnings of blocks are kept. The backward pass forms those inside a block
  again, by the same product and with the same bits: keeping them all takes as long, for the memory
  has to be cleared, written and read.
* States are carried in double precision from chunk to chunk.
* Tasks depend on the shapes alone, and their gradients are summed in a fixed order: the bits do not
  depend on the number of threads.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ssm_manual._numba import gemm, jit, jit_contracted, parallel_jit, prange
from ssm_manual.ops._chunked_tables import fill, normal, powers, pull_back

#: Chunks in a block, all sequences of a task together, and of one sequence at most.
ROWS = 512
LONGEST_BLOCK = 128


class Model(NamedTuple):
    """The weights of a layer, and how they are to be read."""

    poles: np.ndarray  # (H, N) complex128: A, or log A
    is_exponent: bool
    B: np.ndarray  # (H, N) complex128
    weight: np.ndarray  # (H, N) complex128: C, twice C for real output
    D: np.ndarray  # (H,) complex128


class Sizes(NamedTuple):
    """How the work is divided; of the shapes alone."""

    Q: int  # samples a chunk
    parts: int  # numbers a sample: 1 real, 2 complex
    group: int  # sequences a task
    block: int  # chunks a block, of one sequence


class Scratch(NamedTuple):
    """What a worker needs, allocated once for all its tasks; R = parts Q."""

    P: np.ndarray  # (Q + 1, 2N)
    T: np.ndarray  # (R, R); transposed in the backward pass
    W: np.ndarray  # (2N, R)
    V: np.ndarray  # (R, 2N)
    W_transposed: np.ndarray
    V_transposed: np.ndarray
    X: np.ndarray  # (rows, 2N): states before the chunks of a block
    adjoints: np.ndarray  # (rows of a piece, 2N)
    carry: np.ndarray  # (2, group, 2, N): states, and adjoint states
    last: np.ndarray  # (2, N): A^Q, or A^rest in a last chunk
    grad_T: np.ndarray  # (R, R)
    grad_W: np.ndarray  # (2N, R)
    grad_V: np.ndarray  # (2N, R), transposed
    grad_last: np.ndarray  # (2, 2, N): to A^Q and to A^rest


def blocks_in(length, sizes):
    """The number of blocks, whose first states are kept; a last short chunk is one of its own."""
    full = length // sizes.Q
    return -(-full // sizes.block) + (length % sizes.Q > 0)


@jit
def _scratch(model, u, sizes):
    Q, parts, group, block = sizes
    N, R = model.poles.shape[1], parts * Q
    dtype = u.dtype
    return Scratch(
        np.empty((Q + 1, 2 * N)),
        np.empty((R, R), dtype),
        np.empty((2 * N, R), dtype),
        np.empty((R, 2 * N), dtype),
        np.empty((R, 2 * N), dtype),
        np.empty((2 * N, R), dtype),
        np.empty((group * block, 2 * N), dtype),
        np.empty((max(group, block), 2 * N), dtype),
        np.empty((2, group, 2, N)),
        np.empty((2, N)),
        np.empty((R, R), dtype),
        np.empty((2 * N, R), dtype),
        np.empty((2 * N, R), dtype),
        np.empty((2, 2, N)),
    )


@jit
def _prepare(model, h, sizes, forward, s):
    """The tables of channel h."""
    powers(model.poles[h], model.is_exponent, s.T.itemsize == 8, s.P)
    B, weight, D = model.B[h], model.weight[h], model.D[h]
    tables = s.T, s.W, s.V, s.W_transposed, s.V_transposed
    fill(s.P, B, weight, D, sizes.parts, forward, *tables)


# ----------------------------------------------------------------------------- blocks and pieces


@jit
def _block(i, length, sizes, P, last):
    """Block i: its first number, its chunks and their length in numbers; sets ``last``."""
    Q, parts, _, block = sizes
    full = length // Q
    first = i * block
    if first < full:
        found, power = (first * Q * parts, min(block, full - first), parts * Q), Q
    else:
        power = length - full * Q
        found = (full * Q * parts, 1, parts * power)
    N = last.shape[1]
    last[0], last[1] = P[power, :N], P[power, N:]
    return found


@jit
def pieces_of(sequences, chunks):
    """How many pieces, and rows in each: chunks of a sequence, or one chunk of all sequences."""
    return (sequences, chunks) if chunks >= sequences else (chunks, sequences)


@jit
def piece(k, u, sequences, h, block):
    """Piece k of a block as a matrix, a chunk a row."""
    first, chunks, width = block
    start, count = sequences
    size = u.itemsize
    if chunks >= count:
        samples = u[start + k, h, first:]
        return as_strided(samples, (chunks, width), (width * size, size))
    samples = u[start:, h, first + k * width :]
    return as_strided(samples, (count, width), (u.strides[0], size))


@jit_contracted
def _advance(states, last, carries, first, step, small):
    """``x' = A^Q x + s`` [CHUNK-3] row by row; every s gives way to the state before its chunk."""
    N = last.shape[1]
    a, b = last[0], last[1]
    for j in range(states.shape[0]):
        row, carry = states[j], carries[first + j * step]
        real, imag, s, t = carry[0], carry[1], row[:N], row[N:]
        for n in range(N):
            p, q = normal(real[n], small), normal(imag[n], small)
            real[n] = a[n] * p - b[n] * q + s[n]
            imag[n] = a[n] * q + b[n] * p + t[n]
            s[n], t[n] = p, q


@jit_contracted
def _retreat(adjoints, states, last, carries, first, step, grad_last, small):
    """``mu = r + conj(A^Q) lambda`` [CHUNK-6], last row first; every r gives way to lambda.

    And the gradient to A^Q, ``lambda conj(x)`` [CHUNK-7].
    """
    N = last.shape[1]
    a, b, to_a, to_b = last[0], last[1], grad_last[0], grad_last[1]
    for j in range(states.shape[0] - 1, -1, -1):
        row, before, carry = adjoints[j], states[j], carries[first + j * step]
        real, imag, r, t, x, y = carry[0], carry[1], row[:N], row[N:], before[:N], before[N:]
        for n in range(N):
            to_a[n] += real[n] * x[n] + imag[n] * y[n]
            to_b[n] += imag[n] * x[n] - real[n] * y[n]
        for n in range(N):
            p, q = normal(real[n], small), normal(imag[n], small)
            real[n] = a[n] * p + b[n] * q + r[n]
            imag[n] = a[n] * q - b[n] * p + t[n]
            r[n], t[n] = p, q


@jit
def smallest(dtype):
    """Below this a state is zero, so that its products with tables are normal numbers too."""
    return 4096 * float(np.finfo(dtype).tiny)


@jit
def _states(s, k, U, sequences, chunks):
    """The states before the chunks of piece k, in their rows of X; the carry moves on."""
    rows, width = U.shape
    X = s.X[k * rows : (k + 1) * rows]
    # The last rows of V: a short chunk ends where a whole one does [CHUNK-5].
    gemm(U, s.V[s.V.shape[0] - width :], 0.0, X)
    first, step = (k, 0) if chunks >= sequences else (0, 1)
    _advance(X, s.last, s.carry[0], first, step, smallest(X.dtype))
    return X


# ------------------------------------------------------------------------------------------- tasks


@jit
def _forward_task(sizes, s, h, sequences, u, x, y, starts):
    """Channel h of ``sequences``, a first one and a count."""
    N, length = s.last.shape[1], u.shape[2] // sizes.parts
    start, count = sequences
    for b in range(count):
        for n in range(N):
            z = x[start + b, h, n]
            s.carry[0, b, 0, n], s.carry[0, b, 1, n] = z.real, z.imag
    for i in range(starts.shape[2]):
        block = _block(i, length, sizes, s.P, s.last)
        chunks, width = block[1], block[2]
        starts[start : start + count, h, i] = s.carry[0, :count]
        for k in range(pieces_of(count, chunks)[0]):
            U = piece(k, u, sequences, h, block)
            Y = piece(k, y, sequences, h, block)
            X = _states(s, k, U, count, chunks)
            gemm(U, s.T[:width, :width], 0.0, Y)  # [CHUNK-4]
            gemm(X, s.W[:, :width], 1.0, Y)
    for b in range(count):
        for n in range(N):
            x[start + b, h, n] = complex(s.carry[0, b, 0, n], s.carry[0, b, 1, n])


@jit
def _backward_task(sizes, s, h, sequences, u, g, starts, adjoint, grad_u):
    """The same backwards; the gradients of the tables are added up in the scratch arrays."""
    N, length = s.last.shape[1], u.shape[2] // sizes.parts
    R = sizes.parts * sizes.Q
    start, count = sequences
    small = smallest(u.dtype)
    s.grad_T[:], s.grad_W[:], s.grad_V[:], s.grad_last[:] = 0, 0, 0, 0
    for b in range(count):
        for n in range(N):
            z = adjoint[start + b, h, n]
            s.carry[1, b, 0, n], s.carry[1, b, 1, n] = z.real, z.imag
    for i in range(starts.shape[2] - 1, -1, -1):
        block = _block(i, length, sizes, s.P, s.last)
        chunks, width = block[1], block[2]
        to_last = s.grad_last[0 if width == R else 1]
        pieces, rows = pieces_of(count, chunks)
        s.carry[0, :count] = starts[start : start + count, h, i]
        for k in range(pieces):
            _states(s, k, piece(k, u, sequences, h, block), count, chunks)
        for k in range(pieces - 1, -1, -1):
            U = piece(k, u, sequences, h, block)
            G = piece(k, g, sequences, h, block)
            X, adjoints = s.X[k * rows : (k + 1) * rows], s.adjoints[:rows]
            gemm(G, s.W_transposed[:width], 0.0, adjoints)  # r = G W^T [CHUNK-6]
            turn = (k, 0) if chunks >= count else (0, 1)
            _retreat(adjoints, X, s.last, s.carry[1], *turn, to_last, small)
            out = piece(k, grad_u, sequences, h, block)
            gemm(G, s.T[:width, :width], 0.0, out)  # G T^T + Lambda V^T [CHUNK-7]
            gemm(adjoints, s.V_transposed[:, R - width :], 1.0, out)
            gemm(U.T, G, 1.0, s.grad_T[:width, :width])  # [CHUNK-8]
            gemm(X.T, G, 1.0, s.grad_W[:, :width])
            gemm(adjoints.T, U, 1.0, s.grad_V[:, R - width :])
    for b in range(count):
        for n in range(N):
            adjoint[start + b, h, n] = complex(s.carry[1, b, 0, n], s.carry[1, b, 1, n])


# ----------------------------------------------------------------------------------------- drivers


@jit
def _forward(worker, workers, model, sizes, u, x, y, starts):
    batch, H, _ = u.shape
    groups = -(-batch // sizes.group)
    s = _scratch(model, u, sizes)
    for task in range(worker, H * groups, workers):
        h, start = task // groups, task % groups * sizes.group
        _prepare(model, h, sizes, True, s)
        sequences = start, min(sizes.group, batch - start)
        _forward_task(sizes, s, h, sequences, u, x, y, starts)


@parallel_jit
def forward(workers, model, sizes, u, x, y, starts):
    """Output into y and last states into x, which holds the first; ``starts`` is for `backward`."""
    for worker in prange(workers):
        _forward(worker, workers, model, sizes, u, x, y, starts)


@jit
def _backward(worker, workers, model, sizes, u, g, starts, adjoint, grads, grad_D, grad_u):
    batch, H, _ = u.shape
    groups = -(-batch // sizes.group)
    s = _scratch(model, u, sizes)
    rest = u.shape[2] // sizes.parts % sizes.Q
    for task in range(worker, H * groups, workers):
        h, i = task // groups, task % groups
        start = i * sizes.group
        _prepare(model, h, sizes, False, s)
        sequences = start, min(sizes.group, batch - start)
        _backward_task(sizes, s, h, sequences, u, g, starts, adjoint, grad_u)
        weights = model.B[h], model.weight[h]
        tables = s.grad_T, s.grad_W, s.grad_V, s.grad_last
        grad_D[i, h] = pull_back(s.P, *weights, sizes.parts, *tables, rest, grads[i, :, h])


@parallel_jit
def backward(workers, model, sizes, u, g, starts, adjoint, grads, grad_D, grad_u):
    """Gradients of every group into grads (groups, 3, H, N) and grad_D, of the input into grad_u.

    ``adjoint`` holds the cotangent of the last state and becomes the gradient to the first.
    """
    for worker in prange(workers):
        _backward(worker, workers, model, sizes, u, g, starts, adjoint, grads, grad_D, grad_u)
