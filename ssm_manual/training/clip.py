"""Clipping of gradients: every number to a limit, or all by one factor to a global norm."""

import numpy as np

from ssm_manual import _validate

__all__ = ["clip_elementwise", "clip_gradients", "global_norm"]


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
    _check(grads)
    for name, g in grads.items():
        if not g.flags.writeable:
            raise ValueError(f"grads[{name!r}] is read-only; it must be writeable")
    count = 0
    for g in grads.values():
        for part in _parts(g):
            largest = min(limit, float(np.finfo(part.dtype).max))
            count += int(np.count_nonzero(np.abs(part) > largest))
            np.clip(part, -largest, largest, out=part)
    return count


def global_norm(grads):
    """``sqrt(sum over all gradients of |g|^2)`` [OPTIM-7].

    A complex number counts by its modulus, as the two real ones that it is. Sums are taken in
    double precision, in an order that depends on nothing but the shapes.

    Parameters
    ----------
    grads : dict of ndarray
        By name.

    Returns
    -------
    float
        Not finite if an element is not.

    Raises
    ------
    ValueError
        If a gradient is no floating-point array.

    Examples
    --------
    >>> global_norm({"a": np.array([3.0]), "b": np.array([4j])})
    5.0
    """
    _check(grads)
    parts = [part for g in grads.values() for part in _parts(np.asarray(g))]
    with np.errstate(over="ignore", invalid="ignore"):
        total = _squares(parts, 1.0)
        if not 1e-200 < total < np.inf:  # too small or too large to be squared, zero, or NaN
            largest = float(np.max([np.max(np.abs(part), initial=0) for part in parts], initial=0))
            if largest == 0 or not np.isfinite(largest):
                return largest
            scale = 2.0 ** min(1000, -np.frexp(largest)[1])  # a power of two rounds nothing
            return float(np.sqrt(_squares(parts, scale)) / scale)
    return float(np.sqrt(total))


def clip_gradients(grads, max_norm):
    """Gradients scaled by one factor to a global norm of at most ``max_norm`` [OPTIM-7].

    Their direction stays as it was.

    Parameters
    ----------
    grads : dict of ndarray
        By name. Not changed: two names may share an array.
    max_norm : float
        Positive.

    Returns
    -------
    grads : dict of ndarray
        The same arrays where the norm is small enough or not finite.
    norm : float
        The norm before.

    Raises
    ------
    ValueError
        If ``max_norm`` is not positive, or a gradient is no floating-point array.
    """
    max_norm = _validate.real_number("max_norm", max_norm, above=0)
    norm = global_norm(grads)
    if norm > max_norm and np.isfinite(norm):
        grads = {name: np.asarray(g) for name, g in grads.items()}
        grads = {name: g * g.real.dtype.type(max_norm / norm) for name, g in grads.items()}
    return grads, norm


def _check(grads):
    if not isinstance(grads, dict):
        raise ValueError(f"grads is {_validate.show(grads)}; it must be a dict of arrays")
    for name, g in grads.items():
        number = isinstance(g, np.ndarray) and g.dtype.newbyteorder("=") in _validate.FORMATS
        if not number or isinstance(g, np.ma.MaskedArray):
            raise ValueError(
                f"grads[{name!r}] is {_validate.show(g)}; it must be an array of floating-point "
                "numbers"
            )


def _parts(g):
    return (g.real, g.imag) if g.dtype.kind == "c" else (g,)


def _squares(parts, scale):
    # no BLAS: the order of its sums depends on the number of its threads
    return sum(
        float(np.sum(np.square(np.multiply(part, scale, dtype=np.float64)))) for part in parts
    )
