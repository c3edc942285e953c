"""The kernel of a diagonal channel: equal to the reference and to the sum over its poles."""

import numpy as np
import pytest
from conftest import (
    LAYOUTS,
    assert_close,
    cast,
    complex_normal,
    cotangents,
    discrete_poles,
    double,
    error,
)

from ssm_manual import reference
from ssm_manual.ops import kernels, vandermonde

LENGTHS = [0, 1, 2, 3, 17, 64, 65, 1047]
PRECISIONS = [np.float32, np.float64]
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}


def arguments(rng, H, N, dtype=np.float64):
    A, B, C = discrete_poles(rng, H, N), complex_normal(rng, H, N), complex_normal(rng, H, N)
    return tuple(cast(a, dtype) for a in (A, B, C))


def tolerance(length, N, dtype):
    """t products of sqrt(5) units each and N sums, of weights of size about one."""
    return 8 * (length + N + 4) * UNIT[dtype]


def size(A, B, C):
    """What the modes would add up to if none cancelled: the scale of rounding."""
    return float(np.max(np.sum(np.abs(B * C), axis=-1)))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("N", [1, 4, 7])
@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_reference(rng, length, N, real, dtype):
    for H in (1, 2):
        args = arguments(rng, H, N, dtype)
        K = vandermonde.kernel(*args, length, real=real)
        expected = reference.vandermonde.kernel(*double(args), length, real=real)
        assert K.dtype == (dtype if real else args[0].dtype)
        assert K.shape == (H, length)
        assert error(K, expected, scale=2 * size(*args)) <= tolerance(length, N, dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_gradient_is_that_of_every_pole(rng, length, real, dtype):
    """Each mode has the single-pole gradient with the sum's cotangent; real output doubles it."""
    args = arguments(rng, 2, 4, dtype)
    K, kept = vandermonde.kernel_fwd(*args, length, real=real)
    g = cotangents(rng, K)
    found = vandermonde.kernel_vjp(kept, g)
    wide = np.broadcast_to((2 if real else 1) * g[:, None].astype(complex), (2, 4, length))
    expected = reference.kernels.generate_vjp(*double(args), length, wide)
    assert found[3] is None
    for a, e in zip(found, expected):
        assert a.dtype == args[0].dtype
        assert error(a, e) <= tolerance(length, 4, dtype)


@pytest.mark.parametrize("real", [True, False])
def test_broadcasting_sums_gradients(rng, real):
    A, B, C = discrete_poles(rng, 4), complex_normal(rng, 1, 4), complex_normal(rng, 2, 3, 4)
    K, kept = vandermonde.kernel_fwd(A, B, C, 9, real=real)
    g = cotangents(rng, K)
    full = [np.broadcast_to(a, (2, 3, 4)).copy() for a in (A, B, C)]
    wide = vandermonde.kernel_vjp(vandermonde.kernel_fwd(*full, 9, real=real)[1], g)
    expected = wide[0].sum(axis=(0, 1)), wide[1].sum(axis=0).sum(axis=0)[None], wide[2]
    assert K.shape == (2, 3, 9)
    assert_close(vandermonde.kernel_vjp(kept, g)[:3], expected, 1e-14)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, layout):
    args = arguments(rng, 3, 4)
    plain, kept = vandermonde.kernel_fwd(*args, 33)
    np.testing.assert_array_equal(
        vandermonde.kernel(*(LAYOUTS[layout](a) for a in args), 33), plain
    )
    g = cotangents(rng, plain)
    found = vandermonde.kernel_vjp(kept, LAYOUTS[layout](g))
    assert_close(found, vandermonde.kernel_vjp(kept, g), 0)


def test_real_arguments_have_real_gradients(rng):
    A, B, C = (a.real.copy() for a in arguments(rng, 2, 4))
    K, kept = vandermonde.kernel_fwd(A, B, C, 12)
    found = vandermonde.kernel_vjp(kept, cotangents(rng, K))
    assert all(a.dtype == np.float64 for a in found[:3])
    np.testing.assert_allclose(K, 2 * np.einsum("hn,hnt->ht", C * B, A[..., None] ** np.arange(12)))


@pytest.mark.parametrize("method", kernels.METHODS)
def test_equals_the_sum_of_single_poles(rng, method):
    args = arguments(rng, 2, 7)
    single = kernels.generate(*args, 200, method=method)
    assert_close(vandermonde.kernel(*args, 200), 2 * single.sum(axis=1).real, 1e-12)
    assert_close(vandermonde.kernel(*args, 200, real=False), single.sum(axis=1), 1e-12)


def test_a_conjugate_pair_written_out_equals_one_stored_pole(rng):
    A, B, C = arguments(rng, 1, 3)
    pair = (np.concatenate([a, a.conj()], axis=1) for a in (A, B, C))
    both = vandermonde.kernel(*pair, 50, real=False)
    assert np.max(np.abs(both.imag)) < 1e-14
    assert_close(vandermonde.kernel(A, B, C, 50), both.real, 1e-14)


@pytest.mark.parametrize("short", [1, 37, 64])
def test_a_kernel_begins_as_a_shorter_one_does(rng, short):
    """To rounding: the split of time, and with it the order of sums, goes by the length."""
    args = arguments(rng, 2, 4)
    long = vandermonde.kernel(*args, 100)[:, :short]
    assert_close(long, vandermonde.kernel(*args, short), 32 * 2**-53, scale=2 * size(*args))
