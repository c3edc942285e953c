"""linear and linear_glu: both axes, blocks and groups, edges, and that the pair is its parts."""

import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, cast, cotangents

from ssm_manual import reference
from ssm_manual.ops import _dense_kernels, glu, linear, linear_glu

OPS = {
    "linear": (linear.linear, linear.linear_fwd, linear.linear_vjp),
    "linear_glu": (linear_glu.linear_glu, linear_glu.linear_glu_fwd, linear_glu.linear_glu_vjp),
}


def problem(rng, shape, axis, O, dtype, bias=True):
    I = shape[axis]
    args = rng.standard_normal(shape), rng.standard_normal((O, I)), rng.standard_normal(O)
    x, weight, b = (cast(a, dtype) for a in args)
    return x, weight, b if bias else None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3,), -1),
        ((5, 1), -1),
        ((2, 3, 4), -1),
        ((0, 3), -1),
        ((3, 0, 2), -1),
        ((515, 2), -1),
        ((3, 1), -2),
        ((2, 3, 17), -2),
        ((2, 2, 3, 5), -2),
        ((2, 3, 0), -2),
        ((3, 2, 259), -2),
    ],
)
@pytest.mark.parametrize("name", OPS)
def test_reference(rng, name, shape, axis, bias, dtype):
    op, fwd, vjp = OPS[name]
    args = problem(rng, shape, axis, 4, dtype, bias)
    y, kept = fwd(*args, axis=axis)
    g = cotangents(rng, y)
    grads = vjp(kept, g)
    assert all(a is None or a.dtype == dtype for a in (y, *grads))
    twin = getattr(reference, name)
    wide = [None if a is None else a.astype(float) for a in args]
    eps = np.finfo(dtype).eps
    assert_close(y, getattr(twin, name)(*wide, axis=axis), 8 * eps)
    assert_close(grads, getattr(twin, name + "_vjp")(*wide, g.astype(float), axis=axis), 32 * eps)
    np.testing.assert_array_equal(op(*args, axis=axis), y)


@pytest.mark.parametrize("axis", [-1, -2])
def test_many_blocks_and_groups(rng, axis):
    """More tasks than groups, a short last block, parallel: equal to one product in double."""
    x, weight, bias = problem(
        rng, (9, 20, 700) if axis == -2 else (9, 700, 20), axis, 24, np.float32
    )
    assert x.size * len(weight) > _dense_kernels.PARALLEL_FROM
    y, kept = linear.linear_fwd(x, weight, bias, axis=axis)
    g = cotangents(rng, y)
    grads = linear.linear_vjp(kept, g)
    X, G = (np.moveaxis(a.astype(float), axis, -1) for a in (x, g))
    assert_close(np.moveaxis(y, axis, -1), X @ weight.T.astype(float) + bias, 1e-6)
    assert_close(np.moveaxis(grads[0], axis, -1), G @ weight.astype(float), 1e-6)
    expected = G.reshape(-1, 24).T @ X.reshape(-1, 20), G.sum((0, 1))
    assert_close(tuple(grads[1:]), expected, 2e-6)


@pytest.mark.parametrize("axis", [-1, -2])
def test_linear_glu_is_both(rng, axis):
    args = problem(rng, (2, 5, 5), axis, 8, np.float32)
    y, kept = linear_glu.linear_glu_fwd(*args, axis=axis)
    z, first = linear.linear_fwd(*args, axis=axis)
    expected, second = glu.glu_fwd(z, axis=axis)
    np.testing.assert_array_equal(y, expected)
    g = cotangents(rng, y)
    grads = linear_glu.linear_glu_vjp(kept, g)
    through = linear.linear_vjp(first, glu.glu_vjp(second, g)[0])
    assert_close(grads, through, 1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPS)
def test_any_memory_layout(rng, name, layout):
    _, fwd, vjp = OPS[name]
    args = problem(rng, (2, 4, 5), -2, 6, float)
    y, kept = fwd(*args, axis=-2)
    g = cotangents(rng, y)
    grads = vjp(kept, g)
    other, kept = fwd(*(LAYOUTS[layout](a) for a in args), axis=-2)
    np.testing.assert_array_equal(other, y)
    for a, b in zip(vjp(kept, LAYOUTS[layout](g)), grads):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("shape", "axis"), [((600, 3), -1), ((2, 3, 300), -2)])
@pytest.mark.parametrize("name", OPS)
def test_what_is_not_finite_is_found_anywhere(rng, name, shape, axis):
    _, fwd, vjp = OPS[name]
    x, *weights = problem(rng, shape, axis, 4, float)
    y, kept = fwd(x, *weights, axis=axis)
    for value in (np.nan, np.inf):
        for end in (0, -1):
            bad = x.copy()
            bad.reshape(-1)[end] = value
            with pytest.raises(ValueError, match="x holds"):
                fwd(bad, *weights, axis=axis)
            bad = y.copy()
            bad.reshape(-1)[end] = value
            with pytest.raises(ValueError, match="grad_y holds"):
                vjp(kept, bad)


@pytest.mark.parametrize("name", OPS)
def test_bad_input(name):
    op = OPS[name][0]
    x, weight, bias = np.ones((2, 3)), np.ones((4, 3)), np.ones(4)
    for a, w, axis in [(x, np.ones((4, 2)), -1), (x, weight, -2), (np.ones(()), weight, -1)]:
        with pytest.raises(ValueError, match="x has shape"):
            op(a, w, None, axis=axis)
    for w in (np.ones(3), np.ones((0, 3)), np.ones((4, 0)), np.ones((1, 4, 3))):
        with pytest.raises(ValueError, match="weight has shape"):
            op(x, w, None)
    for b in (np.ones(3), np.ones((4, 1)), np.ones(())):
        with pytest.raises(ValueError, match="bias has shape"):
            op(x, weight, b)
    for axis in (0, 1, -3, None):
        with pytest.raises(ValueError, match="axis"):
            op(x, weight, bias, axis=axis)
    for place, argument in enumerate(("x", "weight", "bias")):
        for make in (
            lambda a: np.full(a.shape, np.nan),
            lambda a: a + 1j,
            lambda a: a.astype(int),
            lambda a: a.astype(np.float32),
        ):
            args = [x, weight, bias]
            args[place] = make(args[place])
            with pytest.raises(ValueError, match=rf"\b{argument}\b"):
                op(*args)


def test_a_gate_needs_two_halves():
    with pytest.raises(ValueError, match="weight has shape"):
        linear_glu.linear_glu(np.ones((2, 3)), np.ones((5, 3)), None)
