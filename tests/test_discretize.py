"""tustin and zoh: equal to the reference, exact near z = 0, stable; closed forms."""

import mpmath
import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, complex_normal, cotangents, double, error

from ssm_manual import reference
from ssm_manual.ops import discretize, scan

#: Name, op, its forward, its vjp, options.
MAPS = {
    "tustin": (discretize.tustin_fwd, discretize.tustin_vjp, {}),
    "tustin sqrt_dt": (discretize.tustin_fwd, discretize.tustin_vjp, {"input_scale": "sqrt_dt"}),
    "zoh": (discretize.zoh_fwd, discretize.zoh_vjp, {}),
}
UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
PRECISIONS = [np.float32, np.float64]


def arguments(rng, H, N, dtype, field="complex"):
    A = -rng.uniform(0.1, 5, (H, N))
    B = rng.standard_normal((H, N))
    if field == "complex":
        A, B = A + 10j * rng.standard_normal((H, N)), complex_normal(rng, H, N)
    kind = np.result_type(dtype, np.complex64) if field == "complex" else dtype
    return A.astype(kind), B.astype(kind), rng.uniform(0.01, 0.3, (H, 1)).astype(dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("field", ["real", "complex"])
@pytest.mark.parametrize("N", [1, 4, 7])
@pytest.mark.parametrize("name", MAPS)
def test_equals_the_reference(rng, name, N, field, dtype):
    fwd, _, options = MAPS[name]
    args = arguments(rng, 3, N, dtype, field)
    out, _ = fwd(*args, **options)
    expected = getattr(reference.discretize, name.split()[0])(*double(args), **options)
    for a, e in zip(out, expected):
        assert a.dtype == args[0].dtype
        # z = dt A is rounded by one unit, which |z| up to 15 magnifies; about ten roundings follow.
        assert np.max(np.abs(a - e) / np.abs(e)) < 32 * UNIT[np.dtype(dtype)]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("options", [{}, {"input_scale": "sqrt_dt"}], ids=["dt", "sqrt_dt"])
def test_tustin_gradients_equal_the_reference(rng, options, dtype):
    args = arguments(rng, 3, 4, dtype)
    out, kept = discretize.tustin_fwd(*args, **options)
    g = cotangents(rng, out)
    found = discretize.tustin_vjp(kept, g)
    grad_A, grad_B, grad_dt = reference.discretize.tustin_vjp(*double(args), *double(g), **options)
    expected = grad_A, grad_B, grad_dt.sum(axis=1, keepdims=True)
    for a, argument in zip(found, args):
        assert a.dtype == argument.dtype
        assert a.shape == argument.shape
    assert_close(found, expected, 64 * UNIT[np.dtype(dtype)], names=("A", "B", "dt"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MAPS)
def test_any_memory_layout(rng, name, layout):
    fwd, vjp, options = MAPS[name]
    args = arguments(rng, 3, 4, np.float64)
    plain, kept = fwd(*args, **options)
    g = cotangents(rng, plain)
    other, kept_other = fwd(*(LAYOUTS[layout](a) for a in args), **options)
    assert_close(other, plain, 1e-15)
    assert all(a.dtype == e.dtype for a, e in zip(other, plain))
    g_relaid = tuple(LAYOUTS[layout](a) for a in g)
    assert_close(vjp(kept_other, g_relaid), vjp(kept, g), 1e-14)


@pytest.mark.parametrize("name", MAPS)
def test_broadcast_arguments_get_summed_gradients(rng, name):
    """Gradients of (N,), () and (H, 1) are sums over the copies that broadcasting makes."""
    fwd, vjp, options = MAPS[name]
    A, _, dt = arguments(rng, 3, 4, np.float64)
    A, B = A[0], np.array(0.7)
    out, kept = fwd(A, B, dt, **options)
    g = cotangents(rng, out)
    written_out = [np.broadcast_to(a, (3, 4)).copy() for a in (A, B + 0j, dt)]
    full = vjp(fwd(*written_out, **options)[1], g)
    expected = full[0].sum(axis=0), full[1].sum().real, full[2].sum(axis=1, keepdims=True)
    assert_close(vjp(kept, g), expected, 1e-14)


# ---------------------------------------------------------------- zoh against mpmath, near 0


def exact_zoh(A, B, dt, grad_A_bar, grad_B_bar):
    """Values and gradients by the closed forms, in enough digits for z = 1e-300 to leave 60."""
    with mpmath.workdps(660):
        A, B, dt, g, h = (mpmath.mpmathify(v) for v in (A, B, dt, grad_A_bar, grad_B_bar))
        z = A * dt
        e = mpmath.exp(z)
        phi = (e - 1) / z if z else mpmath.mpf(1)
        slope = (e - phi) / z if z else mpmath.mpf(1) / 2
        grad_A = mpmath.conj(dt * e) * g + mpmath.conj(B * dt**2 * slope) * h
        grad_B = mpmath.conj(dt * phi) * h
        grad_dt = mpmath.re(mpmath.conj(A * e) * g + mpmath.conj(B * e) * h)
        return [complex(v) for v in (e, dt * B * phi, grad_A, grad_B, grad_dt)]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("size", [0, 1e-300, 1e-12, 1e-6, 1e-3, 0.5, 0.999, 1.001, 3, 20])
def test_zoh_is_exact_at_any_size_of_z(rng, size, dtype):
    """The textbook forms cancel near zero: their derivative is 43 % off in complex64, at 5e-4."""
    unit = UNIT[np.dtype(dtype)]
    if size == 1e-300 and dtype == np.float32:
        size = 1e-30
    dt = dtype(2.0**-10)
    for angle in (np.pi, 0.51 * np.pi, -0.8 * np.pi):
        A = np.result_type(dtype, np.complex64).type(size / float(dt) * np.exp(1j * angle))
        B, g, h = (A.dtype.type(complex_normal(rng, 1)[0]) for _ in range(3))
        # dt enters A's gradient squared: g = 0 shows the slope of phi1 alone.
        for g_bar in (g, 0 * g):
            (A_bar, B_bar), kept = discretize.zoh_fwd(A, B, dt)
            found = A_bar, B_bar, *discretize.zoh_vjp(kept, (g_bar, h))
            exact = exact_zoh(complex(A), complex(B), float(dt), complex(g_bar), complex(h))
            # A rounding of z moves e^z by |z| units; grad_dt is a difference whose terms may
            # cancel, hence its scale.
            terms = abs(A) * abs(A_bar) * abs(g_bar) + abs(B) * abs(A_bar) * abs(h)
            scales = [abs(e) for e in exact[:4]] + [terms]
            if g_bar != 0:
                scales[2] = float(dt) * abs(A_bar) * abs(g_bar) + abs(exact[2])
            for value, e, scale in zip(found, exact, scales):
                assert abs(value - e) <= (16 + 2 * size) * unit * scale


def test_zoh_in_complex64_at_the_usual_initialisation():
    """One test for one bug: at dt 1e-3, Re A = -1/2 the gradient through phi1 keeps its digits."""
    A = (-0.5 + 1j * np.pi * np.arange(8)).astype(np.complex64)
    (_, B_bar), kept = discretize.zoh_fwd(A, np.float32(1), np.float32(1e-3))
    g = np.ones_like(B_bar)
    grad_A = discretize.zoh_vjp(kept, (None, g))[0]
    double_kept = discretize.zoh_fwd(A.astype(complex), 1.0, float(np.float32(1e-3)))[1]
    expected = discretize.zoh_vjp(double_kept, (None, g.astype(complex)))[0]
    assert np.max(np.abs(grad_A / expected - 1)) < 1e-6


# ------------------------------------------------------------------------------------ properties


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_tustin_maps_the_left_half_plane_into_the_disc(rng, dtype):
    A = -(10 ** rng.uniform(-2, 4, 2000)) + 1j * 10 ** rng.uniform(-2, 4, 2000)
    dt = (10 ** rng.uniform(-3, 0, 2000)).astype(dtype)
    A = A.astype(np.result_type(dtype, np.complex64))
    A_bar, _ = discretize.tustin(A, np.ones((), dtype), dt)
    # 1 - |A_bar|^2 = -4 x / ((1 - x)^2 + y^2) for dt A / 2 = x + i y: below a few units it may
    # round to the circle.
    z = A.astype(complex) * dt / 2
    margin = -4 * z.real / np.abs(1 - z) ** 2
    unit = UNIT[np.dtype(dtype)]
    assert np.all(np.abs(A_bar[margin > 16 * unit].astype(complex)) < 1)
    assert np.all(np.abs(A_bar.astype(complex)) < 1 + 4 * unit)
    assert np.sum(margin > 16 * unit) > 1500


def test_zoh_is_exact_for_a_constant_input(rng):
    """One step of dt equals ten steps of dt / 10 with the same input held."""
    A, B = -0.4 + 3j, 1 - 2j
    coarse, fine = discretize.zoh(A, B, 0.5), discretize.zoh(A, B, 0.05)
    x = start = 0.3 + 0.1j
    for _ in range(10):
        x = fine[0] * x + fine[1] * 1.7
    assert abs(x - (coarse[0] * start + coarse[1] * 1.7)) < 1e-14


def test_mass_on_a_spring():
    """A damped oscillator under Tustin converges to its closed-form step response, at second order.

    x'' + 2 z w x' + w^2 x = w^2 f with f = 1, from rest; of the conjugate pair one pole is
    stored, A = -z w + i w_d, and the output is 2 Re.
    """
    w, z, end = 3.0, 0.2, 4.0
    w_d = w * np.sqrt(1 - z**2)
    A = -z * w + 1j * w_d
    # Partial fractions of w^2 / (s^2 + 2 z w s + w^2): residue w^2 / (2 i w_d) at the pole A.
    C = w**2 / (2j * w_d)
    errors = []
    for steps in (200, 400, 800, 1600):
        dt = end / steps
        A_bar, B_bar = discretize.tustin(A, 1.0, dt)
        # The trapezoidal rule takes the mean of the input at both ends of a step; the input is 1
        # throughout.
        y, _ = scan.scan([[A_bar]], [[B_bar]], [[C]], None, np.ones((1, 1, steps)))
        t = dt * np.arange(1, steps + 1)
        decay = np.exp(-z * w * t)
        exact = 1 - decay * (np.cos(w_d * t) + z * w / w_d * np.sin(w_d * t))
        errors.append(np.max(np.abs(y[0, 0] - exact)))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 2, atol=0.02)
    assert errors[-1] < 1e-5


def test_the_two_input_scales_differ_by_the_root_of_dt():
    one, other = (discretize.tustin(-1 + 2j, 1.5, 0.1, input_scale=s) for s in ("dt", "sqrt_dt"))
    assert one[0] == other[0]
    assert error(other[1], one[1] / np.sqrt(0.1)) < 1e-15
