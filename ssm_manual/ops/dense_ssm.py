"""``apply``: the dense linear state-space operator, in the view of your choice.

H systems with full matrices side by side, several inputs and outputs each. As for diagonal systems
(`ssm`), the views agree to rounding in the output, in the last state and in every gradient
[DENSE-20].
"""

from typing import NamedTuple

from ssm_manual import _validate, reference
from ssm_manual.ops import dense_chunked, dense_convolve, dense_scan
from ssm_manual.ops._dense_examples import dense_calls
from ssm_manual.ops.registry import Example, register

__all__ = ["VIEWS", "apply", "apply_fwd", "apply_vjp"]

#: The views by name, each with its vjp.
_VIEWS = {
    "scan": (dense_scan.scan_fwd, dense_scan.scan_vjp),
    "convolution": (dense_convolve.convolve_fwd, dense_convolve.convolve_vjp),
    "chunked": (dense_chunked.apply_fwd, dense_chunked.apply_vjp),
}

#: The names that ``view`` takes.
VIEWS = ("auto", *_VIEWS)


def apply(A_bar, B_bar, C, D, u, x0=None, *, view="auto"):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = C x_t + D u_t`` [DENSE-1, 2].

    Parameters
    ----------
    A_bar : array_like
        Discrete state matrices (H, N, N), no unit; real or complex, any finite value.
    B_bar : array_like
        Input matrices (H, N, p); p may be 0.
    C : array_like
        Output matrices (H, m, N); m may be 0.
    D : array_like or None
        Feed-through (H, m, p).
    u : array_like
        Input (batch, H, p, L); L may be 0. Parameters may be in double precision beside signals in
        single; their gradients then are, too.
    x0 : array_like, optional
        State before the first sample, (batch, H, N); None is zero.
    view : {"auto", "scan", "convolution", "chunked"}
        How the operator is applied. ``auto`` takes the faster by measurement.

    Returns
    -------
    y : ndarray
        (batch, H, m, L), in the precision of u, complex if any argument is.
    x_last : ndarray
        State after the last sample, (batch, H, N), of y's dtype: pass it as ``x0`` of the next
        piece.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite or ``view`` is unknown.

    Examples
    --------
    Cutting a sequence anywhere changes nothing:

    >>> import numpy as np
    >>> A, B, C = [[[0.9, 0.2], [-0.2, 0.9]]], [[[0.0], [1.0]]], [[[1.0, 0.0]]]
    >>> u = np.arange(6.0).reshape(1, 1, 1, 6)
    >>> whole, _ = apply(A, B, C, None, u)
    >>> head, state = apply(A, B, C, None, u[..., :4])
    >>> tail, _ = apply(A, B, C, None, u[..., 4:], state)
    >>> bool(np.allclose(whole, np.concatenate([head, tail], axis=-1)))
    True
    """
    return apply_fwd(A_bar, B_bar, C, D, u, x0, view=view)[0]


class Residuals(NamedTuple):
    """What the backward pass needs: the residuals of the chosen view."""

    view: str
    of_view: NamedTuple


def apply_fwd(A_bar, B_bar, C, D, u, x0=None, *, view="auto"):
    """`apply` and its residuals."""
    _validate.one_of("view", view, VIEWS)
    if view == "auto":
        view = _faster(A_bar, u)
    forward, _ = _VIEWS[view]
    out, residuals = forward(A_bar, B_bar, C, D, u, x0)
    return out, Residuals(view, residuals)


def apply_vjp(residuals, grad_out):
    """Gradients to A_bar, B_bar, C, D, u and x0 from the cotangents of ``(y, x_last)``."""
    view, of_view = residuals
    _, backward = _VIEWS[view]
    return backward(of_view, grad_out)


def _faster(A_bar, u):
    """Chunks, but for few samples, where their tables cost more than the recurrence.

    Measured, forward and backward: the tables pay from 8 samples a state on, all sequences
    together, and from 128 at least. The convolution was never the fastest; it is there to compare
    with.
    """
    states, shape = getattr(A_bar, "shape", ())[-1:], getattr(u, "shape", ())
    if not states or len(shape) != 4:
        return "scan"  # which says what is wrong
    return "chunked" if shape[0] * shape[3] >= 8 * max(states[0], 16) else "scan"


def _examples(rng):
    for view in VIEWS:
        for example in list(dense_calls(rng))[4:6]:
            note = f"{view}: {example.note}"
            yield Example(example.args, {**example.options, "view": view}, note, example.linear)


register(
    "dense_apply",
    apply_fwd,
    apply_vjp,
    reference=reference.dense_ssm.apply,
    examples=_examples,
    arguments=("A_bar", "B_bar", "C", "D", "u", "x0"),
)
