"""The matrices of HiPPO do what they are for: they project the past, delay, and are normal but for
a low rank.

Every identity is a function that returns an error, so that known mistakes can be put through it
and must fail.
"""

import mpmath
import numpy as np
import pytest
from conftest import assert_close, load
from numpy.polynomial import legendre
from scipy import linalg

from ssm_manual import hippo

NAMES = {"legs": "legs", "legt": "legt", "fout": "fourier"}  # in the data


def sizes(measure, *candidates):
    return [N for N in candidates if measure != "fout" or N % 2 == 0]


CASES = [(m, N) for m in hippo.MEASURES for N in sizes(m, 1, 2, 3, 4, 7, 8, 16, 63, 64)]
EVEN = [(m, N) for m, N in CASES if N % 2 == 0]

# ----------------------------------------------------------------------------------- known values


@pytest.mark.parametrize("N", [4, 8, 16])
@pytest.mark.parametrize("measure", hippo.MEASURES)
def test_another_implementation_agrees(measure, N):
    data = load("hippo.npz")
    A, B, P, Lambda, P_eig, B_eig, V = (
        data[f"{NAMES[measure]}/{N}/{name}"]
        for name in ("A", "B", "P", "Lambda", "P_eig", "B_eig", "V")
    )
    assert_close(hippo.nplr(measure, N), (A, B[:, 0], P), 1e-14)
    ours = hippo.dplr(measure, N)
    assert_close(ours[0], Lambda[::-1].conj(), 1e-12)
    # phases are arbitrary: moduli, and products from which they drop out
    assert_close(np.abs(ours[2]), np.abs(B_eig)[::-1], 1e-12)
    assert_close(ours[1] * ours[2].conj(), (P_eig * B_eig.conj())[:, ::-1].conj(), 1e-12)
    assert_close(ours[3] * ours[2], (V * B_eig)[:, ::-1].conj(), 1e-12)


@pytest.mark.parametrize("modes", [4, 32])
@pytest.mark.parametrize("kind", ["legs", "lin", "inv", "real", "inv2", "quad"])
def test_another_implementation_starts_from_the_same_poles(kind, modes):
    data = load("hippo.npz")
    Lambda, B = hippo.diagonal(kind, modes)
    theirs = data[f"init/diag-{kind}/{2 * modes}/A"].conj()  # complex64
    theirs = theirs[::-1] if kind == "legs" else theirs
    np.testing.assert_allclose(Lambda, theirs, rtol=1e-5)
    if kind != "legs":
        np.testing.assert_array_equal(B, data[f"init/diag-{kind}/{2 * modes}/B"])


def test_entries_by_their_definitions():
    N = 5
    for n in range(N):
        for k in range(N):
            root = np.sqrt((2 * n + 1) * (2 * k + 1))
            legs = -root if n > k else -(n + 1) if n == k else 0
            legt = -root * (1 if n >= k else (-1) ** (n - k)) / 0.7
            lmu = (2 * n + 1) * (-1 if n < k else (-1) ** (n - k + 1)) / 0.7
            assert hippo.legs(N)[0][n, k] == pytest.approx(legs)
            assert hippo.legt(N, theta=0.7)[0][n, k] == pytest.approx(legt)
            A, B = hippo.legt(N, theta=0.7, scaling="legendre")
            assert A[n, k] == pytest.approx(lmu)
            assert B[n] == pytest.approx((2 * n + 1) * (-1) ** n / 0.7)


def test_two_scalings_of_one_system():
    (A, B), (A_leg, B_leg) = (hippo.legt(7, scaling=s) for s in ("orthonormal", "legendre"))
    S = np.sqrt(2 * np.arange(7) + 1) * (-1.0) ** np.arange(7)
    assert_close((S[:, None] * A / S, S * B), (A_leg, B_leg), 1e-14)


@pytest.mark.parametrize("measure", ["legt", "fout"])
def test_a_window_sets_the_time_scale(measure):
    make = getattr(hippo, measure)
    A, B = make(8)
    assert_close(make(8, theta=0.5), (4 * A, 4 * B), 1e-15)
    assert_close(hippo.nplr(measure, 8, theta=0.5)[2], 2 * hippo.nplr(measure, 8)[2], 1e-15)
    assert_close(hippo.dplr(measure, 8, theta=0.5)[0], 4 * hippo.dplr(measure, 8)[0], 1e-13)


# ------------------------------------------------------------------- LegS: the whole past


def coefficients(u, N):
    """Of a signal that is constant during each sample, by the antiderivatives of P_n."""
    edges = 2 * np.arange(u.size + 1) / u.size - 1
    parts = [
        np.sqrt(2 * n + 1) / 2 * np.diff(legendre.legval(edges, legendre.legint(np.eye(N)[n])))
        for n in range(N)
    ]
    return np.array(parts) @ u


def scaled_projection_error(A, B, u):
    """Of c' = (A c + B u) / t, solved over each sample by the matrix exponential."""
    N = B.size
    joined = np.block([[A, B[:, None]], [np.zeros((1, N + 1))]])
    c = np.linalg.solve(-A, B) * u[0]  # what a constant has led to
    for t in range(1, u.size):
        step = linalg.expm(joined * np.log1p(1 / t))
        c = step[:N, :N] @ c + step[:N, N] * u[t]
    expected = coefficients(u, N)
    return np.linalg.norm(c - expected) / np.linalg.norm(expected)


def test_legs_is_the_projection_of_the_past(rng):
    u = rng.standard_normal(40)
    for N in (1, 2, 5, 8):
        assert scaled_projection_error(*hippo.legs(N), u) < 1e-12


def test_wrong_legs_is_not(rng):
    u = rng.standard_normal(40)
    A, B = hippo.legs(8)
    R = np.sqrt(2 * np.arange(8) + 1)
    diagonal = -np.diag(np.arange(1.0, 9))
    for wrong_A, wrong_B in [
        (diagonal, B),  # the eigenvalues of A in place of A
        (diagonal, np.ones(8)),
        (A - np.diag(np.full(8, 0.5)), B),
        (np.where(np.arange(8) % 2, -1, 1)[:, None] * A, B),
        (A, R**2),
        (A, R * (-1.0) ** np.arange(8)),
    ]:
        assert scaled_projection_error(wrong_A, wrong_B, u) > 0.1


@pytest.mark.parametrize("N", [1, 2, 9, 32, 100])
def test_project_legs_equals_quadrature(rng, N):
    u = rng.standard_normal(150)
    states = hippo.project("legs", u, N)
    for t in (0, 1, 2, 77, 149):
        expected = coefficients(u[: t + 1], N)
        assert np.linalg.norm(states[t] - expected) < 1e-12 * np.linalg.norm(u[: t + 1], np.inf)


def smooth(t):
    return np.sin(3 * t) + 0.5 * np.cos(7 * t + 1)


def smooth_coefficients(end, N):
    x, weight = legendre.leggauss(60)
    values = smooth(end * (x + 1) / 2) * weight / 2
    return legendre.legvander(x, N - 1).T @ values * np.sqrt(2 * np.arange(N) + 1)


def test_legs_by_the_trapezium_rule_converges():
    """The discretisation of the HiPPO paper, from t = 1 to t = 2: second order."""
    N, errors = 10, []
    A, B = hippo.legs(N)
    expected = smooth_coefficients(2.0, N)
    for steps in (100, 200, 400):
        h = 1 / steps
        c = smooth_coefficients(1.0, N)
        for k in range(steps):
            t, after = 1 + k * h, 1 + (k + 1) * h
            right = c + h / 2 * ((A @ c + B * smooth(t)) / t + B * smooth(after) / after)
            c = np.linalg.solve(np.eye(N) - h / 2 / after * A, right)
        errors.append(np.linalg.norm(c - expected) / np.linalg.norm(expected))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert errors[-1] < 1e-4
    np.testing.assert_allclose(orders, 2, atol=0.1)


def test_legs_in_logarithmic_time_has_exponentially_fading_kernels():
    A, B = hippo.legs(9)
    for s in (0.0, 0.01, 0.5, 2.0, 5.0):
        expected = np.exp(-s) * hippo.basis("legs", 9, -np.expm1(-s))
        assert_close(linalg.expm(s * A) @ B, expected, 1e-12)


def test_project_legs_keeps_polynomials():
    N, L = 6, 3000
    age = np.linspace(0, 1, 50)
    middle = (np.arange(L) + 0.5) / L
    states = hippo.project("legs", 1 - 3 * middle + 2 * middle**5, N)
    past = 1 - age
    read = hippo.basis("legs", N, age).T @ states[-1]
    np.testing.assert_allclose(read, 1 - 3 * past + 2 * past**5, atol=1e-5)


# ------------------------------------------------------------------- LegT: a window, a delay


def delay_error(A, B, C, D=0.0, *, window=500):
    """Of reading u(t - theta) as C x + D u, on a smooth signal; A and B have that window."""
    t = np.arange(4 * window) / window
    u = np.sin(2 * np.pi * 0.7 * t) + 0.5 * np.cos(2 * np.pi * 1.9 * t + 1)
    N = B.size
    step = linalg.expm(np.block([[A, B[:, None]], [np.zeros((1, N + 1))]]))
    x, y = np.zeros(N), np.empty(u.size)
    for k in range(u.size):
        x = step[:N, :N] @ x + step[:N, N] * u[k]
        y[k] = C @ x + D * u[k]
    read = y[2 * window :]
    # a state at the end of sample k has u(t - theta) at the edge of two samples
    expected = (u[window:-window] + u[window + 1 : 1 - window]) / 2
    return np.linalg.norm(read - expected) / np.linalg.norm(expected)


def test_legt_reads_a_delay():
    W = 500
    far = hippo.basis("legt", 16, 1.0)
    assert delay_error(*hippo.legt(16, theta=W), far) < 1e-4
    legendre_form = hippo.legt(16, theta=W, scaling="legendre")
    assert delay_error(*legendre_form, np.ones(16)) == pytest.approx(5e-5, abs=5e-6)  # errata


def test_a_missing_sign_in_legt_forgets_the_delay():
    A, B = hippo.legt(16, theta=500, scaling="legendre")
    assert delay_error(A, np.abs(B), np.ones(16)) == pytest.approx(1.47, abs=0.005)  # errata
    assert delay_error(A, np.abs(B), (-1.0) ** np.arange(16)) > 0.7
    A, B = hippo.legt(16, theta=500)
    far = hippo.basis("legt", 16, 1.0)
    assert delay_error(-np.abs(A), B, far) > 0.7
    assert delay_error(A, B * (-1.0) ** np.arange(16), far) > 0.7


@pytest.mark.parametrize("N", [1, 2, 3, 6])
def test_the_delay_of_legt_is_a_pade_approximant(N):
    A, B = hippo.legt(N, theta=1.3)
    far = hippo.basis("legt", N, 1.0)
    series = [mpmath.mpf(-1) ** k / mpmath.factorial(k) for k in range(2 * N)]
    p, q = (np.array(c, float) for c in mpmath.pade(series, N - 1, N))  # lowest power first
    for s in (0.2, 1j, 3j, 2 - 4j):
        z = 1.3 * s
        expected = np.polyval(p[::-1], z) / np.polyval(q[::-1], z)
        found = far @ np.linalg.solve(s * np.eye(N) - A, B)
        assert abs(found - expected) < 1e-12 * abs(expected)


def test_project_legt_reads_the_window():
    W = 400
    t = np.arange(3 * W) / W
    u = np.sin(2 * np.pi * 0.7 * t) + 0.5 * np.cos(2 * np.pi * 1.9 * t + 1)
    states = hippo.project("legt", u, 20, window=W)
    for lag in (1, W // 4, W // 2, W - 1):
        read = hippo.basis("legt", 20, lag / W) @ states[-1]
        assert read == pytest.approx((u[-lag] + u[-lag - 1]) / 2, abs=2e-3)


# ------------------------------------------------------------------- FouT: harmonics


def harmonic_error(A, B, N, theta):
    """Of the response to harmonics of the window, which must be their Fourier coefficients."""
    x, weight = legendre.leggauss(80)
    age = (x + 1) / 2
    worst = 0.0
    for k in range(N // 2):
        omega = 2 * np.pi * k / theta
        # least squares: for k = 0 the unused state makes the equations singular
        found = np.linalg.lstsq(1j * omega * np.eye(N) - A, B.astype(complex), rcond=None)[0]
        phase = np.exp(-1j * omega * theta * age) * weight / 2
        worst = max(worst, np.abs(found - hippo.basis("fout", N, age) @ phase).max())
    return worst


@pytest.mark.parametrize("N", [2, 4, 16])
def test_fout_has_the_fourier_coefficients_of_harmonics(N):
    assert harmonic_error(*hippo.fout(N, theta=0.8), N, 0.8) < 1e-12


def test_wrong_fout_has_not():
    A, B = hippo.fout(8)
    J = A + np.outer(B, B)
    for wrong_A, wrong_B in [
        (A.T, B),
        (A - np.outer(B, B), B),
        (A, np.ones(8)),
        (A, np.where(B > 0, 1.0, 0.0)),
        (2 * J - np.outer(B, B), B),
    ]:
        assert harmonic_error(wrong_A, wrong_B, 8, 2.0) > 0.1


@pytest.mark.parametrize("N", [2, 8, 32])
def test_the_delay_of_fout_passes_every_frequency(N):
    A, B = hippo.fout(N)
    b = B  # with theta = 2
    for omega in (0.3, 2.0, 17.0, 1000.0):
        response = 2 * b @ np.linalg.solve(1j * omega * np.eye(N) - A, B) - 1
        assert abs(abs(response) - 1) < 1e-12
    small = 1e-3
    response = 2 * b @ np.linalg.solve(1j * small * np.eye(N) - A, B) - 1
    k = np.arange(1, N // 2)
    # phase [HIPPO-10]: tan of half of it, by its partial fractions
    half = np.arctan(1 / (1 / small + 2 * small * np.sum(1 / (small**2 - (np.pi * k) ** 2))))
    assert np.angle(response) == pytest.approx(-2 * half, abs=1e-12)


def test_fout_reads_a_delay():
    errors = []
    for N in (32, 64, 128):
        A, B = hippo.fout(N, theta=500)
        errors.append(delay_error(A, B, 2 * hippo.basis("fout", N, 0.0), -1.0))
    assert errors[-1] < 0.02
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2, rtol=0.25)  # like 1/N


# ------------------------------------------------------------------- normal plus low rank


def departure(A, P):
    """Of A + P^T P from normality."""
    M = A + P.T @ P
    return np.linalg.norm(M @ M.T - M.T @ M) / np.linalg.norm(A) ** 2


@pytest.mark.parametrize(("measure", "N"), CASES)
def test_low_rank_makes_it_normal(measure, N):
    A, _, P = hippo.nplr(measure, N)
    assert P.shape == (2 if measure == "legt" else 1, N)
    assert departure(A, P) < 1e-14
    S = A + P.T @ P + (0.5 * np.eye(N) if measure == "legs" else 0)
    assert np.abs(S + S.T).max() < 1e-14 * max(1, np.abs(A).max())


def test_another_low_rank_does_not():
    A, _, P = hippo.nplr("legs", 64)
    wrong = np.sqrt(P**2 + 1)  # n + 3/2
    assert departure(A, wrong) > 0.03
    assert np.linalg.eigvals(A + wrong.T @ wrong).real.max() > 19
    A, _, P = hippo.nplr("legt", 8)
    assert departure(A, P[:1]) > 0.1
    assert departure(A, P.sum(axis=0, keepdims=True)) > 0.1


@pytest.mark.parametrize(("measure", "N"), CASES)
def test_reconstruction(measure, N):
    A, B, P = hippo.nplr(measure, N)
    Lambda, P_eig, B_eig, V = hippo.dplr(measure, N, full=True)
    rebuilt = V @ (np.diag(Lambda) - P_eig.T @ P_eig.conj()) @ V.conj().T
    assert_close((rebuilt, V @ B_eig, V @ P_eig.T), (A + 0j, B + 0j, P.T + 0j), 1e-13)
    assert np.abs(V.conj().T @ V - np.eye(N)).max() < 1e-13
    assert np.all(Lambda.real == (-0.5 if measure == "legs" else 0))
    assert Lambda.sum() == pytest.approx(np.trace(A) + np.sum(P**2), rel=1e-12, abs=1e-12)
    assert np.all(B_eig.imag == 0)
    assert np.all(B_eig.real > 0)
    if measure != "legt":
        assert_close(P_eig, np.abs(P_eig) + 0j, 1e-13)
    half = N // 2
    for a in (Lambda, P_eig, B_eig, V):
        np.testing.assert_array_equal(a[..., half : 2 * half], a[..., :half].conj())
        assert np.all(a[..., 2 * half :].imag == 0)
    assert np.all(np.diff(Lambda[:half].imag) > 0)


@pytest.mark.parametrize("N", [255, 256])
@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_conjugate_vectors_stay_orthogonal_where_the_solver_lets_them_go(measure, N):
    """Of a solver alone they are so to 1e-12: eigenvalues of 0.2 and -0.2 beside one of 20,000."""
    V = hippo.dplr(measure, N, full=True)[3]
    assert np.abs(V.conj().T @ V - np.eye(N)).max() < 2e-14


@pytest.mark.parametrize(("measure", "N"), EVEN)
def test_half_of_the_modes(measure, N):
    full = hippo.dplr(measure, N, full=True)
    half = hippo.dplr(measure, N)
    assert_close(half, tuple(a[..., : N // 2] for a in full), 0)
    A, B, P = hippo.nplr(measure, N)
    Lambda, _, B_eig, V = half
    assert_close(2 * (V * Lambda @ V.conj().T).real - P.T @ P, A, 1e-13)
    assert_close(2 * (V @ B_eig).real, B, 1e-13)


def test_eigenvalues_to_forty_digits():
    N = 16
    with mpmath.workdps(40):
        root = [mpmath.sqrt(2 * n + 1) / 2 for n in range(N)]
        entries = [[root[n] * root[k] * 2 * mpmath.sign(k - n) for k in range(N)] for n in range(N)]
        exact = mpmath.eighe(mpmath.matrix(entries) * mpmath.mpc(0, -1), eigvals_only=True)
        exact = np.sort([float(x) for x in exact])[N // 2 :]
    found = hippo.dplr("legs", N)[0].imag
    np.testing.assert_allclose(found, exact, rtol=1e-13)


@pytest.mark.parametrize("N", [7, 32])
@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_phases_of_the_library_do_not_matter(measure, N, monkeypatch, rng):
    expected = hippo.dplr(measure, N, full=True)
    eigh, turn = np.linalg.eigh, np.exp(2j * np.pi * rng.random(N))
    monkeypatch.setattr(np.linalg, "eigh", lambda M: (eigh(M)[0], eigh(M)[1] * turn))
    assert_close(hippo.dplr(measure, N, full=True), expected, 1e-13)


# ------------------------------------------------------------------- diagonal initialisations


@pytest.mark.parametrize("modes", [1, 2, 7, 64])
@pytest.mark.parametrize("kind", hippo.INITIAL)
def test_diagonal_poles_are_stable(kind, modes):
    Lambda, B = hippo.diagonal(kind, modes)
    assert Lambda.shape == B.shape == (modes,)
    assert Lambda.dtype == B.dtype == np.complex128
    assert np.all(Lambda.imag >= 0)
    if kind == "real":
        np.testing.assert_array_equal(Lambda, -np.arange(1.0, modes + 1))
    else:
        assert np.all(Lambda.real == -0.5)
        assert len(set(Lambda.imag)) == modes
    rows = hippo.diagonal(kind, modes, channels=3, dtype="float32")
    for a, row in zip(rows, (Lambda, B)):
        assert a.dtype == np.complex64
        np.testing.assert_array_equal(a, np.tile(row.astype(np.complex64), (3, 1)))
        a[0] = 0  # of its own
        assert np.all(a[1] == row.astype(np.complex64))


def test_diagonal_formulas():
    inv = hippo.diagonal("inv", 4)[0].imag
    np.testing.assert_allclose(inv, [8 / np.pi * (8 / q - 1) for q in (1, 3, 5, 7)], rtol=1e-15)
    assert hippo.diagonal("lin", 4)[0].imag[3] == pytest.approx(3 * np.pi)
    lambda_, B = hippo.diagonal("fout", 4)
    np.testing.assert_array_equal(lambda_, hippo.diagonal("lin", 4)[0])
    np.testing.assert_allclose(B, [np.sqrt(0.5), 1, 1, 1], rtol=1e-15)
    # S4D-Inv follows the poles of S4D-LegS: the largest to a few per cent
    legs = np.sort(hippo.diagonal("legs", 32)[0].imag)[::-1]
    np.testing.assert_allclose(hippo.diagonal("inv", 32)[0].imag[:4], legs[:4], rtol=0.1)


@pytest.mark.parametrize("N", [4, 16, 64])
def test_without_its_low_rank_legs_responds_almost_alike(N):
    """With B/2, the response is that of LegS times 1 / (1 + q), |q| = omega / hypot(omega, N)."""
    A, B = hippo.legs(N)
    Lambda, _, B_eig, V = hippo.dplr("legs", N, full=True)
    for omega in (0.1, 1.0, 5.0, 200.0):
        exact = np.linalg.solve(1j * omega * np.eye(N) - A, B)
        diagonal = V @ (B_eig / 2 / (1j * omega - Lambda))
        q = 1 - B @ exact
        assert abs(q) == pytest.approx(omega / np.hypot(omega, N), rel=1e-11)  # [HIPPO-15]
        assert_close(diagonal, exact / (1 + q), 1e-11)


def test_log_dt_covers_its_range(rng):
    draws = hippo.log_dt(4000, dt_min=1e-4, dt_max=1e-1, rng=rng)
    assert draws.shape == (4000,)
    assert draws.dtype == np.float64
    assert np.log(1e-4) <= draws.min() < np.log(1.1e-4)
    assert np.log(0.9e-1) < draws.max() <= np.log(1e-1)
    decades = np.histogram(draws / np.log(10), bins=[-4, -3, -2, -1])[0]
    assert np.all(np.abs(decades - 4000 / 3) < 200)
    default = hippo.log_dt(2, rng=np.random.default_rng(1), dtype="float32")
    assert default.dtype == np.float32
    np.testing.assert_array_equal(
        default, hippo.log_dt(2, rng=np.random.default_rng(1)).astype("f4")
    )
    assert np.all((default >= np.log(1e-3)) & (default <= np.log(1e-1)))
    assert hippo.log_dt(1, dt_min=0.1, dt_max=0.1, rng=rng)[0] == np.log(0.1)


# ------------------------------------------------------------------- dtypes, shapes, bad input


@pytest.mark.parametrize("measure", hippo.MEASURES)
def test_single_precision_is_cast_at_the_end(measure):
    make = {"legs": hippo.legs, "legt": hippo.legt, "fout": hippo.fout}[measure]
    pairs = [
        (make(64, dtype="float32"), make(64)),
        (hippo.nplr(measure, 64, dtype=np.float32), hippo.nplr(measure, 64)),
        (hippo.dplr(measure, 64, dtype="float32"), hippo.dplr(measure, 64)),
    ]
    for single, double in pairs:
        for a, b in zip(single, double):
            assert a.dtype == (np.complex64 if b.dtype.kind == "c" else np.float32)
            np.testing.assert_array_equal(a, b.astype(a.dtype))


@pytest.mark.parametrize("measure", hippo.MEASURES)
def test_project_keeps_the_dtype_and_takes_empty_signals(measure, rng):
    window = {} if measure == "legs" else {"window": 9.5}
    u = rng.standard_normal(30)
    states = hippo.project(measure, u.astype(np.float32), 6, **window)
    assert states.dtype == np.float32
    assert states.shape == (30, 6)
    assert_close(states, hippo.project(measure, u, 6, **window), 1e-6)
    assert hippo.project(measure, u[:0], 6, **window).shape == (0, 6)
    assert_close(hippo.project(measure, u[:20], 6, **window), states[:20].astype(float), 1e-6)


@pytest.mark.parametrize("measure", hippo.MEASURES)
def test_the_basis_is_orthonormal(measure):
    N = 12
    x, weight = legendre.leggauss(60)
    functions = hippo.basis(measure, N, (x + 1) / 2)
    gram = (functions * weight / 2) @ functions.T
    expected = np.eye(N)
    if measure == "fout":
        expected[1, 1] = 0  # the sine of frequency zero
    np.testing.assert_allclose(gram, expected, atol=1e-13)
    assert hippo.basis(measure, 4, 0.25).shape == (4,)
    assert hippo.basis(measure, 4, np.zeros((2, 3))).shape == (4, 2, 3)


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hippo.legs(0), "N is 0; it must be at least 1"),
        (lambda: hippo.legs(4.0), "N is 4.0; it must be an integer"),
        (lambda: hippo.legs(4, dtype="int32"), "dtype is 'int32'; it must be one of"),
        (lambda: hippo.legt(True), "N is True"),
        (lambda: hippo.legt(4, theta=0.0), "theta is 0.0; it must be finite and at least 1e-30"),
        (lambda: hippo.legt(4, scaling="lmu"), "scaling is 'lmu'; it must be one of"),
        (lambda: hippo.fout(5), "N is 5; for fout it must be even"),
        (lambda: hippo.fout(-2), "N is -2; it must be at least 1"),
        (lambda: hippo.fout(4, theta=np.inf), "theta is inf"),
        (lambda: hippo.nplr("leg", 4), "measure is 'leg'; it must be one of 'legs'.*did you mean"),
        (lambda: hippo.nplr("legs", 4, theta=2.0), "theta is 2.0; legs has no window"),
        (lambda: hippo.dplr("legs", 5), "N is 5; an odd number has one real mode"),
        (lambda: hippo.dplr("legs", 4, full=1), "full is 1; it must be True or False"),
        (lambda: hippo.dplr("fout", 5, full=True), "N is 5; for fout it must be even"),
        (lambda: hippo.dplr("legs", 4, dtype=None), "dtype is"),
        (lambda: hippo.diagonal("hippo", 4), "kind is 'hippo'; it must be one of"),
        (lambda: hippo.diagonal("lin", 0), "modes is 0"),
        (lambda: hippo.diagonal("lin", 4, channels=0), "channels is 0"),
        (lambda: hippo.diagonal("lin", 4, dtype="half"), "dtype is 'float16'"),
        (lambda: hippo.log_dt(0, rng=RNG), "channels is 0"),
        (lambda: hippo.log_dt(1, dt_min=0.0, rng=RNG), "dt_min is 0.0"),
        (lambda: hippo.log_dt(1, dt_min=1.0, rng=RNG), "dt_max is 0.1; .* at least 1"),
        (lambda: hippo.log_dt(1, rng=0), "rng is 0; it must be a numpy.random.Generator"),
        (lambda: hippo.basis("legs", 4, 1.5), r"age is 1.5; .* \[0, 1\]"),
        (lambda: hippo.basis("legs", 4, [np.nan]), "age holds nan"),
        (lambda: hippo.basis("fout", 3, 0.5), "N is 3; for fout"),
        (lambda: hippo.basis("s4", 3, 0.5), "measure is 's4'"),
        (lambda: hippo.project("legs", [[1.0]], 3), r"u has shape \(1, 1\)"),
        (lambda: hippo.project("legs", [1j], 3), "u has dtype complex128"),
        (lambda: hippo.project("legs", [np.inf], 3), "u holds inf"),
        (lambda: hippo.project("legs", [1.0], 3, window=4.0), "window is 4.0; legs has no window"),
        (lambda: hippo.project("legt", [1.0], 3), "window is None; legt needs"),
        (lambda: hippo.project("fout", [1.0], 3, window=4.0), "N is 3; for fout"),
        (lambda: hippo.project("fout", [1.0], 4, window=-4.0), "window is -4.0"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
