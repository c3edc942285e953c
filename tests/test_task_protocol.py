"""The protocol of tasks: parts, the seal, settings, rivals of the same size, what is kept."""

import dataclasses
import time

import numpy as np
import pytest

from ssm_manual.models.presets import parameter_count
from ssm_manual.tasks import catalogue, training_run
from ssm_manual.tasks.protocol import (
    CHOICE_SEED,
    Fresh,
    Option,
    Parts,
    Score,
    Sealed,
    Settings,
    Task,
)
from ssm_manual.training import Batches, EarlyStopping, accuracy


class Tones(Task):
    """Which of three tones is it?"""

    name, title, summary = "tones", "Tones", "which tone"
    options = {"length": Option(20, "samples", minimum=4, maximum=50)}  # noqa: RUF012

    def parts(self, seed):
        def part(stream, items):
            rng = np.random.default_rng([seed, stream])
            label = rng.integers(0, 3, items)
            turns = rng.uniform(0, 6, (items, 1)) + np.outer(
                0.3 * (1 + label), np.arange(self.chosen["length"])
            )
            return Batches(np.sin(turns)[..., None].astype(np.float32), label, batch_size=8)

        return Parts(part(2, 32), part(3, 24), Sealed(part(4, 16)))

    def shape(self):
        return {"d_input": 1, "d_output": 3, "task": "classification"}

    def settings(self, model):
        if model == "frozen":
            return Settings(6, 1, {"modes": 2, "block": "s4d"}, epochs=2, frozen=is_block)
        if model in ("lstm", "rnn"):
            return Settings(None, 1, lr=0.01, epochs=2)
        return Settings(6, 1, {"modes": 2}, lr=0.02, epochs=4)

    def candidates(self, model):
        chosen = self.settings(model)
        return dataclasses.replace(chosen, lr=1e-9), chosen

    def metrics(self):
        return {"accuracy": accuracy}

    def goal(self):
        return {"chance": 1 / 3}

    def rivals(self, parts, test):
        label = test.arrays.target
        return (Score("always 0", float(np.mean(label == 0)), "the first class"),)

    def further(self, model, test):
        return {"items": float(len(test.arrays.u))}


Tones.models = (*Task.models, "frozen")


def is_block(name):
    return name.startswith("blocks.")


@pytest.fixture(scope="module")
def found():
    return training_run.compare(Tones(), ("s4d", "lstm", "frozen"), seed=3, progress=False)


def test_a_sealed_part_opens_once():
    sealed = Sealed([1])
    assert sealed.open() == [1]
    with pytest.raises(RuntimeError, match="opened before"):
        sealed.open()


def test_fresh_items_differ_from_epoch_to_epoch_and_follow_from_the_generator():
    data = Fresh(lambda rng, n: (rng.random(n), np.zeros(n)), batches=2, batch_size=3)
    assert len(data) == 2
    assert data.items == 6
    first, again, second = (
        [u for u, _ in data(epoch, np.random.default_rng([0, epoch]))] for epoch in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.isin(first, second).any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"length": 3}, r"length is 3; .* at least 4"),
        ({"length": 51}, r"length is 51; .* at most 50"),
        ({"delay": 3}, "an option of tones is 'delay'"),
        ({"data": "x.npz"}, "data is 'x.npz'; it must be None"),
        ({"quick": 1}, "quick is 1"),
    ],
)
def test_options_are_checked(given, message):
    with pytest.raises(ValueError, match=message):
        Tones(**given)


def test_every_model_is_scored_on_the_same_opened_part(found):
    assert [run.name for run in found.runs] == ["s4d", "lstm", "frozen"]
    for run in found.runs:
        y, _, _ = run.model.forward(found.test.arrays.u)
        assert run.test["accuracy"] == pytest.approx(accuracy(y, found.test.arrays.target))
        assert run.further == {"items": 16.0}
        assert run.updates == 4 * len(run.history["epoch_loss"])  # 32 items in batches of 8
    assert found.rivals[0].value == np.mean(found.test.arrays.target == 0)


def test_the_epoch_that_is_best_on_validation_is_kept(found):
    for run in found.runs:
        seen = run.history["validation_accuracy"]
        assert run.best_epoch == 1 + int(np.argmax(seen))
        assert run.validation["accuracy"] == pytest.approx(max(seen))


@pytest.mark.parametrize(("higher", "best"), [(True, 3), (False, 2)])
def test_the_best_epoch_is_kept_wherever_it_is(monkeypatch, higher, best):
    def metrics(self):
        told = iter(np.repeat([3.0, 1.0, 4.0, 2.0], 3))  # an epoch validates on three batches
        return {"accuracy": lambda y, target: next(told, 0.0)}

    monkeypatch.setattr(Tones, "metrics", metrics)
    monkeypatch.setattr(Tones, "higher_is_better", higher)
    run = training_run.train(Tones(), "s4d", Tones().parts(0), seed=0, progress=False)
    losses = run.history["validation_loss"]
    assert run.best_epoch == best
    assert run.validation["loss"] == pytest.approx(losses[best - 1], rel=1e-6)
    assert sum(abs(loss - losses[best - 1]) < 1e-4 for loss in losses) == 1


def test_the_test_part_has_no_influence(monkeypatch):
    """Other test items, the same training and validation: the same model, bit for bit."""
    parts = Tones.parts

    def other(self, seed):
        kept = parts(self, seed)
        return kept._replace(test=Sealed(parts(self, seed + 1).test.open()))

    first = training_run.compare(Tones(), ("s4d",), seed=3, progress=False)
    monkeypatch.setattr(Tones, "parts", other)
    second = training_run.compare(Tones(), ("s4d",), seed=3, progress=False)
    for name, value in first.runs[0].model.params.items():
        assert np.array_equal(value, second.runs[0].model.params[name])
    assert not np.array_equal(first.test.arrays.u, second.test.arrays.u)


def test_what_is_frozen_stays(found):
    frozen = found.runs[2].model
    drawn = type(frozen)(**frozen.options, rng=np.random.default_rng([3, 1]))
    for name, value in frozen.params.items():
        assert np.array_equal(value, drawn.params[name]) == is_block(name)


def test_rivals_have_as_many_parameters_as_a_unit_of_width_allows():
    task = Tones()
    wanted = parameter_count(**training_run.options_of(task, "s4d")[1])
    for name in ("lstm", "rnn"):
        settings, options = training_run.options_of(task, name)
        assert settings.d_model == options["d_model"]
        away = [
            abs(parameter_count(**options | {"d_model": settings.d_model + step}) - wanted)
            for step in (-1, 0, 1)
        ]
        assert min(away) == away[1]


def test_choosing_never_opens_the_test_part(monkeypatch):
    monkeypatch.setattr(Sealed, "open", lambda self: pytest.fail("opened"))
    runs = list(training_run.choose(Tones(), "s4d", progress=False))
    assert [run.settings.lr for run in runs] == [1e-9, 0.02]
    assert [run.seed for run in runs] == [CHOICE_SEED] * 2
    ends = [run.history["validation_loss"][0] - run.history["validation_loss"][-1] for run in runs]
    assert abs(ends[0]) < 1e-5 < 1e-3 < abs(ends[1])
    assert all(run.test == {} for run in runs)


@pytest.mark.parametrize(("ssm_lr", "rate"), [(0.005, 0.005), (None, 0.001)])
def test_a_trainer_is_made_as_the_settings_say(ssm_lr, rate):
    """Twenty updates, four of them warming up, then half a cosine to zero."""
    task = Tones()
    task.loss_options = {"axis": -1}
    given = {"lr": 0.02, "ssm_lr": ssm_lr, "weight_decay": 0.3, "warmup": 0.2, "max_norm": 0.7}
    settings = Settings(6, 1, {"modes": 2}, epochs=5, **given)
    settings, options = training_run._completed(task, "s4d", settings)
    model, trainer = training_run._made(task, settings, options, task.parts(0), 3)
    factors = [trainer.schedule(k) for k in (0, 3, 4, 12, 20)]
    assert factors == pytest.approx([0.25, 1, 1, 0.5, 0])
    groups = {"ssm": ("ssm", rate, 0.0), "rest": ("rest", 0.02, 0.3)}
    for name in model.params:
        group = "ssm" if name.startswith("blocks.0.ssm.") and not name.endswith(".D") else "rest"
        assert trainer.optimizer.groups[name] == groups[group], name
    assert (trainer.max_norm, trainer.seed) == (0.7, 3)
    assert trainer._passes.loss_options == {"axis": -1}


def test_compilation_is_not_on_the_clock(monkeypatch):
    monkeypatch.setattr(training_run, "_warm", lambda *_: time.sleep(0.2))
    began = time.perf_counter()
    run = training_run.train(Tones(), "s4d", Tones().parts(0), seed=0, progress=False)
    assert 0 < run.seconds < time.perf_counter() - began - 0.2


@pytest.mark.parametrize("mode", ["max", "min"])
def test_training_ends_as_soon_as_it_is_good_enough(mode):
    stopping = EarlyStopping(5, mode=mode, enough=0.5)
    assert stopping.reached(0.5)
    assert stopping.reached(0.6) == (mode == "max")
    assert not stopping.reached(float("nan"))
    assert not EarlyStopping(5, mode=mode).reached(0.5)
    with pytest.raises(ValueError, match="enough"):
        EarlyStopping(5, enough=float("nan"))


def test_good_enough_is_good_enough(monkeypatch):
    settings = dataclasses.replace(Tones().settings("s4d"), enough=0.3, epochs=4)
    monkeypatch.setattr(Tones, "settings", lambda self, model: settings)
    run = training_run.compare(Tones(), ("s4d",), seed=3, progress=False).runs[0]
    seen = run.history["validation_accuracy"]
    assert seen[-1] >= 0.3
    assert all(value < 0.3 for value in seen[:-1])
    assert len(seen) < 4


def test_unknown_names_are_refused(monkeypatch):
    monkeypatch.setattr(training_run, "train", lambda *a, **o: pytest.fail("it trained"))
    with pytest.raises(ValueError, match="model is 'gru'"):
        training_run.compare(Tones(), ("s4d", "gru"), progress=False)
    with pytest.raises(ValueError, match=r"models is \('s4d', 's4d'\); it must name some, each"):
        training_run.compare(Tones(), ("s4d", "s4d"), progress=False)
    with pytest.raises(ValueError, match=r"models is \(\)"):
        training_run.compare(Tones(), (), progress=False)
    with pytest.raises(ValueError, match="seed is -1"):
        training_run.compare(Tones(), ("s4d",), seed=-1)
    with pytest.raises(ValueError, match="task is 'nothing'"):
        catalogue.task_class("nothing")


@pytest.mark.parametrize("name", catalogue.TASKS)
def test_the_catalogue_knows_its_tasks(name, tmp_path):
    task = catalogue.task_class(name)
    assert task.name == name
    assert task.summary == catalogue.TASKS[name].summary
    assert task.title
    assert task.description.strip()
    data = None
    if task.needs_data:
        data = tmp_path / "images.npz"
        np.savez(data, x=np.zeros((60, 8, 8), np.uint8), y=np.arange(60) % 10)
    chosen = task(data=data)
    assert set(task.beside) <= set(task.models)
    of_s4d, options = training_run.options_of(chosen, "s4d")
    wanted = parameter_count(**options)
    for model in task.models:
        assert chosen.settings(model) in chosen.candidates(model)
        settings, options = training_run.options_of(chosen, model)
        # a rival has at most as many updates, and as many parameters as its width allows
        assert settings.epochs <= of_s4d.epochs
        if model in ("lstm", "rnn", "s4d-frozen"):
            assert abs(parameter_count(**options) / wanted - 1) < 0.07


def test_the_first_candidate_is_used_where_a_task_says_nothing_else():
    class Listed(Task):
        def candidates(self, model):
            return Settings(4, 1), Settings(8, 1)

    assert Listed().settings("s4d") == Settings(4, 1)
    with pytest.raises(NotImplementedError):
        Task().settings("s4d")
    with pytest.raises(NotImplementedError):
        Task().candidates("s4d")
