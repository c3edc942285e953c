"""Both cross-entropies: equal to the reference, sound at logits of 1000, digits kept near zero."""

import numpy as np
import pytest
from conftest import LAYOUTS, assert_close
from mpmath import mp, mpf

from ssm_manual import reference
from ssm_manual.ops.binary_cross_entropy import (
    binary_cross_entropy,
    binary_cross_entropy_fwd,
    binary_cross_entropy_vjp,
)
from ssm_manual.ops.softmax_cross_entropy import (
    softmax_cross_entropy,
    softmax_cross_entropy_fwd,
    softmax_cross_entropy_vjp,
)

UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (3, 2, 65), (1047,)])
def test_binary_value_and_gradient(rng, shape, weighted, dtype):
    z, t = (3 * rng.standard_normal(shape)).astype(dtype), rng.random(shape).astype(dtype)
    z, t = np.asarray(z), np.asarray(t)
    w = np.asarray(rng.random(shape) + 0.1, dtype) if weighted else None
    wide = None if w is None else w.astype(float)
    value, kept = binary_cross_entropy_fwd(z, t, weights=w)
    given = z.astype(float), t.astype(float)
    expected = reference.binary_cross_entropy.binary_cross_entropy(*given, weights=wide)
    assert value.dtype == dtype
    assert binary_cross_entropy(z, t, weights=w) == value
    assert abs(value - expected) <= 8 * UNIT[dtype] * expected
    found = binary_cross_entropy_vjp(kept, 0.7)
    grads = reference.binary_cross_entropy.binary_cross_entropy_vjp(*given, 0.7, weights=wide)
    assert [g.dtype for g in found] == [dtype, dtype]
    assert_close(found, grads, 16 * UNIT[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"), [((1, 4), -1), ((5,), 0), ((3, 10, 65), 1), ((7, 2, 3), 0), ((4, 6, 1), 2)]
)
def test_softmax_value_and_gradient(rng, shape, axis, weighted, dtype):
    z = (3 * rng.standard_normal(shape)).astype(dtype)
    positions = tuple(np.delete(shape, axis))
    labels = rng.integers(0, shape[axis], positions)
    w = np.asarray(rng.random(positions) + 0.1, dtype) if weighted else None
    wide = None if w is None else w.astype(float)
    value, kept = softmax_cross_entropy_fwd(z, labels, axis=axis, weights=w)
    slow = reference.softmax_cross_entropy
    args = z.astype(float), labels
    expected = slow.softmax_cross_entropy(*args, axis=axis, weights=wide)
    assert value.dtype == dtype
    assert softmax_cross_entropy(z, labels, axis=axis, weights=w) == value
    assert abs(value - expected) <= 8 * UNIT[dtype] * max(expected, 1)
    grad, none = softmax_cross_entropy_vjp(kept, 0.7)
    assert none is None
    assert grad.dtype == dtype
    expected, _ = slow.softmax_cross_entropy_vjp(*args, 0.7, axis=axis, weights=wide)
    # The reference forms p - 1, of the size of rounding where p is nearly 1.
    share = 1 / labels.size if w is None else w.max() / w.sum()
    assert_close(grad, expected, 16 * UNIT[dtype], scale=0.7 * share)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_a_thousand(dtype):
    z = np.array([1000, 1000, -1000, -1000], dtype)
    t = np.array([0, 1, 0, 1], dtype)
    value, kept = binary_cross_entropy_fwd(z, t)
    assert value == 500
    np.testing.assert_array_equal(binary_cross_entropy_vjp(kept, 4.0)[0], [1, 0, 0, -1])
    z = np.array([[1000, -1000, 0], [-1000, 1000, 0]], dtype)
    value, kept = softmax_cross_entropy_fwd(z, [0, 0])
    assert value == 1000
    np.testing.assert_array_equal(softmax_cross_entropy_vjp(kept, 2.0)[0], [[0, 0, 0], [-1, 1, 0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_nearly_right_keeps_its_digits(dtype):
    """1 - p is never formed from p: at logits of 25, float32 would make it zero."""
    exact = mp.log1p(mp.exp(mpf(-25)))
    sure = float(mp.exp(mpf(-25)) / (1 + mp.exp(mpf(-25))))
    for z, t in ((25.0, 1.0), (-25.0, 0.0)):
        value, kept = binary_cross_entropy_fwd(np.array([z], dtype), np.array([t], dtype))
        assert abs(value / float(exact) - 1) < 8 * UNIT[dtype]
        grad = binary_cross_entropy_vjp(kept, 1.0)[0][0]
        assert abs(grad / sure - (1 - 2 * t)) < 8 * UNIT[dtype]
    value, kept = softmax_cross_entropy_fwd(np.array([[25, 0]], dtype), [0])
    assert abs(value / float(exact) - 1) < 8 * UNIT[dtype]
    grad = softmax_cross_entropy_vjp(kept, 1.0)[0][0]
    assert_close(grad, sure * np.array([-1.0, 1.0]), 8 * UNIT[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sign", [1, -1])
def test_soft_targets_keep_their_digits(dtype, sign):
    """z - z t is of the size of the rounding of z where t is nearly 1."""
    t = dtype(1 - 4 * UNIT[dtype] if sign > 0 else 4 * UNIT[dtype])
    z = dtype(sign * 33)
    wrong = 1 - mpf(float(t)) if sign > 0 else mpf(float(t))
    exact = float(wrong * 33 + mp.log1p(mp.exp(-33)))
    value = binary_cross_entropy(np.array([z]), np.array([t]))
    assert abs(value / exact - 1) < 8 * UNIT[dtype]


def test_sums_are_taken_in_double_precision():
    """2^24 and some ones: a running total in single precision does not see the ones."""
    w = np.ones(128, np.float32)
    w[0] = 2**24
    z, t = np.full(128, -0.5, np.float32), np.ones(128, np.float32)
    z[0] = -1.5
    exact = np.sum(w.astype(float) * np.log1p(np.exp(-z.astype(float)))) / (2**24 + 127)
    value, kept = binary_cross_entropy_fwd(z, t, weights=w)
    assert abs(value / exact - 1) < 4 * UNIT[np.float32]
    assert kept.total == 2**24 + 127
    logits = np.stack([0 * z, z], axis=-1)
    value, kept = softmax_cross_entropy_fwd(logits, np.ones(128, int), weights=w)
    assert abs(value / exact - 1) < 4 * UNIT[np.float32]
    assert kept.total == 2**24 + 127


def test_two_classes_are_the_binary_loss(rng):
    z, bits = rng.standard_normal((3, 9)), rng.integers(0, 2, (3, 9))
    value, kept = softmax_cross_entropy_fwd(np.stack([0 * z, z], axis=1), bits, axis=1)
    other, kept_other = binary_cross_entropy_fwd(z, bits.astype(float))
    assert abs(value - other) < 1e-15
    grad = softmax_cross_entropy_vjp(kept, 1.0)[0]
    assert_close(grad[:, 1], binary_cross_entropy_vjp(kept_other, 1.0)[0], 1e-14)


def test_one_class_is_certain(rng):
    value, kept = softmax_cross_entropy_fwd(rng.standard_normal((4, 1)), np.zeros(4, int))
    assert value == 0
    assert not softmax_cross_entropy_vjp(kept, 1.0)[0].any()


def test_zero_weights_leave_positions_out(rng):
    z, labels = rng.standard_normal((5, 4, 20)), rng.integers(0, 4, (5, 20))
    mask = np.zeros((5, 20))
    mask[:, -6:] = 1
    value, kept = softmax_cross_entropy_fwd(z, labels, axis=1, weights=mask)
    alone, kept_alone = softmax_cross_entropy_fwd(z[..., -6:], labels[:, -6:], axis=1)
    assert abs(value - alone) < 1e-15
    grad = softmax_cross_entropy_vjp(kept, 1.0)[0]
    assert not grad[..., :-6].any()
    assert_close(grad[..., -6:], softmax_cross_entropy_vjp(kept_alone, 1.0)[0], 1e-15)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, layout):
    change = LAYOUTS[layout]
    z, t, w = rng.standard_normal((3, 5)), rng.random((3, 5)), rng.random((3, 5))
    value, kept = binary_cross_entropy_fwd(z, t, weights=w)
    other, kept_other = binary_cross_entropy_fwd(change(z), change(t), weights=change(w))
    assert abs(value - other) <= 1e-15
    both = [binary_cross_entropy_vjp(k, 1.0) for k in (kept, kept_other)]
    assert_close(both[1], both[0], 1e-15)
    labels = rng.integers(0, 5, 3)
    value, kept = softmax_cross_entropy_fwd(z, labels)
    other, kept_other = softmax_cross_entropy_fwd(change(z), change(labels))
    assert abs(value - other) <= 1e-15
    both = [softmax_cross_entropy_vjp(k, 1.0) for k in (kept, kept_other)]
    assert_close(both[1], both[0], 1e-15)


Z, T, LABELS = np.zeros((2, 3)), np.ones((2, 3)), np.array([0, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binary_cross_entropy(Z, T[:1]), r"targets has shape \(1, 3\)"),
        (lambda: binary_cross_entropy(Z, 2 * T), r"targets holds 2.0; .* from 0 to 1"),
        (lambda: binary_cross_entropy(Z, -T), "targets holds -1.0"),
        (lambda: binary_cross_entropy(Z, T.astype("f4")), "one precision"),
        (lambda: binary_cross_entropy(Z + 0j, T), "logits has dtype complex128"),
        (lambda: binary_cross_entropy(Z[:0], T[:0]), "logits has shape .* must not be empty"),
        (lambda: binary_cross_entropy(Z / Z.shape[0] + np.inf, T), "logits holds inf"),
        (lambda: binary_cross_entropy(Z, T, weights=T[0]), r"weights has shape \(3,\)"),
        (lambda: binary_cross_entropy(Z, T, weights=-T), "weights holds -1.0"),
        (lambda: binary_cross_entropy(Z, T, weights=0 * T), "weights are all zero"),
        (lambda: binary_cross_entropy(Z, T, weights=T.astype("f4")), "weights has dtype float32"),
        (lambda: softmax_cross_entropy(Z, [0, 3]), "labels holds 3; .* from 0 to 2"),
        (lambda: softmax_cross_entropy(Z, [-1, 2]), "labels holds -1"),
        (lambda: softmax_cross_entropy(Z, [0.0, 1.0]), "labels is .* array of integers"),
        (lambda: softmax_cross_entropy(Z, [[0], [0, 1]]), "labels is .* array of integers"),
        (lambda: softmax_cross_entropy(Z, [True, False]), "labels is .* array of integers"),
        (lambda: softmax_cross_entropy(Z, LABELS, axis=0), r"labels has shape \(2,\)"),
        (lambda: softmax_cross_entropy(Z, LABELS, axis=2), "axis is 2; it must be at most 1"),
        (lambda: softmax_cross_entropy(Z, LABELS, weights=np.zeros(2)), "weights are all zero"),
        (lambda: softmax_cross_entropy(Z[:0], LABELS[:0]), "logits has shape"),
        (lambda: softmax_cross_entropy(np.zeros(()), LABELS), "logits has shape"),
        (lambda: softmax_cross_entropy(1j * Z, LABELS), "logits has dtype complex128"),
        (
            lambda: binary_cross_entropy_vjp(binary_cross_entropy_fwd(Z, T)[1], np.ones(2)),
            "grad_loss",
        ),
        (
            lambda: softmax_cross_entropy_vjp(softmax_cross_entropy_fwd(Z, LABELS)[1], 1j),
            "grad_loss",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
