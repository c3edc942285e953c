"""The state of dense systems after the last sample, without the states before it.

    x_last = A_bar^L x0 + sum_s A_bar^s B_bar u_{L-1-s}                   [DENSE-16]

With the kernel's split s = j M + k, pieces of M samples are summed up by a table of
``A_bar^k B_bar`` in one matrix product, and the pieces by Horner's rule in ``A_bar^M``
[DENSE-17]. Derivation: docs/derivations/dense.md.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._blas import single_threaded
from ssm_manual.ops._dense_examples import dense_calls
from ssm_manual.ops._dense_operands import DenseOperands, dense_operands, unsignal
from ssm_manual.ops._dense_powers import (
    adjoint,
    ceil_log2,
    columns,
    columns_vjp,
    squares,
    squares_vjp,
)
from ssm_manual.ops.registry import Example, register

__all__ = ["terminal_state", "terminal_state_fwd", "terminal_state_vjp"]


def terminal_state(A_bar, B_bar, u, x0=None):
    """``x_last = A_bar^L x0 + sum_s A_bar^s B_bar u_{L-1-s}`` [DENSE-16].

    Parameters
    ----------
    A_bar : array_like
        Discrete state matrices (H, N, N), no unit; real or complex, any finite value.
    B_bar : array_like
        Input matrices (H, N, p); p may be 0.
    u : array_like
        Input (batch, H, p, L); L may be 0. Matrices may be in double precision beside signals in
        single.
    x0 : array_like, optional
        State before the first sample, (batch, H, N).

    Returns
    -------
    x_last : ndarray
        (batch, H, N), in the precision of u, complex if any argument is.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit or a value is not finite.

    Notes
    -----
    Cost: O(batch H N p L) as a matrix product, and N^2 for each of about sqrt(batch p L) columns
    and pieces. Saved: the tables and one state a piece.

    Examples
    --------
    >>> terminal_state([[[0.5]]], [[[1.0]]], [[[[1.0, 1.0, 1.0]]]])
    array([[[1.75]]])
    """
    return terminal_state_fwd(A_bar, B_bar, u, x0)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    operands: DenseOperands
    powers: list  # A_bar^(2^i)
    split: int  # M = 2^split
    V: np.ndarray  # (H, N, M p), A_bar^k B_bar
    # (H, N, batch) each: the sum before every step of Horner's rule, and x0 before every factor
    # A_bar^(2^i) of A_bar^L; both are small beside u
    sums: list
    factors: list


@_validate.sound("x_last")
def terminal_state_fwd(A_bar, B_bar, u, x0=None):
    """`terminal_state` and its residuals."""
    A_bar, B_bar = _validate.arrays(A_bar=A_bar, B_bar=B_bar)
    nothing = np.zeros((*A_bar.shape[:1], 0, *A_bar.shape[-1:]), A_bar.real.dtype)
    x_last, residuals = forward(dense_operands(A_bar, B_bar, nothing, None, u, x0))
    return unsignal(x_last, residuals.operands.is_complex, 2), residuals


def forward(op):
    """`terminal_state_fwd` of the real system."""
    (batch, H, p, L), N = op.u.shape, op.x0.shape[2]
    A, B = op.model.A, op.model.B
    split = round(ceil_log2(max(1, L * batch // max(p, 1))) / 2)
    split = min(split, ceil_log2(L))
    J = -(-L // (1 << split))
    with single_threaded(), np.errstate(over="ignore", invalid="ignore"):
        powers = squares(A, max(split + 1, L.bit_length()))
        V = columns(powers, B, 1 << split)
        pieces = V.astype(op.u.dtype, copy=False) @ _pieces(op.u, J, 1 << split)
        pieces = pieces.reshape(H, N, J, batch)
        w, sums = np.zeros((H, N, batch)), []
        for j in reversed(range(J)):
            sums.append(w)
            w = powers[split] @ w + pieces[:, :, j]  # [DENSE-17]
        x, factors = op.x0.transpose(1, 2, 0).astype(np.float64), []
        for i in _bits(L):
            factors.append(x)
            x = powers[i] @ x
        x_last = np.ascontiguousarray((w + x).transpose(2, 0, 1), op.u.dtype)
    return x_last, Residuals(op, powers, split, V, sums, factors)


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_u", "grad_x0")
def terminal_state_vjp(residuals, grad_x_last):
    """Gradients to A_bar, B_bar, u and x0 [DENSE-18]."""
    op = residuals.operands
    _, g = op.cotangents((None, grad_x_last))
    grad_A, grad_B, grad_u, grad_x0 = backward(residuals, g)
    unread = op.model.C, op.model.D  # of no rows
    grads = op.pull_back((grad_A, grad_B, *unread), grad_u, grad_x0)
    return grads[0], grads[1], grads[4], grads[5]


def backward(residuals, grad_x_last):
    """`terminal_state_vjp` of the real system, of a checked cotangent."""
    op, powers, split, V, sums, factors = residuals
    (batch, H, p, L), N = op.u.shape, op.x0.shape[2]
    M, J = 1 << split, len(sums)
    g = grad_x_last.transpose(1, 2, 0).astype(np.float64)
    with single_threaded(), np.errstate(over="ignore", invalid="ignore"):
        grads = [np.zeros_like(power) for power in powers]
        mu, through = g, np.empty((H, N, J, batch), op.u.dtype)
        for j in range(J):  # Horner's rule backwards; sums[-1] belongs to the last step, j = 0
            through[:, :, j] = mu
            grads[split] += mu @ adjoint(sums[J - 1 - j])
            mu = adjoint(powers[split]) @ mu
        through = through.reshape(H, N, J * batch)
        grad_V = (through @ adjoint(_pieces(op.u, J, M))).astype(np.float64)
        grad_u = adjoint(V.astype(op.u.dtype, copy=False)) @ through
        grad_u = _joined(grad_u, J, M, op.u.shape)
        grad_B = columns_vjp(powers, V, grad_V, p, grads)
        for i, x in zip(reversed(_bits(L)), reversed(factors)):
            grads[i] += g @ adjoint(x)
            g = adjoint(powers[i]) @ g
        return squares_vjp(powers, grads), grad_B, grad_u, g.transpose(2, 0, 1)


def _bits(L):
    """The i with 2^i in L: A^L is the product of those squares."""
    return [i for i in range(L.bit_length()) if L >> i & 1]


def _pieces(u, J, M):
    """Time from the last sample backwards, in J pieces of M, as the columns (H, M p, J batch)."""
    batch, H, p, L = u.shape
    backwards = np.zeros((batch, H, p, J * M), u.dtype)
    backwards[..., :L] = u[..., ::-1]
    pieces = backwards.reshape(batch, H, p, J, M).transpose(1, 4, 2, 3, 0)
    return pieces.reshape(H, M * p, J * batch)


def _joined(columns, J, M, shape):
    """The adjoint of `_pieces`."""
    batch, H, p, L = shape
    backwards = columns.reshape(H, M, p, J, batch).transpose(4, 0, 2, 3, 1)
    return backwards.reshape(batch, H, p, J * M)[..., :L][..., ::-1]


def _examples(rng):
    for example in dense_calls(rng):
        A, B, _, _, u, x0 = example.args
        groups = tuple(g for g in example.linear if "u" in g or "x0" in g)
        yield Example((A, B, u, x0), {}, example.note, groups)


register(
    "dense_terminal_state",
    terminal_state_fwd,
    terminal_state_vjp,
    reference=reference.dense_terminal_state.terminal_state,
    examples=_examples,
    arguments=("A_bar", "B_bar", "u", "x0"),
)
