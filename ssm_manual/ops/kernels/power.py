"""``A_bar^t`` at any t up to 2^48, by repeated squaring in double-double [ANCHORED-6].

For random access into a kernel, and wherever a single high power is wanted: ``A_bar ** t`` of NumPy
goes through the logarithm and loses a digit for every factor of ten in t. Cost: two products in
double-double for each bit of t, about 0.1 microseconds a bit.
"""

import operator

import numpy as np

from ssm_manual import _validate
from ssm_manual._numba import jit
from ssm_manual.ops._double_double import normalised, product, scales, unit_scaled

__all__ = ["LARGEST", "power"]

#: Beyond it the error of the squarings would exceed that of rounding the result.
LARGEST = 2**48


def power(A_bar, t):
    """``A_bar^t``, elementwise, rounded about as well as the format allows [ANCHORED-6].

    Parameters
    ----------
    A_bar : array_like
        Any finite values, real or complex.
    t : int or array_like of int
        Exponents from 0 to 2^48; ``0^0 = 1``. Both broadcast.

    Returns
    -------
    ndarray or scalar
        Of A_bar's dtype and the common shape; a NumPy scalar if both are scalars. Powers beyond
        the range of the format are infinite or zero.

    Raises
    ------
    ValueError
        If A_bar is not finite or of a wrong dtype, t is not an integer, is negative or beyond 2^48,
        or the shapes do not broadcast.

    Notes
    -----
    The error, relative to ``|A_bar^t|``, is below ``1 + 2^-48 t`` units of 2^-53 (complex64: 1 unit
    of 2^-24). A helper without a gradient of its own: ops that use it know theirs.

    Examples
    --------
    >>> power(0.5, [0, 1, 3])
    array([1.   , 0.5  , 0.125])
    """
    A_bar = _validate.array("A_bar", A_bar)
    t = _exponents(t)
    shape = _validate.broadcast(A_bar=A_bar, t=t)
    A = np.array(np.broadcast_to(A_bar, shape), np.complex128, order="C").reshape(-1)
    out = np.empty_like(A)
    _powers(A, np.array(np.broadcast_to(t, shape), order="C").reshape(-1), out)
    out = out.reshape(shape)
    with np.errstate(over="ignore", under="ignore"):  # in single precision, as in double
        return (out if A_bar.dtype.kind == "c" else out.real).astype(A_bar.dtype)[()]


def _exponents(t):
    """``t`` as an array of int64 within the bounds."""
    if isinstance(t, np.ma.MaskedArray):
        raise ValueError("t is a masked array, whose mask would be ignored; fill it first")
    try:
        exponents = np.asarray(t)
    except ValueError:  # a ragged list
        exponents = np.asarray(None)
    if exponents.ndim > _validate.AXES:
        raise ValueError(f"t has {exponents.ndim} axes; it must have at most {_validate.AXES}")
    if exponents.size == 0:
        return exponents.astype(np.int64)
    try:
        if exponents.dtype.kind not in "iuO":
            raise TypeError
        if exponents.dtype.kind == "O":  # beyond 64 bits, or no integers at all
            exponents = np.vectorize(operator.index, otypes=[object])(exponents)
        found = int(exponents.min()), int(exponents.max())
    except TypeError:
        message = f"t is {_validate.show(t)}; it must be an integer or an array of integers"
        raise ValueError(message) from None
    for e in found:
        if not 0 <= e <= LARGEST:
            raise ValueError(f"t holds {e}; it must be from 0 to 2^48 = {LARGEST}")
    return exponents.astype(np.int64)


@jit
def _powers(A, exponents, out):
    for i in range(A.size):
        base, base_exponent = unit_scaled(A[i])
        value, exponent = (1.0, 0.0, 0.0, 0.0), 0
        t = exponents[i]
        while t > 0:  # [ANCHORED-6]
            if t % 2 == 1:
                value, exponent = normalised(product(value, base), exponent + base_exponent)
            base, base_exponent = normalised(product(base, base), 2 * base_exponent)
            t //= 2
        one, other = scales(exponent)
        out[i] = complex(value[0] * one * other, value[2] * one * other)
