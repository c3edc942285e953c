"""Dense systems chunk by chunk: short Toeplitz products, and states passed between chunks.

With Q samples a chunk, u_q those of one chunk and x the state before it,

    y_q = sum_{k <= q} (C A_bar^(q-k) B_bar) u_k + D u_q + C A_bar^(q+1) x        [TABLE-1]
    x'  = A_bar^Q x + sum_q A_bar^(Q-1-q) B_bar u_q                               [TABLE-2]

For all chunks at once these are products of matrices, Y = U T + X W and S = U V, around a
recurrence that is Q times shorter than the scan's, and is a product of matrices itself.
Derivation: docs/derivations/dense_chunked.md. Kernels: `_dense_chunked_rows`, tables:
`_dense_tables`.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._blas import single_threaded
from ssm_manual._numba import threads
from ssm_manual.ops import _dense_chunked_rows as _rows
from ssm_manual.ops._dense_operands import DenseOperands, dense_operands
from ssm_manual.ops._dense_tables import Model
from ssm_manual.ops._examples import complex_normal
from ssm_manual.ops.registry import Example, register

__all__ = ["apply", "apply_fwd", "apply_vjp"]

#: Shortest and longest chunk that is chosen, as powers of two.
SHORTEST, LONGEST = 4, 7

#: Multiplications of all products, from which threads pay.
PARALLEL_FROM = 1_000_000

#: Tasks that the work is divided into at least, if the batch allows it.
TASKS = 4

#: Sequences in a task, and chunks of all of them in a block.
LARGEST_GROUP = 64
ROWS = 1024


def apply(A_bar, B_bar, C, D, u, x0=None, *, chunk=None):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = C x_t + D u_t``, chunk by chunk [TABLE-3].

    H systems side by side, each with N states, p inputs and m outputs.

    Parameters
    ----------
    A_bar : array_like
        Discrete state matrices (no unit), (H, N, N), real or complex; any finite values.
    B_bar, C : array_like
        Input and output matrices, (H, N, p) and (H, m, N). p or m may be 0: nothing comes in, or
        the last state alone goes out.
    D : array_like or None
        Feed-through, (H, m, p).
    u : array_like
        Input, (batch, H, p, L); L may be 0.
    x0 : array_like, optional
        State before the first sample, (batch, H, N); None is zero.
    chunk : int, optional
        Samples a chunk, at least 1; None is a power of two near ``N / sqrt(p m)``, from 16 to 128.
        It changes rounding and time only.

    Returns
    -------
    y : ndarray
        (batch, H, m, L); complex if any argument is.
    x_last : ndarray
        State after the last sample, (batch, H, N).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, or ``chunk`` is not a positive
        integer.

    Notes
    -----
    A_bar, B_bar, C and D may be in double precision beside signals in single; their gradients then
    are, too. Tables are formed in double precision, products and states are of the signals'.

    Cost: O(batch H (p m Q + (p + m) N + N^2 / Q) L) at the speed of a matrix product, and
    O(H N^3 log Q) for the tables, once for each pass [TABLE-13]. The backward pass keeps u and the
    state before every chunk, ``batch H N (L / Q + 1)`` numbers. A complex system is a real one with
    2N states, 2p inputs and 2m outputs. Threads share systems and groups of sequences, with the
    same bits for any number of them; while the call lasts, BLAS runs on one thread in the whole
    process. Output at another length may differ in the last bits. Where A_bar^Q overflows, the rest
    of a chunk is infinite, or refused where it would be NaN, even where a scan is still finite.

    Examples
    --------
    >>> y, x_last = apply([[[0.5]]], [[[1.0]]], [[[1.0]]], None, [[[[1.0, 0.0, 0.0]]]])
    >>> y
    array([[[[1.  , 0.5 , 0.25]]]])
    """
    return apply_fwd(A_bar, B_bar, C, D, u, x0, chunk=chunk)[0]


class Residuals(NamedTuple):
    """What the backward pass needs; tables are formed again."""

    operands: DenseOperands
    sizes: _rows.Sizes
    # (H, batch, (chunks + 1) N): the state before each chunk, and the last [TABLE-13]
    states: np.ndarray


@_validate.sound("y", "x_last")
def apply_fwd(A_bar, B_bar, C, D, u, x0=None, *, chunk=None):
    """`apply` and its residuals."""
    op = dense_operands(A_bar, B_bar, C, D, u, x0)
    if chunk is not None:
        chunk = _validate.integer("chunk", chunk, minimum=1)
    batch, H, p, L = op.u.shape
    m, N = op.model.C.shape[1:]
    sizes = _divide(batch, H, p, m, N, L, chunk)
    y = np.empty((batch, H, m, L), op.u.dtype)
    states = np.empty((H, batch, (_rows.chunks_in(L, sizes) + 1) * N), op.u.dtype)
    states[..., :N] = op.x0.swapaxes(0, 1)
    _run(_rows.forward, _rows._forward, op, sizes, _flat(op.u), _flat(y), states.swapaxes(0, 1))
    x_last = states[..., -N:].swapaxes(0, 1).copy()
    return op.results(y, x_last), Residuals(op, sizes, states)


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_C", "grad_D", "grad_u", "grad_x0")
def apply_vjp(residuals, grad_out):
    """Gradients to A_bar, B_bar, C, D, u, x0 [TABLE-6 to 12] from the cotangents of (y, x_last)."""
    op, sizes, states = residuals
    grad_y, adjoint = op.cotangents(grad_out)
    adjoint = adjoint.copy()
    grad_u = np.empty(op.u.shape, op.u.dtype)
    groups = -(-len(op.u) // sizes.group)
    grads = Model(*(np.zeros((groups, *a.shape)) for a in op.model))
    arrays = states.swapaxes(0, 1), adjoint, grads, _flat(grad_u)
    _run(_rows.backward, _rows._backward, op, sizes, _flat(op.u), _flat(grad_y), *arrays)
    # One fixed order of summation over the groups, whatever the number of threads.
    with np.errstate(over="ignore", invalid="ignore"):  # of systems that overflow
        return op.pull_back([a.sum(axis=0) for a in grads], grad_u, adjoint)


def _flat(signal):
    """(batch, H, p, L) as (batch, H p, L): channel i of system h is number h p + i."""
    batch, H, p, L = signal.shape
    return signal.reshape(batch, H * p, L)


def _run(parallel, serial, op, sizes, *arrays):
    """One of the two kernels, on as many threads as the work is worth."""
    batch, H, p, L = op.u.shape
    m, N = op.model.C.shape[1:]
    if L == 0:
        return
    tasks = H * -(-batch // sizes.group)
    sample = p * m * sizes.Q + (p + m) * N + N * N / sizes.Q
    with single_threaded():
        if tasks > 1 and batch * H * L * sample + H * N**3 >= PARALLEL_FROM:
            parallel(min(threads(), tasks), op.model, sizes, L, *arrays)
        else:
            serial(0, 1, op.model, sizes, L, *arrays)


def _divide(batch, H, p, m, N, L, chunk):
    """Chunk length, and the shares of a task and of a block; of the shapes alone."""
    if chunk is None:
        best = N / max(p * m, 1) ** 0.5
        chunk = 1 << min(max(round(np.log2(best)), SHORTEST), LONGEST)
    Q = min(chunk, max(L, 1))
    group = min(-(-batch // max(1, TASKS // H)), LARGEST_GROUP)
    return _rows.Sizes(Q, group, min(max(ROWS // group, 1), max(L // Q, 1)))


def _examples(rng):
    """Both fields, several inputs and outputs or none, whole chunks and a short last one."""
    calls = [
        (False, 1, 1, 1, 1, 1, 1, None),
        (False, 3, 2, 4, 2, 3, 17, 5),
        (True, 2, 2, 3, 1, 2, 20, 3),
        (False, 2, 1, 5, 1, 1, 65, 16),
        (True, 1, 1, 2, 2, 1, 7, 1),
        (False, 1, 2, 3, 1, 1, 100, None),
    ]
    linear = (("B_bar", "D"), ("C", "D"), ("u", "x0"))
    for i, (is_complex, batch, H, N, p, m, L, chunk) in enumerate(calls):
        draw = complex_normal if is_complex else lambda rng, *shape: rng.standard_normal(shape)
        A = draw(rng, H, N, N)
        radius = 0.5 ** (2 / (L + 1))  # x0 leaves a trace after L steps
        A *= radius / np.abs(np.linalg.eigvals(A)).max(axis=-1)[:, None, None]
        D = None if i == 4 else draw(rng, H, m, p)
        x0 = None if i == 0 else draw(rng, batch, H, N)
        args = A, draw(rng, H, N, p), draw(rng, H, m, N), D, draw(rng, batch, H, p, L), x0
        note = f"{'complex' if is_complex else 'real'}, batch {batch}, H {H}, N {N}, p {p}, m {m}"
        groups = linear[2:] if x0 is not None else linear[:2]
        yield Example(args, {"chunk": chunk}, f"{note}, L {L}, chunk {chunk}", groups)


register(
    "dense_chunked",
    apply_fwd,
    apply_vjp,
    reference=reference.dense_chunked.apply,
    examples=_examples,
    arguments=("A_bar", "B_bar", "C", "D", "u", "x0"),
)
