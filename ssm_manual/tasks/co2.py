"""Forecasts of weekly carbon dioxide, 4, 13 and 52 weeks ahead, with a rolling origin.

A model does not forecast the curve itself. A regression on the past twelve years, fitted anew each
week, goes on as it is (`seasonal.regression`); the model reads what it leaves over, and says by how
much it will be wrong.
"""

import numpy as np

from ssm_manual.tasks import seasonal
from ssm_manual.tasks.co2_series import FEATURES, HORIZONS, Series, weekly
from ssm_manual.tasks.protocol import Fresh, Parts, Score, Sealed, Settings, Task
from ssm_manual.training import Batches

__all__ = ["Co2Forecast", "masked_mse_fwd", "masked_mse_vjp"]

#: Weeks of a window, and how many of them a model has read before it is asked: in training, and
#: where it is scored.
WINDOW, HEAD_START, MEMORY = 312, 104, 208


def masked_mse_fwd(prediction, target, *, weights):
    """``sum w (prediction - target)^2 / sum w``, and what the backward pass needs.

    Parameters
    ----------
    prediction, target, weights : ndarray
        Of one shape; the weights at least 0 and not all 0.

    Returns
    -------
    loss : numpy floating
    residuals : tuple
    """
    error = prediction - target
    weighted = weights * error / np.sum(weights, dtype=np.float64)
    return error.dtype.type(np.sum(weighted * error)), weighted.astype(error.dtype)


def masked_mse_vjp(residuals, grad_loss):
    """Gradients to prediction and target: ``2 w error / sum w`` and its negative.

    Parameters
    ----------
    residuals : tuple
        Of `masked_mse_fwd`.
    grad_loss : numpy floating
        dL/d(loss).

    Returns
    -------
    tuple of ndarray
    """
    grad = 2 * grad_loss * residuals
    return grad, -grad


class Co2Forecast(Task):
    """Forecasts of the CO2 at Mauna Loa; see the head of this file.

    Parameters
    ----------
    quick, data, **options
        As of `protocol.Task`; there are no options.
    """

    name = "co2"
    title = "Weekly CO2 at Mauna Loa, 4, 13 and 52 weeks ahead"
    summary = "weekly CO2 at Mauna Loa, 4, 13 and 52 weeks ahead, beside classical forecasts"
    description = """\
2284 weeks from 1958 to 2001, 59 missing. The last 20 % are for testing, the 15 % before for
validation; a forecast belongs to the week that it is for, and is made from all weeks up to its
origin. Missing weeks are not filled in, not trained on and not scored. A model corrects a
regression (line and four harmonics over the past twelve years, moved to the level of the last
weeks). Beside it: that regression alone, seasonal naive, an autoregression and Holt-Winters, their
settings chosen on validation, the last two fitted anew every year, to all the past and to the last
eight years. The metric is the mean over horizons of squared errors in units of seasonal naive's on
the training part."""
    loss = (masked_mse_fwd, masked_mse_vjp)
    metric, metric_label = "loss", "mean squared error (seasonal naive in training: 1)"
    higher_is_better = False
    percent = False

    def __init__(self, *, quick=False, data=None, **options):
        super().__init__(quick=quick, data=data, **options)
        self.series = Series(weekly().values)
        self._classical = {}

    def parts(self, seed):
        """The same three parts of time for every seed: of training, windows at random places."""
        series, most = self.series, self.series.first_validation - WINDOW
        wanted = series.known & series.of("train")

        def draw(rng, items):
            # beyond the ends and back: a week at the end lies in as many windows as others
            start = np.clip(rng.integers(-HEAD_START, most + HEAD_START + 1, items), 0, most)
            return self._windows(start, wanted, HEAD_START)

        validation, test = (self._scored(part) for part in ("validation", "test"))
        batches = 4 if self.quick else 16
        return Parts(Fresh(draw, batches=batches, batch_size=16), validation, Sealed(test))

    def _windows(self, start, wanted, head_start):
        week = np.asarray(start)[:, np.newaxis] + np.arange(WINDOW)
        weights = wanted[week].astype(np.float32)
        weights[:, :head_start] = 0
        return self.series.inputs[week], self.series.targets[week], None, weights

    def _scored(self, part):
        """Windows whose last weeks lie side by side, so that every forecast counts once."""
        wanted = self.series.known & self.series.of(part)
        weeks = np.flatnonzero(wanted.any(axis=1))
        ends = np.arange(weeks[-1] + 1, weeks[0], MEMORY - WINDOW)[::-1]
        starts = ends - WINDOW
        return _Origins(starts, *self._windows(starts, wanted, MEMORY))

    def shape(self):
        """What each of the horizons is corrected by, every week."""
        return {"d_input": len(FEATURES), "d_output": len(HORIZONS), "task": "regression"}

    def candidates(self, model):
        """Small models for few data, without a norm: a week's size counts. The first is used."""
        epochs = 2 if self.quick else 6

        def own(lr, width=None, blocks=2, dropout=0.4, **options):
            return Settings(
                d_model=width,
                n_layers=blocks,
                options={"norm": "none", "dropout": dropout, **options},
                lr=lr,
                ssm_lr=0.003,
                weight_decay=0.05,
                epochs=epochs,
            )

        # The metric on validation, where the regression alone has 0.623.
        if model in ("lstm", "rnn"):
            return own(0.005, blocks=1), own(0.002, blocks=1)  # LSTM: 0.629, 0.639
        # 0.629, 0.636, 0.637
        ssm = {"modes": 8, "layer_options": {"dt_min": 0.01, "dt_max": 0.2}}
        return own(0.005, 16, **ssm), own(0.005, 16, dropout=0.2, **ssm), own(0.002, 16, **ssm)

    def goal(self):
        """Seasonal naive on the training part."""
        return {"seasonal naive in training": 1.0}

    def forecasts(self, model, part):
        """What a model forecasts for a part.

        Parameters
        ----------
        model : SequenceModel
        part : Batches
            Validation, or the opened test part.

        Returns
        -------
        ndarray
            (weeks, horizons), ppm, NaN outside the part.
        """
        a = part.arrays
        correction = model.forward(a.u, cache=False)[0] * self.series.scale
        found = np.full(self.series.known.shape, np.nan)
        for start, y, weights in zip(part.starts, correction, a.weights):
            week = slice(start, start + WINDOW)
            found[week] = np.where(weights > 0, self.series.regression.forecasts[week] + y,
                                   found[week])  # fmt: skip
        return found

    def classical(self, part="test"):
        """Forecasts of the methods without a network, with the settings chosen on validation.

        Parameters
        ----------
        part : {"validation", "test"}
            From whose first week on there are forecasts.

        Returns
        -------
        dict of tuple
            ``{name: (forecasts, note)}``, forecasts (weeks, horizons) in ppm.
        """
        if part in self._classical:
            return self._classical[part]
        series = self.series
        first = {"validation": series.first_validation, "test": series.first_test}[part]
        values, first = series.values, first - max(HORIZONS)
        if part == "validation":
            values = np.where(np.arange(values.size) < series.first_test, values, np.nan)
        # On validation, ppm at 4, 13 and 52 weeks. Growth over 1, 4, 13, 26 weeks: 0.73 0.81 1.13,
        # 0.63 0.67 0.96, 0.59 0.65 0.90, 0.61 0.68 0.91. Order 13, 54, 60, 80, 104: 0.60 0.67 0.84,
        # 0.54 0.61 0.86, 0.53 0.60 0.83, 0.53 0.60 0.82, 0.54 0.63 0.93. Years 6, 8, 10, 15, all:
        # 0.49 0.60 0.81, 0.49 0.61 0.79, 0.50 0.64 0.75, 0.53 0.75 0.78, 0.68 1.23 0.82. The metric
        # decides between close ones: 0.8120 and 0.8117 at order 60 and 80, 0.762 and 0.759 with 6
        # and 8 years. The regression's years 8, 10, 12, 15: 0.678, 0.640, 0.623, 0.631; its
        # half-life 2, 4, 8: 0.622, 0.623, 0.671; a parabola: 0.716.
        self._classical[part] = {
            "regression": (series.regression.forecasts, "what the models correct, alone"),
            "seasonal naive": (
                seasonal.seasonal_naive(values, HORIZONS, weeks=13),
                "last year's same week, and the growth over a year as of the last 13 weeks",
            ),
            "autoregression": (
                seasonal.autoregression(values, HORIZONS, order=80, first=first),
                "order 80, on differences over a year, fitted anew every year",
            ),
            "Holt-Winters": (
                seasonal.holt_winters(values, HORIZONS, years=8, first=first),
                "fitted anew every year, to the last eight years",
            ),
        }
        return self._classical[part]

    def rivals(self, parts, test):
        """Methods without a network."""
        scores = []
        for name, (forecasts, note) in self.classical().items():
            off = self.series.rmse(forecasts, "test")
            loss = float(np.mean((off / self.series.scale) ** 2))
            ppm = ", ".join(f"{r:.3f}" for r in off)
            scores.append(Score(name, loss, f"{ppm} ppm at 4, 13, 52 weeks; {note}"))
        return tuple(scores)

    def further(self, model, test):
        """Root mean square errors in ppm."""
        off = self.series.rmse(self.forecasts(model, test), "test")
        return {f"error {h} weeks ahead (ppm)": float(r) for h, r in zip(HORIZONS, off)}

    def draw(self, runs, ax):
        """How far the forecasts were off on the test part, at every horizon."""
        from ssm_manual import plots

        test = self.parts(runs[0].seed).test.open()
        answers = {run.title: self.forecasts(run.model, test) for run in runs}
        answers |= {name: found for name, (found, _) in self.classical().items()}
        off = {name: self.series.rmse(found, "test") for name, found in answers.items()}
        place = np.arange(len(HORIZONS))
        width = 0.8 / len(off)
        own = {run.title: plots.model_colour(run.name) for run in runs}
        for i, (name, r) in enumerate(off.items()):
            grey = str(0.3 + 0.15 * (i - len(own)))
            at = place + (i - (len(off) - 1) / 2) * width
            ax.bar(at, r, width, label=name, color=own.get(name, grey))
        ax.set_xticks(place, [f"{h} weeks" for h in HORIZONS])
        ax.set(xlabel="how far ahead", ylabel="RMS error of the forecast (ppm)")
        ax.legend(frameon=False, fontsize="small")


# --------------------------------------------------------------------------------------- internals


class _Origins(Batches):
    """One batch of windows, and the weeks at which they start."""

    def __init__(self, starts, u, target, lengths, weights):
        super().__init__(u, target, batch_size=len(u), weights=weights, shuffle=False)
        self.starts = starts
