"""Tustin's map of a diagonal-plus-low-rank matrix, one sum at a time."""

import numpy as np


def tustin_dplr(Lambda, P, Q, B, dt, *, real=True):
    """The four factors of ``A_bar`` and ``B_bar``, channel by channel."""
    H = max(np.shape(a)[0] if np.ndim(a) == n else 1 for a, n in _with_axes(Lambda, P, Q, B, dt))
    Lambda, B = (np.broadcast_to(a, (H, np.shape(a)[-1])) for a in (Lambda, B))
    P, Q = (np.broadcast_to(a, (H, *np.shape(a)[-2:])) for a in (P, Q))
    dt = np.broadcast_to(dt, H)
    rank, N = P.shape[1:]
    Lambda_bar, B_bar = np.zeros((H, N), complex), np.zeros((H, N), complex)
    P_bar, Q_bar = np.zeros(P.shape, complex), np.zeros(P.shape, complex)
    for h in range(H):
        E = 2 / dt[h] - Lambda[h]
        M = np.eye(rank, dtype=complex)
        for j in range(rank):
            for k in range(rank):
                M[j, k] += _dot(Q[h, j], P[h, k] / E, real)
        X = np.linalg.inv(M)
        Lambda_bar[h] = (2 / dt[h] + Lambda[h]) / E
        B_bar[h] = 2 * B[h] / E
        for k in range(rank):
            Q_bar[h, k] = Q[h, k] / np.conj(E)
            for j in range(rank):
                P_bar[h, k] += 4 / dt[h] * P[h, j] / E * X[j, k]
                B_bar[h] -= 2 * P[h, j] / E * X[j, k] * _dot(Q[h, k], B[h] / E, real)
    return Lambda_bar, P_bar, Q_bar, B_bar


def _with_axes(Lambda, P, Q, B, dt):
    return (Lambda, 2), (P, 3), (Q, 3), (B, 2), (dt, 1)


def _dot(q, x, real):
    """``q^* x``, with that of the conjugates where they are left out."""
    total = np.sum(np.conj(q) * x)
    return 2 * total.real if real else total
