"""Discretisation of one dense system after another: tustin and zoh."""

import numpy as np


def tustin(A, B, dt):
    """``A_bar = (I - dt A/2)^-1 (I + dt A/2)``, ``B_bar = (I - dt A/2)^-1 dt B``."""
    dt = np.broadcast_to(dt, len(A))
    A_bar, B_bar = np.empty_like(A), np.empty(B.shape, np.result_type(A, B))
    identity = np.eye(A.shape[-1])
    for h in range(len(A)):
        left, right = identity - dt[h] * A[h] / 2, identity + dt[h] * A[h] / 2
        A_bar[h] = np.linalg.solve(left, right)
        B_bar[h] = np.linalg.solve(left, dt[h] * B[h])
    return A_bar, B_bar


def tustin_vjp(A, B, dt, grad_A_bar, grad_B_bar):
    """Gradients to A (H, N, N), B (H, N, p) and dt (H,), with every inverse written out."""
    dt = np.broadcast_to(dt, len(A))
    grad_A, grad_B, grad_dt = np.zeros(A.shape, complex), np.zeros(B.shape, complex), []
    for h in range(len(A)):
        M = np.linalg.inv(np.eye(A.shape[-1]) - dt[h] * A[h] / 2)
        # d A_bar = 2 M d(dt A/2) M,  d B_bar = M d(dt A/2) M dt B + M d(dt B)
        to_half = 2 * adjoint(M) @ grad_A_bar[h] @ adjoint(M)
        to_half = to_half + adjoint(M) @ grad_B_bar[h] @ adjoint(dt[h] * M @ B[h])
        to_input = adjoint(M) @ grad_B_bar[h]
        grad_A[h] = dt[h] / 2 * to_half
        grad_B[h] = dt[h] * to_input
        grad_dt.append(inner(to_half, A[h]) / 2 + inner(to_input, B[h]))
    return grad_A, grad_B, np.array(grad_dt)


def zoh(A, B, dt):
    """``A_bar = exp(dt A)``, ``B_bar = (integral of exp(s A) over s from 0 to dt) B``."""
    dt = np.broadcast_to(dt, len(A))
    A_bar, B_bar = np.empty_like(A), np.empty(B.shape, np.result_type(A, B))
    N = A.shape[-1]
    for h in range(len(A)):
        whole = exponential(augmented(dt[h] * A[h], dt[h] * B[h]))
        A_bar[h] = exponential(dt[h] * A[h])
        B_bar[h] = whole[:N, N:]
    return A_bar, B_bar


def zoh_vjp(A, B, dt, grad_A_bar, grad_B_bar):
    """Gradients to A (H, N, N), B (H, N, p) and dt (H,) by the integral of [DENSE-6]."""
    dt = np.broadcast_to(dt, len(A))
    N = A.shape[-1]
    grad_A, grad_B, grad_dt = np.zeros(A.shape, complex), np.zeros(B.shape, complex), []
    nodes, weights = np.polynomial.legendre.leggauss(40)
    for h in range(len(A)):
        X = augmented(dt[h] * A[h], dt[h] * B[h])
        G = augmented(grad_A_bar[h], grad_B_bar[h])
        to_X = 0
        for s, weight in zip((nodes + 1) / 2, weights / 2):
            to_X = to_X + weight * (
                exponential(s * adjoint(X)) @ G @ exponential((1 - s) * adjoint(X))
            )
        grad_A[h], grad_B[h] = dt[h] * to_X[:N, :N], dt[h] * to_X[:N, N:]
        grad_dt.append(inner(to_X[:N, :N], A[h]) + inner(to_X[:N, N:], B[h]))
    return grad_A, grad_B, np.array(grad_dt)


def exponential(X):
    """``exp(X)`` by its series where it converges fast, then by squaring."""
    halvings = max(0, int(np.ceil(np.log2(max(np.abs(X).sum(axis=0).max(), 1e-300)))))
    X = X / 2**halvings
    total, term = np.eye(len(X), dtype=X.dtype), np.eye(len(X), dtype=X.dtype)
    for k in range(1, 25):
        term = term @ X / k
        total = total + term
    for _ in range(halvings):
        total = total @ total
    return total


def augmented(A, B):
    """``[[A, B], [0, 0]]``, square."""
    N, p = B.shape
    out = np.zeros((N + p, N + p), np.result_type(A, B))
    out[:N, :N], out[:N, N:] = A, B
    return out


def adjoint(M):
    """The conjugate transpose."""
    return np.conj(M.T)


def inner(a, b):
    """``<a, b> = Re sum conj(a) b`` [COMPLEX-2]."""
    return np.sum(np.conj(a) * b).real
