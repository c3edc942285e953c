"""Previous bit and copying memory as tasks: parts, scores, settings, quick runs."""

import numpy as np
import pytest

from ssm_manual import plots
from ssm_manual.tasks import memory, protocol, training_run
from ssm_manual.tasks._drawn import drawn_parts
from ssm_manual.tasks.copying import CopyingMemory, recalled
from ssm_manual.tasks.previous_bit import PreviousBit, bits_right
from ssm_manual.training import Batch


def items(batches):
    """The sequences of a part as bytes."""
    given = batches(0, np.random.default_rng(0))
    return [row.tobytes() for batch in given for row in np.asarray(batch.u)]


# ------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("task", "held", "train"),
    [
        (PreviousBit(), 256, 1024),
        (PreviousBit(length=8), 64, 1024),
        (PreviousBit(length=1000), 1000, 1024),
        (PreviousBit(quick=True, length=50), 200, 1024),
        (CopyingMemory(), 1000, 1024),
        (CopyingMemory(quick=True), 200, 1024),
    ],
    ids=lambda value: f"{value.name} {value.chosen}" if isinstance(value, protocol.Task) else None,
)
def test_no_sequence_is_in_two_parts(task, held, train):
    parts = task.parts(3)
    drawn, validation, test = (items(p) for p in (parts.train, parts.validation, parts.test.open()))
    assert (len(drawn), len(validation), len(test)) == (train, held, held)
    assert len(set(validation)) == len(set(test)) == held
    assert not set(drawn) & set(validation)
    assert not set(drawn) & set(test)
    assert not set(validation) & set(test)


def test_parts_follow_from_the_seed():
    task = PreviousBit()
    first, again, other = (task.parts(seed) for seed in (0, 0, 1))
    assert items(first.validation) == items(again.validation) != items(other.validation)
    assert items(first.test.open()) == items(again.test.open()) != items(other.test.open())
    long = PreviousBit(length=1000).parts(7)
    for stream, part in ((3, long.validation), (4, long.test.open())):
        u, _ = memory.previous_bit(np.random.default_rng([7, stream]), 1000, 1000, dtype="float32")
        np.testing.assert_array_equal(part.arrays.u[..., 0], u[:, 0])


def test_no_training_epoch_is_like_another():
    data = CopyingMemory(quick=True).parts(0).train
    epochs = [next(data(k, np.random.default_rng([0, 0, k]))).u for k in range(2)]
    assert (epochs[0] != epochs[1]).any()


def test_rows_keep_together_when_some_are_drawn_again():
    """Of ten items six are held: what is left comes with its own target, lengths and weights."""

    def draw(rng, count):
        u = rng.integers(0, 10, (count, 1))
        return Batch(u, 2 * u, 3 * u[:, 0], 0.5 * u)

    parts = drawn_parts(draw, 0, held=3, batches=5, batch_size=7)
    fixed = (*parts.validation(0, None), *parts.test.open()(0, None))
    left = set(range(10)) - {int(v) for batch in fixed for v in batch.u[:, 0]}
    assert len(left) == 4
    for batch in (*fixed, *parts.train(0, np.random.default_rng(0))):
        np.testing.assert_array_equal(batch.target, 2 * batch.u)
        np.testing.assert_array_equal(batch.lengths, 3 * batch.u[:, 0])
        np.testing.assert_array_equal(batch.weights, 0.5 * batch.u)
    seen = [batch.u for batch in parts.train(0, np.random.default_rng(0))]
    assert {u.shape for u in seen} == {(7, 1)}
    assert set(np.concatenate(seen)[:, 0].tolist()) == left


def test_the_bits_are_those_of_the_task():
    batch = next(PreviousBit(length=40).parts(0).train(0, np.random.default_rng(0)))
    assert batch.u.shape == batch.target.shape == (32, 40, 1)
    assert batch.u.dtype == batch.target.dtype == np.float32
    np.testing.assert_array_equal(batch.target[:, 1:], batch.u[:, :-1])
    np.testing.assert_array_equal(batch.target[:, 0], batch.u[:, 0])


def test_blanks_weigh_as_much_as_symbols():
    task = CopyingMemory(delay=7)
    batch = next(task.parts(0).train(0, np.random.default_rng(0)))
    assert task.length == 27
    assert batch.u.shape == (32, 27)
    np.testing.assert_array_equal(batch.target[:, 17:], batch.u[:, :10])
    assert (batch.u[:, 16] == memory.MARKER).all()
    np.testing.assert_array_equal(batch.weights[:, 17:], 1)
    np.testing.assert_allclose(batch.weights[:, :17].sum(axis=1), 10, rtol=1e-6)


# ------------------------------------------------------------------------------------------ scores


def test_only_symbols_count():
    """Three of eight symbols right, all blanks wrong."""
    target = np.array([[0, 0, 4, 1, 2, 3], [0, 0, 8, 5, 6, 7]])
    answers = np.array([[5, 5, 4, 1, 1, 1], [9, 9, 8, 0, 9, 2]])
    assert recalled(np.eye(10)[answers], target) == 3 / 8


def test_every_bit_counts():
    bits = np.array([[[0.0], [1.0], [1.0]], [[0.0], [0.0], [1.0]]])
    logits = np.array([[[-0.1], [3.0], [-1.0]], [[-9.0], [1.0], [0.2]]])
    assert bits_right(logits, bits) == 4 / 6
    assert bits_right(np.zeros(2), np.array([0.0, 1.0])) == 0.5  # undecided is a 0


class Answers:
    """A model that answers what it was told to."""

    def __init__(self, target, wrong):
        self.logits = np.eye(10)[np.where(wrong, (target + 1) % 10, target)]

    def forward(self, u, cache=False):
        rows, self.logits = self.logits[: len(u)], self.logits[len(u) :]
        return rows, None, None


def test_further_figures_of_copying():
    """Of 200 sequences, one has a wrong symbol, another two wrong blanks."""
    task = CopyingMemory(quick=True, delay=6)
    test = task.parts(0).test.open()
    wrong = np.zeros(test.arrays.target.shape, bool)
    wrong[3, -1] = wrong[150, 0] = wrong[150, 4] = True
    found = task.further(Answers(test.arrays.target, wrong), test)
    assert found == {"whole answers": 199 / 200, "blanks": pytest.approx(1 - 2 / (200 * 11))}


@pytest.mark.parametrize("length", [10, 1000])
def test_the_rule_of_all_bits_but_the_first(rng, length):
    """To answer the bit before, and 0 where there is none, is as good as the goal says."""
    u, target = memory.previous_bit(rng, 4000, length)
    before = np.concatenate([np.zeros_like(u[..., :1]), u[..., :-1]], axis=-1)
    share = bits_right(before - 0.5, target)
    goal = PreviousBit(length=length).goal()
    assert goal["goal"] == 1
    assert abs(share - goal["wrong at the first alone"]) < 4 / (2 * length * np.sqrt(4000))


def test_the_goals_of_copying():
    assert CopyingMemory().goal() == {"goal": 0.999, "chance": 0.125}
    assert CopyingMemory(delay=1000).goal()["goal"] == 0.99


# ---------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("task", [PreviousBit(), CopyingMemory()], ids=lambda task: task.name)
@pytest.mark.parametrize("model", protocol.MODELS)
def test_what_was_chosen_was_compared(task, model):
    assert task.settings(model) in task.candidates(model)
    assert 2 <= len(task.candidates(model)) <= 4


def test_poles_cover_the_sequence():
    """They are multiples of 2 pi / L radians a sample, up to half the sampling rate."""
    task = CopyingMemory(delay=100)
    parts = task.parts(0)
    settings, options = training_run.options_of(task, "s4d")
    model, trainer = training_run._made(task, settings, options, parts, 0)
    layer = model.layers["blocks.0"].ssm
    turns = (layer.A.imag * layer.dt[:, None]) * task.length / (2 * np.pi)
    np.testing.assert_allclose(turns, np.tile(np.arange(60), (32, 1)), atol=1e-3)
    rates = trainer.optimizer.groups
    assert rates["blocks.0.ssm.log_dt"][1] == 0
    assert rates["blocks.0.ssm.A_imag"][1] == 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PreviousBit(length=7), "length is 7; it must be at least 8"),
        (lambda: PreviousBit(length=10.0), "length is 10.0; it must be an integer"),
        (lambda: PreviousBit(delay=3), "an option of previous-bit is 'delay'"),
        (lambda: CopyingMemory(delay=0), "delay is 0; it must be at least 1"),
        (lambda: CopyingMemory(delay=2001), "delay is 2001; it must be at most 2000"),
        (lambda: CopyingMemory(quick="yes"), "quick is 'yes'"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -------------------------------------------------------------------------------------- quick runs


@pytest.mark.parametrize("cls", [PreviousBit, CopyingMemory], ids=lambda cls: cls.name)
def test_a_quick_run_learns(cls):
    task = cls(quick=True)
    found = training_run.compare(task, ("s4d", "lstm"), progress=False)
    s4d, lstm = found.runs
    assert s4d.test["accuracy"] == 1
    assert abs(lstm.parameters / s4d.parameters - 1) < 0.1
    assert lstm.updates <= 96
    ax = plots.figure().add_subplot()
    task.draw(found.runs, ax)
    assert ax.get_xlabel()
    if cls is CopyingMemory:
        assert s4d.further == {"whole answers": 1, "blanks": 1}
        shown = [text.get_text() for text in ax.texts]
        assert shown[:5] == shown[5:10]  # S4D answers what is asked for
        wrong = sum(a != b for a, b in zip(shown[:5], shown[10:]))
        assert len(ax.lines) == wrong  # each crossed out
