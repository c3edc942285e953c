"""The kernel of a diagonal channel: its modes summed.

`kernel_by_generating_function` and `periodic_kernel` are for comparison alone: no op uses them.
"""

import numpy as np

from ssm_manual.reference import kernels


def kernel(A_bar, B_bar, C, length, *, real=True):
    """``K_t = 2 Re sum_n C_n A_n^t B_n``, or the complex sum itself."""
    K = np.sum(kernels.generate(A_bar, B_bar, C, length), axis=-2)
    return 2 * np.real(K) if real else K


def kernel_vjp(A_bar, B_bar, C, length, grad_K, *, real=True):
    """Gradients to A_bar, B_bar and C [VAND-2]: every mode sees the cotangent, doubled if real."""
    gain = 2 if real else 1
    return kernels.generate_vjp(A_bar, B_bar, C, length, gain * grad_K[..., None, :])


def kernel_from_exponent(dtA, B_bar, C, length, *, real=True):
    """``K_l = 2 Re sum_n C_n B_n exp(l dtA_n)`` [VAND-7]: every exponential on its own."""
    weight, dtA, _ = np.broadcast_arrays(C * B_bar, dtA, C)
    K = np.sum(weight[..., None] * np.exp(dtA[..., None] * np.arange(length)), axis=-2)
    return 2 * np.real(K) if real else K


def kernel_from_exponent_vjp(dtA, B_bar, C, length, grad_K, *, real=True):
    """Gradients to dtA, B_bar and C: l is the derivative of the exponent l dtA."""
    dtA, B, C = (a[..., None] for a in np.broadcast_arrays(dtA, B_bar, C))
    g = (2 if real else 1) * grad_K[..., None, :]
    l = np.arange(length)
    powers = np.exp(l * dtA)
    grad_dtA = np.sum(g * np.conj(l * C * B * powers), axis=-1)
    grad_B_bar = np.sum(g * np.conj(C * powers), axis=-1)
    grad_C = np.sum(g * np.conj(B * powers), axis=-1)
    return grad_dtA, grad_B_bar, grad_C


def kernel_by_generating_function(A_bar, B_bar, C, length, *, real=True):
    """The kernel from its generating function at the roots of unity [VAND-8], by an inverse FFT.

    Digits are lost in proportion to 1 / |1 - A z|, for poles near a root of unity.
    """
    return _from_samples(A_bar, B_bar, C, length, real, truncated=True)


def periodic_kernel(A_bar, B_bar, C, length, *, real=True):
    """The same without the factor ``1 - A^L``: ``sum_j K_{l + jL}`` for |A| < 1 [VAND-9].

    A published mistake, kept to compare with.
    """
    return _from_samples(A_bar, B_bar, C, length, real, truncated=False)


def _from_samples(A_bar, B_bar, C, length, real, truncated):
    A, weight, _ = np.broadcast_arrays(A_bar, C * B_bar, C)
    A, weight = A[..., None], weight[..., None]
    if length == 0:
        K = np.zeros((*A.shape[:-2], 0), complex)
    else:
        z = np.exp(-2j * np.pi * np.arange(length) / length)
        denominator = 1 - A * z
        if truncated:
            # A pole on a root of unity: (1 - (A z)^L) / (1 - A z) is the sum of L ones.
            on_root = denominator == 0
            ratio = (1 - A**length) / np.where(on_root, 1, denominator)
            ratio = np.where(on_root, length, ratio)
        else:
            ratio = 1 / denominator
        K = np.fft.ifft(np.sum(weight * ratio, axis=-2))
    return 2 * np.real(K) if real else K
