"""The kernel of a diagonal channel, its modes summed: a Vandermonde product.

    K_t = 2 Re sum_n C_n A_n^t B_n      (complex output: sum_n C_n A_n^t B_n)       [VAND-1]

The powers run along time for all modes at once; the (modes x time) matrix is never formed.
Backward, the two moments of [KERNEL-5] per mode, by Horner's rule [VAND-2]. Derivation:
docs/derivations/vandermonde.md. Cost: O(N L) a channel, forward and backward.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual._numba import FLUSH_EVERY, flushed, jit, project
from ssm_manual.ops._examples import complex_normal, discrete_poles
from ssm_manual.ops.registry import Example, register

__all__ = ["kernel", "kernel_fwd", "kernel_vjp"]


def kernel(A_bar, B_bar, C, length, *, real=True):
    """``K_t = 2 Re sum_n C_n A_n^t B_n`` for t = 0, ..., length - 1 [VAND-1].

    Parameters
    ----------
    A_bar, B_bar, C : array_like
        Discrete poles, input and output weights; they broadcast to a common shape S + (N,), modes
        last.
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

    Examples
    --------
    >>> kernel([0.5, 0.5], [1.0, 1.0], [0.25, 0.25], 3)
    array([1.  , 0.5 , 0.25])
    """
    return kernel_fwd(A_bar, B_bar, C, length, real=real)[0]


class Residuals(NamedTuple):
    """What the backward pass needs; powers are run again rather than kept."""

    A: np.ndarray  # (rows, N) complex, contiguous
    arguments: tuple  # (A_bar, B_bar, C), for their shapes and values
    K_like: np.ndarray  # the output's shape and dtype, owning no memory
    real: bool


def kernel_fwd(A_bar, B_bar, C, length, *, real=True):
    """`kernel` and its residuals."""
    _validate.flag("real", real)
    A_bar, B_bar, C = _validate.arrays(A_bar=A_bar, B_bar=B_bar, C=C)
    shape = _validate.broadcast(A_bar=A_bar, B_bar=B_bar, C=C)
    if len(shape) == 0 or shape[-1] == 0:
        raise ValueError(
            f"A_bar, B_bar and C have the common shape {shape}; it must be S + (N,), N at least 1"
        )
    length = _validate.integer("length", length, minimum=0)
    complex_dtype = np.result_type(A_bar.dtype, np.complex64)
    A, B, c = (
        np.array(np.broadcast_to(a, shape), complex_dtype, order="C").reshape(-1, shape[-1])
        for a in (A_bar, B_bar, C)
    )
    dtype = A.real.dtype if real else A.dtype
    K = np.empty((A.shape[0], length), dtype)
    _sum_modes(A, (2 * B if real else B) * c, K)  # the 2 of [VAND-1], once
    K = K.reshape(*shape[:-1], length)
    K_like = _validate.stand_in(K.shape, dtype)
    return K, Residuals(A, (A_bar, B_bar, C), K_like, bool(real))


def kernel_vjp(residuals, grad_K):
    """Gradients to A_bar, B_bar and C [VAND-2]; None for the length."""
    A, (A_bar, B_bar, C), K_like, real = residuals
    grad_K = _validate.plain(_validate.cotangent("grad_K", grad_K, K_like))
    m0, m1 = np.empty_like(A), np.empty_like(A)
    _moments_of_modes(A, grad_K.reshape(A.shape[0], K_like.shape[-1]), m0, m1)
    shape = np.broadcast_shapes(A_bar.shape, B_bar.shape, C.shape)
    gain = A.real.dtype.type(2 if real else 1)
    m0, m1 = (gain * m.reshape(shape) for m in (m0, m1))
    return (
        _validate.unbroadcast(np.conj(C * B_bar) * m1, A_bar),  # [VAND-2]
        _validate.unbroadcast(np.conj(C) * m0, B_bar),
        _validate.unbroadcast(np.conj(B_bar) * m0, C),
        None,
    )


@jit
def _sum_modes(A, weight, K):
    rows, N = A.shape
    value = np.empty(N, np.complex128)
    a = np.empty(N, np.complex128)
    for row in range(rows):
        value[:] = weight[row]
        a[:] = A[row]
        for t in range(K.shape[1]):
            if t % FLUSH_EVERY == 0:
                for n in range(N):
                    value[n] = flushed(value[n])
            total = complex(0)
            for n in range(N):
                total += value[n]  # [VAND-1]
                value[n] = value[n] * a[n]
            K[row, t] = project(total, K)


@jit
def _moments_of_modes(A, grad_K, m0, m1):
    rows, N = A.shape
    for row in range(rows):
        h, d = np.zeros(N, np.complex128), np.zeros(N, np.complex128)
        w = np.conj(A[row]).astype(np.complex128)
        for t in range(grad_K.shape[1] - 1, -1, -1):
            g = grad_K[row, t]
            for n in range(N):
                d[n] = h[n] + w[n] * d[n]  # [KERNEL-8]
                h[n] = g + w[n] * h[n]
            if t % FLUSH_EVERY == 0:
                for n in range(N):
                    h[n], d[n] = flushed(h[n]), flushed(d[n])
        m0[row], m1[row] = h, d


def _examples(rng):
    draw = partial(complex_normal, rng)
    poles = partial(discrete_poles, rng)
    linear = (("B_bar",), ("C",))
    for real in (True, False):
        for H, N, L in [(1, 1, 1), (2, 4, 2), (3, 7, 17), (2, 4, 64)]:
            args = poles(H, N), draw(H, N), draw(H, N), L
            yield Example(args, {"real": real}, f"real={real}, H {H}, N {N}, L {L}", linear)
        args = poles(4), draw(1, 4), draw(2, 3, 4), 9
        yield Example(args, {"real": real}, f"real={real}, broadcast", linear)
    args = poles(1, 2, low=0.99), draw(1, 2), draw(1, 2), 1047
    yield Example(args, {"real": True}, "L 1047, |A_bar| in [0.99, 1)", linear)


register(
    "vandermonde",
    kernel_fwd,
    kernel_vjp,
    reference=reference.vandermonde.kernel,
    examples=_examples,
    arguments=("A_bar", "B_bar", "C", "length"),
)
