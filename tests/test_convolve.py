"""Causal convolution, direct and by transforms: equal to the reference, forward and backward."""

import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, cast, complex_normal, cotangents, double, error

from ssm_manual import reference
from ssm_manual._validate import unbroadcast
from ssm_manual.ops import causal, convolve

PRECISIONS = [np.float32, np.float64]
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
METHODS = ["direct", "fft", "auto"]
LENGTHS = [1, 2, 3, 17, 64, 65, 97, 1047]
FIELDS = ["real", "complex", "real u, complex K", "complex u, real K"]


def arguments(rng, u_shape, K_shape, field="real", dtype=np.float64):
    u = (
        complex_normal(rng, *u_shape)
        if field.startswith("complex")
        else rng.standard_normal(u_shape)
    )
    K = complex_normal(rng, *K_shape) if field in FIELDS[1:3] else rng.standard_normal(K_shape)
    return cast(u, dtype), cast(K, dtype)


def tolerance(L, dtype):
    """Relative to the largest value of the result.

    A direct sum of L errs by at most L units, by their root as a rule; transforms err by a few
    units a doubling. The reference sums L terms, too.
    """
    return 8 * np.sqrt(L + 8) * UNIT[dtype]


def expected_gradients(u, K, g):
    """The defining correlations, by their sums; O(L^2) but in one matrix each."""
    L, M = u.shape[-1], K.shape[-1]
    grad_u, grad_K = np.zeros(g.shape, complex), np.zeros((*g.shape[:-1], M), complex)
    for j in range(min(L, M)):
        grad_u[..., : L - j] += np.conj(K[..., j, None]) * g[..., j:]
        grad_K[..., j] = np.sum(g[..., j:] * np.conj(u[..., : L - j]), axis=-1)
    return unbroadcast(grad_u, u), unbroadcast(grad_K, K)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("L", LENGTHS)
def test_equals_the_sums(rng, L, method, field, dtype):
    for batch, H in [(1, 1), (3, 2)] if L < 1000 else [(1, 2)]:
        u, K = arguments(rng, (batch, H, L), (H, L), field, dtype)
        y, kept = convolve.causal_fwd(u, K, method=method)
        assert y.dtype == np.result_type(u, K)
        assert y.shape == u.shape
        if L < 100:  # the reference is O(L^2) in Python
            assert error(y, reference.convolve.causal(*double((u, K)))) <= tolerance(L, dtype)
        else:
            full = [[np.convolve(a, k)[:L] for a, k in zip(row, K)] for row in u.astype(complex)]
            assert error(y, np.array(full)) <= tolerance(L, dtype)
        g = cotangents(rng, y)
        found = convolve.causal_vjp(kept, g)
        assert [a.dtype for a in found] == [u.dtype, K.dtype]
        assert_close(found, expected_gradients(*double((u, K, g))), 4 * tolerance(L, dtype))


def test_the_sums_of_the_reference_gradient(rng):
    """`expected_gradients` above is the reference's loop, faster."""
    u, K = arguments(rng, (2, 3, 17), (2, 3, 20), "complex")
    g = complex_normal(rng, 2, 3, 17)
    assert_close(expected_gradients(u, K, g), reference.convolve.causal_vjp(u, K, g), 1e-14)


@pytest.mark.parametrize("method", ["direct", "fft"])
@pytest.mark.parametrize(
    "shapes", [((2, 3, 21), (1, 7)), ((9,), (4, 30)), ((5, 1, 40), (3, 40)), ((1, 6), (1,))]
)
def test_broadcast_axes_and_kernels_shorter_or_longer(rng, shapes, method):
    for field in FIELDS:
        u, K = arguments(rng, *shapes, field)
        y, kept = convolve.causal_fwd(u, K, method=method)
        assert_close(y, reference.convolve.causal(u, K), 1e-14)
        g = cotangents(rng, y)
        assert_close(convolve.causal_vjp(kept, g), expected_gradients(u, K, g), 1e-14)
        if K.shape[-1] > u.shape[-1]:
            assert not np.any(convolve.causal_vjp(kept, g)[1][..., u.shape[-1] :])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ["direct", "fft"])
def test_any_memory_layout(rng, method, layout):
    u, K = arguments(rng, (3, 2, 40), (2, 40))
    y, kept = convolve.causal_fwd(u, K, method=method)
    other, kept_other = convolve.causal_fwd(LAYOUTS[layout](u), LAYOUTS[layout](K), method=method)
    assert_close(other, y, 1e-15)
    g = cotangents(rng, y)
    assert_close(
        convolve.causal_vjp(kept_other, LAYOUTS[layout](g)), convolve.causal_vjp(kept, g), 1e-15
    )


@pytest.mark.parametrize("method", ["direct", "fft"])
@pytest.mark.parametrize("L", [2, 17, 64, 500])
def test_causality(rng, method, L):
    """The output up to t does not hear what comes after; nothing wraps around."""
    u, K = arguments(rng, (L,), (L,))
    cut = L // 2
    later = u.copy()
    later[cut:] += 1e3 * rng.standard_normal(L - cut)
    y, other = (convolve.causal(a, K, method=method) for a in (u, later))
    # Transforms round relative to the largest output of the row.
    assert np.max(np.abs(y - other)[:cut]) <= (
        0 if method == "direct" else 1e-15 * (L + 4) * np.max(np.abs(other))
    )
    assert np.all(y[cut] != other[cut])
    impulse = np.zeros(L)
    impulse[-1] = 1
    tail = convolve.causal(impulse, K, method=method)
    assert_close(tail[:-1], np.zeros(L - 1), 1e-15 * L, scale=np.max(np.abs(K)))
    assert abs(tail[-1] - K[0]) < 1e-14


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_time_invariance_and_linearity(rng, method):
    u, K = arguments(rng, (300,), (300,), "complex")
    v = complex_normal(rng, 300)
    late = np.concatenate([np.zeros(41), u[:-41]])
    y = convolve.causal(u, K, method=method)
    shifted = convolve.causal(late, K, method=method)
    assert_close(shifted[41:], y[:-41], 1e-14)
    mixed = convolve.causal(2j * u - 3 * v, K, method=method)
    assert_close(mixed, 2j * y - 3 * convolve.causal(v, K, method=method), 1e-13)
    assert_close(convolve.causal(K, u, method=method), y, 1e-13)  # it commutes


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shapes", [((0,), (3,)), ((2, 3, 0), (3, 5)), ((0, 3, 8), (3, 8))])
def test_nothing_in_nothing_out(shapes, method):
    u, K = (np.ones(shape) for shape in shapes)
    y, kept = convolve.causal_fwd(u, K, method=method)
    assert y.shape == u.shape
    grad_u, grad_K = convolve.causal_vjp(kept, y)
    assert grad_u.shape == u.shape
    np.testing.assert_array_equal(grad_K, np.zeros(K.shape))


def test_an_impulse_returns_the_kernel(rng):
    K = complex_normal(rng, 2, 200)
    impulse = np.zeros(200)
    impulse[0] = 1
    for method in ("direct", "fft"):
        assert_close(convolve.causal(impulse, K, method=method), K, 1e-14)


def test_auto_is_one_of_the_two(rng):
    for L in (96, 97):
        u, K = arguments(rng, (L,), (L,))
        method = "direct" if L <= causal.DIRECT_UP_TO else "fft"
        np.testing.assert_array_equal(convolve.causal(u, K), convolve.causal(u, K, method=method))
