"""The convolution view of the operator: its kernel, convolved with the input.

    y_t = sum_{j <= t} K_j u_{t-j} + f_t + D u_t          [CONV-6]

K is the kernel of the channel (`vandermonde`), f the free response of x0, and the last state comes
from `terminal_state`. The gradients are those of the parts, and equal those of `scan` [CONV-7].
Derivation: docs/derivations/convolution.md.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import terminal_state, vandermonde
from ssm_manual.ops._examples import operator_calls
from ssm_manual.ops._operands import Operands, operands
from ssm_manual.ops.causal import Residuals as CausalResiduals
from ssm_manual.ops.causal import causal, causal_fwd, causal_vjp
from ssm_manual.ops.registry import register

__all__ = ["causal", "causal_fwd", "causal_vjp", "convolve", "convolve_fwd", "convolve_vjp"]


def convolve(A_bar, B_bar, C, D, u, x0=None, *, real=True):
    """``y = causal(u, K) + 2 Re(C A_bar^(t+1) x0) + D u``: the operator by its kernel [CONV-6].

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

    Returns
    -------
    y : ndarray
        (batch, H, L).
    x_last : ndarray
        State after the last sample, (batch, H, N).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, or u or D is complex for a real
        output.

    Notes
    -----
    Cost: O(H N L) for the kernel, O(batch H L log L) for the transforms, O(batch H N L) for the
    last state.
    """
    return convolve_fwd(A_bar, B_bar, C, D, u, x0, real=real)[0]


class Residuals(NamedTuple):
    """What the backward pass needs: the residuals of its parts."""

    operands: Operands
    kernel: vandermonde.Residuals
    causal: CausalResiduals
    # the free response of x0, itself a kernel with input weights A_bar x0
    free: vandermonde.Residuals | None
    terminal: terminal_state.Residuals


@_validate.sound("y", "x_last")
def convolve_fwd(A_bar, B_bar, C, D, u, x0=None, *, real=True):
    """`convolve` and its residuals."""
    op = operands(A_bar, B_bar, C, D, u, x0, real)
    L = op.u.shape[-1]
    # A kernel of an empty sequence has one sample that nothing reads.
    K, kernel = vandermonde.kernel_fwd(op.A_bar, op.B_bar, op.C, max(L, 1), real=real)
    y, products = causal_fwd(op.u, K)
    y += op.D[:, None] * op.u
    free = None
    if x0 is not None:
        response, free = vandermonde.kernel_fwd(op.A_bar, op.A_bar * op.x0, op.C, L, real=real)
        y += response  # [CONV-6]
    x_last, terminal = terminal_state.terminal_state_fwd(op.A_bar, op.B_bar, op.u, op.x0)
    return (y, x_last), Residuals(op, kernel, products, free, terminal)


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_C", "grad_D", "grad_u", "grad_x0")
def convolve_vjp(residuals, grad_out):
    """Gradients to A_bar, B_bar, C, D, u and x0 from the cotangents of ``(y, x_last)``."""
    op, kernel, products, free, terminal = residuals
    grad_y, grad_x_last = op.cotangents(grad_out)
    grad_u, grad_K = causal_vjp(products, grad_y)
    grad_A, grad_B, grad_C, _ = vandermonde.kernel_vjp(kernel, grad_K)
    for_A, for_B, for_u, grad_x0 = terminal_state.terminal_state_vjp(terminal, grad_x_last)
    grad_A, grad_B, grad_u = grad_A + for_A, grad_B + for_B, grad_u + for_u
    through_D = np.conj(op.D)[:, None] * grad_y
    grad_u = grad_u + (through_D if grad_u.dtype.kind == "c" else through_D.real)  # [COMPLEX-4]
    grad_D = np.sum(grad_y * np.conj(op.u), axis=(0, 2))
    if free is not None:
        for_A, weight, for_C, _ = vandermonde.kernel_vjp(free, grad_y)
        grad_A = grad_A + for_A + np.sum(np.conj(op.x0) * weight, axis=0)  # weight: to A_bar x0
        grad_x0 = grad_x0 + np.conj(op.A_bar) * weight
        grad_C = grad_C + for_C
    return op.pull_back(grad_A, grad_B, grad_C, grad_D, grad_u, grad_x0)


register(
    "convolve",
    convolve_fwd,
    convolve_vjp,
    reference=reference.convolve.convolve,
    examples=operator_calls,
    arguments=("A_bar", "B_bar", "C", "D", "u", "x0"),
)
