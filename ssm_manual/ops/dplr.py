"""``apply``: the operator of a diagonal-plus-low-rank (S4) system, from its continuous parameters.

    x' = (diag(Lambda) - P Q^*) x + B u,   y = C x + D u                          [DPLR-1, 2]

sampled by Tustin's map [DPLR-3] and applied as a recurrence (`dplr_scan`), as a convolution with
the kernel of Cauchy sums (`cauchy`), or by chunks of its dense form (`dense_chunked`). The three
agree to rounding in the output, the last state and every gradient.
Derivation: docs/derivations/dplr.md. Views: `_dplr_views`.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import _dplr_operands, _dplr_views, dplr_discretize
from ssm_manual.ops._examples import complex_normal
from ssm_manual.ops.registry import Example, register

__all__ = ["VIEWS", "apply", "apply_fwd", "apply_vjp"]

#: The names that ``view`` takes.
VIEWS = ("auto", *_dplr_views.VIEWS)

#: Samples of a channel, all sequences together, from which ``view="auto"`` goes by chunks. Measured
#: with 128 channels of 32 modes, forward and backward: tables take as long as a scan of a thousand
#: samples, whatever the length.
CHUNKED_FROM = 1024


def apply(Lambda, P, Q, B, C, D, dt, u, x0=None, *, view="auto", real=True):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = C x_t + D u_t``, A_bar from ``diag - P Q^*``.

    Parameters
    ----------
    Lambda : array_like
        Diagonal of A, (H, N) or (N,), in 1/s.
    P, Q : array_like
        Low-rank factors, (H, r, N) or (r, N): A = diag(Lambda) - sum_j P_j Q_j^*. A tied system has
        Q = P, and with Re Lambda < 0 it is stable whatever else its parameters are [DPLR-10].
    B, C : array_like
        Input and output weights, (H, N) or (N,).
    D : array_like or None
        Feed-through, (H,) or a scalar.
    dt : array_like
        Sampling intervals, (H,) or a scalar, in seconds per sample; positive.
    u : array_like
        Input, (batch, H, L); L may be 0. Real if ``real``. In the parameters' precision, or single
        beside parameters in double.
    x0 : array_like, optional
        State before the first sample, (batch, H, N), in u's precision; None is zero.
    view : {"auto", "scan", "convolution", "chunked"}
        How the operator is applied. ``auto`` takes the faster by measurement: chunks, but for short
        inputs.
    real : bool
        True: one of each conjugate pair is stored: ``A x = Lambda x - P 2 Re(Q^* x)`` and
        ``y = 2 Re(C x) + D u``. False: the N states as they stand; y is complex.

    Returns
    -------
    y : ndarray
        (batch, H, L), in u's precision.
    x_last : ndarray
        State after the last sample, (batch, H, N), complex: pass it as ``x0`` of the next piece.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, dt is not positive, u or D is
        complex for a real output, ``view`` is unknown, or A has an eigenvalue at 2/dt.

    Notes
    -----
    What depends on parameters alone is formed in double precision. Cost: of `dplr_scan`, O(N r) a
    sample; of the chunked view, that of `dense_chunked` with 2N states (N complex ones), one input
    and one output; of the convolution, a kernel in O(N r L) a channel, transforms, and another pass
    of `dense_chunked` for the last state, one more for x0.

    References
    ----------
    A. Gu, K. Goel, C. Ré (2022), "Efficiently modeling long sequences with structured state
    spaces" (S4), sections 2 and 3.

    Examples
    --------
    >>> import numpy as np
    >>> from ssm_manual import hippo
    >>> Lambda, P, B, _ = hippo.dplr("legs", 8)
    >>> u = np.ones((1, 1, 400))
    >>> y, state = apply(Lambda, P, P, B, B, None, 0.05, u)
    >>> y.shape, state.shape
    ((1, 1, 400), (1, 1, 4))
    """
    return apply_fwd(Lambda, P, Q, B, C, D, dt, u, x0, view=view, real=real)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    operands: _dplr_operands.Operands
    discrete: dplr_discretize.Residuals
    view: str
    of_view: tuple  # the residuals of the chosen view


NAMES = ("Lambda", "P", "Q", "B", "C", "D", "dt", "u", "x0")


@_validate.sound("y", "x_last")
def apply_fwd(Lambda, P, Q, B, C, D, dt, u, x0=None, *, view="auto", real=True):
    """`apply` and its residuals."""
    _validate.one_of("view", view, VIEWS)
    values = Lambda, P, Q, B, C, D, dt
    given, H, N, _ = _dplr_operands.parameters(NAMES[:7], values, optional=("D",))
    op = _dplr_operands.signals(given, H, N, given[5], u, x0, real)
    _, H, _, L = op.sizes
    Lambda, P, Q, B, C, _, dt = given
    Lambda, P, Q, B, C, dt = (
        _dplr_operands.spread(a, H, axes)
        for a, axes in zip((Lambda, P, Q, B, C, dt), (2, 3, 3, 2, 2, 1))
    )
    discrete, kept = dplr_discretize.tustin_dplr_fwd(Lambda, P, Q, B, dt, real=real)
    if view == "auto":
        view = "chunked" if op.sizes[0] * L >= CHUNKED_FROM else "scan"
    forward, _ = _dplr_views.VIEWS[view]
    out, of_view = forward(op, _dplr_views.System(Lambda, P, Q, B, C, dt, discrete))
    return out, Residuals(op, kept, view, of_view)


@_validate.sound(
    "grad_Lambda", "grad_P", "grad_Q", "grad_B", "grad_C", "grad_D", "grad_dt", "grad_u", "grad_x0"
)
def apply_vjp(residuals, grad_out):
    """Gradients to all nine arguments from the cotangents of ``(y, x_last)``."""
    op, kept, view, of_view = residuals
    grad_y, grad_x = op.cotangents(grad_out)
    _, backward = _dplr_views.VIEWS[view]
    grad_u, grad_x0, found = backward(of_view, op, grad_y, grad_x)
    grads = found.get("continuous")
    if "discrete" in found:
        through = dplr_discretize.tustin_dplr_vjp(kept, found["discrete"])
        grads = through if grads is None else [a + b for a, b in zip(grads, through)]
    Lambda, P, Q, B, dt = grads
    return op.pull_back(Lambda, P, Q, B, found["C"], found["D"], dt, grad_u, grad_x0)


def _examples(rng):
    for view in _dplr_views.VIEWS:
        for rank, real, (batch, H, N, L) in (
            (1, True, (2, 2, 3, 17)),
            (2, True, (1, 1, 2, 6)),
            (1, False, (1, 2, 2, 8)),
            (2, False, (2, 1, 3, 5)),
        ):
            Lambda = -rng.uniform(0.5, 2, (H, N)) + 4j * rng.standard_normal((H, N))
            P = complex_normal(rng, H, rank, N)
            Q = P if rank == 1 else P + 0.3 * complex_normal(rng, H, rank, N)
            B, C, x0 = (complex_normal(rng, *s) for s in ((H, N), (H, N), (batch, H, N)))
            draw = rng.standard_normal if real else lambda s: complex_normal(rng, *np.atleast_1d(s))
            args = Lambda, P, Q, B, C, draw(H), rng.uniform(0.1, 0.4, H), draw((batch, H, L)), x0
            note = f"{view}, {'pairs' if real else 'complex'}, rank {rank}, L {L}"
            yield Example(args, {"view": view, "real": real}, note, (("u", "x0"),))
    args = *(a[0] for a in args[:5]), None, 0.2, args[7].real.copy(), None
    yield Example(args, {"view": "scan", "real": False}, "shared by the channels, no D, real u")


register(
    "dplr",
    apply_fwd,
    apply_vjp,
    reference=reference.dplr.apply,
    examples=_examples,
    arguments=NAMES,
)
