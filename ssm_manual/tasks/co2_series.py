"""Weekly carbon dioxide at Mauna Loa, cut into three parts of time.

statsmodels' ``co2``: 2284 weeks from March 1958 on, 59 of them missing. A forecast belongs to the
part of the week that it is for; it is made from the weeks up to its origin, whatever part they lie
in. What is missing is neither a target nor filled in: a model sees what was seen last, and that it
is old.

Source: C. Keeling, T. Whorf, Scripps Institution of Oceanography, "Atmospheric CO2 concentrations
derived from flask air samples at sites in the SIO network", as distributed with statsmodels.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.tasks import seasonal

__all__ = ["FEATURES", "HORIZONS", "Series", "Weekly", "weekly"]

#: Weeks ahead that are forecast.
HORIZONS = (4, 13, 52)

#: What a model reads each week: how far the week was from curve and level (of a missing week, what
#: was seen last), whether there is a value, and the slope of the curve.
FEATURES = ("surprise", "seen", "growth")


class Weekly(NamedTuple):
    """One value a week.

    Attributes
    ----------
    values : ndarray
        (weeks,), ppm; NaN where missing.
    years : ndarray
        (weeks,), the end of each week as a year with decimals.
    """

    values: np.ndarray
    years: np.ndarray


def weekly():
    """The series, as statsmodels has it.

    Returns
    -------
    Weekly

    Raises
    ------
    ValueError
        If statsmodels is not installed, or its series is another one.
    """
    try:
        from statsmodels.datasets import co2
    except ImportError:
        raise ValueError(
            "the CO2 series comes with statsmodels, which is not installed: "
            "pip install 'ssm_manual[examples]'"
        ) from None
    table = co2.load().data
    dates = table.index.values.astype("datetime64[D]")
    values = table["co2"].to_numpy(float)
    if values.size != 2284 or (np.diff(dates) != np.timedelta64(7, "D")).any():
        raise ValueError(
            f"statsmodels' CO2 series has {values.size} values; it must have 2284, seven days apart"
        )
    days = (dates - np.datetime64("1958-01-01")).astype(float)
    return Weekly(values, 1958 + days / 365.25)


class Series:
    """Inputs and targets for every week, and where the parts begin.

    Parameters
    ----------
    values : array_like
        (weeks,), NaN where missing.
    test, validation : float
        Shares of all weeks: the last, and that before it.

    Attributes
    ----------
    values : ndarray
        (weeks,), as given.
    first_validation, first_test : int
        Weeks at which the parts begin.
    regression : Regression
        Whose ``forecasts`` are what the model corrects.
    scale : ndarray
        (horizons,), ppm: the root mean square error of `seasonal.seasonal_naive` on the training
        part. Errors and the loss are in these units.
    inputs : ndarray
        (weeks, features), float32, see `FEATURES`; scaled by statistics of the training part.
    targets : ndarray
        (weeks, horizons), float32, errors of the regression over ``scale``; 0 where not known.
    known : ndarray of bool
        (weeks, horizons), whether there is a forecast and a value to compare it with.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """

    def __init__(self, values, *, test=0.2, validation=0.15):
        test = _validate.real_number("test", test, above=0, maximum=0.4)
        validation = _validate.real_number("validation", validation, above=0, maximum=0.4)
        self.values = np.asarray(values, float)
        n = self.values.size
        self.first_test = n - round(test * n)
        self.first_validation = self.first_test - round(validation * n)
        if self.first_validation < 5 * seasonal.SEASON:
            raise ValueError(f"values has {n} weeks; the training part must have five years")
        self.regression = seasonal.regression(self.values, HORIZONS)
        wrong, self.known = self._errors(self.regression.forecasts)
        naive, known = self._errors(seasonal.seasonal_naive(self.values, HORIZONS))
        known &= self.of("train")
        self.scale = np.sqrt(np.sum(naive**2, axis=0, where=known) / known.sum(axis=0))
        self.targets = np.where(self.known, wrong / self.scale, 0).astype(np.float32)
        self.inputs = self._inputs()

    def of(self, part):
        """Whether the week that is forecast lies in a part.

        Parameters
        ----------
        part : {"train", "validation", "test"}

        Returns
        -------
        ndarray of bool
            (weeks, horizons), by the week at whose end the forecast is made.
        """
        edges = {
            "train": (0, self.first_validation),
            "validation": (self.first_validation, self.first_test),
            "test": (self.first_test, self.values.size),
        }
        low, high = edges[_validate.one_of("part", part, tuple(edges))]
        week = np.arange(self.values.size)[:, np.newaxis] + HORIZONS
        return (week >= low) & (week < high)

    def rmse(self, forecasts, part):
        """Root mean square errors in ppm.

        Parameters
        ----------
        forecasts : ndarray
            (weeks, horizons), ppm.
        part : {"train", "validation", "test"}

        Returns
        -------
        ndarray
            (horizons,), over all weeks of the part that are not missing.

        Raises
        ------
        ValueError
            If there is no forecast for some of these weeks; of the training part those are left
            out.
        """
        wrong, known = self._errors(forecasts)
        there = self._errors(np.zeros_like(forecasts))[1] & self.of(part)
        if part != "train" and (there & ~known).any():
            raise ValueError(f"forecasts has none for {(there & ~known).sum()} weeks of {part}")
        known &= there
        return np.sqrt(np.sum(wrong**2, axis=0, where=known) / known.sum(axis=0))

    def _errors(self, forecasts):
        """Value minus forecast, and where both are known."""
        n = self.values.size
        later = np.full((n, len(HORIZONS)), np.nan)
        for j, h in enumerate(HORIZONS):
            later[: n - h, j] = self.values[h:]
        wrong = later - forecasts
        return np.nan_to_num(wrong), ~np.isnan(wrong)

    def _inputs(self):
        found = self.regression
        seen = ~np.isnan(found.leftover)
        last = np.maximum.accumulate(np.where(seen, np.arange(seen.size), 0))
        surprise = np.nan_to_num(found.leftover - found.level)[last]
        train = slice(2 * seasonal.SEASON, self.first_validation)
        growth = (found.growth - found.growth[train].mean()) / found.growth[train].std()
        features = np.column_stack([surprise / surprise[train].std(), seen, growth])
        features[: train.start] = 0  # the regression has not begun
        return features.astype(np.float32)
