"""Dense systems chunk by chunk, and the gradient, with every sum written out."""

import numpy as np

power = np.linalg.matrix_power


def apply(A_bar, B_bar, C, D, u, x0=None, *, chunk=None):
    """Within a chunk a short convolution; from chunk to chunk the state [TABLE-1, 2]."""
    batch, H, _, L = u.shape
    _, m, N = C.shape
    field = np.result_type(A_bar, B_bar, C, u, *(a for a in (D, x0) if a is not None))
    y, x_last = np.zeros((batch, H, m, L), field), np.zeros((batch, H, N), field)
    for b in range(batch):
        for h in range(H):
            A, B, c = A_bar[h], B_bar[h], C[h]
            x = x_last[b, h] if x0 is None else x0[b, h]
            for start, stop in _chunks(L, chunk):
                for q in range(stop - start):
                    out = c @ power(A, q + 1) @ x
                    for k in range(q + 1):
                        out = out + c @ power(A, q - k) @ B @ u[b, h, :, start + k]
                    if D is not None:
                        out = out + D[h] @ u[b, h, :, start + q]
                    y[b, h, :, start + q] = out
                x = power(A, stop - start) @ x
                for k in range(start, stop):
                    x = x + power(A, stop - 1 - k) @ B @ u[b, h, :, k]
            x_last[b, h] = x
    return y, x_last


def apply_vjp(A_bar, B_bar, C, D, u, x0, grad_y, grad_x_last, *, chunk=None):
    """Gradients to A_bar, B_bar, C, D, u, x0; the caller takes real parts [TABLE-6 to 8].

    The derivative of every power is taken where it stands.
    """
    batch, H, p, L = u.shape
    _, m, N = C.shape
    grad_A, grad_B, grad_C = (np.zeros(a.shape, complex) for a in (A_bar, B_bar, C))
    grad_D, grad_u = np.zeros((H, m, p), complex), np.zeros(u.shape, complex)
    grad_x0 = np.array(grad_x_last, complex)
    for b in range(batch):
        for h in range(H):
            A, B, c = A_bar[h], B_bar[h], C[h]
            states = [np.zeros(N) if x0 is None else x0[b, h]]
            for start, stop in _chunks(L, chunk):
                piece, x = u[b : b + 1, h : h + 1, :, start:stop], states[-1]
                _, x = apply(A[None], B[None], c[None], None, piece, x[None, None])
                states.append(x[0, 0])
            lam = grad_x0[b, h]  # to the state after the chunk
            for (start, stop), x in reversed(list(zip(_chunks(L, chunk), states))):
                Q = stop - start
                mu = adjoint(power(A, Q)) @ lam  # to the state before it
                grad_A[h] += _through_power(A, Q, np.outer(lam, np.conj(x)))
                for q in range(Q):
                    g = grad_y[b, h, :, start + q]
                    mu = mu + adjoint(c @ power(A, q + 1)) @ g
                    grad_C[h] += np.outer(g, np.conj(power(A, q + 1) @ x))
                    grad_A[h] += _through_power(A, q + 1, np.outer(adjoint(c) @ g, np.conj(x)))
                    if D is not None:
                        grad_D[h] += np.outer(g, np.conj(u[b, h, :, start + q]))
                        grad_u[b, h, :, start + q] += adjoint(D[h]) @ g
                    for k in range(q + 1):
                        v = u[b, h, :, start + k]
                        grad_u[b, h, :, start + k] += adjoint(c @ power(A, q - k) @ B) @ g
                        grad_C[h] += np.outer(g, np.conj(power(A, q - k) @ B @ v))
                        grad_B[h] += np.outer(adjoint(c @ power(A, q - k)) @ g, np.conj(v))
                        outer = np.outer(adjoint(c) @ g, np.conj(B @ v))
                        grad_A[h] += _through_power(A, q - k, outer)
                for k in range(Q):
                    v, left = u[b, h, :, start + k], Q - 1 - k
                    grad_u[b, h, :, start + k] += adjoint(power(A, left) @ B) @ lam
                    grad_B[h] += np.outer(adjoint(power(A, left)) @ lam, np.conj(v))
                    grad_A[h] += _through_power(A, left, np.outer(lam, np.conj(B @ v)))
                lam = mu
            grad_x0[b, h] = lam
    return grad_A, grad_B, grad_C, grad_D, grad_u, grad_x0


def adjoint(a):
    """The conjugate transpose."""
    return np.conj(a).T


def _chunks(length, chunk):
    """Where every chunk begins and ends (exclusive); without ``chunk``, after eight samples."""
    size = chunk or 8
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _through_power(A, n, given):
    """The cotangent ``given`` of ``A^n`` pulled back to A: a term for each factor."""
    total = np.zeros(A.shape, complex)
    for k in range(n):
        total += adjoint(power(A, k)) @ given @ adjoint(power(A, n - 1 - k))
    return total
