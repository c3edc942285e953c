"""Values and gradients equal those of independent implementations (tests/data/README.md)."""

import numpy as np
import pytest
from conftest import assert_close, error, load

from ssm_manual.ops import convolve, discretize, kernels, loss, scan, vandermonde

MAPS = {
    "bilinear": (discretize.tustin_fwd, discretize.tustin_vjp, {}),
    "bilinear_sqrt": (discretize.tustin_fwd, discretize.tustin_vjp, {"input_scale": "sqrt_dt"}),
    "zoh": (discretize.zoh_fwd, discretize.zoh_vjp, {}),
}
GRADS = load("torch_jax_ssm_grads.npz")
ENGINE = load("engine.npz")
DIAGONAL = load("s4_kernel_diag.npz")
MINIMAL = load("s4d_minimal.npz")


def pairs(a):
    """Complex numbers out of real pairs on the last axis."""
    return a[..., 0] + 1j * a[..., 1]


# --------------------------------------------------------------- the training problem, 27 cases


def training_problem(data, discretisation, window, real):
    """Loss and gradients of ``(1/T) sum |y - target|^2``, cut every ``window`` steps."""
    fwd, vjp, options = MAPS[discretisation]
    u, C, dt = data["u"], data["C"], data["dt"]
    T = u.size
    (A_bar, B_bar), kept_map = fwd(data["A"], data["B"], dt, **options)
    weights = A_bar[None], B_bar[None], C[None], None
    pieces, y, state = [], [], None
    for start in range(0, T, window):
        (out, state), kept = scan.scan_fwd(
            *weights, u[None, None, start : start + window], state, real=False
        )
        pieces.append(kept)
        y.append(out[0, 0])
    y = np.concatenate(y)
    # The input is complex in every group, so real output is formed here: y = 2 Re(C x).
    value, kept_loss = loss.mse_fwd(2 * y.real if real else y, data["target"])
    grad_y = loss.mse_vjp(kept_loss, 1.0)[0]
    grad_y = (2 * grad_y if real else grad_y).astype(complex)
    total, grad_u = 0, []
    for index, kept in enumerate(pieces):
        piece = grad_y[index * window : (index + 1) * window][None, None]
        *grads, _, for_u, _ = scan.scan_vjp(kept, (piece, None))
        total = total + np.concatenate(grads)
        grad_u.append(for_u[0, 0])
    grad_A, grad_B, grad_dt = vjp(kept_map, (total[0], total[1]))
    return {
        "loss": value,
        "grad_A": grad_A,
        "grad_B": grad_B,
        "grad_C": total[2],
        "grad_u": np.concatenate(grad_u),
        "grad_log_dt": dt * grad_dt,
    }


@pytest.mark.parametrize("truncation", ["full", "window1", "window5"])
@pytest.mark.parametrize("discretisation", ["bilinear", "bilinear_sqrt", "zoh"])
@pytest.mark.parametrize("group", ["cplx", "realdata", "realout"])
def test_training_problem(group, discretisation, truncation):
    data = {name: GRADS[f"{group}/{name}"] for name in ("A", "B", "C", "u", "target", "dt")}
    window = data["u"].size if truncation == "full" else int(truncation.removeprefix("window"))
    found = training_problem(data, discretisation, window, real=group == "realout")
    for name, value in found.items():
        expected = GRADS[f"{group}/{discretisation}/{truncation}/{name}"]
        assert error(value, expected) < 1e-11, name


def test_every_case_of_the_file_is_compared():
    cases = {key.rsplit("/", 1)[0] for key in GRADS if key.endswith("/loss")}
    assert len(cases) == 27


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_causal_convolution(method):
    """The file has (batch, time, channels) and one kernel for the batch."""
    u, W, y = (np.moveaxis(GRADS[f"conv/{name}"], 1, 2) for name in ("u", "W", "y"))
    found, kept = convolve.causal_fwd(u, GRADS["conv/k"].T, method=method)
    grad_u, grad_K = convolve.causal_vjp(kept, np.ascontiguousarray(W))
    assert_close(found, y, 1e-13)
    assert_close(grad_u, np.moveaxis(GRADS["conv/grad_u"], 1, 2), 1e-13)
    assert_close(grad_K, GRADS["conv/grad_k"].T, 1e-13)


# ------------------------------------------------------- a complex64 engine beside exact values

#: Relative errors of 64 samples: kernels are made by at most 64 products, or by an exponential
#: whose argument reaches 64
#: radians. A product errs by sqrt(5) units of 2^-53 (2^-24 in single precision), a radian by one.
UNITS = 64 * np.sqrt(5)


@pytest.mark.parametrize("method", kernels.METHODS)
@pytest.mark.parametrize("case", ["k1", "k2", "k3"])
def test_kernels_against_exact_values(case, method):
    abc, exact = ENGINE[f"kernel/{case}/abc"], ENGINE[f"kernel/{case}/exact_f64"]
    K = kernels.generate(*abc.astype(complex), exact.size, method=method)
    assert np.max(np.abs(K / exact - 1)) < UNITS * 2**-53
    K = kernels.generate(*abc, exact.size, method=method)
    assert K.dtype == np.complex64
    assert np.max(np.abs(K / exact - 1)) < UNITS * 2**-24
    summed = vandermonde.kernel(*(a[None] for a in abc), exact.size, real=False)
    assert np.max(np.abs(summed / exact - 1)) < UNITS * 2**-24


@pytest.mark.parametrize("case", ["k1", "k2", "k3"])
def test_kernels_are_no_less_precise_than_the_engine(case):
    abc, exact = ENGINE[f"kernel/{case}/abc"], ENGINE[f"kernel/{case}/exact_f64"]
    for method, theirs in [("naive", "base"), ("recursive", "seq"), ("log", "log")]:
        ours = np.max(np.abs(kernels.generate(*abc, exact.size, method=method) / exact - 1))
        reference = np.max(np.abs(ENGINE[f"kernel/{case}/zig_{theirs}"] / exact - 1))
        assert ours < 2 * reference, method


def test_discretisation():
    A_bar, B_bar = discretize.tustin(-0.5 + 3j, 1 + 0.25j, 0.1)
    expected = ENGINE["discretize/dt0.1_a-0.5+3i_b1+0.25i"]
    assert abs(A_bar - expected[0]) < 2**-23
    assert abs(B_bar - expected[1]) < 2**-23 * abs(B_bar)


def test_scan_with_a_state():
    """The file's recurrence: A_bar = 0.9 + 0.2i, C B_bar = 0.5 - 0.3i, C x0 = 0.1 + 0.7i."""
    u = ENGINE["ops/a"].astype(complex)[None, None]
    y, _ = scan.scan([[0.9 + 0.2j]], [[0.5 - 0.3j]], [[1.0]], None, u, [[[0.1 + 0.7j]]], real=False)
    assert error(y[0, 0], ENGINE["scan/y"]) < 13 * 4 * 2**-24


def test_complex_causal_convolution():
    a, b = (ENGINE[f"ops/{name}"].astype(complex) for name in "ab")
    for method in ("direct", "fft"):
        assert error(convolve.causal(a, b, method=method), ENGINE["conv/y"]) < 13 * 4 * 2**-24


# ------------------------------------------------------------------------------- diagonal kernels


@pytest.mark.parametrize("discretisation", ["zoh", "bilinear"])
@pytest.mark.parametrize("initial", ["diag-lin", "diag-inv", "diag-legs"])
def test_diagonal_kernel(initial, discretisation):
    """Kernel, its gradients, a run from a state and what the state adds."""
    g = {
        key.rsplit("/", 1)[1]: a
        for key, a in DIAGONAL.items()
        if key.startswith(f"{initial}/{discretisation}/")
    }
    fwd, vjp, _ = MAPS[discretisation]
    A = -np.exp(g["A_real"]) - 1j * g["A_imag"]
    B, C, dt = pairs(g["B"][0]), pairs(g["C"][0]), np.exp(g["inv_dt"])
    (A_bar, B_bar), kept_map = fwd(A, B, dt)
    K, kept = vandermonde.kernel_fwd(A_bar, B_bar, C, g["K"].shape[-1])
    assert_close(K, g["K"][0], 1e-12)
    assert_close(np.sum(g["W"][0] * K), g["loss"], 1e-12)
    # The file's zero-order hold is (exp(z) - 1)/A at |z| near 1e-3, whose cancellation costs it
    # three digits.
    grad_A_bar, grad_B_bar, grad_C, _ = vandermonde.kernel_vjp(kept, g["W"][0])
    grad_A, grad_B, grad_dt = vjp(kept_map, (grad_A_bar, grad_B_bar))
    assert_close(grad_C, pairs(g["grad_C"][0]), 1e-11)
    assert_close(grad_B, pairs(g["grad_B"][0]), 1e-11)
    assert_close(A.real * grad_A.real, g["grad_A_real"], 1e-11)
    assert_close(-grad_A.imag, g["grad_A_imag"], 1e-11)
    assert_close(dt * grad_dt, g["grad_inv_dt"], 1e-11)

    y, state = scan.scan(A_bar, B_bar, C, None, g["step_u"], g["state0"])
    assert_close(y, g["step_y"][:, 0], 1e-12)
    assert_close(state, g["state_end"], 1e-12)
    free, _ = convolve.convolve(A_bar, B_bar, C, None, 0 * g["step_u"], g["state0"])
    assert_close(free, g["K_state"][:, 0], 1e-12)


@pytest.mark.parametrize("case", ["kernel_a", "kernel_b"])
def test_minimal_diagonal_kernel(case):
    g = {key.rsplit("/", 1)[1]: a for key, a in MINIMAL.items() if key.startswith(case)}
    A, C = -np.exp(g["log_A_real"]) + 1j * g["A_imag"], pairs(g["C"])
    dt = np.exp(g["log_dt"])[:, None]
    (A_bar, B_bar), kept_map = discretize.zoh_fwd(A, 1.0, dt)
    K, kept = vandermonde.kernel_fwd(A_bar, B_bar, C, int(g["L"]))
    assert_close(K, g["K"], 1e-12)
    grad_A_bar, grad_B_bar, grad_C, _ = vandermonde.kernel_vjp(kept, g["W"])
    grad_A, _, grad_dt = discretize.zoh_vjp(kept_map, (grad_A_bar, grad_B_bar))
    assert_close(grad_C, pairs(g["grad_C"]), 1e-10)
    assert_close(A.real * grad_A.real, g["grad_log_A_real"], 1e-10)
    assert_close(grad_A.imag, g["grad_A_imag"], 1e-10)
    assert_close((dt * grad_dt)[:, 0], g["grad_log_dt"], 1e-10)
