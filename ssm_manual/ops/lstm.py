"""Long short-term memory: a cell that gates write, keep and show.

    (i, f, g, o) = W_in x_t + W_h h_{t-1} + bias, through sigmoid, sigmoid, tanh, sigmoid  [LSTM-1]
    c_t = f c_{t-1} + i g,    h_t = o tanh(c_t)                                            [LSTM-2]

Derivation: docs/derivations/lstm.md. Parts shared with `rnn`: `_recurrent`. Cost: 8 H (I + H)
operations a sample forward, twice that backward; the state's product is one small one at a time.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._numba import jit_contracted, parallel_jit, prange
from ssm_manual.ops import _recurrent
from ssm_manual.ops._elementary import sigmoid, tanh
from ssm_manual.ops._recurrent import (
    BLOCK,
    collect,
    product,
    project,
    to_features_major,
    to_time_major,
)
from ssm_manual.ops.registry import Example, register

__all__ = ["lstm", "lstm_fwd", "lstm_vjp"]


def lstm(x, h0, c0, W_in, W_h, bias, *, lengths=None):
    """``c_t = f c_{t-1} + i g``, ``h_t = o tanh(c_t)``, gated by x_t and h_{t-1} [LSTM-1, 2].

    Parameters
    ----------
    x : array_like
        Real, (batch, I, L); L may be 0.
    h0, c0 : array_like or None
        Output and cell before the first sample, (batch, H); None is zero.
    W_in : array_like
        (4 H, I): the rows of the gates i (write), f (keep), g (what is written), o (show), in this
        order, which is PyTorch's.
    W_h : array_like
        (4 H, H).
    bias : array_like or None
        (4 H,); None is zero. Where others have a bias with each matrix, this is their sum.
    lengths : array_like of int, optional
        Samples of each item, (batch,), from 0 to L. Beyond them the state stands still and the
        output is zero. None: all have L.

    Returns
    -------
    h : ndarray
        (batch, H, L).
    h_last, c_last : ndarray
        Output and cell after each item's last sample, (batch, H).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit or a value is not finite.

    Notes
    -----
    Saved for the backward pass: x and the output, not copied (neither may be changed before it),
    and gates and cells, 5 H numbers a sample: forming them again would cost the forward pass.
    Without a backward pass to come nothing is saved. While the call lasts, BLAS runs on one thread
    in the whole process: the threads are ours, and the bits do not depend on their number.

    References
    ----------
    Hochreiter and Schmidhuber (1997), Long short-term memory. The gate f: Gers, Schmidhuber and
    Cummins (2000), Learning to forget.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.array([[1.0], [100.0], [1.0], [100.0]])  # f and o are open
    >>> h, _, c = lstm(np.ones((1, 1, 3)), None, None, one, 0 * one, None)
    >>> bool(np.isclose(c.item(), 3 * np.tanh(1) / (1 + np.exp(-1))))
    True
    """
    return run(x, h0, c0, W_in, W_h, bias, lengths, keep=False)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    arrays: tuple  # x, W_in, W_h as the kernels take them
    states: list  # h0, c0
    h: np.ndarray  # the output
    gates: np.ndarray  # (L, batch, 4 H), after their nonlinearities
    c: np.ndarray  # (L, batch, H)
    lengths: np.ndarray
    absent: tuple  # which of x, h0, c0, W_in, W_h, bias were None


@_validate.sound("h", "h_last", "c_last")
def lstm_fwd(x, h0, c0, W_in, W_h, bias, *, lengths=None):
    """`lstm` and its residuals."""
    return run(x, h0, c0, W_in, W_h, bias, lengths, keep=True)


def run(x, h0, c0, W_in, W_h, bias, lengths, keep):
    """`lstm_fwd`, or without ``keep`` its output and None: gates live for one block of times."""
    states = {"h0": h0, "c0": c0}
    taken, states, lengths, absent = _recurrent.arguments(x, states, W_in, W_h, bias, 4, lengths)
    x, W_in, W_h, bias = taken
    batch, columns, L = x.shape
    H = W_h.shape[1]
    h = np.empty((batch, H, L), x.dtype)
    last = np.empty((2, batch, H), x.dtype)
    times = L if keep else min(BLOCK, L)
    gates, c = np.empty((times, batch, 4 * H), x.dtype), np.empty((times, batch, H), x.dtype)
    groups = _recurrent.number_of_groups(batch)
    transposed = np.ascontiguousarray(W_in.T), np.ascontiguousarray(W_h.T)
    arrays = groups, keep, lengths, x, *transposed, bias, *states, gates, c, h, last
    work = 4 * batch * L * H * (columns + H)
    _recurrent.run(_forward, _forward_shared, groups, work, arrays)
    kept = Residuals((x, W_in, W_h), states, h, gates, c, lengths, absent) if keep else None
    return (h, *last), kept


@_validate.sound("grad_x", "grad_h0", "grad_c0", "grad_W_in", "grad_W_h", "grad_bias")
def lstm_vjp(residuals, grad_out):
    """Gradients to x, h0, c0, W_in, W_h and bias: back-propagation through time [LSTM-3 to 7]."""
    (x, W_in, W_h), (h0, c0), h, gates, c, lengths, absent = residuals
    grad_h, *grad_last = _validate.cotangents(grad_out, "grad_h", "grad_h_last", "grad_c_last")
    grad_h = _validate.plain(_validate.cotangent("grad_h", grad_h, h))
    grad_h0 = _recurrent.running("grad_h_last", grad_last[0], h0)
    grad_c0 = _recurrent.running("grad_c_last", grad_last[1], c0)
    batch, columns, L = x.shape
    H = W_h.shape[1]
    groups = _recurrent.number_of_groups(batch)
    grad_x = np.zeros_like(x)
    to_W_in = np.zeros((groups, *W_in.shape), x.dtype)
    to_W_h = np.zeros((groups, *W_h.shape), x.dtype)
    to_bias = np.zeros((groups, 4 * H))
    arrays = (groups, lengths, x, W_in, W_h, h0, c0, h, gates, c, grad_h)
    arrays += (grad_x, grad_h0, grad_c0, to_W_in, to_W_h, to_bias)
    work = 4 * batch * L * H * (columns + H)
    _recurrent.run(_backward, _backward_shared, groups, work, arrays)
    return (
        grad_x,
        None if absent[1] else grad_h0,
        None if absent[2] else grad_c0,
        _recurrent.summed(to_W_in, x),
        _recurrent.summed(to_W_h, x),
        _recurrent.summed(to_bias, x, absent[5]),
    )


# ----------------------------------------------------------------------------------------- kernels


@jit_contracted
def _cell(z, bias, before, c, h):
    """One item at one time [LSTM-1, 2]; ``z`` becomes the gates."""
    H = h.size
    i, f, g, o = z[:H], z[H : 2 * H], z[2 * H : 3 * H], z[3 * H :]
    at_g, at_o = bias[2 * H : 3 * H], bias[3 * H :]
    for j in range(2 * H):
        z[j] = sigmoid(z[j] + bias[j])
    for j in range(H):
        g[j] = tanh(g[j] + at_g[j])
    for j in range(H):
        o[j] = sigmoid(o[j] + at_o[j])
    for j in range(H):
        c[j] = f[j] * before[j] + i[j] * g[j]
        h[j] = o[j] * tanh(c[j])


@jit_contracted
def _cell_back(gates, before, c, grad_y, grad_h, grad_c, to_z):
    """One item at one time [LSTM-3 to 5]; ``grad_h`` is used up, ``grad_c`` goes one time back."""
    H = c.size
    i, f, g, o = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
    to_i, to_f, to_g, to_o = to_z[:H], to_z[H : 2 * H], to_z[2 * H : 3 * H], to_z[3 * H :]
    for j in range(H):
        shown = tanh(c[j])
        to_h = grad_y[j] + grad_h[j]
        to_c = grad_c[j] + to_h * o[j] * (1 - shown * shown)  # [LSTM-3]
        to_i[j] = to_c * g[j] * i[j] * (1 - i[j])  # [LSTM-4]
        to_f[j] = to_c * before[j] * f[j] * (1 - f[j])
        to_g[j] = to_c * i[j] * (1 - g[j] * g[j])
        to_o[j] = to_h * shown * o[j] * (1 - o[j])
        grad_c[j] = to_c * f[j]  # [LSTM-5]
        grad_h[j] = 0


@jit_contracted
def _forward(
    worker, workers, groups, keep, lengths, x, W_in_T, W_h_T, bias, h0, c0, gates, c, h, last
):
    batch, H, L = h.shape
    for group in range(worker, groups, workers):
        first, stop = group * batch // groups, (group + 1) * batch // groups
        block = np.empty((min(BLOCK, L), stop - first, H), x.dtype)
        state, cell = h0[first:stop].copy(), c0[first:stop].copy()
        for s in range(0, L, BLOCK):
            e = min(s + BLOCK, L)
            at = s if keep else 0
            project(x, W_in_T, first, s, e, gates[at : at + e - s, first:stop])
            before = state
            for t in range(e - s):
                z, now = gates[at + t, first:stop], block[t]
                product(before, W_h_T, 1.0, z)
                for i in range(stop - first):
                    to_c = c[at + t, first + i]
                    if s + t < lengths[first + i]:
                        _cell(z[i], bias, cell[i], to_c, now[i])
                        cell[i] = to_c
                    else:
                        now[i] = before[i]
                before = now
            state[...] = before  # the block is about to be overwritten
            to_features_major(block, lengths, first, s, e, h)
        last[0, first:stop] = state
        last[1, first:stop] = cell


@parallel_jit
def _forward_shared(
    workers, groups, keep, lengths, x, W_in_T, W_h_T, bias, h0, c0, gates, c, h, last
):
    for worker in prange(workers):
        _forward(
            worker, workers, groups, keep, lengths, x, W_in_T, W_h_T, bias, h0, c0, gates, c, h,
            last,
        )  # fmt: skip


@jit_contracted
def _backward(
    worker, workers, groups, lengths, x, W_in, W_h, h0, c0, h, gates, c, grad_y,
    grad_x, grad_h0, grad_c0, to_W_in, to_W_h, to_bias,
):  # fmt: skip
    batch, H, L = h.shape
    for group in range(worker, groups, workers):
        first, stop = group * batch // groups, (group + 1) * batch // groups
        from_y = np.empty((min(BLOCK, L), stop - first, H), x.dtype)
        to_z = np.empty((min(BLOCK, L), stop - first, 4 * H), x.dtype)
        grad_h, grad_c = grad_h0[first:stop], grad_c0[first:stop]  # at first of the last state
        for block in range((L + BLOCK - 1) // BLOCK - 1, -1, -1):
            s, e = block * BLOCK, min(block * BLOCK + BLOCK, L)
            to_time_major(grad_y, first, s, e, from_y)
            for t in range(e - 1, s - 1, -1):
                g = to_z[t - s]
                for i in range(stop - first):
                    o = first + i
                    if t < lengths[o]:
                        before = c[t - 1, o] if t else c0[o]
                        at_t = from_y[t - s, i], grad_h[i], grad_c[i], g[i]
                        _cell_back(gates[t, o], before, c[t, o], *at_t)
                    else:
                        g[i] = 0  # the state stands still [RNN-8]
                product(g, W_h, 1.0, grad_h)  # [LSTM-6]
            sums = to_W_in[group], to_W_h[group], to_bias[group]
            collect(to_z, x, h0[first:stop], h, W_in, first, s, e, grad_x, *sums)


@parallel_jit
def _backward_shared(
    workers, groups, lengths, x, W_in, W_h, h0, c0, h, gates, c, grad_y,
    grad_x, grad_h0, grad_c0, to_W_in, to_W_h, to_bias,
):  # fmt: skip
    for worker in prange(workers):
        _backward(
            worker, workers, groups, lengths, x, W_in, W_h, h0, c0, h, gates, c, grad_y,
            grad_x, grad_h0, grad_c0, to_W_in, to_W_h, to_bias,
        )  # fmt: skip


def _examples(rng):
    def weights(H, columns):
        return [0.6 * rng.standard_normal(s) for s in ((4 * H, columns), (4 * H, H), (4 * H,))]

    for batch, columns, H, L, lengths in [
        (1, 1, 1, 1, None),
        (3, 2, 4, 17, None),
        (3, 2, 4, 7, (7, 0, 4)),
        (17, 2, 3, 34, None),
    ]:
        x, h0, c0 = (rng.standard_normal(s) for s in ((batch, columns, L), *((batch, H),) * 2))
        W_in, W_h, bias = weights(H, columns)
        bias[H : 2 * H] += 2  # what is kept is kept for long
        note = f"batch {batch}, L {L}, lengths {lengths}"
        yield Example((x, h0, c0, W_in, W_h, bias), {"lengths": lengths}, note)
    args = x[:2, :, :5], None, None, W_in, W_h, None
    yield Example(args, {}, "no states, no bias")


register(
    "lstm",
    lstm_fwd,
    lstm_vjp,
    reference=reference.lstm.lstm,
    examples=_examples,
    arguments=("x", "h0", "c0", "W_in", "W_h", "bias"),
)
