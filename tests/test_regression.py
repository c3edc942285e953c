"""Linear regression: the published run to the bit, gradients, the closed form, checkpoints."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, cast, load, run_python

from ssm_manual import checkpoint, plots, reference
from ssm_manual.gradcheck import check_vjp
from ssm_manual.models import LinearRegression, _frame
from ssm_manual.tasks import tables
from ssm_manual.training import DivergenceError, regression

ROOT = Path(__file__).resolve().parents[1]
DATA = load("linear_regression.npz")
UPDATES = ("per_sample", "full_batch")


def published():
    return LinearRegression(DATA["init_weights_bits"].view(np.float32))


def problem(rng, n=23, F=4, dtype=np.float64, noise=0.1):
    X = rng.standard_normal((n, F))
    y = X @ rng.standard_normal(F) + 0.7 + noise * rng.standard_normal(n)
    return cast(X, dtype), cast(y, dtype)


def bits(a):
    return np.asarray(a).view(f"u{np.asarray(a).dtype.itemsize}").tolist()


def same(a, b):
    """Whether two models are equal to the bit."""
    return all(bits(a.params[name]) == bits(b.params[name]) for name in ("weights", "bias"))


# ------------------------------------------------------------------------------ the published run


def test_the_published_run_bit_for_bit():
    model = published()
    history = model.fit(
        DATA["X"], tables.FISH.y, epochs=30_000, rate=0.001, target_loss=1e-5, path=True
    )
    for row, epoch in enumerate(DATA["after_epochs"]):
        expected = [*DATA["w_bits"][row], DATA["b_bits"][row]]
        assert bits(history.path[epoch]) == expected, epoch
    assert history.stop == DATA["converged_epoch_index"] == 19431
    assert history.epochs == model.epochs == 19432
    assert history.reason == "target_loss"
    assert bits([*model.params["weights"], model.params["bias"]]) == bits(DATA["final"])
    assert bits(history.path[-1]) == bits(DATA["final"])
    assert f"{model.predict(np.array([25, 7], np.float32)):.5f}" == "13.89094"


def test_the_example_is_the_published_table():
    assert bits(tables.FISH.X) == bits(DATA["X"])
    assert tables.FISH.y.dtype == np.float32
    assert tables.FISH.features == ("length", "width")


def test_the_published_run_by_the_reference():
    weights, bias = DATA["init_weights_bits"].view(np.float32), np.float32(0)
    for epoch in range(1, 101):
        weights, bias, _ = reference.regression.per_sample_epoch(
            weights, bias, DATA["X"], tables.FISH.y, 0.001
        )
        if epoch in DATA["after_epochs"]:
            row = list(DATA["after_epochs"]).index(epoch)
            assert bits([*weights, bias]) == [*DATA["w_bits"][row], DATA["b_bits"][row]]


# ------------------------------------------------------------------------------- fast equals slow


@pytest.mark.parametrize("l2", [0.0, 0.03])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize(("n", "F"), [(1, 1), (2, 5), (17, 1), (64, 7)])
def test_the_compiled_loop_has_the_bits_of_the_reference(rng, n, F, updates, dtype, l2):
    X, y = problem(rng, n, F, dtype)
    model = LinearRegression.initial(F, rng=rng, dtype=dtype)
    weights, bias = model.params["weights"].copy(), model.params["bias"].copy()
    history = model.fit(X, y, epochs=4, rate=0.02, updates=updates, l2=l2, path=True)
    step = getattr(reference.regression, f"{updates}_epoch")
    for epoch in range(4):
        weights, bias, loss = step(weights, bias, X, y, 0.02, l2)
        assert history.losses[epoch] == loss
        assert bits(history.path[epoch + 1]) == bits(np.append(weights, bias))
        assert weights.dtype == bias.dtype == dtype
    assert bits(model.params["weights"]) == bits(weights)
    assert model.params["weights"].dtype == model.params["bias"].dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(rng, layout, dtype):
    X, y = problem(rng, dtype=dtype)
    expected, found = (LinearRegression.initial(4, dtype=dtype) for _ in range(2))
    expected.fit(X, y, epochs=3, rate=0.01)
    found.fit(LAYOUTS[layout](X), LAYOUTS[layout](y), epochs=3, rate=0.01)
    assert same(expected, found)
    assert_close(found.predict(LAYOUTS[layout](X)), expected.predict(X), 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions(rng, dtype):
    X, _ = problem(rng, dtype=dtype)
    model = LinearRegression(rng.standard_normal(4).astype(dtype), dtype(0.3))
    slow = reference.regression.predict(model.params["weights"], model.params["bias"], X)
    found = model.predict(X)
    assert found.dtype == model.predict(X[0]).dtype == dtype
    assert_close(found, slow, 10 * np.finfo(dtype).eps)
    assert_close(model.predict(X[0]), slow[0], 10 * np.finfo(dtype).eps, scale=slow)
    assert model.predict(X[:0]).shape == (0,)


# -------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("l2", [0.0, 0.7])
@pytest.mark.parametrize(("n", "F"), [(1, 1), (9, 3), (4, 6)])
def test_gradients_against_differences(rng, n, F, l2):
    X, y = problem(rng, n, F)
    args = (rng.standard_normal(F), np.float64(0.4), X, y)
    report = check_vjp(regression.objective_fwd, regression.objective_vjp, args, l2=l2, rng=rng)
    assert report, str(report)


def test_a_wrong_factor_is_found(rng):
    def doubled(residuals, grad_loss):
        grad_weights, *rest = regression.objective_vjp(residuals, grad_loss)
        return (2 * grad_weights, *rest)

    X, y = problem(rng)
    args = (rng.standard_normal(4), np.float64(0.4), X, y)
    assert not check_vjp(regression.objective_fwd, doubled, args, rng=rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("l2", [0.0, 0.2])
def test_loss_and_grads(rng, dtype, l2):
    X, y = problem(rng, dtype=dtype)
    model = LinearRegression(rng.standard_normal(4).astype(dtype), dtype(0.3))
    loss, grads = model.loss_and_grads(X, y, l2=l2)
    params = model.params["weights"], model.params["bias"]
    slow = reference.regression.loss_and_grads(*params, X, y, l2)
    rtol = 20 * np.finfo(dtype).eps
    assert isinstance(loss, float)
    assert_close((loss, grads["weights"], grads["bias"]), slow, rtol)
    assert grads["weights"].dtype == grads["bias"].dtype == dtype
    # a full batch is one step along them
    before = {name: value.copy() for name, value in model.params.items()}
    model.fit(X, y, epochs=1, rate=0.1, updates="full_batch", l2=l2)
    for name, value in before.items():
        assert_close(model.params[name], value - dtype(0.1) * grads[name], rtol)


def test_a_pass_of_samples_is_a_product_of_contractions(rng):
    X, y = problem(rng, 6, 3)
    wide, eye = np.column_stack([X, np.ones(6)]), np.eye(4)
    product = eye
    for row in wide:
        product = (eye - 0.02 * np.outer(row, row)) @ product  # [REGRESSION-8]
    y = X @ [1.0, -2.0, 0.5] + 0.3  # without noise the minimiser is a fixed point
    best = np.array([1.0, -2.0, 0.5, 0.3])
    model = LinearRegression.initial(3, dtype="float64")
    history = model.fit(X, y, epochs=5, rate=0.02, path=True)
    for before, after in zip(history.path, history.path[1:]):
        assert_close(after - best, product @ (before - best), 1e-12)


def test_a_full_batch_contracts_each_direction_by_its_curvature(rng):
    X, y = problem(rng, 30, 3)
    closed = LinearRegression.least_squares(X, y)
    best = np.append(closed.params["weights"], closed.params["bias"])
    wide = np.column_stack([X, np.ones(30)])
    curvatures, directions = np.linalg.eigh(wide.T @ wide / 30)
    assert_close(LinearRegression.curvatures(X), curvatures[::-1], 1e-12)
    model = LinearRegression.initial(3, rng=rng, dtype="float64")
    history = model.fit(X, y, epochs=10, rate=0.1, updates="full_batch", path=True)
    away = (history.path - best) @ directions
    assert_close(away[1:], away[:-1] * (1 - 0.1 * curvatures), 1e-11)  # [REGRESSION-6]


# ------------------------------------------------------------------------------- the closed form


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.4])
def test_descent_ends_at_the_closed_form(rng, l2, standardise):
    X, y = problem(rng)
    X = X * [1.0, 2.0, 0.5, 1.0] + [0.0, 1.0, 0.0, -2.0]
    options = {"l2": l2, "standardise": standardise}
    closed = LinearRegression.least_squares(X, y, **options)
    model = LinearRegression.initial(4, rng=rng, dtype="float64")
    model.fit(X, y, epochs=8000, updates="full_batch", **options)
    for name in ("weights", "bias"):
        assert_close(model.params[name], closed.params[name], 1e-10)
    if not standardise:
        _, grads = closed.loss_and_grads(X, y, l2=l2)
        assert max(np.abs(grads["weights"]).max(), abs(grads["bias"])) < 1e-13


def test_least_squares_beside_numpy(rng):
    X, y = problem(rng, 50, 5)
    X = X * [1.0, 1e6, 1e-7, 3.0, 1.0] + [0.0, 2e7, 0.0, 0.0, 5.0]
    closed = LinearRegression.least_squares(X, y)
    scale = np.abs(X).max(axis=0)
    wide = np.column_stack([X / scale, np.ones(50)])
    expected = np.linalg.lstsq(wide, y, rcond=None)[0]
    assert_close(closed.params["weights"] * scale, expected[:-1], 1e-10)
    assert_close(closed.params["bias"], expected[-1], 1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dependent_columns_give_the_smallest_weights(rng, dtype):
    X, _ = problem(rng, 40, 2, np.float64)
    # the third column follows from the others, the fourth is constant; far from zero, and rounded
    columns = [100 + X[:, 0], 3 * X[:, 1], 40 + X[:, 0] - 2 * X[:, 1], np.full(40, 0.1)]
    table = np.column_stack(columns).astype(dtype)
    y = (2 + X @ [1.5, -0.5]).astype(dtype)
    closed = LinearRegression.least_squares(table, y)
    centred = np.column_stack([X[:, 0], 3 * X[:, 1], X[:, 0] - 2 * X[:, 1], np.zeros(40)])
    centred -= centred.mean(axis=0)
    expected = np.linalg.pinv(centred) @ (y - y.mean())
    rtol = 1e-3 if dtype == np.float32 else 1e-10
    assert_close(closed.params["weights"], expected, rtol)
    assert closed.params["weights"][3] == 0
    assert_close(closed.predict(table), y, rtol)


def test_units_do_not_make_columns_dependent(rng):
    X, y = problem(rng, 30, 2, noise=0)
    tiny = LinearRegression.least_squares(X * [1e-12, 1e12], y)
    plain = LinearRegression.least_squares(X, y)
    assert_close(tiny.params["weights"] * [1e-12, 1e12], plain.params["weights"], 1e-12)


def test_fewer_rows_than_features(rng):
    X, y = problem(rng, 3, 6)
    for standardise in (False, True):
        closed = LinearRegression.least_squares(X, y, standardise=standardise)
        assert_close(closed.predict(X), y, 1e-13)
        scale = X.std(axis=0) if standardise else 1
        centred = (X - X.mean(axis=0)) / scale
        expected = np.linalg.pinv(centred) @ (y - y.mean())
        assert_close(closed.params["weights"] * scale, expected, 1e-12)
    assert LinearRegression.least_squares(X[:1], y[:1]).params["bias"] == y[0]
    assert LinearRegression.curvatures(X).shape == (7,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_closed_form_keeps_the_precision(rng, dtype):
    X, y = problem(rng, dtype=dtype)
    closed = LinearRegression.least_squares(X, y, 0.1)
    assert closed.dtype == closed.params["bias"].dtype == dtype


# --------------------------------------------------------------------------------- standardising


def test_standardised_training_is_training_on_standardised_features(rng):
    X, y = problem(rng)
    X = X * [1.0, 20.0, 0.1, 1.0] + [0.0, 300.0, 0.0, -2.0]
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    for updates in UPDATES:
        one, other = (LinearRegression.initial(4, dtype="float64") for _ in range(2))
        first = one.fit(X, y, epochs=20, rate=0.01, updates=updates, standardise=True, path=True)
        Z = (X - mean) / deviation
        second = other.fit(Z, y, epochs=20, rate=0.01, updates=updates)
        assert_close(first.losses, second.losses, 1e-13)
        weights = other.params["weights"] / deviation
        assert_close(one.params["weights"], weights, 1e-13)
        assert_close(one.params["bias"], other.params["bias"] - weights @ mean, 1e-12)
        assert_close(one.predict(X), other.predict(Z), 1e-12)
        assert bits(first.path[-1]) == bits(np.append(*one.params.values()))


def test_standardising_starts_where_the_model_stands(rng):
    X, y = problem(rng)
    model = LinearRegression(rng.standard_normal(4), 0.5)
    before = np.mean((model.predict(X) - y) ** 2)
    history = model.fit(X, y, epochs=1, rate=1e-9, updates="full_batch", standardise=True)
    assert history.losses[0] == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize("moved", ["weights", "bias", "raw"])
def test_standardising_again_starts_where_the_model_was_moved_to(rng, moved):
    """Where a standardised run stood counts only as long as model and table are the same."""
    X, y = problem(rng)
    options = {"rate": 0.05, "updates": "full_batch", "standardise": True}
    model = LinearRegression.initial(4, dtype="float64")
    model.fit(X, y, epochs=5, **options)
    if moved == "raw":
        model.fit(X, y, epochs=5, rate=0.05, updates="full_batch")
    else:
        model.params[moved][...] += 1.0
    before = np.mean((model.predict(X) - y) ** 2)
    history = model.fit(X, y, epochs=1, **options)
    assert history.losses[0] == pytest.approx(before, rel=1e-12)


def test_folding_rounds_once(rng):
    """Far from zero, weights rounded before the mean is taken out would spoil the bias."""
    X = problem(rng, dtype=np.float32)[0] + np.float32(1000)
    frame = _frame.frame_of(X, True)
    rows = rng.standard_normal((50, 5)).astype(np.float32)
    wide = rows[:, :4].astype(float) / frame.deviation
    bias = rows[:, 4].astype(float) - np.sum(wide * frame.mean, axis=1)
    assert bits(frame.fold_rows(rows)) == bits(np.column_stack([wide, bias]).astype(np.float32))


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_units_whose_squares_no_format_holds(rng, unit):
    X, y = problem(rng)
    expected = LinearRegression.least_squares(X, y).params["weights"]
    closed = LinearRegression.least_squares(X * unit, y)
    assert_close(closed.params["weights"] * unit, expected, 1e-12)
    model = LinearRegression.initial(4, dtype="float64")
    model.fit(X * unit, y, epochs=2000, updates="full_batch", standardise=True)
    assert_close(model.params["weights"] * unit, expected, 1e-9)
    if unit > 1:
        with pytest.raises(ValueError, match=r"X holds .*; its squares must fit into double"):
            LinearRegression.safe_rate(X * unit)


def test_a_constant_column_keeps_its_weight(rng):
    X, y = problem(rng)
    X[:, 2] = 0.1  # whose mean is not 0.1 in rounding
    model = LinearRegression([0.0, 0.0, 3.0, 0.0], 1.0)
    model.fit(X, y, epochs=500, rate=0.05, standardise=True)
    assert model.params["weights"][2] == 3.0
    closed = LinearRegression.least_squares(X, y)
    assert closed.params["weights"][2] == 0.0
    full = LinearRegression([0.0, 0.0, 3.0, 0.0], 1.0)
    full.fit(X, y, epochs=2000, updates="full_batch", standardise=True)
    assert_close(full.predict(X), closed.predict(X), 1e-9)


def test_standardising_shortens_the_published_run():
    model = published()
    table = tables.FISH
    options = {"updates": "full_batch", "target_loss": 1e-5, "standardise": True}
    history = model.fit(table.X, table.y, epochs=30_000, **options)
    assert history.reason == "target_loss"
    assert history.epochs < 19432 / 20


# ------------------------------------------------------------------------------ stops and failures


def test_a_full_batch_stops_before_its_update(rng):
    X, y = problem(rng)
    probe = LinearRegression.initial(4, dtype="float64")
    losses = probe.fit(X, y, epochs=50, updates="full_batch").losses
    assert np.all(np.diff(losses) < 0)  # the default rate descends
    model = LinearRegression.initial(4, dtype="float64")
    history = model.fit(X, y, epochs=50, updates="full_batch", target_loss=losses[20], path=True)
    assert (history.reason, history.stop, model.epochs) == ("target_loss", 20, 20)
    assert np.mean((model.predict(X) - y) ** 2) == pytest.approx(losses[20], rel=1e-13)
    assert history.path.shape == (21, 5)
    assert model.fit(X, y, epochs=5).path is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize("rate", [3.0, 1e30])
@pytest.mark.parametrize("standardise", [False, True])
def test_divergence_puts_the_model_back(rng, updates, rate, dtype, standardise):
    X, y = problem(rng, dtype=dtype)
    model = LinearRegression.initial(4, rng=rng, dtype=dtype)
    before = np.mean((model.predict(X) - y) ** 2)
    with pytest.raises(DivergenceError, match=r"diverged at epoch \d+ .* lower its") as caught:
        model.fit(X, y, epochs=1000, rate=rate, updates=updates, standardise=standardise)
    assert caught.value.losses.size == caught.value.epoch + 1
    assert caught.value.parameter in ("weights", "bias")
    assert np.isfinite(model.predict(X)).all()
    assert np.mean((model.predict(X) - y) ** 2) <= before * 1.0001


@pytest.mark.parametrize("chunk", [1, 10_000_000])
def test_divergence_after_good_epochs_keeps_the_best(rng, chunk, monkeypatch):
    monkeypatch.setattr(regression, "CHUNK", chunk)
    X, y = problem(rng, 8, 2)
    wide = np.column_stack([X, np.ones(8)])
    curvatures, directions = np.linalg.eigh(wide.T @ wide / 8)
    best = LinearRegression.least_squares(X, y)
    # far away where it contracts, close by where it grows by 2 % an epoch
    away = directions @ [3.0, 0.0, 1e-3]
    start = best.params["weights"] + away[:2], best.params["bias"] + away[2]
    options = {"rate": 2.02 / curvatures[-1], "updates": "full_batch"}
    model, probe = LinearRegression(*start), LinearRegression(*start)
    with pytest.raises(DivergenceError) as caught:
        model.fit(X, y, epochs=100_000, **options)
    lowest = int(np.argmin(caught.value.losses))
    assert 0 < lowest < caught.value.epoch
    probe.fit(X, y, epochs=lowest, **options)
    assert same(model, probe)
    assert model.epochs == probe.epochs == lowest


@pytest.mark.parametrize("l2", [0.0, 5.0])
@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("updates", UPDATES)
def test_the_default_rate_does_not_diverge(rng, updates, standardise, l2):
    X, y = problem(rng, 40, 3)
    X = X * [1.0, 1000.0, 0.01] + [0.0, 5000.0, 3.0]
    model = LinearRegression.initial(3, rng=rng, dtype="float64")
    options = {"updates": updates, "standardise": standardise, "l2": l2}
    losses = model.fit(X, y, epochs=500, **options).losses
    if l2 == 0:
        assert losses[-1] <= losses[0]
    assert np.isfinite(losses).all()


def test_progress_is_told(rng):
    X, y = problem(rng)
    told = []
    model = LinearRegression.initial(4, dtype="float64")
    history = model.fit(X, y, epochs=30, progress=lambda done, loss: told.append((done, loss)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (30, history.losses[-1])


def test_an_interruption_leaves_parameters_and_epochs_in_step(monkeypatch):
    def interrupt(done, loss):
        if done >= 30:
            raise KeyboardInterrupt

    monkeypatch.setattr(regression, "CHUNK", 60)  # ten epochs of the six numbers
    for standardise in (False, True):
        table = tables.FISH.astype(np.float64)
        model, probe = (LinearRegression.initial(2, dtype="float64") for _ in range(2))
        with pytest.raises(KeyboardInterrupt):
            model.fit(table.X, table.y, epochs=100, progress=interrupt, standardise=standardise)
        assert model.epochs == 30
        probe.fit(table.X, table.y, epochs=30, standardise=standardise)
        assert same(model, probe)


# ------------------------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resumed_training_ends_with_the_same_bits(tmp_path, dtype, updates, standardise):
    table = tables.FISH.astype(dtype)
    options = {"rate": 0.001, "updates": updates, "standardise": standardise}
    whole = LinearRegression.initial(2, dtype=dtype)
    history = whole.fit(table.X, table.y, epochs=1000, **options)
    path = tmp_path / "model.safetensors"
    first = LinearRegression.initial(2, dtype=dtype)
    first.fit(table.X, table.y, epochs=437, checkpoint=path, checkpoint_every=100, **options)
    second = checkpoint.load(path, expected=LinearRegression)
    assert second.epochs == 437
    rest = second.fit(table.X, table.y, epochs=1000 - second.epochs, **options)
    assert same(second, whole)
    assert second.epochs == whole.epochs == 1000
    assert rest.losses.tolist() == history.losses[437:].tolist()


def test_checkpoints_are_written_on_the_way(tmp_path, monkeypatch):
    seen = []
    save = checkpoint.save

    def watch(path, model, **options):
        save(path, model, **options)
        seen.append((model.epochs, checkpoint.load(path)))

    monkeypatch.setattr(checkpoint, "save", watch)
    model, path = published(), tmp_path / "model.safetensors"
    saving = {"checkpoint": path, "checkpoint_every": 40}
    model.fit(tables.FISH.X, tables.FISH.y, epochs=100, rate=0.001, **saving)
    model.fit(tables.FISH.X, tables.FISH.y, epochs=30, rate=0.001, **saving)
    assert [epochs for epochs, _ in seen] == [40, 80, 100, 120, 130]
    for epochs, saved in seen:
        probe = published()
        probe.fit(tables.FISH.X, tables.FISH.y, epochs=epochs, rate=0.001)
        assert same(probe, saved)


def test_a_run_that_was_killed_goes_on(tmp_path):
    path = tmp_path / "model.safetensors"
    code = (
        "import os\n"
        "from ssm_manual.models import LinearRegression\n"
        "from ssm_manual.tasks.tables import FISH\n"
        "def progress(done, loss):\n"
        "    if done >= 150: os._exit(9)\n"
        "LinearRegression.initial(2).fit(FISH.X, FISH.y, epochs=1000, rate=0.001,\n"
        f"    checkpoint={str(path)!r}, checkpoint_every=50, progress=progress)\n"
    )
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 9
    model = checkpoint.load(path, expected=LinearRegression)
    assert model.epochs == 150
    model.fit(tables.FISH.X, tables.FISH.y, epochs=850, rate=0.001)
    whole = LinearRegression.initial(2)
    whole.fit(tables.FISH.X, tables.FISH.y, epochs=1000, rate=0.001)
    assert same(model, whole)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("standardise", [False, True])
def test_round_trip(tmp_path, rng, dtype, standardise, mmap):
    X, y = problem(rng, dtype=dtype)
    model = LinearRegression.initial(4, rng=rng, dtype=dtype)
    model.fit(X, y, epochs=7, standardise=standardise)
    checkpoint.save(tmp_path / "a.safetensors", model)
    back = checkpoint.load(tmp_path / "a.safetensors", expected=LinearRegression, mmap=mmap)
    assert same(model, back)
    assert back.epochs == 7
    assert (back.scaled is None) == (not standardise)
    assert bits(back.predict(X)) == bits(model.predict(X))
    back.fit(X, y, epochs=1)  # its arrays can be trained


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, a: h.pop("epochs"), "hyperparameters is"),
        (lambda h, a: h.update(epochs=-1), "epochs is -1"),
        (lambda h, a: h.update(features=3), r"weights has shape \(4,\)"),
        (lambda h, a: a.pop("bias"), "arrays is"),
        (lambda h, a: a.update(more=a["bias"]), "arrays is"),
        (lambda h, a: a.pop("scaled.mean"), "arrays is"),
        (lambda h, a: a.update({"scaled.bias": a["bias"]}), r"scaled.bias has shape \(\)"),
        (lambda h, a: a.update(bias=np.float32(1)), "dtype of bias is 'float32'"),
        (lambda h, a: a.update(weights=a["weights"] * 1j), "dtype of weights is 'complex128'"),
    ],
)
def test_what_does_not_fit_is_refused(rng, change, message, check):
    X, y = problem(rng)
    model = LinearRegression.initial(4, dtype="float64")
    model.fit(X, y, epochs=1, standardise=True)
    hyperparameters, arrays = model.to_checkpoint()
    change(hyperparameters, arrays)
    with pytest.raises(ValueError, match=message):
        LinearRegression.from_checkpoint(hyperparameters, arrays, check=check)


def test_values_are_looked_at_where_asked(rng):
    X, y = problem(rng)
    model = LinearRegression.initial(4, dtype="float64")
    model.fit(X, y, epochs=1, standardise=True)
    for name, value in (("weights", np.nan), ("scaled.deviation", 0.0)):
        hyperparameters, arrays = model.to_checkpoint()
        arrays = {key: a.copy() for key, a in arrays.items()}
        arrays[name][1] = value
        with pytest.raises(ValueError, match=name):
            LinearRegression.from_checkpoint(hyperparameters, arrays)
        LinearRegression.from_checkpoint(hyperparameters, arrays, check=False)


# -------------------------------------------------------------------------------------- bad input


FIT = {"epochs": 1, "rate": 0.1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"epochs": 1.5}, "epochs is 1.5; it must be an integer"),
        ({"rate": 0.0}, "rate is 0.0; it must be finite and greater than 0"),
        ({"rate": -1.0}, "rate is -1.0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"rate": 1e-60}, "rate is 1e-60; float32 holds nothing below"),
        ({"l2": -0.1}, "l2 is -0.1; it must be finite and at least 0"),
        ({"l2": 1e60}, "l2 is 1e[+]60"),
        ({"updates": "per_row"}, r"updates is 'per_row'; it must be one of 'per_sample'"),
        ({"target_loss": -1}, "target_loss is -1; it must be finite and at least 0"),
        ({"standardise": 1}, "standardise is 1; it must be True or False"),
        ({"path": "a"}, "path is 'a'; it must be True or False"),
        ({"progress": 3}, "progress is 3; it must be callable"),
        ({"checkpoint": "a.safetensors"}, "checkpoint_every is None; both must be given"),
        ({"checkpoint_every": 3}, "checkpoint is None and checkpoint_every is 3"),
        ({"checkpoint": "none/a", "checkpoint_every": 3}, "checkpoint is 'none/a', but there is"),
        ({"checkpoint": 5.0, "checkpoint_every": 3}, "checkpoint is 5.0; it must be a path"),
        ({"checkpoint": "a", "checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"X": np.zeros((4, 3), np.float32)}, r"X has shape \(4, 3\); it must be \(at least 1, 2"),
        ({"X": np.zeros((3, 2))}, "X float64, y float32, weights float32: all arrays must have"),
        ({"X": np.zeros((3, 2), np.complex64)}, "X has dtype complex64; it must be real"),
        ({"X": np.zeros((0, 2), np.float32)}, r"X has shape \(0, 2\)"),
        (
            {"y": np.zeros(4, np.float32)},
            r"y has shape \(4,\); it must be \(3,\) = \(n,\)",
        ),
        ({"y": np.array([1, np.inf, 2], np.float32)}, "y holds inf at index"),
    ],
)
def test_bad_arguments_of_fit(changed, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = published()
    arguments = {"X": tables.FISH.X, "y": tables.FISH.y, **FIT, **changed}
    with pytest.raises(ValueError, match=message):
        model.fit(**arguments)
    assert same(model, published())
    assert model.epochs == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LinearRegression([]), r"weights has shape \(0,\)"),
        (lambda: LinearRegression([[1.0]]), r"weights has shape \(1, 1\)"),
        (lambda: LinearRegression([1.0], [2.0]), r"bias has shape \(1,\); it must be \(\)"),
        (lambda: LinearRegression([1j]), "weights has dtype complex128; it must be real"),
        (lambda: LinearRegression(np.ones(2, np.float32), np.float64(1)), "one precision"),
        (lambda: LinearRegression.initial(0), "features is 0; it must be at least 1"),
        (lambda: LinearRegression.initial(2, dtype="float16"), "dtype is 'float16'"),
        (lambda: LinearRegression.initial(2, rng=3), "rng is 3; it must be a numpy.random"),
        (lambda: published().predict(np.ones(3, np.float32)), r"X has shape \(3,\); it must be"),
        (lambda: published().predict(np.ones((1, 1, 2), np.float32)), "X has shape"),
        (lambda: published().loss_and_grads([[1, 2]], [1.0], l2=-1), "l2 is -1"),
        (lambda: LinearRegression.least_squares([[1.0]], [1.0, 2.0]), r"y has shape \(2,\)"),
        (lambda: LinearRegression.least_squares([[1.0]], [1.0], -1), "l2 is -1"),
        (lambda: LinearRegression.least_squares([[1.0]], [1.0], standardise=2), "standardise is 2"),
        (lambda: LinearRegression.curvatures([1.0]), r"X has shape \(1,\)"),
        (lambda: LinearRegression.safe_rate([[1.0]], updates="all"), "updates is 'all'"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_repr_and_start(rng):
    assert repr(LinearRegression.initial(3)) == "LinearRegression(3 features, float32)"
    drawn = LinearRegression.initial(3, rng=rng, dtype=np.float64)
    assert drawn.dtype == np.float64
    assert np.all(drawn.params["weights"] != 0)
    given = np.ones(2)
    LinearRegression(given).params["weights"][0] = 5
    assert given[0] == 1  # a copy


def test_predicting_does_not_wait_for_numba():
    run_python(
        "import sys\n"
        "from ssm_manual.models.regression import LinearRegression\n"
        "LinearRegression.least_squares([[0.0], [1.0]], [1.0, 2.0]).predict([[3.0]])\n"
    )


# ---------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("F", [1, 2, 3])
def test_the_figure(rng, F, standardise):
    X, y = problem(rng, 20, F)
    table = tables.Table("t", tuple("abc"[:F]), "y", X, y)
    model = LinearRegression.initial(F, dtype="float64")
    history = model.fit(X, y, epochs=40, standardise=standardise, path=F <= 2)
    closed = LinearRegression.least_squares(X, y)
    left, right = plots.regression(table, history, model, closed, standardise=standardise).axes
    assert right.lines[0].get_ydata().tolist() == history.losses.tolist()
    marks = {line.get_label(): line for line in left.lines}
    if F == 3:
        found = marks["learnt"].get_xdata() / X.std(axis=0)
        assert_close(found, model.params["weights"], 1e-12)
    else:
        scale = X.std(axis=0) if standardise else np.ones(F)
        end = [line.get_xdata()[-1] for line in left.lines if len(line.get_xdata()) == 41]
        assert end == pytest.approx([(model.params["weights"] * scale)[0]], rel=1e-12)
        best = marks["least squares"].get_xdata()[0]
        assert best == pytest.approx((closed.params["weights"] * scale)[0], rel=1e-12)
        assert left.get_xlim()[0] < best < left.get_xlim()[1]
    if F <= 2:
        with pytest.raises(ValueError, match="history has no path"):
            plots.regression(table, history._replace(path=None), model, closed)
