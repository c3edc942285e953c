"""The kernels of `chunked`: blocks of chunks, a few matrix products each.

Design
------
* One *task* is one channel of a few sequences. It forms the channel's tables and goes through time
  in blocks of some 256 chunks, all its sequences side by side, so that the matrices are tall enough
  for BLAS also where a sequence has few chunks, and all of a block stays in the second cache.
* The samples of a block are gathered beside the states, Z = [U | X], and the cotangents beside the
  adjoint states, [G | Lambda]. Each product then reads one matrix, and u, grad_y are read from
  memory once a pass. The padding of a last chunk is zero and stays in here.
* Only the states at the beginnings of blocks are kept. The backward pass forms those inside a block
  again, by the same product and with the same bits: keeping them all takes as long, for the memory
  has to be cleared, written and read.
* States are carried in double precision from chunk to chunk.
* Tasks depend on the shapes alone, and their gradients are summed in a fixed order: the bits do not
  depend on the number of threads.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual._numba import gemm, jit, jit_contracted, parallel_jit, prange
from ssm_manual.ops._chunked_tables import fill, normal, powers, pull_back

#: Chunks in a block, all sequences of a task together.
ROWS = 256


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
    """What a worker needs, allocated once for all its tasks."""

    P: np.ndarray  # (2, N, Q + 1)
    TW: np.ndarray  # (R + 2N, R), R = parts Q
    TV: np.ndarray  # (R + 2N, R)
    Z: np.ndarray  # (rows, R + 2N): samples, states
    G: np.ndarray  # (rows, R + 2N): cotangents, adjoint states
    out: np.ndarray  # (rows, R)
    grad_TW: np.ndarray  # (R + 2N, R)
    grad_V: np.ndarray  # (2N, R), transposed
    grad_last: np.ndarray  # (2, 2, N): to A^Q and to A^rest
    last: np.ndarray  # (2, N): A^Q, or A^rest in a last chunk
    carry: np.ndarray  # (group, 2, N)


def blocks_in(length, sizes):
    """The number of blocks, whose first states are kept; a last short chunk is one of its own."""
    full = length // sizes.Q
    return -(-full // sizes.block) + (length % sizes.Q > 0)


@jit
def _scratch(model, u, sizes, backward):
    """Arrays for one worker; the backward ones empty where they are not needed."""
    Q, parts, group, block = sizes
    N, R = model.poles.shape[1], parts * Q
    rows = group * block
    W = R + 2 * N
    dtype = u.dtype
    more = 1 if backward else 0
    return Scratch(
        np.empty((2, N, Q + 1)),
        np.empty((W, R), dtype),
        np.empty((W, R), dtype),
        np.empty((rows, W), dtype),
        np.empty((more * rows, W), dtype),
        np.empty((rows, R), dtype),
        np.empty((more * W, R), dtype),
        np.empty((more * 2 * N, R), dtype),
        np.empty((2, 2, N)),
        np.empty((2, N)),
        np.empty((group, 2, N)),
    )


@jit
def _prepare(model, h, sizes, s):
    """The tables of channel h."""
    powers(model.poles[h], model.is_exponent, s.TW.itemsize == 8, s.P)
    fill(s.P, model.B[h], model.weight[h], model.D[h], sizes.parts, s.TW, s.TV)


@jit
def _span(i, length, sizes):
    """Of block i: its first number, its chunks, their length in numbers."""
    Q, parts, _, block = sizes
    full = length // Q
    first = i * block
    if first < full:
        return first * Q * parts, min(block, full - first), parts * Q
    return full * Q * parts, 1, parts * (length - full * Q)


@jit
def _set_last(P, power, last):
    last[0] = P[0, :, power]
    last[1] = P[1, :, power]


@jit
def _load(u, first, chunks, width, R, Z):
    """Chunks as rows, sequence by sequence; a short one is padded with zeros."""
    for b in range(u.shape[0]):
        for j in range(chunks):
            start = first + j * R
            row = Z[b * chunks + j]
            row[:width] = u[b, start : start + width]
            row[width:R] = 0


@jit
def _store(rows, first, chunks, width, R, y):
    for b in range(y.shape[0]):
        for j in range(chunks):
            start = first + j * R
            y[b, start : start + width] = rows[b * chunks + j, :width]


@jit_contracted
def _pass_states(Z, R, chunks, last, x, small):
    """``x' = A^Q x + s`` [CHUNK-3] along one sequence: each s gives way to the state before it."""
    N = last.shape[1]
    a, b, real, imag = last[0], last[1], x[0], x[1]
    for j in range(chunks):
        first, second = Z[j, R : R + N], Z[j, R + N :]
        for n in range(N):
            p, q = normal(real[n], small), normal(imag[n], small)
            real[n] = a[n] * p - b[n] * q + first[n]
            imag[n] = a[n] * q + b[n] * p + second[n]
            first[n], second[n] = p, q


@jit_contracted
def _pass_adjoints(G, Z, R, chunks, last, adjoint, grad_last, small):
    """``mu = r + conj(A^Q) lambda`` [CHUNK-6] from the last chunk on: each r gives way to lambda.

    And the gradient to A^Q, ``lambda conj(x)`` [CHUNK-7].
    """
    N = last.shape[1]
    a, b, real, imag = last[0], last[1], adjoint[0], adjoint[1]
    for_a, for_b = grad_last[0], grad_last[1]
    for j in range(chunks - 1, -1, -1):
        first, second, x, y = G[j, R : R + N], G[j, R + N :], Z[j, R : R + N], Z[j, R + N :]
        for n in range(N):
            for_a[n] += real[n] * x[n] + imag[n] * y[n]
            for_b[n] += imag[n] * x[n] - real[n] * y[n]
        for n in range(N):
            p, q = normal(real[n], small), normal(imag[n], small)
            real[n] = a[n] * p + b[n] * q + first[n]
            imag[n] = a[n] * q - b[n] * p + second[n]
            first[n], second[n] = p, q


# ------------------------------------------------------------------------------------------- tasks


@jit
def _small(dtype):
    """Below this a state is zero, so that its products with tables are normal numbers too."""
    return 4096 * float(np.finfo(dtype).tiny)


@jit
def _states(s, sizes, width, chunks, sequences):
    """From the samples in Z to the states beside them; ``s.carry`` moves to the block's end."""
    R = sizes.parts * sizes.Q
    rows = sequences * chunks
    # the last columns of V^T: a short chunk ends where a whole one does [CHUNK-5]
    gemm(s.Z[:rows, :width], s.TV[R:, R - width :].T, 0.0, s.Z[:rows, R:])
    _set_last(s.P, width // sizes.parts, s.last)
    for b in range(sequences):
        Z = s.Z[b * chunks : (b + 1) * chunks]
        _pass_states(Z, R, chunks, s.last, s.carry[b], _small(s.Z.dtype))


@jit
def _forward_task(sizes, s, u, x, y, starts):
    """One channel of a few sequences: u, y (group, parts L), x (group, N), starts (group, ...)."""
    R, N = sizes.parts * sizes.Q, s.P.shape[1]
    length, sequences = u.shape[1] // sizes.parts, u.shape[0]
    for b in range(sequences):
        for n in range(N):
            s.carry[b, 0, n], s.carry[b, 1, n] = x[b, n].real, x[b, n].imag
    for i in range(starts.shape[1]):
        first, chunks, width = _span(i, length, sizes)
        rows = sequences * chunks
        starts[:, i] = s.carry[:sequences]
        _load(u, first, chunks, width, R, s.Z)
        _states(s, sizes, width, chunks, sequences)
        gemm(s.Z[:rows], s.TW, 0.0, s.out[:rows])  # [CHUNK-4]
        _store(s.out, first, chunks, width, R, y)
    for b in range(sequences):
        for n in range(N):
            x[b, n] = complex(s.carry[b, 0, n], s.carry[b, 1, n])


@jit
def _backward_task(sizes, s, u, g, starts, adjoint, grad_u):
    """The same backwards; the gradients of the tables are added up in the scratch arrays."""
    R, N = sizes.parts * sizes.Q, s.P.shape[1]
    length, sequences = u.shape[1] // sizes.parts, u.shape[0]
    small = _small(u.dtype)
    s.grad_TW[:], s.grad_V[:], s.grad_last[:] = 0, 0, 0
    carry = np.empty((sequences, 2, N))  # of lambda
    for b in range(sequences):
        for n in range(N):
            carry[b, 0, n], carry[b, 1, n] = adjoint[b, n].real, adjoint[b, n].imag
    for i in range(starts.shape[1] - 1, -1, -1):
        first, chunks, width = _span(i, length, sizes)
        rows = sequences * chunks
        _load(u, first, chunks, width, R, s.Z)
        s.carry[:sequences] = starts[:, i]
        _states(s, sizes, width, chunks, sequences)
        _load(g, first, chunks, width, R, s.G)
        gemm(s.G[:rows, :R], s.TW[R:].T, 0.0, s.G[:rows, R:])  # r = G W^T [CHUNK-6]
        for b in range(sequences):
            span = slice(b * chunks, (b + 1) * chunks)
            to_last = s.grad_last[0 if width == R else 1]
            _pass_adjoints(s.G[span], s.Z[span], R, chunks, s.last, carry[b], to_last, small)
        if width == R:
            gemm(s.G[:rows], s.TV, 0.0, s.out[:rows])  # G T^T + Lambda V^T [CHUNK-7]
        else:
            gemm(s.G[:rows, :R], s.TV[:R], 0.0, s.out[:rows])
            gemm(s.G[:rows, R:], s.TV[R:, R - width :], 1.0, s.out[:rows, :width])
        _store(s.out, first, chunks, width, R, grad_u)
        gemm(s.Z[:rows].T, s.G[:rows, :R], 1.0, s.grad_TW)  # U^T G and X^T G
        gemm(s.G[:rows, R:].T, s.Z[:rows, :width], 1.0, s.grad_V[:, R - width :])  # Lambda^T U
    for b in range(sequences):
        for n in range(N):
            adjoint[b, n] = complex(carry[b, 0, n], carry[b, 1, n])


# ----------------------------------------------------------------------------------------- drivers


@jit
def _forward(worker, workers, model, sizes, u, x, y, starts):
    batch, H, _ = u.shape
    groups = -(-batch // sizes.group)
    s = _scratch(model, u, sizes, False)
    for task in range(worker, H * groups, workers):
        h = task // groups
        span = slice(task % groups * sizes.group, min(batch, (task % groups + 1) * sizes.group))
        _prepare(model, h, sizes, s)
        _forward_task(sizes, s, u[span, h], x[span, h], y[span, h], starts[span, h])


@parallel_jit
def forward(workers, model, sizes, u, x, y, starts):
    """Output into y and last states into x, which holds the first; ``starts`` is for `backward`."""
    for worker in prange(workers):
        _forward(worker, workers, model, sizes, u, x, y, starts)


@jit
def _backward(worker, workers, model, sizes, u, g, starts, adjoint, grads, grad_D, grad_u):
    batch, H, _ = u.shape
    groups = -(-batch // sizes.group)
    s = _scratch(model, u, sizes, True)
    rest = u.shape[2] // sizes.parts % sizes.Q
    for task in range(worker, H * groups, workers):
        h, i = task // groups, task % groups
        span = slice(i * sizes.group, min(batch, (i + 1) * sizes.group))
        _prepare(model, h, sizes, s)
        arrays = u[span, h], g[span, h], starts[span, h], adjoint[span, h], grad_u[span, h]
        _backward_task(sizes, s, *arrays)
        weights = model.B[h], model.weight[h]
        tables = s.grad_TW, s.grad_V, s.grad_last, rest
        grad_D[i, h] = pull_back(s.P, *weights, sizes.parts, *tables, grads[i, :, h])


@parallel_jit
def backward(workers, model, sizes, u, g, starts, adjoint, grads, grad_D, grad_u):
    """Gradients of every group into grads (groups, 3, H, N) and grad_D, of the input into grad_u.

    ``adjoint`` holds the cotangent of the last state and becomes the gradient to the first.
    """
    for worker in prange(workers):
        _backward(worker, workers, model, sizes, u, g, starts, adjoint, grads, grad_D, grad_u)
