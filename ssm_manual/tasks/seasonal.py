"""Forecasts of a weekly series with a season and a trend, by four methods that need no network.

Every method gives ``forecasts`` (weeks, horizons): row t holds what is forecast at the end of week
t, from values up to week t alone, for weeks ``t + horizons``; NaN where there is too little past.
Missing weeks are NaN in the values. Two methods need a value in every week and get `carried`.

Source of the second to the fourth: R. Hyndman, G. Athanasopoulos, "Forecasting: principles and
practice", 3rd edition, sections 5.2, 9.9 and 8.3.
"""

import warnings
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate

__all__ = [
    "SEASON",
    "YEAR",
    "Regression",
    "autoregression",
    "carried",
    "holt_winters",
    "regression",
    "seasonal_naive",
]

#: Weeks of a season where it must be a whole number, and those of a mean year.
SEASON, YEAR = 52, 365.25 / 7

#: The largest value: squares of larger ones leave the range of a double.
LARGEST = 1e100


def carried(values):
    """``values`` with gaps filled from their past: the season before plus the last known growth.

    Parameters
    ----------
    values : array_like
        (weeks,), NaN where missing; the first must be there.

    Returns
    -------
    ndarray
        (weeks,). In the first year a gap takes the value before it.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> carried([316.0, np.nan, 317.0]).tolist()
    [316.0, 316.0, 317.0]
    """
    filled = _series(values).copy()
    for t in np.flatnonzero(np.isnan(filled)):
        growth = 0.0 if t <= SEASON else filled[t - 1] - filled[t - 1 - SEASON]
        filled[t] = filled[t - 1] if t <= SEASON else filled[t - SEASON] + growth
    return filled


def seasonal_naive(values, horizons, *, weeks=13):
    """Last year's same week, plus the growth over a year, a mean over the last ``weeks``.

    Parameters
    ----------
    values : array_like
        (weeks,), NaN where missing.
    horizons : sequence of int
        In weeks, 1 to 52.
    weeks : int
        At least 1. With 1: the last value plus what the season did a year ago.

    Returns
    -------
    ndarray
        (weeks, horizons).

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> line = 0.5 * np.arange(120.0)
    >>> seasonal_naive(line, (4,), weeks=2)[-1].item()  # 119 + 4 weeks
    61.5
    """
    y, horizons = carried(values), _horizons(horizons)
    weeks = _validate.integer("weeks", weeks, minimum=1)
    growth = y[SEASON:] - y[:-SEASON]
    forecasts = np.full((y.size, len(horizons)), np.nan)
    for t in range(SEASON + weeks - 1, y.size):
        recent = growth[t - SEASON - weeks + 1 : t - SEASON + 1].mean()
        forecasts[t] = y[t + horizons - SEASON] + recent
    return forecasts


def autoregression(values, horizons, *, order=60, first):
    """An autoregression with a constant on differences over a season, by least squares.

    Its forecasts are iterated week by week. Coefficients are fitted anew every 52 weeks, to all
    the past.

    Parameters
    ----------
    values : array_like
        (weeks,), NaN where missing.
    horizons : sequence of int
        In weeks, 1 to 52.
    order : int
        Differences that the next one is predicted from, at least 1.
    first : int
        The first week at whose end there is a forecast; ``order + 104`` or later.

    Returns
    -------
    ndarray
        (weeks, horizons).

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    y, horizons = carried(values), _horizons(horizons)
    order = _validate.integer("order", order, minimum=1)
    first = _validate.integer("first", first, minimum=order + 2 * SEASON, maximum=y.size - 1)
    d = y[SEASON:] - y[:-SEASON]
    rows = np.lib.stride_tricks.sliding_window_view(d, order + 1)
    forecasts = np.full((y.size, len(horizons)), np.nan)
    for origin in range(first, y.size, SEASON):
        known = rows[: origin - SEASON - order + 1]
        past = np.column_stack([known[:, :-1], np.ones(len(known))])
        weights = np.linalg.lstsq(past, known[:, -1], rcond=None)[0]
        for t in range(origin, min(origin + SEASON, y.size)):
            ahead = list(d[t - SEASON - order + 1 : t - SEASON + 1])
            for _ in range(max(horizons)):
                ahead.append(weights[-1] + np.dot(weights[:-1], ahead[-order:]))
            forecasts[t] = y[t + horizons - SEASON] + np.array(ahead)[order - 1 + horizons]
    return forecasts


def holt_winters(values, horizons, *, years=6, first):
    """Holt's and Winters' exponential smoothing with additive trend and season.

    Smoothing constants and initial states are fitted by statsmodels every 52 weeks, to the last
    ``years``; in the weeks between, level, trend and season are updated with every value:

        l' = a (y - s) + (1 - a) (l + b)
        b' = c (l' - l) + (1 - c) b
        s' = g (y - l - b) + (1 - g) s

    A season of 52 weeks is a day and a quarter shorter than a year. Over many years that adds up,
    which is why all the past would not be the best to fit to.

    Parameters
    ----------
    values : array_like
        (weeks,), NaN where missing.
    horizons : sequence of int
        In weeks, 1 to 52.
    years : int
        Of 52 weeks, that are fitted to, at least 2; fewer where there are fewer.
    first : int
        The first week at whose end there is a forecast, 104 or later.

    Returns
    -------
    ndarray
        (weeks, horizons).

    Raises
    ------
    ValueError
        If an argument does not fit, or statsmodels is not installed.
    """
    y, horizons = carried(values), _horizons(horizons)
    years = _validate.integer("years", years, minimum=2)
    first = _validate.integer("first", first, minimum=2 * SEASON, maximum=y.size - 1)
    forecasts = np.full((y.size, len(horizons)), np.nan)
    for origin in range(first, y.size, SEASON):
        start = max(0, origin + 1 - SEASON * years)
        (a, c, g), level, trend, season = _smoothing(y[start : origin + 1])
        season = list(season)
        for t in range(start, min(origin + SEASON, y.size)):
            s, before = season[t - start], level
            level = a * (y[t] - s) + (1 - a) * (before + trend)
            season.append(g * (y[t] - before - trend) + (1 - g) * s)
            trend = c * (level - before) + (1 - c) * trend
            if t >= origin:
                forecasts[t] = level + trend * horizons + np.array(season)[t - start + horizons]
    return forecasts


class Regression(NamedTuple):
    """What `regression` finds, week by week.

    Attributes
    ----------
    forecasts : ndarray
        (weeks, horizons), the curve gone on plus the level.
    leftover : ndarray
        (weeks,), a week's value minus the curve's; NaN where it is missing.
    level : ndarray
        (weeks,), a mean of what was left over in the last weeks.
    growth : ndarray
        (weeks,), slope of the curve without its season, units a year, at the end of the week.
    """

    forecasts: np.ndarray
    leftover: np.ndarray
    level: np.ndarray
    growth: np.ndarray


def regression(values, horizons, *, years=12, half_life=4.0, degree=1, harmonics=4):
    """A polynomial plus harmonics of the year, moved to the level of the last weeks.

    The curve is fitted anew each week, by least squares. What it leaves over in the last weeks is
    averaged, an old week counting less than a new one, and added to what the curve says of weeks to
    come. Weeks that are missing are left out of both; nothing is filled in.

    Parameters
    ----------
    values : array_like
        (weeks,), NaN where missing.
    horizons : sequence of int
        In weeks, 1 to 52.
    years : float
        That are fitted to, at least 2; there is no result before the end of the second.
    half_life : float
        Of a week in the average, in weeks, above 0.
    degree : int
        Of the polynomial, 1 to 3.
    harmonics : int
        1 to 13.

    Returns
    -------
    Regression

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    y, horizons = _series(values), _horizons(horizons)
    length = round(YEAR * _validate.real_number("years", years, minimum=2))
    half_life = _validate.real_number("half_life", half_life, above=0)
    degree = _validate.integer("degree", degree, minimum=1, maximum=3)
    harmonics = _validate.integer("harmonics", harmonics, minimum=1, maximum=13)
    # The curve's columns over weeks from the present one, which is 0: the same for every fit.
    z = np.arange(1 - length, max(horizons) + 1) / YEAR
    angle = 2 * np.pi * z[:, np.newaxis] * np.arange(1, harmonics + 1)
    columns = np.column_stack([z[:, np.newaxis] ** np.arange(degree + 1), np.cos(angle),
                               np.sin(angle)])  # fmt: skip
    ahead = columns[length - 1 + horizons]
    found = Regression(np.full((y.size, len(horizons)), np.nan), *np.full((3, y.size), np.nan))
    level, share = 0.0, 1 - 0.5 ** (1 / half_life)
    for t in range(2 * SEASON, y.size):
        past = y[max(0, t + 1 - length) : t + 1]
        there = np.flatnonzero(~np.isnan(past)) + length - past.size
        b = np.linalg.lstsq(columns[there], past[~np.isnan(past)], rcond=None)[0]
        leftover = y[t] - columns[length - 1] @ b
        level += 0.0 if np.isnan(leftover) else share * (leftover - level)
        found.forecasts[t] = ahead @ b + level
        found.leftover[t], found.level[t] = leftover, level
        found.growth[t] = b[1]
    return found


# --------------------------------------------------------------------------------------- internals


def _series(values):
    try:
        y = np.asarray(values)
    except (TypeError, ValueError):  # a ragged list
        y = np.empty(0)
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError("values is a masked array; what is missing must be NaN")
    if y.ndim != 1 or y.dtype.kind not in "fiu" or y.size <= 1 or not np.isfinite(y[0]):
        raise ValueError(
            f"values is {_validate.show(values)}; it must be (weeks,), two numbers or more, and "
            "begin with one that is there"
        )
    y = y.astype(float)
    if np.isinf(y).any():
        raise ValueError("values holds infinity; what is missing must be NaN")
    if np.nanmax(np.abs(y)) > LARGEST:
        raise ValueError(f"values holds {np.nanmax(np.abs(y)):g}; it must be within {LARGEST:g}")
    return y


def _horizons(horizons):
    return np.array(
        [_validate.integer("horizons", h, minimum=1, maximum=SEASON) for h in horizons], int
    )


def _smoothing(y):
    """Smoothing constants (level, trend, season) and initial states, as statsmodels fits them."""
    try:
        from statsmodels.tools.sm_exceptions import ConvergenceWarning
        from statsmodels.tsa.holtwinters import ExponentialSmoothing
    except ImportError:
        raise ValueError(
            "Holt-Winters is fitted by statsmodels, which is not installed: "
            "pip install 'ssm_manual[examples]'"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = ExponentialSmoothing(
            y,
            trend="add",
            seasonal="add",
            seasonal_periods=SEASON,
            initialization_method="estimated",
        ).fit()
    p = found.params
    constants = p["smoothing_level"], p["smoothing_trend"], p["smoothing_seasonal"]
    return constants, p["initial_level"], p["initial_trend"], p["initial_seasons"]
