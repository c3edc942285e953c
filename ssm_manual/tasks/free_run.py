"""Forecasts that are fed back, and the autoregression that models are compared with."""

import numpy as np

from ssm_manual import _validate

__all__ = ["Autoregression", "free_run"]


def free_run(model, u, steps):
    """What comes after the sequences, each forecast fed back as the sample that it is for.

    Parameters
    ----------
    model : SequenceModel
        Gives steps from sample to sample.
    u : ndarray
        (batch, length, features), read first.
    steps : int
        Samples to forecast, at least 1.

    Returns
    -------
    ndarray
        (batch, steps, features).

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    steps = _validate.integer("steps", steps, minimum=1)
    y, state, _ = model.forward(u, cache=False)
    x = [u[:, -1] + y[:, -1]]
    while len(x) < steps:
        y, state = model.step(x[-1], state)
        x.append(x[-1] + y)
    return np.stack(x, axis=1)


class Autoregression:
    """The next sample as a weighted sum of past ones: least squares, the same for every feature.

    The weights of order n use the n last samples. Near the beginning of a sequence there are fewer,
    and weights of that lower order take their place.

    Parameters
    ----------
    x : ndarray
        (sequences, length, features), to fit to.
    order : int
        Largest order, less than the length.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """

    def __init__(self, x, order):
        x = _validate.array("x", x, real=True)
        _validate.shape("x", x, (-1, -1, -1), meaning="(sequences, length, features)")
        self.order = _validate.integer("order", order, minimum=1, maximum=x.shape[1] - 1)
        windows = np.lib.stride_tricks.sliding_window_view(x, order + 1, axis=1)
        windows = windows.reshape(-1, order + 1).astype(float)
        # the weights do not depend on the unit: a power of two that leaves no square out of range
        windows = np.ldexp(windows, -np.frexp(np.abs(windows).max())[1])
        # as good as the windows themselves, and no longer than order + 1
        windows = np.linalg.qr(windows, mode="r")
        self.weights = []  # of order 1, 2, ..., the oldest sample first
        for n in range(1, order + 1):
            past = slice(order - n, order)
            found = np.linalg.lstsq(windows[:, past], windows[:, order], rcond=None)
            self.weights.append(found[0])  # where several do as well, the smallest

    def next(self, past, order):
        """What comes after ``past``, (sequences, samples, features).

        Parameters
        ----------
        past : ndarray
        order : int
            At most so many samples are used.

        Returns
        -------
        ndarray
            (sequences, features).
        """
        past, order = self._checked("past", past, order)
        return self._next(past, order)

    def _checked(self, name, x, order):
        x = _validate.array(name, x, real=True)
        _validate.shape(name, x, (None, -1, None), meaning="(sequences, samples, features)")
        return x, _validate.integer("order", order, minimum=1, maximum=self.order)

    def _next(self, past, order):
        n = min(order, past.shape[1])
        forecast = np.einsum("snf,n->sf", past[:, past.shape[1] - n :], self.weights[n - 1])
        _validate.sound_values(forecast=forecast)
        return forecast

    def error(self, x, order):
        """Mean squared error of one-step forecasts of ``x[:, 1:]``.

        Parameters
        ----------
        x : ndarray
            (sequences, length, features).
        order : int

        Returns
        -------
        float
        """
        x, order = self._checked("x", x, order)
        with np.errstate(over="ignore"):  # infinite, as what is beyond the range is
            wrong = [self._next(x[:, :t], order) - x[:, t] for t in range(1, x.shape[1])]
            return float(np.mean(np.square(wrong)))

    def free_run(self, x, order, steps):
        """As `free_run` of a model.

        Parameters
        ----------
        x : ndarray
            (sequences, length, features), read first.
        order, steps : int

        Returns
        -------
        ndarray
            (sequences, steps, features).
        """
        x, order = self._checked("x", x, order)
        steps = _validate.integer("steps", steps, minimum=1)
        for _ in range(steps):
            x = np.concatenate([x, self._next(x, order)[:, np.newaxis]], axis=1)
        return x[:, -steps:]
