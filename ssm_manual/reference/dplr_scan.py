"""The recurrence of a diagonal-plus-low-rank system and its back-propagation through time."""

import numpy as np


def dplr_scan(Lambda_bar, P_bar, Q_bar, B_bar, C, D, u, x0=None, *, real=True):
    """``x_t = Lambda_bar x - sum_j P_bar_j (Q_bar_j^* x) + B_bar u_t``, step by step."""
    batch, H, L = u.shape
    weights = _every_channel(Lambda_bar, P_bar, Q_bar, B_bar, C, D, H)
    x_last = np.zeros((batch, H, np.shape(C)[-1]), complex)
    if x0 is not None:
        x_last[:] = x0
    y = np.zeros(u.shape, u.dtype if real else complex)
    for b in range(batch):
        for h in range(H):
            Lambda, P, Q, B, c, d = (a[h] for a in weights)
            x = x_last[b, h]
            for t in range(L):
                new = Lambda * x + B * u[b, h, t]
                for p, q in zip(P, Q):
                    new = new - p * _seen(np.conj(q), x, real)
                x = new
                y[b, h, t] = _seen(c, x, real) + d * u[b, h, t]
            x_last[b, h] = x
    return y, x_last


def dplr_scan_vjp(Lambda_bar, P_bar, Q_bar, B_bar, C, D, u, x0, grad_y, grad_x_last, *, real=True):
    """Gradients to Lambda_bar, P_bar, Q_bar, B_bar, C, D, u and x0, all states stored."""
    batch, H, L = u.shape
    weights = _every_channel(Lambda_bar, P_bar, Q_bar, B_bar, C, D, H)
    gain = 2 if real else 1
    grads = [np.zeros(a.shape, complex) for a in weights]
    grad_u, grad_x0 = np.zeros(u.shape, complex), np.array(grad_x_last, complex)
    for b in range(batch):
        for h in range(H):
            Lambda, P, Q, B, c, d = (a[h] for a in weights)
            to_Lambda, to_P, to_Q, to_B, to_c, to_d = (a[h : h + 1] for a in grads)
            states = [np.zeros(len(c), complex) if x0 is None else x0[b, h]]
            for t in range(L):
                piece = u[b : b + 1, h : h + 1, t : t + 1]
                one = [a[None] for a in (Lambda, P, Q, B, c)]
                _, x = dplr_scan(*one, None, piece, states[-1][None, None], real=real)
                states.append(x[0, 0])
            lam = grad_x0[b, h]
            for t in reversed(range(L)):
                e, before, after = grad_y[b, h, t], states[t], states[t + 1]
                lam = lam + gain * np.conj(c) * e
                to_c[0] += gain * np.conj(after) * e
                to_d[0] += e * np.conj(u[b, h, t])
                to_B[0] += lam * np.conj(u[b, h, t])
                to_Lambda[0] += lam * np.conj(before)
                grad_u[b, h, t] = np.sum(np.conj(B) * lam) + np.conj(d) * e
                carry = np.conj(Lambda) * lam
                for j in range(len(P)):
                    to_P[0, j] -= lam * np.conj(_seen(np.conj(Q[j]), before, real))
                    back = _seen(np.conj(P[j]), lam, real)
                    to_Q[0, j] -= np.conj(back) * before
                    carry = carry - Q[j] * back
                lam = carry
            grad_x0[b, h] = lam
    return (*grads, grad_u, grad_x0)


def _seen(weights, x, real):
    total = np.sum(weights * x)
    return 2 * total.real if real else total


def _every_channel(Lambda_bar, P_bar, Q_bar, B_bar, C, D, H):
    """Weights that channels share, written out for each channel."""
    vectors = Lambda_bar, B_bar, C
    Lambda_bar, B_bar, C = (np.broadcast_to(a, (H, np.shape(a)[-1])) for a in vectors)
    P_bar, Q_bar = (np.broadcast_to(a, (H, *np.shape(a)[-2:])) for a in (P_bar, Q_bar))
    return Lambda_bar, P_bar, Q_bar, B_bar, C, np.broadcast_to(0.0 if D is None else D, H)
