"""The kernel of a diagonal plus low-rank system, and the truncation in it."""

import mpmath
import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, cast, complex_normal, cotangents, double, error, load

from ssm_manual import hippo, reference
from ssm_manual.gradcheck import check_vjp
from ssm_manual.ops import vandermonde
from ssm_manual.ops.cauchy import cauchy, cauchy_fwd, cauchy_vjp
from ssm_manual.ops.truncate import truncate, truncate_fwd, truncate_vjp

NAMES = ("Lambda", "P", "Q", "B", "C", "dt")


def arguments(rng, H=2, rank=1, N=3, dtype=np.float64, side=1):
    """A random system with decaying modes, P and Q untied; ``side`` is the sign of Im Lambda."""
    Lambda = -rng.uniform(0.1, 1, (H, N)) + side * 1j * rng.uniform(0.5, 20, (H, N))
    P, Q = (complex_normal(rng, H, rank, N) / np.sqrt(8 * N) for _ in range(2))
    B, C = complex_normal(rng, H, N), complex_normal(rng, H, N)
    return tuple(cast(a, dtype) for a in (Lambda, P, Q, B, C, rng.uniform(0.02, 0.1, H)))


def hippo_arguments(rng, measure, N, dt):
    Lambda, P, B, _ = hippo.dplr(measure, N)
    return Lambda, P, P, B, complex_normal(rng, N // 2), dt


# --------------------------------------------------------------------------------- equal to powers


@pytest.mark.parametrize("measure", hippo.MEASURES)
@pytest.mark.parametrize("dt", [1e-4, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize(("N", "length"), [(4, 1), (4, 64), (16, 65), (64, 34)])
def test_equals_dense_powers_of_hippo(rng, measure, dt, N, length):
    """LegT has rank 2, and it and FouT have Lambda on the imaginary axis, FouT at zero."""
    args = hippo_arguments(rng, measure, N, dt)
    assert error(cauchy(*args, length), reference.cauchy.cauchy(*args, length)) < 1e-11


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 17, 64, 513])
def test_equals_dense_powers(rng, length, rank, real):
    args = arguments(rng, rank=rank)
    K = cauchy(*args, length, real=real)
    assert K.shape == (2, length)
    assert K.dtype == (np.float64 if real else np.complex128)
    assert error(K, reference.cauchy.cauchy(*args, length, real=real)) < 1e-12


def test_equals_forty_digits():
    with mpmath.workdps(40):
        Lambda = [mpmath.mpc(-0.5, 3), mpmath.mpc(0, 7)]
        p, q = (
            [mpmath.mpc(0.5, 0.25), mpmath.mpc(-1, 0.125)],
            [mpmath.mpc(1, 0.5), mpmath.mpc(0, 1)],
        )
        b, c = [mpmath.mpc(1, 2), mpmath.mpc(0.5, 0)], [mpmath.mpc(1, -1), mpmath.mpc(0.25, 1)]
        full = [x + [z.conjugate() for z in x] for x in (Lambda, p, q, b, c)]
        A = mpmath.diag(full[0])
        for i in range(4):
            for j in range(4):
                A[i, j] -= full[1][i] * full[2][j].conjugate()
        half, I = A * mpmath.mpf(0.125) / 2, mpmath.eye(4)
        x = mpmath.lu_solve(I - half, mpmath.matrix(full[3]) * mpmath.mpf(0.125))
        expected = []
        for _ in range(9):
            expected.append(float(sum(c * z for c, z in zip(full[4], x)).real))
            x = mpmath.lu_solve(I - half, (I + half) * x)
    Lambda, p, q, b, c = (np.array(v, complex) for v in (Lambda, p, q, b, c))
    K = cauchy(Lambda, p[None], q[None], b, c, 0.125, 9)
    assert error(K, np.array(expected)) < 16 * 2**-53


def test_pairs_written_out_equal_stored_ones(rng):
    args = arguments(rng, rank=2)
    both = (np.concatenate([a, a.conj()], axis=-1) for a in args[:-1])
    whole = cauchy(*both, args[-1], 50, real=False)
    assert_close(cauchy(*args, 50), whole.real, 1e-13)
    assert error(whole.imag, 0 * whole.imag, scale=whole) < 1e-13


@pytest.mark.parametrize("real", [True, False])
def test_without_low_rank_it_is_the_diagonal_kernel(rng, real):
    Lambda, P, Q, B, C, dt = arguments(rng, rank=2, N=5)
    z = dt[:, None] * Lambda / 2
    expected = vandermonde.kernel((1 + z) / (1 - z), dt[:, None] * B / (1 - z), C, 300, real=real)
    for low_rank in ((0 * P, Q), (P, 0 * Q), (P[:, :0], Q[:, :0])):
        assert_close(cauchy(Lambda, *low_rank, B, C, dt, 300, real=real), expected, 1e-13)


@pytest.mark.parametrize("short", [1, 100, 255])
def test_a_kernel_begins_as_a_shorter_one_does(rng, short):
    """C is the parameter, not C (I - A_bar^L)."""
    args = hippo_arguments(rng, "legs", 16, 0.01)
    long = cauchy(*args, 256)
    assert_close(long[:short], cauchy(*args, short), 1e-13, scale=long)


# --------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize(("rank", "length", "side"), [(1, 1, 1), (1, 40, -1), (2, 513, 1)])
def test_gradients_equal_those_of_the_recurrence(rng, rank, length, side, real):
    """513: several blocks of frequencies, and a short one."""
    args = arguments(rng, rank=rank, side=side)
    K, kept = cauchy_fwd(*args, length, real=real)
    g = cotangents(rng, K)
    *found, none = cauchy_vjp(kept, g)
    assert none is None
    expected = reference.cauchy.cauchy_vjp(*args, length, g, real=real)
    assert_close(tuple(found), expected, 1e-11, names=NAMES)
    C_tilde, kept = truncate_fwd(*args[:3], *args[4:], length, real=real)
    g = cotangents(rng, C_tilde)
    expected = reference.truncate.truncate_vjp(*args[:3], *args[4:], length, g, real=real)
    assert_close(truncate_vjp(kept, g)[:-1], expected, 1e-11)


@pytest.mark.parametrize(("measure", "length"), [("legs", 32), ("legt", 31), ("fout", 31)])
def test_tied_gradients_are_the_sum_of_two(rng, measure, length):
    """LegT: rank 2; one dt for each of two channels. At Re Lambda = 0 no stencil may see a pole."""
    Lambda, P, _, B, _, _ = hippo_arguments(rng, measure, 6, 0.0)

    def fwd(Lambda, P, B, C, dt):
        return cauchy_fwd(Lambda, P, P, B, C, dt, length)

    def vjp(residuals, grad_K):
        to_Lambda, to_P, to_Q, *rest, _ = cauchy_vjp(residuals, grad_K)
        return to_Lambda, to_P + to_Q, *rest

    args = Lambda, P, B, complex_normal(rng, 2, 3), np.array([0.05, 0.2])
    report = check_vjp(fwd, vjp, args, directions=1)
    assert report, report


def test_the_last_sample_alone_has_a_gradient(rng):
    Lambda, *rest = arguments(rng, H=1)
    args = Lambda.real / 10 + 1j * Lambda.imag, *(rest[0] / 10, rest[1] / 10), *rest[2:]
    report = check_vjp(
        lambda *a: cauchy_fwd(*a, 101), lambda *a: cauchy_vjp(*a)[:-1], args, cotangent="last"
    )
    assert report, report


# --------------------------------------------------------------------------- other implementations


@pytest.mark.parametrize("N", [4, 8, 16])
def test_the_annotated_s4(N):
    """Its parameter Ct is our C = conj(Ct) (I - A_bar^L)^-1, and it takes the real part."""
    data = load("annotated_s4.npz")
    data = {key[3 + N // 10 :]: a for key, a in data.items() if key.startswith(f"N{N}/")}
    Lambda, P, B, dt, L = (data[key] for key in ("Lambda", "P", "B", "step", "L"))
    L, A_bar = int(L), data["Ab"]
    rest = np.eye(N) - np.linalg.matrix_power(A_bar, L)

    def kernel(Q):
        A = np.diag(Lambda) - np.outer(P, Q.conj())
        step = np.linalg.solve(np.eye(N) - dt / 2 * A, np.eye(N) + dt / 2 * A)
        inverse = np.linalg.inv(np.eye(N) - np.linalg.matrix_power(step, L))
        C = data["Ct"].conj() @ inverse
        args = Lambda, P[None], Q[None], B, C, dt, L
        return *cauchy_fwd(*args, real=False), C

    K, kept, C = kernel(P)
    assert_close(K.real, data["kernel_DPLR"], 1e-11)
    assert_close(C, data["Cb"][0], 1e-11)
    assert_close(cauchy(Lambda, P[None], P[None], B, C, dt, L, real=False), data["K_conv"], 1e-11)
    assert_close(kernel(data["Q"])[0].real, data["kernel_DPLR_untied"], 1e-11)
    # Gradients of sum(W K) at fixed Ct: C moves with the others so that C_tilde does not.
    to_Lambda, to_P, to_Q, to_B, to_C, to_dt, _ = cauchy_vjp(kept, data["W"].astype(complex))
    to_C_tilde = to_C @ np.linalg.inv(rest).conj().T
    C_tilde, kept = truncate_fwd(Lambda, P[None], P[None], C, dt, L, real=False)
    assert_close(C_tilde, data["Ct"].conj(), 1e-11)
    less = truncate_vjp(kept, to_C_tilde)
    to_Lambda, to_P, to_Q = to_Lambda - less[0], to_P - less[1], to_Q - less[2]
    assert_close(to_B, data["grad_B"], 1e-11)
    assert_close(to_C_tilde.conj(), data["grad_C"], 1e-11)
    moving = data["Lambda"].real < -1e-4  # theirs is clipped there
    assert moving.all()
    assert_close(to_Lambda.real, data["grad_Lambda_re"], 1e-11)
    assert_close(to_Lambda.imag, data["grad_Lambda_im"], 1e-11)
    assert_close((to_P + to_Q)[0], data["grad_P"], 1e-11)
    assert_close(dt * (to_dt - less[4]), data["grad_log_step"], 1e-11)


# --------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("length", [16, 17, 1001, 1024])
def test_poles_on_roots_of_unity(rng, length, real):
    """On the unit circle each of these nodes would divide by zero [CAUCHY-11]."""
    dt, k = 0.1, np.arange(4)
    Lambda = 2j / dt * np.tan(np.pi * k / length)
    B, C = complex_normal(rng, 4), complex_normal(rng, 4)
    none = np.zeros((1, 4))
    K = cauchy(Lambda, none, none, B, C, dt, length, real=real)
    turns = np.exp(2j * np.pi * k[:, None] * np.arange(length) / length)
    expected = (C * dt * B / (1 - dt * Lambda / 2)) @ turns
    assert_close(K, 2 * expected.real if real else expected, 2e-14)


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("turn", [1e-4j, -1e-4j, 0.0, -1e-6 + 1e-3j, -1e-6 - 1e-3j])
def test_slow_poles_over_many_samples(turn, real):
    """Nodes near z = 1 on either side: their half angles are small and must be exact [CAUCHY-5]."""
    length, none = 1 << 17, np.zeros((1, 1))
    K = cauchy([turn], none, none, [1.0 + 0j], [1.0 + 0.5j], 2.0, length, real=real)
    at = np.array([0, 1, 1000, length // 2, length - 1])
    with mpmath.workdps(40):
        z = mpmath.mpmathify(turn)
        A_bar, first = (1 + z) / (1 - z), mpmath.mpc(1, 0.5) * 2 / (1 - z)
        expected = np.array([complex(first * A_bar ** int(l)) for l in at])
    assert_close(K[at], 2 * expected.real if real else expected, 5e-14)


@pytest.mark.parametrize("dt", [1e-12, 1e-6])
def test_a_very_small_step(rng, dt):
    """A_bar - I is rounded, not A_bar: the truncation keeps its digits [CAUCHY-6]."""
    Lambda, P, _, B, C, _ = hippo_arguments(rng, "legs", 8, dt)
    A = reference._dplr.dense(*(np.concatenate([a, a.conj()], -1) for a in (Lambda, P, P)))
    c = np.concatenate([C, C.conj()])
    # C (I - A_bar^L) = -C (L dt A + (L dt A)^2 / 2 + ...), the bilinear map being exact to dt^3
    x, term, expected = 10 * dt * A, c, 0
    for k in range(1, 8):
        term = term @ x / k
        expected = expected - term
    found = truncate(Lambda, P, P, C, dt, 10)
    assert_close(found, expected[:4], 1e-14 + 100 * dt**2)
    K = cauchy(Lambda, P, P, B, C, dt, 100)
    assert_close(K, reference.cauchy.cauchy(Lambda, P, P, B, C, dt, 100), 1e-13)


@pytest.mark.parametrize("length", [16384, 16383])
def test_single_precision_at_sixteen_thousand_samples(rng, length):
    args = (*hippo_arguments(rng, "legs", 64, 1e-3)[:5], np.array(1e-3))
    args = tuple(cast(a, np.float32) for a in args)
    K, kept = cauchy_fwd(*args, length)
    exact, kept_exact = cauchy_fwd(*double(args), length)
    assert K.dtype == np.float32
    assert error(K, exact) < 2**-24
    g = rng.standard_normal(length)
    found = cauchy_vjp(kept, g.astype(np.float32))
    assert_close(found, cauchy_vjp(kept_exact, g.astype(np.float32).astype(float)), 1e-6)
    for a, grad in zip(args, found):
        assert grad.dtype == a.dtype


@pytest.mark.parametrize("measure", hippo.MEASURES)
def test_woodbury_divides_by_nothing_small(measure):
    """For tied P and Re Lambda <= 0 the Hermitian part of I + c kappa_11 is at least I."""
    Lambda, P, _, _ = hippo.dplr(measure, 16, full=True)
    for length in (16, 1001):
        half = (np.log(2) + 2j * np.pi * np.arange(length)) / (2 * length)
        for dt in (1e-3, 1.0):
            w = 1 / (np.tanh(half)[:, None] - dt / 2 * Lambda)
            M = np.eye(len(P)) + dt / 2 * np.einsum("in,qn,jn->qij", P.conj(), w, P)
            least = np.linalg.eigvalsh((M + M.conj().swapaxes(1, 2)) / 2)[:, 0]
            assert least.min() > 1 - 1e-12


# ------------------------------------------------------------------------------------------- edges


def test_an_unstable_pole_on_a_node_is_refused(rng):
    """There the kernel is 0 / 0 [CAUCHY-22]; a little beside it, it is as good as any."""
    length, dt, none = 50, 0.1, np.zeros((1, 1))
    weights = np.array([1.0 + 1j]), np.array([2.0 - 1j])

    def at(radius):
        A_bar = radius * np.exp(2j * np.pi * 7 / length)
        return np.array([2 / dt * (A_bar - 1) / (A_bar + 1)])

    with pytest.raises(ValueError, match=r"Lambda, P, Q: .* length 50"):
        cauchy(at(2 ** (1 / length)), none, none, *weights, dt, length)
    for radius in (1.0, 1.005, 1.03):
        args = at(radius), none, none, *weights, dt, length
        assert error(cauchy(*args), reference.cauchy.cauchy(*args)) < 1e-12


def test_the_woodbury_matrix_may_have_a_zero_on_its_diagonal(rng):
    """At rank 2, P and Q untied: then rows change places. At length 1 the one node is z = 1/2."""
    Lambda, P, Q, B, C, dt = arguments(rng, H=1, rank=2)
    S, c = np.sinh(np.log(2) / 2), np.cosh(np.log(2) / 2)
    P[:, 0] /= -c * np.sum(Q[:, 0].conj() * dt / 2 * P[:, 0] / (S - c * dt / 2 * Lambda))
    args = Lambda, P, Q, B, C, dt, 1
    assert error(cauchy(*args, real=False), reference.cauchy.cauchy(*args, real=False)) < 1e-12


def test_a_kernel_that_begins_with_zero_is_no_fault():
    """The check of the first sample is relative to the others and to its own terms [CAUCHY-22]."""
    Lambda, none = np.array([-1 + 2j, -0.5 - 7j]), np.zeros((1, 2))
    C = np.array([1, -1]) * (1 - 0.05 * Lambda) / (1 - 0.05 * Lambda[0])
    for length in (1, 20):
        args = Lambda, none, none, np.array([1.0, 1.0]), C, 0.1, length
        K = cauchy(*args, real=False)
        assert abs(K[0]) < 1e-15
        assert_close(K, reference.cauchy.cauchy(*args, real=False), 1e-12, scale=0.1)


def test_systems_without_a_discrete_form_are_refused():
    one = np.ones((1, 1))
    with pytest.raises(ValueError, match="Lambda holds 2/dt"):
        cauchy([20.0], 0 * one, one, [1.0], [1.0], 0.1, 4)
    with pytest.raises(ValueError, match="eigenvalue 2/dt"):
        cauchy([10.0], -10 * one, one, [1.0], [1.0], 0.1, 4, real=False)
    with pytest.raises(ValueError, match=r"A_bar\^length .* length 100000"):
        truncate([1.0], 0 * one, one, [1.0], 0.1, 100_000)


def test_what_single_precision_cannot_hold_is_infinite():
    """Without a warning, as the gradients are."""
    one = np.ones((1, 1), np.complex64)
    args = one[0], 0 * one, one, one[0], one[0], np.float32(0.1), 1000
    assert cauchy(*args)[-1] == np.inf
    assert np.isinf(truncate(*args[:3], *args[4:])).any()


def test_an_integrator_and_no_dynamics_at_all():
    none = np.zeros((1, 1))
    np.testing.assert_allclose(cauchy([0.0], none, none, [1.0], [0.5], 0.1, 7), 0.1, rtol=1e-14)
    assert_close(truncate([0.0], none, none, [1.0], 0.1, 7), np.zeros(1, complex), 0)


# ---------------------------------------------------------------------------- shapes, types, layout


def test_broadcasting_sums_gradients(rng):
    Lambda, P, Q, B, C, _ = arguments(rng, H=3)
    args = Lambda[0], P[0], Q[:, None], B[0], C[:1], np.array([0.1, 0.2])
    shape = 3, 2
    K, kept = cauchy_fwd(*args, 9)
    assert K.shape == (*shape, 9)
    tails = [a.shape[a.ndim - k :] for a, k in zip(args, (1, 2, 2, 1, 1, 0))]
    full = [np.broadcast_to(a, shape + tail).copy() for a, tail in zip(args, tails)]
    g = cotangents(rng, K)
    wide, found = cauchy_vjp(cauchy_fwd(*full, 9)[1], g), cauchy_vjp(kept, g)
    expected = (
        *(wide[i].sum(axis=(0, 1)) for i in (0, 1)),
        wide[2].sum(axis=1)[:, None],
        wide[3].sum(axis=(0, 1)),
        wide[4].sum(axis=(0, 1))[None],
        wide[5].sum(axis=0),
    )
    assert_close(found[:-1], expected, 1e-12, names=NAMES)
    assert cauchy(Lambda[0], P[0], Q[0], B[0], C[0], 0.1, 9).shape == (9,)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, layout):
    args = arguments(rng)
    K, kept = cauchy_fwd(*args, 33)
    other = tuple(LAYOUTS[layout](a) for a in args)
    np.testing.assert_array_equal(cauchy(*other, 33), K)
    g = cotangents(rng, K)
    again = cauchy_vjp(cauchy_fwd(*other, 33)[1], LAYOUTS[layout](g))
    assert_close(again, cauchy_vjp(kept, g), 0)


def test_real_arguments_have_real_gradients(rng):
    args = tuple(a.real.copy() for a in arguments(rng))
    K, kept = cauchy_fwd(*args, 12)
    assert all(grad.dtype == np.float64 for grad in cauchy_vjp(kept, cotangents(rng, K))[:-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"P": np.ones(3)}, r"P has shape \(3,\); it must be S \+ \(rank, N\)"),
        ({"Q": np.ones((2, 2, 3))}, r"Q has shape \(2, 2, 3\) beside P"),
        ({"B": np.ones((2, 4))}, r"B has shape \(2, 4\) beside P"),
        ({"C": np.ones(())}, r"C has shape \(\) beside P"),
        ({"Lambda": np.ones((5, 3))}, r"Lambda \(5,\).*must broadcast"),
        ({"dt": np.array([0.1, 0.0])}, "dt is .* positive"),
        ({"dt": np.array([0.1, 0.2, 0.3])}, r"dt \(3,\)"),
        ({"dt": np.array([0.1j, 0.1])}, "dt has dtype complex128; it must be real"),
        ({"length": 2**41}, "length is"),
        ({"real": 1}, "real is 1"),
    ],
)
def test_bad_input_is_named(rng, changes, message):
    given = dict(zip(NAMES, arguments(rng)))
    with pytest.raises(ValueError, match=message):
        cauchy(**{**given, "length": 4, **changes})
    if "B" not in changes:
        given.pop("B")
        with pytest.raises(ValueError, match=message):
            truncate(**{**given, "length": 4, **changes})
