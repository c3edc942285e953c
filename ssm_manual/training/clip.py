"""Elementwise clipping of gradients: no number of an update is larger than a limit."""

import numpy as np

from ssm_manual import _validate

__all__ = ["clip_elementwise"]


def clip_elementwise(grads, limit):
    """``g <- min(max(g, -limit), limit)`` for every real number of the gradients, in place.

    Real and imaginary part are numbers of their own, as an optimiser sees them. The direction of
    the update changes where numbers differ in what is cut off; its signs do not. NaN stays NaN:
    clipping must not hide it. Infinity becomes the limit.

    Parameters
    ----------
    grads : dict of ndarray
        By parameter, floating-point, real or complex, writeable; changed in place.
    limit : float
        Greater than 0.

    Returns
    -------
    int
        How many numbers were cut off.

    Raises
    ------
    ValueError
        If the limit is not positive, or a gradient is no writeable floating-point array; then
        nothing has been changed.

    References
    ----------
    T. Mikolov (2012), "Statistical language models based on neural networks", section 3.2.2.

    Examples
    --------
    >>> grads = {"A": np.array([3.0, -0.5]), "C": np.array([0.5 - 8j])}
    >>> clip_elementwise(grads, 1.0)
    2
    >>> grads
    {'A': array([ 1. , -0.5]), 'C': array([0.5-1.j])}
    """
    limit = _validate.real_number("limit", limit, above=0)
    if not isinstance(grads, dict):
        raise ValueError(f"grads is {_validate.show(grads)}; it must be a dict of arrays")
    for name, g in grads.items():
        if not (isinstance(g, np.ndarray) and g.dtype.kind in "fc" and g.flags.writeable):
            raise ValueError(
                f"grads[{name!r}] is {_validate.show(g)}; it must be a writeable array of "
                "floating-point numbers"
            )
    count = 0
    for g in grads.values():
        for part in (g.real, g.imag) if g.dtype.kind == "c" else (g,):
            count += int(np.count_nonzero(np.abs(part) > limit))
            np.clip(part, -limit, limit, out=part)
    return count
