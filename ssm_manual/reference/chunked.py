"""The operator chunk by chunk, and its gradient, with every sum written out."""

import numpy as np

from ssm_manual.reference.scan import _every_channel


def apply(A_bar, B_bar, C, D, u, x0=None, *, real=True, chunk=None):
    """Within a chunk a short convolution; from chunk to chunk the state [CHUNK-1 to 3]."""
    batch, H, L = u.shape
    A_bar, B_bar, C, D = _every_channel(A_bar, B_bar, C, D, H)
    D = np.zeros(H) if D is None else D
    x_last = np.zeros((batch, *A_bar.shape), complex)
    if x0 is not None:
        x_last[:] = x0
    y = np.zeros(u.shape, u.dtype if real else x_last.dtype)
    for b in range(batch):
        for h in range(H):
            for start, stop in _chunks(L, chunk):
                x = x_last[b, h].copy()  # the state before the chunk
                for q in range(stop - start):
                    out = np.sum(C[h] * A_bar[h] ** (q + 1) * x)
                    for p in range(q + 1):
                        K = np.sum(C[h] * A_bar[h] ** (q - p) * B_bar[h])
                        out += K * u[b, h, start + p]
                    y[b, h, start + q] = (2 * out.real if real else out) + D[h] * u[b, h, start + q]
                Q = stop - start
                x_last[b, h] = A_bar[h] ** Q * x
                for p in range(Q):
                    x_last[b, h] += A_bar[h] ** (Q - 1 - p) * B_bar[h] * u[b, h, start + p]
    return y, x_last


def apply_vjp(A_bar, B_bar, C, D, u, x0, grad_y, grad_x_last, *, real=True, chunk=None):
    """Gradients to A_bar, B_bar, C, D, u, x0; the caller takes real parts [CHUNK-6 to 9].

    The derivative of every power is taken where it stands.
    """
    batch, H, L = u.shape
    shared_D = D
    A_bar, B_bar, C, D = _every_channel(A_bar, B_bar, C, D, H)
    D = np.zeros(H) if D is None else D
    gain = 2 if real else 1
    grad_A, grad_B, grad_C = (np.zeros(A_bar.shape, complex) for _ in range(3))
    grad_D, grad_u = np.zeros(H, complex), np.zeros(u.shape, complex)
    grad_x0 = np.array(grad_x_last, complex)
    for b in range(batch):
        for h in range(H):
            A, B, c = A_bar[h], B_bar[h], C[h]
            before = np.zeros(A.shape, complex) if x0 is None else x0[b, h].astype(complex)
            states = []
            for start, stop in _chunks(L, chunk):
                states.append(before)
                piece = u[b : b + 1, h : h + 1, start:stop]
                weights = A[None], B[None], c[None], None
                _, after = apply(*weights, piece, before[None, None], real=False)
                before = after[0, 0]
            lam = grad_x0[b, h]
            for (start, stop), x in reversed(list(zip(_chunks(L, chunk), states))):
                Q = stop - start
                mu = np.conj(A**Q) * lam
                grad_A[h] += np.conj(_slope(A, Q) * x) * lam
                for q in range(Q):
                    g = grad_y[b, h, start + q]
                    grad_D[h] += g * np.conj(u[b, h, start + q])
                    grad_u[b, h, start + q] += np.conj(D[h]) * g
                    w = gain * g  # cotangent of the complex sum that makes y
                    mu = mu + np.conj(c * A ** (q + 1)) * w
                    grad_C[h] += np.conj(A ** (q + 1) * x) * w
                    grad_A[h] += np.conj(c * _slope(A, q + 1) * x) * w
                    for p in range(q + 1):
                        v = u[b, h, start + p]
                        grad_u[b, h, start + p] += np.sum(np.conj(c * A ** (q - p) * B)) * w
                        grad_C[h] += np.conj(A ** (q - p) * B * v) * w
                        grad_B[h] += np.conj(c * A ** (q - p) * v) * w
                        grad_A[h] += np.conj(c * _slope(A, q - p) * B * v) * w
                for p in range(Q):
                    v, left = u[b, h, start + p], Q - 1 - p
                    grad_u[b, h, start + p] += np.sum(np.conj(A**left * B) * lam)
                    grad_B[h] += np.conj(A**left * v) * lam
                    grad_A[h] += np.conj(_slope(A, left) * B * v) * lam
                lam = mu
            grad_x0[b, h] = lam
    grad_D = grad_D if shared_D is not None else np.zeros(H, complex)
    return grad_A, grad_B, grad_C, grad_D, grad_u, grad_x0


def apply_from_exponent(dtA, B_bar, C, D, u, x0=None, *, real=True, chunk=None):
    """The same with ``A_bar = exp(dtA)``."""
    return apply(np.exp(dtA), B_bar, C, D, u, x0, real=real, chunk=chunk)


def apply_from_exponent_vjp(dtA, B_bar, C, D, u, x0, grad_y, grad_x_last, *, real=True, chunk=None):
    """And ``grad_dtA = conj(A_bar) grad_A``."""
    A_bar = np.exp(dtA)
    grad_A, *others = apply_vjp(
        A_bar, B_bar, C, D, u, x0, grad_y, grad_x_last, real=real, chunk=chunk
    )
    return np.conj(A_bar) * grad_A, *others


def _chunks(length, chunk):
    """Where every chunk begins and ends (exclusive); without ``chunk``, after eight samples."""
    size = chunk or 8
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _slope(A, power):
    """The derivative of ``A**power``."""
    return power * A ** (power - 1) if power else np.zeros(A.shape)
