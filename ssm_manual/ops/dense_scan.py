"""The recurrence of dense systems, and back-propagation through time by hand.

    x_t = A_bar x_{t-1} + B_bar u_t                          [DENSE-1]
    y_t = C x_t + D u_t                                      [DENSE-2]

Backward, with e_t the cotangent of y_t, from the last step to the first:

    lambda_t = C^* e_t + A_bar^* lambda_{t+1}                [DENSE-9]

where the cotangent of x_last stands for the last step's second term.

Derivation: docs/derivations/dense.md.

Design: time runs in blocks of `BLOCK` steps. Within a block only ``A_bar x`` is a recurrence;
input, output and every gradient are matrix products over the block, by BLAS. ``A_bar x`` adds up
columns, so that the states, not the terms of a sum, fill the vector registers. States are not kept:
one in `BLOCK` is saved, and the backward pass forms a block's states again from it, as [SCAN-12]
does and for its reason: all of them are N times the memory of the input.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._blas import single_threaded
from ssm_manual._numba import gemm, jit, jit_contracted, parallel_jit, prange
from ssm_manual.ops._dense_examples import dense_calls
from ssm_manual.ops._dense_operands import DenseOperands, dense_operands
from ssm_manual.ops.registry import register

__all__ = ["scan", "scan_fwd", "scan_vjp"]

#: Steps between saved states.
BLOCK = 64

#: Products (batch x H x N x N x L) from which threads pay.
PARALLEL_FROM = 2_000_000

#: Tasks that the work is divided into, at least; fixed, so that results do not depend on threads.
TASKS = 8


def scan(A_bar, B_bar, C, D, u, x0=None):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = C x_t + D u_t`` [DENSE-1, 2], step by step.

    Parameters
    ----------
    A_bar : array_like
        Discrete state matrices (H, N, N), no unit; real or complex, any finite value.
    B_bar : array_like
        Input matrices (H, N, p); p may be 0.
    C : array_like
        Output matrices (H, m, N); m may be 0.
    D : array_like or None
        Feed-through (H, m, p).
    u : array_like
        Input (batch, H, p, L); L may be 0. Parameters may be in double precision beside signals in
        single; their gradients then are, too.
    x0 : array_like, optional
        State before the first sample, (batch, H, N); None is zero.

    Returns
    -------
    y : ndarray
        (batch, H, m, L), in the precision of u, complex if any argument is.
    x_last : ndarray
        State after the last sample, (batch, H, N), of y's dtype; x0 for an empty sequence.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit or a value is not finite.

    Notes
    -----
    Cost: O(batch H N^2 L) time, forward once and backward three times. The backward pass keeps the
    arguments and one state in 64. Matrices are rounded to the precision of u.

    Examples
    --------
    A double integrator, pushed once:

    >>> A, B, C = [[[1.0, 1.0], [0.0, 1.0]]], [[[0.0], [1.0]]], [[[1.0, 0.0]]]
    >>> y, x_last = scan(A, B, C, None, [[[[1.0, 0.0, 0.0]]]])
    >>> y
    array([[[[0., 1., 2.]]]])
    """
    return scan_fwd(A_bar, B_bar, C, D, u, x0)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    operands: DenseOperands
    # (batch, H, blocks, N): the state before each block; the rest is formed again
    checkpoints: np.ndarray


@_validate.sound("y", "x_last")
def scan_fwd(A_bar, B_bar, C, D, u, x0=None):
    """`scan` and its residuals."""
    op = dense_operands(A_bar, B_bar, C, D, u, x0)
    batch, H, _, L = op.u.shape
    x = op.x0.copy()
    y = np.empty((batch, H, op.model.C.shape[1], L), op.u.dtype)
    checkpoints = np.empty((batch, H, -(-L // BLOCK), x.shape[2]), op.u.dtype)
    run = _forward_parallel if _worth_threads(op) else _forward_serial
    with single_threaded():
        run(_rounded(op), op.u, x, y, checkpoints)
    return op.results(y, x), Residuals(op, checkpoints)


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_C", "grad_D", "grad_u", "grad_x0")
def scan_vjp(residuals, grad_out):
    """Gradients to A_bar, B_bar, C, D, u, x0 [DENSE-10] from those of ``(y, x_last)``."""
    op, checkpoints = residuals
    e, grad_x_last = op.cotangents(grad_out)
    adjoint = grad_x_last.copy()  # what the later steps say of a state; becomes grad_x0
    # Tasks of one system and some of its sequences; each task has sums of its own.
    groups = min(len(op.u), -(-TASKS // op.u.shape[1]))
    grads = tuple(np.zeros((groups, *a.shape)) for a in op.model)
    grad_u = np.empty(op.u.shape, op.u.dtype)
    run = _backward_parallel if _worth_threads(op) else _backward_serial
    with single_threaded():
        run(_rounded(op), op.u, e, checkpoints, adjoint, grads, grad_u)
    # One fixed order of summation over the groups, whatever the number of threads.
    return op.pull_back([g.sum(axis=0) for g in grads], grad_u, adjoint)


def _rounded(op):
    """The matrices in the precision of u."""
    return tuple(_validate.plain(a.astype(op.u.dtype, copy=False)) for a in op.model)


def _worth_threads(op):
    batch, H, _, L = op.u.shape
    N = op.x0.shape[2]
    return batch * H > 1 and batch * H * N * N * L >= PARALLEL_FROM


@jit_contracted
def _add_rows(M, weights, out):
    """``out += M^T weights``: the rows of M, four at a time, added up."""
    n = out.size
    whole = weights.size - weights.size % 4
    for j in range(0, whole, 4):
        a, b, c, d = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        for i in range(n):
            out[i] += (a * M[j, i] + b * M[j + 1, i]) + (c * M[j + 2, i] + d * M[j + 3, i])
    for j in range(whole, weights.size):
        a = weights[j]
        for i in range(n):
            out[i] += a * M[j, i]


@jit
def _fill(A_transposed, B, u, states):
    """The states of a block; states[0] is the one before it."""
    gemm(u.T, B.T, 0, states[1:])
    for i in range(u.shape[1]):
        _add_rows(A_transposed, states[i], states[i + 1])  # [DENSE-1]


@jit
def _flush(x):
    """Zero for subnormal numbers, which a decaying state ends in and which are slow."""
    tiny = np.finfo(x.dtype).tiny
    for n in range(x.size):
        if abs(x[n]) < tiny:
            x[n] = 0


@jit
def _forward_row(weights, u, x, y, checkpoints):
    """One sequence of one system; x is the state before and after."""
    A_transposed, B, C, D = weights
    L = u.shape[1]
    states = np.empty((BLOCK + 1, x.size), x.dtype)
    for block in range(checkpoints.shape[0]):
        first = block * BLOCK
        last = min(first + BLOCK, L)
        _flush(x)
        checkpoints[block] = x
        states[0] = x
        steps = last - first
        _fill(A_transposed, B, u[:, first:last], states[: steps + 1])
        gemm(C, states[1 : steps + 1].T, 0, y[:, first:last])
        gemm(D, u[:, first:last], 1, y[:, first:last])  # [DENSE-2]
        x[:] = states[steps]


@jit
def _backward_row(weights, u, e, checkpoints, adjoint, sums, grad_u):
    """One sequence of one system; adjoint is grad_x_last, then grad_x0. Adds to the sums."""
    A, A_transposed, B, C, D = weights
    sum_A, sum_B, sum_C, sum_D = sums
    L = u.shape[1]
    states = np.empty((BLOCK + 1, adjoint.size), adjoint.dtype)
    adjoints = np.empty((BLOCK, adjoint.size), adjoint.dtype)
    part_A, part_B, part_C, part_D = A.copy(), B.copy(), C.copy(), D.copy()
    for block in range(checkpoints.shape[0] - 1, -1, -1):
        first = block * BLOCK
        last = min(first + BLOCK, L)
        steps = last - first
        _flush(adjoint)
        states[0] = checkpoints[block]
        _fill(A_transposed, B, u[:, first:last], states[: steps + 1])
        lam, e_block, u_block = adjoints[:steps], e[:, first:last], u[:, first:last]
        gemm(e_block.T, C, 0, lam)
        for i in range(steps - 1, -1, -1):
            for n in range(adjoint.size):
                lam[i, n] += adjoint[n]  # [DENSE-9]
                adjoint[n] = 0
            _add_rows(A, lam[i], adjoint)
        # A block's terms first: a running total of all steps would lose the small ones.
        # [DENSE-10, 11]
        gemm(lam.T, states[:steps], 0, part_A)
        gemm(lam.T, u_block.T, 0, part_B)
        gemm(e_block, states[1 : steps + 1], 0, part_C)
        gemm(e_block, u_block.T, 0, part_D)
        sum_A += part_A
        sum_B += part_B
        sum_C += part_C
        sum_D += part_D
        gemm(B.T, lam.T, 0, grad_u[:, first:last])
        gemm(D.T, e_block, 1, grad_u[:, first:last])


@jit
def _forward_system(h, b, weights, u, x, y, checkpoints):
    A, B, C, D = weights
    own = np.ascontiguousarray(A[h].T), B[h], C[h], D[h]
    _forward_row(own, u[b, h], x[b, h], y[b, h], checkpoints[b, h])


@jit
def _forward_serial(weights, u, x, y, checkpoints):
    batch, H = u.shape[:2]
    for row in range(batch * H):
        _forward_system(row % H, row // H, weights, u, x, y, checkpoints)


@parallel_jit
def _forward_parallel(weights, u, x, y, checkpoints):
    batch, H = u.shape[:2]
    for row in prange(batch * H):
        _forward_system(row % H, row // H, weights, u, x, y, checkpoints)


@jit
def _backward_task(task, weights, u, e, checkpoints, adjoint, grads, grad_u):
    """One system and a group of its sequences."""
    batch, H = u.shape[:2]
    groups = grads[0].shape[0]
    h, group = task % H, task // H
    A, B, C, D = weights
    own = A[h], np.ascontiguousarray(A[h].T), B[h], C[h], D[h]
    to_A, to_B, to_C, to_D = grads
    sums = to_A[group, h], to_B[group, h], to_C[group, h], to_D[group, h]
    for b in range(group * batch // groups, (group + 1) * batch // groups):
        signals = u[b, h], e[b, h], checkpoints[b, h], adjoint[b, h]
        _backward_row(own, *signals, sums, grad_u[b, h])


@jit
def _backward_serial(weights, u, e, checkpoints, adjoint, grads, grad_u):
    for task in range(u.shape[1] * grads[0].shape[0]):
        _backward_task(task, weights, u, e, checkpoints, adjoint, grads, grad_u)


@parallel_jit
def _backward_parallel(weights, u, e, checkpoints, adjoint, grads, grad_u):
    for task in prange(u.shape[1] * grads[0].shape[0]):
        _backward_task(task, weights, u, e, checkpoints, adjoint, grads, grad_u)


register(
    "dense_scan",
    scan_fwd,
    scan_vjp,
    reference=reference.dense_scan.scan,
    examples=dense_calls,
    arguments=("A_bar", "B_bar", "C", "D", "u", "x0"),
)
