"""The truncated output weights ``C (I - A_bar^L)`` of a diagonal plus low-rank system.

Written with dense matrices; a real system is first written out in full, its stored poles and then
their conjugates.
"""

import numpy as np

from ssm_manual.reference import _dplr


def truncate(Lambda, P, Q, C, dt, length, *, real=True):
    """``C (I - A_bar^L)`` [CAUCHY-4]: the row C, multiplied L times by A_bar."""
    shape = _dplr.shape_of_channels(Lambda, P, Q, C, dt=dt)
    N = np.shape(Lambda)[-1]
    rows = []
    for pole, p, q, c, step in _dplr.channels(Lambda, P, Q, C, dt=dt, real=real):
        A_bar, _ = _dplr.tustin(_dplr.dense(pole, p, q), 0 * pole, step)
        row = c
        for _ in range(length):
            row = row @ A_bar
        rows.append((c - row)[:N])  # the conjugates' weights are conjugate
    return np.array(rows).reshape(*shape, N)


def truncate_vjp(Lambda, P, Q, C, dt, length, grad_C_tilde, *, real=True):
    """Gradients to Lambda, P, Q, C and dt: back through the L products, one by one."""
    found = []
    cotangents = iter(np.reshape(grad_C_tilde, (-1, np.shape(Lambda)[-1])))
    for pole, p, q, c, step in _dplr.channels(Lambda, P, Q, C, dt=dt, real=real):
        A, g = _dplr.dense(pole, p, q), next(cotangents)
        A_bar, _ = _dplr.tustin(A, 0 * pole, step)
        # A cotangent of the stored half alone: the conjugates' half is not an output.
        g = np.concatenate([g, 0 * g]) if real else g
        rows = [c]
        for _ in range(length):
            rows.append(rows[-1] @ A_bar)
        grad_A_bar, lam = np.zeros_like(A), -g
        for row in rows[-2::-1]:  # rows[l + 1] = rows[l] A_bar
            grad_A_bar += np.outer(row.conj(), lam)
            lam = lam @ A_bar.conj().T
        grad_A, _, grad_dt = _dplr.tustin_vjp(A, 0 * pole, step, grad_A_bar, 0 * pole)
        grads = *_dplr.dense_vjp(p, q, grad_A), g + lam
        found.append([*(_dplr.fold(grad, real) for grad in grads), np.array(grad_dt)])
    shape = _dplr.shape_of_channels(Lambda, P, Q, C, dt=dt)
    return tuple(np.array(g).reshape(shape + g[0].shape) for g in zip(*found))
