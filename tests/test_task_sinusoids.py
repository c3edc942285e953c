"""Forecasts of sums of sinusoids: the data, what needs no network, the free run, a quick run."""

import numpy as np
import pytest

from ssm_manual.models import SequenceModel
from ssm_manual.tasks import sinusoids, training_run
from ssm_manual.tasks.free_run import Autoregression, free_run


class Fixed:
    """A generator that draws what it is told to."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def uniform(self, low, high, shape):
        value = np.broadcast_to(self.draws.pop(0), shape)
        assert (value >= low).all()
        assert (value <= high).all()
        return value


def test_sequences_by_their_formula(monkeypatch):
    monkeypatch.setattr(sinusoids._validate, "generator", lambda name, value: value)
    rng = Fixed([[[2.0, 0.5]]], [[[4.0, 1.0]]], [[[0.3, 0.0]]], [[[0.0, 1.0]]])
    rng.standard_normal = lambda shape: np.arange(6.0).reshape(shape)
    noisy, clean = sinusoids.sequences(rng, 1, 3, features=2, noise=0.1)
    for i in range(3):
        t = i * 4 * np.pi / 200
        assert clean[0, i, 0] == pytest.approx(np.sin(2 * t + 0.3) + 0.5 * np.sin(4 * t))
        assert clean[0, i, 1] == pytest.approx(np.sin(0.5 * t) + 0.5 * np.sin(t + 1))
    np.testing.assert_allclose(noisy - clean, 0.1 * np.arange(6.0).reshape(1, 3, 2))


def test_features_and_sequences_are_drawn_for_themselves(rng):
    noisy, clean = sinusoids.sequences(rng, 200, 50)
    assert np.std(noisy - clean) == pytest.approx(0.05, rel=0.03)
    flat = clean.swapaxes(1, 2).reshape(600, 50)
    assert np.unique(flat[:, 0]).size == 600
    # 1/2 and 1/8 of power, in the mean over phases
    assert np.mean(flat[:, 0] ** 2) == pytest.approx(0.625, rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rng": 3}, "rng is 3; it must be a numpy.random.Generator"),
        ({"items": 0}, "items is 0"),
        ({"length": 1.5}, "length is 1.5; it must be an integer"),
        ({"features": 0}, "features is 0"),
        ({"noise": -0.1}, "noise is -0.1"),
    ],
)
def test_sequences_refuse(options, message, rng):
    options = {"rng": rng, "items": 2, "length": 10, **options}
    with pytest.raises(ValueError, match=message):
        sinusoids.sequences(options.pop("rng"), options.pop("items"), **options)


@pytest.mark.parametrize("options", [{"length": 9}, {"steps": 0}, {"delay": 3}])
def test_the_task_refuses(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}"):
        sinusoids.SinusoidForecast(**options)


def test_parts():
    task = sinusoids.SinusoidForecast()
    parts = task.parts(5)
    test = parts.test.open()
    for part, items in ((parts.train, 1000), (parts.validation, 200), (test, 200)):
        u, step = part.arrays.u, part.arrays.target
        assert u.shape == step.shape == (items, 200, 3)
        assert u.dtype == step.dtype == np.float32
        np.testing.assert_allclose(u[:, :-1] + step[:, :-1], u[:, 1:], atol=1e-6)
        assert part.later.noisy.shape == part.later.clean.shape == (items, 50, 3)
        np.testing.assert_allclose(u[:, -1] + step[:, -1], part.later.noisy[:, 0], atol=1e-6)
    firsts = np.concatenate([p.arrays.u[:, 0] for p in (parts.train, parts.validation, test)])
    assert np.unique(firsts).size == firsts.size
    assert not np.array_equal(task.parts(6).train.arrays.u, parts.train.arrays.u)


# -------------------------------------------------------------------------------- autoregression


def test_autoregression_finds_the_rule_of_one_sinusoid():
    t = np.arange(40)
    x = np.stack([np.sin(0.3 * t + p) for p in (0.0, 1.0, 2.5)])[:, :, np.newaxis]
    found = Autoregression(x, 2)
    np.testing.assert_allclose(found.weights[1], [-1.0, 2 * np.cos(0.3)], atol=1e-9)
    ahead = found.free_run(x[:, :10], 2, 30)
    np.testing.assert_allclose(ahead, x[:, 10:], atol=1e-6)


def test_autoregression_is_least_squares_and_starts_with_what_there_is(rng):
    x = rng.standard_normal((4, 12, 2))
    found = Autoregression(x, 3)
    rows, target = [], []
    for s in range(4):
        for f in range(2):
            for t in range(3, 12):
                rows.append(x[s, t - 3 : t, f])
                target.append(x[s, t, f])
    np.testing.assert_allclose(found.weights[2], np.linalg.lstsq(rows, target, rcond=None)[0])
    latest = np.array(rows)[:, 2:]  # a lower order is fitted to the same targets
    np.testing.assert_allclose(found.weights[0], np.linalg.lstsq(latest, target, rcond=None)[0])
    np.testing.assert_allclose(found.next(x[:, :1], 3), found.weights[0] * x[:, 0])
    by_hand = [found.next(x[:, :t], 2) - x[:, t] for t in range(1, 12)]
    assert found.error(x, 2) == pytest.approx(np.mean(np.square(by_hand)))


def test_autoregression_of_what_one_weight_would_do_for_and_of_any_unit(rng):
    found = Autoregression(np.ones((2, 9, 1)), 3)  # of all that forecast it, the smallest
    np.testing.assert_allclose(found.weights[2], 1 / 3)
    x = rng.standard_normal((2, 20, 1))
    for size in (1e-300, 1e300):
        scaled = Autoregression(size * x, 3).weights[2]
        np.testing.assert_allclose(scaled, Autoregression(x, 3).weights[2], rtol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_autoregression_keeps_its_digits_beside_an_offset(offset, rng):
    """Squares of the offset would bury what is to be forecast."""
    t = np.arange(200)
    x = (offset + np.where(t % 2, 1.0, -1.0) + 0.01 * rng.standard_normal(200)).reshape(1, -1, 1)
    found = Autoregression(x, 2)
    wrong = [found.next(x[:, :t], 2) - x[:, t] for t in range(2, 200)]
    assert np.sqrt(np.mean(np.square(wrong))) < 0.03


@pytest.mark.parametrize(
    ("x", "order", "message"),
    [
        (np.zeros((2, 5)), 1, r"x has shape \(2, 5\)"),
        (np.ones((2, 5, 1)), 5, "order is 5"),
        (np.ones((2, 5, 1)), 0, "order is 0"),
    ],
)
def test_autoregression_refuses(x, order, message):
    with pytest.raises(ValueError, match=message):
        Autoregression(x, order)


# ------------------------------------------------------------------------------------- a free run


def test_a_free_run_feeds_back_what_it_says(rng):
    model = SequenceModel(
        3, 32, 3, 2, task="regression", modes=16, norm="none", dropout=0.0, rng=rng
    )
    u = rng.standard_normal((2, 12, 3), dtype=np.float32)
    found = free_run(model, u, 4)
    x = u
    for _ in range(4):  # the whole sequence read anew for every sample
        y = model.forward(x, cache=False)[0]
        x = np.concatenate([x, x[:, -1:] + y[:, -1:]], axis=1)
    np.testing.assert_allclose(found, x[:, 12:], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="steps is 0"):
        free_run(model, u, 0)


# ----------------------------------------------------------------------------------- the quick run


@pytest.fixture(scope="module")
def quick():
    task = sinusoids.SinusoidForecast(quick=True)
    return task, training_run.compare(task, ("s4d", "lstm"), seed=0, progress=False)


def test_a_quick_run_learns(quick):
    task, found = quick
    for run in found.runs:
        losses = run.history["epoch_loss"]
        assert losses[-1] < 0.85 * losses[0]
    assert abs(found.runs[0].parameters / found.runs[1].parameters - 1) < 0.05
    last, fitted = found.rivals
    assert last.value == pytest.approx(0.0138, rel=0.15)
    assert 0.0025 < fitted.value < 0.6 * last.value
    assert task.goal() == {"the noise alone": pytest.approx(0.0025)}


def test_the_order_is_chosen_on_validation(monkeypatch):
    task = sinusoids.SinusoidForecast(quick=True)
    parts = task.parts(0)
    asked = []

    def error(self, x, order):
        asked.append(x)
        return abs(order - 8)

    monkeypatch.setattr(Autoregression, "error", error)
    fitted, order = task.autoregression(parts)
    assert (order, fitted.order) == (8, 32)
    assert all(np.array_equal(x[:, :-1], parts.validation.arrays.u) for x in asked)


def test_scores_are_of_samples_not_of_steps(quick):
    _, found = quick
    run, test = found.runs[0], found.test
    u, step = test.arrays.u, test.arrays.target
    forecast = u + run.model.forward(u, cache=False)[0]
    assert run.test["loss"] == pytest.approx(np.mean((forecast - (u + step)) ** 2), rel=1e-3)
    ahead = free_run(run.model, u, 50)
    clean, noisy = run.further.values()
    assert clean == pytest.approx(np.mean((ahead - test.later.clean) ** 2))
    assert noisy == pytest.approx(np.mean((ahead - test.later.noisy) ** 2))
    assert clean != noisy


def test_the_panel_has_every_answer(quick):
    from matplotlib.figure import Figure

    task, found = quick
    ax = Figure().subplots()
    task.draw(list(found.runs), ax)
    labels = [line.get_label() for line in ax.lines]
    assert {"read", "without noise", "S4D", "LSTM"} <= set(labels)
    truth = ax.lines[labels.index("without noise")].get_ydata()
    np.testing.assert_array_equal(truth, found.test.later.clean[0, :, 0])


def test_settings_stand_among_the_candidates():
    task = sinusoids.SinusoidForecast()
    for model in task.models:
        assert task.settings(model) in task.candidates(model)
        assert len(task.candidates(model)) >= 2
        assert task.settings(model).epochs == 20
