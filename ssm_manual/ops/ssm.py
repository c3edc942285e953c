"""``apply``: the linear state-space operator, in the view of your choice.

One operator, three views: as a recurrence (`scan`), as a convolution (`convolve`) and by chunks
(`chunked`). They agree to rounding in the output, in the last state and in every gradient
[CONV-7, CHUNK-4].
"""

from typing import NamedTuple

from ssm_manual import _validate, reference
from ssm_manual.ops import chunked, convolve, scan
from ssm_manual.ops._examples import operator_calls
from ssm_manual.ops.registry import Example, register

__all__ = ["VIEWS", "apply", "apply_fwd", "apply_vjp"]

#: The views by name, each with its vjp.
_VIEWS = {
    "scan": (scan.scan_fwd, scan.scan_vjp),
    "convolution": (convolve.convolve_fwd, convolve.convolve_vjp),
    "chunked": (chunked.apply_fwd, chunked.apply_vjp),
}

#: The names that ``view`` takes.
VIEWS = ("auto", *_VIEWS)


def apply(A_bar, B_bar, C, D, u, x0=None, *, view="auto", real=True):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = 2 Re(C x_t) + D u_t`` [SCAN-1, 2].

    Parameters
    ----------
    A_bar, B_bar, C : array_like
        Discrete poles, input and output weights (no unit), broadcasting to (H, N); N counts stored
        poles. Any finite pole.
    D : array_like or None
        Feed-through, (H,) or a scalar.
    u : array_like
        Input, (batch, H, L); L may be 0. Real if ``real``.
    x0 : array_like, optional
        State before the first sample, (batch, H, N); None is zero.
    view : {"auto", "scan", "convolution", "chunked"}
        How the operator is applied. ``auto`` takes the faster by measurement.
    real : bool
        True: one pole of each conjugate pair is stored and ``y = 2 Re(C x) + D u``. False:
        ``y = C x + D u``, complex.

    Returns
    -------
    y : ndarray
        (batch, H, L), real or complex.
    x_last : ndarray
        State after the last sample, (batch, H, N), complex: pass it as ``x0`` of the next piece.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, u or D is complex for a real
        output, or ``view`` is unknown.

    Examples
    --------
    Cutting a sequence anywhere changes nothing:

    >>> import numpy as np
    >>> A, B, C = [[0.9 + 0.2j]], [[1.0]], [[0.5]]
    >>> u = np.arange(6.0).reshape(1, 1, 6)
    >>> whole, _ = apply(A, B, C, None, u)
    >>> head, state = apply(A, B, C, None, u[..., :4])
    >>> tail, _ = apply(A, B, C, None, u[..., 4:], state)
    >>> bool(np.allclose(whole, np.concatenate([head, tail], axis=-1)))
    True
    """
    return apply_fwd(A_bar, B_bar, C, D, u, x0, view=view, real=real)[0]


class Residuals(NamedTuple):
    """What the backward pass needs: the residuals of the chosen view."""

    view: str
    of_view: scan.Residuals | convolve.Residuals | chunked.Residuals


def apply_fwd(A_bar, B_bar, C, D, u, x0=None, *, view="auto", real=True):
    """`apply` and its residuals."""
    _validate.one_of("view", view, VIEWS)
    if view == "auto":
        view = _faster(A_bar, u)
    forward, _ = _VIEWS[view]
    out, residuals = forward(A_bar, B_bar, C, D, u, x0, real=real)
    return out, Residuals(view, residuals)


def apply_vjp(residuals, grad_out):
    """Gradients to A_bar, B_bar, C, D, u and x0 from the cotangents of ``(y, x_last)``."""
    view, of_view = residuals
    _, backward = _VIEWS[view]
    return backward(of_view, grad_out)


def _faster(A_bar, u):
    """Chunks, but for little work, where a call's fixed cost decides.

    By benchmarks/views.py: from 512 samples a channel on, all sequences together, chunks are faster
    than the scan, up to eight times, and than the convolution; below, and with a mode or two, the
    scan has the least to prepare.
    """
    shape, modes = getattr(u, "shape", ()), getattr(A_bar, "shape", ())
    if len(shape) != 3 or not modes:
        return "scan"
    samples = shape[0] * shape[2]
    return "chunked" if samples >= 512 and samples * shape[1] * modes[-1] >= 1 << 16 else "scan"


def _examples(rng):
    for view in VIEWS:
        for example in list(operator_calls(rng))[2:5]:
            note = f"{view}: {example.note}"
            yield Example(example.args, {**example.options, "view": view}, note)


register(
    "apply",
    apply_fwd,
    apply_vjp,
    reference=reference.ssm.apply,
    examples=_examples,
    arguments=("A_bar", "B_bar", "C", "D", "u", "x0"),
)
