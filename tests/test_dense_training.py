"""Training dense layers: the published run repeated, its floor, and what solves its task."""

import numpy as np
import pytest
from conftest import assert_close, load

from ssm_manual.layers import S4D, DenseSSM
from ssm_manual.tasks import memory
from ssm_manual.training import DivergenceError, sequences
from ssm_manual.training.sequences import evaluate, train

PUBLISHED = load("cphy.npz")
BITS = {
    name: PUBLISHED[f"prevbit/{name}"].transpose(0, 2, 1).astype(float)
    for name in ("x_train", "y_train", "x_test", "y_test")
}
TRAIN, TEST = (BITS["x_train"], BITS["y_train"]), (BITS["x_test"], BITS["y_test"])
LOSS = "binary_cross_entropy"


def start(**more):
    """The published model before training."""
    arrays = {name: PUBLISHED[f"prevbit/{name}0"] for name in "ABC"}
    return DenseSSM.from_arrays(**arrays, **more, view="scan")


def clamped_loss(z, target):
    """The published loss: ``-log(p + 1e-8)`` of the bit that was asked for."""
    return np.mean(-np.log(1 / (1 + np.exp(np.where(target == 1, -z, z))) + 1e-8))


def accuracy(layer, u, target):
    return np.mean((layer.forward(u)[0] > 0) == target)


# -------------------------------------------------------------------------------- the published run


def test_one_sequence():
    layer = start()
    _, grads = evaluate(layer, TRAIN[0][:1], TRAIN[1][:1], LOSS)
    loss = clamped_loss(layer.forward(TRAIN[0][:1])[0], TRAIN[1][:1])
    assert abs(loss - PUBLISHED["prevbit/loss_seq0"]) < 1e-14
    for name in "ABC":
        assert_close(grads[name], PUBLISHED[f"prevbit/d{name}_seq0"], 1e-12)


def test_softmax_on_a_copying_sequence():
    layer = DenseSSM.from_arrays(**{name: PUBLISHED[f"copy/{name}0"] for name in "ABC"})
    u = PUBLISHED["copy/u"][np.newaxis, np.newaxis]
    labels = PUBLISHED["copy/target"][np.newaxis].astype(int)
    value, grads = evaluate(layer, u, labels, "softmax_cross_entropy")
    assert_close(layer.forward(u)[0][0].T, PUBLISHED["copy/logits"], 1e-12)
    # The published logarithm has 1e-8 added to its argument: 1e-7 at ten classes.
    p = np.exp(-value)
    assert abs(value - PUBLISHED["copy/loss"]) < 2e-8 / p
    for name in "ABC":
        assert_close(grads[name], PUBLISHED[f"copy/d{name}"], 1e-12)


def test_the_published_run_is_repeated(monkeypatch):
    """100 epochs of 100 sequences, an update each: every loss of the curve, and where it ends.

    Only the published logarithm is clamped; its gradient is ours.
    """
    layer, seen = start(), []
    forward, *rest = sequences.LOSSES[LOSS]

    def recorded(z, target, **options):
        seen.append(clamped_loss(z, target))
        return forward(z, target, **options)

    monkeypatch.setitem(sequences.LOSSES, LOSS, (recorded, *rest))
    exact = train(layer, *TRAIN, LOSS, rate=0.01, limit=1.0, epochs=10)
    for name in "ABC":
        assert_close(layer.params[name], PUBLISHED[f"prevbit/epoch10/{name}"], 1e-12)
    exact = np.append(exact, train(layer, *TRAIN, LOSS, rate=0.01, limit=1.0, epochs=90))
    for name in "ABC":
        assert_close(layer.params[name], PUBLISHED[f"prevbit/epoch100/{name}"], 1e-9)
    curve = np.reshape(seen, (100, 100)).mean(axis=1)
    assert np.abs(curve - PUBLISHED["prevbit/train_losses"]).max() < 1e-9
    assert 0 < (exact - curve).min() < (exact - curve).max() < 3e-8
    assert round(exact[-1], 6) == 0.136944
    z = layer.forward(TEST[0])[0]
    assert abs(clamped_loss(z, TEST[1]) - PUBLISHED["prevbit/epoch100/test_loss"]) < 1e-9
    assert round(evaluate(layer, *TEST, LOSS, backward=False)[0], 6) == 0.137369
    assert accuracy(layer, *TEST) == PUBLISHED["prevbit/epoch100/test_acc"] == 0.94
    # What it has come to is its floor, and the accuracy the best there is [FLOOR-2].
    loss, _ = evaluate(layer, *TRAIN, LOSS, backward=False)
    floor = memory.previous_bit_floor(TRAIN[0])
    assert floor < loss < floor + 0.003
    first = TRAIN[0][:, 0].argmax(axis=1)
    wrong = min(np.sum(first == 0), np.sum(first > 0))
    assert wrong == 49
    assert accuracy(layer, *TRAIN) == 1 - wrong / TRAIN[0].size


# ----------------------------------------------------------------------------- what solves the task


def solved(layer, weights=None, epochs=10):
    train(layer, *TRAIN, LOSS, rate=0.1, limit=0.1, epochs=epochs, weights=weights)
    return layer


def test_with_a_bias_and_a_state_to_start_from_it_is_solved():
    """Every bit of the test, the first ones too; every parameter has moved."""
    before = start(D=np.zeros((1, 1)), bias=np.zeros(1), x0=np.zeros(8))
    layer = solved(start(D=np.zeros((1, 1)), bias=np.zeros(1), x0=np.zeros(8)))
    assert accuracy(layer, *TEST) == accuracy(layer, *TRAIN) == 1
    assert evaluate(layer, *TEST, LOSS, backward=False)[0] < 0.02
    for name, a in layer.params.items():
        assert (a != before.params[name]).any(), name


def test_with_bias_and_D_alone_the_first_bit_stays():
    """[FLOOR-3]: not below the floor; where the first sample is left out, solved."""
    arrays = {"D": np.zeros((1, 1)), "bias": np.zeros(1)}
    layer = solved(start(**arrays))
    loss, _ = evaluate(layer, *TRAIN, LOSS, backward=False)
    assert memory.previous_bit_floor(TRAIN[0], bias=True) < loss
    assert loss < memory.previous_bit_floor(TRAIN[0])  # with a bias it gets below that
    assert accuracy(layer, *TRAIN) <= 1 - 49 / TRAIN[0].size
    later = np.ones(TRAIN[0].shape)
    later[..., 0] = 0
    layer = solved(start(**arrays), weights=later)
    assert (((layer.forward(TEST[0])[0] > 0) == TEST[1])[..., 1:]).all()


# -------------------------------------------------------------------------------------- the loop


def test_batches_are_means_and_a_fixed_A_stays(rng):
    """One update of a batch of four, by hand."""
    arrays = start(bias=np.zeros(1)).to_arrays()
    layer = DenseSSM.from_arrays(**arrays, train_A=False)
    u, target = TRAIN[0][:4], TRAIN[1][:4]
    value, grads = evaluate(layer, u, target, LOSS)
    losses = train(layer, u, target, LOSS, rate={"B": 0.5, "bias": 0.25}, epochs=1, batch=4)
    assert losses == [value]
    np.testing.assert_array_equal(layer.params["B"], arrays["B"] - 0.5 * grads["B"])
    np.testing.assert_array_equal(layer.params["bias"], arrays["bias"] - 0.25 * grads["bias"])
    np.testing.assert_array_equal(layer.params["C"], arrays["C"])
    np.testing.assert_array_equal(layer.A, arrays["A"])


def test_lists_are_taken_in_the_layers_precision(rng):
    u, target = memory.previous_bit(rng, 5, 6)
    options = {"rate": 0.1, "epochs": 2, "batch": 2}
    layers = [DenseSSM(2, 1, 1, rng=np.random.default_rng(0), train_state=True) for _ in range(2)]
    given = u.tolist(), target.tolist(), LOSS
    losses = train(layers[0], *given, weights=np.ones(u.shape).tolist(), **options)
    expected = train(layers[1], *(a.astype("f4") for a in (u, target)), LOSS, **options)
    np.testing.assert_array_equal(losses, expected)


def test_the_last_batch_may_be_smaller_and_the_order_shuffled():
    layer = start()
    means = train(layer, TRAIN[0][:7], TRAIN[1][:7], LOSS, rate=1e-12, epochs=2, batch=3)
    value, _ = evaluate(layer, TRAIN[0][:7], TRAIN[1][:7], LOSS)
    assert_close(means, np.full(2, value), 1e-9)
    ends = []
    for rng in (None, np.random.default_rng(1)):
        layer = start()
        train(layer, TRAIN[0][:7], TRAIN[1][:7], LOSS, rate=0.1, epochs=1, rng=rng)
        ends.append(layer.params["C"])
    assert (ends[0] != ends[1]).any()


def test_other_layers_and_losses_train_too(rng):
    layer = S4D(2, 3, rng=rng, dtype="float64", dt_min=0.1, dt_max=0.5)
    u = rng.standard_normal((6, 2, 30))
    target = np.roll(u, 1, axis=-1)
    losses = train(layer, u, target, "half_mse", rate=0.05, epochs=20, batch=2)
    assert losses[-1] < 0.8 * losses[0]


def test_a_radius_holds_A_while_it_is_trained():
    layer = start()
    train(layer, TRAIN[0][:20], TRAIN[1][:20], LOSS, rate=0.1, epochs=5, radius=0.6, limit=0.1)
    assert layer.spectral_radius <= 0.6
    free = start()
    train(free, TRAIN[0][:20], TRAIN[1][:20], LOSS, rate=0.1, epochs=5, limit=0.1)
    assert free.spectral_radius > 0.6


def test_divergence_leaves_sound_parameters():
    layer = start()
    with pytest.raises(DivergenceError, match="diverged at epoch"):
        train(layer, *TRAIN, LOSS, rate=50.0, epochs=5)
    assert all(np.isfinite(a).all() for a in layer.params.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, r"rate\['A'\] is 0.0"),
        ({"rate": {"D": 0.1}}, "rate is 'D'"),
        ({"epochs": -1}, "epochs is -1"),
        ({"batch": 0}, "batch is 0"),
        ({"limit": 0.0}, "limit is 0.0"),
        ({"radius": 2.0}, "radius is 2.0"),
        ({"rng": 0}, "rng is 0"),
        ({"loss": "bce"}, "loss is 'bce'"),
        ({"loss": "mse", "weights": np.ones((2, 1, 10))}, "weights is given; mse takes none"),
        ({"weights": np.ones((3, 1, 10))}, "weights has 3 sequences"),
        ({"targets": TRAIN[1][:3]}, "targets has 3 sequences"),
        ({"targets": TRAIN[1][:2, :, :3]}, "targets has shape"),
        ({"inputs": np.full((2, 1, 10), np.nan)}, "inputs holds nan"),
    ],
)
def test_refuses(options, message):
    call = {"inputs": TRAIN[0][:2], "targets": TRAIN[1][:2], "loss": LOSS, "rate": 0.1, "epochs": 1}
    with pytest.raises(ValueError, match=message):
        train(start(), **call | options)
