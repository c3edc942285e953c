"""Causal convolution, by direct sums or by transforms.

    y_t = sum_{j <= t} K_j u_{t-j}                     [CONV-1]

Backward, two correlations:

    grad_u_t = sum_j conj(K_j) g_{t+j}                 [CONV-3]
    grad_K_j = sum_t g_t conj(u_{t-j})                 [CONV-4]

Derivation: docs/derivations/convolution.md.

Design: direct sums are exact to rounding and cheap while a kernel is short; beyond, transforms
padded to at least 2 L - 1 samples, so that the circular convolution has room for the linear one
[CONV-2]. The adjoint of "pad, transform, multiply, cut" is "pad, transform, multiply by the
conjugate, cut"; it is not the inverse transform of anything.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.fft

from ssm_manual import _validate, reference
from ssm_manual._numba import jit, threads
from ssm_manual.ops._examples import complex_normal
from ssm_manual.ops.registry import Example, register

__all__ = ["causal", "causal_fwd", "causal_vjp"]

METHODS = ("auto", "direct", "fft")

#: Kernels up to this length are convolved directly: measured, both ways take equally long at one to
#: two hundred samples, by the number of rows.
DIRECT_UP_TO = 96


def causal(u, K, *, method="auto"):
    """``y_t = sum_{j <= t} K_j u_{t-j}`` along the last axis [CONV-1].

    Parameters
    ----------
    u : array_like
        Input, (..., L), real or complex; L may be 0.
    K : array_like
        Kernel, (..., M), real or complex, M at least 1; samples beyond L have no effect. The
        leading axes broadcast against u's: a kernel (H, M) beside an input (batch, H, L) is shared
        by the batch.
    method : {"auto", "direct", "fft"}
        Direct sums cost O(L M), transforms O(L log L). ``auto`` takes the cheaper.

    Returns
    -------
    y : ndarray
        (..., L), complex if an argument is.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite or ``method`` is unknown.

    Notes
    -----
    With transforms, the rounding error is relative to the largest output of the row, not to each
    sample.

    Examples
    --------
    >>> causal([1.0, 0.0, 2.0], [1.0, 0.5, 0.25])
    array([1.  , 0.5 , 2.25])
    """
    return causal_fwd(u, K, method=method)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    u: np.ndarray
    K: np.ndarray
    # The spectra, two of the five transforms of a step; None where the sums were direct.
    u_hat: np.ndarray | None
    K_hat: np.ndarray | None
    y_like: np.ndarray


@_validate.sound("y")
def causal_fwd(u, K, *, method="auto"):
    """`causal` and its residuals."""
    u, K = _validate.arrays(u=u, K=K)
    _validate.one_of("method", method, METHODS)
    if u.ndim == 0 or K.ndim == 0 or K.shape[-1] == 0:
        raise ValueError(
            f"u has shape {u.shape} and K {K.shape}; both must have a time axis, K's not empty"
        )
    try:
        leading = np.broadcast_shapes(u.shape[:-1], K.shape[:-1])
    except ValueError:
        raise ValueError(
            f"u has shape {u.shape} and K {K.shape}; the axes before time must broadcast"
        ) from None
    L, M = u.shape[-1], min(K.shape[-1], u.shape[-1])
    dtype = np.result_type(u, K)
    y_like = _validate.stand_in((*leading, L), dtype)
    if method == "direct" or (method == "auto" and M <= DIRECT_UP_TO) or L == 0:
        y = np.zeros((*leading, L), dtype)
        _direct(_rows(u, leading), _rows(K[..., :M], leading), _rows(y, leading))
        return y, Residuals(u, K, None, None, y_like)
    size = scipy.fft.next_fast_len(L + M - 1, real=dtype.kind != "c")  # [CONV-2]
    u_hat, K_hat = _transform(u, size, dtype), _transform(K[..., :M], size, dtype)
    y = np.ascontiguousarray(_inverse(u_hat * K_hat, size, dtype)[..., :L])
    return y, Residuals(u, K, u_hat, K_hat, y_like)


@_validate.sound("grad_u", "grad_K")
def causal_vjp(residuals, grad_y):
    """Gradients to u [CONV-3] and K [CONV-4]."""
    u, K, u_hat, K_hat, y_like = residuals
    g = _validate.cotangent("grad_y", grad_y, y_like)
    leading, dtype = y_like.shape[:-1], y_like.dtype
    L, M = u.shape[-1], min(K.shape[-1], u.shape[-1])
    if u_hat is None:
        grad_u = np.zeros((*leading, L), dtype)
        grad_K = np.zeros((*leading, M), dtype)
        inputs = (_rows(a, leading) for a in (u, K[..., :M], g))
        _direct_vjp(*inputs, _rows(grad_u, leading), _rows(grad_K, leading))
        grad_u, grad_K = _sum_to(grad_u, u), _sum_to(grad_K, K)
    else:
        size = scipy.fft.next_fast_len(L + M - 1, real=dtype.kind != "c")
        g_hat = _transform(g, size, dtype)
        # Broadcast axes are summed before the inverse transform: one row instead of a batch of
        # them. [CONV-5]
        grad_u = _inverse(_sum_to(np.conj(K_hat) * g_hat, u), size, dtype)[..., :L]
        grad_K = _inverse(_sum_to(np.conj(u_hat) * g_hat, K), size, dtype)[..., :M]
    full_K = np.zeros((*grad_K.shape[:-1], K.shape[-1]), dtype)  # samples beyond L have no effect
    full_K[..., :M] = grad_K
    return _validate.unbroadcast(grad_u, u), _validate.unbroadcast(full_K, K)


def _transform(a, size, dtype):
    transform = scipy.fft.fft if dtype.kind == "c" else scipy.fft.rfft
    return transform(a, size, axis=-1, workers=_workers(a.size))


def _inverse(spectrum, size, dtype):
    transform = scipy.fft.ifft if dtype.kind == "c" else scipy.fft.irfft
    return transform(spectrum, size, axis=-1, workers=_workers(spectrum.size))


def _workers(size):
    """Threads for a transform; each row is transformed by itself, so the bits do not change."""
    return threads() if size >= 1 << 16 else 1


def _rows(a, leading):
    """``a`` broadcast to the leading axes, as contiguous rows; a view where it is that already."""
    if a.shape[:-1] != leading:
        a = np.broadcast_to(a, (*leading, a.shape[-1]))
    return _validate.plain(a).reshape(math.prod(leading), a.shape[-1])


def _sum_to(a, like):
    """Sum over the leading axes along which ``like`` was broadcast [COMPLEX-5]."""
    extra = a.ndim - like.ndim
    axes = tuple(range(extra)) + tuple(
        extra + i for i in range(like.ndim - 1) if like.shape[i] == 1 and a.shape[extra + i] != 1
    )
    if not axes:
        return a
    summed = a.sum(axis=axes)
    return summed.reshape(*like.shape[:-1], a.shape[-1])


@jit
def _direct(u, K, y):
    rows, L = u.shape
    for row in range(rows):
        for j in range(K.shape[1]):
            for t in range(j, L):
                y[row, t] += K[row, j] * u[row, t - j]  # [CONV-1]


@jit
def _direct_vjp(u, K, g, grad_u, grad_K):
    rows, L = u.shape
    for row in range(rows):
        for j in range(K.shape[1]):
            weight = K[row, j].conjugate()
            total = grad_K.dtype.type(0)
            for t in range(j, L):
                grad_u[row, t - j] += weight * g[row, t]  # [CONV-3]
                total += g[row, t] * u[row, t - j].conjugate()  # [CONV-4]
            grad_K[row, j] = total


def _examples(rng):
    draw = partial(complex_normal, rng)
    linear = (("u",), ("K",))
    for method in ("direct", "fft"):
        for L in (1, 2, 3, 17, 64):
            args = rng.standard_normal((3, 2, L)), rng.standard_normal((2, L))
            yield Example(args, {"method": method}, f"real, {method}, L {L}", linear)
        args = draw(2, 3, 33), draw(3, 33)
        yield Example(args, {"method": method}, f"complex, {method}", linear)
        args = rng.standard_normal((2, 3, 21)), draw(1, 7)
        yield Example(args, {"method": method}, f"real u, short complex K, {method}", linear)
        args = draw(9), rng.standard_normal((4, 30))
        yield Example(args, {"method": method}, f"complex u, long real K, {method}", linear)
    args = rng.standard_normal((1, 1047)), rng.standard_normal((1, 1047))
    yield Example(args, {"method": "fft"}, "real, fft, L 1047", linear)


register(
    "causal",
    causal_fwd,
    causal_vjp,
    reference=lambda u, K, method="auto": reference.causal.causal(u, K),
    examples=_examples,
    arguments=("u", "K"),
)
