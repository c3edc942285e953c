"""How far gradients reach: against kernels, forget gates and finite differences."""

import numpy as np
import pytest

from ssm_manual.layers import LSTM, RNN, S4D
from ssm_manual.models import SequenceModel
from ssm_manual.tasks import gradient_reach as module
from ssm_manual.tasks import memory
from ssm_manual.tasks.gradient_reach import gradient_reach


@pytest.mark.parametrize("features", [1, 3])
def test_that_of_a_diagonal_layer_is_its_kernel(rng, features):
    layer = S4D(features, 4, dt_min=0.01, dt_max=0.5, dtype="float64", rng=rng)
    u = rng.standard_normal((2, features, 90))
    K = layer.kernel(90)
    K[:, 0] += layer.params["D"]
    reach = gradient_reach(layer, u, rng=rng)
    np.testing.assert_allclose(reach, np.sqrt(np.mean(K**2, axis=0)), rtol=1e-9, atol=1e-14)
    # it does not depend on the input
    np.testing.assert_allclose(gradient_reach(layer, 9 * u[:1], rng=rng), reach, rtol=1e-9)


def test_a_kernel_lies_below_the_bound_of_its_poles(rng):
    """|K_k| <= 2 sum_n |C_n B_bar_n| exp(-k dt |Re A_n|), and comes near it with one real pole."""
    layer = S4D(3, 4, dt_min=0.01, dt_max=0.5, dtype="float64", rng=rng)
    k, z = np.arange(200), layer.dt[:, None] * layer.A
    B_bar = np.expm1(z) / layer.A * layer.B
    size = 2 * np.abs(layer.params["C"] * B_bar)
    bound = np.sum(size[..., None] * np.exp(z.real[..., None] * k), axis=1)
    assert np.all(np.abs(layer.kernel(200)) <= bound * (1 + 1e-12))

    one = S4D(1, 1, initial="real", dt_min=0.05, dt_max=0.05, dtype="float64", rng=rng)
    reach = gradient_reach(one, np.zeros((1, 1, 50)), rng=rng)
    decay = np.exp(0.05 * one.A.real[0, 0])
    np.testing.assert_allclose(reach[2:] / reach[1:-1], decay, rtol=1e-9)


@pytest.mark.parametrize("bias", [-1.0, 1.0, 3.0])
def test_that_of_an_lstm_without_matrix_is_the_product_of_its_forget_gates(rng, bias):
    layer = LSTM(2, 3, dtype="float64", rng=rng)
    layer.params["W_h"][:] = 0
    layer.params["W_in"][3:6] = 0  # the gates see nothing: they are what the bias says
    module.set_forget_bias(layer, bias)
    f = 1 / (1 + np.exp(-bias))
    reach = gradient_reach(layer, np.zeros((2, 2, 400)), rng=rng)  # down to 1e-228
    # from the sample before the last on: that one acts through the output's gate too
    np.testing.assert_allclose(reach[2:] / reach[1:-1], f, rtol=1e-9)
    # other rows stay as they were drawn
    assert not np.any(np.isin(layer.params["bias"][[0, 1, 2, 6, 7, 8]], bias))


def test_that_of_an_rnn_lies_below_the_norm_of_its_matrix(rng):
    layer = RNN(2, 5, dtype="float64", rng=rng)
    reach = gradient_reach(layer, rng.standard_normal((3, 2, 60)), rng=rng)
    norm = np.linalg.norm(layer.params["W_h"], 2)
    start = np.linalg.norm(layer.params["W_in"], 2) * np.sqrt(5 / 2)
    assert np.all(reach <= start * norm ** np.arange(60))


def test_is_the_mean_over_signs_of_the_jacobian(rng):
    """One item and all signs: the mean square is the Jacobian's, by differences."""
    layer = LSTM(2, 2, dtype="float64", rng=rng)
    u, h = rng.standard_normal((1, 2, 6)), 1e-6
    jacobian = np.empty((2, 2, 6))
    for i in range(2):
        for t in range(6):
            ends = []
            for step in (h, -h):
                v = u.copy()
                v[0, i, t] += step
                ends.append(layer.forward(v)[0][0, :, -1])
            jacobian[:, i, t] = (ends[0] - ends[1]) / (2 * h)
    many = np.repeat(u, 4000, axis=0)
    reach = gradient_reach(layer, many, rng=rng)
    expected = np.sqrt(np.sum(jacobian**2, axis=(0, 1)) / 2)[::-1]
    np.testing.assert_allclose(reach, expected, rtol=0.08)


@pytest.mark.parametrize("task", ["generation", "classification"])
def test_takes_a_model_of_ids(rng, task):
    options = {"task": task, "encoder": "embedding", "pooling": "last"}
    if task == "generation":
        del options["pooling"]
    model = SequenceModel(5, 6, 4, 1, modes=3, dropout=0.0, rng=rng, **options)
    reach = gradient_reach(model, rng.integers(0, 5, (2, 30)), rng=rng)
    assert reach.shape == (30,)
    assert np.all(reach > 0)
    assert reach[0] > reach[1]  # what goes around the block reaches the last sample alone


def test_memories_are_spread_from_two_samples_on(rng):
    layer = LSTM(2, 400, rng=rng)
    rest = layer.params["bias"][800:].copy()
    module.spread_memories(layer, 100, rng=rng)
    write, keep = layer.params["bias"][:400], layer.params["bias"][400:800]
    np.testing.assert_array_equal(write, -keep)
    np.testing.assert_array_equal(layer.params["bias"][800:], rest)
    m = np.exp(keep)
    assert m.min() >= 1
    assert m.max() <= 99
    assert np.mean(m) == pytest.approx(50, abs=5)
    f = 1 / (1 + np.exp(-keep.astype(float)))
    np.testing.assert_allclose(1 - f, 1 / (1 + m), rtol=1e-5)


def test_layers_at_the_start_stand_in_their_order():
    reach = module.at_start(200, features=8, items=2)
    assert [label.split(",")[0] for label in reach] == ["S4D"] * 3 + ["LSTM"] * 3 + ["RNN"]
    far = {label: r[150] for label, r in reach.items()}
    slow, middle, fast, drawn, one, spread, rnn = far.values()
    assert min(slow, middle) > 10 * fast > 1e6 * one > 1e9 * drawn
    assert spread > 1e6 * one
    assert drawn > rnn
    again = module.at_start(200, features=8, items=2)
    assert all(np.array_equal(reach[label], again[label]) for label in reach)


def test_training_puts_the_reach_where_the_answer_is():
    """Three symbols, eight blanks: after training the last output looks where its symbol stood."""
    trained = module.train_copying("s4d", delay=8, updates=100, d_model=32, progress=False)
    assert trained.before.shape == trained.after.shape == (28,)
    assert trained.parameters == trained.model.count_parameters()
    assert trained.recalled > 0.9
    assert trained.history["validation_recalled"][-1] > 0.9
    assert np.argmax(trained.after[1:]) + 1 == 18  # delay and symbols
    assert trained.after[18] > 2 * trained.before[18]


def test_an_lstm_may_start_with_spread_memories():
    one, other = (
        module.train_copying("lstm", delay=3, updates=50, memories=m, d_model=8, progress=False)
        for m in (True, False)
    )
    assert one.before[-1] > 10 * other.before[-1]
    assert one.parameters == other.parameters


def test_the_models_have_as_many_parameters():
    sizes = {}
    for block, chosen in module.COPYING.items():
        options = {key: value for key, value in chosen.items() if key != "lr"}
        model = SequenceModel(
            memory.TOKENS, d_output=memory.TOKENS, task="generation", encoder="embedding",
            block=block, rng=np.random.default_rng(0), **options,
        )  # fmt: skip
        sizes[block] = model.count_parameters()
    assert max(sizes.values()) < 1.01 * min(sizes.values())


LAYER = RNN(1, 2, rng=np.random.default_rng(0))
CELL = LSTM(1, 2, rng=np.random.default_rng(0))
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gradient_reach(LAYER, np.ones((1, 1, 0)), rng=RNG),
            "u is .*and one sample",
        ),
        (lambda: gradient_reach(LAYER, np.ones((0, 1, 4)), rng=RNG), "u is .*at least one item"),
        (lambda: gradient_reach(LAYER, np.ones(4), rng=RNG), "u is"),
        (lambda: gradient_reach("s4d", np.ones((1, 1, 4)), rng=RNG), "model is 's4d'"),
        (lambda: gradient_reach(LAYER, np.ones((1, 1, 4)), rng=0), "rng is 0"),
        (lambda: module.set_forget_bias(LAYER, 1.0), "layer is RNN.*must be an LSTM"),
        (lambda: module.set_forget_bias(CELL, np.inf), "bias is inf"),
        (
            lambda: module.set_forget_bias(LSTM(1, 2, bias=False, rng=RNG), 1.0),
            "must be an LSTM with a bias",
        ),
        (lambda: module.spread_memories(CELL, 2, rng=RNG), "longest is 2; .*at least 3"),
        (lambda: module.spread_memories(CELL, 9, rng=1), "rng is 1"),
        (lambda: module.at_start(2), "length is 2"),
        (lambda: module.at_start(9, features=0), "features is 0"),
        (lambda: module.train_copying("gru"), "block is 'gru'"),
        (lambda: module.train_copying("s4d", delay=0), "delay is 0"),
        (lambda: module.train_copying("s4d", updates=60), "updates is 60; .*multiple of 50"),
        (lambda: module.train_copying("s4d", memories=True), "memories is True.*no forget gate"),
        (lambda: module.train_copying("s4d", width=3), "a setting is 'width'"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
