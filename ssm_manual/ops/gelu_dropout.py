"""``dropout(gelu(x))`` in one pass over memory, with one array saved.

    y = m x Phi(x),    grad_x = m (Phi(x) + x phi(x)) g          [DROPOUT-5]

Apart, the two would write and read the array between them, forward and backward.
Derivation: docs/derivations/dropout.md.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import _pointwise
from ssm_manual.ops import dropout as _dropout
from ssm_manual.ops.registry import Example, register

__all__ = ["gelu_dropout", "gelu_dropout_fwd", "gelu_dropout_vjp"]


def gelu_dropout(x, *, rate, seed, tied=False):
    """``y = m x Phi(x)``, the same numbers as ``dropout(gelu(x), ...)`` [DROPOUT-5].

    Parameters
    ----------
    x : array_like
        Real, any shape; with ``tied`` at least one axis, the last of which is time.
    rate : float
        Probability that a number is dropped, at least 0 and less than 1.
    seed : int or None
        At least 0 and less than 2^64. None is evaluation: no mask.
    tied : bool
        Whether all times of a channel share one value of the mask.

    Returns
    -------
    ndarray
        Of the shape and precision of x.

    Raises
    ------
    ValueError
        If x is complex or not finite, or an option is out of range.

    Notes
    -----
    Saved for the backward pass: x, not copied where it is contiguous, and the options.

    Examples
    --------
    >>> gelu_dropout([-1.0, 0.0, 1.0], rate=0.5, seed=None).round(4).tolist()
    [-0.1587, 0.0, 0.8413]
    """
    return gelu_dropout_fwd(x, rate=rate, seed=seed, tied=tied)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    x: np.ndarray  # the input; the mask, Phi and phi are formed again
    mask: _dropout.Options


@_validate.sound("y")
def gelu_dropout_fwd(x, *, rate, seed, tied=False):
    """`gelu_dropout` and its residuals."""
    x = _pointwise.argument(x)
    chosen = _dropout.options(x, rate, seed, tied)
    return _pointwise.forward(_pointwise.GELU, x, _dropout.mask(x, chosen)), Residuals(x, chosen)


@_validate.sound("grad_x")
def gelu_dropout_vjp(residuals, grad_y):
    """The gradient to x [DROPOUT-5]."""
    x, chosen = residuals
    return (_pointwise.backward(_pointwise.GELU, x, grad_y, _dropout.mask(x, chosen)),)


def _examples(rng):
    x = rng.standard_normal((3, 2, 17))
    for chosen in [
        {"rate": 0.3, "seed": 5},
        {"rate": 0.5, "seed": 2, "tied": True},
        {"rate": 0.3, "seed": None},
    ]:
        yield Example((x,), chosen, str(chosen))


register(
    "gelu_dropout",
    gelu_dropout_fwd,
    gelu_dropout_vjp,
    reference=reference.gelu_dropout.gelu_dropout,
    examples=_examples,
    arguments=("x",),
)
