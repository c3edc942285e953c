"""The recurrence and its backward pass: equal to the reference loops, whole and truncated."""

import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, complex_normal, cotangents, double, error, system

from ssm_manual import reference
from ssm_manual.ops import scan, terminal_state

LENGTHS = [0, 1, 2, 3, 17, 64, 65, 1047]
PRECISIONS = [np.float32, np.float64]
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
NAMES = ("A_bar", "B_bar", "C", "D", "u", "x0")


def tolerance(L, dtype):
    """Relative to the largest value that a result would have if none of its terms cancelled.

    A step errs by some four units of the state, which the next ones forget at the rate of the
    poles: at most L steps and 1/(1 - |A_bar|) = 256 of them count, whose errors are independent and
    add like the root. The readout and the sums over time add a few.
    """
    return 16 * np.sqrt(min(L, 256) + 4) * UNIT[dtype]


def bptt(A_bar, B_bar, C, D, u, x0, grad_y, grad_x_last, *, real, horizon=None):
    """The reference's gradients; for long sequences with its inner sum as a recursion."""
    if u.shape[-1] <= 100 or horizon is not None:
        return reference.scan.scan_vjp(
            A_bar, B_bar, C, D, u, x0, grad_y, grad_x_last, real=real, horizon=horizon
        )
    gain, L = (2 if real else 1), u.shape[-1]
    x = [np.zeros(grad_x_last.shape, complex) if x0 is None else x0.astype(complex)]
    for t in range(L):
        x.append(A_bar * x[-1] + B_bar * u[..., t, None])
    grads, lam = [0, 0, 0], grad_x_last
    grad_u = np.zeros(u.shape, complex)
    for t in range(L - 1, -1, -1):
        e = grad_y[..., t, None]
        lam = lam + gain * np.conj(C) * e
        grads[0] += np.sum(lam * np.conj(x[t]), axis=0)
        grads[1] += np.sum(lam * np.conj(u[..., t, None]), axis=0)
        grads[2] += np.sum(gain * e * np.conj(x[t + 1]), axis=0)
        grad_u[..., t] = np.sum(np.conj(B_bar) * lam, axis=-1)
        lam = np.conj(A_bar) * lam
    grad_D = np.sum(grad_y * np.conj(u), axis=(0, 2))
    if D is not None:
        grad_u += np.conj(D)[:, None] * grad_y
    return *grads, grad_D, grad_u, lam


def projected(grads, args):
    """Gradients as the arguments take them: real parts for real ones, None where left out."""
    return tuple(
        None if a is None else g if a.dtype.kind == "c" else np.real(g) for g, a in zip(grads, args)
    )


def absolute(args):
    return tuple(None if a is None else np.abs(a) for a in args)


def compare(rng, args, real, dtype, horizon=None, L=None):
    """Value and gradients of one call against the reference."""
    L = args[4].shape[-1] if L is None else L
    (y, x_last), kept = scan.scan_fwd(*args, real=real, horizon=horizon)
    wide = double(args)
    sizes = absolute(wide)
    assert y.dtype == (dtype if real else x_last.dtype)
    assert x_last.dtype == args[0].dtype
    expected = reference.scan.scan(*wide, real=real)
    scale = reference.scan.scan(*sizes, real=real)
    assert_close((y, x_last), expected, tolerance(L, dtype), scale=scale)
    g = cotangents(rng, (y, x_last))
    found = scan.scan_vjp(kept, g)
    expected = projected(bptt(*wide, *double(g), real=real, horizon=horizon), args)
    for a, argument in zip(found, args):
        assert (a is None) == (argument is None)
        assert a is None or (a.dtype == argument.dtype and a.shape == argument.shape)
    scale = bptt(*sizes, *absolute(g), real=real, horizon=horizon)
    assert_close(found, expected, 2 * tolerance(L, dtype), scale=scale, names=NAMES)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("N", [1, 4, 7])
@pytest.mark.parametrize("L", LENGTHS)
def test_equals_the_reference(rng, L, N, real, dtype):
    for batch, H in [(1, 1), (3, 1), (1, 2), (3, 2)] if L < 50 else [(1, 1), (3, 2)]:
        for x0, D in [(True, True), (False, False)]:
            compare(
                rng, system(rng, batch, H, N, L, real=real, x0=x0, D=D, dtype=dtype), real, dtype
            )


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("real", [True, False])
def test_on_threads(rng, real, dtype):
    """Enough work for the parallel kernels."""
    args = system(rng, 3, 4, 9, 1047, real=real, dtype=dtype)
    assert scan.PARALLEL_FROM < 3 * 4 * 9 * 1047
    compare(rng, args, real, dtype)


@pytest.mark.parametrize("L", [0, 1, 3, 17, 64, 65, 200])
@pytest.mark.parametrize("k", [1, 2, 5, "L", "L + 3"])
def test_horizon_equals_the_reference_loop(rng, k, L):
    """No difference quotient can check a truncated direction: the sum as it is written does."""
    k = max(1, {"L": L, "L + 3": L + 3}.get(k, k))
    for real in (True, False):
        args = system(rng, 2, 2, 3, L, real=real)
        compare(rng, args, real, np.float64, horizon=k, L=max(L, 256))


def test_horizon_in_float32(rng):
    compare(rng, system(rng, 2, 2, 4, 130, dtype=np.float32), True, np.float32, horizon=5)


@pytest.mark.parametrize("L", [1, 17, 65, 1047])
def test_a_horizon_of_the_whole_length_is_the_gradient(rng, L):
    args = system(rng, 2, 2, 3, L, low=0.99)  # the last step's voice must reach the first
    out, kept = scan.scan_fwd(*args)
    g = cotangents(rng, out)
    whole = scan.scan_vjp(kept, g)
    for k in (L, L + 1, 10**12):
        assert_close(scan.scan_vjp(scan.scan_fwd(*args, horizon=k)[1], g), whole, 0)
    if L > 1:
        shorter = scan.scan_vjp(scan.scan_fwd(*args, horizon=L - 1)[1], g)
        assert error(shorter[5], whole[5]) > 1e-9  # the first step no longer hears the last


@pytest.mark.parametrize("w", [1, 5, 64, 100])
def test_windows_are_pieces_whose_state_is_passed_on_without_its_gradient(rng, w):
    """Against the definition: a loop in which lambda is set to zero at every window's edge."""
    L = 130
    args = system(rng, 1, 1, 3, L, real=False)
    A, B, C, D, u, x0 = args
    g = complex_normal(rng, 1, 1, L)
    x, total, grad_u = x0, [0, 0, 0, 0], []
    for start in range(0, L, w):
        (_, x), kept = scan.scan_fwd(A, B, C, D, u[..., start : start + w], x, real=False)
        *grads, for_u, _ = scan.scan_vjp(kept, (g[..., start : start + w], None))
        total = [t + a for t, a in zip(total, grads)]
        grad_u.append(for_u)
    states, lam = [x0[0, 0]], np.zeros(3, complex)
    for t in range(L):
        states.append(A[0] * states[-1] + B[0] * u[0, 0, t])
    expected = [0, 0, 0, 0]
    expected_u = np.zeros(L, complex)
    for t in range(L - 1, -1, -1):
        after = np.zeros(3) if (t + 1) % w == 0 else np.conj(A[0]) * lam
        lam = np.conj(C[0]) * g[0, 0, t] + after
        terms = (
            lam * np.conj(states[t]),
            lam * np.conj(u[0, 0, t]),
            g[0, 0, t] * np.conj(states[t + 1]),
        )
        expected = [a + b for a, b in zip(expected, (*terms, g[0, 0, t] * np.conj(u[0, 0, t])))]
        expected_u[t] = np.sum(np.conj(B[0]) * lam) + np.conj(D[0]) * g[0, 0, t]
    for found, e in zip(total, expected):
        assert_close(np.ravel(found), np.ravel(e), 1e-12)
    assert_close(np.concatenate(grad_u, axis=-1)[0, 0], expected_u, 1e-12)


def test_horizon_one_is_window_one(rng):
    args = system(rng, 1, 2, 3, 40, x0=False)
    out, kept = scan.scan_fwd(*args, horizon=1)
    g = cotangents(rng, out)
    one_step = scan.scan_vjp(kept, (g[0], None))
    x, total = None, 0
    for t in range(40):
        (_, x), kept = scan.scan_fwd(*args[:4], args[4][..., t : t + 1], x)
        total = total + np.array(scan.scan_vjp(kept, (g[0][..., t : t + 1], None))[0])
    assert_close(one_step[0], total, 1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, layout):
    args = system(rng, 3, 2, 4, 70)
    out, kept = scan.scan_fwd(*args)
    relaid = tuple(LAYOUTS[layout](a) for a in args)
    before = [a.copy() for a in relaid]
    other, kept_other = scan.scan_fwd(*relaid)
    assert_close(other, out, 0)
    g = cotangents(rng, out)
    g_relaid = tuple(LAYOUTS[layout](a) for a in g)
    assert_close(scan.scan_vjp(kept_other, g_relaid), scan.scan_vjp(kept, g), 0)
    for a, b in zip(relaid, before):
        np.testing.assert_array_equal(a, b)  # ops are pure


def test_weights_shared_by_channels_sum_their_gradients(rng):
    A, B, C, _, u, x0 = system(rng, 2, 3, 4, 30)
    A, B, D = A[0], B[:1], np.array(0.3)
    out, kept = scan.scan_fwd(A, B, C, D, u, x0)
    g = cotangents(rng, out)
    found = scan.scan_vjp(kept, g)
    full = (np.tile(A, (3, 1)), np.tile(B, (3, 1)), C, np.full(3, D), u, x0)
    wide = scan.scan_vjp(scan.scan_fwd(*full)[1], g)
    expected = (
        wide[0].sum(axis=0),
        wide[1].sum(axis=0, keepdims=True),
        wide[2],
        wide[3].sum(),
        *wide[4:],
    )
    assert_close(found, expected, 1e-13, names=NAMES)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("L", LENGTHS)
def test_terminal_state(rng, L, dtype):
    """x_last alone, by its weighted sum: the scan's, with the scan's gradients."""
    for real, x0 in [(True, True), (False, False)]:
        low = min(0.99, 0.5 ** (2 / (L + 1)))  # a trace of x0 must be left after L steps
        A, B, C, _, u, x0 = system(rng, 3, 2, 4, L, real=real, x0=x0, dtype=dtype, low=low)
        out, kept = terminal_state.terminal_state_fwd(A, B, u, x0)
        (_, x_last), kept_scan = scan.scan_fwd(*double((A, B, C, None, u, x0)), real=real)
        assert out.dtype == A.dtype
        # A_bar^L is exp(L log A_bar): of |log A_bar| up to pi a rounding is multiplied by L.
        allowed = 4 * tolerance(L, dtype) + 4 * L * UNIT[dtype]
        assert_close(out, x_last, allowed)
        g = cotangents(rng, out)
        found = terminal_state.terminal_state_vjp(kept, g)
        expected = scan.scan_vjp(kept_scan, (None, g.astype(complex)))
        assert_close(found, tuple(expected[i] for i in (0, 1, 4, 5)), allowed)
