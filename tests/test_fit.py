"""`fit`: its data, its progress, every way to end, and the doors it keeps shut."""

import copy

import numpy as np
import pytest
from conftest import assert_close
from test_diagonal import KINDS
from test_training import bits, gentle, problem

from ssm_manual.training import DivergenceError, descent, fit


def test_history(rng):
    model, u, target = problem(rng, "discrete-real-D", 25)
    history = fit(model, u, target, epochs=4, rates=gentle(model))
    assert (history.epochs, history.reason) == (4, "finished")
    y, _, _ = model.forward(u)
    after = fit(model, u, target, epochs=1, rates=gentle(model))
    assert_close(after.losses[0], np.mean((y - target) ** 2), 1e-13)
    assert after.losses[0] < history.losses[-1] < history.losses[0]


# ------------------------------------------------------------------------------- data and progress


def batches_of(u, target):
    """A callable over fixed rows that keeps a record of what it was asked for."""
    calls = []

    def batches(start, count):
        calls.append((start, count))
        return u[start : start + count], target[start : start + count]

    return batches, calls


@pytest.mark.parametrize("mode", ["bptt", "convolution"])
def test_rows_are_used_in_order_across_chunks(rng, mode, monkeypatch):
    model, u, target = problem(rng, "discrete-real-D", 23, 12)
    one_by_one = copy.deepcopy(model)
    options = {"rates": gentle(model), "mode": mode}
    expected = [
        one_by_one.fit(u[k], target[k], epochs=1, **options).losses[0] for k in range(len(u))
    ]
    work = 12 * 4 * (20 if mode == "convolution" else 1)
    monkeypatch.setattr(descent, "CHUNK", 5 * work)
    batches, calls = batches_of(u, target)
    seen = []
    history = model.fit(
        batches, epochs=23, progress=lambda done, loss: seen.append((done, loss)), **options
    )
    assert history.losses.tolist() == expected
    assert bits(model) == bits(one_by_one)
    assert [call for call in calls if call != (0, 1)] == [(1, 5), (6, 5), (11, 5), (16, 5), (21, 2)]
    assert seen == [(k, expected[k - 1]) for k in (1, 6, 11, 16, 21, 23)]


# ------------------------------------------------------------------------------------ early stops


def by_definition(losses, target_loss=0.0, patience=np.inf, improvement=1e-4):
    """How many epochs are evaluated, and why no more, from the losses of a run to the end."""
    best, stale = np.inf, 0
    for epoch, loss in enumerate(losses):
        if loss <= target_loss:
            return epoch + 1, "target_loss"
        stale = 0 if loss < best * (1 - improvement) else stale + 1
        best = loss if stale == 0 else best
        if stale >= patience:
            return epoch + 1, "patience"
    return len(losses), "finished"


@pytest.mark.parametrize("batch", [1, 2])
def test_early_stops_at_the_epoch_by_definition(rng, batch, monkeypatch):
    monkeypatch.setattr(descent, "CHUNK", 7 * 20 * 4 * batch * (20 if batch > 1 else 1))
    # Fresh noise would make losses go up and down; so does a rate near the limit.
    model, u, target = problem(rng, "discrete-real-D", batch, 20)
    rates = gentle(model, 30)
    full = copy.deepcopy(model).fit(u, target, epochs=80, rates=rates).losses
    reasons = set()
    for stops in [
        {"target_loss": float(full[40])},
        {"target_loss": float(full[0])},
        {"patience": 1, "improvement": 0.02},
        {"patience": 3, "improvement": 0.02},
        {"patience": 10, "improvement": 0.02},
        {"patience": 2, "improvement": 1.0},
        {"patience": 80, "improvement": 0.0},
    ]:
        epochs, reason = by_definition(full, **stops)
        stopped, expected = copy.deepcopy(model), copy.deepcopy(model)
        history = stopped.fit(u, target, epochs=80, rates=rates, **stops)
        assert (history.epochs, history.reason) == (epochs, reason)
        assert history.losses.tolist() == full[:epochs].tolist()
        updates = epochs if reason == "finished" else epochs - 1  # none follows the last loss
        if updates:
            expected.fit(u, target, epochs=updates, rates=rates)
        assert bits(stopped) == bits(expected)
        reasons.add(reason)
    assert reasons == {"target_loss", "patience", "finished"}


# -------------------------------------------------------------------------------------- divergence

PATHS = {
    "compiled": (lambda u: u[0], {}),
    "batch": (lambda u: u, {}),
    "convolution": (lambda u: u[0], {"mode": "convolution"}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("-D")])
def test_divergence_is_reported_and_undone(rng, kind, path, dtype, monkeypatch):
    rows, options = PATHS[path]
    model, u, target = problem(rng, kind, 2, 30, dtype=dtype)
    monkeypatch.setattr(descent, "CHUNK", 1)  # each epoch is a chunk: the last sound one is known
    zero = dict.fromkeys(gentle(model), 0.0)
    culprits = {"B": (1e2, 1e10, 1e30), "C": (1e2, 1e10, 1e30), "D": (1e2, 1e30), "dt": (1e5,)}
    for name, values in culprits.items():
        for rate in values if name in zero else ():
            trained = copy.deepcopy(model)
            sound = []

            def keep(done, loss, trained=trained, sound=sound):
                sound.append(bits(trained))

            with pytest.raises(DivergenceError, match=f"furthest is {name}: lower") as caught:
                trained.fit(
                    rows(u),
                    rows(target),
                    epochs=500,
                    rates=zero | {name: rate},
                    progress=keep,
                    **options,
                )
            e = caught.value
            assert e.parameter == name
            assert e.losses.size == e.epoch + 1 == len(sound) + 1
            if name != "dt":  # a dt of 0 or infinity is found before it makes a loss
                assert not e.loss <= 1e6 * e.losses[0]
            assert np.all(np.isfinite(e.losses[:-1]))
            assert np.array_equal(e.loss, e.losses[-1], equal_nan=True)
            # what the divergent epoch began with: no update has followed the last sound one
            assert bits(trained) == (sound[-1] if sound else bits(model))
            assert all(np.isfinite(value).all() for value in trained.params.values())


def test_divergence_in_the_middle_of_a_chunk(rng):
    model, u, target = problem(rng, "discrete-real-D", 2, 30)
    for rows in (0, slice(None)):
        trained, again = copy.deepcopy(model), copy.deepcopy(model)
        with pytest.raises(DivergenceError) as caught:
            trained.fit(u[rows], target[rows], epochs=500, rates=gentle(model) | {"C": 30.0})
        assert caught.value.epoch > 1
        again.fit(u[rows], target[rows], epochs=1, rates=gentle(model) | {"C": 30.0})
        assert bits(trained) == bits(again)  # the chunk that diverged began after the first epoch


@pytest.mark.parametrize("rows", [0, slice(None)])
def test_a_loss_of_nan_is_found_at_its_epoch(rng, rows):
    """The first update leaves C finite, and 2 C infinite: the next output is inf, or inf - inf."""
    model, u, target = problem(rng, "discrete-real", 2, 30)
    _, grads = model.loss_and_grads(u[rows], target[rows])
    sizes = np.abs(np.stack([grads["C"].real, grads["C"].imag]))
    rates = {"A": 0, "B": 0, "C": 1.5e308 / np.max(sizes)}
    with pytest.raises(DivergenceError) as caught:
        model.fit(u[rows], target[rows], epochs=50, rates=rates)
    assert caught.value.epoch == 1
    assert not np.isfinite(caught.value.loss)


@pytest.mark.parametrize("mode", ["bptt", "convolution"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_dt_of_zero_or_infinity_is_found_at_its_epoch(rng, sign, mode):
    """In the middle of a chunk; with dt = 0 every output is finite, and means nothing."""
    model, u, noise = problem(rng, "dt-real", 30)
    y, _, _ = model.forward(u)

    def batches(start, count):  # silence, whose gradient is zero, then a step that is far too long
        silent = (start + np.arange(count)[:, None]) < 3
        return np.where(silent, 0, u), np.where(silent, noise, y + sign * noise)

    before = bits(model)
    rates = dict.fromkeys(gentle(model), 0.0) | {"dt": 1e8}
    with pytest.raises(DivergenceError, match="furthest is dt: lower") as caught:
        model.fit(batches, epochs=50, rates=rates, mode=mode)
    assert caught.value.epoch in (3, 4)  # behind its update, or at the loss that follows
    assert bits(model) == before


def test_a_first_loss_beyond_the_range_of_numbers(rng):
    model, u, _ = problem(rng, "discrete-real-D", 2, 30, dtype=np.float32)
    target = np.full_like(u, 1e30)
    for rows in (0, slice(None)):
        before = bits(model)
        with pytest.raises(DivergenceError, match="epoch 0 "):
            model.fit(u[rows], target[rows], epochs=3)
        assert bits(model) == before


# -------------------------------------------------------------------------------------- bad input

WRONG = [
    ({"epochs": 0}, "epochs is 0"),
    ({"epochs": 2.0}, "epochs is 2.0"),
    ({"epochs": True}, "epochs is True"),
    ({"rates": {"E": 0.1}}, "rates names 'E'.*'A', 'B', 'C', 'D'$"),
    ({"rates": {"dt": 0.1}}, "rates names 'dt'"),
    ({"rates": {"log_dt": 0.1}}, "rates names 'log_dt'"),
    ({"rates": {1: 0.1}}, "rates names 1"),
    ({"rates": {"A": -0.1}}, r"rates\['A'\] is -0.1.*at least 0"),
    ({"rates": {"A": np.nan}}, r"rates\['A'\] is nan"),
    ({"rates": {"A": "fast"}}, r"rates\['A'\] is 'fast'"),
    ({"rates": 0.1}, "rates is 0.1"),
    ({"rates": [0.1, 0.2]}, "rates is"),
    ({"mode": "tbptt"}, "mode is 'tbptt'.*'bptt'"),
    ({"window": 5}, "window is 5.*windowed"),
    ({"window": 5, "mode": "one_step"}, "window is 5.*windowed"),
    ({"window": 0, "mode": "windowed"}, "window is 0"),
    ({"window": 1.5, "mode": "windowed"}, "window is 1.5"),
    ({"radius": 0.0}, "radius is 0.0"),
    ({"radius": 1.0}, "radius is 1.0; it must be .*(below|less than) 1"),
    ({"radius": 1 - 1e-17}, "radius is 1.0"),
    ({"radius": None}, "radius is None"),
    ({"margin": 0.0}, "margin is 0.0"),
    ({"margin": -1.0}, "margin is -1.0"),
    ({"margin": np.inf}, "margin is inf"),
    ({"target_loss": -1.0}, "target_loss is -1.0"),
    ({"patience": 0}, "patience is 0"),
    ({"improvement": 1.5}, "improvement is 1.5"),
    ({"progress": 3}, "progress is 3"),
    ({"u": np.zeros(0), "target": np.zeros(0)}, "u has shape .*not empty"),
    ({"u": np.zeros((0, 5)), "target": np.zeros((0, 5))}, "u has shape .*not empty"),
    ({"u": np.zeros((1, 2, 5)), "target": np.zeros((1, 2, 5))}, "u has shape"),
    ({"u": np.ones(9, np.float32)}, "u float32"),
    ({"u": np.ones(9, int)}, "u has dtype int64"),
    ({"u": np.ones(9) * 1j}, "u has dtype complex128.*real"),
    ({"u": np.full(9, np.nan)}, "u holds nan at index"),
    ({"u": None}, "u is None"),
    ({"target": None}, "target is None"),
    ({"target": np.ones(8)}, "target has shape"),
    ({"target": np.ones((1, 9))}, "target has shape"),
    ({"target": np.full(9, np.inf)}, "target holds inf at index"),
    ({"target": np.ones(9) * 1j}, "target has dtype complex128.*real"),
    ({"u": lambda start, n: (np.ones((n, 9)),) * 2}, "u is callable and target is given beside it"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_bad_input_is_named_and_nothing_moves(rng, options, message):
    model, u, target = problem(rng, "discrete-real-D", 9)
    before = bits(model)
    call = {"u": u, "target": target, "epochs": 3, **options}
    with pytest.raises(ValueError, match=message):
        fit(model, **call)
    assert bits(model) == before


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda start, n: np.ones((n, 9)), r"must return \(u, target\)"),
        (lambda start, n: (np.ones((n, 9)),) * 3, r"must return \(u, target\)"),
        (lambda start, n: None, r"must return \(u, target\)"),
        (lambda start, n: (np.ones((n + 1, 9)),) * 2, "returned 2 rows; it must be 1"),
        (lambda start, n: (np.ones((n, 9)), None), "target is None"),
        (lambda start, n: (np.ones((n, 9)), np.ones((n, 8))), "target has shape"),
        (lambda start, n: (np.ones((n, 0)),) * 2, "u has shape"),
        (lambda start, n: (np.ones((n, 9), np.float32),) * 2, "u float32"),
        (lambda start, n: (np.full((n, 9), np.nan),) * 2, "u holds nan"),
    ],
)
@pytest.mark.parametrize("mode", ["bptt", "convolution"])
def test_a_callable_that_returns_something_else(rng, batches, message, mode):
    model, _, _ = problem(rng, "discrete-real-D", 9)
    before = bits(model)
    with pytest.raises(ValueError, match=message):
        fit(model, batches, epochs=3, mode=mode)
    assert bits(model) == before


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (lambda n: np.ones((n, 8)), "returned rows of 8 samples .* 9 samples"),
        (lambda n: np.ones((n, 10)), "returned rows of 10 samples .* 9 samples"),
        (lambda n: np.ones((n, 9)) + 0j, "samples of complex128; .* float64"),
    ],
)
@pytest.mark.parametrize("mode", ["bptt", "convolution"])
def test_a_callable_whose_rows_change_on_the_way(rng, later, message, mode):
    model, _, _ = problem(rng, "discrete-complex", 9)

    def batches(start, count):
        return (later(count) if start else np.ones((count, 9)),) * 2

    with pytest.raises(ValueError, match=message):
        fit(model, batches, epochs=3, rates=gentle(model), mode=mode)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((np.ones(9), np.ones(8)), {}, "target has shape"),
        ((np.ones(9), None), {}, "target is None"),
        ((np.ones(9), np.ones(9) * 1j), {}, "target has dtype complex128"),
        ((np.ones(9), np.ones(9, np.float32)), {}, "target float32"),
        ((np.ones(9), np.full(9, np.nan)), {}, "target holds nan"),
        ((np.ones(0), np.ones(0)), {}, "u has shape .*not be empty"),
        ((np.ones((2, 0)), np.ones((2, 0))), {"mode": "windowed", "window": 2}, "u has shape"),
        ((np.ones(9), np.ones(9)), {"mode": "full"}, "mode is 'full'"),
        ((np.ones(9), np.ones(9)), {"mode": "windowed"}, "window is None"),
        ((np.ones(9), np.ones(9)), {"mode": "windowed", "window": 0}, "window is 0"),
        ((np.ones(9), np.ones(9)), {"mode": "bptt", "window": 3}, "window is 3"),
    ],
)
def test_loss_and_grads_names_what_is_wrong(rng, args, options, message):
    model, _, _ = problem(rng, "discrete-real-D", 9)
    with pytest.raises(ValueError, match=message):
        model.loss_and_grads(*args, **options)
