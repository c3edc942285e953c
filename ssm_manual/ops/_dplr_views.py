"""The three views of a DPLR system, each forward and backward, for `dplr.apply`.

A view takes `Operands` and `System` and gives ``(y, x_last)`` and residuals; back from their
cotangents it gives the gradients to u and x0, and by name those to the discrete system and to the
continuous one. Everything that depends on parameters alone is in double precision.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual.ops import cauchy, causal, dense_chunked, dplr_dense, dplr_scan

__all__ = ["VIEWS", "System"]


class System(NamedTuple):
    """A DPLR system with its axis H, complex128; dt float64."""

    Lambda: np.ndarray  # (H, N)
    P: np.ndarray  # (H, r, N)
    Q: np.ndarray
    B: np.ndarray  # (H, N)
    C: np.ndarray
    dt: np.ndarray  # (H,)
    discrete: tuple  # Lambda_bar, P_bar, Q_bar, B_bar


# -------------------------------------------------------------------------------------------- scan


def scan_fwd(op, system):
    """[DPLR-8]."""
    return dplr_scan.dplr_scan_fwd(*system.discrete, system.C, op.D, op.u, op.x0, real=op.real)


def scan_vjp(residuals, op, grad_y, grad_x):
    """[DPLR-9]."""
    *discrete, C, D, u, x0 = dplr_scan.dplr_scan_vjp(residuals, (grad_y, grad_x))
    return u, x0, {"discrete": discrete, "C": C, "D": D}


# ----------------------------------------------------------------------------------------- chunked


def chunked_fwd(op, system):
    """The dense system [DPLR-6] by matrix products [TABLE-3]."""
    dense, kept = dplr_dense.dplr_dense_fwd(*system.discrete, system.C, op.D, real=op.real)
    (y, x), products = dense_chunked.apply_fwd(*dense, _input(op), _stacked(op.x0, op))
    return (y[:, :, 0], _joined(x, op)), (kept, products)


def chunked_vjp(residuals, op, grad_y, grad_x):
    """Back through both [TABLE-11, DPLR-7]."""
    kept, products = residuals
    g = grad_y[:, :, np.newaxis], _stacked(grad_x, op)
    *dense, u, x0 = dense_chunked.apply_vjp(products, g)
    *discrete, C, D = dplr_dense.dplr_dense_vjp(kept, dense)
    return u[:, :, 0], _joined(x0, op), {"discrete": discrete, "C": C, "D": D}


# ------------------------------------------------------------------------------------- convolution


class Convolution(NamedTuple):
    """What the backward pass needs: the residuals of the parts."""

    kernel: cauchy.Residuals
    products: causal.Residuals
    dense: dplr_dense.Residuals
    terminal: dense_chunked.Residuals
    free: dense_chunked.Residuals | None  # the response of x0 without input


def convolution_fwd(op, system):
    """The kernel [CAUCHY-1] convolved with the input; the state by chunks [DPLR-11]."""
    L = op.sizes[3]
    Lambda, P, Q, B, C, dt, discrete = system
    # A kernel of an empty sequence has one sample that nothing reads.
    K, kernel = cauchy.cauchy_fwd(Lambda, P, Q, B, C, dt, max(L, 1), real=op.real)
    y, products = causal.causal_fwd(op.u, K.astype(op.y_dtype))
    if op.D is not None:
        y += op.D.astype(y.dtype)[:, np.newaxis] * op.u
    (A, B, C, _), dense = dplr_dense.dplr_dense_fwd(*discrete, C, real=op.real)
    x0 = _stacked(op.x0, op)
    (_, x), terminal = dense_chunked.apply_fwd(A, B, C[:, :0], None, _input(op), x0)
    free = None
    if x0 is not None:
        nothing = _input(op)[:, :, :0]
        (response, _), free = dense_chunked.apply_fwd(A, B[..., :0], C, None, nothing, x0)
        y += response[:, :, 0]
    return (y, _joined(x, op)), Convolution(kernel, products, dense, terminal, free)


def convolution_vjp(residuals, op, grad_y, grad_x):
    """Back through the parts; each gradient is the sum over them."""
    kernel, products, dense, terminal, free = residuals
    grad_u, grad_K = causal.causal_vjp(products, grad_y)
    grad_K = grad_K.astype(np.result_type(grad_K, float))
    *continuous, _ = cauchy.cauchy_vjp(kernel, grad_K)
    Lambda, P, Q, B, C, dt = continuous
    grad_D = None
    if op.D is not None:
        grad_u = grad_u + np.conj(op.D).astype(grad_y.dtype)[:, np.newaxis] * grad_y
        grad_D = np.sum(grad_y * np.conj(op.u), axis=(0, 2), dtype=op.D.dtype)
    found = {"continuous": (Lambda, P, Q, B, dt), "C": C, "D": grad_D}
    to_A = to_B = to_C = grad_x0 = None
    if grad_x is not None:
        g = None, _stacked(grad_x, op)
        to_A, to_B, _, _, u, grad_x0 = dense_chunked.apply_vjp(terminal, g)
        grad_u = grad_u + (u[:, :, 0] if grad_u.dtype.kind == "c" else u[:, :, 0].real)
    if free is not None:
        g = grad_y[:, :, np.newaxis], None
        A, _, to_C, _, _, x0 = dense_chunked.apply_vjp(free, g)
        to_A, grad_x0 = (a if b is None else a + b for a, b in ((A, to_A), (x0, grad_x0)))
    if to_A is not None:
        *discrete, more_C, _ = dplr_dense.dplr_dense_vjp(dense, (to_A, to_B, to_C, None))
        found |= {"discrete": discrete, "C": C + more_C}
    return grad_u, _joined(grad_x0, op), found


# ------------------------------------------------------------------------------------------ shared


def _input(op):
    """u as the one input of each system; complex where the system is."""
    return op.u.astype(op.y_dtype, copy=False)[:, :, np.newaxis]


def _stacked(x, op):
    """States of the dense system [DPLR-6]."""
    if x is None or not op.real:
        return x
    return np.concatenate([x.real, x.imag], axis=-1)


def _joined(x, op):
    """The inverse of `_stacked`, and its adjoint."""
    if x is None or not op.real:
        return x
    N = op.sizes[2]
    out = np.empty((*x.shape[:-1], N), op.x_dtype)
    out.real, out.imag = x[..., :N], x[..., N:]
    return out


#: By name, each with its vjp.
VIEWS = {
    "scan": (scan_fwd, scan_vjp),
    "convolution": (convolution_fwd, convolution_vjp),
    "chunked": (chunked_fwd, chunked_vjp),
}
