"""Forecasts of weekly CO2: no method looks ahead, gaps stay gaps, each method by its definition."""

import sys

import numpy as np
import pytest

from ssm_manual import gradcheck
from ssm_manual.tasks import co2, co2_series, seasonal, training_run

pytest.importorskip("statsmodels")

HORIZONS = co2_series.HORIZONS


@pytest.fixture(scope="module")
def task():
    return co2.Co2Forecast(quick=True)


@pytest.fixture(scope="module")
def quick(task):
    return training_run.compare(task, ("s4d", "lstm"), seed=0, progress=False)


def curve(weeks, rng=None, missing=()):
    """A line, a season of a mean year and, if asked for, a random walk and noise."""
    t = np.arange(weeks)
    y = 315 + 0.03 * t + 3 * np.sin(2 * np.pi * t / seasonal.YEAR)
    if rng is not None:
        y = y + 0.3 * rng.standard_normal(weeks) + np.cumsum(0.3 * rng.standard_normal(weeks))
    y[list(missing)] = np.nan
    return y


# ----------------------------------------------------------------------------------------- methods

METHODS = {
    "naive": lambda y: seasonal.seasonal_naive(y, HORIZONS, weeks=5),
    "autoregression": lambda y: seasonal.autoregression(y, HORIZONS, order=6, first=150),
    "Holt-Winters": lambda y: seasonal.holt_winters(y, HORIZONS, years=3, first=150),
    "regression": lambda y: seasonal.regression(y, HORIZONS, years=3).forecasts,
}


@pytest.mark.parametrize("method", METHODS)
def test_no_method_looks_ahead(method, rng):
    y = curve(230, rng, missing=(40, 41, 170))
    changed = y.copy()
    changed[201:] += 5
    before, after = METHODS[method](y), METHODS[method](changed)
    assert np.isfinite(before[150:]).all()
    np.testing.assert_array_equal(before[:201], after[:201])
    assert (np.abs(before[201] - after[201]) > 0.01).any()


def test_gaps_are_filled_from_their_past_alone():
    y = 0.5 * np.arange(120.0)
    y[[3, 60, 61]] = np.nan
    filled = seasonal.carried(y)
    assert filled[3] == y[2]
    # the season before, and the growth of the week before
    np.testing.assert_allclose(filled[60:62], [30.0, 30.5])
    assert np.isnan(y[60])  # a copy


def test_seasonal_naive_by_hand(rng):
    y = curve(120, rng)
    found = seasonal.seasonal_naive(y, (4, 52), weeks=3)
    growth = np.mean([y[t] - y[t - 52] for t in (98, 99, 100)])
    np.testing.assert_allclose(found[100], [y[52] + growth, y[100] + growth])
    assert np.isnan(found[53]).all()
    assert np.isfinite(found[54]).all()


def test_autoregression_by_hand(rng):
    y = curve(220, rng)
    found = seasonal.autoregression(y, (1, 4), order=2, first=150)
    d = y[52:] - y[:-52]
    for t, fitted_to in ((150, 150), (201, 150), (202, 202)):
        known = d[: fitted_to - 52 + 1]
        past = np.column_stack([known[:-2], known[1:-1], np.ones(known.size - 2)])
        b = np.linalg.lstsq(past, known[2:], rcond=None)[0]
        ahead = [d[t - 53], d[t - 52]]
        for _ in range(4):
            ahead.append(b[0] * ahead[-2] + b[1] * ahead[-1] + b[2])
        np.testing.assert_allclose(found[t], [y[t - 51] + ahead[2], y[t - 48] + ahead[5]])


def test_holt_winters_is_that_of_statsmodels(rng, monkeypatch):
    """At the origin of a fit; in between, level, trend and season follow every value."""
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    y = curve(190, rng)
    fitted = ExponentialSmoothing(
        y[:156], trend="add", seasonal="add", seasonal_periods=52,
        initialization_method="estimated",
    ).fit()  # fmt: skip
    found = seasonal.holt_winters(y, HORIZONS, years=3, first=155)
    expected = fitted.forecast(52)[np.array(HORIZONS) - 1]
    np.testing.assert_allclose(found[155], expected)
    p = fitted.params
    initial = p["initial_level"], p["initial_trend"], p["initial_seasons"]
    # A season ahead statsmodels takes the last week's season from before its update; we do not.
    ahead = 4, 13, 51
    # constants that the fit does not choose, so that each of them counts
    monkeypatch.setattr(seasonal, "_smoothing", lambda y: ((0.3, 0.2, 0.1), *initial))
    found = seasonal.holt_winters(y, ahead, years=3, first=155)
    level, trend, season = initial
    fixed = ExponentialSmoothing(
        y[:181], trend="add", seasonal="add", seasonal_periods=52,
        initialization_method="known", initial_level=level, initial_trend=trend,
        initial_seasonal=season,
    ).fit(
        smoothing_level=0.3, smoothing_trend=0.2, smoothing_seasonal=0.1, optimized=False,
    )  # fmt: skip
    np.testing.assert_allclose(found[180], fixed.forecast(52)[np.array(ahead) - 1])


@pytest.mark.parametrize("years", [2, 3])
def test_holt_winters_is_fitted_to_its_years_alone(years, rng, monkeypatch):
    seen = []

    def smoothing(y):
        seen.append(y.copy())
        return (0.3, 0.2, 0.1), y[0], 0.0, np.zeros(52)

    monkeypatch.setattr(seasonal, "_smoothing", smoothing)
    y = curve(300, rng)
    seasonal.holt_winters(y, HORIZONS, years=years, first=120)
    for end, fitted in zip((121, 173, 225, 277), seen, strict=True):
        np.testing.assert_array_equal(fitted, y[max(0, end - 52 * years) : end])


def test_regression_knows_a_line_with_a_season():
    y = curve(330, missing=(7, 200, 201))
    found = seasonal.regression(y, HORIZONS, years=3)
    for t in (104, 199, 201, 270):
        np.testing.assert_allclose(found.forecasts[t], curve(330)[t + np.array(HORIZONS)])
    assert np.isnan(found.leftover[[103, 200]]).all()
    np.testing.assert_allclose(found.leftover[[150, 202]], 0, atol=1e-9)
    np.testing.assert_allclose(found.growth[150:], 0.03 * seasonal.YEAR)


def test_the_level_is_an_average_of_what_is_left_over(rng):
    y = curve(160, rng, missing=(120,))
    found = seasonal.regression(y, (4,), years=3, half_life=2.0)
    flat = seasonal.regression(y, (4,), years=3, half_life=1e9)
    level, share = 0.0, 1 - 0.5**0.5
    for t in range(104, 160):
        if t != 120:
            level = (1 - share) * level + share * found.leftover[t]
        assert found.level[t] == pytest.approx(level)
        assert found.forecasts[t, 0] - flat.forecasts[t, 0] == pytest.approx(level, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seasonal.carried([np.nan, 1.0]), "begin with one that is there"),
        (lambda: seasonal.carried([1.0, np.inf]), "values holds infinity"),
        (lambda: seasonal.carried("x"), "values is 'x'"),
        (lambda: seasonal.seasonal_naive(curve(120), (53,)), "horizons is 53"),
        (lambda: seasonal.seasonal_naive(curve(120), (4,), weeks=0), "weeks is 0"),
        (lambda: seasonal.autoregression(curve(200), (4,), order=0, first=150), "order is 0"),
        (lambda: seasonal.autoregression(curve(200), (4,), order=9, first=112), "first is 112"),
        (lambda: seasonal.holt_winters(curve(200), (4,), years=1, first=150), "years is 1"),
        (lambda: seasonal.holt_winters(curve(200), (4,), first=200), "first is 200"),
        (lambda: seasonal.regression(curve(200), (4,), years=1), "years is 1"),
        (lambda: seasonal.regression(curve(200), (4,), half_life=0), "half_life is 0"),
        (lambda: seasonal.regression(curve(200), (4,), degree=4), "degree is 4"),
        (lambda: seasonal.regression(curve(200), (4,), harmonics=14), "harmonics is 14"),
        (lambda: co2_series.Series(curve(300)), "values has 300 weeks"),
        (lambda: co2_series.Series(curve(900), test=0.5), "test is 0.5"),
        (lambda: co2_series.Series(curve(900), validation=0), "validation is 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("statsmodels.datasets", co2_series.weekly),
        ("statsmodels.tsa.holtwinters", lambda: METHODS["Holt-Winters"](curve(200))),
    ],
)
def test_without_statsmodels_the_extra_is_named(module, call, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"pip install 'ssm_manual\[examples\]'"):
        call()


# ------------------------------------------------------------------------------------- the series


def test_the_series_is_the_published_one():
    values, years = co2_series.weekly()
    assert values.shape == years.shape == (2284,)
    assert np.isnan(values).sum() == 59
    assert (values[0], values[-1]) == (316.1, 371.5)
    assert years[0] == pytest.approx(1958 + 87 / 365.25)
    assert years[-1] == pytest.approx(2002, abs=0.02)


def test_parts_are_disjoint_and_ordered(task):
    series = task.series
    parts = np.array([series.of(name) for name in ("train", "validation", "test")])
    assert parts.sum(axis=0).max() == 1
    for j, h in enumerate(HORIZONS):
        for t in range(0, 2284 - h, 100):
            week = t + h
            part = int(week >= 1484) + int(week >= 1827)
            assert parts[part, t, j]
    assert (2284 - 1827, 1827 - 1484) == (457, 343)


def test_missing_weeks_are_neither_targets_nor_inputs(task):
    series = task.series
    missing = np.flatnonzero(np.isnan(series.values))
    for j, h in enumerate(HORIZONS):
        assert not series.known[missing[missing >= h] - h, j].any()
    late = missing[missing > 104]
    assert (series.inputs[late, 1] == 0).all()
    first = late[np.diff(late, prepend=0) > 1]
    np.testing.assert_array_equal(series.inputs[first, 0], series.inputs[first - 1, 0])
    assert (series.inputs[:104] == 0).all()


def test_inputs_and_scales_know_nothing_of_later_weeks(rng):
    values = curve(900, rng)
    changed = values.copy()
    changed[700:] += 1  # the test part begins at 720, validation at 585
    a, b = co2_series.Series(values), co2_series.Series(changed)
    np.testing.assert_array_equal(a.inputs[:700], b.inputs[:700])
    np.testing.assert_array_equal(a.scale, b.scale)
    assert not np.array_equal(a.inputs[700], b.inputs[700])


def test_every_forecast_of_a_part_counts_once(task):
    series, parts = task.series, task.parts(0)
    for name, part in (("validation", parts.validation), ("test", parts.test.open())):
        count = np.zeros(series.known.shape)
        for start, weights in zip(part.starts, part.arrays.weights):
            count[start : start + co2.WINDOW] += weights
            assert (weights[: co2.MEMORY] == 0).all()
        np.testing.assert_array_equal(count, series.of(name) & series.known)
        if name == "test":
            assert count.sum(axis=0).tolist() == [457, 457, 457]


def test_training_sees_the_training_part_alone(task):
    series, parts = task.series, task.parts(0)
    inputs, length = series.inputs, co2.WINDOW
    where = {inputs[t : t + length].tobytes(): t for t in range(len(inputs) - length + 1)}
    for u, target, _, weights in parts.train(0, np.random.default_rng(0)):
        for i in range(len(u)):
            week = where[u[i].tobytes()] + np.arange(length)
            assert week[-1] < series.first_validation
            np.testing.assert_array_equal(target[i], series.targets[week])
            aim = week[:, np.newaxis] + HORIZONS
            assert (aim[weights[i] > 0] < series.first_validation).all()
            assert weights[i].sum() > 100


def test_root_mean_squares_by_hand(task):
    series = task.series
    flat = np.full(series.known.shape, 360.0)
    for part, weeks in (("validation", slice(1484, 1827)), ("test", slice(1827, 2284))):
        expected = np.sqrt(np.mean((series.values[weeks] - 360) ** 2))
        np.testing.assert_allclose(series.rmse(flat, part), expected)
    flat[2000] = np.nan
    with pytest.raises(ValueError, match="forecasts has none for 3 weeks of test"):
        series.rmse(flat, "test")


# ---------------------------------------------------------------------------------------- training


def test_the_loss_and_its_gradient(rng):
    prediction, target = rng.standard_normal((2, 3, 4, 2))
    weights = rng.integers(0, 2, (3, 4, 2)).astype(float)
    loss, _ = co2.masked_mse_fwd(prediction, target, weights=weights)
    chosen = weights > 0
    assert loss == pytest.approx(np.mean((prediction - target)[chosen] ** 2))
    gradcheck.check_vjp(
        lambda p, t: co2.masked_mse_fwd(p, t, weights=weights),
        co2.masked_mse_vjp,
        (prediction, target),
    )


def test_a_quick_run_moves_and_is_scored_in_ppm(task, quick):
    for run in quick.runs:
        losses = run.history["epoch_loss"]
        assert losses[-1] < losses[0]
        ppm = np.array(list(run.further.values()))
        assert np.mean((ppm / task.series.scale) ** 2) == pytest.approx(run.test["loss"], rel=1e-3)
    names = [rival.name for rival in quick.rivals]
    assert names == ["regression", "seasonal naive", "autoregression", "Holt-Winters"]
    regression, naive, fitted, smoothed = (rival.value for rival in quick.rivals)
    assert regression < min(fitted, smoothed) < max(fitted, smoothed) < naive
    assert abs(quick.runs[0].parameters / quick.runs[1].parameters - 1) < 0.05


def test_forecasts_of_a_model_are_the_regression_and_a_correction(task, quick):
    model, test, series = quick.runs[0].model, quick.test, task.series
    found = task.forecasts(model, test)
    np.testing.assert_array_equal(np.isfinite(found), series.of("test") & series.known)
    start, u = test.starts[1], test.arrays.u[1:2]
    week = start + 250
    correction = model.forward(u[:, :251], cache=False)[0][0, -1] * series.scale
    np.testing.assert_allclose(found[week], series.regression.forecasts[week] + correction)


def test_the_panel_has_a_bar_for_every_method_and_horizon(task, quick):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    task.draw(list(quick.runs), ax)
    heights = {c.get_label(): [bar.get_height() for bar in c] for c in ax.containers}
    assert list(heights) == ["S4D", "LSTM", "regression", "seasonal naive", "autoregression",
                             "Holt-Winters"]  # fmt: skip
    np.testing.assert_allclose(heights["S4D"], list(quick.runs[0].further.values()), rtol=1e-5)


def test_settings_stand_among_the_candidates(task):
    for model in task.models:
        assert task.settings(model) in task.candidates(model)
        assert len(task.candidates(model)) >= 2
