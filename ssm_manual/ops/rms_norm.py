"""RMS norm: every vector of features is divided by its root mean square, then scaled.

    y = x rstd scale,    rstd = 1 / sqrt(mean(x^2) + eps)          [NORM-3]

Layer norm without its mean. Derivation: docs/derivations/normalisation.md. Kernels:
`_norm_kernels`. Cost: one pass over memory forward, one backward.
"""

from ssm_manual import _validate, reference
from ssm_manual.ops import _norm_kernels
from ssm_manual.ops._norm_kernels import Residuals
from ssm_manual.ops.registry import Example, register

__all__ = ["Residuals", "rms_norm", "rms_norm_fwd", "rms_norm_vjp"]


def rms_norm(x, scale, *, axis=-1, eps=1e-5):
    """``x / sqrt(mean(x^2) + eps) scale`` over one axis [NORM-3].

    Parameters
    ----------
    x : array_like
        Real, (..., n) or, with ``axis=-2``, (..., n, L): features before time.
    scale : array_like
        (n,).
    axis : int
        The axis of the features, -1 or -2.
    eps : float
        Added to the mean square, at least 0; in the unit of x squared.

    Returns
    -------
    ndarray
        Of the shape and precision of x.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite or an option is out of range.

    Notes
    -----
    In single precision numbers above 1e18 overflow when squared. Saved for the backward pass: x,
    not copied where it is contiguous, and two numbers for every vector.

    References
    ----------
    Zhang and Sennrich (2019), Root mean square layer normalization, eq. 4; there without eps.

    Examples
    --------
    >>> rms_norm([[3.0, 4.0]], [1.0, 2.0], eps=0.0).round(4).tolist()
    [[0.8485, 2.2627]]
    """
    return rms_norm_fwd(x, scale, axis=axis, eps=eps)[0]


@_validate.sound("y")
def rms_norm_fwd(x, scale, *, axis=-1, eps=1e-5):
    """`rms_norm` and its residuals."""
    return _norm_kernels.forward(x, scale, None, axis, eps, False)


@_validate.sound("grad_x", "grad_scale")
def rms_norm_vjp(residuals, grad_y):
    """Gradients to x [NORM-5] and scale [NORM-6]."""
    return _norm_kernels.backward(residuals, grad_y)[:2]


def _examples(rng):
    for shape, axis in [((2, 5), -1), ((7,), -1), ((3, 4, 17), -2), ((2, 3, 1), -2), ((9, 2), -2)]:
        args = 1 + rng.standard_normal(shape), rng.standard_normal(shape[axis])
        yield Example(args, {"axis": axis}, f"shape {shape}, axis {axis}", (("scale",),))
    args = rng.standard_normal((2, 3, 4)), rng.standard_normal(4)
    yield Example(args, {"eps": 0.5}, "a large eps", (("scale",),))


register(
    "rms_norm",
    rms_norm_fwd,
    rms_norm_vjp,
    reference=reference.rms_norm.rms_norm,
    examples=_examples,
    arguments=("x", "scale"),
)
