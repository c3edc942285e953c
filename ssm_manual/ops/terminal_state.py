"""The state after the last sample, as a sum over the input: what the convolution view passes on.

    x_last = A_bar^L x0 + B_bar w,    w = sum_t A_bar^(L-1-t) u_t         [STATE-1]

w and its derivative w' = dw / dA_bar run forward by Horner's rule,

    w_t = A_bar w_{t-1} + u_t,    w'_t = A_bar w'_{t-1} + w_{t-1},

so the backward pass has nothing left to recompute. Derivation: docs/derivations/terminal_state.md.
Cost: O(batch H N L).
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._numba import FLUSH_EVERY, flushed, jit
from ssm_manual.ops import vandermonde
from ssm_manual.ops._examples import complex_normal, lasting_poles
from ssm_manual.ops._operands import Operands, operands
from ssm_manual.ops.kernels.power import power
from ssm_manual.ops.registry import Example, register

__all__ = ["terminal_state", "terminal_state_fwd", "terminal_state_vjp"]


def terminal_state(A_bar, B_bar, u, x0=None):
    """``x_last = A_bar^L x0 + sum_t A_bar^(L-1-t) B_bar u_t`` [STATE-1].

    Parameters
    ----------
    A_bar, B_bar : array_like
        Discrete poles and input weights, broadcasting to (H, N).
    u : array_like
        Input, (batch, H, L), real or complex; L may be 0.
    x0 : array_like, optional
        State before the first sample, (batch, H, N).

    Returns
    -------
    x_last : ndarray
        (batch, H, N), complex.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit or a value is not finite.
    """
    return terminal_state_fwd(A_bar, B_bar, u, x0)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    operands: Operands
    w: np.ndarray  # (batch, H, N): the input seen through the powers of A_bar
    slope: np.ndarray  # dw / dA_bar; both come for free on the way forward


@_validate.sound("x_last")
def terminal_state_fwd(A_bar, B_bar, u, x0=None):
    """`terminal_state` and its residuals."""
    op = operands(A_bar, B_bar, 1.0, None, u, x0, False)
    L = op.u.shape[-1]
    w, slope = np.zeros_like(op.x0), np.zeros_like(op.x0)
    _weighted_sums(op.A_bar, op.u, w, slope)
    return power(op.A_bar, L) * op.x0 + op.B_bar * w, Residuals(op, w, slope)


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_u", "grad_x0")
def terminal_state_vjp(residuals, grad_x_last):
    """Gradients to A_bar [STATE-2], B_bar [STATE-3], u [STATE-4] and x0 [STATE-5]."""
    op, w, slope = residuals
    g = _validate.cotangent("grad_x_last", grad_x_last, op.x0)
    L = op.u.shape[-1]
    power_slope = L * power(op.A_bar, max(L - 1, 0))  # d A_bar^L / d A_bar
    grad_A = np.conj(power_slope * op.x0 + op.B_bar * slope) * g  # [STATE-2]
    grad_B = np.conj(w) * g  # [STATE-3]
    # sum_n conj(B_bar A_bar^(L-1-t)) g is a kernel run backwards in time [STATE-4].
    grad_u = vandermonde.kernel(op.A_bar.conj(), op.B_bar.conj(), g, L, real=False)[..., ::-1]
    grad_x0 = np.conj(power(op.A_bar, L)) * g  # [STATE-5]
    grad_A, grad_B, _, _, grad_u, grad_x0 = op.pull_back(
        grad_A, grad_B, None, None, grad_u, grad_x0
    )
    return grad_A, grad_B, grad_u, grad_x0


@jit
def _weighted_sums(A, u, w, slope):
    batch, H, L = u.shape
    for b in range(batch):
        for h in range(H):
            for t in range(L):
                if t % FLUSH_EVERY == 0:
                    for n in range(A.shape[1]):
                        w[b, h, n], slope[b, h, n] = flushed(w[b, h, n]), flushed(slope[b, h, n])
                for n in range(A.shape[1]):
                    slope[b, h, n] = A[h, n] * slope[b, h, n] + w[b, h, n]
                    w[b, h, n] = A[h, n] * w[b, h, n] + u[b, h, t]  # [STATE-1]


def _examples(rng):
    linear = (("B_bar",), ("u", "x0"))
    for batch, H, N, L in [(1, 1, 1, 1), (3, 2, 4, 2), (2, 1, 7, 17), (3, 2, 4, 64)]:
        A, B = lasting_poles(rng, H, N, length=L), complex_normal(rng, H, N)
        u, x0 = complex_normal(rng, batch, H, L), complex_normal(rng, batch, H, N)
        size = f"batch {batch}, H {H}, N {N}, L {L}"
        yield Example((A, B, u, x0), {}, f"complex u, {size}", linear[1:])
        yield Example((A, B, u.real.copy(), None), {}, f"real u, {size}", linear)


register(
    "terminal_state",
    terminal_state_fwd,
    terminal_state_vjp,
    reference=reference.terminal_state.terminal_state,
    examples=_examples,
    arguments=("A_bar", "B_bar", "u", "x0"),
)
