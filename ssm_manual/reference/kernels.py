"""The kernel of one pole, ``K_t = C A_bar^t B_bar``, and its gradient as the defining sums."""

import numpy as np


def generate(A_bar, B_bar, C, length, *, cutoff=0.0):
    """``K_t = C A_bar^t B_bar`` for t = 0 .. length - 1, by a running power [KERNEL-2].

    Samples from the first ``|A_bar|^t < cutoff`` on are zero [KERNEL-11].
    """
    A_bar, B_bar, C = np.broadcast_arrays(A_bar, B_bar, C)
    K = np.zeros((*A_bar.shape, length), np.result_type(A_bar, B_bar, C))
    for index in np.ndindex(A_bar.shape):
        power = 1.0
        for t in range(length):
            if abs(power) < cutoff:
                break
            K[(*index, t)] = C[index] * power * B_bar[index]
            power = power * A_bar[index]
    return K


def generate_vjp(A_bar, B_bar, C, length, grad_K):
    """Gradients with an iota vector for t, [KERNEL-6] and [KERNEL-7] as they stand."""
    t = np.arange(length)
    A, B, C = (np.asarray(a)[..., None] for a in np.broadcast_arrays(A_bar, B_bar, C))
    powers = A**t
    slopes = t * A ** np.maximum(t - 1, 0)
    grad_A_bar = np.sum(grad_K * np.conj(slopes * C * B), axis=-1)
    grad_B_bar = np.sum(grad_K * np.conj(C * powers), axis=-1)
    grad_C = np.sum(grad_K * np.conj(powers * B), axis=-1)
    return grad_A_bar, grad_B_bar, grad_C
