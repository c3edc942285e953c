"""Bad cotangents: a vjp refuses what does not fit its op's output, and names it."""

import numpy as np
import pytest
from test_bad_input import CALLS, put, u

from ssm_manual.ops import (
    cauchy,
    convolve,
    discretize,
    kernels,
    loss,
    scan,
    ssm,
    terminal_state,
    truncate,
    vandermonde,
)

VJPS = {
    "tustin": (discretize.tustin_fwd, discretize.tustin_vjp, ("grad_A_bar", "grad_B_bar")),
    "zoh": (discretize.zoh_fwd, discretize.zoh_vjp, ("grad_A_bar", "grad_B_bar")),
    "generate": (kernels.generate_fwd, kernels.generate_vjp, ("grad_K",)),
    "vandermonde": (vandermonde.kernel_fwd, vandermonde.kernel_vjp, ("grad_K",)),
    "from_exponent": (
        vandermonde.kernel_from_exponent_fwd,
        vandermonde.kernel_from_exponent_vjp,
        ("grad_K",),
    ),
    "truncate": (truncate.truncate_fwd, truncate.truncate_vjp, ("grad_C_tilde",)),
    "cauchy": (cauchy.cauchy_fwd, cauchy.cauchy_vjp, ("grad_K",)),
    "terminal_state": (
        terminal_state.terminal_state_fwd,
        terminal_state.terminal_state_vjp,
        ("grad_x_last",),
    ),
    "scan": (scan.scan_fwd, scan.scan_vjp, ("grad_y", "grad_x_last")),
    "convolve": (convolve.convolve_fwd, convolve.convolve_vjp, ("grad_y", "grad_x_last")),
    "apply": (ssm.apply_fwd, ssm.apply_vjp, ("grad_y", "grad_x_last")),
    "causal": (convolve.causal_fwd, convolve.causal_vjp, ("grad_y",)),
}
WRONG = {
    "shape": lambda a: a[..., 1:],
    "an axis more": lambda a: a[None],
    "a number": lambda a: 1.0,
    "precision": lambda a: a.astype(np.complex64 if np.iscomplexobj(a) else np.float32),
    "field": lambda a: a.real.copy() if np.iscomplexobj(a) else a + 0j,
    "integer": lambda a: np.ones(a.shape, int),
    "object": lambda a: a.astype(object),
    "NaN": lambda a: put(np.nan, a),
    "infinity": lambda a: put(np.inf, a),
    "masked": lambda a: np.ma.array(a),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(("op", "index"), [(o, i) for o in VJPS for i in range(len(VJPS[o][2]))])
def test_cotangents(op, index, wrong):
    fwd, vjp, names = VJPS[op]
    out, kept = fwd(**CALLS[op][1])
    grad = list(out) if isinstance(out, tuple) else [out]
    grad[index] = WRONG[wrong](grad[index])
    with pytest.raises(ValueError, match=names[index]):
        vjp(kept, tuple(grad) if isinstance(out, tuple) else grad[0])


@pytest.mark.parametrize("op", [op for op in VJPS if len(VJPS[op][2]) == 2])
def test_a_tuple_out_takes_a_tuple_of_cotangents(op):
    fwd, vjp, names = VJPS[op]
    out, kept = fwd(**CALLS[op][1])
    for bad in (out[0], out[:1], (*out, out[0]), None, np.ones((2, 3))):
        with pytest.raises(ValueError, match=f"grad_out is .*{names[0]}, {names[1]}"):
            vjp(kept, bad)


@pytest.mark.parametrize("name", ["half_mse", "mse"])
def test_the_cotangent_of_a_loss_is_a_real_number(name):
    _, kept = getattr(loss, f"{name}_fwd")(u, 0 * u)
    for bad in (np.nan, np.inf, 1j, "1", True, np.ones(2), [1.0, 2.0], np.ones(1)):
        with pytest.raises(ValueError, match="grad_loss"):
            getattr(loss, f"{name}_vjp")(kept, bad)
    for good in (1, 1.0, np.ones(())):
        np.testing.assert_array_equal(getattr(loss, f"{name}_vjp")(kept, good)[0] != 0, u != 0)
