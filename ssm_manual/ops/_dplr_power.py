"""One step of a diagonal plus low-rank system less the identity, and its binary powers.

    F_1 = A_bar - I,   F_2l = 2 F_l + F_l F_l,   c A_bar^L - c = c F_L       [CAUCHY-17, 6]

Design
------
* The identity is taken off first and never added again: for a slow system A_bar^L is close to I,
  and what the truncation needs is the difference.
* All matrices are real: a complex row is a real one of twice the length [CAUCHY-7]. In a real
  system a state and its conjugate are one such row, so that nothing is stored twice.
* A row times a matrix costs N times less than a squaring. So the squarings end three doublings
  early, and up to fifteen products with the row do the rest.
* The squares are formed again in the backward pass: together they are larger than all parameters
  and the kernel, and forming them is a third of its work.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual._blas import single_threaded
from ssm_manual._numba import gemm, jit, parallel_jit, prange

#: Doublings that are left to products with the row: 8 to 15 of them.
LEFT = 3

#: Products in all squarings of a call from which threads pay.
PARALLEL_FROM = 1 << 20


class OneStep(NamedTuple):
    """F_1, less than a matrix: ``F x = mu x - sum_i U_i phi(f_i x)`` [CAUCHY-17].

    phi is twice the real part in a real system, else nothing.
    """

    mu: np.ndarray  # (H, N)
    U: np.ndarray  # (H, r, N)
    f: np.ndarray  # (H, r, N)
    E: np.ndarray  # (H, N): 1 - dt Lambda / 2
    a: np.ndarray  # (H, r, N): (dt P / 2) / E
    W: np.ndarray  # (H, r, r), real in a real system

    def input_weights(self, B, real):
        """``B_bar = (2 + F) (dt B / 2)``."""
        through = np.einsum("hin,hn->hi", self.f, B)
        through = 2 * through.real if real else through
        return (2 + self.mu) * B - np.einsum("hin,hi->hn", self.U, through)


def one_step(pole, P, Q, real):
    """A_bar - I of a system, with what its adjoint needs [CAUCHY-17]."""
    E = 1 - pole
    if np.any(E == 0):
        raise ValueError("Lambda holds 2/dt, where the bilinear transform is not defined")
    a, f = P / E[:, None], Q / E[:, None]
    core = np.einsum("hin,hjn->hij", Q, a)
    core = 2 * core.real if real else core
    try:
        W = np.linalg.inv(np.eye(core.shape[1]) + core)
    except np.linalg.LinAlgError:
        raise ValueError(
            "Lambda, P, Q: A has an eigenvalue 2/dt, where the bilinear transform is not defined"
        ) from None
    U = 2 * np.einsum("hjn,hji->hin", a, W)
    return OneStep(2 * pole / E, U, f, E, a, W)


def one_step_vjp(Q, real, step, grads):
    """Gradients to pole, P and the conjugate of Q from those to mu, U and f [CAUCHY-20]."""
    _, _, f, E, a, W = step
    grad_mu, grad_U, grad_f = grads
    grad_a = 2 * np.einsum("hji,hin->hjn", W.conj(), grad_U)
    grad_W = 2 * np.einsum("hjn,hin->hji", a.conj(), grad_U)
    grad_W = grad_W.real if real else grad_W
    W_adjoint = W.conj().swapaxes(1, 2)
    grad_core = -W_adjoint @ grad_W @ W_adjoint
    grad_core = 2 * grad_core if real else grad_core
    grad_a += np.einsum("hij,hin->hjn", grad_core, Q.conj())
    grad_Q = np.einsum("hij,hjn->hin", grad_core, a.conj())
    inverse = 1 / E.conj()
    grad_P = grad_a * inverse[:, None]
    grad_Q += grad_f * inverse[:, None]
    grad_E = -np.sum(a.conj() * grad_a + f.conj() * grad_f, axis=1) * inverse
    return 2 * inverse**2 * grad_mu - grad_E, grad_P, grad_Q


def row(C):
    """A complex row as a real one: ``Re(C x) = row (Re x, Im x)``."""
    return np.concatenate([C.real, -C.imag], axis=-1)


def from_row(c):
    """The complex row of a real one."""
    N = c.shape[-1] // 2
    return c[..., :N] - 1j * c[..., N:]


def matrix(step, real):
    """F_1 as real matrices (H, 2N, 2N) [CAUCHY-7]."""
    mu = step.mu
    N = mu.shape[1]
    U, V = _thin(step, real)
    F = -(U @ V)
    n = np.arange(N)
    F[:, n, n] += mu.real
    F[:, N + n, N + n] += mu.real
    F[:, n, N + n] -= mu.imag
    F[:, N + n, n] += mu.imag
    return F


def matrix_vjp(step, real, grad_F):
    """Gradients to mu, U and f from that to F_1 [CAUCHY-20]."""
    N, rank = step.mu.shape[1], step.f.shape[1]
    n = np.arange(N)
    grad_mu = grad_F[:, n, n] + grad_F[:, N + n, N + n]
    grad_mu = grad_mu + 1j * (grad_F[:, N + n, n] - grad_F[:, n, N + n])
    U, V = _thin(step, real)
    to_U = -grad_F @ V.swapaxes(1, 2)
    to_V = -U.swapaxes(1, 2) @ grad_F
    to_U = (to_U[:, :N] + 1j * to_U[:, N:]).swapaxes(1, 2)
    to_V = to_V[:, :, :N] - 1j * to_V[:, :, N:]
    if real:
        return grad_mu, to_U, 2 * to_V
    return grad_mu, to_U[:, :rank] - 1j * to_U[:, rank:], to_V[:, :rank] + 1j * to_V[:, rank:]


def _thin(step, real):
    """The low-rank term as a product of real matrices, (2N, k) times (k, 2N); k = r or 2r."""
    U, f = step.U, step.f
    columns, rows = (U, 2 * f) if real else (np.hstack([U, 1j * U]), np.hstack([f, -1j * f]))
    columns = np.concatenate([columns.real, columns.imag], axis=-1).swapaxes(1, 2)
    return np.ascontiguousarray(columns), row(rows)


def truncated(F, c, length):
    """``-c F_L`` of every channel: F (H, M, M) is used up, c (H, M)."""
    out = np.empty_like(c)
    with single_threaded():
        (_truncate_parallel if _worth_threads(F, length) else _truncate)(F, c, length, out)
    return out


def truncated_vjp(F, c, length, g):
    """Gradients to c and, in place of F, to F."""
    grad_c = np.empty_like(c)
    with single_threaded():
        kernel = _truncate_vjp_parallel if _worth_threads(F, length) else _truncate_vjp
        kernel(F, c, length, g, grad_c)
    return grad_c


def _worth_threads(F, length):
    return len(F) > 1 and F.size * F.shape[1] * length.bit_length() >= PARALLEL_FROM


@jit
def _squarings(length):
    count = 0
    while (length >> count) >= 2 << LEFT:
        count += 1
    return count


@jit
def _square(F, out):
    """``out = 2 F + F F`` [CAUCHY-6]."""
    gemm(F, F, 0.0, out)
    for i in range(F.shape[0]):
        for j in range(F.shape[1]):
            out[i, j] += 2 * F[i, j]


@jit
def _advance(F, c, u, v):
    """``v = c + u``, ``u = u + v F``: with u = c F_l before, c F_(l + l') after."""
    for j in range(c.shape[0]):
        v[j] = c[j] + u[j]
    for i in range(c.shape[0]):
        for j in range(c.shape[0]):
            u[j] += v[i] * F[i, j]


@jit
def _truncate_channel(F, c, length, out):
    u, v, spare = np.zeros_like(c), np.empty_like(c), np.empty_like(F)
    squarings = _squarings(length)
    for k in range(squarings):
        if (length >> k) & 1:
            _advance(F, c, u, v)
        _square(F, spare)
        F, spare = spare, F
    for _ in range(length >> squarings):
        _advance(F, c, u, v)
    for j in range(c.shape[0]):
        out[j] = -u[j]


@jit
def _retreat(F, v, grad_u, grad_c, grad_F, to_v):
    """The adjoint of `_advance` [CAUCHY-18]."""
    M = v.shape[0]
    for i in range(M):
        total = 0.0
        for j in range(M):
            total += F[i, j] * grad_u[j]
            grad_F[i, j] += v[i] * grad_u[j]
        to_v[i] = total
    for i in range(M):
        grad_u[i] += to_v[i]
        grad_c[i] += to_v[i]


@jit
def _truncate_vjp_channel(F, c, length, g, grad_c):
    M = c.shape[0]
    squarings = _squarings(length)
    powers = np.empty((squarings + 1, M, M))
    rows = np.empty((squarings + (2 << LEFT), M))  # v of every product with the row
    u = np.zeros(M)
    powers[0], taken = F, 0
    for k in range(squarings + 1):
        times = (length >> k) & 1 if k < squarings else length >> k
        for _ in range(times):
            _advance(powers[k], c, u, rows[taken])
            taken += 1
        if k < squarings:
            _square(powers[k], powers[k + 1])
    G, spare, to_v = np.zeros((M, M)), np.empty((M, M)), np.empty(M)
    for j in range(M):
        u[j], grad_c[j] = -g[j], 0.0  # u is its own gradient from here on
    for k in range(squarings, -1, -1):
        if k < squarings:  # [CAUCHY-19]
            for i in range(M):
                for j in range(M):
                    spare[i, j] = 2 * G[i, j]
            gemm(powers[k].T, G, 1.0, spare)
            gemm(G, powers[k].T, 1.0, spare)
            G, spare = spare, G
        times = (length >> k) & 1 if k < squarings else length >> k
        for _ in range(times):
            taken -= 1
            _retreat(powers[k], rows[taken], u, grad_c, G, to_v)
    for i in range(M):
        for j in range(M):
            F[i, j] = G[i, j]


@jit
def _truncate(F, c, length, out):
    for h in range(c.shape[0]):
        _truncate_channel(F[h], c[h], length, out[h])


@parallel_jit
def _truncate_parallel(F, c, length, out):
    for h in prange(c.shape[0]):
        _truncate_channel(F[h], c[h], length, out[h])


@jit
def _truncate_vjp(F, c, length, g, grad_c):
    for h in range(c.shape[0]):
        _truncate_vjp_channel(F[h], c[h], length, g[h], grad_c[h])


@parallel_jit
def _truncate_vjp_parallel(F, c, length, g, grad_c):
    for h in prange(c.shape[0]):
        _truncate_vjp_channel(F[h], c[h], length, g[h], grad_c[h])
