"""The operator of a diagonal layer: from its parameters to what the views take, and back.

    A = -exp(log_A_real) + i A_imag,   dt = exp(log_dt)                                   [S4D-1]

A is in the left half-plane and dt positive whatever the parameters are, so that plain gradient
descent cannot leave the stable models. Everything here is H x N, in double precision: a rounding of
dt A is multiplied by the length of the sequence.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual.layers import _step
from ssm_manual.ops import chunked, discretize, ssm

#: How the continuous system becomes a discrete one.
DISCRETISATIONS = ("zoh", "tustin")

#: With fewer samples, all sequences together, ``view="auto"`` scans: a call's fixed cost decides.
SHORT = 512

#: Stands for A_bar = 0, which has no logarithm; its powers are zero at once.
NOTHING = 1e-200


class System(NamedTuple):
    """The discrete system of a layer.

    Attributes
    ----------
    exponent : ndarray
        (H, N), complex128: log A_bar.
    A_bar, B_bar : ndarray
        (H, N), complex128.
    residuals : tuple
        For `pull_back`.
    """

    exponent: np.ndarray
    A_bar: np.ndarray
    B_bar: np.ndarray
    residuals: tuple


def poles(params):
    """``A`` and ``dt`` of a layer's parameters [S4D-1], complex128 (H, N) and float64 (H, 1)."""
    A = -np.exp(params["log_A_real"].astype(float)) + 1j * params["A_imag"].astype(float)
    return A, np.exp(params["log_dt"].astype(float))[:, np.newaxis]


def system(layer):
    """The discrete `System`."""
    method = layer.discretisation
    A, dt = poles(layer.params)
    B = layer.B.astype(complex)
    if method == "zoh":
        (A_bar, B_bar), residuals = discretize.zoh_fwd(A, B, dt)
        exponent = dt * A
    else:
        (A_bar, B_bar), residuals = discretize.tustin_fwd(A, B, dt)
        z = dt * A / 2
        vanished = A_bar == 0
        exponent = 2 * np.arctanh(np.where(vanished, 0, z))  # [S4D-2]
        exponent[vanished] = np.log(NOTHING)
    return System(exponent, A_bar, B_bar, (method, A, dt, residuals))


def apply(layer, system, view, weights, D, u, x0):
    """The operator in one direction, and its residuals; ``weights`` names the parameter C."""
    C = layer.params[weights]
    B_bar = system.B_bar.astype(C.dtype)
    if view == "chunked":
        return chunked.apply_from_exponent_fwd(system.exponent, B_bar, C, D, u, x0)
    return ssm.apply_fwd(system.A_bar.astype(C.dtype), B_bar, C, D, u, x0, view=view)


def vjp(view, weights, residuals, grad_out):
    """Gradients by name, those to u and those to x0; a view has the exponent or A_bar."""
    if view == "chunked":
        pole, back = "exponent", chunked.apply_from_exponent_vjp
    else:
        pole, back = "A_bar", ssm.apply_vjp
    *to_weights, to_u, to_x0 = back(residuals, grad_out)
    return dict(zip((pole, "B_bar", weights, "D"), to_weights)), to_u, to_x0


def pull_back(layer, system, sums):
    """Gradients to all parameters [S4D-3], from those to the discrete system, C and D."""
    zero = np.zeros(layer.params["C"].shape, complex)
    grad_exponent, grad_A_bar, grad_B_bar = (
        sums.pop(name, zero) for name in ("exponent", "A_bar", "B_bar")
    )
    method, A, dt, residuals = system.residuals
    back = discretize.zoh_vjp if method == "zoh" else discretize.tustin_vjp
    grad_A, grad_B, grad_dt = back(residuals, (grad_A_bar, grad_B_bar))
    if method == "tustin":  # d exponent / d (dt A) = (1 + a)^2 / 4 a, a = A_bar [S4D-2]
        a = np.exp(system.exponent)
        grad_exponent = np.conj((1 + a) ** 2 / (4 * a)) * grad_exponent
    grad_A = grad_A + dt * grad_exponent
    grad_dt = grad_dt + np.sum((np.conj(A) * grad_exponent).real, axis=1, keepdims=True)
    return sums | {
        "log_dt": (dt * grad_dt)[:, 0],
        "log_A_real": A.real * grad_A.real,
        "A_imag": grad_A.imag,
        "B": grad_B,
    }


# -------------------------------------------------------------------------------------- one sample

#: `_step.step`: one sample.
step = _step.step


#: All that the tables of a step depend on, in the order of `_step.step`.
PARAMETERS = ("log_dt", "log_A_real", "A_imag", "C", "B", "D")


def parameters(layer):
    """The arrays of `PARAMETERS`."""
    p = layer.params
    return p["log_dt"], p["log_A_real"], p["A_imag"], p["C"], layer.B, p["D"]


def tables(layer):
    """`_step.Tables`."""
    now, C = system(layer), layer.params["C"].astype(complex)
    parts = now.A_bar, now.B_bar, C, layer.params["D"]
    return _step.tables(parameters(layer), *parts, layer.dtype)
