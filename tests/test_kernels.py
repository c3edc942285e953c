"""The kernel ladder: every method equals the reference, with one support and one gradient."""

import mpmath
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
from ssm_manual.ops import kernels

METHODS = [m for m in kernels.METHODS if m != "auto"]
LENGTHS = [0, 1, 2, 3, 17, 64, 65, 1023, 1024, 1025, 1047, 2048, 3000]
PRECISIONS = [np.float32, np.float64]
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}


def tolerance(length, dtype, method="recursive"):
    """Relative to the first sample, |A_bar| <= 1; the reference's own running power adds its error.

    Recursion has t products of sqrt(5) units each. Log-space forms t log A_bar + log(C B_bar), of
    size up to 4 t, with three roundings.
    """
    drift = {"log": 12, "anchored": 0, "log_parallel": 0}.get(method, 4)
    return (8 + drift * length) * UNIT[dtype] + 4 * length * 2.0**-53


def arguments(rng, shape, dtype, field="complex"):
    A, B, C = discrete_poles(rng, *shape), complex_normal(rng, *shape), complex_normal(rng, *shape)
    if field == "real":
        A, B, C = A.real, B.real, C.real
    return tuple(cast(a, dtype) for a in (A, B, C))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_equals_the_reference(rng, method, length, dtype):
    for shape, field in [((), "complex"), ((4,), "real"), ((7,), "complex"), ((2, 3), "complex")]:
        args = arguments(rng, shape, dtype, field)
        K = kernels.generate(*args, length, method=method)
        expected = reference.kernels.generate(*double(args), length)
        assert K.dtype == args[0].dtype
        assert K.shape == (*shape, length)
        # Per pole: each row has its own scale.
        for index in np.ndindex(shape):
            assert error(K[index], expected[index]) <= tolerance(length, dtype, method)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("length", [1, 2, 3, 17, 64, 65, 1047])
def test_gradient_equals_the_reference(rng, length, dtype):
    args = arguments(rng, (2, 4), dtype)
    K, kept = kernels.generate_fwd(*args, length)
    g = cotangents(rng, K)
    found = kernels.generate_vjp(kept, g)
    expected = reference.kernels.generate_vjp(*double(args), length, g.astype(complex))
    assert found[3] is None
    for a, e, argument in zip(found, expected, args):
        assert a.dtype == argument.dtype
        assert error(a, e) <= tolerance(length, dtype)
    if length == 1:
        assert not np.any(found[0])  # K_0 = C B_bar does not depend on the pole


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_have_one_gradient(rng, method):
    args = arguments(rng, (3,), np.float64)
    K, kept = kernels.generate_fwd(*args, 200, method=method, cutoff=1e-3)
    g = cotangents(rng, K)
    found = kernels.generate_vjp(kept, g)
    assert_close(
        found, kernels.generate_vjp(kernels.generate_fwd(*args, 200, cutoff=1e-3)[1], g), 0
    )
    # What the cutoff drops does not listen to its cotangent.
    assert_close(found, kernels.generate_vjp(kept, np.where(K == 0, 1e6, g)), 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_any_memory_layout(rng, method, layout):
    args = arguments(rng, (3, 2), np.float64)
    other = kernels.generate(*(LAYOUTS[layout](a) for a in args), 40, method=method)
    plain, kept = kernels.generate_fwd(*args, 40, method=method)
    np.testing.assert_array_equal(other, plain)
    g = cotangents(rng, plain)
    found = kernels.generate_vjp(kept, LAYOUTS[layout](g))
    assert_close(found, kernels.generate_vjp(kept, g), 0)


# --------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("cutoff", [1e-300, 1e-9, 1e-3, 0.5, 0.999, 1.0])
def test_the_cutoff_has_one_support_in_every_method(rng, cutoff):
    A, B, C = arguments(rng, (6,), np.float64)
    A[0], A[1], A[2] = (
        0,
        0.5,
        np.exp(1j),
    )  # a power of two meets its cutoff exactly; the circle never
    length = 1500
    expected = reference.kernels.generate(A, B, C, length, cutoff=cutoff)
    support = np.array([np.max(np.nonzero(row)[0], initial=-1) + 1 for row in expected])
    for method in METHODS:
        K = kernels.generate(A, B, C, length, method=method, cutoff=cutoff)
        for row, n, e in zip(K, support, expected):
            assert not np.any(row[n:])
            assert np.all(row[: min(n, 100)] != 0)
            assert error(row, e) <= tolerance(length, np.float64, method)
    assert cutoff > 0.5 or support[1] == np.floor(np.log(cutoff) / np.log(0.5)) + 1
    assert support[2] == length


def test_the_cutoff_is_relative_to_the_kernel():
    """The published early exit was absolute: a small C made the kernel shorter."""
    small, large = (kernels.generate(0.9, 1.0, C, 500, cutoff=1e-6) for C in (1e-12, 1e12))
    assert np.count_nonzero(small) == np.count_nonzero(large) == 132  # 0.9^131 > 1e-6 > 0.9^132


@pytest.mark.parametrize("method", METHODS)
def test_zeros(method):
    """Log space has no zero: A_bar = 0 and C B_bar = 0 are taken apart."""
    A, B, C = np.array([0, 0.5 + 0.1j, 0, 0.3]), np.array([2.0, 0, 0, 1]), np.array([1j, 1, 1, 0])
    for length in (0, 1, 2, 3000):
        K = kernels.generate(A, B, C, length, method=method)
        expected = np.zeros((4, length), complex)
        expected[0, :1] = 2j
        np.testing.assert_array_equal(K, expected)


def test_gradients_at_zeros():
    """dK_1/dA_bar = C B_bar at A_bar = 0: no division by A_bar anywhere."""
    for method in METHODS:
        _, kept = kernels.generate_fwd(0.0, 3.0, 2.0, 3, method=method)
        grad_A, grad_B, grad_C, _ = kernels.generate_vjp(kept, np.array([0.7, 1.1, 5.0]))
        np.testing.assert_allclose([grad_A, grad_B, grad_C], [6 * 1.1, 2 * 0.7, 3 * 0.7])


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_negative_real_poles_in_log_space_stay_real(dtype):
    K = kernels.generate(dtype(-0.5), dtype(-1), dtype(3), 20, method="log")
    assert K.dtype == dtype
    np.testing.assert_allclose(K, -3 * (-0.5) ** np.arange(20.0), rtol=100 * UNIT[dtype])


def test_hybrid_changes_at_its_threshold(rng):
    args = arguments(rng, (3,), np.float32)  # in float32 the two methods differ visibly
    recursive = kernels.generate(*args, 1025, method="recursive")
    log = kernels.generate(*args, 1025, method="log_parallel")
    assert np.any(recursive[:, 6:] != log[:, 6:])
    for length, threshold, expected in [
        (1024, None, recursive),
        (1025, None, log),
        (6, 5, log),
        (5, 5, recursive),
        (1025, 1025, recursive),
        (1, 0, log),
    ]:
        K = kernels.generate(*args, length, method="hybrid", threshold=threshold)
        np.testing.assert_array_equal(K, expected[:, :length])


def test_out_is_filled_and_returned(rng):
    args = arguments(rng, (3, 2), np.float64)
    real = tuple(a.real for a in args)
    for method in METHODS:
        for a, dtype in [(args, complex), (real, float)]:
            expected = kernels.generate(*a, 30, method=method)
            strided = np.full((3, 2, 60), np.nan, dtype)[..., ::2]
            for out in (
                np.full((3, 2, 30), np.nan, dtype),
                strided,
                np.full((30, 2, 3), np.nan, dtype).T,
            ):
                assert kernels.generate(*a, 30, method=method, out=out) is out
                np.testing.assert_array_equal(out, expected)
    around = np.full((3, 2, 34), 7.0)
    kernels.generate(*real, 30, out=around[..., 2:-2])
    assert np.all(around[..., :2] == 7)
    assert np.all(around[..., -2:] == 7)


# --------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("method", METHODS)
def test_one_pole_is_a_geometric_series(method):
    A, L = 0.9 * np.exp(0.3j), 400
    K = kernels.generate(A, 1.0, 1.0, L, method=method)
    assert abs(K.sum() - (1 - A**L) / (1 - A)) < 1e-13
    np.testing.assert_allclose(K[1:] / K[:-1], A, rtol=1e-12)


@pytest.mark.parametrize(
    ("method", "units"),
    [("naive", 1e3), ("recursive", 1e3), ("log", 1e7), ("log_parallel", 8), ("anchored", 4.25)],
)
def test_drift_after_a_million_steps(method, units):
    """The error in units of 2^-53: plain log-space multiplies the rounding of log A_bar by t."""
    A, t = 0.9999995 * np.exp(2.3j), 10**6
    K = kernels.generate(A, 1.0, 1.0, t + 1, method=method)
    with mpmath.workdps(60):
        exact = complex(mpmath.mpc(A.real, A.imag) ** t)
    found = abs(K[t] - exact) / abs(exact) * 2**53
    assert found < units
    if units > 1e6:
        assert found > 1e5, (
            "log-space has become more precise: the documentation says that it drifts"
        )
