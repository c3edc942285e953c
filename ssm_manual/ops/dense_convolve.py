"""The convolution view of the dense operator: its kernel, convolved with the input.

    y_t = sum_{j <= t} K_j u_{t-j} + C A_bar^(t+1) x0 + D u_t          [DENSE-19]

K (H, m, p, L) comes from `dense_kernel`; the free response of x0 is a kernel, too, with A_bar x0
for B_bar; the last state comes from `dense_terminal_state`. The gradients are those of the parts,
and equal those of `dense_scan` [DENSE-20]. Derivation: docs/derivations/dense.md.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._blas import single_threaded
from ssm_manual.ops import dense_kernel, dense_terminal_state
from ssm_manual.ops._dense_examples import dense_calls
from ssm_manual.ops._dense_operands import DenseOperands, dense_operands
from ssm_manual.ops._dense_powers import transposed
from ssm_manual.ops.causal import Residuals as CausalResiduals
from ssm_manual.ops.causal import causal_fwd, causal_vjp
from ssm_manual.ops.dense_kernel import kernel, kernel_fwd, kernel_vjp
from ssm_manual.ops.registry import register

__all__ = ["convolve", "convolve_fwd", "convolve_vjp", "kernel", "kernel_fwd", "kernel_vjp"]


def convolve(A_bar, B_bar, C, D, u, x0=None):
    """``y_t = sum_j K_j u_{t-j} + C A_bar^(t+1) x0 + D u_t``: by the kernel [DENSE-19].

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
        State after the last sample, (batch, H, N), of y's dtype.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit or a value is not finite.

    Notes
    -----
    Cost: that of the kernel, O(batch H m p L log L) for the transforms, that of the last state.
    Every pair of an input and an output is a convolution of its own, so this view suits one or few
    of each. Rounding is relative to the largest output of a row (`causal`).
    """
    return convolve_fwd(A_bar, B_bar, C, D, u, x0)[0]


class Residuals(NamedTuple):
    """What the backward pass needs: the residuals of its parts."""

    operands: DenseOperands
    kernel: dense_kernel.Residuals
    causal: CausalResiduals
    free: dense_kernel.Residuals | None  # None without x0
    terminal: dense_terminal_state.Residuals


@_validate.sound("y", "x_last")
def convolve_fwd(A_bar, B_bar, C, D, u, x0=None):
    """`convolve` and its residuals."""
    op = dense_operands(A_bar, B_bar, C, D, u, x0)
    (A, B, C, D), L, dtype = op.model, op.u.shape[-1], op.u.dtype
    # A kernel of an empty sequence has one sample that nothing reads.
    K, of_kernel = dense_kernel.forward(A, B, C, max(L, 1))
    # Input i of output o: axes (batch, H, o, i, L).
    terms, products = causal_fwd(op.u[:, :, None], K.astype(dtype, copy=False))
    y = terms.sum(axis=3)
    free = None
    with single_threaded(), np.errstate(over="ignore", invalid="ignore"):
        y += D.astype(dtype, copy=False) @ op.u
        if x0 is not None:
            response, free = dense_kernel.forward(A, A @ op.x0.transpose(1, 2, 0), C, L)
            y += response.transpose(2, 0, 1, 3).astype(dtype, copy=False)  # [DENSE-19]
    x_last, terminal = dense_terminal_state.forward(op)
    return op.results(y, x_last), Residuals(op, of_kernel, products, free, terminal)


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_C", "grad_D", "grad_u", "grad_x0")
def convolve_vjp(residuals, grad_out):
    """Gradients to A_bar, B_bar, C, D, u and x0 from the cotangents of ``(y, x_last)``."""
    op, of_kernel, products, free, terminal = residuals
    grad_y, grad_x_last = op.cotangents(grad_out)
    every_pair = np.broadcast_to(grad_y[:, :, :, None], products.y_like.shape)
    grad_u, grad_K = causal_vjp(products, every_pair)
    grad_A, grad_B, grad_C = dense_kernel.backward(of_kernel, grad_K)
    for_A, for_B, for_u, grad_x0 = dense_terminal_state.backward(terminal, grad_x_last)
    grad_A, grad_B = grad_A + for_A, grad_B + for_B
    with single_threaded(), np.errstate(over="ignore", invalid="ignore"):
        through_D = transposed(op.model.D).astype(op.u.dtype, copy=False) @ grad_y
        grad_u = grad_u[:, :, 0] + for_u + through_D
        grad_D = (grad_y @ transposed(op.u)).sum(axis=0)
        if free is not None:
            for_A, weight, for_C = dense_kernel.backward(free, grad_y.transpose(1, 2, 0, 3))
            grad_A = grad_A + for_A + weight @ op.x0.transpose(1, 0, 2)  # weight: to A_bar x0
            grad_x0 = grad_x0 + (transposed(op.model.A) @ weight).transpose(2, 0, 1)
            grad_C = grad_C + for_C
    return op.pull_back((grad_A, grad_B, grad_C, grad_D), grad_u, grad_x0)


register(
    "dense_convolve",
    convolve_fwd,
    convolve_vjp,
    reference=reference.dense_convolve.convolve,
    examples=dense_calls,
    arguments=("A_bar", "B_bar", "C", "D", "u", "x0"),
)
