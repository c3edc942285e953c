"""Layer norm: every vector of features is centred, brought to unit variance, scaled and shifted.

    y = (x - mean) rstd scale + shift,    rstd = 1 / sqrt(variance + eps)        [NORM-1, 2]

Derivation: docs/derivations/normalisation.md. Kernels: `_norm_kernels`. Cost: one pass over memory
forward, one backward.
"""

from ssm_manual import _validate, reference
from ssm_manual.ops import _norm_kernels
from ssm_manual.ops._norm_kernels import Residuals
from ssm_manual.ops.registry import Example, register

__all__ = ["Residuals", "layer_norm", "layer_norm_fwd", "layer_norm_vjp"]


def layer_norm(x, scale, shift, *, axis=-1, eps=1e-5):
    """``(x - mean) / sqrt(variance + eps) scale + shift`` over one axis [NORM-1].

    Parameters
    ----------
    x : array_like
        Real, (..., n) or, with ``axis=-2``, (..., n, L): features before time.
    scale, shift : array_like
        (n,).
    axis : int
        The axis of the features, -1 or -2.
    eps : float
        Added to the variance, at least 0; in the unit of x squared.

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
    The variance is the mean of squares around the mean (divided by n, not by n - 1). A mean far
    larger than the spread costs no digits: the mean is carried in double precision and the variance
    is taken around it. In single precision numbers above 1e18 overflow when squared. Saved for the
    backward pass: x, not copied where it is contiguous, and two numbers in double precision for
    every vector.

    References
    ----------
    Ba, Kiros and Hinton (2016), Layer normalization, eq. 4.

    Examples
    --------
    >>> layer_norm([[1.0, 3.0]], [1.0, 1.0], [0.0, 10.0], eps=0.0).tolist()
    [[-1.0, 11.0]]
    """
    return layer_norm_fwd(x, scale, shift, axis=axis, eps=eps)[0]


@_validate.sound("y")
def layer_norm_fwd(x, scale, shift, *, axis=-1, eps=1e-5):
    """`layer_norm` and its residuals."""
    return _norm_kernels.forward(x, scale, shift, axis, eps, True)


@_validate.sound("grad_x", "grad_scale", "grad_shift")
def layer_norm_vjp(residuals, grad_y):
    """Gradients to x [NORM-5], scale [NORM-6] and shift [NORM-7]."""
    return _norm_kernels.backward(residuals, grad_y)


def _examples(rng):
    for shape, axis in [((2, 5), -1), ((7,), -1), ((3, 4, 17), -2), ((2, 3, 1), -2), ((9, 2), -2)]:
        x, n = 1 + rng.standard_normal(shape), shape[axis]
        args = x, rng.standard_normal(n), rng.standard_normal(n)
        yield Example(args, {"axis": axis}, f"shape {shape}, axis {axis}", (("scale", "shift"),))
    x = rng.standard_normal((2, 3, 4))
    args = x, rng.standard_normal(4), rng.standard_normal(4)
    yield Example(args, {"eps": 0.5}, "a large eps", (("scale", "shift"),))


register(
    "layer_norm",
    layer_norm_fwd,
    layer_norm_vjp,
    reference=reference.layer_norm.layer_norm,
    examples=_examples,
    arguments=("x", "scale", "shift"),
)
