"""The objective and its gradients, op by op: what gradient descent descends, in four modes."""

import math

import numpy as np

from ssm_manual import _validate
from ssm_manual._modes import MODES
from ssm_manual.ops import convolve, loss, scan

__all__ = ["loss_and_grads"]


def loss_and_grads(model, u, target, *, mode="bptt", window=None):
    """``half_mse`` of the output from a zero state, and its gradients in the given mode.

    Parameters
    ----------
    model : DiagonalSSM
        Left as it is.
    u, target : array_like
        (length,) or (batch, length), not empty.
    mode : {"bptt", "windowed", "one_step", "convolution"}
        ``bptt`` and ``convolution`` are the gradient, by the recurrence and by the kernel [CONV-7].
        ``windowed`` carries the state over but cuts the gradient at each window's edge [TRUNC-3];
        ``one_step`` looks one step ahead [TRUNC-4]. Neither is a gradient of the loss.
    window : int, optional
        Steps a window, for ``windowed`` alone.

    Returns
    -------
    loss : float
        (1/2) mean |y - target|^2.
    grads : dict of ndarray
        By parameter, of its shape.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    _validate.one_of("mode", mode, MODES)
    if mode != "windowed" and window is not None:
        raise ValueError(f"window is {window!r}; it goes with mode='windowed' alone")
    u, target = model.sequence("u", u), model.sequence("target", target)
    if u.size == 0:
        raise ValueError(f"u has shape {u.shape}; it must not be empty")
    _validate.shape("target", target, u.shape, meaning="u's")
    L = u.shape[-1]
    width = _validate.integer("window", window, minimum=1) if mode == "windowed" else L

    (A_bar, B_bar), discretisation = model.discretise()
    weights = A_bar, B_bar, model.params["C"], model.params.get("D")
    rows = u.reshape(math.prod(u.shape[:-1]), 1, L)
    if mode == "convolution":
        forward, backward = convolve.convolve_fwd, convolve.convolve_vjp
        options = {"real": model.real}
    else:
        forward, backward = scan.scan_fwd, scan.scan_vjp
        options = {"real": model.real, "horizon": 1 if mode == "one_step" else None}

    edges = range(0, L, width)
    outputs, kept, state = [], [], None
    for start in edges:
        piece = rows[..., start : start + width]
        (y, state), residuals = forward(*weights, piece, state, **options)
        outputs.append(y)
        kept.append(residuals)
    y = np.concatenate(outputs, axis=-1).reshape(u.shape)
    value, of_loss = loss.half_mse_fwd(y, target)
    grad_y = loss.half_mse_vjp(of_loss, 1.0)[0].reshape(rows.shape)

    total = None
    for start, residuals in zip(edges, kept):
        # The state was carried over; its cotangent (None) is not: the cut at the edge [TRUNC-3].
        grads = backward(residuals, (grad_y[..., start : start + width], None))[:4]
        total = grads if total is None else _add(total, grads)
    return float(value), model.to_parameters(discretisation, *total)


def _add(left, right):
    triples = zip(("A_bar", "B_bar", "C", "D"), left, right)
    return tuple(
        None if a is None else _validate.plus(f"grad_{name}", a, b) for name, a, b in triples
    )
