"""From the parameters of a diagonal layer to what its views take, and back with the gradients.

    A = -exp(log_A_real) + i A_imag,   dt = exp(log_dt)                                   [S4D-1]

A is in the left half-plane and dt positive whatever the parameters are, so that plain gradient
descent cannot leave the stable models. Everything here is H x N, in double precision: a rounding of
dt A is multiplied by the length of the sequence.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual.ops import discretize

#: How the continuous system becomes a discrete one.
DISCRETISATIONS = ("zoh", "tustin")

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


def discretise(params, B, method):
    """The discrete system; ``B`` (H, N) are the input weights, trained or not."""
    A, dt = poles(params)
    B = B.astype(complex)
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


def pull_back(system, grad_exponent, grad_A_bar, grad_B_bar):
    """Gradients to ``log_dt``, ``log_A_real``, ``A_imag`` and B [S4D-3].

    All (H, N), complex128. A view takes either the exponent or A_bar; the other one's is zero.
    """
    method, A, dt, residuals = system.residuals
    vjp = discretize.zoh_vjp if method == "zoh" else discretize.tustin_vjp
    grad_A, grad_B, grad_dt = vjp(residuals, (grad_A_bar, grad_B_bar))
    if method == "tustin":  # d exponent / d (dt A) = (1 + a)^2 / 4 a, a = A_bar [S4D-2]
        a = np.exp(system.exponent)
        grad_exponent = np.conj((1 + a) ** 2 / (4 * a)) * grad_exponent
    grad_A = grad_A + dt * grad_exponent
    grad_dt = grad_dt + np.sum((np.conj(A) * grad_exponent).real, axis=1, keepdims=True)
    return {
        "log_dt": (dt * grad_dt)[:, 0],
        "log_A_real": A.real * grad_A.real,
        "A_imag": grad_A.imag,
        "B": grad_B,
    }
