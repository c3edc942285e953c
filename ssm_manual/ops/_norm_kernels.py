"""The kernels of `layer_norm` and `rms_norm`.

Design
------
* Arrays are (outer, n, inner): normalised over n; inner is 1 for the last axis.
* *Columns*: where inner is long, a task is a block of neighbouring columns, which stays in the
  second cache over all its passes; loops run over columns and become vector loops. *Rows*: where
  inner is 1, a task is some rows, and sums within a row are taken in any order.
* Means and variances are sums of a few numbers in the data's precision, and of these sums in double
  precision. The mean is kept in double precision and taken away in two parts [NORM-4], so that a
  large one costs no digits.
* Tasks fall into fixed groups, each with a sum of its own for the gradients of the parameters; the
  bits do not depend on the number of threads.
* NaN and infinity are looked for on the way.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual._numba import jit_contracted, parallel_jit, prange, threads
from ssm_manual.ops._norm_blocks import column_backward, column_forward, row_backward, row_forward
from ssm_manual.ops._pointwise import PARALLEL_FROM

#: Columns a task; of 128 rows in single precision they take an eighth of the second cache.
COLUMNS = 256

#: Numbers a task of rows, about.
ROW_NUMBERS = 16384

#: The most groups that the tasks fall into.
GROUPS = 16


class Residuals(NamedTuple):
    """What the backward pass needs; normalised values are formed again from x."""

    x: np.ndarray  # (outer, n, inner), not copied where it is contiguous
    scale: np.ndarray
    mean: np.ndarray  # (outer, inner) float64; zeros for rms_norm
    rstd: np.ndarray  # (outer, inner) float64: 1 / sqrt(variance + eps)
    centred: bool
    shape: tuple  # of x as it came


def forward(x, scale, shift, axis, eps, centred):
    """``(x - mean) rstd scale + shift`` over ``axis``; shift None is zero."""
    given = {"x": x, "scale": scale} | ({"shift": shift} if centred else {})
    x, scale, *rest = _validate.arrays(**given, real=tuple(given), finite=False)
    eps = _validate.real_number("eps", eps, minimum=0.0)
    _validate.one_of("axis", axis, (-1, -2))
    if x.ndim < -axis or x.shape[axis] == 0:
        raise ValueError(f"x has shape {x.shape}; it must have at least one element on axis {axis}")
    n = x.shape[axis]
    for name, a in zip(("scale", "shift"), (scale, *rest)):
        _validate.shape(name, a, (n,), meaning="the length of x's axis")
        _validate.finite_values(name, a)
    inner = 1 if axis == -1 else x.shape[-1]
    whole = _validate.plain(x).reshape(-1 if x.size else 0, n, inner)
    shift = rest[0] if rest else np.zeros(n, x.dtype)
    y = np.empty_like(whole)
    mean = np.zeros((whole.shape[0], inner))
    rstd = np.empty_like(mean)
    tasks, flags = _flags(whole)
    weights = _validate.plain(scale), _validate.plain(shift)
    if y.size:
        arrays = whole, *weights, eps, centred, y, mean, rstd, tasks, flags
        _run(_forward, _forward_shared, whole, flags, arrays)
    if flags.any():
        _validate.finite_values("x", x)
    return y.reshape(x.shape), Residuals(whole, weights[0], mean, rstd, centred, x.shape)


def backward(residuals, grad_y):
    """Gradients to x, scale and shift [NORM-5 to 7]; the last is zero for rms_norm."""
    x, scale, mean, rstd, centred, shape = residuals
    like = _validate.stand_in(shape, x.dtype)
    grad_y = _validate.plain(_validate.cotangent("grad_y", grad_y, like, finite=False))
    g = grad_y.reshape(x.shape)
    grad_x = np.empty_like(x)
    tasks, flags = _flags(x)
    sums = np.zeros((flags.size, 2, x.shape[1]))
    if x.size:
        arrays = x, g, scale, mean, rstd, centred, grad_x, sums, tasks, flags
        _run(_backward, _backward_shared, x, flags, arrays)
    if flags.any():
        _validate.finite_values("grad_y", grad_y)
    grad_scale, grad_shift = sums.sum(axis=0).astype(x.dtype)
    return grad_x.reshape(shape), grad_scale, grad_shift


def _flags(x):
    """The number of tasks, and a flag for each of their groups; of the shape alone."""
    outer, n, inner = x.shape
    if inner == 1:
        tasks = -(-outer // max(1, ROW_NUMBERS // n))
    else:
        tasks = outer * -(-inner // COLUMNS)
    return tasks, np.zeros(max(1, min(tasks, GROUPS)), np.bool_)


def _run(serial, shared, x, flags, arrays):
    if x.size >= PARALLEL_FROM and min(threads(), flags.size) > 1:
        shared(min(threads(), flags.size), *arrays)
    else:
        serial(0, 1, *arrays)


# ----------------------------------------------------------------------------------------- drivers


@jit_contracted
def _forward(worker, workers, x, scale, shift, eps, centred, y, mean, rstd, tasks, flags):
    outer, n, inner = x.shape
    groups = flags.size
    runs = np.empty((5, min(inner, COLUMNS)), x.dtype)
    blocks, height = -(-inner // COLUMNS), max(1, ROW_NUMBERS // n)
    rows, out = x.reshape(outer * inner, n), y.reshape(outer * inner, n)
    for group in range(worker, groups, workers):
        for task in range(group * tasks // groups, (group + 1) * tasks // groups):
            if inner == 1:
                for o in range(task * height, min(outer, (task + 1) * height)):
                    m, r, bad = row_forward(rows[o], scale, shift, eps, centred, out[o])
                    mean[o, 0], rstd[o, 0] = m, r
                    flags[group] |= bad
            else:
                o, a = task // blocks, task % blocks * COLUMNS
                b = min(inner, a + COLUMNS)
                to = y, mean[o, a:b], rstd[o, a:b], runs
                flags[group] |= column_forward(x, o, a, scale, shift, eps, centred, *to)


@parallel_jit
def _forward_shared(workers, x, scale, shift, eps, centred, y, mean, rstd, tasks, flags):
    for worker in prange(workers):
        _forward(worker, workers, x, scale, shift, eps, centred, y, mean, rstd, tasks, flags)


@jit_contracted
def _backward(worker, workers, x, g, scale, mean, rstd, centred, grad_x, sums, tasks, flags):
    outer, n, inner = x.shape
    groups = flags.size
    runs = np.empty((6, min(inner, COLUMNS)), x.dtype)
    blocks, height = -(-inner // COLUMNS), max(1, ROW_NUMBERS // n)
    rows, to, out = (
        x.reshape(outer * inner, n),
        g.reshape(outer * inner, n),
        grad_x.reshape(outer * inner, n),
    )
    for group in range(worker, groups, workers):
        for task in range(group * tasks // groups, (group + 1) * tasks // groups):
            if inner == 1:
                for o in range(task * height, min(outer, (task + 1) * height)):
                    given = rows[o], to[o], scale, mean[o, 0], rstd[o, 0], centred
                    flags[group] |= row_backward(*given, out[o], sums[group])
            else:
                o, a = task // blocks, task % blocks * COLUMNS
                b = min(inner, a + COLUMNS)
                given = x, g, o, a, scale, mean[o, a:b], rstd[o, a:b], centred
                flags[group] |= column_backward(*given, grad_x, sums[group], runs)


@parallel_jit
def _backward_shared(workers, x, g, scale, mean, rstd, centred, grad_x, sums, tasks, flags):
    for worker in prange(workers):
        _backward(worker, workers, x, g, scale, mean, rstd, centred, grad_x, sums, tasks, flags)
