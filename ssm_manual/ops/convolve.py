"""The convolution view: causal convolution, and the operator by its kernel.

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
from typing import NamedTuple

import numpy as np
import scipy.fft

from ssm_manual import _validate, reference
from ssm_manual._numba import jit, threads
from ssm_manual.ops import terminal_state, vandermonde
from ssm_manual.ops._operands import Operands, operands
from ssm_manual.ops.registry import Example, register

__all__ = [
    "causal",
    "causal_fwd",
    "causal_vjp",
    "convolve",
    "convolve_fwd",
    "convolve_vjp",
]

METHODS = ("auto", "direct", "fft")

#: Kernels up to this length are convolved directly: measured, both ways take equally long at about
#: 100 samples.
DIRECT_UP_TO = 96


# ------------------------------------------------------------------------------ causal convolution


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


class CausalResiduals(NamedTuple):
    """What the backward pass needs."""

    u: np.ndarray
    K: np.ndarray
    # The spectra, two of the five transforms of a step; None where the sums were direct.
    u_hat: np.ndarray | None
    K_hat: np.ndarray | None
    y_like: np.ndarray


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
    y_like = np.broadcast_to(np.zeros((), dtype), (*leading, L))
    if method == "direct" or (method == "auto" and M <= DIRECT_UP_TO) or L == 0:
        y = np.zeros((*leading, L), dtype)
        _direct(_rows(u, leading), _rows(K[..., :M], leading), _rows(y, leading))
        return y, CausalResiduals(u, K, None, None, y_like)
    size = scipy.fft.next_fast_len(L + M - 1, real=dtype.kind != "c")  # [CONV-2]
    u_hat, K_hat = _transform(u, size, dtype), _transform(K[..., :M], size, dtype)
    y = np.ascontiguousarray(_inverse(u_hat * K_hat, size, dtype)[..., :L])
    return y, CausalResiduals(u, K, u_hat, K_hat, y_like)


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


# ----------------------------------------------------------------------------- the convolution view


def convolve(A_bar, B_bar, C, D, u, x0=None, *, real=True):
    """``y = causal(u, K) + 2 Re(C A_bar^(t+1) x0) + D u``: the operator by its kernel [CONV-6].

    Parameters
    ----------
    A_bar, B_bar, C : array_like
        Discrete poles, input and output weights, broadcasting to (H, N).
    D : array_like or None
        Feed-through, (H,) or a scalar.
    u : array_like
        Input, (batch, H, L); L may be 0. Real if ``real``.
    x0 : array_like, optional
        State before the first sample, (batch, H, N); None is zero.
    real : bool
        True: ``y = 2 Re(C x) + D u``. False: ``y = C x + D u``, complex.

    Returns
    -------
    y : ndarray
        (batch, H, L).
    x_last : ndarray
        State after the last sample, (batch, H, N).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, or u or D is complex for a real
        output.

    Notes
    -----
    Cost: O(H N L) for the kernel, O(batch H L log L) for the transforms, O(batch H N L) for the
    last state.
    """
    return convolve_fwd(A_bar, B_bar, C, D, u, x0, real=real)[0]


class Residuals(NamedTuple):
    """What the backward pass needs: the residuals of its parts."""

    operands: Operands
    kernel: vandermonde.Residuals
    causal: CausalResiduals
    # the free response of x0, itself a kernel with input weights A_bar x0
    free: vandermonde.Residuals | None
    terminal: terminal_state.Residuals


def convolve_fwd(A_bar, B_bar, C, D, u, x0=None, *, real=True):
    """`convolve` and its residuals."""
    op = operands(A_bar, B_bar, C, D, u, x0, real)
    L = op.u.shape[-1]
    # A kernel of an empty sequence has one sample that nothing reads.
    K, kernel = vandermonde.kernel_fwd(op.A, op.B, op.C, max(L, 1), real=real)
    y, products = causal_fwd(op.u, K)
    y += op.D[:, None] * op.u
    free = None
    if x0 is not None:
        response, free = vandermonde.kernel_fwd(op.A, op.A * op.x0, op.C, L, real=real)
        y += response  # [CONV-6]
    x_last, terminal = terminal_state.terminal_state_fwd(op.A, op.B, op.u, op.x0)
    return (y, x_last), Residuals(op, kernel, products, free, terminal)


def convolve_vjp(residuals, grad_out):
    """Gradients to A_bar, B_bar, C, D, u and x0 from the cotangents of ``(y, x_last)``."""
    op, kernel, products, free, terminal = residuals
    grad_y, grad_x_last = op.cotangents(grad_out)
    grad_u, grad_K = causal_vjp(products, grad_y)
    grad_A, grad_B, grad_C, _ = vandermonde.kernel_vjp(kernel, grad_K)
    for_A, for_B, for_u, grad_x0 = terminal_state.terminal_state_vjp(terminal, grad_x_last)
    grad_A, grad_B, grad_u = grad_A + for_A, grad_B + for_B, grad_u + for_u
    through_D = np.conj(op.D)[:, None] * grad_y
    grad_u = grad_u + (through_D if grad_u.dtype.kind == "c" else through_D.real)  # [COMPLEX-4]
    grad_D = np.sum(grad_y * np.conj(op.u), axis=(0, 2))
    if free is not None:
        for_A, weight, for_C, _ = vandermonde.kernel_vjp(free, grad_y)
        grad_A = grad_A + for_A + np.sum(np.conj(op.x0) * weight, axis=0)  # weight: to A_bar x0
        grad_x0 = grad_x0 + np.conj(op.A) * weight
        grad_C = grad_C + for_C
    return op.pull_back(grad_A, grad_B, grad_C, grad_D, grad_u, grad_x0)


def _causal_examples(rng):
    def complex_normal(*shape):
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    linear = (("u",), ("K",))
    for method in ("direct", "fft"):
        for L in (1, 2, 3, 17, 64):
            args = rng.standard_normal((3, 2, L)), rng.standard_normal((2, L))
            yield Example(args, {"method": method}, f"real, {method}, L {L}", linear)
        args = complex_normal(2, 3, 33), complex_normal(3, 33)
        yield Example(args, {"method": method}, f"complex, {method}", linear)
        args = rng.standard_normal((2, 3, 21)), complex_normal(1, 7)
        yield Example(args, {"method": method}, f"real u, short complex K, {method}", linear)
        args = complex_normal(9), rng.standard_normal((4, 30))
        yield Example(args, {"method": method}, f"complex u, long real K, {method}", linear)
    args = rng.standard_normal((1, 1047)), rng.standard_normal((1, 1047))
    yield Example(args, {"method": "fft"}, "real, fft, L 1047", linear)


register(
    "causal",
    causal_fwd,
    causal_vjp,
    reference=lambda u, K, method="auto": reference.convolve.causal(u, K),
    examples=_causal_examples,
    arguments=("u", "K"),
)


def _view_examples(rng):
    from ssm_manual.ops.scan import _examples

    return _examples(rng)


register(
    "convolve",
    convolve_fwd,
    convolve_vjp,
    reference=reference.scan.scan,
    examples=_view_examples,
    arguments=("A_bar", "B_bar", "C", "D", "u", "x0"),
)
