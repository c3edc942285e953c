"""Tasks that ask for memory, and elementwise clipping."""

import numpy as np
import pytest
from conftest import load

from ssm_manual.tasks import hippo_matrices
from ssm_manual.tasks.memory import (
    MARKER,
    TOKENS,
    copying_memory,
    delayed,
    one_hot,
    previous_bit,
    previous_bit_floor,
)
from ssm_manual.training.clip import clip_elementwise

PUBLISHED = load("cphy.npz")


# ------------------------------------------------------------------------------------------ tasks


def follows_the_rule(u, target):
    """Of bits (sequences, length)."""
    return bool((target[:, 0] == u[:, 0]).all() and (target[:, 1:] == u[:, :-1]).all())


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_published_bits_follow_the_rule(part):
    u, target = (PUBLISHED[f"prevbit/{name}_{part}"][..., 0] for name in "xy")
    assert follows_the_rule(u, target)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1, 2, 1000])
def test_previous_bit(rng, length, dtype):
    u, target = previous_bit(rng, 30, length, dtype=dtype)
    assert u.shape == target.shape == (30, 1, length)
    assert u.dtype == target.dtype == dtype
    assert set(np.unique(u)) <= {0, 1}
    assert follows_the_rule(u[:, 0], target[:, 0])
    if length == 1000:
        assert abs(u.mean() - 0.5) < 0.02  # six deviations


def is_copying(tokens, target, n, gap):
    """Whether sequences have the structure of the task."""
    symbols = tokens[:, :n]
    blank = np.delete(tokens[:, n:], gap - 1, axis=1)
    return (
        tokens.shape == target.shape == (len(tokens), 2 * n + gap)
        and (symbols >= 1).all()
        and (symbols < MARKER).all()
        and (tokens[:, n + gap - 1] == MARKER).all()
        and not blank.any()
        and not target[:, : n + gap].any()
        and (target[:, n + gap :] == symbols).all()
    )


@pytest.mark.parametrize("seed", [0, 43])
@pytest.mark.parametrize(("n", "gap"), [(1, 10), (3, 4), (10, 10)])
def test_the_published_sequences_have_the_structure_of_ours(rng, n, gap, seed):
    key = f"memory/seed{seed}_n{n}_g{gap}"
    assert is_copying(PUBLISHED[f"{key}/in"], PUBLISHED[f"{key}/out"], n, gap)
    assert is_copying(*copying_memory(rng, 7, n, gap), n, gap)


def test_copying_memory_draws_every_symbol(rng):
    tokens, target = copying_memory(rng, 2000, 1, 1)
    assert is_copying(tokens, target, 1, 1)
    counts = np.bincount(tokens[:, 0], minlength=TOKENS)
    assert not counts[[0, 9]].any()
    assert abs(counts[1:9] - 250).max() < 90  # six deviations


def test_one_hot(rng):
    tokens, _ = copying_memory(rng, 4, 3, 5)
    hot = one_hot(tokens, dtype="float32")
    assert hot.shape == (4, TOKENS, 11)
    assert hot.dtype == np.float32
    np.testing.assert_array_equal(hot.argmax(axis=1), tokens)
    np.testing.assert_array_equal(hot.sum(axis=1), 1)


def test_a_delayed_signal(rng):
    u, target = delayed(rng, 2000, 60, 17, cycles=3)
    np.testing.assert_allclose(target, np.roll(u, 17, axis=-1), atol=1e-12)
    assert abs(np.mean(u**2) - 1) < 0.1
    power = np.abs(np.fft.rfft(u)) ** 2
    assert power[..., 4:].max() < 1e-20 * power.max()
    assert power[..., 1:4].min() > 0


# ------------------------------------------------------------------------------------------ floor


def loss_of_the_kernel(u, target, K, bias):
    """Binary cross-entropy of logits ``bias + K * u`` on bits (sequences, length)."""
    z = np.array([np.convolve(row, K)[: u.shape[1]] for row in u]) + bias
    return np.mean(np.logaddexp(0, z) - z * target)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("length", [2, 3, 10, 50])
def test_the_floor_is_reached_and_never_undercut(rng, length, bias):
    """By the kernels of its proof [FLOOR-2, 3]; random kernels stay above."""
    u, target = previous_bit(rng, 40, length)
    floor = previous_bit_floor(u, bias=bias)
    u, target = u[:, 0], target[:, 0]
    first = u.argmax(axis=1)
    n_1 = np.sum((first == 0) & u.any(axis=1))
    n_0 = np.sum(first > 0)
    c = np.log(n_1 / n_0)
    large = 1e4
    b = -large * length if bias else 0.0
    K = np.full(length, -large)
    K[0] = c - b
    K[1] = 3 * large * length
    assert abs(loss_of_the_kernel(u, target, K, b) - floor) < 1e-12
    for scale in (0.1, 1, 10):
        for _ in range(20):
            K = scale * rng.standard_normal(length)
            b = scale * rng.standard_normal() if bias else 0.0
            assert loss_of_the_kernel(u, target, K, b) >= floor


def test_the_floor_of_fair_coins(rng):
    """[FLOOR-4]: 2 log 2 / T without a bias, log 2 / T with one."""
    u, _ = previous_bit(rng, 40_000, 10)
    assert abs(previous_bit_floor(u) / (2 * np.log(2) / 10) - 1) < 0.02
    assert abs(previous_bit_floor(u, bias=True) / (np.log(2) / 10) - 1) < 0.01
    assert previous_bit_floor(np.zeros((3, 1, 4))) == np.log(2)
    assert previous_bit_floor(np.zeros((3, 1, 4)), bias=True) == 0
    assert previous_bit_floor(np.ones((3, 1, 4))) == 0


# ----------------------------------------------------------------------------------- matrices


def test_the_matrices_differ_from_legs_where_they_say(rng):
    A = {kind: hippo_matrices.matrix(kind, rng) for kind in hippo_matrices.KINDS}
    legs = A["LegS"]
    for kind, a in A.items():
        assert np.linalg.eigvals(a).real.max() < 1e-3, kind  # of zero eight times: defective
    assert sorted(map(tuple, legs)) != sorted(map(tuple, A["rows random"]))
    changed = A["block zero"] != legs
    assert changed[4:, :4].all()
    assert not np.delete(changed, slice(4, 8), axis=0).any()
    assert not changed[:, 4:].any()
    assert (A["block random"][4:, :4] != legs[4:, :4]).all()
    assert not (A["block random"] != legs)[:, 4:].any()
    pairs = np.kron(np.eye(4), np.ones((2, 2))).astype(bool)
    assert not A["diagonal pairs zero"][pairs].any()
    np.testing.assert_array_equal(A["diagonal pairs zero"][~pairs], legs[~pairs])
    assert not np.diag(A["diagonal zero"]).any()
    same = ("LegS", "block zero", "block random")
    poles = [np.sort(np.linalg.eigvals(A[kind]).real) for kind in same]
    np.testing.assert_allclose(poles, [np.arange(-8.0, 0)] * 3, rtol=1e-6)


def test_matrices_with_the_same_poles_know_the_same(rng):
    """What can be read out linearly does not depend on coordinates [FLOOR-6]."""
    same = ("LegS", "block zero", "block random")
    read = [hippo_matrices.read_out(kind, np.random.default_rng(1), 100) for kind in same]
    np.testing.assert_allclose(read, read[0], rtol=1e-4)
    other = hippo_matrices.read_out("diagonal zero", np.random.default_rng(1), 100)
    assert other > 2 * read[0]


# --------------------------------------------------------------------------------------- clipping


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_clipping_is_elementwise_and_in_place(rng, dtype):
    g = rng.standard_normal((4, 5)).astype(dtype)
    if g.dtype.kind == "c":
        g = g + (1j * rng.standard_normal((4, 5))).astype(dtype)
    strided = np.repeat(g, 2, axis=1)[:, ::2]
    grads = {"A": g.copy(), "B": strided}
    held = grads["A"]
    parts = g.view(g.real.dtype)
    cut = np.count_nonzero(np.abs(parts) > 0.5)
    assert 0 < cut < parts.size
    assert clip_elementwise(grads, 0.5) == 2 * cut
    expected = np.clip(parts, -0.5, 0.5).view(dtype)
    for name in "AB":
        np.testing.assert_array_equal(grads[name], expected)
    assert grads["A"] is held
    assert clip_elementwise(grads, 0.5) == 0


def test_clipping_does_not_hide_nan():
    grads = {"A": np.array([np.nan, np.inf, -np.inf, 0.25])}
    assert clip_elementwise(grads, 0.5) == 2
    np.testing.assert_array_equal(grads["A"], [np.nan, 0.5, -0.5, 0.25])


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: previous_bit(0, 1, 1), "rng is 0"),
        (lambda: previous_bit(RNG, 0, 1), "sequences is 0"),
        (lambda: previous_bit(RNG, 1, 0), "length is 0"),
        (lambda: previous_bit(RNG, 1, 1, dtype="u1"), "dtype is"),
        (lambda: previous_bit_floor(np.ones((2, 3))), "inputs has shape"),
        (lambda: previous_bit_floor(np.full((1, 1, 3), 0.5)), "inputs holds other numbers"),
        (lambda: previous_bit_floor(np.ones((1, 1, 3)), bias=1), "bias is 1"),
        (lambda: copying_memory(RNG, 1, 0, 1), "symbols is 0"),
        (lambda: copying_memory(RNG, 1, 1, 0), "gap is 0"),
        (lambda: one_hot([[3]], 3), "tokens holds 3"),
        (lambda: one_hot([3], 4), "tokens is"),
        (lambda: one_hot([[0.0]], 4), "tokens is"),
        (lambda: delayed(RNG, 1, 5, 6), "delay is 6"),
        (lambda: delayed(RNG, 1, 5, 1, cycles=0), "cycles is 0"),
        (lambda: hippo_matrices.matrix("legs", RNG), "kind is 'legs'"),
        (lambda: hippo_matrices.matrix("LegS", RNG, 7), "N is 7; it must be even"),
        (lambda: clip_elementwise({}, 0.0), "limit is 0.0"),
        (lambda: clip_elementwise([np.ones(2)], 1.0), "grads is"),
        (lambda: clip_elementwise({"A": [1.0]}, 1.0), r"grads\['A'\] is"),
        (lambda: clip_elementwise({"A": np.ones(2, int)}, 1.0), r"grads\['A'\] is"),
        (lambda: clip_elementwise({"A": np.broadcast_to(1.0, 2)}, 1.0), r"grads\['A'\] is"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
