"""Least squares in one step, by a singular value decomposition [REGRESSION-11]."""

import numpy as np

from ssm_manual.models._frame import frame_of


def solve(X, y, l2, standardise):
    """Weights and bias of the minimiser, in double precision; see `LinearRegression.least_squares`.

    ``|w|^2`` is penalised, and kept small where the minimiser is not unique, or ``|v|^2`` of the
    standardised weights ``v = w deviation``.
    """
    frame = frame_of(X, True)
    Z = frame.wide(X)
    # Linear in y: a power of two taken out costs no digit, and no sum leaves the range.
    exponent = int(np.frexp(np.abs(y, dtype=float).max())[1])
    y = np.ldexp(y.astype(float), -exponent)
    centre = float(np.mean(y))
    scale = np.ones(frame.deviation.size) if standardise else 1 / frame.deviation
    v = minimiser(Z, y - centre, l2, scale, dependent(X, frame))
    weights, bias = frame.fold(v, np.array([centre]))
    with np.errstate(over="ignore"):
        return np.ldexp(weights, exponent), np.ldexp(bias, exponent)


def dependent(X, frame):
    """The relative size below which a singular value of the standardised features is rounding.

    Rounding moves a value by half a unit of its size, not of its column's deviation.
    """
    eps, F = float(np.finfo(X.dtype).eps), X.shape[1]
    size = np.where(frame.constant, 0, np.abs(X).max(axis=0))  # a constant becomes just 0
    moved = eps * np.sqrt(F) * np.max(size / frame.deviation)
    floor = np.finfo(float).eps * max(X.shape)
    return max(floor, min(moved, np.sqrt(eps)))  # what is above sqrt(eps) always counts


def minimiser(Z, y, l2, scale, cut):
    """Minimiser of ``|Z v - y|^2 / n + l2 |scale v|^2``; of several, that of least |scale v|."""
    n, F = Z.shape
    if l2:
        Z = np.vstack([Z / np.sqrt(n), np.diag(np.sqrt(l2) * scale)])  # [REGRESSION-11]
        y = np.concatenate([y / np.sqrt(n), np.zeros(F)])
        return np.linalg.lstsq(Z, y, rcond=None)[0]
    U, singular, Vh = np.linalg.svd(Z, full_matrices=n < F)
    rank = int(np.sum(singular > cut * singular[0])) if singular[0] > 0 else 0
    v = Vh[:rank].T @ ((U[:, :rank].T @ y) / singular[:rank])
    if rank < F:  # what the data cannot see is taken out where it makes |scale v| larger
        # whatever the units are: powers of two are taken out, so that no square leaves the range
        scale = np.ldexp(scale, -np.frexp(scale.max())[1])
        scale = np.maximum(scale, np.finfo(float).tiny)
        unseen = scale[:, None] * Vh[rank:].T
        unseen = np.ldexp(unseen, -np.frexp(np.abs(unseen).max(axis=0))[1])
        basis = np.linalg.qr(unseen / np.linalg.norm(unseen, axis=0))[0]
        v = v - (basis @ (basis.T @ (scale * v))) / scale
    return v
