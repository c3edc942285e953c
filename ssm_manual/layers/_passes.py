"""A diagonal layer forward and backward: pieces of a batch, both directions, one of the views.

Items of one length form a piece, which goes through the operator as a whole. A batch without
padding is one piece, whose arrays are handed on as they are.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual.layers import _continuous, _lengths
from ssm_manual.ops import chunked, ssm

#: With fewer samples, all sequences together, ``view="auto"`` scans: a call's fixed cost decides.
SHORT = 512

#: Gradients of shape (H, N) that are summed over the pieces; a view gives one of the first two.
_SUMMED = ("exponent", "A_bar", "B_bar", "C", "C_reverse")


class Piece(NamedTuple):
    """The items of one length, and the residuals of the operator on them, in both directions."""

    items: object  # index of the batch
    length: int
    view: str
    forward: tuple
    reverse: tuple | None


class Cache(NamedTuple):
    """What `S4D.backward` needs of `S4D.forward`."""

    shape: tuple
    stateful: bool  # whether forward was given a state
    system: _continuous.System
    pieces: tuple  # of Piece

    @property
    def whole(self):
        """Whether the batch is one piece without padding."""
        return len(self.pieces) == 1 and self.pieces[0].length == self.shape[-1]


def forward(layer, u, state, lengths):
    """Output, state after (None in both directions) and `Cache`; arguments are checked."""
    batch, _, L = u.shape
    system = layer._system()
    outputs, pieces = [], []
    for items, length in _lengths.groups(lengths, batch, L):
        x0 = None if state is None else state[items]
        output, piece = _through(layer, system, u[items, :, :length], x0, items)
        outputs.append(output)
        pieces.append(piece)
    cache = Cache(u.shape, state is not None, system, tuple(pieces))
    if cache.whole:
        return *outputs[0], cache
    C = layer.params["C"]
    y = np.zeros(u.shape, u.dtype)  # beyond the lengths it stays zero
    after = None if layer.bidirectional else np.empty((batch, *C.shape), C.dtype)
    for (out, x), piece in zip(outputs, pieces):
        y[piece.items, :, : piece.length] = out
        if after is not None:
            after[piece.items] = x
    return y, after, cache


def backward(layer, grad_y, cache, grad_state):
    """Gradients to u, to the state before (None if there was none) and to the parameters."""
    C = layer.params["C"]
    sums = {name: np.zeros(C.shape, complex) for name in _SUMMED} | {"D": np.zeros(C.shape[0])}
    grad_u = before = None
    if not cache.whole:
        grad_u = np.zeros(cache.shape, grad_y.dtype)  # of padding it stays zero
        before = np.empty((cache.shape[0], *C.shape), C.dtype) if cache.stateful else None
    for piece in cache.pieces:
        g = grad_y[piece.items, :, : piece.length]
        g_x = None if grad_state is None else grad_state[piece.items]
        to_u, to_x0 = _add(sums, piece.view, "C", piece.forward, (g, g_x))
        if piece.reverse is not None:
            reversed_g = g[..., ::-1], None
            to_reversed, _ = _add(sums, piece.view, "C_reverse", piece.reverse, reversed_g)
            to_u = to_u + to_reversed[..., ::-1]  # [S4D-6]
        if cache.whole:
            grad_u, before = to_u, to_x0
        else:
            grad_u[piece.items, :, : piece.length] = to_u
            if before is not None:
                before[piece.items] = to_x0
    to_system = [sums.pop(name) for name in ("exponent", "A_bar", "B_bar")]
    grads = sums | _continuous.pull_back(cache.system, *to_system)
    return grad_u, before, {name: grads[name].astype(p.dtype) for name, p in layer.params.items()}


def _through(layer, system, u, x0, items):
    """``(y, x)`` of one piece, x None in both directions; and the `Piece`."""
    view = layer.view
    if view == "auto":
        view = "scan" if u.shape[0] * u.shape[2] < SHORT else "chunked"
    (y, x), kept = _apply(layer, system, view, "C", layer.params["D"], u, x0)
    reverse = None
    if layer.bidirectional:
        (other, _), reverse = _apply(layer, system, view, "C_reverse", None, u[..., ::-1], None)
        y, x = y + other[..., ::-1], None  # [S4D-6]
    return (y, x), Piece(items, u.shape[2], view, kept, reverse)


def _apply(layer, system, view, weights, D, u, x0):
    """The operator in one direction, and its residuals."""
    C = layer.params[weights]
    B_bar = system.B_bar.astype(C.dtype)
    if view == "chunked":
        return chunked.apply_from_exponent_fwd(system.exponent, B_bar, C, D, u, x0)
    return ssm.apply_fwd(system.A_bar.astype(C.dtype), B_bar, C, D, u, x0, view=view)


def _add(sums, view, weights, residuals, grad_out):
    """Add one piece's gradients, in double precision; returns those to u and x0."""
    if view == "chunked":
        pole, vjp = "exponent", chunked.apply_from_exponent_vjp
    else:
        pole, vjp = "A_bar", ssm.apply_vjp
    *to_weights, to_u, to_x0 = vjp(residuals, grad_out)
    for name, grad in zip((pole, "B_bar", weights, "D"), to_weights):
        if grad is not None:  # as that to D is, of the second direction
            sums[name] += grad
    return to_u, to_x0
