"""layer_norm and rms_norm: both axes, both precisions, large means, edges."""

import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, cast, cotangents

from ssm_manual import reference
from ssm_manual.ops import layer_norm, rms_norm

OPS = {
    "layer_norm": (layer_norm.layer_norm, layer_norm.layer_norm_fwd, layer_norm.layer_norm_vjp, 2),
    "rms_norm": (rms_norm.rms_norm, rms_norm.rms_norm_fwd, rms_norm.rms_norm_vjp, 1),
}


def weights(rng, n, count, dtype):
    return tuple(cast(rng.standard_normal(n), dtype) for _ in range(count))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((1,), -1),
        ((5, 7), -1),
        ((2, 300, 3), -1),
        ((0, 3), -1),
        ((2, 7, 17), -2),
        ((3, 1, 5), -2),
        ((2, 9, 1), -2),
        ((1, 4, 300), -2),
        ((2, 3, 0), -2),
    ],
)
@pytest.mark.parametrize("name", OPS)
def test_reference(rng, name, shape, axis, dtype):
    op, fwd, vjp, count = OPS[name]
    args = cast(1 + rng.standard_normal(shape), dtype), *weights(rng, shape[axis], count, dtype)
    y, kept = fwd(*args, axis=axis)
    g = cotangents(rng, y)
    grads = vjp(kept, g)
    assert all(a.dtype == dtype for a in (y, *grads))
    twin = getattr(reference, name)
    wide = [a.astype(float) for a in args]
    assert_close(y, getattr(twin, name)(*wide, axis=axis), 64 * np.finfo(dtype).eps)
    expected = getattr(twin, name + "_vjp")(*wide, g.astype(float), axis=axis)
    # One feature has a gradient of about eps, a difference of numbers of the size of g / sqrt(eps).
    scale = tuple(np.maximum(np.max(np.abs(e), initial=0), 1) for e in expected)
    bound = 300 if shape[axis] == 1 else 64
    assert_close(tuple(grads), expected, bound * np.finfo(dtype).eps, scale=scale)
    np.testing.assert_array_equal(op(*args, axis=axis), y)


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("mean", [1e2, -1e4, 1e6])
def test_a_large_mean_costs_no_digits(rng, mean, axis):
    """A failure means that the mean is taken away in one rounded piece [NORM-4]."""
    x = (mean + rng.standard_normal((2, 130, 140))).astype(np.float32)
    n = x.shape[axis]
    scale, shift = np.ones(n, np.float32), np.zeros(n, np.float32)
    y, kept = layer_norm.layer_norm_fwd(x, scale, shift, axis=axis)
    wide = x.astype(np.longdouble)
    centred = wide - wide.mean(axis, keepdims=True)
    z = centred / np.sqrt((centred**2).mean(axis, keepdims=True) + 1e-5)
    assert np.max(np.abs(y - z)) < 2e-6
    g = cotangents(rng, y)
    _, grad_scale, _ = layer_norm.layer_norm_vjp(kept, g)
    expected = (g * z).sum(axis=tuple(i for i in range(3) if i != 3 + axis))
    assert_close(grad_scale, expected.astype(float), 1e-6)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, name, layout):
    _, fwd, vjp, count = OPS[name]
    args = rng.standard_normal((2, 4, 5)), *weights(rng, 4, count, float)
    y, kept = fwd(*args, axis=-2)
    g = cotangents(rng, y)
    grads = vjp(kept, g)
    other, kept = fwd(*(LAYOUTS[layout](a) for a in args), axis=-2)
    np.testing.assert_array_equal(other, y)
    for a, b in zip(vjp(kept, LAYOUTS[layout](g)), grads):
        np.testing.assert_array_equal(a, b)


def test_equal_numbers_are_zero_not_noise():
    """Variance zero: eps rules, and a mean of 1e6 leaves nothing behind."""
    x = np.full((1, 7, 3), 1e6, np.float32)
    y = layer_norm.layer_norm(x, np.ones(7, np.float32), np.zeros(7, np.float32), axis=-2)
    np.testing.assert_array_equal(y, 0)


@pytest.mark.parametrize("shape", [(600, 40), (3, 40, 700)])
@pytest.mark.parametrize("name", OPS)
def test_what_is_not_finite_is_found_anywhere(rng, name, shape):
    _, fwd, vjp, count = OPS[name]
    axis = 1 - len(shape)
    x = rng.standard_normal(shape)
    args = weights(rng, 40, count, float)
    y, kept = fwd(x, *args, axis=axis)
    for value in (np.nan, np.inf):
        for at in (0, x.size // 2, x.size - 1):
            for name, a, call in [
                ("x", x, lambda a: fwd(a, *args, axis=axis)),
                ("grad_y", y, lambda a: vjp(kept, a)),
            ]:
                bad = a.copy()
                bad.reshape(-1)[at] = value
                with pytest.raises(ValueError, match=f"{name} holds"):
                    call(bad)


@pytest.mark.parametrize("name", OPS)
def test_bad_input(name):
    op, _, _, count = OPS[name]
    ones = (np.ones(3),) * count
    for x, axis in [(np.ones((2, 4)), -1), (np.ones((3, 2)), -1), (np.ones((2, 4, 3)), -2)]:
        with pytest.raises(ValueError, match="scale has shape"):
            op(x, *ones, axis=axis)
    for x, axis in [(np.ones(()), -1), (np.ones((2, 0)), -1), (np.ones(3), -2)]:
        with pytest.raises(ValueError, match="x has shape"):
            op(x, *ones, axis=axis)
    for axis in (0, 1, -3, None):
        with pytest.raises(ValueError, match="axis"):
            op(np.ones((2, 3)), *ones, axis=axis)
    for eps in (-1e-5, np.nan, "a", None):
        with pytest.raises(ValueError, match="eps"):
            op(np.ones((2, 3)), *ones, eps=eps)
    with pytest.raises(ValueError, match="scale holds"):
        op(np.ones((2, 3)), *(np.full(3, np.nan),) * count)
    with pytest.raises(ValueError, match="scale float32"):
        op(np.ones((2, 3)), *(np.ones(3, np.float32),) * count)
