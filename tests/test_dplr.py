"""Diagonal-plus-low-rank systems: sampled, dense, step by step, and in three views."""

import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, complex_normal, cotangents, double, error

from ssm_manual import hippo, reference
from ssm_manual.ops import cauchy, dplr, dplr_dense, dplr_discretize, dplr_scan

NAMES = dplr.NAMES
VIEWS = dplr.VIEWS[1:]


def problem(rng, batch, H, N, L, *, rank=1, real=True, dtype="float64", tied=False, x0=True):
    """Arguments of `dplr.apply` that remember about 50 samples."""
    single = dtype == "float32"
    Lambda = -rng.uniform(0.2, 1, (H, N)) + 6j * rng.standard_normal((H, N))
    P = 0.5 * complex_normal(rng, H, rank, N)
    Q = P if tied else P + 0.1 * complex_normal(rng, H, rank, N)
    weights = Lambda, P, Q, complex_normal(rng, H, N), complex_normal(rng, H, N)
    draw = rng.standard_normal if real else lambda shape: complex_normal(rng, *np.atleast_1d(shape))
    D, u, dt = draw(H), draw((batch, H, L)), rng.uniform(0.05, 0.2, H)
    args = *weights, D, dt, u, complex_normal(rng, batch, H, N) if x0 else None
    if single:
        kinds = {"f": np.float32, "c": np.complex64}
        args = tuple(None if a is None else a.astype(kinds[a.dtype.kind]) for a in args)
    return args


def matrices(Lambda, P, Q, real):
    """A of one channel, of all states and their conjugates, from its definition."""
    A = np.diag(Lambda)
    if real:
        A = np.diag(np.concatenate([Lambda, Lambda.conj()]))
        P, Q = (np.concatenate([a, a.conj()], axis=1) for a in (P, Q))
    return A - P.T @ Q.conj()


def bilinear(A, B, dt):
    """Of a dense matrix, by solving."""
    N = len(A)
    return np.linalg.solve(
        np.eye(N) - dt / 2 * A, np.column_stack([np.eye(N) + dt / 2 * A, dt * B])
    )


# ----------------------------------------------------------------------------------- Tustin's map


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_map_is_that_of_the_dense_matrix(rng, rank, real):
    Lambda, P, Q, B, _, _, dt, _, _ = problem(rng, 1, 2, 4, 1, rank=rank, real=real)
    L_bar, P_bar, Q_bar, B_bar = dplr_discretize.tustin_dplr(Lambda, P, Q, B, dt, real=real)
    for h in range(2):
        full = np.concatenate([B[h], B[h].conj()]) if real else B[h]
        expected = bilinear(matrices(Lambda[h], P[h], Q[h], real), full, dt[h])
        found = matrices(L_bar[h], P_bar[h], Q_bar[h], real)
        assert error(found, expected[:, :-1]) < 1e-13
        assert error(B_bar[h], expected[:4, -1]) < 1e-13


@pytest.mark.parametrize("measure", ["legs", "legt", "fout"])
@pytest.mark.parametrize("dt", [1e-4, 1e-2, 1.0, 100.0])
def test_the_map_of_hippo_is_a_contraction(measure, dt):
    """And that of its dense matrix: the eigenbasis is unitary [DPLR-10]."""
    N = 32
    Lambda, P, B, V = hippo.dplr(measure, N)
    found = dplr_discretize.tustin_dplr(Lambda, P, P, B, dt)
    A, b, _, _ = dplr_dense.dplr_dense(*found, B)
    assert np.linalg.norm(A[0], 2) <= 1 + 1e-14
    dense = bilinear(*getattr(hippo, measure)(N), dt)
    basis = np.concatenate([2 * V.real, -2 * V.imag], axis=1)  # x = 2 Re(V z)
    assert error(basis @ A[0] @ basis.T / 2, dense[:, :-1]) < 1e-12
    assert error(basis @ b[0, :, 0], dense[:, -1]) < 1e-12


def test_no_tied_system_is_unstable(rng):
    """[DPLR-10] whatever the size of P and dt; with Q apart from P it is not so."""
    norms = []
    for scale in (0.1, 10.0, 1e4):
        for dt in (1e-3, 1.0, 1e3):
            Lambda = -np.exp(rng.normal(0, 3, (4, 3))) + 1j * rng.normal(0, 20, (4, 3))
            P = scale * complex_normal(rng, 4, 2, 3)
            found = dplr_discretize.tustin_dplr(Lambda, P, P, Lambda, dt)
            A = dplr_dense.dplr_dense(*found, Lambda)[0]
            norms.append(np.linalg.norm(A, 2, axis=(1, 2)).max())
    assert max(norms) < 1 + 1e-12
    P = np.full((1, 3), 3.0 + 0j)
    found = dplr_discretize.tustin_dplr([-1.0, -2.0, -3.0], P, -P, np.ones(3), 0.05)
    A = dplr_dense.dplr_dense(*found, np.ones(3, complex))[0]
    assert np.abs(np.linalg.eigvals(A)).max() > 1.5


def test_short_intervals_lose_no_digits(rng):
    """The gradient to dt through its own parts would cancel like 1/dt; this one does not."""
    Lambda, P, Q, B, _, _, _, _, _ = problem(rng, 1, 2, 3, 1)
    g = None, None, None, complex_normal(rng, 2, 3)
    exact = np.sum(g[3].conj() * B, axis=1).real  # d B_bar / d dt = B in the limit
    _, kept = dplr_discretize.tustin_dplr_fwd(Lambda, P, Q, B, np.full(2, 1e-14))
    assert error(dplr_discretize.tustin_dplr_vjp(kept, g)[4], exact) < 1e-11


# ------------------------------------------------------------------------------------- the scan


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize(("rank", "batch", "L"), [(1, 3, 130), (2, 1, 64), (1, 2, 1), (3, 2, 0)])
def test_the_scan_equals_the_reference(rng, rank, batch, L, real):
    args = problem(rng, batch, 2, 3, L, rank=rank, real=real)
    weights = dplr_discretize.tustin_dplr(*args[:4], args[6], real=real)
    args = *weights, args[4], args[5], *args[7:]
    out, kept = dplr_scan.dplr_scan_fwd(*args, real=real)
    assert_close(out, reference.dplr_scan.dplr_scan(*args, real=real), 1e-12)
    g = cotangents(rng, out)
    expected = reference.dplr_scan.dplr_scan_vjp(*args, *g, real=real)
    found = dplr_scan.dplr_scan_vjp(kept, g)
    expected = tuple(e if a.dtype.kind == "c" else e.real for e, a in zip(expected, args))
    assert_close(found, expected, 1e-12, names=dplr_scan.NAMES)


def test_a_long_scan_on_threads_equals_its_pieces(rng):
    """Whole on threads, piece by piece without: the same bits, the state handed on."""
    args = problem(rng, 3, 4, 5, 2000, x0=False)
    weights = *dplr_discretize.tustin_dplr(*args[:4], args[6]), args[4], args[5]
    u = args[7]
    (y, x), _ = dplr_scan.dplr_scan_fwd(*weights, u)
    state, pieces = None, []
    for start in range(0, 2000, 500):
        piece, state = dplr_scan.dplr_scan(*weights, u[..., start : start + 500], state)
        pieces.append(piece)
    assert error(np.concatenate(pieces, -1), y) < 1e-13
    assert error(state, x) < 1e-13
    assert 3 * 4 * 5 * 500 < dplr_scan.PARALLEL_FROM <= 3 * 4 * 5 * 2000


# ------------------------------------------------------------------------------------- the views


@pytest.mark.parametrize("x0", [True, False])
@pytest.mark.parametrize(("rank", "real"), [(1, True), (2, True), (2, False)])
@pytest.mark.parametrize("L", [0, 1, 17, 300])
def test_views_agree(rng, L, rank, real, x0):
    args = problem(rng, 2, 3, 4, L, rank=rank, real=real, x0=x0)
    out, kept = dplr.apply_fwd(*args, view="scan", real=real)
    g = cotangents(rng, out)
    for view in ("chunked", "convolution"):
        other, kept_other = dplr.apply_fwd(*args, view=view, real=real)
        assert_close(other, out, 1e-11, names=("y", "x_last"))
        assert [a.dtype for a in other] == [a.dtype for a in out]
        # Each cotangent alone, too: a part that is missing must not hide behind the other.
        for pair in (g, (g[0], None), (None, g[1])):
            expected = dplr.apply_vjp(kept, pair)
            assert_close(dplr.apply_vjp(kept_other, pair), expected, 1e-11, names=NAMES)


@pytest.mark.parametrize("real", [True, False])
def test_the_operator_is_the_dense_recurrence(rng, real):
    args = problem(rng, 2, 2, 3, 40, rank=2, real=real)
    Lambda, P, Q, B, C, D, dt, u, x0 = args
    y, x = dplr.apply(*args, real=real)
    for h in range(2):
        full = [np.concatenate([a, a.conj()], -1) if real else a for a in (B[h], C[h], x0[:, h])]
        both = bilinear(matrices(Lambda[h], P[h], Q[h], real), full[0], dt[h])
        state = full[2].T
        for t in range(40):
            state = both[:, :-1] @ state + np.outer(both[:, -1], u[:, h, t])
            out = full[1] @ state + D[h] * u[:, h, t]
            assert error(y[:, h, t], out.real if real else out, scale=y) < 1e-13
        assert error(x[:, h], state[:3].T) < 1e-12


@pytest.mark.parametrize("view", VIEWS)
def test_precisions(rng, view):
    """Single in and out; parameters in double beside single signals keep double gradients."""
    wide = problem(rng, 2, 2, 4, 200, dtype="float64")
    args = tuple(a.astype(np.complex64 if a.dtype.kind == "c" else np.float32) for a in wide)
    exact, kept_exact = dplr.apply_fwd(*double(args), view="scan")
    g = cotangents(rng, exact)
    expected = dplr.apply_vjp(kept_exact, g)
    low = tuple(a.astype(np.complex64 if a.dtype.kind == "c" else np.float32) for a in g)
    for given in (args, (*double(args[:7]), *args[7:])):
        out, kept = dplr.apply_fwd(*given, view=view)
        assert_close(out, exact, 3e-6)
        assert [a.dtype for a in out] == [np.float32, np.complex64]
        grads = dplr.apply_vjp(kept, low)
        assert [a.dtype for a in grads] == [a.dtype for a in given]
        assert_close(grads, expected, 1e-5, names=NAMES)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(rng, layout):
    args = problem(rng, 2, 2, 3, 20)
    out, kept = dplr.apply_fwd(*args, view="scan")
    g = cotangents(rng, out)
    expected = dplr.apply_vjp(kept, g)
    other = tuple(LAYOUTS[layout](a) for a in args)
    out_other, kept = dplr.apply_fwd(*other, view="scan")
    assert_close(out_other, out, 1e-15)
    assert_close(dplr.apply_vjp(kept, tuple(LAYOUTS[layout](a) for a in g)), expected, 1e-14)
    for kernel in (dplr_scan._forward_serial, dplr_scan._backward_serial):
        assert len(kernel.signatures) == 1  # each variant would take seconds to compile


def test_the_kernel_equals_dense_powers(rng):
    for measure, L in (("legs", 200), ("legt", 201), ("fout", 64)):
        Lambda, P, B, _ = hippo.dplr(measure, 16)
        Lambda = Lambda - 0.01
        C = complex_normal(rng, 1, 8)
        dt = np.array([0.02])
        K = cauchy.cauchy(Lambda[None], P[None], P[None], B[None], C, dt, L)
        full = [np.concatenate([a, a.conj()]) for a in (B, C[0])]
        both = bilinear(matrices(Lambda, P, P, True), full[0], dt[0])
        powers = [full[1] @ np.linalg.matrix_power(both[:, :-1], k) @ both[:, -1] for k in range(L)]
        assert error(K[0], np.real(powers)) < 1e-11
        impulse = np.zeros((1, 1, L))
        impulse[..., 0] = 1
        for view in VIEWS:
            y, _ = dplr.apply(Lambda, P, P, B, C, None, dt, impulse, view=view)
            assert error(y[0, 0], np.real(powers)) < 1e-11


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, np.ones((3, 4, 2)), r"Lambda has shape \(3, 4, 2\)"),
        (0, np.ones((2, 0)), "Lambda has shape"),
        (1, np.ones((3, 2, 3)), "P has shape .* where H is 3; it must be 2"),
        (1, np.ones((2, 2, 3)), "Q has shape .* where the rank is 1; it must be 2"),
        (2, np.ones((2, 1, 5)), "Q has shape .* where N is 5; it must be 3"),
        (3, np.full((2, 3), np.nan), "B holds nan"),
        (4, np.ones((2, 3), np.complex64), "one precision"),
        (5, np.ones(2) + 1j, "D has dtype complex128; it must be real"),
        (5, np.ones((2, 3)), r"D has shape \(2, 3\)"),
        (6, -1.0, "dt is .*; it must be positive"),
        (6, 1j, "dt has dtype complex128"),
        (7, np.ones((2, 5)), "u has shape"),
        (7, np.ones((2, 3, 5)), r"u has shape .*; it must be \(batch, 2, L\)"),
        (7, np.ones((2, 2, 5)) + 1j, "u has dtype complex128; it must be real"),
        (8, np.ones((2, 2, 4)), "x0 has shape"),
        (8, np.ones((2, 2, 3), np.complex64), "one precision"),
    ],
)
def test_bad_arguments(rng, index, value, message):
    args = list(problem(rng, 2, 2, 3, 5))
    args[index] = value
    with pytest.raises(ValueError, match=message):
        dplr.apply(*args)


def test_bad_options_and_poles(rng):
    args = problem(rng, 1, 1, 2, 5)
    with pytest.raises(ValueError, match="view is 'fft'"):
        dplr.apply(*args, view="fft")
    with pytest.raises(ValueError, match="real is 1"):
        dplr.apply(*args, real=1)
    single = problem(rng, 1, 1, 2, 5, dtype="float32")
    with pytest.raises(ValueError, match="u has dtype float64 beside parameters in single"):
        dplr.apply(*single[:7], args[7])
    one = np.ones((1, 1))
    with pytest.raises(ValueError, match="Lambda has an element at 2/dt"):
        dplr_discretize.tustin_dplr(4.0 * one, 0 * one, one, one, 0.5)
    with pytest.raises(ValueError, match="eigenvalue at 2/dt"):  # 0 + 2 x 2 = 4 = 2/dt
        dplr_discretize.tustin_dplr(0 * one, -2 * one, one, one, 0.5)
    _, kept = dplr.apply_fwd(*args)
    y, x = np.zeros((1, 1, 5)), np.zeros((1, 1, 2), complex)
    with pytest.raises(ValueError, match="grad_y has shape"):
        dplr.apply_vjp(kept, (y[..., 1:], x))
    with pytest.raises(ValueError, match="grad_x_last has shape"):
        dplr.apply_vjp(kept, (y, x[..., 1:]))
    with pytest.raises(ValueError, match="grad_out is"):
        dplr.apply_vjp(kept, y)
