"""Embedding: rows of a table by number, ``embedding``, and by place in time, ``positions``.

    y_t = table[ids_t]              [EMBED-1]
    y_ht = x_ht + table_{h, start + t}        [EMBED-3]

Derivation: docs/derivations/embedding.md. Cost: one pass over the output.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._numba import jit, parallel_jit, prange, threads
from ssm_manual.ops._pointwise import PARALLEL_FROM
from ssm_manual.ops.registry import Example, register

__all__ = [
    "embedding",
    "embedding_fwd",
    "embedding_vjp",
    "positions",
    "positions_fwd",
    "positions_vjp",
]


def embedding(ids, table, *, axis=-1):
    """``y_t = table[ids_t]`` [EMBED-1].

    Parameters
    ----------
    ids : array_like of int
        Any integer dtype; (batch, L), or any other shape with ``axis=-1``. From 0 to V - 1.
    table : array_like
        Real, (V, H): one row for each id.
    axis : int
        Where the features go: -1 gives (..., H), -2 gives (batch, H, L).

    Returns
    -------
    ndarray
        Of the table's precision.

    Raises
    ------
    ValueError
        If ids are not integers or out of range, a shape does not fit, or the table is complex or
        not finite.

    Notes
    -----
    Saved for the backward pass: the ids. The gradient of a row is the sum over its places, in order
    and in double precision; H times V numbers of it in all.

    Examples
    --------
    >>> embedding([[2, 0]], [[1.0], [2.0], [3.0]], axis=-2).tolist()
    [[[3.0, 1.0]]]
    """
    return embedding_fwd(ids, table, axis=axis)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    ids: np.ndarray  # int64, contiguous
    table: np.ndarray  # of the table, but without memory
    axis: int


def embedding_fwd(ids, table, *, axis=-1):
    """`embedding` and its residuals."""
    table = _validate.arrays(table=table, real=("table",))[0]
    _validate.shape("table", table, (-1, -1), meaning="(V, H)")
    _validate.one_of("axis", axis, (-1, -2))
    ids = _checked_ids(ids, len(table))
    if axis == -1:
        if ids.ndim >= _validate.AXES:
            raise ValueError(f"ids has {ids.ndim} axes; it must have at most {_validate.AXES - 1}")
        y = np.take(table, ids, axis=0)
    else:
        _validate.shape("ids", ids, (None, None), meaning="(batch, L)")
        y = np.empty((ids.shape[0], table.shape[1], ids.shape[1]), table.dtype)
        features = np.ascontiguousarray(table.T)  # a feature's values lie together
        _run(_gather, _gather_shared, y.size, table.shape[1], ids, features, y)
    return y, Residuals(ids, _validate.stand_in(table.shape, table.dtype), axis)


@_validate.sound("grad_ids", "grad_table")
def embedding_vjp(residuals, grad_y):
    """None for ids, and the gradient to the table: the sum over the places of a row [EMBED-2]."""
    ids, table, axis = residuals
    V, H = table.shape
    shape = (*ids.shape, H) if axis == -1 else (ids.shape[0], H, ids.shape[1])
    like = _validate.stand_in(shape, table.dtype)
    g = _validate.cotangent("grad_y", grad_y, like)
    if axis == -1:
        ids = ids.reshape(1, -1)
        g = g.reshape(1, ids.size, H).swapaxes(1, 2)
    grad = np.zeros((H, V))
    _run(_scatter, _scatter_shared, g.size, H, ids, _validate.plain(g), grad)
    return None, np.ascontiguousarray(grad.T.astype(table.dtype))


def _checked_ids(ids, V):
    ids = _validate.integers("ids", ids)
    if ids.size and not (ids.min() >= 0 and ids.max() < V):
        where = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= V))[0])
        raise ValueError(
            f"ids holds {ids[where]} at index {where}; it must be from 0 to {V - 1}, the rows of "
            "table"
        )
    return _validate.plain(ids.astype(np.int64))


def _run(serial, shared, size, H, *arrays):
    workers = min(threads(), H)
    if workers > 1 and size >= PARALLEL_FROM:
        shared(workers, *arrays)
    else:
        serial(0, 1, *arrays)


# Threads share the features: no two of them write to one number, and each sums in order of time.


@jit
def _gather(worker, workers, ids, features, y):
    batch, L = ids.shape
    for h in range(worker, features.shape[0], workers):
        values = features[h]
        for b in range(batch):
            for t in range(L):
                y[b, h, t] = values[ids[b, t]]  # [EMBED-1]


@parallel_jit
def _gather_shared(workers, ids, features, y):
    for worker in prange(workers):
        _gather(worker, workers, ids, features, y)


@jit
def _scatter(worker, workers, ids, g, grad):
    batch, L = ids.shape
    for h in range(worker, grad.shape[0], workers):
        total = grad[h]
        for b in range(batch):
            for t in range(L):
                total[ids[b, t]] += g[b, h, t]  # [EMBED-2]


@parallel_jit
def _scatter_shared(workers, ids, g, grad):
    for worker in prange(workers):
        _scatter(worker, workers, ids, g, grad)


# --------------------------------------------------------------------------------------- positions


def positions(x, table, *, start=0):
    """``y = x + table[:, start : start + L]``: learned positions [EMBED-3].

    Parameters
    ----------
    x : array_like
        Real, (batch, H, L).
    table : array_like
        (H, longest): one column for each time.
    start : int
        Time of the first sample of x, for sequences in pieces; at least 0.

    Returns
    -------
    ndarray
        (batch, H, L).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, or times reach past the table.

    Notes
    -----
    Saved for the backward pass: shapes alone.

    Examples
    --------
    >>> positions([[[1.0, 1.0]]], [[10.0, 20.0, 30.0]], start=1).tolist()
    [[[21.0, 31.0]]]
    """
    return positions_fwd(x, table, start=start)[0]


class PositionsResiduals(NamedTuple):
    """What the backward pass of `positions` needs."""

    x: np.ndarray  # both without memory
    table: np.ndarray
    start: int


@_validate.sound("y")
def positions_fwd(x, table, *, start=0):
    """`positions` and its residuals."""
    x, table = _validate.arrays(x=x, table=table, real=("x", "table"))
    _validate.shape("x", x, (None, -1, None), meaning="(batch, H, L)")
    _validate.shape("table", table, (x.shape[1], None), meaning="(H, longest)")
    start = _validate.integer("start", start, minimum=0)
    stop = start + x.shape[2]
    if stop > table.shape[1]:
        raise ValueError(
            f"table has {table.shape[1]} times; it must have at least start + L = {stop}"
        )
    like = (_validate.stand_in(a.shape, a.dtype) for a in (x, table))
    return x + table[:, start:stop], PositionsResiduals(*like, start)


@_validate.sound("grad_x", "grad_table")
def positions_vjp(residuals, grad_y):
    """Gradients to x, a copy of g, and to table, the sum of g over the batch [EMBED-4]."""
    x, table, start = residuals
    g = _validate.cotangent("grad_y", grad_y, x)
    grad_table = np.zeros(table.shape, table.dtype)
    grad_table[:, start : start + x.shape[2]] = g.sum(axis=0, dtype=np.float64)
    return np.array(g), grad_table


def _examples(rng):
    for shape, axis in [((2, 5), -1), ((7,), -1), ((3, 17), -2), ((2, 1), -2)]:
        ids, table = rng.integers(0, 4, shape), rng.standard_normal((4, 3))
        yield Example((ids, table), {"axis": axis}, f"ids {shape}, axis {axis}", (("table",),))


def _positions_examples(rng):
    for shape, start in [((3, 2, 5), 0), ((1, 2, 1), 6), ((2, 2, 4), 3)]:
        args = rng.standard_normal(shape), rng.standard_normal((2, 7))
        yield Example(args, {"start": start}, f"x {shape}, start {start}", (("x", "table"),))


register(
    "embedding",
    embedding_fwd,
    embedding_vjp,
    reference=reference.embedding.embedding,
    examples=_examples,
    arguments=("ids", "table"),
)
register(
    "positions",
    positions_fwd,
    positions_vjp,
    reference=reference.embedding.positions,
    examples=_positions_examples,
    arguments=("x", "table"),
)
