"""A plain recurrent network (Elman): the state is the output, through a nonlinearity at every time.

    h_t = f(W_in x_t + W_h h_{t-1} + bias),    f = tanh or relu          [RNN-1]

Derivation: docs/derivations/rnn.md. Parts shared with `lstm`: `_recurrent`. Cost: 2 H (I + H)
operations a sample forward, twice that backward; the state's product is one small one at a time.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._numba import jit_contracted, parallel_jit, prange
from ssm_manual.ops import _recurrent
from ssm_manual.ops._elementary import tanh
from ssm_manual.ops._recurrent import (
    BLOCK,
    collect,
    product,
    project,
    to_features_major,
    to_time_major,
)
from ssm_manual.ops.registry import Example, register

__all__ = ["NONLINEARITIES", "rnn", "rnn_fwd", "rnn_vjp"]

#: What f may be.
NONLINEARITIES = ("tanh", "relu")


def rnn(x, h0, W_in, W_h, bias, *, nonlinearity="tanh", lengths=None):
    """``h_t = f(W_in x_t + W_h h_{t-1} + bias)`` [RNN-1].

    Parameters
    ----------
    x : array_like
        Real, (batch, I, L); L may be 0.
    h0 : array_like or None
        State before the first sample, (batch, H); None is zero.
    W_in : array_like
        (H, I).
    W_h : array_like
        (H, H).
    bias : array_like or None
        (H,); None is zero. Where others have a bias with each matrix, this is their sum.
    nonlinearity : {"tanh", "relu"}
        f.
    lengths : array_like of int, optional
        Samples of each item, (batch,), from 0 to L. Beyond them the state stands still and the
        output is zero. None: all have L.

    Returns
    -------
    h : ndarray
        (batch, H, L).
    h_last : ndarray
        State after each item's last sample, (batch, H).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite or an option is not known.

    Notes
    -----
    Saved for the backward pass: x and the output, not copied: neither may be changed before it.
    The slope of tanh is formed from the output, ``1 - h^2``. While the call lasts, BLAS runs on
    one thread in the whole process: the threads are ours, and the bits do not depend on their
    number.

    References
    ----------
    Elman (1990), Finding structure in time. Werbos (1990), Backpropagation through time.

    Examples
    --------
    >>> h, h_last = rnn([[[1.0, 1.0, 1.0]]], None, [[1.0]], [[2.0]], [0.0], nonlinearity="relu")
    >>> h.tolist(), h_last.tolist()
    ([[[1.0, 3.0, 7.0]]], [[7.0]])
    """
    return rnn_fwd(x, h0, W_in, W_h, bias, nonlinearity=nonlinearity, lengths=lengths)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    arrays: tuple  # x, W_in, W_h as the kernels take them
    h0: np.ndarray
    h: np.ndarray  # the output: the slope is a function of it
    lengths: np.ndarray
    relu: bool
    absent: tuple  # which of x, h0, W_in, W_h, bias were None


@_validate.sound("h", "h_last")
def rnn_fwd(x, h0, W_in, W_h, bias, *, nonlinearity="tanh", lengths=None):
    """`rnn` and its residuals."""
    _validate.one_of("nonlinearity", nonlinearity, NONLINEARITIES)
    relu = nonlinearity == "relu"
    taken, (h0,), lengths, absent = _recurrent.arguments(x, {"h0": h0}, W_in, W_h, bias, 1, lengths)
    x, W_in, W_h, bias = taken
    batch, columns, L = x.shape
    H = W_h.shape[0]
    h, last = np.empty((batch, H, L), x.dtype), np.empty((batch, H), x.dtype)
    groups = _recurrent.number_of_groups(batch)
    transposed = np.ascontiguousarray(W_in.T), np.ascontiguousarray(W_h.T)
    arrays = groups, relu, lengths, x, *transposed, bias, h0, h, last
    _recurrent.run(_forward, _forward_shared, groups, batch * L * H * (columns + H), arrays)
    return (h, last), Residuals((x, W_in, W_h), h0, h, lengths, relu, absent)


@_validate.sound("grad_x", "grad_h0", "grad_W_in", "grad_W_h", "grad_bias")
def rnn_vjp(residuals, grad_out):
    """Gradients to x, h0, W_in, W_h and bias: back-propagation through time [RNN-3 to 8]."""
    (x, W_in, W_h), h0, h, lengths, relu, absent = residuals
    grad_h, grad_last = _validate.cotangents(grad_out, "grad_h", "grad_h_last")
    grad_h = _validate.plain(_validate.cotangent("grad_h", grad_h, h))
    grad_h0 = _recurrent.running("grad_h_last", grad_last, h0)
    batch, columns, L = x.shape
    H = W_h.shape[0]
    groups = _recurrent.number_of_groups(batch)
    grad_x = np.zeros_like(x)
    to_W_in = np.zeros((groups, *W_in.shape), x.dtype)
    to_W_h = np.zeros((groups, *W_h.shape), x.dtype)
    to_bias = np.zeros((groups, H))
    arrays = (groups, relu, lengths, x, W_in, W_h, h0, h, grad_h)
    arrays += (grad_x, grad_h0, to_W_in, to_W_h, to_bias)
    _recurrent.run(_backward, _backward_shared, groups, batch * L * H * (columns + H), arrays)
    return (
        grad_x,
        None if absent[1] else grad_h0,
        _recurrent.summed(to_W_in, x),
        _recurrent.summed(to_W_h, x),
        _recurrent.summed(to_bias, x, absent[4]),
    )


# ----------------------------------------------------------------------------------------- kernels


@jit_contracted
def _cell(relu, z, bias):
    """``z <- f(z + bias)`` of one item at one time [RNN-1]."""
    if relu:
        for j in range(z.size):
            z[j] = max(z[j] + bias[j], z[j] * 0)
    else:
        for j in range(z.size):
            z[j] = tanh(z[j] + bias[j])


@jit_contracted
def _cell_back(relu, h, g, grad_h):
    """``g <- f' (g + grad_h)``, with f' from h [RNN-2, 3]; what was in ``grad_h`` is used up."""
    for j in range(h.size):
        slope = (h[j] * 0 + 1 if h[j] > 0 else h[j] * 0) if relu else 1 - h[j] * h[j]
        g[j] = slope * (g[j] + grad_h[j])
        grad_h[j] = 0


@jit_contracted
def _forward(worker, workers, groups, relu, lengths, x, W_in_T, W_h_T, bias, h0, h, last):
    batch, H, L = h.shape
    for group in range(worker, groups, workers):
        first, stop = group * batch // groups, (group + 1) * batch // groups
        z = np.empty((min(BLOCK, L), stop - first, H), x.dtype)
        state = h0[first:stop].copy()
        for s in range(0, L, BLOCK):
            e = min(s + BLOCK, L)
            project(x, W_in_T, first, s, e, z)
            before = state
            for t in range(s, e):
                now = z[t - s]
                product(before, W_h_T, 1.0, now)
                for i in range(stop - first):
                    if t < lengths[first + i]:
                        _cell(relu, now[i], bias)
                    else:
                        now[i] = before[i]
                before = now
            state[...] = before  # the block is about to be overwritten
            to_features_major(z, lengths, first, s, e, h)
        last[first:stop] = state


@parallel_jit
def _forward_shared(workers, groups, relu, lengths, x, W_in_T, W_h_T, bias, h0, h, last):
    for worker in prange(workers):
        _forward(worker, workers, groups, relu, lengths, x, W_in_T, W_h_T, bias, h0, h, last)


@jit_contracted
def _backward(
    worker, workers, groups, relu, lengths, x, W_in, W_h, h0, h, grad_h,
    grad_x, grad_h0, to_W_in, to_W_h, to_bias,
):  # fmt: skip
    batch, H, L = h.shape
    for group in range(worker, groups, workers):
        first, stop = group * batch // groups, (group + 1) * batch // groups
        g = np.empty((min(BLOCK, L), stop - first, H), x.dtype)
        now = np.empty((min(BLOCK, L), stop - first, H), x.dtype)
        grad = grad_h0[first:stop]  # at first that of the last state
        for block in range((L + BLOCK - 1) // BLOCK - 1, -1, -1):
            s, e = block * BLOCK, min(block * BLOCK + BLOCK, L)
            to_time_major(grad_h, first, s, e, g)
            to_time_major(h, first, s, e, now)
            for t in range(e - 1, s - 1, -1):
                for i in range(stop - first):
                    if t < lengths[first + i]:
                        _cell_back(relu, now[t - s, i], g[t - s, i], grad[i])
                    else:
                        g[t - s, i] = 0  # the state stands still [RNN-8]
                product(g[t - s], W_h, 1.0, grad)  # [RNN-4]
            sums = to_W_in[group], to_W_h[group], to_bias[group]
            collect(g, x, h0[first:stop], h, W_in, first, s, e, grad_x, *sums)


@parallel_jit
def _backward_shared(
    workers, groups, relu, lengths, x, W_in, W_h, h0, h, grad_h,
    grad_x, grad_h0, to_W_in, to_W_h, to_bias,
):  # fmt: skip
    for worker in prange(workers):
        _backward(
            worker, workers, groups, relu, lengths, x, W_in, W_h, h0, h, grad_h,
            grad_x, grad_h0, to_W_in, to_W_h, to_bias,
        )  # fmt: skip


def _examples(rng):
    def weights(H, columns):
        return [0.6 * rng.standard_normal(s) for s in ((H, columns), (H, H), (H,))]

    for batch, columns, H, L, lengths in [
        (1, 1, 1, 1, None),
        (3, 2, 4, 17, None),
        (3, 2, 4, 7, (7, 0, 4)),
    ]:
        for nonlinearity in NONLINEARITIES:
            x, h0 = rng.standard_normal((batch, columns, L)), rng.standard_normal((batch, H))
            options = {"nonlinearity": nonlinearity, "lengths": lengths}
            note = f"{nonlinearity}, batch {batch}, L {L}, lengths {lengths}"
            yield Example((x, h0, *weights(H, columns)), options, note)
    # The state's matrix turns, and the signal is small: gradients reach through two blocks.
    W_in, W_h, bias = weights(3, 2)
    x, h0 = 0.1 * rng.standard_normal((17, 2, 34)), 0.1 * rng.standard_normal((17, 3))
    args = x, h0, W_in, np.linalg.qr(W_h)[0], 0.1 * bias
    yield Example(args, {}, "two groups of items, two blocks of times")
    yield Example((x[:2, :, :5], None, W_in, W_h, None), {}, "no h0, no bias")


register(
    "rnn",
    rnn_fwd,
    rnn_vjp,
    reference=reference.rnn.rnn,
    examples=_examples,
    arguments=("x", "h0", "W_in", "W_h", "bias"),
)
