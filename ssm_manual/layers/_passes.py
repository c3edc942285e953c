"""A layer forward and backward: pieces of a batch, both directions, one of the views.

Items of one length form a piece, which goes through the operator as a whole. A batch without
padding is one piece, whose arrays are handed on as they are. What is done to a piece is the
business of the layer's operator: `_continuous` for a diagonal layer, `_low_rank` for one that is
diagonal plus low rank. An operator has

* ``system(layer)``: the system in double precision, formed once a call;
* ``apply(layer, system, view, weights, D, u, x0)``: ``(y, x)`` and residuals;
* ``vjp(view, weights, residuals, grad_out)``: gradients by name, those to u and those to x0;
* ``pull_back(layer, system, sums)``: from the sums of the former to the parameters;
* ``SHORT``: with fewer samples, all sequences together, ``view="auto"`` scans.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _lengths


class Piece(NamedTuple):
    """The items of one length, and the residuals of the operator on them, in both directions."""

    items: object  # index of the batch
    length: int
    view: str
    forward: tuple
    reverse: tuple | None


class Cache(NamedTuple):
    """What a layer's backward pass needs of its forward pass."""

    shape: tuple
    stateful: bool  # whether forward was given a state
    system: tuple
    pieces: tuple  # of Piece

    @property
    def whole(self):
        """Whether the batch is one piece without padding."""
        return len(self.pieces) == 1 and self.pieces[0].length == self.shape[-1]


def forward(layer, u, state, lengths):
    """Output, state after (None in both directions) and `Cache`; arguments are checked."""
    batch, _, L = u.shape
    system = layer._operator.system(layer)
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
    sums = {}  # by name, in double precision
    grad_u = before = None
    if not cache.whole:
        grad_u = np.zeros(cache.shape, grad_y.dtype)  # of padding it stays zero
        before = np.empty((cache.shape[0], *C.shape), C.dtype) if cache.stateful else None
    for piece in cache.pieces:
        g = grad_y[piece.items, :, : piece.length]
        g_x = None if grad_state is None else grad_state[piece.items]
        to_u, to_x0 = _add(layer, sums, piece.view, "C", piece.forward, (g, g_x))
        if piece.reverse is not None:
            back = "C_reverse", piece.reverse, (g[..., ::-1], None)
            to_reversed, _ = _add(layer, sums, piece.view, *back)
            to_u = _validate.plus("grad_u", to_u, to_reversed[..., ::-1])  # [S4D-6]
        if cache.whole:
            grad_u, before = to_u, to_x0
        else:
            grad_u[piece.items, :, : piece.length] = to_u
            if before is not None:
                before[piece.items] = to_x0
    grads = layer._operator.pull_back(layer, cache.system, sums)
    with np.errstate(over="ignore"):  # infinite in the layer's precision
        grads = {name: grads[name].astype(p.dtype) for name, p in layer.params.items()}
    return grad_u, before, grads


def _through(layer, system, u, x0, items):
    """``(y, x)`` of one piece, x None in both directions; and the `Piece`."""
    view, apply = layer.view, layer._operator.apply
    if view == "auto":
        view = "scan" if u.shape[0] * u.shape[2] < layer._operator.SHORT else "chunked"
    (y, x), kept = apply(layer, system, view, "C", layer.params["D"], u, x0)
    reverse = None
    if layer.bidirectional:
        backwards = u[..., ::-1], None
        (other, _), reverse = apply(layer, system, view, "C_reverse", None, *backwards)
        y, x = _validate.plus("y", y, other[..., ::-1]), None  # [S4D-6]
    return (y, x), Piece(items, u.shape[2], view, kept, reverse)


def _add(layer, sums, view, weights, residuals, grad_out):
    """Add one piece's gradients, in double precision; returns those to u and x0."""
    found, to_u, to_x0 = layer._operator.vjp(view, weights, residuals, grad_out)
    for name, grad in found.items():
        if grad is not None:  # as that to D is, of the second direction
            grad = grad.astype(np.result_type(grad, float), copy=False)
            sums[name] = _validate.plus(f"grad_{name}", sums.get(name, 0), grad)
    return to_u, to_x0
