"""Delayed XOR: its data by hand, its curriculum step by step, and what its figures say."""

import dataclasses
import types

import numpy as np
import pytest

from ssm_manual import _plot_xor
from ssm_manual.models import SequenceModel
from ssm_manual.tasks import training_run, xor, xor_signal
from ssm_manual.training import EarlyStopping


def small_model(rng, **options):
    given = {"modes": 2, "mixer": "feed_forward", "expansion": 2, "dropout": 0.0, **options}
    return SequenceModel(3, 4, 2, 1, encoder="two_layer", pooling="last", rng=rng, **given)


# -------------------------------------------------------------------------------------------- data


def test_labels_by_loops(rng):
    for length in (3, 7, 30):
        inputs, labels = xor.delayed_xor(rng, 50, length)
        assert inputs.shape == (50, length, 3)
        assert inputs.dtype == np.float32
        for sequence, label in zip(inputs, labels):
            bits = sequence[:, 0].tolist()
            assert set(bits) <= {-1, 1}
            first = [t for t in range(length) if sequence[t, 1] != 0]
            last = [t for t in range(length) if sequence[t, 2] != 0]
            assert (len(first), len(last)) == (1, 1)
            assert first[0] < length // 3
            assert last[0] >= length - length // 3
            assert sequence[first[0], 1] == sequence[last[0], 2] == 1
            assert label == (1 if bits[first[0]] != bits[last[0]] else 0)


def test_marks_come_everywhere_in_their_thirds(rng):
    inputs, _ = xor.delayed_xor(rng, 500, 12)
    assert np.flatnonzero(inputs[..., 1].any(axis=0)).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(inputs[..., 2].any(axis=0)).tolist() == [8, 9, 10, 11]


def test_one_bit_says_nothing_and_two_say_all(rng):
    inputs, labels = xor.delayed_xor(rng, 4000, 9)
    sign = 1 - 2 * labels
    marked = [(inputs[..., 0] * inputs[..., k]).sum(axis=1) for k in (1, 2)]
    for one in (*inputs[..., 0].T, *marked):
        assert abs(np.mean(one * sign)) < 5 / np.sqrt(4000)
    np.testing.assert_array_equal(marked[0] * marked[1], sign)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rng": 0}, "rng is 0"),
        ({"sequences": 0}, "sequences is 0"),
        ({"length": 2}, "length is 2; it must be at least 3"),
        ({"dtype": "int64"}, "dtype is 'int64'"),
    ],
)
def test_bad_input(change, message):
    given = {"rng": np.random.default_rng(0), "sequences": 1, "length": 6, **change}
    with pytest.raises(ValueError, match=message):
        xor.delayed_xor(**given)


def test_bad_options():
    with pytest.raises(ValueError, match="shortest is 300; it must be at most the length, 256"):
        xor.DelayedXOR(shortest=300)
    with pytest.raises(ValueError, match="length is 2"):
        xor.DelayedXOR(length=2)
    with pytest.raises(ValueError, match="length is 10001; it must be at most 10000"):
        xor.DelayedXOR(length=10_001)
    assert xor.DelayedXOR(length=4).chosen == {"length": 4, "shortest": 4}
    with pytest.raises(ValueError, match="batches is 1; it must be at least 2"):
        xor_signal.label_signal(None, np.random.default_rng(0), 6, 1)


def test_parts_are_disjoint_and_of_their_sizes():
    task = xor.DelayedXOR(length=60)
    parts = task.parts(3)
    held = {"validation": parts.validation.arrays, "test": parts.test.open().arrays}
    assert [a.u.shape for a in held.values()] == [(500, 60, 3)] * 2
    seen = [{u.tobytes() for u in a.u} for a in held.values()]
    seen.append(
        {u.tobytes() for batch in parts.train(0, np.random.default_rng(3)) for u in batch.u}
    )
    assert [len(s) for s in seen] == [500, 500, parts.train.items]
    assert len(set.union(*seen)) == sum(map(len, seen))
    again = xor.DelayedXOR(length=60).parts(3)
    np.testing.assert_array_equal(again.validation.arrays.u, held["validation"].u)
    np.testing.assert_array_equal(again.test.open().arrays.u, held["test"].u)


@pytest.mark.parametrize(("length", "held"), [(3, 2), (4, 4), (6, 64), (8, 256), (9, 500)])
def test_short_sequences_are_in_one_part_alone(length, held):
    """There are 2^length (length // 3)^2 of them, which chance would put into several parts."""
    parts = xor.DelayedXOR(length=length).parts(0)
    fixed = [[u.tobytes() for u in a.arrays.u] for a in (parts.validation, parts.test.open())]
    assert [len(set(part)) for part in fixed] == [len(part) for part in fixed] == [held, held]
    assert not set(fixed[0]) & set(fixed[1])
    drawn = {u.tobytes() for b in parts.train(0, np.random.default_rng(0)) for u in b.u}
    assert len(drawn) <= 2**length * (length // 3) ** 2 - 2 * held
    assert not drawn & {item for part in fixed for item in part}


# -------------------------------------------------------------------------------------- curriculum


class Scripted:
    """A trainer whose losses are known beforehand; it records the lengths that it was given."""

    def __init__(self, losses, block="s4d"):
        self.losses, self.history, self.lengths = losses, {}, []
        self.model = types.SimpleNamespace(options={"block": block})

    def fit(self, data, *, epochs, curriculum, **_):
        self.history["epoch_loss"] = []
        for epoch in range(epochs):
            given = curriculum(epoch, data)
            batch = next(iter(given(epoch, np.random.default_rng(epoch))))
            self.lengths.append(batch[0].shape[1])
            self.history["epoch_loss"].append(self.losses[epoch])


def test_sequences_grow_when_they_are_learned_and_only_then():
    task = xor.DelayedXOR(length=10)
    parts = task.parts(0)
    losses = [0.7, 0.09, 0.11, 0.05, 0.7, 0.01, 0.01, 0.01, 0.01]
    settings = dataclasses.replace(task.settings("s4d"), epochs=len(losses))
    stopping = EarlyStopping(9)
    found = {"s4d": [6, 6, 7, 7, 9, 9, 10, 10, 10], "lstm": [6, 6, 8, 8, 10, 10, 10, 10, 10]}
    for block, lengths in found.items():  # another model on the same parts begins anew
        trainer = Scripted(losses, block)
        task.fit(trainer, parts, settings, early_stopping=stopping, progress=False)
        assert trainer.lengths == trainer.history["length"] == lengths


def test_without_a_curriculum():
    task = xor.DelayedXOR(length=10, shortest=10)
    trainer = Scripted([0.7, 0.7])
    settings = dataclasses.replace(task.settings("s4d"), epochs=2)
    task.fit(trainer, task.parts(0), settings, early_stopping=EarlyStopping(2), progress=False)
    assert trainer.lengths == [10, 10]


# ---------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def quick():
    task = xor.DelayedXOR(quick=True)
    return task, training_run.compare(task, seed=0, progress=False)


def test_a_quick_run_learns(quick):
    """Length 3 is learned within three epochs by one of the two at least; chance is log 2."""
    task, found = quick
    s4d, lstm = found.runs
    assert abs(s4d.parameters - lstm.parameters) < 0.03 * s4d.parameters
    assert max(s4d.history["epoch_loss"][-1], lstm.history["epoch_loss"][-1]) < 0.5
    length = 2 * task.chosen["length"]
    inputs, labels = xor.delayed_xor(np.random.default_rng([length, 5]), 500, length)
    y, _, _ = s4d.model.forward(inputs, cache=False)
    expected = np.mean((y[:, 1] > y[:, 0]) == labels)
    assert s4d.further["accuracy at twice the length"] == pytest.approx(expected)


def test_a_quick_task_keeps_what_was_asked_for():
    assert xor.DelayedXOR(quick=True).chosen == {"length": 6, "shortest": 3}
    assert xor.DelayedXOR(quick=True, length=20).chosen == {"length": 20, "shortest": 3}
    assert xor.DelayedXOR(quick=True, shortest=6).chosen == {"length": 6, "shortest": 6}
    with pytest.raises(ValueError, match="shortest is 7; it must be at most the length, 6"):
        xor.DelayedXOR(quick=True, shortest=7)


def test_every_model_has_settings_that_were_compared():
    task = xor.DelayedXOR()
    for name in task.models:
        assert task.settings(name) in task.candidates(name)
        assert len({s.lr for s in task.candidates(name)}) == 3


# ------------------------------------------------------------------------------- what labels say


def test_label_signal_of_all_items(rng):
    """At length 3 there are 8 sequences: mean and variance of the gradients can be counted out."""
    model = small_model(rng, dtype="float64")
    bits = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], float)
    inputs = np.zeros((8, 3, 3))
    inputs[..., 0] = bits
    inputs[:, 0, 1] = inputs[:, 2, 2] = 1
    pulls = []
    for u, (a, _, c) in zip(inputs, bits):
        _, _, cache = model.forward(u[None])
        towards = np.array([[-0.5, 0.5]]) if a == c else np.array([[0.5, -0.5]])
        grads = model.backward(towards, cache)[2]
        pulls.append(np.concatenate([g.ravel().view(float) for g in grads.values()]))
    mean = np.mean(pulls, axis=0)
    expected = mean @ mean / (np.sum(np.var(pulls, axis=0)) / xor.BATCH)
    found = xor_signal.label_signal(model, rng, 3, 200)
    assert found == pytest.approx(expected, rel=0.2)


def test_label_signal_has_no_bias(rng, monkeypatch):
    """Gradients of mean 1/2 and variance 1 a number: the ratio is 1/4 however few are averaged."""
    monkeypatch.setattr(xor_signal, "_pull", lambda *_: 0.5 + rng.standard_normal(40))
    model = types.SimpleNamespace(dtype=np.dtype("float32"))
    found = [xor_signal.label_signal(model, rng, 6, 4) for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.25, abs=0.03)


# ----------------------------------------------------------------------------------------- figures


def test_answers_are_drawn_for_both_bits(quick):
    task, found = quick
    inputs, labels = xor.delayed_xor(np.random.default_rng([0, 6]), 1, task.chosen["length"])
    ax = _plot_xor.xor_answers(inputs[0], {run.name: run.model for run in found.runs})
    shown = {line.get_label(): line.get_ydata() for line in ax.lines if "," in line.get_label()}
    assert set(shown) == {
        f"{n}, {what}" for n in ("s4d", "lstm") for what in ("they differ", "the same")
    }
    model = found.runs[0].model
    for what, flip in [("they differ", labels[0] == 0), ("the same", labels[0] == 1)]:
        heard = inputs.copy()
        heard[0, np.argmax(inputs[0, :, 1]), 0] *= -1 if flip else 1
        for t in range(task.chosen["length"]):
            y, _, _ = model.forward(heard[:, : t + 1], cache=False)
            expected = 1 / (1 + np.exp(y[0, 0] - y[0, 1]))
            assert shown[f"s4d, {what}"][t] == pytest.approx(expected, rel=1e-4)
    task.draw(found.runs, ax)
    assert "probability" in ax.get_ylabel()


def test_the_figure_of_training(quick):
    _, found = quick
    figure = _plot_xor.xor_training({run.name: [run.history] for run in found.runs})
    left, right = figure.axes
    history = found.runs[0].history
    np.testing.assert_array_equal(left.lines[0].get_ydata(), history["length"])
    np.testing.assert_array_equal(left.lines[0].get_xdata(), history["epoch_end"])
    expected = 100 * np.array(history["validation_accuracy"])
    np.testing.assert_allclose(right.lines[0].get_ydata(), expected)


def test_the_figure_of_the_signal():
    ax = _plot_xor.xor_signal({"s4d": {6: [0.5, 0.125], 12: [0.1, 0.1]}})
    mean = next(line for line in ax.lines if line.get_label() == "s4d")
    np.testing.assert_allclose(mean.get_ydata(), [4, 10])
    with pytest.raises(ValueError, match=r"ratios\['lstm'\]\[6\] is -0.1"):
        _plot_xor.xor_signal({"lstm": {6: [0.1, -0.1]}})
