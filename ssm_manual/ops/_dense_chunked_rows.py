"""The kernels of `dense_chunked`: blocks of chunks, a few matrix products each.

Design
------
* One *task* is one system for a few sequences; blocks and pieces are those of `_chunked_rows`, and
  channel i of system h is its channel ``h p + i``.
* The states before all chunks are kept, N numbers a chunk behind one another: a signal as well, of
  which a piece is a matrix as it lies in memory. What U V writes into the row *after* its chunk is
  what `M x` is added to, so a state is never copied.
* From chunk to chunk the states of all sequences of a task are one matrix, whose product with M is
  most of a block's sequential time.
* Tasks depend on the shapes alone, and their gradients are summed in a fixed order: the bits do not
  depend on the number of threads.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ssm_manual._numba import gemm, jit, parallel_jit, prange
from ssm_manual.ops._chunked_rows import piece, pieces_of, smallest
from ssm_manual.ops._chunked_tables import normal
from ssm_manual.ops._dense_tables import (
    empty_cotangents,
    empty_powers,
    empty_tables,
    fill,
    form,
    pull_back,
)


class Sizes(NamedTuple):
    """How the work is divided; of the shapes alone."""

    Q: int  # samples a chunk
    group: int  # sequences a task
    block: int  # chunks a block, of one sequence


def chunks_in(length, sizes):
    """The number of chunks, a last short one included."""
    return -(-length // sizes.Q)


@jit
def _prepare(model, h, forward, rest, P, tables):
    """The tables of system h."""
    form(model.A[h], model.B[h], model.C[h], model.D[h], rest, P)
    fill(P, forward, rest, tables)


# ------------------------------------------------------------------------- blocks and their states


@jit
def _blocks(length, sizes):
    """The number of blocks; a last short chunk is one of its own."""
    full = length // sizes.Q
    return -(-full // sizes.block) + (length % sizes.Q > 0)


@jit
def _block(i, length, sizes, N):
    """Block i of the samples, and of the states before and after its chunks: see `piece`."""
    Q, _, block = sizes
    full = length // Q
    first = i * block
    if first < full:
        chunks, width = min(block, full - first), Q
    else:
        first, chunks, width = full, 1, length - full * Q
    return (first * Q, chunks, width), (first * N, chunks, N), ((first + 1) * N, chunks, N)


@jit
def _states(X, sequences, h, first, N):
    """The states of all sequences before one chunk, a row each."""
    start, count = sequences
    return as_strided(X[start:, h, first:], (count, N), (X.strides[0], X.itemsize))


@jit
def _flush(states, small):
    """A decaying state ends as zero: subnormal numbers are slow."""
    for b in range(states.shape[0]):
        row = states[b]
        for n in range(row.shape[0]):
            row[n] = normal(row[n], small)


# ------------------------------------------------------------------------------------------- tasks


@jit
def _forward_task(sizes, tables, h, sequences, length, u, y, X):
    """System h of ``sequences``, a first one and a count."""
    (p, m, Q, _), N = tables.T.shape, tables.M.shape[1]
    count, small = sequences[1], smallest(X.dtype)
    for i in range(_blocks(length, sizes)):
        samples, before, after = _block(i, length, sizes, N)
        chunks, width = samples[1], samples[2]
        M = tables.M[0 if width == Q else 1]
        for k in range(pieces_of(count, chunks)[0]):
            S = piece(k, X, sequences, h, after)
            if p == 0:
                S[:] = 0
            for c in range(p):  # the last rows of V: a short chunk ends where a whole one does
                U = piece(k, u, sequences, h * p + c, samples)
                gemm(U, tables.V[c, Q - width :], 0.0 if c == 0 else 1.0, S)  # [TABLE-2, 3]
        for j in range(chunks):
            x = _states(X, sequences, h, before[0] + j * N, N)
            _flush(x, small)
            gemm(x, M, 1.0, _states(X, sequences, h, after[0] + j * N, N))
        for k in range(pieces_of(count, chunks)[0]):
            rows = piece(k, X, sequences, h, before)
            for o in range(m):
                Y = piece(k, y, sequences, h * m + o, samples)
                gemm(rows, tables.W[o, :, :width], 0.0, Y)  # [TABLE-3]
                for c in range(p):
                    U = piece(k, u, sequences, h * p + c, samples)
                    gemm(U, tables.T[c, o, :width, :width], 1.0, Y)


@jit
def _backward_task(sizes, tables, to, h, sequences, length, u, g, X, adjoint, Lambda, grad_u):
    """The same backwards; the tables' cotangents are added up in ``to``."""
    (p, m, Q, _), N = tables.T.shape, tables.M.shape[1]
    count, small = sequences[1], smallest(X.dtype)
    mine = 0, count
    to.T[:], to.V[:], to.W[:], to.M[:] = 0, 0, 0, 0
    carry = _states(adjoint, sequences, h, 0, N)
    for i in range(_blocks(length, sizes) - 1, -1, -1):
        samples, before, _ = _block(i, length, sizes, N)
        chunks, width = samples[1], samples[2]
        which = 0 if width == Q else 1
        to_before, to_after = (0, chunks, N), (N, chunks, N)  # rows of Lambda, of this block alone
        for k in range(pieces_of(count, chunks)[0]):
            R = piece(k, Lambda, mine, 0, to_before)
            if m == 0:
                R[:] = 0
            for o in range(m):
                G = piece(k, g, sequences, h * m + o, samples)
                gemm(G, tables.W[o, :width], 0.0 if o == 0 else 1.0, R)  # r = G W^T [TABLE-6]
        _states(Lambda, mine, 0, chunks * N, N)[:] = carry
        for j in range(chunks - 1, -1, -1):
            behind = _states(Lambda, mine, 0, (j + 1) * N, N)
            _flush(behind, small)
            gemm(behind, tables.M[which], 1.0, _states(Lambda, mine, 0, j * N, N))
        carry[:] = _states(Lambda, mine, 0, 0, N)
        for k in range(pieces_of(count, chunks)[0]):
            x, adjoints = piece(k, X, sequences, h, before), piece(k, Lambda, mine, 0, to_after)
            gemm(adjoints.T, x, 1.0, to.M[which])  # [TABLE-7]
            for c in range(p):
                U = piece(k, u, sequences, h * p + c, samples)
                out = piece(k, grad_u, sequences, h * p + c, samples)
                gemm(adjoints, tables.V[c, :, Q - width :], 0.0, out)
                gemm(U.T, adjoints, 1.0, to.V[c, Q - width :])  # [TABLE-8]
                for o in range(m):
                    G = piece(k, g, sequences, h * m + o, samples)
                    gemm(G, tables.T[c, o, :width, :width], 1.0, out)
                    gemm(U.T, G, 1.0, to.T[c, o, :width, :width])
            for o in range(m):
                G = piece(k, g, sequences, h * m + o, samples)
                gemm(G.T, x, 1.0, to.W[o, :width])


# ----------------------------------------------------------------------------------------- drivers


@jit
def _forward(worker, workers, model, sizes, length, u, y, X):
    batch, (H, m, N) = u.shape[0], model.C.shape
    p, rest = model.B.shape[2], length % sizes.Q
    groups = -(-batch // sizes.group)
    P = empty_powers(N, p, m, sizes.Q)
    tables = empty_tables(N, p, m, sizes.Q, True, X)
    for task in range(worker, H * groups, workers):
        h, start = task // groups, task % groups * sizes.group
        _prepare(model, h, True, rest, P, tables)
        sequences = start, min(sizes.group, batch - start)
        _forward_task(sizes, tables, h, sequences, length, u, y, X)


@parallel_jit
def forward(workers, model, sizes, length, u, y, X):
    """Output into y and states into X, whose first ones are given; u and y are flat: `piece`."""
    for worker in prange(workers):
        _forward(worker, workers, model, sizes, length, u, y, X)


@jit
def _backward(worker, workers, model, sizes, length, u, g, X, adjoint, grads, grad_u):
    batch, (H, m, N) = u.shape[0], model.C.shape
    p, rest = model.B.shape[2], length % sizes.Q
    groups = -(-batch // sizes.group)
    P, to_powers = empty_powers(N, p, m, sizes.Q), empty_powers(N, p, m, sizes.Q)
    tables = empty_tables(N, p, m, sizes.Q, False, X)
    to = empty_cotangents(N, p, m, sizes.Q, X)
    Lambda = np.empty((sizes.group, 1, (sizes.block + 1) * N), X.dtype)
    for task in range(worker, H * groups, workers):
        h, i = task // groups, task % groups
        start = i * sizes.group
        _prepare(model, h, False, rest, P, tables)
        sequences = start, min(sizes.group, batch - start)
        _backward_task(sizes, tables, to, h, sequences, length, u, g, X, adjoint, Lambda, grad_u)
        here = grads.A[i, h], grads.B[i, h], grads.C[i, h], grads.D[i, h]
        pull_back(P, model.B[h], rest, to, to_powers, *here)


@parallel_jit
def backward(workers, model, sizes, length, u, g, X, adjoint, grads, grad_u):
    """Gradients of every group into ``grads``, of the input into grad_u.

    ``adjoint`` holds the cotangent of the last state and becomes the gradient to the first.
    """
    for worker in prange(workers):
        _backward(worker, workers, model, sizes, length, u, g, X, adjoint, grads, grad_u)
