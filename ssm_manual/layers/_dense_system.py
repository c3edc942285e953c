"""A dense layer from its parameters to the operator and back with the gradients.

The operator takes systems side by side; a layer is one of them, an axis of size 1 in front.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, hippo
from ssm_manual.layers import _lengths
from ssm_manual.ops import dense_discretize, dense_ssm

#: How the continuous system becomes a discrete one; ``none``: it is discrete.
DISCRETISATIONS = ("tustin", "zoh", "none")


class System(NamedTuple):
    """The discrete system of a layer, in double precision, and the residuals of its making."""

    A_bar: np.ndarray  # (1, N, N)
    B_bar: np.ndarray  # (1, N, p)
    residuals: tuple | None


class Piece(NamedTuple):
    """The items of one length, and the residuals of the operator on them."""

    items: object  # index of the batch
    length: int
    residuals: tuple


class Cache(NamedTuple):
    """What `DenseSSM.backward` needs of `DenseSSM.forward`."""

    shape: tuple  # of u
    stateful: bool  # whether forward was given a state
    method: str
    system: System
    pieces: tuple  # of Piece

    @property
    def whole(self):
        """Whether the batch is one piece without padding."""
        return len(self.pieces) == 1 and self.pieces[0].length == self.shape[-1]


def initial(start, N, p, discretisation, dt, rng):
    """A (N, N) and B (N, p) to start from."""
    if isinstance(start, str):
        _validate.one_of("initial", start, hippo.MEASURES)
        A, B = getattr(hippo, start)(N)
        B = B[:, np.newaxis]
        if p > 1:
            B = B * rng.standard_normal((N, p)) / np.sqrt(p)
        if discretisation == "none":
            A_bar, B_bar = dense_discretize.tustin(A[np.newaxis], B[np.newaxis], dt)
            A, B = A_bar[0], B_bar[0]
        return A, B
    A = _validate.array("initial", start, real=True)
    _validate.shape("initial", A, (N, N), meaning="(states, states)")
    return A, rng.standard_normal((N, p)) / np.sqrt(p)


def discretise(layer):
    """`System` of a layer's parameters as they are now."""
    A, B = (a.astype(float)[np.newaxis] for a in (layer.A, layer.params["B"]))
    if layer.discretisation == "none":
        return System(A, B, None)
    fwd = getattr(dense_discretize, f"{layer.discretisation}_fwd")
    (A_bar, B_bar), residuals = fwd(A, B, layer.dt)
    return System(A_bar, B_bar, residuals)


def pull_back(method, system, grad_A_bar, grad_B_bar):
    """Gradients to A (N, N) and B (N, p), in double precision."""
    grads = grad_A_bar, grad_B_bar
    if method != "none":
        grads = getattr(dense_discretize, f"{method}_vjp")(system.residuals, grads)
    return grads[0][0], grads[1][0]


def forward(layer, u, state, lengths):
    """Output, state after and `Cache`; arguments are checked."""
    batch, _, L = u.shape
    params, system = layer.params, discretise(layer)
    stateful = state is not None
    if not stateful and "x0" in params:
        state = np.repeat(params["x0"][np.newaxis], batch, axis=0)  # [MIMO-3]
    # Parameters in double precision beside the signals', so that A_bar is not rounded on the way.
    C, D = (
        params[name].astype(float)[np.newaxis] if name in params else None for name in ("C", "D")
    )
    weights = system.A_bar, system.B_bar, C, D
    outputs, pieces = [], []
    for items, length in _lengths.groups(lengths, batch, L):
        x0 = None if state is None else state[items][:, np.newaxis]
        signal = u[items, :, :length][:, np.newaxis]
        output, residuals = dense_ssm.apply_fwd(*weights, signal, x0, view=layer.view)
        outputs.append(output)
        pieces.append(Piece(items, length, residuals))
    cache = Cache(u.shape, stateful, layer.discretisation, system, tuple(pieces))
    bias = params.get("bias")
    y = np.zeros((batch, layer.outputs, L), u.dtype)  # beyond the lengths it stays zero
    after = np.empty((batch, layer.states), u.dtype)
    for (out, x), piece in zip(outputs, pieces):
        out = out[:, 0]
        if bias is not None:
            out = _validate.plus("y", out, bias[:, np.newaxis])
        y[piece.items, :, : piece.length] = out
        after[piece.items] = x[:, 0]
    return y, after, cache


def backward(layer, grad_y, cache, grad_state):
    """Gradients to u, to the state before (None if there was none) and to the parameters."""
    params, dtype = layer.params, layer.dtype
    grad_u = np.zeros(cache.shape, dtype)  # of padding it stays zero
    before = np.empty(grad_state.shape, dtype)
    stated = cache.stateful or "x0" in params
    sums = {"A": 0.0, "B": 0.0, "C": 0.0, "D": 0.0, "bias": 0.0}
    for piece in cache.pieces:
        g = grad_y[piece.items, :, : piece.length]
        cotangents = g[:, np.newaxis], grad_state[piece.items][:, np.newaxis]
        *weights, to_u, to_x0 = dense_ssm.apply_vjp(piece.residuals, cotangents)
        grad_u[piece.items, :, : piece.length] = to_u[:, 0]
        if stated:
            before[piece.items] = to_x0[:, 0]
        with np.errstate(over="ignore"):
            to_bias = np.sum(g, axis=(0, 2), dtype=float)  # [MIMO-2]
        for name, grad in zip(sums, (*weights, to_bias)):
            if grad is not None:
                sums[name] = _validate.plus(f"grad_{name}", sums[name], grad)
    to_A, to_B = pull_back(cache.method, cache.system, sums["A"], sums["B"])
    found = {"A": to_A, "B": to_B, "C": sums["C"][0], "bias": sums["bias"]}
    if "D" in params:
        found["D"] = sums["D"][0]
    if "x0" in params:  # a state that was given stands in its place [MIMO-3]
        found["x0"] = np.zeros(layer.states)
        if not cache.stateful:
            with np.errstate(over="ignore"):
                found["x0"] = np.sum(before, axis=0, dtype=float)
    with np.errstate(over="ignore"):  # infinite in the layer's precision
        grads = {name: np.asarray(found[name], params[name].dtype) for name in params}
    return grad_u, before if cache.stateful else None, grads


def clamp(layer, radius):
    """`DenseSSM.clamp` [MIMO-4]."""
    radius = _validate.real_number("radius", radius, above=0, maximum=1)
    if "A" not in layer.params:
        raise ValueError("A is fixed; a layer whose A is not trained is not clamped")
    _validate.array("A", layer.A)
    changed = False
    # Rounding of A moves the eigenvalues of a matrix far from normal: look again, and aim lower.
    for attempt in range(60):
        A_bar = layer.A_bar
        found = float(np.abs(np.linalg.eigvals(A_bar)).max())
        if found <= radius:
            return changed
        changed = True
        factor = radius / found * (1 - 2.0 ** (attempt - 52)) if attempt else radius / found
        eye = np.eye(layer.states)
        if layer.discretisation == "none":
            A = factor * A_bar
        elif layer.discretisation == "zoh":
            A = layer.A + np.log(factor) / layer.dt * eye
        else:
            scaled = factor * A_bar
            try:
                A = 2 / layer.dt * np.linalg.solve(scaled + eye, scaled - eye)
            except np.linalg.LinAlgError:  # an eigenvalue of -1, which no finite A has
                continue
        layer.params["A"][...] = A
    raise ValueError(f"radius is {radius}; the rounding of A alone moves the eigenvalues past it")
