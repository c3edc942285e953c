"""The chunked view of the operator: short Toeplitz products, and states passed between chunks.

With Q samples a chunk, u_q those of one chunk and x the state before it,

    y_q = sum_{p <= q} K_{q-p} u_p + D u_q + 2 Re(C A_bar^(q+1) x)       [CHUNK-1, 2]
    x'  = A_bar^Q x + sum_q A_bar^(Q-1-q) B_bar u_q                      [CHUNK-3]

For all chunks at once these are products of real matrices, Y = [U | X] [T; W] and S = U V, around a
recurrence that is Q times shorter than that of `scan`; and so are their adjoints.
Derivation: docs/derivations/chunked.md. Kernels: `_chunked_rows`, tables: `_chunked_tables`.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._blas import single_threaded
from ssm_manual._numba import threads
from ssm_manual.ops import _chunked_rows as _rows
from ssm_manual.ops._examples import operator_calls
from ssm_manual.ops._operands import Operands, operands
from ssm_manual.ops.registry import Example, register
from ssm_manual.ops.vandermonde import LARGEST_PHASE

__all__ = [
    "apply",
    "apply_from_exponent",
    "apply_from_exponent_fwd",
    "apply_from_exponent_vjp",
    "apply_fwd",
    "apply_vjp",
]

#: Samples a chunk. Measured in float32, forward and backward, at batch 16, L 1024 and batch 4,
#: L 16384: 32 to 64 are equal to 5 % with 32 modes and to 15 % with 4, where neither is always the
#: faster; 96 takes a sixth more with 32 modes, 16 a quarter more or worse with 4.
CHUNK = 64

#: Samples times modes, over all channels and sequences, from which threads pay.
PARALLEL_FROM = 100_000

#: Tasks that a layer is divided into at least, if its batch allows it.
TASKS = 16

#: Sequences in a task: with more, blocks would be short and the states kept many.
LARGEST_GROUP = 64


def apply(A_bar, B_bar, C, D, u, x0=None, *, real=True, chunk=None):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = 2 Re(C x_t) + D u_t``, chunk by chunk [CHUNK-4].

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
    chunk : int, optional
        Samples a chunk, at least 1; None is 64, by measurement. It changes rounding and time only.

    Returns
    -------
    y : ndarray
        (batch, H, L), real or complex.
    x_last : ndarray
        State after the last sample, (batch, H, N), complex.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, u or D is complex for a real
        output, or ``chunk`` is not a positive integer.

    Notes
    -----
    Cost: O(batch H (N + Q) L) at the speed of a matrix product [CHUNK-10]. The backward pass keeps
    u and, of each sequence, one state in up to 128 chunks. Beside its output, a call needs the
    tables and the blocks of one task a thread, a few hundred kilobytes. Threads share channels and
    groups of sequences, with the same bits for any number of them. While the call lasts, BLAS runs
    on one thread in the whole process. Tables are in double precision up to the last rounding,
    states are carried in double precision; output at another length may differ in the last bits.
    Poles so far outside the circle that A_bar^Q overflows are refused where the rest of a chunk
    would be NaN, although other views may still be finite.

    Examples
    --------
    >>> y, x_last = apply([[0.5]], [[1.0]], [[0.5]], None, [[[1.0, 0.0, 0.0]]])
    >>> y
    array([[[1.  , 0.5 , 0.25]]])
    """
    return apply_fwd(A_bar, B_bar, C, D, u, x0, real=real, chunk=chunk)[0]


def apply_from_exponent(dtA, B_bar, C, D, u, x0=None, *, real=True, chunk=None):
    """`apply` with ``A_bar = exp(dtA)``, which is never rounded [CHUNK-9].

    Parameters
    ----------
    dtA : array_like
        Continuous poles times the sampling interval (no unit), imaginary part at most 2^40 in size.
        May be in double precision beside data in single precision; its gradient then is, too.
    B_bar, C : array_like
        Discrete input weights and output weights. All three broadcast to (H, N).
    D : array_like or None
        Feed-through, (H,) or a scalar.
    u : array_like
        Input, (batch, H, L); L may be 0. Real if ``real``.
    x0 : array_like, optional
        State before the first sample, (batch, H, N); None is zero.
    real : bool
        True: one pole of each conjugate pair is stored and ``y = 2 Re(C x) + D u``. False:
        ``y = C x + D u``, complex.
    chunk : int, optional
        Samples a chunk, at least 1; None is 64, by measurement.

    Returns
    -------
    y : ndarray
        (batch, H, L), real or complex.
    x_last : ndarray
        State after the last sample, (batch, H, N), complex.

    Raises
    ------
    ValueError
        As `apply`, or if an imaginary part of dtA is too large.

    Notes
    -----
    Cost as of `apply`.

    Examples
    --------
    >>> import numpy as np
    >>> y, _ = apply_from_exponent(np.log([[0.5]]), [[1.0]], [[0.5]], None, [[[1.0, 0.0, 0.0]]])
    >>> y
    array([[[1.  , 0.5 , 0.25]]])
    """
    return apply_from_exponent_fwd(dtA, B_bar, C, D, u, x0, real=real, chunk=chunk)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    operands: Operands
    model: _rows.Model
    # exp(dtA), complex128, where dtA is the parameter: the last factor of its gradient
    slope: np.ndarray | None
    sizes: _rows.Sizes
    # (batch, H, blocks, 2, N): the state before each block, in double precision [CHUNK-10]
    starts: np.ndarray


@_validate.sound("y", "x_last")
def apply_fwd(A_bar, B_bar, C, D, u, x0=None, *, real=True, chunk=None):
    """`apply` and its residuals."""
    return _forward(operands(A_bar, B_bar, C, D, u, x0, real), False, chunk)


@_validate.sound("y", "x_last")
def apply_from_exponent_fwd(dtA, B_bar, C, D, u, x0=None, *, real=True, chunk=None):
    """`apply_from_exponent` and its residuals."""
    op = operands(dtA, B_bar, C, D, u, x0, real, exponent=True)
    largest = float(np.max(np.abs(op.given[0].imag), initial=0))
    if largest > LARGEST_PHASE:
        raise ValueError(f"dtA has an imaginary part of {largest:g}; it must be at most 2^40")
    return _forward(op, True, chunk)


def _forward(op, is_exponent, chunk):
    if chunk is not None:
        chunk = _validate.integer("chunk", chunk, minimum=1)
    batch, H, L = op.u.shape
    poles, B, C = (
        np.array(np.broadcast_to(a, op.A_bar.shape), np.complex128, order="C") for a in op.given[:3]
    )
    weight = 2 * C if op.real else C  # the 2 of [CHUNK-2], once
    A = np.exp(poles) if is_exponent else poles
    exact = op.A_bar.dtype == np.complex128  # then tables start from the exponent itself
    model = _rows.Model(
        poles if exact else A, is_exponent and exact, B, weight, op.D.astype(complex)
    )
    sizes = _divide(batch, H, L, 1 if op.real else 2, chunk)
    x, y = op.x0.copy(), np.empty(op.u.shape, op.y_dtype)
    starts = np.empty((batch, H, _rows.blocks_in(L, sizes), 2, poles.shape[1]))
    if L:
        arrays = _reals(op.u, op), x, _reals(y, op), starts
        _run(_rows.forward, _rows._forward, op, model, sizes, *arrays)
    return (y, x), Residuals(op, model, A if is_exponent else None, sizes, starts)


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_C", "grad_D", "grad_u", "grad_x0")
def apply_vjp(residuals, grad_out):
    """Gradients to A_bar, B_bar, C, D, u, x0 [CHUNK-7 to 9] from the cotangents of (y, x_last)."""
    op, model, slope, sizes, starts = residuals
    grad_y, grad_x_last = op.cotangents(grad_out)
    batch, H, L = op.u.shape
    groups = -(-batch // sizes.group)
    adjoint = grad_x_last.copy()
    grads = np.zeros((groups, 3, *model.poles.shape), np.complex128)
    grad_D = np.zeros((groups, H), np.complex128)
    grad_u = np.empty(op.u.shape, op.y_dtype)
    if L:
        signals = _reals(op.u, op), _reals(grad_y, op)
        arrays = *signals, starts, adjoint, grads, grad_D, _reals(grad_u, op)
        _run(_rows.backward, _rows._backward, op, model, sizes, *arrays)
    # One fixed order of summation over the groups, whatever the number of threads.
    grad_A, grad_B, grad_C = grads.sum(axis=0)
    if slope is not None:
        grad_A = np.conj(slope) * grad_A  # [CHUNK-9]
    if op.real:
        grad_C *= 2
    return op.pull_back(grad_A, grad_B, grad_C, grad_D.sum(axis=0), grad_u, adjoint)


@_validate.sound("grad_dtA", "grad_B_bar", "grad_C", "grad_D", "grad_u", "grad_x0")
def apply_from_exponent_vjp(residuals, grad_out):
    """Gradients to dtA, B_bar, C, D, u, x0 from the cotangents of (y, x_last)."""
    return apply_vjp(residuals, grad_out)  # the residuals know which parameter they came from


def _run(parallel, serial, op, model, sizes, *arrays):
    """One of the two kernels, on as many threads as the work is worth."""
    batch, H, L = op.u.shape
    tasks = H * -(-batch // sizes.group)
    with single_threaded():
        if tasks > 1 and batch * H * L * model.poles.shape[1] >= PARALLEL_FROM:
            parallel(min(threads(), tasks), model, sizes, *arrays)
        else:
            serial(0, 1, model, sizes, *arrays)


def _reals(signal, op):
    """A signal as real numbers: re, im, re, im, ... for complex output."""
    if op.real:
        return signal
    return signal.astype(op.y_dtype, copy=False).view(op.A_bar.real.dtype)


def _divide(batch, H, L, parts, chunk):
    """Chunk length, and the shares of a task and of a block; of the shapes alone."""
    Q = min(chunk or CHUNK, max(L, 1))
    group = min(-(-batch // max(1, TASKS // H)), LARGEST_GROUP)
    block = min(_rows.ROWS // group, _rows.LONGEST_BLOCK, max(1, L // Q))
    return _rows.Sizes(Q, parts, group, block)


def _examples(rng, pole=lambda A: A):
    calls = list(operator_calls(rng))
    for i, example in enumerate(calls):
        A, *others = example.args
        yield Example((pole(A), *others), example.options, example.note, example.linear)
        if i < len(calls) - 1:  # whole chunks and a short last one, of one sequence or of several
            chunk = (1, 3, 5, 16)[i % 4]
            options, note = {**example.options, "chunk": chunk}, f"{example.note}, chunk {chunk}"
            yield Example((pole(A), *others), options, note, example.linear)


register(
    "chunked",
    apply_fwd,
    apply_vjp,
    reference=reference.chunked.apply,
    examples=_examples,
    arguments=("A_bar", "B_bar", "C", "D", "u", "x0"),
)
register(
    "chunked_from_exponent",
    apply_from_exponent_fwd,
    apply_from_exponent_vjp,
    reference=reference.chunked.apply_from_exponent,
    examples=partial(_examples, pole=np.log),
    arguments=("dtA", "B_bar", "C", "D", "u", "x0"),
)
