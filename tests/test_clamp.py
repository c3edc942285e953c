"""The clamps: poles inside the circle after rounding, by exact arithmetic; nothing else moves."""

from fractions import Fraction

import numpy as np
import pytest
from conftest import complex_normal

from ssm_manual.models import DiagonalSSM
from ssm_manual.ops.discretize import tustin
from ssm_manual.training.clamp import clamp_continuous, clamp_discrete

BOTH = pytest.mark.parametrize("dtype", [np.complex64, np.complex128])


def eps(dtype):
    return float(np.finfo(dtype).eps)


def modulus_squared(z):
    """Exact: a float is a rational number."""
    return Fraction(float(z.real)) ** 2 + Fraction(float(z.imag)) ** 2


def outside(A_bar):
    """How many poles lie on the circle or beyond it, without any rounding."""
    return sum(modulus_squared(z) >= 1 for z in A_bar)


# -------------------------------------------------------------------------------- discrete poles


@BOTH
@pytest.mark.parametrize("radius", [0.1, 0.5, 0.999, None])
def test_discrete_poles_end_on_the_radius(rng, dtype, radius):
    real = dtype(0).real.dtype.type
    radius = real(1 - 4 * eps(dtype) if radius is None else radius)  # None: the largest allowed
    near = radius * (1 + eps(dtype) * rng.uniform(-20, 20, 2000))
    A = np.exp(2j * np.pi * rng.random(4000)) * np.concatenate(
        [near, 10 ** rng.uniform(-3, 3, 2000)]
    )
    A = A.astype(dtype)
    A[:4] = real(radius), -2, 2j, 0
    before = A.copy()
    clamp_discrete(A, radius)
    assert outside(A) == 0
    bound = Fraction(float(radius))
    squares = [modulus_squared(z) for z in A]
    slack = 1 + Fraction(4 * eps(dtype))
    assert max(squares) <= bound**2 * slack
    for z, old, square in zip(A, before, squares):
        if modulus_squared(old) <= bound**2 * (1 - Fraction(4 * eps(dtype))):
            assert z.tobytes() == old.tobytes()
        elif modulus_squared(old) > bound**2 * slack:
            assert square >= bound**2 / slack**2
            assert abs(z / abs(z) - old / abs(old)) < 4 * eps(dtype)  # the frequency stays


@BOTH
def test_clamping_discrete_poles_again_moves_them_by_rounding_alone(rng, dtype):
    A = (2 * complex_normal(rng, 1000)).astype(dtype)
    radius = dtype(0).real.dtype.type(0.999)
    clamp_discrete(A, radius)
    again = A.copy()
    clamp_discrete(again, radius)
    assert np.max(np.abs(again - A)) <= 2 * eps(dtype)


# ------------------------------------------------------------------------------ continuous poles

#: The published case: 81 frequencies, Re A at the margin, dt 1e-3 s, float32.
FREQUENCIES = np.linspace(0, 40 * np.pi, 81)
MARGIN, DT = 1e-4, np.float32(1e-3)


def at_the_margin():
    return (-MARGIN + 1j * FREQUENCIES).astype(np.complex64)


def test_a_margin_alone_does_not_keep_poles_inside():
    """What makes the gap necessary; were it not so, the tests below would pass without it."""
    A_bar, _ = tustin(at_the_margin(), np.float32(1), DT)
    assert outside(A_bar) > 0
    without = at_the_margin()
    clamp_continuous(without, DT, MARGIN, 0.0)
    assert without.tobytes() == at_the_margin().tobytes()


def test_the_gap_keeps_the_same_poles_inside():
    A = at_the_margin()
    clamp_continuous(A, DT, MARGIN, 16 * eps(np.float32))
    A_bar, _ = tustin(A, np.float32(1), DT)
    assert outside(A_bar) == 0
    assert np.all(A.imag == at_the_margin().imag)
    # not further than need be: a distance from the circle of two gaps at most
    assert np.all(1 - np.abs(A_bar.astype(complex)) ** 2 < 2 * 16 * eps(np.float32))


@BOTH
@pytest.mark.parametrize("dt", [1e-4, 1e-2, 1.0])
def test_random_continuous_poles(rng, dtype, dt):
    real = dtype(0).real.dtype.type
    dt, gap = real(dt), 16 * eps(dtype)
    re = np.concatenate([-(10 ** rng.uniform(-9, 3, 1500)), 10 ** rng.uniform(-9, 3, 500)])
    im = rng.choice([-1, 1], 2000) * 10 ** rng.uniform(-6, 3, 2000)
    A = ((re + 1j * im) / dt).astype(dtype)
    A[:3] = 0, 1j / dt, -3 / dt
    before, margin = A.copy(), 1e-9 / float(dt)
    clamp_continuous(A, dt, margin, gap)
    A_bar, _ = tustin(A, real(1), dt)
    assert outside(A_bar) == 0
    assert np.all(A.real <= -margin * (1 - eps(dtype)))
    assert A.imag.tobytes() == before.imag.tobytes()
    # Inside by more than the gap and beyond the margin: the same bits.
    z = before.astype(complex) * float(dt) / 2
    gaps = -4 * z.real / np.abs(1 - z) ** 2
    inside = (before.real <= -margin) & (gaps >= gap * (1 + 1e-6))
    assert 200 < np.sum(inside) < 1800
    assert A[inside].tobytes() == before[inside].tobytes()
    assert np.all(A[~inside].real <= before[~inside].real)


@BOTH
def test_clamping_continuous_poles_again_changes_nothing(rng, dtype):
    A = (complex_normal(rng, 2000) * 10 ** rng.uniform(-3, 3, 2000)).astype(dtype)
    dt = dtype(0).real.dtype.type(1e-3)
    clamp_continuous(A, dt, MARGIN, 16 * eps(dtype))
    again = A.copy()
    clamp_continuous(again, dt, MARGIN, 16 * eps(dtype))
    assert again.tobytes() == A.tobytes()


# ------------------------------------------------------------------------------------- in training


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 2])  # the compiled loop, and op by op
@pytest.mark.parametrize("form", ["discrete", "dt", "sqrt_dt"])
def test_training_cannot_push_a_pole_out(rng, form, batch, dtype):
    """A target that wants the pole outside: a growing tone after one impulse."""
    t = np.arange(64)
    tone = (1.02**t * np.cos(np.pi / 2 * t)).astype(dtype)
    u = np.zeros((batch, 64), dtype)
    u[:, 0] = 1
    A = np.array([0.9j], np.result_type(dtype, np.complex64))
    options = {}
    if form != "discrete":
        A = 2 * (A - 1) / (A + 1)
        options = {"parameters": "continuous", "dt": 1.0, "input_scale": form}
    model = DiagonalSSM(A, dtype(1) if form == "discrete" else dtype(1.4), dtype(0.5), **options)
    limit = 1 - 4 * eps(dtype)
    rates = {"A": 1e-3, "B": 0, "C": 0} | ({"dt": 0} if options else {})
    # A margin of 1e-9 1/s is below what float32 can hold beside 1: there the gap decides.
    bounds = {"radius": float(limit), "margin": 1e-9}
    model.fit(u, np.tile(tone, (batch, 1)), epochs=400, rates=rates, **bounds)
    assert outside(model.A_bar) == 0
    assert 1 - modulus_squared(model.A_bar[0]) < 2e-5  # it is held there: it got that far


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_clamp_after_a_step_is_wide_enough(rng, batch, dtype):
    """Poles that rounding puts on the circle or beyond it, set there behind the constructor."""
    N, dt = 3000, 1e-3
    real = dtype(0).dtype.type
    model = DiagonalSSM(
        np.full(N, -1, np.result_type(dtype, np.complex64)),
        real(0),
        real(0),
        dt=dt,
        parameters="continuous",
    )
    frequencies = 10 ** rng.uniform(-1, 2, N) / dt
    model.params["A"][:] = -(10 ** rng.uniform(-3, 1, N)) * eps(dtype) / dt + 1j * frequencies
    model.params["A"][:81] = -eps(dtype) / dt + 1j * FREQUENCIES
    assert outside(model.A_bar) > 0
    # The gradient is zero, since C is; a rate of zero would free A of the clamp as well.
    still = {"A": 1e-30, "B": 0, "C": 0, "dt": 0}
    u = np.ones((batch, 3), dtype)
    model.fit(u, u, epochs=1, rates=still, margin=1e-20)
    assert outside(model.A_bar) == 0
