"""embedding, positions and pool: equal to the reference, repeated ids, pieces, padding, edges."""

import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, cast, cotangents

from ssm_manual import reference
from ssm_manual.ops import embedding, pool


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axis"), [((7,), -1), ((2, 5), -1), ((2, 0), -1), ((3, 65), -2), ((2, 0), -2)]
)
def test_embedding(rng, shape, axis, dtype):
    ids, table = rng.integers(0, 4, shape, np.uint8), cast(rng.standard_normal((4, 3)), dtype)
    y, kept = embedding.embedding_fwd(ids, table, axis=axis)
    np.testing.assert_array_equal(y, reference.embedding.embedding(ids, table, axis=axis))
    g = cotangents(rng, y)
    none, grad = embedding.embedding_vjp(kept, g)
    assert none is None
    assert y.dtype == grad.dtype == dtype
    expected = reference.embedding.embedding_vjp(ids, table, g.astype(float), axis=axis)[1]
    assert_close(grad, expected, np.finfo(dtype).eps)


def test_a_row_named_often_adds_up(rng):
    """150,000 places of one row, and unused ones; a running sum in float32 would drift."""
    ids = np.zeros((5, 30000), int)
    table = np.ones((3, 4), np.float32)
    y, kept = embedding.embedding_fwd(ids, table, axis=-2)
    np.testing.assert_array_equal(y, 1)
    g = rng.random(y.shape).astype(np.float32)
    grad = embedding.embedding_vjp(kept, g)[1]
    assert_close(grad[0], g.sum((0, 2), dtype=float), 1e-7)
    np.testing.assert_array_equal(grad[1:], 0)


def test_bad_ids():
    table = np.ones((4, 3))
    for ids in ([0.0, 1.0], [True], "a", None, [1 + 0j]):
        with pytest.raises(ValueError, match=r"ids is .*; it must be an array of integers"):
            embedding.embedding(ids, table)
    for ids in ([0, 4], [-1, 0], [2**40]):
        with pytest.raises(ValueError, match=r"ids holds .* from 0 to 3"):
            embedding.embedding(ids, table)
    with pytest.raises(ValueError, match="ids has shape"):
        embedding.embedding([0, 1], table, axis=-2)
    with pytest.raises(ValueError, match="axis"):
        embedding.embedding([0, 1], table, axis=0)
    for bad in (np.ones(3), np.ones((0, 3)), np.full((4, 3), np.nan), np.ones((4, 3), int)):
        with pytest.raises(ValueError, match="table"):
            embedding.embedding([0, 1], bad)
    _, kept = embedding.embedding_fwd([0, 1], table)
    for bad in (np.ones((3, 2)), np.full((2, 3), np.nan)):
        with pytest.raises(ValueError, match="grad_y"):
            embedding.embedding_vjp(kept, bad)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_positions_whole_and_in_pieces(rng, dtype):
    x, table = (cast(rng.standard_normal(s), dtype) for s in ((2, 3, 9), (3, 11)))
    y, kept = embedding.positions_fwd(x, table)
    np.testing.assert_array_equal(y, reference.embedding.positions(x, table))
    pieces = [embedding.positions(x[..., a:b], table, start=a) for a, b in ((0, 4), (4, 4), (4, 9))]
    np.testing.assert_array_equal(np.concatenate(pieces, -1), y)
    g = cotangents(rng, y)
    grads = embedding.positions_vjp(kept, g)
    assert_close(grads, reference.embedding.positions_vjp(x, table, g), np.finfo(dtype).eps)
    assert all(a.dtype == dtype for a in (y, *grads))
    grads[0][:] = 0
    assert g.any()  # a gradient that a caller adds to is not the caller's cotangent


def test_bad_positions():
    x, table = np.ones((2, 3, 5)), np.ones((3, 6))
    for start in (-1, 1.0, None):
        with pytest.raises(ValueError, match="start"):
            embedding.positions(x, table, start=start)
    with pytest.raises(ValueError, match=r"table has 6 times; .* 7"):
        embedding.positions(x, table, start=2)
    for bad in (np.ones((2, 6)), np.ones(6), np.full((3, 6), np.nan), np.ones((3, 6), np.float32)):
        with pytest.raises(ValueError, match="table"):
            embedding.positions(x, bad)
    for bad in (np.ones((3, 5)), np.full((2, 3, 5), np.inf)):
        with pytest.raises(ValueError, match=r"\bx\b"):
            embedding.positions(bad, table)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lengths", [None, [17, 1, 5]])
@pytest.mark.parametrize("method", ["mean", "last"])
def test_pool(rng, method, lengths, dtype):
    x = cast(rng.standard_normal((3, 2, 17)), dtype)
    options = {"method": method, "lengths": lengths}
    y, kept = pool.pool_fwd(x, **options)
    g = cotangents(rng, y)
    (grad,) = pool.pool_vjp(kept, g)
    eps = np.finfo(dtype).eps
    assert y.dtype == grad.dtype == dtype
    assert_close(y, reference.pool.pool(x.astype(float), **options), eps)
    assert_close(grad, reference.pool.pool_vjp(x, g.astype(float), **options)[0], eps)
    if lengths:
        other = x.copy()
        other[1, :, 1:], other[2, :, 5:] = 1e6, -1e6
        np.testing.assert_array_equal(pool.pool(other, **options), y)
        assert not grad[1, :, 1:].any()


def test_single_precision_is_rounded_once(rng):
    """Sums over time and over the batch are in double precision."""
    x = (1000 + rng.standard_normal((300, 2, 999))).astype(np.float32)
    exact = x[:, :, :700].mean(axis=-1, dtype=float).astype(np.float32)
    np.testing.assert_array_equal(pool.pool(x, lengths=np.full(300, 700)), exact)
    _, kept = embedding.positions_fwd(x, np.zeros((2, 999), np.float32))
    grad = embedding.positions_vjp(kept, x)[1]
    np.testing.assert_array_equal(grad, x.sum(axis=0, dtype=float).astype(np.float32))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, layout):
    change = LAYOUTS[layout]
    x, table = rng.standard_normal((2, 3, 4)), rng.standard_normal((3, 6))
    ids = rng.integers(0, 3, (2, 4))
    for op, args in [
        (lambda *a: embedding.embedding(*a, axis=-2), (ids, table)),
        (embedding.positions, (x, table)),
        (pool.pool, (x,)),
    ]:
        np.testing.assert_array_equal(op(*map(change, args)), op(*args))


def test_bad_pooling():
    x = np.ones((2, 3, 5))
    for lengths in ([0, 5], [5, 6], [-1, 2], [5], [[5, 5]], [2.0, 3.0], 3):
        with pytest.raises(ValueError, match="lengths"):
            pool.pool(x, lengths=lengths)
    with pytest.raises(ValueError, match="method is 'max'"):
        pool.pool(x, method="max")
    for bad in (np.ones((2, 3)), np.ones((2, 3, 0)), np.full((2, 3, 5), np.nan), x + 1j):
        with pytest.raises(ValueError, match=r"\bx\b"):
            pool.pool(bad)
    _, kept = pool.pool_fwd(x)
    for bad in (np.ones((3, 2)), np.full((2, 3), np.nan)):
        with pytest.raises(ValueError, match="grad_y"):
            pool.pool_vjp(kept, bad)
