"""The kernels of `linear` and `linear_glu`: matrix products in blocks, on all threads.

Design
------
* The features are the last axis, x (1, M, I) and out (1, M, O), or the one before time, x (batch,
  I, L) and out (batch, O, L). A task is a block of rows or of times; its product is one call of
  BLAS, on one thread, on the block as it lies in memory.
* What else a block needs is done while it is in the cache: bias, gate, the look for NaN.
* Tasks fall into fixed groups, each with gradients of the weights of its own, which are summed in a
  fixed order: the bits do not depend on the number of threads.
"""

import numpy as np

from ssm_manual import _validate
from ssm_manual._blas import single_threaded
from ssm_manual._numba import (
    gemm,
    jit_contracted,
    jit_reassociated,
    parallel_jit,
    prange,
    threads,
)
from ssm_manual.ops._elementary import is_bad, sigmoid, sigmoid_slope

#: Rows or times a task: weights and blocks of a few hundred features fit the second cache.
BLOCK = 256

#: The most groups that the tasks fall into, and of how many numbers their gradients may be in all.
GROUPS = 16
GROUP_NUMBERS = 1 << 22

#: Products from which threads pay.
PARALLEL_FROM = 2_000_000


def arguments(x, weight, bias, axis, halves):
    """The arguments checked: x (outer, ., .), weight, bias or zeros, as given, shape of the output.

    ``halves`` is 2 where the output is the first half of the map's, gated by the second.
    """
    given = _validate.arrays(
        x=x,
        weight=weight,
        bias=bias,
        real=("x", "weight", "bias"),
        optional=("bias",),
        finite=False,
    )
    x, weight, bias = given
    _validate.one_of("axis", axis, (-1, -2))
    _validate.shape("weight", weight, (-1, -1), meaning="(out, in)")
    rows, columns = weight.shape
    if rows % halves:
        raise ValueError(f"weight has shape {weight.shape}; its first axis must be even")
    if x.ndim < -axis or x.shape[axis] != columns:
        raise ValueError(
            f"x has shape {x.shape}; axis {axis} must have {columns} elements, as weight "
            f"{weight.shape} has columns"
        )
    if bias is not None:
        _validate.shape("bias", bias, (rows,), meaning="(out,)")
        _validate.finite_values("bias", bias)
    _validate.finite_values("weight", weight)
    shape = (*x.shape[:-1], rows) if axis == -1 else (*x.shape[:-2], rows, x.shape[-1])
    plain = np.zeros(rows, x.dtype) if bias is None else _validate.plain(bias)
    return blocks(_validate.plain(x), axis), _validate.plain(weight), plain, given, shape


def blocks(a, axis):
    """An array as the kernels take it: (1, M, features) or (batch, features, L)."""
    size = int(np.prod(a.shape[:axis]))
    return a.reshape((1, size, a.shape[-1]) if axis == -1 else (size, *a.shape[-2:]))


def forward(x, weight, bias, axis, z, out):
    """``z = W x + bias``, and ``out`` the gated half where it is not empty; whether x is bad."""
    tasks, flags = _tasks(x, weight, axis)
    if z.size:
        _run(_forward, _forward_shared, x, weight, flags, (x, weight, bias, axis, z, out, tasks))
    return flags.any()


def backward(x, weight, axis, z, g):
    """Gradients to x, W and bias, and whether g is bad; z empty where there is no gate."""
    tasks, flags = _tasks(x, weight, axis)
    grad_x = np.empty_like(x)
    sums = np.zeros((flags.size, *weight.shape), x.dtype)
    bias_sums = np.zeros((flags.size, weight.shape[0]))
    if g.size:
        arrays = x, weight, axis, z, g, grad_x, sums, bias_sums, tasks
        _run(_backward, _backward_shared, x, weight, flags, arrays)
    # One fixed order of summation over the groups, whatever the number of threads.
    grad_weight = sums.sum(axis=0, dtype=np.float64).astype(x.dtype)
    return grad_x, grad_weight, bias_sums.sum(axis=0).astype(x.dtype), flags.any()


def _tasks(x, weight, axis):
    """The number of tasks, and a flag for each of their groups; of the shapes alone."""
    length = x.shape[-2] if axis == -1 else x.shape[-1]
    tasks = x.shape[0] * -(-length // BLOCK)
    groups = min(tasks, GROUPS, max(2, GROUP_NUMBERS // weight.size))
    return tasks, np.zeros(max(1, groups), np.bool_)


def _run(serial, shared, x, weight, flags, arrays):
    workers = min(threads(), flags.size)
    with single_threaded():
        if workers > 1 and x.size * weight.shape[0] >= PARALLEL_FROM:
            shared(workers, *arrays, flags)
        else:
            serial(0, 1, *arrays, flags)


# ---------------------------------------------------------------------------------- parts of a task


@jit_contracted
def _bad_row(a):
    bad = False
    for t in range(a.size):
        bad |= is_bad(a[t])
    return bad


@jit_contracted
def _place(task, x, axis):
    """Item, and first and last row or time of a task."""
    length = x.shape[1] if axis == -1 else x.shape[2]
    pieces = -(-length // BLOCK)
    start = task % pieces * BLOCK
    return task // pieces, start, min(length, start + BLOCK)


@jit_contracted
def _add_bias(axis, bias, z, o, a, b):
    if axis == -1:
        for i in range(a, b):
            row = z[o, i]
            for j in range(row.size):
                row[j] += bias[j]
    else:
        for j in range(bias.size):
            row = z[o, j, a:b]
            for t in range(row.size):
                row[t] += bias[j]


@jit_contracted
def _gated(first, second, out):
    for t in range(out.size):
        out[t] = first[t] * sigmoid(second[t])  # [ACT-12]


@jit_contracted
def _gated_back(first, second, g, to_first, to_second):
    for t in range(g.size):
        to_first[t] = g[t] * sigmoid(second[t])  # [ACT-13]
        to_second[t] = g[t] * first[t] * sigmoid_slope(second[t])


@jit_reassociated
def _sum(a):
    total = a[0] * 0
    for t in range(a.size):
        total += a[t]
    return total


# ----------------------------------------------------------------------------------------- drivers


@jit_contracted
def _forward(worker, workers, x, weight, bias, axis, z, out, tasks, flags):
    groups, half = flags.size, weight.shape[0] // 2
    for group in range(worker, groups, workers):
        for task in range(group * tasks // groups, (group + 1) * tasks // groups):
            o, a, b = _place(task, x, axis)
            if axis == -1:
                for i in range(a, b):
                    flags[group] |= _bad_row(x[o, i])
                gemm(x[o, a:b], weight.T, 0.0, z[o, a:b])  # [LINEAR-1]
                _add_bias(axis, bias, z, o, a, b)
                if out.size:
                    for i in range(a, b):
                        _gated(z[o, i, :half], z[o, i, half:], out[o, i])
            else:
                for j in range(x.shape[1]):
                    flags[group] |= _bad_row(x[o, j, a:b])
                gemm(weight, x[o, :, a:b], 0.0, z[o, :, a:b])
                _add_bias(axis, bias, z, o, a, b)
                if out.size:
                    for j in range(half):
                        _gated(z[o, j, a:b], z[o, half + j, a:b], out[o, j, a:b])


@parallel_jit
def _forward_shared(workers, x, weight, bias, axis, z, out, tasks, flags):
    for worker in prange(workers):
        _forward(worker, workers, x, weight, bias, axis, z, out, tasks, flags)


@jit_contracted
def _gate_back(axis, z, g, o, a, b, space):
    """The gradient of a block before its gate into ``space``; whether g is bad."""
    bad = False
    if axis == -1:
        half = z.shape[2] // 2
        for i in range(a, b):
            bad |= _bad_row(g[o, i])
            if z.size:
                to = space[i - a]
                _gated_back(z[o, i, :half], z[o, i, half:], g[o, i], to[:half], to[half:])
    else:
        half = z.shape[1] // 2
        for j in range(g.shape[1]):
            bad |= _bad_row(g[o, j, a:b])
            if z.size:
                to = space[j, : b - a], space[half + j, : b - a]
                _gated_back(z[o, j, a:b], z[o, half + j, a:b], g[o, j, a:b], *to)
    return bad


@jit_contracted
def _backward(worker, workers, x, weight, axis, z, g, grad_x, sums, bias_sums, tasks, flags):
    groups, rows = flags.size, weight.shape[0]
    width = min(BLOCK, x.shape[1] if axis == -1 else x.shape[2])
    space = np.empty((width, rows) if axis == -1 else (rows, width), x.dtype)
    for group in range(worker, groups, workers):
        for task in range(group * tasks // groups, (group + 1) * tasks // groups):
            o, a, b = _place(task, x, axis)
            flags[group] |= _gate_back(axis, z, g, o, a, b, space)
            if axis == -1:
                to = space[: b - a, :] if z.size else g[o, a:b, :]
                gemm(to, weight, 0.0, grad_x[o, a:b, :])  # [LINEAR-2]
                gemm(to.T, x[o, a:b, :], 1.0, sums[group])  # [LINEAR-3]
                for i in range(b - a):
                    for j in range(rows):
                        bias_sums[group, j] += to[i, j]  # [LINEAR-4]
            else:
                to = space[:, : b - a] if z.size else g[o, :, a:b]
                gemm(weight.T, to, 0.0, grad_x[o, :, a:b])
                gemm(to, x[o, :, a:b].T, 1.0, sums[group])
                for j in range(rows):
                    bias_sums[group, j] += _sum(to[j])


@parallel_jit
def _backward_shared(workers, x, weight, axis, z, g, grad_x, sums, bias_sums, tasks, flags):
    for worker in prange(workers):
        _backward(worker, workers, x, weight, axis, z, g, grad_x, sums, bias_sums, tasks, flags)
