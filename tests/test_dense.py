"""Dense systems: discretisation, kernel and the views of the operator, which are one operator."""

from itertools import pairwise

import numpy as np
import pytest
from conftest import (
    LAYOUTS,
    assert_close,
    cast,
    complex_normal,
    cotangents,
    double,
    load,
    system,
)

from ssm_manual import hippo, reference
from ssm_manual.ops import (
    dense_convolve,
    dense_discretize,
    dense_scan,
    dense_ssm,
    dense_terminal_state,
    discretize,
)
from ssm_manual.ops._dense_examples import dense_matrices

NAMES = ("A_bar", "B_bar", "C", "D", "u", "x0")
VIEWS = [view for view in dense_ssm.VIEWS if view != "auto"]
PRECISIONS = [np.float32, np.float64]
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
MAPS = {
    "tustin": (dense_discretize.tustin_fwd, dense_discretize.tustin_vjp),
    "zoh": (dense_discretize.zoh_fwd, dense_discretize.zoh_vjp),
}


def dense(rng, batch, H, N, p, m, L, *, real=True, x0=True, D=True, dtype=np.float64, radius=0.97):
    """Arguments of the dense operator."""
    draw = rng.standard_normal if real else lambda shape: complex_normal(rng, *shape)
    args = (
        dense_matrices(rng, H, N, radius=radius, real=real),
        draw((H, N, p)),
        draw((H, m, N)),
        draw((H, m, p)) if D else None,
        draw((batch, H, p, L)),
        draw((batch, H, N)) if x0 else None,
    )
    return tuple(None if a is None else cast(a, dtype) for a in args)


def continuous(rng, H, N, p, *, real=True, dtype=np.float64):
    A = dense_matrices(rng, H, N, radius=10.0, real=real) - 5 * np.eye(N)
    B = rng.standard_normal((H, N, p)) if real else complex_normal(rng, H, N, p)
    return cast(A, dtype), cast(B, dtype), rng.uniform(0.05, 0.2, H).astype(dtype)


def projected(grads, args):
    return tuple(
        None if a is None else g if a.dtype.kind == "c" else np.real(g) for g, a in zip(grads, args)
    )


# ---------------------------------------------------------------------------- discretisation


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("name", MAPS)
def test_discretisation_equals_the_reference(rng, name, real, dtype):
    fwd, vjp = MAPS[name]
    for N, p in [(1, 1), (4, 2), (7, 0)]:
        args = continuous(rng, 3, N, p, real=real, dtype=dtype)
        out, kept = fwd(*args)
        slow = reference.dense_discretize
        # Rounded once, so that single precision is as near to the reference as it can be.
        allowed = 1e-12 + UNIT[dtype]
        assert_close(out, getattr(slow, name)(*double(args)), allowed)
        g = cotangents(rng, out)
        expected = getattr(slow, f"{name}_vjp")(*double(args), *double(g))
        found = vjp(kept, g)
        assert [a.dtype for a in (*out, *found)] == [args[i].dtype for i in (0, 1, 0, 1, 2)]
        assert_close(found, projected(expected, args), 10 * allowed, names=("A", "B", "dt"))


@pytest.mark.parametrize("name", MAPS)
def test_a_diagonal_matrix_is_the_diagonal_op(rng, name):
    poles = -rng.uniform(0.1, 5, (2, 4)) + 10j * rng.standard_normal((2, 4))
    B, dt = complex_normal(rng, 2, 4), np.array([0.1, 0.03])
    A = np.eye(4) * poles[:, None]
    (A_bar, B_bar), kept = MAPS[name][0](A, B[..., None], dt)
    out, kept_diagonal = getattr(discretize, f"{name}_fwd")(poles, B, dt[:, None])
    assert_close((A_bar, B_bar), (np.eye(4) * out[0][:, None], out[1][..., None]), 1e-14)
    g = cotangents(rng, out)
    expected = getattr(discretize, f"{name}_vjp")(kept_diagonal, g)
    grad_A, grad_B, grad_dt = MAPS[name][1](kept, (np.eye(4) * g[0][:, None], g[1][..., None]))
    found = np.diagonal(grad_A, axis1=1, axis2=2), grad_B[..., 0], grad_dt[:, None]
    assert_close(found, expected, 1e-13)


def test_zoh_of_a_singular_matrix():
    """A chain of integrators is a polynomial in dt; A = 0 adds up its input."""
    A = np.diag(np.ones(3), 1)[None]
    dt, B = 0.5, np.array([0.0, 0, 0, 1])[None, :, None]
    A_bar, B_bar = dense_discretize.zoh(A, B, dt)
    series = np.array([1, dt, dt**2 / 2, dt**3 / 6, dt**4 / 24])
    np.testing.assert_allclose(A_bar[0, 0], series[:4], rtol=1e-15)
    np.testing.assert_allclose(B_bar[0, :, 0], series[:0:-1], rtol=1e-15)
    (A_bar, B_bar), kept = dense_discretize.zoh_fwd(0 * A, 1e30 * B, np.array(dt))
    np.testing.assert_array_equal(A_bar[0], np.eye(4))
    np.testing.assert_array_equal(B_bar, dt * 1e30 * B)
    g = 1e-40 * np.arange(16.0).reshape(1, 4, 4), 1e30 * B
    grad_A, grad_B, grad_dt = dense_discretize.zoh_vjp(kept, g)
    assert_close(grad_A, dt * g[0] + dt**2 / 2 * 1e60 * B @ B.swapaxes(1, 2), 1e-15)
    assert_close((grad_B, grad_dt), (dt * g[1], np.array(1e60)), 1e-15)


def test_bits_of_A_bar_do_not_depend_on_B(rng):
    A, B, dt = continuous(rng, 2, 5, 2)
    for fwd, _ in MAPS.values():
        A_bar = fwd(A, B, dt)[0][0]
        np.testing.assert_array_equal(A_bar, fwd(A, 1e6 * B, dt)[0][0])
        np.testing.assert_array_equal(A_bar, fwd(A, 1e6j * B, dt)[0][0])


def test_tustin_of_fast_poles_beside_slow_ones(rng):
    """Rows of any scale are no reason to refuse; and no digits of the gradient are lost."""
    A, B = np.diag([-1e20, -1.0, -3e9])[None], np.ones((1, 3, 1))
    out, kept = dense_discretize.tustin_fwd(A, B, 0.1)
    poles = np.diagonal(A[0])
    diagonal, kept_diagonal = discretize.tustin_fwd(poles, B[0, :, 0], 0.1)
    np.testing.assert_allclose(np.diagonal(out[0][0]), diagonal[0], rtol=1e-15)
    np.testing.assert_allclose(out[1][0, :, 0], diagonal[1], rtol=1e-15)
    grad_A = dense_discretize.tustin_vjp(kept, (np.eye(3)[None], None))[0]
    expected = discretize.tustin_vjp(kept_diagonal, (np.ones(3), None))[0]
    np.testing.assert_allclose(np.diagonal(grad_A[0]), expected, rtol=1e-14)


@pytest.mark.parametrize(
    "A",
    [[[20.0, 0], [0, -1]], [[17.0, 6], [6, 8]], [[20j, 0], [1, -1]]],
)
def test_tustin_at_its_pole(A):
    """20 = 2/dt is an eigenvalue of the first, and to rounding of the second; not of the third."""
    A, B = np.array([np.diag([-1.0, -2]), A]), np.ones((2, 2, 1))
    if A.dtype == complex:
        assert np.isfinite(dense_discretize.tustin(A, B, 0.1)[0]).all()
        return
    with pytest.raises(ValueError, match=r"A has an eigenvalue at 2/dt .* in system 1"):
        dense_discretize.tustin(A, B, 0.1)


# ------------------------------------------------------ closed forms and other implementations

#: A mass of 1 kg on a spring (40 N/m) with friction (5 N s/m), pushed by a force.
SPRING = np.array([[[0.0, 1.0], [-40.0, -5.0]]]), np.array([[[0.0], [1.0]]])


@pytest.mark.parametrize("view", VIEWS)
def test_a_mass_on_a_spring(view):
    """Under a force switched on for good it swings into k x = F; zero-order hold is exact."""
    A_bar, B_bar = dense_discretize.zoh(*SPRING, 0.01)
    L, half = 300, 2.5  # friction / 2
    y, x_last = dense_ssm.apply(
        A_bar, B_bar, [[[1.0, 0.0]]], None, np.ones((1, 1, 1, L)), view=view
    )
    t, rate = 0.01 * np.arange(1, L + 1), np.sqrt(40 - half**2)
    swing = np.exp(-half * t) * (np.cos(rate * t) + half / rate * np.sin(rate * t))
    assert_close(y[0, 0, 0], (1 - swing) / 40, 1e-12)
    speed = np.exp(-half * t[-1]) * np.sin(rate * t[-1]) / rate
    assert_close(x_last[0, 0], np.array([y[0, 0, 0, -1], speed]), 1e-12)


def test_the_published_mass_on_a_spring():
    data = load("annotated_s4.npz")
    matrices = data["mass/A"][None], data["mass/B"][None]
    for a, b in zip(matrices, SPRING):
        np.testing.assert_array_equal(a, b)
    A_bar, B_bar = dense_discretize.tustin(*matrices, 0.01)
    for view in VIEWS:
        u = data["mass/u"].reshape(1, 1, 1, -1)
        y, _ = dense_ssm.apply(A_bar, B_bar, data["mass/C"][None], None, u, view=view)
        assert_close(y[0, 0].T, data["mass/y"], 1e-12)


@pytest.mark.parametrize("N", [4, 8, 16])
def test_a_published_dense_system(N):
    """Matrices, kernel, and the gradients of sum(W K) through both, log dt included."""
    data = {
        k.split("/")[1]: v
        for k, v in load("annotated_s4.npz").items()
        if k[: k.find("/")] == f"N{N}"
    }
    A, B, C = (data[f"dense_{name}"][None] for name in "ABC")
    (A_bar, B_bar), kept = dense_discretize.tustin_fwd(A, B, data["step"])
    assert_close((A_bar[0], B_bar[0]), (data["dense_Ab"], data["dense_Bb"]), 1e-13)
    K, of_kernel = dense_convolve.kernel_fwd(A_bar, B_bar, C, int(data["L"]))
    assert_close(K[0, 0, 0], data["dense_K"], 1e-11)
    assert_close(K[0, 0, 0], data["dense_K_gen_inverse"].real, 1e-9)
    *grads, grad_C, _ = dense_convolve.kernel_vjp(of_kernel, data["W"].reshape(K.shape))
    grad_A, grad_B, grad_dt = dense_discretize.tustin_vjp(kept, grads)
    found = grad_A[0], grad_B[0], grad_C[0], data["step"] * grad_dt
    expected = tuple(data[f"dense_grad_{name}"] for name in ("A", "B", "C", "log_step"))
    assert_close(found, expected, 1e-10)


def test_a_published_hippo_matrix():
    data = load("cphy.npz")
    for N in (4, 8):
        A, B = hippo.legs(N)
        assert_close(A, data[f"hippo_{N}"], 1e-14)
        A_bar, _ = dense_discretize.tustin(A[None], B.reshape(1, N, 1), 1.0)
        assert_close(A_bar[0], data[f"bilinear_dt1_{N}"], 1e-13)


# ---------------------------------------------------------------------------------- the kernel


@pytest.mark.parametrize("L", [0, 1, 2, 3, 17, 64, 101, 256])
@pytest.mark.parametrize("real", [True, False])
def test_the_kernel_is_made_of_powers(rng, real, L):
    for p, m in [(1, 1), (2, 3), (0, 2), (2, 0)]:
        A, B, C, *_ = dense(rng, 1, 2, 5, p, m, 1, real=real)
        K, kept = dense_convolve.kernel_fwd(A, B, C, L)
        assert K.shape == (2, m, p, L)
        for l in range(L):
            assert_close(K[..., l], C @ np.linalg.matrix_power(A, l) @ B, 1e-11, scale=K)
        g = cotangents(rng, K)
        found = dense_convolve.kernel_vjp(kept, g)
        assert found[3] is None
        if L < 20:
            expected = reference.dense_kernel.kernel_vjp(A, B, C, g)
            assert_close(found[:3], projected(expected, (A, B, C)), 1e-12)


def test_a_longer_kernel_begins_with_the_shorter_one(rng):
    A, B, C, *_ = dense(rng, 1, 1, 6, 1, 1, 1, dtype=np.float32)
    K = dense_convolve.kernel(A, B, C, 1000)
    assert K.dtype == np.float32
    exact = dense_convolve.kernel(*double((A, B, C)), 1000)
    np.testing.assert_array_equal(K, exact.astype(np.float32))  # rounded once
    for L in (1, 7, 64, 999):
        assert_close(dense_convolve.kernel(*double((A, B, C)), L), exact[..., :L], 1e-13)


# ----------------------------------------------------------------------------------- the views


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("L", [0, 1, 2, 17, 64, 65, 131])
def test_views_agree(rng, L, real):
    for batch, H, N, p, m in [(1, 1, 1, 1, 1), (3, 2, 5, 2, 3), (2, 3, 4, 0, 2), (2, 1, 4, 2, 0)]:
        for given in (True, False):
            args = dense(rng, batch, H, N, p, m, L, real=real, x0=given, D=given)
            expected = reference.dense_scan.scan(*args)
            g = cotangents(rng, expected)
            # Each cotangent alone, too: a part that is missing must not hide behind the other.
            zeros = tuple(np.zeros_like(a) for a in g)
            pairs = [(g, g), ((g[0], None), (g[0], zeros[1])), ((None, g[1]), (zeros[0], g[1]))]
            grads = [reference.dense_scan.scan_vjp(*args, *full) for _, full in pairs]
            for view in VIEWS:
                out, kept = dense_ssm.apply_fwd(*args, view=view)
                assert [a.dtype for a in out] == [a.dtype for a in expected], view
                assert_close(out, expected, 1e-12, names=(view, view))
                for (pair, _), slow in zip(pairs, grads):
                    found = dense_ssm.apply_vjp(kept, pair)
                    slow = projected(slow, args)
                    slow = tuple(None if a is None else s for s, a in zip(slow, args))
                    assert_close(found, slow, 2e-12, scale=slow, names=NAMES)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("wide", [True, False])
def test_single_precision(rng, wide, view):
    """Within the roundings that 131 steps of a system of radius 0.9 collect; in is out."""
    args = dense(rng, 3, 2, 5, 2, 3, 131, dtype=np.float32, radius=0.9)
    if wide:  # parameters in double precision beside signals in single
        args = (*(cast(a, np.float64) for a in args[:4]), *args[4:])
    out, kept = dense_ssm.apply_fwd(*args, view=view)
    exact, kept_exact = dense_scan.scan_fwd(*double(args))
    assert [a.dtype for a in out] == [np.float32, np.float32]
    assert_close(out, exact, 64 * 2**-24)
    g = cotangents(rng, out)
    found = dense_ssm.apply_vjp(kept, g)
    assert [a.dtype for a in found] == [a.dtype for a in args]
    assert_close(found, dense_scan.scan_vjp(kept_exact, double(g)), 128 * 2**-24, names=NAMES)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, layout, view):
    args = dense(rng, 2, 2, 3, 2, 1, 70)
    out, kept = dense_ssm.apply_fwd(*args, view=view)
    relaid = tuple(LAYOUTS[layout](a) for a in args)
    before = [a.copy() for a in relaid]
    other, kept_other = dense_ssm.apply_fwd(*relaid, view=view)
    assert_close(other, out, 0)
    g = cotangents(rng, out)
    relaid_g = tuple(LAYOUTS[layout](a) for a in g)
    assert_close(dense_ssm.apply_vjp(kept_other, relaid_g), dense_ssm.apply_vjp(kept, g), 0)
    for a, b in zip(relaid, before):
        np.testing.assert_array_equal(a, b)  # ops are pure


def test_many_states_on_threads(rng):
    """Enough work for the parallel kernels, and a batch that the tasks do not divide evenly."""
    args = dense(rng, 11, 2, 12, 1, 1, 700, radius=0.99)
    assert dense_scan.PARALLEL_FROM <= 11 * 2 * 12 * 12 * 700
    out, kept = dense_scan.scan_fwd(*args)
    other, kept_other = dense_ssm.apply_fwd(*args, view="convolution")
    assert_close(other, out, 1e-12)
    g = cotangents(rng, out)
    assert_close(
        dense_convolve.convolve_vjp(kept_other.of_view, g), dense_scan.scan_vjp(kept, g), 1e-11
    )


@pytest.mark.parametrize("view", VIEWS)
def test_cutting_changes_nothing(rng, view):
    """States go forward, their gradients back; empty pieces among them. And y(L)[:k] is y(k)."""
    *weights, u, x0 = dense(rng, 2, 2, 4, 2, 1, 150)
    (y, x_last), kept = dense_ssm.apply_fwd(*weights, u, x0, view=view)
    g, g_last = cotangents(rng, (y, x_last))
    whole = dense_ssm.apply_vjp(kept, (g, g_last))
    x, pieces, outputs = x0, [], []
    for start, stop in pairwise([0, 0, 1, 65, 65, 150, 150]):
        (out, x), kept = dense_ssm.apply_fwd(*weights, u[..., start:stop], x, view=view)
        outputs.append(out)
        pieces.append((kept, slice(start, stop)))
        alone, _ = dense_ssm.apply(*weights, u[..., :stop], x0, view=view)
        assert_close(alone, y[..., :stop], 1e-13, scale=y)
    assert_close((np.concatenate(outputs, axis=-1), x), (y, x_last), 1e-12)
    total, grad_u, grad_x = [0, 0, 0, 0], [], g_last
    for kept, piece in reversed(pieces):
        *grads, for_u, grad_x = dense_ssm.apply_vjp(kept, (g[..., piece], grad_x))
        total = [t + a for t, a in zip(total, grads)]
        grad_u.insert(0, for_u)
    assert_close((*total, np.concatenate(grad_u, axis=-1), grad_x), whole, 1e-12, names=NAMES)


@pytest.mark.parametrize("view", VIEWS)
def test_diagonal_matrices_are_the_diagonal_operator(rng, view):
    A, B, C, D, u, x0 = system(rng, 2, 3, 4, 40, real=False)
    full = np.eye(4) * A[:, None], B[..., None], C[:, None], D[:, None, None], u[:, :, None], x0
    y, x_last = dense_ssm.apply(*full, view=view)
    expected = reference.scan.scan(A, B, C, D, u, x0, real=False)
    assert_close((y[:, :, 0], x_last), expected, 1e-12)


def test_the_last_state_alone(rng):
    A, B, _, _, u, x0 = args = dense(rng, 3, 2, 4, 2, 0, 77, D=False)
    out, kept = dense_terminal_state.terminal_state_fwd(A, B, u, x0)
    (_, x_last), kept_scan = dense_scan.scan_fwd(*args)
    assert_close(out, x_last, 1e-13)
    g = cotangents(rng, out)
    expected = dense_scan.scan_vjp(kept_scan, (None, g))
    found = dense_terminal_state.terminal_state_vjp(kept, g)
    assert_close(found, tuple(expected[i] for i in (0, 1, 4, 5)), 1e-12)


def test_a_system_that_grows_beyond_the_range_is_refused(rng):
    """1e3 a step, 200 steps: NaN at the end, as the recurrence itself; no warning."""
    args = dense(rng, 1, 1, 3, 1, 1, 200, radius=1e3)
    for view in ("scan", "chunked"):
        with pytest.raises(ValueError, match=r"y would be NaN .* range of float64"):
            dense_ssm.apply_fwd(*args, view=view)
    with pytest.raises(ValueError, match="K holds"):  # a transform would spread it over all samples
        dense_ssm.apply(*args, view="convolution")


@pytest.mark.parametrize(("N", "L"), [(8, 10), (8, 2000), (64, 64), (64, 4000)])
def test_auto_is_one_of_the_views(rng, N, L):
    args = dense(rng, 1, 1, N, 1, 1, L, radius=0.9)
    view = dense_ssm.apply_fwd(*args)[1].view
    assert view == ("chunked" if L >= 1000 else "scan")
    assert_close(dense_ssm.apply(*args), dense_ssm.apply(*args, view=view), 0)


# ------------------------------------------------------------------------------------ bad input

GOOD = {
    "A_bar": np.eye(3)[None],
    "B_bar": np.ones((1, 3, 2)),
    "C": np.ones((1, 1, 3)),
    "D": np.ones((1, 1, 2)),
    "u": np.ones((2, 1, 2, 5)),
    "x0": np.ones((2, 1, 3)),
}
WRONG = [
    ({"A_bar": np.ones((1, 3, 2))}, r"A_bar has shape \(1, 3, 2\); it must be \(1, 3, 3\)"),
    ({"A_bar": np.ones((3, 3))}, "A_bar has shape"),
    ({"A_bar": np.ones((2, 3, 3))}, "A_bar has shape"),
    ({"A_bar": np.full((1, 3, 3), np.nan)}, "A_bar holds nan"),
    ({"B_bar": np.ones((1, 3, 1))}, r"B_bar has shape \(1, 3, 1\); it must be \(1, 3, 2\)"),
    ({"C": np.ones((1, 1, 2))}, "C has shape"),
    ({"D": np.ones((1, 2, 2))}, "D has shape"),
    ({"u": np.ones((2, 1, 5))}, "u has shape"),
    ({"u": np.ones((2, 1, 2, 5), int)}, "u has dtype int64"),
    ({"x0": np.ones((2, 3))}, "x0 has shape"),
    ({"C": np.ones((1, 1, 3), np.float32)}, "must have one precision"),
    ({name: np.float32(GOOD[name]) for name in ("A_bar", "B_bar", "C", "D")}, "one precision"),
]


@pytest.mark.parametrize("view", VIEWS)
def test_bad_input(view):
    assert dense_ssm.apply(**GOOD, view=view)[0].shape == (2, 1, 1, 5)
    for changes, message in WRONG:
        with pytest.raises(ValueError, match=message):
            dense_ssm.apply(**{**GOOD, **changes}, view=view)
    _, kept = dense_ssm.apply_fwd(**GOOD, view=view)
    for name, pair in [
        ("grad_y", (np.ones((2, 1, 1, 4)), None)),
        ("grad_x_last", (None, np.ones((2, 3)))),
        ("grad_out", np.ones(3)),
    ]:
        with pytest.raises(ValueError, match=name):
            dense_ssm.apply_vjp(kept, pair)


def test_other_bad_input():
    A, B, C = GOOD["A_bar"], GOOD["B_bar"], GOOD["C"]
    with pytest.raises(ValueError, match="view is 'fast'"):
        dense_ssm.apply(**GOOD, view="fast")
    for changes, message in [
        ((A, B, C, -1), "length is -1"),
        ((A, B, C, 2.5), "length is 2.5"),
        ((A, B[:, :2], C, 4), "B_bar has shape"),
        ((A, B, C[0], 4), "C has shape"),
        ((A[0], B, C, 4), "A_bar has shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            dense_convolve.kernel(*changes)
    for op in (dense_discretize.tustin, dense_discretize.zoh):
        for changes, message in [
            ((A, B, 0.0), "dt is 0.0; it must be positive"),
            ((A, B, 1j), "dt has dtype complex128; it must be real"),
            ((A, B, np.ones(2)), "dt has shape"),
            ((A[:, :2], B, 0.1), "A has shape"),
            ((A[0], B, 0.1), "A has shape"),
            ((A, B[:, :1], 0.1), "B has shape"),
            ((1e308 * A, B, 10.0), "dt A or dt B lies beyond the range"),
            ((A, np.float32(B), 0.1), "must have one precision"),
        ]:
            with pytest.raises(ValueError, match=message):
                op(*changes)
    with pytest.raises(ValueError, match=r"exp\(dt A\) lies beyond the range"):
        dense_discretize.zoh(1e5 * A, B, 0.1)
    with pytest.raises(ValueError, match=r"exp\(dt A\) lies beyond the range"):
        dense_discretize.zoh(np.float32(100 * A), np.float32(B), 1.0)
