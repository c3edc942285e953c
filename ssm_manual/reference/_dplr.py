"""Diagonal plus low-rank systems as dense matrices, one channel at a time."""

import numpy as np


def shape_of_channels(Lambda, P, Q, *weights, dt):
    """The broadcast shape without modes and ranks."""
    shapes = [np.shape(Lambda)[:-1], np.shape(P)[:-2], np.shape(Q)[:-2], np.shape(dt)]
    return np.broadcast_shapes(*shapes, *(np.shape(w)[:-1] for w in weights))


def channels(Lambda, P, Q, *weights, dt, real):
    """``(Lambda, P, Q, *weights, dt)`` of each channel; of a real system with the conjugates."""
    shape = shape_of_channels(Lambda, P, Q, *weights, dt=dt)
    modes = np.shape(Lambda)[-1:]
    P, Q = (np.broadcast_to(a, shape + np.shape(a)[-2:]) for a in (P, Q))
    Lambda, *weights = (np.broadcast_to(a, shape + modes) for a in (Lambda, *weights))
    dt = np.broadcast_to(dt, shape)
    for i in np.ndindex(shape):
        arrays = [np.asarray(a[i], complex) for a in (Lambda, P, Q, *weights)]
        if real:
            arrays = [np.concatenate([a, a.conj()], axis=-1) for a in arrays]
        yield *arrays, dt[i]


def dense(Lambda, P, Q):
    """``A = diag(Lambda) - sum_j P_j Q_j^*``."""
    A = np.diag(Lambda).astype(complex)
    for p, q in zip(P, Q):
        A -= np.outer(p, q.conj())
    return A


def tustin(A, B, dt):
    """``A_bar = (I - dt A / 2)^-1 (I + dt A / 2)`` and ``B_bar = (I - dt A / 2)^-1 dt B``."""
    I = np.eye(len(A))
    inverse = np.linalg.inv(I - dt / 2 * A)
    return inverse @ (I + dt / 2 * A), inverse @ (dt * B)


def tustin_vjp(A, B, dt, grad_A_bar, grad_B_bar):
    """Gradients to A, B and dt: ``d inverse = inverse d(dt A / 2) inverse``."""
    inverse = np.linalg.inv(np.eye(len(A)) - dt / 2 * A)
    grad_inverse = 2 * grad_A_bar + np.outer(grad_B_bar, (dt * B).conj())
    grad_half = inverse.conj().T @ grad_inverse @ inverse.conj().T  # to dt A / 2
    to_dt_B = inverse.conj().T @ grad_B_bar
    grad_dt = np.sum(grad_half * A.conj()).real / 2 + np.sum(to_dt_B * B.conj()).real
    return dt / 2 * grad_half, dt * to_dt_B, grad_dt


def dense_vjp(P, Q, grad_A):
    """Gradients to Lambda, P and Q."""
    grad_P = np.array([-grad_A @ q for q in Q]).reshape(P.shape)
    grad_Q = np.array([-grad_A.conj().T @ p for p in P]).reshape(Q.shape)
    return np.diag(grad_A), grad_P, grad_Q


def fold(grad, real):
    """Of a real system: the gradient to a stored number is felt by its conjugate as well."""
    if not real:
        return grad
    N = grad.shape[-1] // 2
    return grad[..., :N] + grad[..., N:].conj()
