"""One pass over memory for maps of single numbers, with a dropout mask on their result or without.

    y = m f(x),    grad_x = f'(x) m g          [ACT-1, DROPOUT-1]

Design
------
* Blocks of fixed length, shared out among threads: the bits do not depend on their number.
* A block stays in the first cache while it is looked at several times: for NaN, for f, for m.
* The mask is formed from counters, never stored [DROPOUT-3]; its keys, two words a block, come from
  outside.
* All maps live in one kernel, forward and backward, so that few are compiled.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual._numba import jit_contracted, jit_inlined, parallel_jit, prange, threads
from ssm_manual.ops._elementary import (
    is_bad,
    normal,
    sigmoid,
    sigmoid_slope,
    tanh,
    tanh_slope,
)

IDENTITY, RELU, SIGMOID, TANH, GELU = range(5)

#: Numbers a block; also the counters of one pair of keys of a mask.
BLOCK = 4096

#: Numbers from which threads pay: starting them takes as long as some 30,000.
PARALLEL_FROM = 100_000


class Mask(NamedTuple):
    """What a kernel multiplies its result with."""

    keys: np.ndarray  # (blocks, 2) uint32; of no rows where there is no mask by elements
    threshold: np.uint32  # a counter's hash below it drops the number
    kept: np.floating  # the factor of a number that is kept, in the data's precision
    rows: np.ndarray  # (rows,): one factor for each row of numbers; empty where not tied
    length: int  # numbers a row


def no_mask(dtype):
    """A mask that is not there."""
    keys = np.empty((0, 2), np.uint32)
    return Mask(keys, np.uint32(0), np.dtype(dtype).type(1), np.empty(0, dtype), 1)


def argument(x):
    """A real argument in one piece of memory; NaN and infinity are found by the kernel."""
    return _validate.plain(_validate.arrays(x=x, real=("x",), finite=False)[0])


def forward(kind, x, mask=None):
    """``m f(x)``; x as from `argument`."""
    y = np.empty_like(x)
    flags = _run(_forward, _forward_shared, x.size, kind, x, y, mask or no_mask(x.dtype))
    if flags.any():
        _validate.finite_values("x", x)
    return y


def backward(kind, x, grad_y, mask=None):
    """``f'(x) m g``. The map `IDENTITY` does not look at x, which then gives the shape alone."""
    g = _validate.plain(_validate.cotangent("grad_y", grad_y, x, finite=False))
    saved = g if kind == IDENTITY else x
    out = np.empty_like(g)
    flags = _run(_backward, _backward_shared, g.size, kind, saved, g, out, mask or no_mask(g.dtype))
    if flags.any():
        _validate.finite_values("grad_y", g)
    return out


def _run(serial, shared, size, kind, *arrays):
    *arrays, mask = arrays
    arrays = [a.reshape(-1) for a in arrays]
    flags = np.zeros(max(1, -(-size // BLOCK)), np.bool_)
    if size >= PARALLEL_FROM and threads() > 1:
        shared(threads(), kind, *arrays, mask, flags)
    else:
        serial(0, 1, kind, *arrays, mask, flags)
    return flags


# ----------------------------------------------------------------------------------------- kernels


@jit_inlined
def _mixed(h):
    """A permutation of 32-bit words; products keep their lower half."""
    h = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
    h = np.uint32(np.uint64(h) * np.uint64(0x7FEB352D) & np.uint64(0xFFFFFFFF))
    h = np.uint32(h ^ np.uint32(h >> np.uint32(15)))
    h = np.uint32(np.uint64(h) * np.uint64(0x846CA68B) & np.uint64(0xFFFFFFFF))
    return np.uint32(h ^ np.uint32(h >> np.uint32(16)))


@jit_inlined
def _hash(j, first, second):
    """32 bits of the counter j under two keys [DROPOUT-3]."""
    h = np.uint32((np.uint64(j) + np.uint64(first)) & np.uint64(0xFFFFFFFF))
    return _mixed(np.uint32(_mixed(h) ^ second))


@jit_contracted
def _masked(block, mask, y):
    """Multiply a block, which begins at number ``block * BLOCK``, with its mask."""
    if mask.keys.shape[0]:
        first, second = mask.keys[block, 0], mask.keys[block, 1]
        zero = y.dtype.type(0)
        for j in range(y.size):
            y[j] = y[j] * mask.kept if _hash(j, first, second) >= mask.threshold else zero
    elif mask.rows.size:
        start, i = block * BLOCK, 0
        while i < y.size:
            row = (start + i) // mask.length
            stop = min(y.size, (row + 1) * mask.length - start)
            for j in range(i, stop):
                y[j] *= mask.rows[row]
            i = stop


@jit_contracted
def _any_bad(x):
    bad = False
    for i in range(x.size):
        bad |= is_bad(x[i])
    return bad


@jit_contracted
def _map(kind, x, y):
    zero = x.dtype.type(0)
    if kind == GELU:
        for i in range(x.size):
            y[i] = x[i] * normal(x[i])[0]  # [ACT-2]
    elif kind == RELU:
        for i in range(x.size):
            y[i] = x[i] if x[i] > 0 else zero
    elif kind == SIGMOID:
        for i in range(x.size):
            y[i] = sigmoid(x[i])
    elif kind == TANH:
        for i in range(x.size):
            y[i] = tanh(x[i])
    else:
        y[:] = x


@jit_contracted
def _pull_back(kind, x, g, out):
    zero = g.dtype.type(0)
    if kind == GELU:
        for i in range(x.size):
            whole, density = normal(x[i])
            out[i] = g[i] * (whole + x[i] * density)  # [ACT-6]
    elif kind == RELU:
        for i in range(x.size):
            out[i] = g[i] if x[i] > 0 else zero  # [ACT-11]
    elif kind == SIGMOID:
        for i in range(x.size):
            out[i] = g[i] * sigmoid_slope(x[i])
    elif kind == TANH:
        for i in range(x.size):
            out[i] = g[i] * tanh_slope(x[i])
    else:
        out[:] = g


@jit_contracted
def _forward(worker, workers, kind, x, y, mask, flags):
    for block in range(worker, flags.size, workers):
        start, stop = block * BLOCK, min(x.size, (block + 1) * BLOCK)
        flags[block] = _any_bad(x[start:stop])
        _map(kind, x[start:stop], y[start:stop])
        _masked(block, mask, y[start:stop])


@parallel_jit
def _forward_shared(workers, kind, x, y, mask, flags):
    for worker in prange(workers):
        _forward(worker, workers, kind, x, y, mask, flags)


@jit_contracted
def _backward(worker, workers, kind, x, g, out, mask, flags):
    for block in range(worker, flags.size, workers):
        start, stop = block * BLOCK, min(x.size, (block + 1) * BLOCK)
        flags[block] = _any_bad(g[start:stop])
        _pull_back(kind, x[start:stop], g[start:stop], out[start:stop])
        _masked(block, mask, out[start:stop])


@parallel_jit
def _backward_shared(workers, kind, x, g, out, mask, flags):
    for worker in prange(workers):
        _backward(worker, workers, kind, x, g, out, mask, flags)
