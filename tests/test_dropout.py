"""dropout and gelu_dropout: the mask's statistics, its independence, its being one function."""

import numpy as np
import pytest
from conftest import LAYOUTS, cotangents
from scipy.stats import chi2

from ssm_manual import reference
from ssm_manual.ops import dropout, gelu, gelu_dropout


def kept(n, rate=0.5, seed=0, **options):
    """The mask as booleans."""
    return dropout.dropout(np.ones(n, np.float32), rate=rate, seed=seed, **options) != 0


def assert_independent(*bits):
    """Chi-square over all combinations of fair bits; fails by chance once in 10^6."""
    codes = sum(b.astype(int) << i for i, b in enumerate(bits))
    counts = np.bincount(codes, minlength=1 << len(bits))
    expected = codes.size / counts.size
    statistic = np.sum((counts - expected) ** 2) / expected
    assert statistic < chi2.isf(1e-6, counts.size - 1), counts


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_mean_and_variance(rate):
    n = 1 << 18
    m = dropout.dropout(np.ones(n), rate=rate, seed=7)
    variance = rate / (1 - rate)
    assert abs(m.mean() - 1) < 5 * np.sqrt(variance / n)
    assert set(np.unique(m)) == {0, 1 / (1 - rate)}
    # The variance of a two-valued number follows from the count, whose own spread is known.
    assert abs((m == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / n)


def test_neighbours_are_independent():
    """Of distances 1 to 4 together, of half a block, of a whole one, and across two blocks."""
    m = kept(1 << 18)
    assert_independent(*(m[i : m.size - 4 + i] for i in range(5)))
    for distance in (2048, 4096, 8192):
        assert_independent(m[:-distance], m[distance:])


def test_seeds_are_independent():
    n = 1 << 17
    assert_independent(*(kept(n, seed=s) for s in (0, 1, 2, 3)))
    assert_independent(kept(n, seed=5), kept(n, seed=5 + 2**32), kept(n, seed=5 + 2**63))
    first, second = kept(n, seed=11), kept(n, seed=12)
    for shift in (1, 2, 4096):  # a neighbouring seed is no shifted copy
        assert_independent(first[:-shift], second[shift:])


def test_every_place_is_drawn_over_many_seeds():
    """No place is favoured: counts over 400 seeds are those of a coin."""
    counts = sum(kept(512, seed=s).astype(int) for s in range(400))
    statistic = np.sum((counts - 200) ** 2) / 100
    assert chi2.isf(1 - 1e-6, 512) < statistic < chi2.isf(1e-6, 512)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mask_is_that_of_the_reference_forward_and_backward(rng, dtype, tied):
    options = {"rate": 0.3, "seed": 2**63 + 12345, "tied": tied}
    x = rng.standard_normal((3, 5, 601)).astype(dtype)  # blocks end late in a row
    y, saved = dropout.dropout_fwd(x, **options)
    m = reference.dropout.mask(x.shape, **options)
    np.testing.assert_array_equal(y, x * m.astype(dtype))
    g = cotangents(rng, y)
    (grad,) = dropout.dropout_vjp(saved, g)
    np.testing.assert_array_equal(grad, g * m.astype(dtype))
    assert y.dtype == grad.dtype == dtype
    assert 0 < (y == 0).mean() < 1


@pytest.mark.parametrize("rate", [1e-12, 0.5, 1 - 1e-12])
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 2**32, 2**64 - 1])
def test_seeds_and_rates_at_their_ends(seed, rate):
    m = dropout.dropout(np.ones(40), rate=rate, seed=seed)
    np.testing.assert_array_equal(m, reference.dropout.mask((40,), rate=rate, seed=seed))


def test_tied_rows_share_one_value():
    m = dropout.dropout(np.ones((40, 50, 9)), rate=0.5, seed=3, tied=True)
    assert (m == m[..., :1]).all()
    rows = m[..., 0].ravel() != 0
    assert abs(rows.mean() - 0.5) < 5 * 0.5 / np.sqrt(rows.size)
    np.testing.assert_array_equal(rows, kept(2000, seed=3))


def test_serial_and_parallel_draw_one_mask():
    """The mask is of the place alone: the beginning of a long array is a short one."""
    long = kept((1 << 17) + 77, seed=9)
    np.testing.assert_array_equal(long[:70001], kept(70001, seed=9))
    long = dropout.dropout(np.ones((30, 50, 101)), rate=0.5, seed=9, tied=True)
    short = dropout.dropout(np.ones((3, 50, 101)), rate=0.5, seed=9, tied=True)
    np.testing.assert_array_equal(long[:3], short)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", [None, 4])
def test_gelu_dropout_is_both(rng, seed, tied):
    x = rng.standard_normal((2, 3, 1500)).astype(np.float32)
    y, saved = gelu_dropout.gelu_dropout_fwd(x, rate=0.25, seed=seed, tied=tied)
    between, first = gelu.gelu_fwd(x)
    expected, second = dropout.dropout_fwd(between, rate=0.25, seed=seed, tied=tied)
    np.testing.assert_array_equal(y, expected)
    g = cotangents(rng, y)
    (grad,) = gelu_dropout.gelu_dropout_vjp(saved, g)
    (through,) = gelu.gelu_vjp(first, dropout.dropout_vjp(second, g)[0])
    np.testing.assert_allclose(grad, through, rtol=4e-7, atol=1e-12)


def test_evaluation_and_rate_zero_are_the_identity(rng):
    x = rng.standard_normal((2, 3))
    for options in ({"rate": 0.5, "seed": None}, {"rate": 0, "seed": 3}):
        y, saved = dropout.dropout_fwd(x, **options)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(dropout.dropout_vjp(saved, 2 * x)[0], 2 * x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_mask_does_not_depend_on_the_layout(rng, layout):
    x = rng.standard_normal((3, 4))
    y = dropout.dropout(LAYOUTS[layout](x), rate=0.5, seed=1)
    np.testing.assert_array_equal(y, dropout.dropout(x, rate=0.5, seed=1))


@pytest.mark.parametrize("op", [dropout.dropout, gelu_dropout.gelu_dropout])
def test_bad_input(op):
    x = np.ones((2, 3))
    for rate in (-0.1, 1.0, 1, 2.0, np.nan, None, "0.5", True):
        with pytest.raises(ValueError, match="rate"):
            op(x, rate=rate, seed=1)
    for seed in (-1, 2**64, 1.5, True, "a"):
        with pytest.raises(ValueError, match="seed"):
            op(x, rate=0.5, seed=seed)
    for tied in (1, None, "yes"):
        with pytest.raises(ValueError, match="tied"):
            op(x, rate=0.5, seed=1, tied=tied)
    with pytest.raises(ValueError, match="x has shape"):
        op(np.ones(()), rate=0.5, seed=1, tied=True)
    for seed in (1, None):
        with pytest.raises(ValueError, match="x holds nan"):
            op(np.array([1.0, np.nan]), rate=0.5, seed=seed)


@pytest.mark.parametrize("seed", [1, None])
def test_bad_cotangents(seed):
    _, saved = dropout.dropout_fwd(np.ones((2, 3)), rate=0.5, seed=seed)
    for bad in (np.ones(3), np.full((2, 3), np.inf), np.ones((2, 3), np.float32)):
        with pytest.raises(ValueError, match="grad_y"):
            dropout.dropout_vjp(saved, bad)
