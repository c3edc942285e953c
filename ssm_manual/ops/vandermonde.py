"""The kernel of a diagonal channel, its modes summed: a Vandermonde product.

    K_l = 2 Re sum_n C_n A_n^l B_n      (complex output: sum_n C_n A_n^l B_n)       [VAND-1]

One op takes the discrete poles A, the other their logarithms ``dtA``, which a model with continuous
parameters has at first hand. The (modes x time) matrix of powers is never formed: with l = j M + k
it is the product of two short tables, and the sum over the modes a product of two small real
matrices [VAND-4]; backward, the two moments of [VAND-2] come by the same split [VAND-5].
Derivation: docs/derivations/vandermonde.md. Kernels: `_vandermonde_rows`. Cost: O(N L) products
a channel at the speed of a matrix product, O((L / M + M) N) table entries, M about sqrt(L); forward
and backward.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import _vandermonde_rows as _rows
from ssm_manual.ops._examples import complex_normal, discrete_poles
from ssm_manual.ops.registry import Example, register

__all__ = [
    "kernel",
    "kernel_from_exponent",
    "kernel_from_exponent_fwd",
    "kernel_from_exponent_vjp",
    "kernel_fwd",
    "kernel_vjp",
]

#: Largest imaginary part of an exponent: up to here it is reduced to one turn without loss.
LARGEST_PHASE = 2.0**40


def kernel(A_bar, B_bar, C, length, *, real=True):
    """``K_l = 2 Re sum_n C_n A_n^l B_n`` for l = 0, ..., length - 1 [VAND-1].

    Parameters
    ----------
    A_bar, B_bar, C : array_like
        Discrete poles, input and output weights (no unit); they broadcast to a common shape
        S + (N,), modes last. Any finite pole.
    length : int
        Number of samples, at least 0.
    real : bool
        True: one pole of each conjugate pair is stored, K is twice the real part. False: K is the
        complex sum.

    Returns
    -------
    K : ndarray
        Shape S + (length,); real or complex.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, or ``length`` is negative.

    Notes
    -----
    Error: a few units of the working precision, and a few more for the sum over the modes, relative
    to ``sum_n |C_n B_n A_n^l|``; it does not grow with l [VAND-6]. Memory beside K: the tables of
    one channel a thread. Channels are shared out among threads, with the same bits for any number
    of them; K of another length may differ in the last bits. While the call lasts, BLAS runs on one
    thread in the whole process. Where a power of an unstable pole leaves the range of a double, K
    is infinite, or refused where it would be NaN.

    Examples
    --------
    >>> kernel([0.5, 0.5], [1.0, 1.0], [0.25, 0.25], 3)
    array([1.  , 0.5 , 0.25])
    """
    return kernel_fwd(A_bar, B_bar, C, length, real=real)[0]


def kernel_from_exponent(dtA, B_bar, C, length, *, real=True):
    """``K_l = 2 Re sum_n C_n B_n exp(l dtA_n)`` for l = 0, ..., length - 1 [VAND-7].

    The poles are ``exp(dtA)`` (zero-order hold), but never rounded: an error of 2^-53 in A_bar is
    one of l 2^-53 in its l-th power.

    Parameters
    ----------
    dtA : array_like
        Continuous poles times the sampling interval (no unit), imaginary part at most 2^40 in size.
    B_bar, C : array_like
        Discrete input weights and output weights. All three broadcast to a common shape S + (N,).
    length : int
        Number of samples, at least 0.
    real : bool
        True: one pole of each conjugate pair is stored, K is twice the real part. False: K is the
        complex sum.

    Returns
    -------
    K : ndarray
        Shape S + (length,); real or complex.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite or an imaginary part too large, or
        ``length`` is negative.

    Notes
    -----
    Error, memory and threads as of `kernel`.

    Examples
    --------
    >>> import numpy as np
    >>> kernel_from_exponent(np.log([0.5, 0.5]), [1.0, 1.0], [0.25, 0.25], 3)
    array([1.  , 0.5 , 0.25])
    """
    return kernel_from_exponent_fwd(dtA, B_bar, C, length, real=real)[0]


class Residuals(NamedTuple):
    """What the backward pass needs.

    The tables are formed again rather than kept: they would take as much memory as K, and forming
    them is a small part of the work.
    """

    poles: np.ndarray  # (rows, N) complex128, contiguous: what the kernels take
    arguments: tuple  # (A_bar or dtA, B_bar, C), for their shapes and values
    K_like: np.ndarray  # the output's shape and dtype, owning no memory
    real: bool


@_validate.sound("K")
def kernel_fwd(A_bar, B_bar, C, length, *, real=True):
    """`kernel` and its residuals."""
    return _forward({"A_bar": A_bar, "B_bar": B_bar, "C": C}, length, real)


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_C", "grad_length")
def kernel_vjp(residuals, grad_K):
    """Gradients to A_bar, B_bar and C [VAND-2]; None for the length."""
    return _backward(residuals, grad_K, is_exponent=False)


@_validate.sound("K")
def kernel_from_exponent_fwd(dtA, B_bar, C, length, *, real=True):
    """`kernel_from_exponent` and its residuals."""
    return _forward({"dtA": dtA, "B_bar": B_bar, "C": C}, length, real)


@_validate.sound("grad_dtA", "grad_B_bar", "grad_C", "grad_length")
def kernel_from_exponent_vjp(residuals, grad_K):
    """Gradients to dtA [VAND-7], B_bar and C [VAND-2]; None for the length."""
    return _backward(residuals, grad_K, is_exponent=True)


def _forward(given, length, real):
    _validate.flag("real", real)
    arguments = _validate.arrays(**given)
    names = dict(zip(given, arguments))
    shape = _validate.broadcast(**names)
    if len(shape) == 0 or shape[-1] == 0:
        pole = next(iter(given))
        raise ValueError(
            f"{pole}, B_bar and C have the common shape {shape}; it must be S + (N,), N at least 1"
        )
    if "dtA" in names and np.any(np.abs(names["dtA"].imag) > LARGEST_PHASE):
        largest = float(np.max(np.abs(names["dtA"].imag)))
        raise ValueError(f"dtA has an imaginary part of {largest:g}; it must be at most 2^40")
    length = _validate.length("length", length, minimum=0)
    poles, B, c = (
        np.array(np.broadcast_to(a, shape), np.complex128, order="C").reshape(-1, shape[-1])
        for a in arguments
    )
    dtype = np.result_type(arguments[0].dtype, np.float32 if real else np.complex64)
    dtype = dtype.type(0).real.dtype if real else dtype
    K = np.empty((*shape[:-1], length), dtype)
    rows = K.reshape(poles.shape[0], length).view(K.real.dtype)
    # the 2 of [VAND-1], once
    _rows.sum_modes(poles, "dtA" in names, (2 * B if real else B) * c, 1 if real else 2, rows)
    return K, Residuals(poles, tuple(arguments), _validate.stand_in(K.shape, dtype), bool(real))


def _backward(residuals, grad_K, is_exponent):
    poles, (pole, B_bar, C), K_like, real = residuals
    grad_K = _validate.plain(_validate.cotangent("grad_K", grad_K, K_like))
    m0, m1 = np.empty_like(poles), np.empty_like(poles)
    g = grad_K.reshape(poles.shape[0], K_like.shape[-1]).view(grad_K.real.dtype)
    _rows.moments(poles, is_exponent, g, 1 if real else 2, m0, m1)
    shape = np.broadcast_shapes(pole.shape, B_bar.shape, C.shape)
    gain = 2 if real else 1
    m0, m1 = (gain * m.reshape(shape) for m in (m0, m1))
    B, c = B_bar.astype(complex), C.astype(complex)
    return (
        _as_given(np.conj(c * B) * m1, pole),  # [VAND-2], [VAND-7]
        _as_given(np.conj(c) * m0, B_bar),
        _as_given(np.conj(B) * m0, C),
        None,
    )


def _as_given(grad, like):
    """In the shape and dtype of the argument; double precision until the sums are taken."""
    with np.errstate(over="ignore"):  # infinite, as K itself is where poles outside make it so
        return _validate.unbroadcast(grad, like).astype(like.dtype)


def _examples(rng, pole=lambda A: A):
    draw = partial(complex_normal, rng)
    poles = partial(discrete_poles, rng)
    linear = (("B_bar",), ("C",))
    for real in (True, False):
        for H, N, L in [(1, 1, 1), (2, 4, 2), (3, 7, 17), (2, 4, 64), (1, 3, 101)]:
            args = pole(poles(H, N)), draw(H, N), draw(H, N), L
            yield Example(args, {"real": real}, f"real={real}, H {H}, N {N}, L {L}", linear)
        args = pole(poles(4)), draw(1, 4), draw(2, 3, 4), 9
        yield Example(args, {"real": real}, f"real={real}, broadcast", linear)
        A, B = rng.uniform(0.5, 1, (2, 3)), rng.standard_normal(3)
        yield Example((pole(A), B, draw(2, 3), 30), {"real": real}, f"real={real}, real A", linear)
    args = pole(poles(1, 2, low=0.99)), draw(1, 2), draw(1, 2), 1047
    yield Example(args, {"real": True}, "L 1047, |A_bar| in [0.99, 1)", linear)
    args = pole(poles(2, 32, low=0.99)), draw(2, 32), draw(2, 32), 1047
    yield Example(args, {"real": True}, "H 2, N 32, L 1047, |A_bar| in [0.99, 1)", linear)


register(
    "vandermonde",
    kernel_fwd,
    kernel_vjp,
    reference=reference.vandermonde.kernel,
    examples=_examples,
    arguments=("A_bar", "B_bar", "C", "length"),
)
register(
    "vandermonde_from_exponent",
    kernel_from_exponent_fwd,
    kernel_from_exponent_vjp,
    reference=reference.vandermonde.kernel_from_exponent,
    examples=partial(_examples, pole=np.log),
    arguments=("dtA", "B_bar", "C", "length"),
)
