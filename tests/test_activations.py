"""gelu, relu, sigmoid, tanh, glu: digits in both precisions, far from zero, and every layout."""

import mpmath
import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, cast, cotangents
from scipy.special import expit, ndtr

from ssm_manual import reference
from ssm_manual.ops import activations, gelu, glu

UNIT = 2.0**-24
OPS = {
    "gelu": (gelu.gelu, gelu.gelu_fwd, gelu.gelu_vjp, reference.gelu.gelu_vjp),
    **{
        name: tuple(
            getattr(activations, name + end) for end in ("", "_fwd", "_vjp")
        ) + (getattr(reference.activations, name + "_vjp"),)
        for name in ("relu", "sigmoid", "tanh")
    },
}  # fmt: skip


def density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


#: Value, slope, and largest relative error of both in units of 2^-24.
TRUE = {
    "gelu": (lambda x: x * ndtr(x), lambda x: ndtr(x) + x * density(x), 8, None),
    "sigmoid": (expit, lambda x: expit(x) * expit(-x), 3, 3),
    "tanh": (np.tanh, lambda x: np.cosh(x) ** -2.0, 4, 3),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0, 0, 0),
}


@pytest.mark.parametrize("name", TRUE)
def test_digits_in_single_precision(rng, name):
    _, fwd, vjp, _ = OPS[name]
    value, slope, units, slope_units = TRUE[name]
    x = np.concatenate([np.linspace(-12.4, 12.4, 20001), rng.uniform(-1, 1, 4000) ** 9])
    x = x.astype(np.float32)
    exact = x.astype(float)
    y, kept = fwd(x)
    assert y.dtype == np.float32
    true = value(exact)
    assert np.max(np.abs(y - true) / np.maximum(np.abs(true), 1e-37)) <= units * UNIT
    (grad,) = vjp(kept, np.ones_like(x))
    error = np.abs(grad - slope(exact))
    if slope_units is None:  # the slope of gelu crosses zero
        assert np.max(error) <= 3 * UNIT
        tail = exact < -1
        assert np.max(error[tail] / np.abs(slope(exact[tail]))) <= 24 * UNIT
    else:
        assert np.max(error / np.maximum(slope(exact), 1e-37)) <= slope_units * UNIT


def test_gelu_against_fifty_digits():
    """scipy's ndtr is itself only so exact: the tail by another road, both precisions."""
    x = np.array([-12.0, -5.123, -0.75, -1e-3, 0.3, 4.0, 11.0])
    with mpmath.workdps(50):
        true = [mpmath.mpf(float(v)) * mpmath.ncdf(float(v)) for v in x]
        for got, expected in zip(gelu.gelu(x), true):
            assert abs(float(mpmath.mpf(float(got)) / expected - 1)) < 1e-13
        x = x.astype(np.float32)
        true = [mpmath.mpf(float(v)) * mpmath.ncdf(float(v)) for v in x]
        for got, expected in zip(gelu.gelu(x), true):
            assert abs(float(mpmath.mpf(float(got)) / expected - 1)) <= 8 * UNIT


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_any_size(dtype):
    """No overflow, no NaN, signs kept; a failure is an exponential that was formed too large."""
    x = np.array([-1e30, -1e4, -200, -100, -15, 0, 15, 100, 200, 1e4, 1e30], dtype)
    with np.errstate(all="raise", under="ignore"):
        for name, (_, fwd, vjp, _) in OPS.items():
            y, kept = fwd(x)
            (grad,) = vjp(kept, np.ones_like(x))
            assert np.isfinite(y).all(), name
            assert np.isfinite(grad).all(), name
    np.testing.assert_array_equal(gelu.gelu(x)[[0, 1, 2, 5, 8, 9, 10]], [0, 0, 0, 0, *x[8:]])
    np.testing.assert_array_equal(activations.tanh(x)[[0, 1, 5, 9, 10]], [-1, -1, 0, 1, 1])
    np.testing.assert_array_equal(activations.sigmoid(x)[[0, 1, 5, 9, 10]], [0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (5, 7), (4097,)])
@pytest.mark.parametrize("name", OPS)
def test_reference(rng, name, shape, dtype):
    op, fwd, vjp, reference_vjp = OPS[name]
    x = cast(3 * rng.standard_normal(shape), dtype)
    y, kept = fwd(x)
    g = cotangents(rng, y)
    (grad,) = vjp(kept, g)
    assert (y.shape, y.dtype, grad.shape, grad.dtype) == (x.shape, x.dtype) * 2
    expected = reference_vjp(x.astype(float), g.astype(float))[0]
    assert_close(grad, expected, 8 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(op(x), y)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*OPS, "glu"])
def test_any_memory_layout(rng, name, layout):
    fwd, vjp = (glu.glu_fwd, glu.glu_vjp) if name == "glu" else OPS[name][1:3]
    x = rng.standard_normal((3, 4))
    y, kept = fwd(x)
    g = cotangents(rng, y)
    (grad,) = vjp(kept, g)
    other, kept = fwd(LAYOUTS[layout](x))
    np.testing.assert_array_equal(other, y)
    np.testing.assert_array_equal(vjp(kept, LAYOUTS[layout](g))[0], grad)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axis"), [((2,), -1), ((3, 6), -1), ((0, 4), -1), ((2, 4, 65), -2), ((2, 4, 0), -2)]
)
def test_glu(rng, shape, axis, dtype):
    x = cast(rng.standard_normal(shape), dtype)
    y, kept = glu.glu_fwd(x, axis=axis)
    g = cotangents(rng, y)
    assert y.dtype == dtype
    assert_close(y, reference.glu.glu(x.astype(float), axis=axis), 4 * np.finfo(dtype).eps)
    (grad,) = glu.glu_vjp(kept, g)
    expected = reference.glu.glu_vjp(x.astype(float), g.astype(float), axis=axis)[0]
    assert_close(grad, expected, 4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("where", [0, 5000, 9999])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [*OPS, "glu"])
def test_what_is_not_finite_is_found_anywhere(name, value, where):
    """The kernel looks for it block by block; NaN hides in relu, infinity in sigmoid."""
    fwd, vjp = (glu.glu_fwd, glu.glu_vjp) if name == "glu" else OPS[name][1:3]
    x = np.ones(10000)
    y, kept = fwd(x)
    x[where] = value
    with pytest.raises(ValueError, match=rf"x holds .*{where}"):
        fwd(x)
    at = where % y.size
    y[at] = value
    with pytest.raises(ValueError, match=rf"grad_y holds .*{at}"):
        vjp(kept, y)


@pytest.mark.parametrize("name", [*OPS, "glu"])
def test_bad_input(name):
    op = glu.glu if name == "glu" else OPS[name][0]
    for bad in (None, np.ones(4, int), np.ones(4) + 1j, np.ones(4, np.float16), "abc"):
        with pytest.raises(ValueError, match=r"\bx\b"):
            op(bad)


def test_bad_halves():
    for shape, axis in [((3,), -1), ((), -1), ((4,), -2), ((3, 4), -2)]:
        with pytest.raises(ValueError, match="x has shape"):
            glu.glu(np.ones(shape), axis=axis)
    with pytest.raises(ValueError, match="axis is 0"):
        glu.glu(np.ones((2, 2)), axis=0)
    _, kept = glu.glu_fwd(np.ones((2, 4)))
    with pytest.raises(ValueError, match="grad_y has shape"):
        glu.glu_vjp(kept, np.ones((2, 4)))
