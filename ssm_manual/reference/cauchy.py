"""The kernel of a diagonal plus low-rank system, by dense powers.

A real system is first written out in full, its stored poles and then their conjugates: no factor 2,
no real part.
"""

import numpy as np

from ssm_manual.reference import _dplr


def cauchy(Lambda, P, Q, B, C, dt, length, *, real=True):
    """``K_l = 2 Re(C A_bar^l B_bar)`` [CAUCHY-1], or the complex number itself, one by one."""
    shape = _dplr.shape_of_channels(Lambda, P, Q, B, C, dt=dt)
    K = []
    for pole, p, q, b, c, step in _dplr.channels(Lambda, P, Q, B, C, dt=dt, real=real):
        A_bar, x = _dplr.tustin(_dplr.dense(pole, p, q), b, step)
        for _ in range(length):
            K.append(c @ x)
            x = A_bar @ x
    K = np.array(K, complex).reshape(*shape, length)
    return K.real if real else K


def cauchy_vjp(Lambda, P, Q, B, C, dt, length, grad_K, *, real=True):
    """Gradients to Lambda, P, Q, B, C and dt: back-propagation through the recurrence."""
    found = []
    cotangents = iter(np.reshape(grad_K, (-1, length)))
    for pole, p, q, b, c, step in _dplr.channels(Lambda, P, Q, B, C, dt=dt, real=real):
        A, g = _dplr.dense(pole, p, q), next(cotangents)
        A_bar, x = _dplr.tustin(A, b, step)
        states = [x]
        for _ in range(length - 1):
            states.append(A_bar @ states[-1])
        lam, grad_A_bar, grad_C = np.zeros_like(c), np.zeros_like(A), np.zeros_like(c)
        for l in range(length - 1, -1, -1):
            if l < length - 1:
                grad_A_bar += np.outer(lam, states[l].conj())
                lam = A_bar.conj().T @ lam
            lam = lam + c.conj() * g[l]
            grad_C += g[l] * states[l].conj()
        grad_A, grad_B, grad_dt = _dplr.tustin_vjp(A, b, step, grad_A_bar, lam)
        grads = *_dplr.dense_vjp(p, q, grad_A), grad_B, grad_C
        found.append([*(_dplr.fold(grad, real) for grad in grads), np.array(grad_dt)])
    shape = _dplr.shape_of_channels(Lambda, P, Q, B, C, dt=dt)
    return tuple(np.array(g).reshape(shape + g[0].shape) for g in zip(*found))
