"""The coordinates in which a linear regression descends: the user's, or standardised ones.

Standardised features ``z = (x - mean) / deviation`` have weights ``v`` and a bias ``c`` with

    w = v / deviation,   b = c - sum v mean / deviation        [REGRESSION-10]

formed in double precision and rounded once to the model's precision.
"""

from typing import NamedTuple

import numpy as np


class Scaled(NamedTuple):
    """Where a standardised run stands; folding rounds, so that (w, b) does not tell it."""

    weights: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


class Raw:
    """The units of the features themselves."""

    def features(self, X):
        return X

    def enter(self, model):
        return model.params["weights"].copy(), model.params["bias"].reshape(1).copy()

    def leave(self, model, weights, bias):
        model.params["weights"][...] = weights
        model.params["bias"][...] = bias[0]
        model.scaled = None

    def fold_rows(self, rows):
        return rows


class Standardised:
    """Features of mean 0 and deviation 1; a constant column has the deviation 1, and becomes 0."""

    def __init__(self, X):
        X = np.asarray(X, float)
        # A power of two is taken out of each column, so that no sum and no square overflows.
        self._size = np.frexp(np.abs(X).max(axis=0))[1]
        Z = np.ldexp(X, -self._size)
        self._mean = np.where(np.all(Z[0] == Z, axis=0), Z[0], Z.mean(axis=0))  # of 0.1s just 0.1
        self._deviation = np.sqrt(np.mean(np.square(Z - self._mean), axis=0))
        self.mean = np.ldexp(self._mean, self._size)
        self.deviation = np.ldexp(self._deviation, self._size)
        self.constant = self.deviation < np.finfo(float).tiny
        self.deviation[self.constant] = 1.0
        self._deviation[self.constant] = np.inf  # which makes the column zero

    def wide(self, X):
        """The features in double precision."""
        return (np.ldexp(np.asarray(X, float), -self._size) - self._mean) / self._deviation

    def features(self, X):
        return self.wide(X).astype(X.dtype)

    def enter(self, model):
        """Weights and bias in these coordinates: where the last such run stood, if this goes on."""
        scaled, params = model.scaled, model.params
        if scaled is not None and self._same(scaled):
            weights, bias = self.fold(scaled.weights, scaled.bias)
            if np.array_equal(weights, params["weights"]) and bias == params["bias"]:
                return scaled.weights.copy(), scaled.bias.copy()
        weights = params["weights"].astype(float)
        bias = np.atleast_1d(float(params["bias"]) + weights @ self.mean)
        return (weights * self.deviation).astype(model.dtype), bias.astype(model.dtype)

    def leave(self, model, weights, bias):
        folded, offset = self.fold(weights, bias)
        model.params["weights"][...] = folded
        model.params["bias"][...] = offset
        model.scaled = Scaled(weights.copy(), bias.copy(), self.mean, self.deviation)

    def fold(self, weights, bias):
        """``(w, b)`` of ``(v, c)`` [REGRESSION-10]."""
        row = self.fold_rows(np.append(weights, bias)[None])[0]
        return row[:-1], row[-1]

    def fold_rows(self, rows):
        """The same for many, each a row with the bias last: the same bits."""
        wide = rows[:, :-1].astype(float) / self.deviation
        offset = rows[:, -1].astype(float) - np.sum(wide * self.mean, axis=1)
        return np.column_stack([wide, offset]).astype(rows.dtype)

    def _same(self, scaled):
        return np.array_equal(scaled.mean, self.mean) and np.array_equal(
            scaled.deviation, self.deviation
        )


def frame_of(X, standardise):
    """The frame of a table."""
    return Standardised(X) if standardise else Raw()
