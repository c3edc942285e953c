"""What `rnn` and `lstm` share: arguments, small matrix products, blocks of times, groups of items.

Design
------
* Signals are (batch, features, L), but a recurrence reads one time of all features: a block of 32
  times is brought into the order (time, item, feature) in the cache and goes back from there.
* The input's products are taken for a whole block, only the state's time by time.
* Items fall into fixed groups of at least 8, if there are as many, at most 16 groups; a thread
  takes whole groups, and weight gradients of the groups are summed in a fixed order: the bits do
  not depend on the number of threads.
* OpenBLAS multiplies small matrices, up to a million multiplications, without repacking them;
  one step beyond it is several times slower. So a product is taken in columns below that size.
"""

import numpy as np

from ssm_manual import _validate
from ssm_manual._blas import single_threaded
from ssm_manual._numba import gemm, jit, threads

#: Times in a block.
BLOCK = 32

#: Items a group, at least, and groups, at most.
ITEMS, GROUPS = 8, 16

#: The largest product that BLAS takes without packing, in multiplications.
SMALL = 1_000_000

#: Multiplications from which threads pay.
PARALLEL_FROM = 500_000


def arguments(x, states, W_in, W_h, bias, gates, lengths):
    """The arguments checked and as the kernels take them; ``states`` by name, each maybe None."""
    names = ("x", *states, "W_in", "W_h", "bias")
    values = dict(zip(names, (x, *states.values(), W_in, W_h, bias)))
    optional = (*states, "bias")
    given = _validate.arrays(**values, real=names, optional=optional)
    x, *states, W_in, W_h, bias = given
    _validate.shape("x", x, (-1, -1, None), meaning="(batch, I, L)")
    batch, columns, L = x.shape
    _validate.shape("W_h", W_h, (-1, -1), meaning="(rows, H)")
    H = W_h.shape[1]
    rows = gates * H
    times = "" if gates == 1 else f"{gates} "
    _validate.shape("W_h", W_h, (rows, H), meaning=f"({times}H, H)")
    _validate.shape("W_in", W_in, (rows, columns), meaning=f"({times}H, I)")
    if bias is not None:
        _validate.shape("bias", bias, (rows,), meaning=f"({times}H,)")
    for name, state in zip(names[1:], states):
        if state is not None:
            _validate.shape(name, state, (batch, H), meaning="(batch, H)")
    filled = [
        np.zeros((batch, H), x.dtype) if s is None else _validate.plain(s).copy() for s in states
    ]
    bias = np.zeros(rows, x.dtype) if bias is None else _validate.plain(bias)
    absent = tuple(a is None for a in given)
    taken = tuple(_validate.plain(a) for a in (x, W_in, W_h))
    return (*taken, bias), filled, counts(lengths, batch, L), absent


def counts(lengths, batch, L):
    """``lengths`` as (batch,) integers; None stands for L."""
    if lengths is None:
        return np.full(batch, L)
    given, lengths = lengths, _validate.integers("lengths", lengths)
    if lengths.shape != (batch,):
        raise ValueError(
            f"lengths is {_validate.show(given)}; it must hold {batch} integers, one for each "
            "item of the batch"
        )
    if lengths.min() < 0 or lengths.max() > L:
        raise ValueError(
            f"lengths lie between {lengths.min()} and {lengths.max()}; they must be from 0 to L = "
            f"{L}"
        )
    return lengths.astype(np.int64)


def number_of_groups(batch):
    """Into how many groups a batch falls, from its size alone."""
    return max(1, min(batch // ITEMS, GROUPS))


def running(name, grad, like):
    """The gradient to a last state, as an array that the backward pass carries and changes."""
    return np.array(_validate.cotangent(name, grad, like), order="C")


def run(serial, shared, groups, work, arrays):
    """Call a driver, on all threads where it pays."""
    workers = min(threads(), groups)
    with single_threaded():
        if workers > 1 and work >= PARALLEL_FROM:
            shared(workers, *arrays)
        else:
            serial(0, 1, *arrays)


def summed(sums, like, absent=False):
    """The gradients of the groups in one, in a fixed order and in double precision."""
    return None if absent else sums.sum(axis=0, dtype=np.float64).astype(like.dtype)


# ------------------------------------------------------------------------------- parts of a group


@jit
def product(A, B, beta, out):
    """``out = A B + beta out`` in blocks of columns that BLAS takes without packing."""
    width = max(32, SMALL // max(1, A.size) // 16 * 16)
    for j in range(0, B.shape[1], width):
        gemm(A, B[:, j : j + width], beta, out[:, j : j + width])


@jit
def project(x, W_in_T, first, s, e, z):
    """``z_t = W_in x_t`` for the times s to e of a group's items [RNN-1]."""
    for i in range(z.shape[1]):
        product(x[first + i, :, s:e].T, W_in_T, 0.0, z[: e - s, i, :])


@jit
def to_time_major(y, first, s, e, out):
    """``out[t - s, i] = y[first + i, :, t]`` for a group's items."""
    for i in range(out.shape[1]):
        for start in range(0, out.shape[2], 8):  # a few rows at a time: whole lines are written
            rows = y[first + i, start : start + 8, s:e]
            for t in range(e - s):
                to = out[t, i, start : start + 8]
                for j in range(rows.shape[0]):
                    to[j] = rows[j, t]


@jit
def to_features_major(z, lengths, first, s, e, y):
    """The way back; zero beyond an item's length."""
    for i in range(z.shape[1]):
        item, stop = y[first + i], min(lengths[first + i], e)
        for j in range(item.shape[0]):
            row = item[j, s:e]
            for t in range(stop - s):
                row[t] = z[t, i, j]
            for t in range(max(0, stop - s), e - s):
                row[t] = 0


@jit
def collect(g, x, h0, y, W_in, first, s, e, grad_x, to_W_in, to_W_h, to_bias):
    """A block's share of the gradients [RNN-5 to 7], from ``g``, the gradient before the cell."""
    n = e - s
    for i in range(g.shape[1]):
        o = first + i
        product(W_in.T, g[:n, i, :].T, 0.0, grad_x[o, :, s:e])  # [RNN-5]
        product(g[:n, i, :].T, x[o, :, s:e].T, 1.0, to_W_in)  # [RNN-6]
        after = 0 if s else 1  # the state before the first sample is not in y
        before = y[o, :, s - 1 + after : e - 1]
        product(g[after:n, i, :].T, before.T, 1.0, to_W_h)  # [RNN-6]
    if s == 0:
        product(g[0].T, h0, 1.0, to_W_h)
    for t in range(n):
        for i in range(g.shape[1]):
            row = g[t, i]
            for j in range(row.size):
                to_bias[j] += row[j]  # [RNN-7]
