"""The sentinel: its data, its parts, and the control of which two parts alone are trained."""

import numpy as np
import pytest

from ssm_manual import plots
from ssm_manual.tasks import protocol, training_run
from ssm_manual.tasks.sentinel import VOCABULARY, Sentinel, sentinel


def test_one_place_of_every_second_sequence(rng):
    tokens, present = sentinel(rng, 4000, 25, vocabulary=6)
    assert tokens.shape == (4000, 25)
    np.testing.assert_array_equal((tokens == 5).sum(axis=1), present)
    assert tokens.min() == 0
    assert abs(present.mean() - 0.5) < 6 * 0.5 / np.sqrt(4000)
    places = np.bincount((tokens == 5).argmax(axis=1)[present == 1], minlength=25)
    assert places.shape == (25,)
    assert abs(places - 80).max() < 6 * np.sqrt(80)
    others = np.bincount(tokens[tokens < 5], minlength=5) / (tokens < 5).sum()
    assert abs(others - 0.2).max() < 0.01


def test_the_smallest_task(rng):
    """Two tokens, one place: the token is the answer."""
    tokens, present = sentinel(rng, 50, 1, vocabulary=2)
    np.testing.assert_array_equal(tokens[:, 0], present)
    assert set(present) == {0, 1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sentinel(0, 1, 1), "rng is 0"),
        (lambda: sentinel(np.random.default_rng(0), 0, 1), "sequences is 0"),
        (lambda: sentinel(np.random.default_rng(0), 1, 0), "length is 0"),
        (lambda: sentinel(np.random.default_rng(0), 1, 1, vocabulary=1), "vocabulary is 1"),
        (lambda: sentinel(np.random.default_rng(0), 1, 1, 2**64), "vocabulary is 18"),
        (lambda: Sentinel(length=9), "length is 9; it must be at least 10"),
        (lambda: Sentinel(delay=9), "an option of sentinel is 'delay'"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_sequence_is_in_two_parts():
    task = Sentinel(length=20)
    parts = task.parts(0)
    given = [
        list(part(0, np.random.default_rng(0)))
        for part in (parts.train, parts.validation, parts.test.open())
    ]
    found = [[row.tobytes() for batch in part for row in batch.u] for part in given]
    assert [len(part) for part in found] == [39 * 128, 1000, 1000]
    assert len(set(found[1])) == len(set(found[2])) == 1000
    assert not (set(found[0]) & set(found[1]) | set(found[0]) & set(found[2]))
    assert not set(found[1]) & set(found[2])
    for batch in (batch for part in given for batch in part):
        np.testing.assert_array_equal((batch.u == VOCABULARY - 1).any(axis=1), batch.target)


@pytest.mark.parametrize("model", Sentinel.models)
def test_what_was_chosen_was_compared(model):
    task = Sentinel()
    assert task.settings(model) in task.candidates(model)


def test_the_control_has_the_settings_of_s4d():
    task = Sentinel()
    settings, options = training_run.options_of(task, "s4d-frozen")
    full, full_options = training_run.options_of(task, "s4d")
    assert options == full_options
    assert settings.options == full.options | {"block": "s4d"}
    assert vars(settings) | {"frozen": None, "options": full.options} == vars(full)
    assert set(Sentinel.models) == {*protocol.MODELS, "s4d-frozen"}


def test_a_quick_run_learns_and_the_control_keeps_its_body():
    task = Sentinel(quick=True)
    found = training_run.compare(task, ("s4d", "s4d-frozen", "lstm"), progress=False)
    s4d, frozen, lstm = found.runs
    assert s4d.test["accuracy"] > 0.9
    assert abs(lstm.parameters / s4d.parameters - 1) < 0.1
    _, options = training_run.options_of(task, "s4d-frozen")
    parts = task.parts(0)
    drawn, _ = training_run._made(task, frozen.settings, options, parts, 0)
    moved = {
        name for name, a in frozen.model.params.items() if not np.array_equal(a, drawn.params[name])
    }
    assert moved == {"encoder.table", "head.weight", "head.bias"}
    ax = plots.figure().add_subplot()
    task.draw(found.runs, ax)
    assert ax.get_ylabel()
    drawn = [line for line in ax.lines if len(line.get_xdata()) > 2]
    assert len(drawn) == 2 * 3
    for with_it, without in zip(drawn[::2], drawn[1::2]):
        assert len(with_it.get_xdata()) + len(without.get_xdata()) == 200
        assert max(with_it.get_xdata()) < 30 < min(without.get_xdata())
