"""The recurrence, and back-propagation through time by hand.

    x_t = A_bar x_{t-1} + B_bar u_t                         [SCAN-1]
    y_t = 2 Re(C x_t) + D u_t    (complex output: C x_t + D u_t)   [SCAN-2]

Backward, with e_t the cotangent of y_t, from the last step to the first:

    lambda_t = s_t + conj(A_bar) lambda_{t+1},   lambda_L = 0      [SCAN-4]
    s_t = 2 conj(C) e_t    (complex output: conj(C) e_t)           [SCAN-3]

and the cotangent of x_last added to s_{L-1}.

Derivation: docs/derivations/scan.md; truncated directions: docs/derivations/truncation.md.

Design: the states are not all kept. Every `BLOCK` steps one is saved, and the backward pass
recomputes the block forward from it [SCAN-12]: 1/64 of the memory for one third more work. Running
the recursion backwards instead, as x_{t-1} = (x_t - B_bar u_t) / A_bar, would amplify rounding by
1/|A_bar| a step.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._numba import flushed, jit, parallel_jit, prange, project
from ssm_manual.ops._examples import operator_calls
from ssm_manual.ops._operands import Operands, operands
from ssm_manual.ops.kernels.power import power
from ssm_manual.ops.registry import register

__all__ = ["scan", "scan_fwd", "scan_vjp"]

#: Steps between saved states.
BLOCK = 64

#: Pole-steps (batch x H x N x L) from which threads pay: below, their start costs more than it
#: saves.
PARALLEL_FROM = 100_000


def scan(A_bar, B_bar, C, D, u, x0=None, *, real=True, horizon=None):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = 2 Re(C x_t) + D u_t`` [SCAN-1, 2], step by step.

    Parameters
    ----------
    A_bar, B_bar, C : array_like
        Discrete poles, input and output weights (no unit), broadcasting to (H, N); N counts stored
        poles. Any finite pole.
    D : array_like or None
        Feed-through, (H,) or a scalar.
    u : array_like
        Input, (batch, H, L); L may be 0. Real if ``real``.
    x0 : array_like, optional
        State before the first sample, (batch, H, N); None is zero.
    real : bool
        True: one pole of each conjugate pair is stored and ``y = 2 Re(C x) + D u``. False:
        ``y = C x + D u``, complex.
    horizon : int, optional
        Changes the backward pass alone: the adjoint state looks ahead over this many steps, its own
        included [TRUNC-1]. None is all of them, the gradient. A truncated direction is the gradient
        of nothing; 1 is the published one-step variant.

    Returns
    -------
    y : ndarray
        (batch, H, L), real or complex.
    x_last : ndarray
        State after the last sample, (batch, H, N), complex; x0 for an empty sequence [SCAN-11].

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, u or D is complex for a real
        output, or ``horizon`` is not a positive integer.

    Notes
    -----
    Cost: O(batch H N L) time. The backward pass keeps u and one state in 64: 1/64 of all states.

    Examples
    --------
    >>> y, x_last = scan([[0.5]], [[1.0]], [[0.5]], None, [[[1.0, 0.0, 0.0]]])
    >>> y
    array([[[1.  , 0.5 , 0.25]]])
    """
    return scan_fwd(A_bar, B_bar, C, D, u, x0, real=real, horizon=horizon)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    operands: Operands
    # (batch, H, blocks, N): the state before each block; the rest is recomputed
    checkpoints: np.ndarray
    horizon: int | None


@_validate.sound("y", "x_last")
def scan_fwd(A_bar, B_bar, C, D, u, x0=None, *, real=True, horizon=None):
    """`scan` and its residuals."""
    if horizon is not None:
        horizon = _validate.integer("horizon", horizon, minimum=1)
    op = operands(A_bar, B_bar, C, D, u, x0, real)
    batch, H, L = op.u.shape
    x = op.x0.copy()
    y = np.empty(op.u.shape, op.y_dtype)
    checkpoints = np.empty((batch, H, -(-L // BLOCK), op.A_bar.shape[1]), op.A_bar.dtype)
    readout = 2 * op.C if real else op.C  # the 2 of [SCAN-2], once
    run = _forward_parallel if _worth_threads(op) else _forward_serial
    run(op.A_bar, op.B_bar, readout, op.D, op.u, x, y, checkpoints)
    return (y, x), Residuals(op, checkpoints, horizon)


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_C", "grad_D", "grad_u", "grad_x0")
def scan_vjp(residuals, grad_out):
    """Gradients to A_bar, B_bar, C, D, u, x0 [SCAN-5 to SCAN-10] from those of ``(y, x_last)``."""
    op, checkpoints, horizon = residuals
    grad_y, grad_x_last = op.cotangents(grad_out)
    batch, H, L = op.u.shape
    N = op.A_bar.shape[1]
    horizon = L if horizon is None else min(horizon, L)
    readout = 2 * op.C if op.real else op.C
    adjoint = grad_x_last.copy()  # lambda of the step after; becomes grad_x0
    grads = np.zeros((3, batch, H, N), op.A_bar.dtype)
    grad_D = np.zeros((batch, H), op.y_dtype)
    grad_u = np.empty(op.u.shape, op.A_bar.dtype if op.u.dtype.kind == "c" else op.A_bar.real.dtype)
    run = _backward_parallel if _worth_threads(op) else _backward_serial
    A_horizon = power(op.A_bar.conj(), horizon)
    weights = (op.A_bar, op.B_bar, readout, op.D, A_horizon)
    run(weights, op.u, grad_y, horizon, checkpoints, adjoint, grads, grad_D, grad_u)
    # One fixed order of summation over the batch, whatever the number of threads.
    grad_A, grad_B, grad_C = grads.sum(axis=1)
    if op.real:
        grad_C *= 2  # the 2 of [SCAN-2], once
    return op.pull_back(grad_A, grad_B, grad_C, grad_D.sum(axis=0), grad_u, adjoint)


def _worth_threads(op):
    batch, H, L = op.u.shape
    return batch * H > 1 and batch * H * L * op.A_bar.shape[1] >= PARALLEL_FROM


@jit
def _forward_row(A, B, C, D, u, x, y, checkpoints):
    """One channel of one sequence; x is the state before and after."""
    N = A.size
    for t in range(u.size):
        if t % BLOCK == 0:
            for n in range(N):
                x[n] = flushed(x[n])
            checkpoints[t // BLOCK] = x
        out = A.dtype.type(0)
        for n in range(N):
            x[n] = A[n] * x[n] + B[n] * u[t]  # [SCAN-1]
            out += C[n] * x[n]
        y[t] = project(out, y) + D * u[t]  # [SCAN-2]


@jit
def _backward_row(weights, u, e, horizon, checkpoints, adjoint, grads, grad_u):
    """One channel of one sequence; adjoint is grad_x_last, then grad_x0. Returns grad_D."""
    A, B, C, D, A_horizon = weights
    N, L = A.size, u.size
    grad_A, grad_B, grad_C = grads
    x = np.empty((BLOCK + 1, N), A.dtype)  # x[i + 1] is the state after step first + i
    lam = np.empty((BLOCK, N), A.dtype)
    grad_x_last = adjoint.copy()
    carry = np.zeros(N, A.dtype)  # conj(A_bar) lambda_{t+1}
    grad_D = complex(0)
    block_A, block_B, block_C = np.empty_like(A), np.empty_like(A), np.empty_like(A)
    sum_A, sum_B = np.zeros(N, np.complex128), np.zeros(N, np.complex128)
    sum_C = np.zeros(N, np.complex128)
    for block in range(checkpoints.shape[0] - 1, -1, -1):
        first = block * BLOCK
        steps = min(BLOCK, L - first)
        for n in range(N):
            carry[n] = flushed(carry[n])
        x[0] = checkpoints[block]
        for i in range(steps):
            for n in range(N):
                x[i + 1, n] = A[n] * x[i, n] + B[n] * u[first + i]  # [SCAN-12]
        for i in range(steps - 1, -1, -1):
            t = first + i
            for n in range(N):
                lam[i, n] = C[n].conjugate() * e[t] + carry[n]  # [SCAN-3], [SCAN-4]
            if t == L - 1:
                lam[i] += grad_x_last
            if t + horizon < L:  # what has left the horizon [TRUNC-2]
                for n in range(N):
                    lam[i, n] -= A_horizon[n] * C[n].conjugate() * e[t + horizon]
                if t + horizon == L - 1:
                    lam[i] -= A_horizon * grad_x_last
            for n in range(N):
                carry[n] = A[n].conjugate() * lam[i, n]
        # One block's terms first: a running total of all steps would lose the small ones.
        block_A[:], block_B[:], block_C[:], block_D = 0, 0, 0, e.dtype.type(0)
        for i in range(steps):
            t = first + i
            through = A.dtype.type(0)
            for n in range(N):
                block_A[n] += lam[i, n] * x[i, n].conjugate()  # [SCAN-5]
                block_C[n] += e[t] * x[i + 1, n].conjugate()  # [SCAN-7]
            for n in range(N):
                block_B[n] += lam[i, n] * u[t].conjugate()  # [SCAN-6]
                through += B[n].conjugate() * lam[i, n]
            grad_u[t] = project(through + D.conjugate() * e[t], grad_u)  # [SCAN-9]
            block_D += e[t] * u[t].conjugate()  # [SCAN-8]
        for n in range(N):
            sum_A[n] += block_A[n]
            sum_B[n] += block_B[n]
            sum_C[n] += block_C[n]
        grad_D += block_D
    if L > 0:
        adjoint[:] = carry  # [SCAN-10]
    grad_A[:], grad_B[:], grad_C[:] = sum_A, sum_B, sum_C
    return project(grad_D, e)


@jit
def _forward_serial(A, B, C, D, u, x, y, checkpoints):
    batch, H, _ = u.shape
    for row in range(batch * H):
        b, h = row // H, row % H
        _forward_row(A[h], B[h], C[h], D[h], u[b, h], x[b, h], y[b, h], checkpoints[b, h])


@parallel_jit
def _forward_parallel(A, B, C, D, u, x, y, checkpoints):
    batch, H, _ = u.shape
    for row in prange(batch * H):
        b, h = row // H, row % H
        _forward_row(A[h], B[h], C[h], D[h], u[b, h], x[b, h], y[b, h], checkpoints[b, h])


@jit
def _backward_serial(weights, u, e, horizon, checkpoints, adjoint, grads, grad_D, grad_u):
    batch, H, _ = u.shape
    for row in range(batch * H):
        b, h = row // H, row % H
        channel = _channel(weights, h)
        out = (grads[0, b, h], grads[1, b, h], grads[2, b, h])
        grad_D[b, h] = _backward_row(
            channel, u[b, h], e[b, h], horizon, checkpoints[b, h], adjoint[b, h], out, grad_u[b, h]
        )


@parallel_jit
def _backward_parallel(weights, u, e, horizon, checkpoints, adjoint, grads, grad_D, grad_u):
    batch, H, _ = u.shape
    for row in prange(batch * H):
        b, h = row // H, row % H
        channel = _channel(weights, h)
        out = (grads[0, b, h], grads[1, b, h], grads[2, b, h])
        grad_D[b, h] = _backward_row(
            channel, u[b, h], e[b, h], horizon, checkpoints[b, h], adjoint[b, h], out, grad_u[b, h]
        )


@jit
def _channel(weights, h):
    A, B, C, D, A_horizon = weights
    return A[h], B[h], C[h], D[h], A_horizon[h]


register(
    "scan",
    scan_fwd,
    scan_vjp,
    reference=reference.scan.scan,
    examples=operator_calls,
    arguments=("A_bar", "B_bar", "C", "D", "u", "x0"),
)
