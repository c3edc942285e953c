"""Precision that was once lost, and limits that were once passed: one test for each."""

import numpy as np
import pytest
from conftest import complex_normal

from ssm_manual.models import DiagonalSSM
from ssm_manual.ops import discretize


@pytest.mark.parametrize(
    "fwd_vjp",
    [(discretize.tustin_fwd, discretize.tustin_vjp), (discretize.zoh_fwd, discretize.zoh_vjp)],
)
def test_single_precision_gradients_stay_single(rng, fwd_vjp):
    fwd, vjp = fwd_vjp
    A = (-1 + complex_normal(rng, 3, 4)).astype(np.complex64)
    B, dt = complex_normal(rng, 4).astype(np.complex64), np.float32([[0.1], [0.2], [3.0]])
    out, kept = fwd(A, B, dt)
    assert discretize._phi1_derivative(A, np.exp(A), discretize._phi1(A)).dtype == np.complex64
    for grad, a in zip(vjp(kept, tuple(np.ones_like(o) for o in out)), (A, B, dt)):
        assert (grad.dtype, grad.shape) == (a.dtype, a.shape)


def test_initial_poles_are_where_the_docstring_says():
    q = (np.arange(6) + 0.5) / 6
    for real, sign in [(True, 1), (False, np.where(np.arange(6) % 2, -1, 1))]:
        A = DiagonalSSM.initial(6, rng=np.random.default_rng(0), real=real, dtype="float64").A_bar
        np.testing.assert_allclose(np.angle(A), sign * np.pi * q**2)
        np.testing.assert_allclose(-np.log(np.abs(A)), np.pi * q / 6)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_very_fast_poles_are_brought_back_not_sent_away(dtype):
    from fractions import Fraction

    from ssm_manual.ops.discretize import tustin
    from ssm_manual.training.clamp import clamp_continuous

    eps = float(np.finfo(dtype).eps)
    A = np.array([-0.1 / eps, -1 / eps, -1e3 / eps, -1 / eps + 0.01j / eps], dtype)
    before = A.copy()
    clamp_continuous(A, 1.0, 1e-4, 16 * eps)
    assert np.all(np.abs(A) <= np.abs(before))
    A_bar, _ = tustin(A, dtype(1), A.real.dtype.type(1))
    assert all(Fraction(float(z.real)) ** 2 + Fraction(float(z.imag)) ** 2 < 1 for z in A_bar)


def test_frozen_poles_are_not_clamped():
    one = np.ones(20)
    model = DiagonalSSM([0.9995], 1.0, 0.5)
    model.fit(one, one, epochs=2, rates={"A": 0, "B": 1e-6, "C": 1e-6})
    assert model.params["A"][0] == 0.9995
    for batch in (one, np.stack([one, one])):
        model = DiagonalSSM([-1e-5 + 1j], 1.0, 0.5, dt=0.1, parameters="continuous")
        model.fit(batch, batch, epochs=2, rates={"A": 0, "dt": 0, "B": 1e-6, "C": 1e-6})
        assert model.params["A"][0] == -1e-5 + 1j


def test_divergence_keeps_what_was_learnt(rng):
    from ssm_manual.training import DivergenceError

    clean = np.sin(0.2 * np.arange(40))

    def batches(start, n):
        scale = np.where(start + np.arange(n) == 5000, 1e6, 1.0)
        return np.tile(clean, (n, 1)), scale[:, None] * clean

    model = DiagonalSSM.initial(4, rng=rng, dtype="float64")
    with pytest.raises(DivergenceError) as caught:
        model.fit(batches, epochs=6000, rates={"A": 0.01, "B": 0.03, "C": 0.1, "D": 0.1})
    assert caught.value.epoch == 5000
    assert np.mean((model.forward(clean)[0] - clean) ** 2) <= 1.01 * caught.value.losses[-2]


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_the_constructor_refuses_what_is_on_the_circle_exactly(rng, dtype):
    from fractions import Fraction

    eps = float(np.finfo(dtype).eps)
    z = ((1 + eps * rng.uniform(-1, 1, 4000)) * np.exp(2j * np.pi * rng.random(4000))).astype(dtype)
    outside = [v for v in z if Fraction(float(v.real)) ** 2 + Fraction(float(v.imag)) ** 2 >= 1]
    assert len(outside) > 1000
    for v in outside:
        with pytest.raises(ValueError, match="unit circle"):
            DiagonalSSM(np.array([v]), dtype(1), dtype(1))


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_zoh_of_a_subnormal_pole(dtype):
    tiny = np.finfo(dtype).tiny
    A = np.array([1e-3 * tiny, -1e-5j * tiny, tiny], dtype)
    A_bar, B_bar = discretize.zoh(A, dtype(2), A.real.dtype.type(1))
    assert np.all(np.abs(A_bar - 1) <= tiny)
    assert np.all(B_bar == 2)


def test_float32_gradients_of_long_sequences(rng):
    """Terms of one sign: a running float32 total of 2^18 of them would lose four digits."""
    from conftest import assert_close, cast, double

    from ssm_manual.ops import convolve, scan

    L = 2**18
    A = cast(0.999 * np.exp(1j * np.array([[0.0, 0.001, 0.3]])), np.float32)
    B, C = (cast(complex_normal(rng, 1, 3), np.float32) for _ in range(2))
    u, g = (cast(1 + 0.1 * rng.standard_normal((1, 1, L)), np.float32) for _ in range(2))
    args = (A, B, C, np.ones(1, np.float32), u)
    exact = scan.scan_vjp(scan.scan_fwd(*double(args))[1], (g.astype(float), None))
    for fwd, vjp in (
        (scan.scan_fwd, scan.scan_vjp),
        (convolve.convolve_fwd, convolve.convolve_vjp),
    ):
        found = vjp(fwd(*args)[1], (g, None))
        assert_close(found[:4], exact[:4], 3e-5, names=("A_bar", "B_bar", "C", "D"))


def test_the_last_state_in_float32_forgets_x0_at_the_right_phase(rng):
    """A_bar^L x0: an exponential of L log A_bar in float32 is 3e-3 off at L = 16384."""
    from conftest import assert_close, cast

    from ssm_manual.ops import terminal_state

    L = 16384
    A = cast(np.exp(-1 / L + 1j * rng.uniform(0.1, 3, (1, 50))), np.float32)
    x0 = cast(complex_normal(rng, 1, 1, 50), np.float32)
    u = np.zeros((1, 1, L), np.float32)
    out, _ = terminal_state.terminal_state_fwd(A, np.complex64(1), u, x0)
    exact = A.astype(complex) ** L * x0
    assert_close(out, exact, 1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_no_progress_is_no_progress_at_an_improvement_of_zero(rng, batch):
    u = rng.standard_normal((batch, 20))
    model = DiagonalSSM([0.5], 1.0, 0.5)
    rates = {"A": 0, "B": 0, "C": 0}
    history = model.fit(u, u, epochs=50, rates=rates, patience=3, improvement=0.0)
    assert (history.epochs, history.reason) == (4, "patience")


@pytest.mark.parametrize("mode", ["bptt", "convolution"])
def test_a_perfect_start_is_no_scale(rng, mode):
    """The first loss is zero but for rounding; the target's power is what counts."""
    model = DiagonalSSM([0.5 + 0.2j], 1.0, 0.5)
    u = rng.standard_normal(30)
    y = model.forward(u)[0]

    def batches(start, n):
        return np.tile(u, (n, 1)), y + 0.1 * (np.arange(start, start + n) > 0)[:, None]

    rates = {"A": 1e-4, "B": 1e-4, "C": 1e-4}
    history = model.fit(batches, epochs=5, rates=rates, mode=mode)
    assert history.losses[0] < 1e-20 < 1e-3 < history.losses[1]


@pytest.mark.parametrize("batch", [1, 2])
def test_the_clamp_sees_the_new_dt(rng, batch):
    A = np.complex64([-2e-6 + 0.5j])
    model = DiagonalSSM(A, 1.0, 0.5, dt=1.0, parameters="continuous")
    u, target = (np.tile(rng.standard_normal(30).astype(np.float32), (batch, 1)) for _ in range(2))
    slope = model.loss_and_grads(u, target)[1]["log_dt"]
    if slope < 0:  # reflected, the error turns its sign
        target = 2 * model.forward(u)[0] - target
    rates = {"A": 0.0 + 1e-12, "B": 0, "C": 0, "dt": 1.2 / abs(float(slope))}
    model.fit(u, target, epochs=1, rates=rates, margin=1e-9)
    dt, A = float(model.dt), complex(model.params["A"][0])
    assert dt < 0.4
    z = dt * A / 2
    assert -4 * z.real / abs(1 - z) ** 2 >= 15.9 * np.finfo(np.float32).eps


def test_zoh_is_precise_on_both_sides_of_its_series(rng):
    """phi1' by the closed form loses digits from |z| = 1 down: at 0.1 already 300 units."""
    for size in (0.05, 0.11, 0.2, 0.5, 0.99, 1.01, 2.0):
        z = size * np.exp(2j * np.pi * rng.random(200))
        exact = [complex(_phi1_derivative(value)) for value in z]
        kept = discretize.zoh_fwd(z, np.ones(200), 1.0)[1]
        grad_A = discretize.zoh_vjp(kept, (None, np.ones(200, complex)))[0]
        error = np.abs(grad_A.conj() - exact) / np.abs(exact) / 2**-53
        assert error.max() < 24


def _phi1_derivative(z):
    import mpmath

    with mpmath.workdps(40):
        z = mpmath.mpc(z)
        return ((z - 1) * mpmath.exp(z) + 1) / z**2


@pytest.mark.parametrize("real", [True, False])
def test_the_compiled_loop_is_right_on_long_sequences(rng, real):
    """Short ones would not see an error beyond a vector, a block or a window."""
    u = rng.standard_normal(1047)
    target = np.roll(u, 1)
    models = [
        DiagonalSSM.initial(5, rng=np.random.default_rng(1), real=real, dtype="float64")
        for _ in range(2)
    ]
    losses = [
        model.fit(rows, wanted, epochs=5, rates={"A": 0.01, "B": 0.05, "C": 0.05}).losses
        for model, rows, wanted in [
            (models[0], u, target),  # compiled
            (models[1], np.stack([u, u]), np.stack([target, target])),  # op by op
        ]
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)
    for name, value in models[0].params.items():
        np.testing.assert_allclose(value, models[1].params[name], rtol=1e-11, atol=1e-13)


def test_an_empty_sequence_passes_the_state_on_even_where_the_pole_is_zero(rng):
    from ssm_manual.ops import terminal_state

    x0 = complex_normal(rng, 2, 1, 3)
    x_last, kept = terminal_state.terminal_state_fwd(
        np.zeros((1, 3)), np.ones((1, 3)), np.zeros((2, 1, 0)), x0
    )
    g = complex_normal(rng, 2, 1, 3)
    grad_A, grad_B, _, grad_x0 = terminal_state.terminal_state_vjp(kept, g)
    np.testing.assert_array_equal(x_last, x0)
    np.testing.assert_array_equal(grad_x0, g)
    assert not grad_A.any()
    assert not grad_B.any()
