"""The dense matrices of a diagonal-plus-low-rank system: what it does to one state at a time."""

import numpy as np


def dplr_dense(Lambda_bar, P_bar, Q_bar, B_bar, C, D=None, *, real=True):
    """Column by column: the system applied to unit states, their parts read off."""
    H = max(1 if np.ndim(a) < n else len(a) for a, n in ((Lambda_bar, 2), (P_bar, 3), (Q_bar, 3),
                                                        (B_bar, 2), (C, 2)))  # fmt: skip
    vectors = Lambda_bar, B_bar, C
    Lambda_bar, B_bar, C = (np.broadcast_to(a, (H, np.shape(a)[-1])) for a in vectors)
    P_bar, Q_bar = (np.broadcast_to(a, (H, *np.shape(a)[-2:])) for a in (P_bar, Q_bar))
    N = Lambda_bar.shape[1]
    units = np.eye(N) if not real else np.concatenate([np.eye(N), 1j * np.eye(N)])
    A, B, out = [], [], []
    for h in range(H):
        columns, seen = [], []
        for x in units:
            image = Lambda_bar[h] * x
            for p, q in zip(P_bar[h], Q_bar[h]):
                inner = np.sum(np.conj(q) * x)
                image = image - p * (2 * inner.real if real else inner)
            columns.append(_parts(image, real))
            y = np.sum(C[h] * x)
            seen.append(2 * y.real if real else y)
        A.append(np.stack(columns, axis=1))
        B.append(_parts(B_bar[h] + 0j, real)[:, np.newaxis])
        out.append(np.array(seen)[np.newaxis])
    if D is not None:
        D = np.broadcast_to(D, H)[:, np.newaxis, np.newaxis] + (0.0 if real else 0j)
    return np.array(A), np.array(B), np.array(out), D


def _parts(x, real):
    return np.concatenate([x.real, x.imag]) if real else x
