"""The operator of a layer that is diagonal plus low rank: from its parameters to `dplr`, and back.

    A = diag(Lambda) - P P^*,   Lambda = -exp(log_A_real) + i A_imag,   dt = exp(log_dt)   [DPLR-12]

The Hermitian part of A is negative definite whatever the parameters are, so that no step of an
optimiser can leave the stable models. All in double precision.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual.layers import _continuous, _step_low_rank
from ssm_manual.ops import dplr, dplr_discretize

#: With fewer samples, all sequences together, ``view="auto"`` scans.
SHORT = dplr.CHUNKED_FROM


class System(NamedTuple):
    """The continuous system of a layer."""

    Lambda: np.ndarray  # (H, N) complex128
    P: np.ndarray  # (H, r, N)
    B: np.ndarray  # (H, N)
    dt: np.ndarray  # (H,) float64

    @property
    def discrete(self):
        """Lambda_bar, P_bar, Q_bar, B_bar [DPLR-3]."""
        return dplr_discretize.tustin_dplr(self.Lambda, self.P, self.P, self.B, self.dt)


def system(layer):
    """The `System`."""
    Lambda, dt = _continuous.poles(layer.params)
    return System(Lambda, layer.params["P"].astype(complex), layer.B.astype(complex), dt[:, 0])


def apply(layer, system, view, weights, D, u, x0):
    """The operator in one direction, and its residuals; ``weights`` names the parameter C."""
    Lambda, P, B, dt = system
    C = layer.params[weights].astype(complex)
    D = None if D is None else D.astype(float)
    return dplr.apply_fwd(Lambda, P, P, B, C, D, dt, u, x0, view=view)


def vjp(view, weights, residuals, grad_out):
    """Gradients by name, those to u and those to x0."""
    Lambda, P, Q, B, C, D, dt, u, x0 = dplr.apply_vjp(residuals, grad_out)
    return {"Lambda": Lambda, "P": P + Q, "B": B, weights: C, "D": D, "dt": dt}, u, x0


def pull_back(layer, system, sums):
    """Gradients to all parameters [DPLR-12]."""
    to_Lambda, to_dt = sums.pop("Lambda"), sums.pop("dt")
    return sums | {
        "log_dt": system.dt * to_dt,
        "log_A_real": system.Lambda.real * to_Lambda.real,
        "A_imag": to_Lambda.imag,
    }


# -------------------------------------------------------------------------------------- one sample

#: `_step_low_rank.step`: one sample.
step = _step_low_rank.step

#: All that the tables of a step depend on, in the order of `_step_low_rank.step`.
PARAMETERS = (*_continuous.PARAMETERS, "P")


def parameters(layer):
    """The arrays of `PARAMETERS`."""
    return *_continuous.parameters(layer), layer.params["P"]


def tables(layer):
    """`_step_low_rank.Tables`."""
    C, D = layer.params["C"].astype(complex), layer.params["D"]
    return _step_low_rank.tables(parameters(layer), system(layer).discrete, C, D, layer.dtype)
