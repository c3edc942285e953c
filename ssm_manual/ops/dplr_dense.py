"""A diagonal-plus-low-rank system as a dense one.

    x <- Lambda x - sum_j P_j 2 Re(Q_j^* x) + B u,   y = 2 Re(C x) + D u

is linear over the real numbers in the 2N parts of x, so it is a real dense system [DPLR-6]. The
products of `dense_chunked` then run at the speed of a matrix product.
Derivation: docs/derivations/dplr.md.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import _dplr_operands
from ssm_manual.ops._examples import complex_normal
from ssm_manual.ops.registry import Example, register

__all__ = ["dplr_dense", "dplr_dense_fwd", "dplr_dense_vjp"]


def dplr_dense(Lambda_bar, P_bar, Q_bar, B_bar, C, D=None, *, real=True):
    """The dense matrices of a DPLR system, one input and one output a channel [DPLR-6].

    Parameters
    ----------
    Lambda_bar : array_like
        Diagonal, (H, N) or (N,).
    P_bar, Q_bar : array_like
        Low-rank factors, (H, r, N) or (r, N).
    B_bar, C : array_like
        Input and output weights, (H, N) or (N,).
    D : array_like or None
        Feed-through, (H,) or a scalar.
    real : bool
        True: a real system of the 2N states [Re x; Im x]. False: a complex one of N states.

    Returns
    -------
    A : ndarray
        (H, S, S), S = 2N or N.
    B : ndarray
        (H, S, 1).
    C : ndarray
        (H, 1, S), with the factor 2 of a real output.
    D : ndarray or None
        (H, 1, 1), real or complex as y; None if there is none.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, or D is complex for a real output.

    Notes
    -----
    Cost: O(r S^2) a channel in time, S^2 numbers in memory, in the arguments' precision. Nothing is
    rounded but the sum over j.

    Examples
    --------
    >>> A, B, C, D = dplr_dense([0.5 + 0.5j], [[0.0]], [[0.0]], [1.0], [1.0])
    >>> A[0]
    array([[ 0.5, -0.5],
           [ 0.5,  0.5]])
    """
    return dplr_dense_fwd(Lambda_bar, P_bar, Q_bar, B_bar, C, D, real=real)[0]


class Residuals(NamedTuple):
    """What the backward pass needs: the factors, with their axis H."""

    given: tuple
    P: np.ndarray  # (H, r, N)
    Q: np.ndarray
    out: tuple
    real: bool


NAMES = ("Lambda_bar", "P_bar", "Q_bar", "B_bar", "C", "D")


@_validate.sound("A", "B", "C", "D")
def dplr_dense_fwd(Lambda_bar, P_bar, Q_bar, B_bar, C, D=None, *, real=True):
    """`dplr_dense` and its residuals."""
    _validate.flag("real", real)
    values = Lambda_bar, P_bar, Q_bar, B_bar, C, D
    given, H, N, rank = _dplr_operands.parameters(NAMES, values, optional=("D",))
    *weights, D = given
    dtype = np.result_type(*weights, np.complex64)
    Lambda, P, Q, B, C = (
        np.broadcast_to(a, (H, rank, N) if a is weights[1] or a is weights[2] else (H, N))
        .astype(dtype)
        for a in weights
    )  # fmt: skip
    if D is not None:
        if real and D.dtype.kind == "c":
            raise ValueError(f"D has dtype {D.dtype}; it must be real for a real output")
        kind = dtype if not real else dtype.type(0).real.dtype
        D = np.broadcast_to(D, H).astype(kind)[:, np.newaxis, np.newaxis]
    n = np.arange(N)
    if real:
        A = -2 * np.swapaxes(_stacked(P), 1, 2) @ _stacked(Q)
        A[:, n, n] += Lambda.real
        A[:, n, N + n] -= Lambda.imag
        A[:, N + n, n] += Lambda.imag
        A[:, N + n, N + n] += Lambda.real
        B = _stacked(B)[..., np.newaxis]
        C = 2 * _stacked(np.conj(C))[:, np.newaxis]
    else:
        A = -np.swapaxes(P, 1, 2) @ np.conj(Q)
        A[:, n, n] += Lambda
        B, C = B[..., np.newaxis], C[:, np.newaxis]
    out = A, B, C, D
    return out, Residuals(tuple(given), P, Q, out, bool(real))


@_validate.sound("grad_Lambda_bar", "grad_P_bar", "grad_Q_bar", "grad_B_bar", "grad_C", "grad_D")
def dplr_dense_vjp(residuals, grad_out):
    """Gradients to Lambda_bar, P_bar, Q_bar, B_bar, C, D [DPLR-7] from those of the matrices."""
    given, P, Q, out, real = residuals
    names = "grad_A", "grad_B", "grad_C", "grad_D"
    parts = _validate.cotangents(grad_out, *names)
    grad_A, grad_B, grad_C, grad_D = (
        None if like is None else _validate.cotangent(name, g, like)
        for name, g, like in zip(names, parts, out)
    )
    N = P.shape[-1]
    n = np.arange(N)
    if real:
        grad_Lambda = grad_A[:, n, n] + grad_A[:, N + n, N + n] + 0j
        grad_Lambda.imag = grad_A[:, N + n, n] - grad_A[:, n, N + n]
        grad_P = -2 * _joined(_stacked(Q) @ np.swapaxes(grad_A, 1, 2))
        grad_Q = -2 * _joined(_stacked(P) @ grad_A)
        grad_B = _joined(grad_B[..., 0])
        grad_C = 2 * np.conj(_joined(grad_C[:, 0]))
    else:
        grad_Lambda = grad_A[:, n, n]
        grad_P = -Q @ np.swapaxes(grad_A, 1, 2)
        grad_Q = -P @ np.conj(grad_A)
        grad_B, grad_C = grad_B[..., 0], grad_C[:, 0]
    grad_D = None if grad_D is None else grad_D[:, 0, 0]
    grads = grad_Lambda, grad_P, grad_Q, grad_B, grad_C, grad_D
    return tuple(
        None if a is None else _validate.unbroadcast(g, a).astype(a.dtype)
        for g, a in zip(grads, given)
    )


def _stacked(z):
    """Real parts and then imaginary parts along the last axis."""
    return np.concatenate([z.real, z.imag], axis=-1)


def _joined(a):
    """The inverse of `_stacked`, and its adjoint."""
    N = a.shape[-1] // 2
    return a[..., :N] + 1j * a[..., N:]


def _examples(rng):
    for real in (True, False):
        for rank, H in ((1, 2), (2, 1)):
            L, B, C = (complex_normal(rng, H, 3) for _ in range(3))
            P, Q = (complex_normal(rng, H, rank, 3) for _ in range(2))
            D = rng.standard_normal(H) if real else complex_normal(rng, H)
            note = f"{'pairs' if real else 'complex'}, rank {rank}"
            yield Example((L, P, Q, B, C, D), {"real": real}, note)
            yield Example((L[0], P, Q[0], B[0], C, D[0]), {"real": real}, f"{note}, shared")


register(
    "dplr_dense",
    dplr_dense_fwd,
    dplr_dense_vjp,
    reference=reference.dplr_dense.dplr_dense,
    examples=_examples,
    arguments=NAMES,
)
