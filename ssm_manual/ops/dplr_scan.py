"""The recurrence of a diagonal-plus-low-rank system in O(N r) a sample, and its adjoint.

    x_t = Lambda_bar x_{t-1} - sum_j P_bar_j (Q_bar_j^* x_{t-1}) + B_bar u_t      [DPLR-8]

where Q^* x stands for 2 Re(Q^* x) if conjugates are left out. With real numbers v_t = (-s_t, u_t)
in and w_t = (s_{t+1}, y_t) out, s_t what the low-rank part sees of x_{t-1}, forward and backward
are one loop with two tables swapped [DPLR-9]:

    x_t = Lambda_bar x_{t-1} + G v_t,               w_t = F^* x_t,       t = 0, ..., L-1
    lambda_t = conj(Lambda_bar) lambda_{t+1} + F e_t,   f_t = G^* lambda_t,   t = L-1, ..., 0

Derivation: docs/derivations/dplr.md.

Design: one kernel for every precision and for real and complex systems: it runs in double precision
on real and imaginary parts apart, and a complex system has twice the rank, inputs and outputs. As
in `scan`, one state in 64 is kept and a block is formed again from it on the way back [SCAN-12].
Sums over the modes are reassociated, so that they run in vector registers: they are the step.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._numba import jit, jit_reassociated, parallel_jit, prange
from ssm_manual.ops import _dplr_operands
from ssm_manual.ops._examples import complex_normal
from ssm_manual.ops.registry import Example, register

__all__ = ["dplr_scan", "dplr_scan_fwd", "dplr_scan_vjp"]

#: Steps between saved states.
BLOCK = 64

#: Mode-steps (batch x H x N x L) from which threads pay.
PARALLEL_FROM = 100_000

#: Parts of a state below this are set to zero, once a block: arithmetic on subnormal numbers is a
#: hundred times slower.
TINY = float(np.finfo(float).tiny)


def dplr_scan(Lambda_bar, P_bar, Q_bar, B_bar, C, D, u, x0=None, *, real=True):
    """``x_t = Lambda_bar x - P_bar (Q_bar^* x) + B_bar u_t``, ``y_t = 2 Re(C x_t) + D u_t``.

    Parameters
    ----------
    Lambda_bar : array_like
        Discrete diagonal, (H, N) or (N,).
    P_bar, Q_bar : array_like
        Low-rank factors, (H, r, N) or (r, N).
    B_bar, C : array_like
        Input and output weights, (H, N) or (N,).
    D : array_like or None
        Feed-through, (H,) or a scalar.
    u : array_like
        Input, (batch, H, L); L may be 0. Real if ``real``. In the parameters' precision, or single
        beside parameters in double.
    x0 : array_like, optional
        State before the first sample, (batch, H, N), in u's precision; None is zero.
    real : bool
        True: one of each conjugate pair is stored: Q^* x and C x are 2 Re(Q^* x) and 2 Re(C x).
        False: neither has the 2 Re, and y is complex.

    Returns
    -------
    y : ndarray
        (batch, H, L), in u's precision.
    x_last : ndarray
        State after the last sample, (batch, H, N), complex; x0 for an empty sequence.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, or u or D is complex for a real
        output.

    Notes
    -----
    Cost: O(batch H N r L) time. All is computed in double precision and rounded once, at the end;
    u and y are copied for it. The backward pass keeps u and one state in 64. The same bits for any
    number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> P = [[0.5]]  # A_bar = 1 - 0.5
    >>> u = np.array([[[1.0, 0.0, 0.0]]])
    >>> y, _ = dplr_scan([1.0], P, [[1.0]], [1.0], [1.0], None, u, real=False)
    >>> y.real
    array([[[1.  , 0.5 , 0.25]]])
    """
    return dplr_scan_fwd(Lambda_bar, P_bar, Q_bar, B_bar, C, D, u, x0, real=real)[0]


class Tables(NamedTuple):
    """Real and imaginary parts along an axis of two, in double precision."""

    Lambda: np.ndarray  # (H, 2, N)
    G: np.ndarray  # (H, rank + p, 2, N): P_bar, then B_bar; of complex systems also i times each
    F: np.ndarray  # (H, rank + m, 2, N): Q_bar, then conj(C), times 2; likewise


class Residuals(NamedTuple):
    """What the backward pass needs."""

    operands: _dplr_operands.Operands
    tables: Tables
    u: np.ndarray  # (batch, H, p, L) as real numbers
    # (batch, H, blocks, 2, N): the state before each block; the rest is formed again
    checkpoints: np.ndarray


NAMES = ("Lambda_bar", "P_bar", "Q_bar", "B_bar", "C", "D", "u", "x0")


@_validate.sound("y", "x_last")
def dplr_scan_fwd(Lambda_bar, P_bar, Q_bar, B_bar, C, D, u, x0=None, *, real=True):
    """`dplr_scan` and its residuals."""
    values = Lambda_bar, P_bar, Q_bar, B_bar, C, D
    given, H, N, _ = _dplr_operands.parameters(NAMES[:6], values, optional=("D",))
    op = _dplr_operands.signals(given, H, N, given[5], u, x0, real)
    batch, H, N, L = op.sizes
    tables = _tables(given[:5], H, real)
    u = _channels(op.u, op)
    x = np.zeros((batch, H, 2, N))
    if op.x0 is not None:
        x[:, :, 0], x[:, :, 1] = op.x0.real, op.x0.imag
    y = np.empty(u.shape)
    checkpoints = np.empty((batch, H, -(-L // BLOCK), 2, N))
    run = _forward_parallel if _worth_threads(op) else _forward_serial
    run(*tables, u, x, y, checkpoints)
    y = _signal(y, op)
    if op.D is not None:
        y += op.D[:, np.newaxis] * op.u
    out = y.astype(op.y_dtype, copy=False), (x[:, :, 0] + 1j * x[:, :, 1]).astype(op.x_dtype)
    return out, Residuals(op, tables, u, checkpoints)


@_validate.sound(
    "grad_Lambda_bar",
    "grad_P_bar",
    "grad_Q_bar",
    "grad_B_bar",
    "grad_C",
    "grad_D",
    "grad_u",
    "grad_x0",
)
def dplr_scan_vjp(residuals, grad_out):
    """Gradients to all eight arguments [DPLR-9] from those of ``(y, x_last)``."""
    op, tables, u, checkpoints = residuals
    grad_y, grad_x_last = op.cotangents(grad_out)
    batch, H, N, _ = op.sizes
    lam = np.zeros((batch, H, 2, N))
    if grad_x_last is not None:
        lam[:, :, 0], lam[:, :, 1] = grad_x_last.real, grad_x_last.imag
    grad_Lambda = np.zeros((batch, H, 2, N))
    grad_G, grad_F = (np.zeros((batch, *a.shape)) for a in (tables.G, tables.F))
    grad_u = np.empty(u.shape)
    run = _backward_parallel if _worth_threads(op) else _backward_serial
    run(*tables, u, _channels(grad_y, op), checkpoints, lam, grad_Lambda, grad_G, grad_F, grad_u)
    # One fixed order of summation over the batch, whatever the number of threads.
    summed = (g.sum(axis=0) for g in (grad_Lambda, grad_G, grad_F))
    to_Lambda, to_G, to_F = (a[..., 0, :] + 1j * a[..., 1, :] for a in summed)
    rank = tables.G.shape[1] - u.shape[2]
    to_P, to_B = _folded(to_G[:, :rank], op.real), _folded(to_G[:, rank:], op.real)
    to_Q, to_C = _folded(to_F[:, :rank], op.real), _folded(to_F[:, rank:], op.real)
    gain = 2 if op.real else 1
    grad_u = _signal(grad_u, op)
    grad_D = None
    if op.D is not None:
        grad_u += np.conj(op.D)[:, np.newaxis] * grad_y
        grad_D = np.sum(grad_y * np.conj(op.u), axis=(0, 2), dtype=op.D.dtype)
    return op.pull_back(
        to_Lambda,
        to_P,
        gain * to_Q,
        to_B[:, 0],
        gain * np.conj(to_C[:, 0]),
        grad_D,
        grad_u,
        lam[:, :, 0] + 1j * lam[:, :, 1],
    )


def _worth_threads(op):
    batch, H, N, L = op.sizes
    return batch * H > 1 and batch * H * N * L >= PARALLEL_FROM


def _tables(weights, H, real):
    """`Tables`, from Lambda_bar, P_bar, Q_bar, B_bar, C [DPLR-9]."""
    Lambda, P, Q, B, C = (
        _dplr_operands.spread(a, H, axes) for a, axes in zip(weights, (2, 3, 3, 2, 2))
    )
    B, C = B[:, np.newaxis], np.conj(C)[:, np.newaxis]
    if real:
        rows = (P, B), (2 * Q, 2 * C)
    else:  # of a complex number z, Re z and Im z = Re(-i z)
        rows = (P, 1j * P, B, 1j * B), (Q, 1j * Q, C, 1j * C)
    G, F = (np.concatenate(r, axis=1) for r in rows)
    parts = (np.stack([a.real, a.imag], axis=-2) for a in (Lambda, G, F))
    return Tables(*(np.ascontiguousarray(a) for a in parts))


def _folded(grad, real):
    """The adjoint of ``z -> (z,)`` or ``z -> (z, i z)`` along axis 1."""
    if real:
        return grad
    half = grad.shape[1] // 2
    return grad[:, :half] - 1j * grad[:, half:]


def _channels(signal, op):
    """(batch, H, L) as real numbers (batch, H, 1 or 2, L): a complex one as its two parts."""
    if op.real:
        return np.array(signal[:, :, np.newaxis], float, order="C")
    return np.array(np.stack([signal.real, signal.imag], axis=2), float, order="C")


def _signal(channels, op):
    """The inverse of `_channels`, in double precision."""
    return channels[:, :, 0] if op.real else channels[:, :, 0] + 1j * channels[:, :, 1]


@jit_reassociated
def _seen(row, x):
    """``Re row^* x``."""
    total = 0.0
    for n in range(x.shape[1]):
        total += row[0, n] * x[0, n] + row[1, n] * x[1, n]
    return total


@jit_reassociated
def _advance(Lambda, sign, G, v, x, new):
    """``new = Lambda x + sum_k G_k v_k``, with ``conj(Lambda)`` where sign is -1."""
    for n in range(x.shape[1]):
        turn = sign * Lambda[1, n]
        re = Lambda[0, n] * x[0, n] - turn * x[1, n] + G[0, 0, n] * v[0]
        im = Lambda[0, n] * x[1, n] + turn * x[0, n] + G[0, 1, n] * v[0]
        new[0, n], new[1, n] = re, im
    for k in range(1, len(v)):
        for n in range(x.shape[1]):
            new[0, n] += G[k, 0, n] * v[k]
            new[1, n] += G[k, 1, n] * v[k]


@jit
def _flush(x):
    for n in range(x.size):
        if abs(x.flat[n]) < TINY:
            x.flat[n] = 0


@jit
def _forward_row(Lambda, G, F, u, x, y, checkpoints):
    """One channel of one sequence; x is the state before and after."""
    p, L = u.shape
    rank = len(G) - p
    v = np.empty(len(G))
    for t in range(L):
        if t % BLOCK == 0:
            _flush(x)
            checkpoints[t // BLOCK] = x
        for j in range(rank):
            v[j] = -_seen(F[j], x)
        for i in range(p):
            v[rank + i] = u[i, t]
        _advance(Lambda, 1.0, G, v, x, x)  # [DPLR-8]
        for o in range(p):
            y[o, t] = _seen(F[rank + o], x)


@jit_reassociated
def _backward_row(Lambda, G, F, u, e, checkpoints, lam, grads, grad_u):
    """One channel of one sequence; lam is grad_x_last, then grad_x0."""
    grad_Lambda, grad_G, grad_F = grads
    p, L = u.shape
    rank, N = len(G) - p, lam.shape[1]
    x = np.empty((BLOCK + 1, 2, N))  # x[i + 1] is the state after step first + i
    v, w = np.empty((BLOCK, len(G))), np.empty(len(F))
    for block in range(checkpoints.shape[0] - 1, -1, -1):
        first = block * BLOCK
        steps = min(BLOCK, L - first)
        _flush(lam)
        x[0] = checkpoints[block]
        for i in range(steps):
            for j in range(rank):
                v[i, j] = -_seen(F[j], x[i])
            for k in range(p):
                v[i, rank + k] = u[k, first + i]
            _advance(Lambda, 1.0, G, v[i], x[i], x[i + 1])
        for i in range(steps - 1, -1, -1):
            t = first + i
            before, after = x[i], x[i + 1]
            for o in range(p):  # the output of step t: lambda_t is complete
                g = e[o, t]
                for n in range(N):
                    lam[0, n] += F[rank + o, 0, n] * g
                    lam[1, n] += F[rank + o, 1, n] * g
                    grad_F[rank + o, 0, n] += after[0, n] * g
                    grad_F[rank + o, 1, n] += after[1, n] * g
            for k in range(len(G)):
                g = v[i, k]
                for n in range(N):
                    grad_G[k, 0, n] += lam[0, n] * g
                    grad_G[k, 1, n] += lam[1, n] * g
            for n in range(N):
                grad_Lambda[0, n] += lam[0, n] * before[0, n] + lam[1, n] * before[1, n]
                grad_Lambda[1, n] += lam[1, n] * before[0, n] - lam[0, n] * before[1, n]
            for k in range(p):
                grad_u[k, t] = _seen(G[rank + k], lam)
            for j in range(rank):
                w[j] = -_seen(G[j], lam)
                for n in range(N):
                    grad_F[j, 0, n] += before[0, n] * w[j]
                    grad_F[j, 1, n] += before[1, n] * w[j]
            _advance(Lambda, -1.0, F, w[:rank], lam, lam)  # [DPLR-9]


@jit
def _forward_serial(Lambda, G, F, u, x, y, checkpoints):
    batch, H = u.shape[:2]
    for row in range(batch * H):
        b, h = row // H, row % H
        _forward_row(Lambda[h], G[h], F[h], u[b, h], x[b, h], y[b, h], checkpoints[b, h])


@parallel_jit
def _forward_parallel(Lambda, G, F, u, x, y, checkpoints):
    batch, H = u.shape[:2]
    for row in prange(batch * H):
        b, h = row // H, row % H
        _forward_row(Lambda[h], G[h], F[h], u[b, h], x[b, h], y[b, h], checkpoints[b, h])


@jit
def _backward_serial(Lambda, G, F, u, e, checkpoints, lam, to_Lambda, to_G, to_F, grad_u):
    batch, H = u.shape[:2]
    for row in range(batch * H):
        b, h = row // H, row % H
        signals = u[b, h], e[b, h], checkpoints[b, h], lam[b, h]
        grads = to_Lambda[b, h], to_G[b, h], to_F[b, h]
        _backward_row(Lambda[h], G[h], F[h], *signals, grads, grad_u[b, h])


@parallel_jit
def _backward_parallel(Lambda, G, F, u, e, checkpoints, lam, to_Lambda, to_G, to_F, grad_u):
    batch, H = u.shape[:2]
    for row in prange(batch * H):
        b, h = row // H, row % H
        grads = to_Lambda[b, h], to_G[b, h], to_F[b, h]
        _backward_row(
            Lambda[h], G[h], F[h], u[b, h], e[b, h], checkpoints[b, h], lam[b, h], grads,
            grad_u[b, h],
        )  # fmt: skip


def _examples(rng):
    linear = (("B_bar", "D"), ("C", "D"), ("u", "x0"))
    for rank, (batch, H, N, L) in ((1, (2, 2, 3, 5)), (2, (1, 1, 2, 70)), (1, (1, 2, 1, 1))):
        for real in (True, False):
            weights, D, u, x0 = example(rng, batch, H, N, L, rank, real)
            note = f"{'pairs' if real else 'complex'}, rank {rank}, L {L}"
            yield Example((*weights, D, u, x0), {"real": real}, f"{note}, x0", linear[1:])
            yield Example((*weights, D, u, None), {"real": real}, note, linear)


def example(rng, batch, H, N, L, rank, real):
    """A stable system whose memory is about L samples, and signals."""
    angle = np.exp(2j * np.pi * rng.random((H, N)))
    low = np.sqrt(0.1 / N)
    weights = (
        (1 - 0.4 / (L + 1)) * angle,
        low * complex_normal(rng, H, rank, N) * 0.5,
        low * complex_normal(rng, H, rank, N) * 0.5,
        complex_normal(rng, H, N),
        complex_normal(rng, H, N),
    )
    draw = rng.standard_normal if real else lambda shape: complex_normal(rng, *np.atleast_1d(shape))
    return weights, draw(H), draw((batch, H, L)), complex_normal(rng, batch, H, N)


register(
    "dplr_scan",
    dplr_scan_fwd,
    dplr_scan_vjp,
    reference=reference.dplr_scan.dplr_scan,
    examples=_examples,
    arguments=NAMES,
)
