"""One operator, several views: the same output, last state and gradients, whole or in pieces."""

from itertools import pairwise

import numpy as np
import pytest
from conftest import assert_close, complex_normal, cotangents, error, system

from ssm_manual.ops import chunked, scan, ssm

NAMES = ("A_bar", "B_bar", "C", "D", "u", "x0")
VIEWS = [view for view in ssm.VIEWS if view != "auto"]


@pytest.mark.parametrize("view", [v for v in ssm.VIEWS if v != "scan"])
@pytest.mark.parametrize("x0", [True, False])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("L", [0, 1, 2, 17, 96, 97, 1047])
def test_views_agree(rng, L, real, x0, view):
    for batch, H, N in [(1, 1, 1), (3, 2, 4)]:
        args = system(rng, batch, H, N, L, real=real, x0=x0)
        out, kept = scan.scan_fwd(*args, real=real)
        other, kept_other = ssm.apply_fwd(*args, view=view, real=real)
        assert_close(other, out, 1e-12, names=("y", "x_last"))
        assert [a.dtype for a in other] == [a.dtype for a in out]
        g = cotangents(rng, out)
        # Each cotangent alone, too: a part that is missing in one view must not hide behind the
        # other.
        for pair in (g, (g[0], None), (None, g[1])):
            grads, expected = ssm.apply_vjp(kept_other, pair), scan.scan_vjp(kept, pair)
            assert_close(grads, expected, 1e-12, names=NAMES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("view", VIEWS)
def test_precision_in_is_precision_out(rng, view, dtype):
    args = system(rng, 2, 2, 4, 200, dtype=dtype)
    (y, x_last), kept = ssm.apply_fwd(*args, view=view)
    assert y.dtype == dtype
    assert x_last.dtype == args[0].dtype
    for grad, argument in zip(ssm.apply_vjp(kept, cotangents(rng, (y, x_last))), args):
        assert grad.dtype == argument.dtype


@pytest.mark.parametrize("view", VIEWS)
def test_float32_views_agree_to_float32(rng, view):
    """Steps err by a few units of 2^-24, are remembered for 256 steps and add like the root."""
    args = system(rng, 2, 2, 4, 1047, dtype=np.float32)
    wide = tuple(a.astype(np.result_type(a, np.float64)) for a in args)
    out, kept = ssm.apply_fwd(*args, view=view)
    exact, kept_exact = scan.scan_fwd(*wide)
    tolerance = 16 * 16 * 2**-24
    assert_close(out, exact, tolerance)
    g = cotangents(rng, out)
    expected = scan.scan_vjp(kept_exact, tuple(a.astype(np.result_type(a, np.float64)) for a in g))
    assert_close(ssm.apply_vjp(kept, g), expected, 2 * tolerance, names=NAMES)


@pytest.mark.parametrize("L", [1, 17, 64, 130, 300])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("view", VIEWS)
def test_cutting_changes_nothing(rng, view, real, L):
    """Random cuts, empty pieces among them: states go forward, their gradients back."""
    args = system(rng, 2, 2, 3, L, real=real)
    *weights, u, x0 = args
    (y, x_last), kept = ssm.apply_fwd(*args, view="scan", real=real)
    g, g_last = cotangents(rng, (y, x_last))
    whole = ssm.apply_vjp(kept, (g, g_last))
    for _ in range(4):
        cuts = [0, 0, *np.sort(rng.integers(0, L + 1, 4)), L, L]
        pieces, outputs, x = [], [], x0
        for start, stop in pairwise(cuts):
            (out, x), kept = ssm.apply_fwd(*weights, u[..., start:stop], x, view=view, real=real)
            pieces.append((kept, slice(start, stop)))
            outputs.append(out)
        assert_close(np.concatenate(outputs, axis=-1), y, 1e-12)
        assert_close(x, x_last, 1e-12)
        total, grad_u, grad_x = [0, 0, 0, 0], [], g_last
        for kept, piece in reversed(pieces):
            *grads, for_u, grad_x = ssm.apply_vjp(kept, (g[..., piece], grad_x))
            total = [t + a for t, a in zip(total, grads)]
            grad_u.insert(0, for_u)
        found = (*total, np.concatenate(grad_u, axis=-1), grad_x)
        assert_close(found, whole, 1e-12, names=NAMES)


@pytest.mark.parametrize("view", VIEWS)
def test_one_sample_at_a_time_equals_the_whole(rng, view):
    *weights, u, x0 = system(rng, 1, 2, 4, 50)
    y, x_last = ssm.apply(*weights, u, x0, view=view)
    x, samples = x0, []
    for t in range(50):
        out, x = ssm.apply(*weights, u[..., t : t + 1], x, view=view)
        samples.append(out)
    assert_close(np.concatenate(samples, axis=-1), y, 1e-13)
    assert_close(x, x_last, 1e-13)


@pytest.mark.parametrize("view", VIEWS)
def test_an_empty_sequence_passes_its_state_on(rng, view):
    args = system(rng, 2, 2, 3, 0)
    (y, x_last), kept = ssm.apply_fwd(*args, view=view)
    assert y.shape == (2, 2, 0)
    np.testing.assert_array_equal(x_last, args[5])
    g = complex_normal(rng, 2, 2, 3)
    grads = ssm.apply_vjp(kept, (np.zeros((2, 2, 0)), g))
    np.testing.assert_array_equal(grads[5], g)
    assert not any(np.any(a) for a in grads[:4])


# ---------------------------------------------------------------------------- what the operator is


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("L", [1, 2, 17, 1047])
def test_one_pole_on_a_step_is_a_geometric_series(view, L):
    A, B, C, D = 0.95 * np.exp(0.2j), 0.5 - 1j, 2 + 1j, 0.25
    y, x_last = ssm.apply([[A]], [[B]], [[C]], D, np.ones((1, 1, L)), view=view)
    series = (1 - A ** np.arange(1, L + 1)) / (1 - A)
    assert_close(y[0, 0], 2 * (C * B * series).real + D, 1e-12)
    assert abs(x_last[0, 0, 0] - B * series[-1]) < 1e-12


@pytest.mark.parametrize("view", VIEWS)
def test_the_free_response_is_a_damped_oscillation(view):
    """No input: y_t = 2 Re(C A_bar^(t+1) x0)."""
    A, x0 = 0.99 * np.exp(0.1j), 1 - 2j
    y, x_last = ssm.apply([[A]], [[1.0]], [[1.0]], None, np.zeros((1, 1, 300)), [[[x0]]], view=view)
    assert_close(y[0, 0], 2 * (A ** np.arange(1, 301) * x0).real, 1e-12)
    assert abs(x_last[0, 0, 0] - A**300 * x0) < 1e-13


@pytest.mark.parametrize("view", VIEWS)
def test_causality(rng, view):
    *weights, u, x0 = system(rng, 2, 2, 3, 200)
    later = u.copy()
    later[..., 120:] += 1e3 * rng.standard_normal((2, 2, 80))
    y, other = (ssm.apply(*weights, a, x0, view=view)[0] for a in (u, later))
    allowed = 0 if view == "scan" else 1e-14 * np.max(np.abs(other))  # transforms round per row
    assert np.max(np.abs(y - other)[..., :120]) <= allowed
    assert np.all(np.abs(y - other)[..., 120] > 1e-3)


@pytest.mark.parametrize("view", VIEWS)
def test_time_invariance(rng, view):
    *weights, u, _ = system(rng, 1, 2, 3, 200, x0=False)
    late = np.concatenate([np.zeros((1, 2, 31)), u[..., :-31]], axis=-1)
    y, shifted = (ssm.apply(*weights, a, view=view)[0] for a in (u, late))
    assert_close(shifted[..., 31:], y[..., :-31], 1e-13)
    assert error(shifted[..., :31], np.zeros((1, 2, 31)), scale=1) < 1e-12


@pytest.mark.parametrize("view", VIEWS)
def test_linearity_in_input_and_state_together(rng, view):
    *weights, u, x0 = system(rng, 2, 2, 3, 150)
    *_, v, z0 = system(rng, 2, 2, 3, 150)
    first, second = (ssm.apply(*weights, *a, view=view) for a in ((u, x0), (v, z0)))
    mixed = ssm.apply(*weights, 2 * u - 3 * v, 2 * x0 - 3 * z0, view=view)
    assert_close(mixed, tuple(2 * a - 3 * b for a, b in zip(first, second)), 1e-12)


def test_complex_output_projects_onto_the_real_one(rng):
    """real=True is twice the real part of real=False, plus D u."""
    A, B, C, D, u, x0 = system(rng, 2, 2, 3, 60)
    y, x_last = scan.scan(A, B, C, D, u, x0)
    z, z_last = scan.scan(A, B, C, None, u, x0, real=False)
    assert_close(y, 2 * z.real + D[:, None] * u, 1e-13)
    assert_close(z_last, x_last, 0)


@pytest.mark.parametrize(
    ("batch", "L", "op"),
    [(1, 511, scan.scan), (7, 73, scan.scan), (1, 512, chunked.apply), (8, 64, chunked.apply)],
)
def test_auto_is_one_of_the_views(rng, batch, L, op):
    args = system(rng, batch, 8, 16, L)
    assert_close(ssm.apply(*args), op(*args), 0)
    few = system(rng, batch, 1, 2, L)  # too little work to prepare anything
    assert_close(ssm.apply(*few), scan.scan(*few), 0)
