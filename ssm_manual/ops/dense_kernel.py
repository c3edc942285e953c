"""The kernel of dense systems, time split in two.

    K_l = C A_bar^l B_bar                                           [DENSE-12]
    l = j M + k:   K_l = (C A_bar^(jM)) (A_bar^k B_bar) = W_j V_k   [DENSE-13]

Two short tables by doubling [DENSE-14], and one matrix product for all samples. Backward, the same
product twice, and doubling back [DENSE-15]. Derivation: docs/derivations/dense.md.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._blas import single_threaded
from ssm_manual.ops._dense_examples import dense_matrices
from ssm_manual.ops._dense_powers import (
    adjoint,
    ceil_log2,
    columns,
    columns_vjp,
    double,
    squares,
    squares_vjp,
    transposed,
)
from ssm_manual.ops._examples import complex_normal
from ssm_manual.ops.registry import Example, register

__all__ = ["kernel", "kernel_fwd", "kernel_vjp"]


def kernel(A_bar, B_bar, C, length):
    """``K_l = C A_bar^l B_bar``, l < length [DENSE-12].

    Parameters
    ----------
    A_bar : array_like
        Discrete state matrices (H, N, N), no unit; real or complex, any finite value.
    B_bar : array_like
        Input matrices (H, N, p).
    C : array_like
        Output matrices (H, m, N).
    length : int
        Number of samples L, at least 0.

    Returns
    -------
    K : ndarray
        (H, m, p, L), complex if an argument is.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite or ``length`` is negative.

    Notes
    -----
    Cost: O(H N m p L) for the samples and O(H N^2 (N log L + sqrt(m p L))) for the tables, which
    are in double precision, and rounded once. The error of a power grows with the power as that of
    a product of L matrices does, not faster; powers of a matrix that was rounded to single
    precision are those of the rounded one.

    Examples
    --------
    >>> kernel([[[0.5]]], [[[1.0]]], [[[2.0]]], 4)
    array([[[[2.  , 1.  , 0.5 , 0.25]]]])
    """
    return kernel_fwd(A_bar, B_bar, C, length)[0]


class Residuals(NamedTuple):
    """What the backward pass needs: the tables, of which all samples are products."""

    given: tuple  # A_bar, B_bar, C
    length: int
    powers: list  # A_bar^(2^i)
    late: int  # index of the first square that W is made of: M = 2^late
    V: np.ndarray  # (H, N, M p)
    W: np.ndarray  # (H, J m, N)


@_validate.sound("K")
def kernel_fwd(A_bar, B_bar, C, length):
    """`kernel` and its residuals."""
    A_bar, B_bar, C = _validate.arrays(A_bar=A_bar, B_bar=B_bar, C=C)
    length = _validate.length("length", length, minimum=0)
    _validate.shape("A_bar", A_bar, (-1, -1, -1), meaning="(H, N, N)")
    H, N, _ = A_bar.shape
    _validate.shape("A_bar", A_bar, (H, N, N), meaning="(H, N, N)")
    _validate.shape("B_bar", B_bar, (H, N, None), meaning="(H, N, p)")
    _validate.shape("C", C, (H, None, N), meaning="(H, m, N)")
    return forward(A_bar, B_bar, C, length)


def forward(A_bar, B_bar, C, length):
    """`kernel_fwd` of arguments that have been checked."""
    given = A_bar, B_bar, C
    A, B, C = double(*given)
    (H, _, p), m = B.shape, C.shape[1]
    # The sizes of the tables, M p and J m columns, balanced.
    late = round(ceil_log2(length * max(m, 1) // max(p, 1)) / 2)
    late = min(late, ceil_log2(length))
    M = 1 << late
    J = max(1, -(-length // M))
    with single_threaded(), np.errstate(over="ignore", invalid="ignore"):
        powers = squares(A, late + ceil_log2(J))
        V = columns(powers, B, M)
        rows = [transposed(power) for power in powers[late:]] or [A]
        W = np.ascontiguousarray(transposed(columns(rows, transposed(C), J)))
        K = (W @ V).reshape(H, J, m, M, p)  # [DENSE-13]
        K = K.transpose(0, 2, 4, 1, 3).reshape(H, m, p, J * M)[..., :length]
        K = np.ascontiguousarray(K, np.result_type(*given))
    return K, Residuals(given, length, powers, late, V, W)


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_C", "grad_length")
def kernel_vjp(residuals, grad_K):
    """Gradients to A_bar, B_bar and C [DENSE-15]; None for the length."""
    given, length, *_ = residuals
    _, B, C = given
    shape = (len(B), C.shape[1], B.shape[2], length)
    like = _validate.stand_in(shape, np.result_type(*given))
    grads = backward(residuals, _validate.cotangent("grad_K", grad_K, like))
    with np.errstate(over="ignore"):
        return *(
            _validate.unbroadcast(g, a).astype(a.dtype, copy=False) for g, a in zip(grads, given)
        ), None


def backward(residuals, grad_K):
    """`kernel_vjp` in double precision, complex where an argument or the cotangent is."""
    (A, B, C), length, powers, late, V, W = residuals
    (H, _, p), m = B.shape, C.shape[1]
    M = 1 << late
    J = max(1, -(-length // M))
    (grad_K,) = double(grad_K)
    with single_threaded(), np.errstate(over="ignore", invalid="ignore"):
        G = np.zeros((H, m, p, J * M), grad_K.dtype)
        G[..., :length] = grad_K
        G = G.reshape(H, m, p, J, M).transpose(0, 3, 1, 4, 2).reshape(H, J * m, M * p)
        grad_V, grad_W = adjoint(W) @ G, G @ adjoint(V)
        grads = [np.zeros(A.shape, grad_V.dtype) for _ in powers]
        grad_B = columns_vjp(powers, V, grad_V, p, grads)
        rows = [transposed(power) for power in powers[late:]]
        to_rows = [transposed(grad) for grad in grads[late:]]  # views: adding to them adds to grads
        grad_C = columns_vjp(rows, transposed(W), np.array(transposed(grad_W)), m, to_rows)
        return squares_vjp(powers, grads), grad_B, transposed(grad_C)


def _examples(rng):
    linear = (("B_bar",), ("C",))
    for H, N, p, m, L in [(1, 1, 1, 1, 1), (2, 4, 1, 1, 2), (1, 3, 2, 1, 17), (2, 5, 1, 3, 64)]:
        size = f"H {H}, N {N}, p {p}, m {m}, L {L}"
        for real in (True, False):
            A = dense_matrices(rng, H, N, radius=0.98, real=real)
            draw = rng.standard_normal if real else lambda shape: complex_normal(rng, *shape)
            B, C = draw((H, N, p)), draw((H, m, N))
            yield Example((A, B, C, L), {}, f"{'real' if real else 'complex'}, {size}", linear)
    yield Example((A.real.copy(), B, C.real.copy(), 33), {}, "complex B alone", linear)
    A = dense_matrices(rng, 1, 2, radius=0.997)
    yield Example((A, B[:1, :2].real.copy(), C[:1, :1, :2].real.copy(), 1047), {}, "L 1047", linear)


register(
    "dense_kernel",
    kernel_fwd,
    kernel_vjp,
    reference=reference.dense_kernel.kernel,
    examples=_examples,
    arguments=("A_bar", "B_bar", "C", "length"),
)
