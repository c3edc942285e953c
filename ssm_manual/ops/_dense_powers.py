"""Powers of matrices by doubling, and the way back [DENSE-14].

    A, A^2, A^4, A^8, ...        ``squares``
    B, A B, A^2 B, ...           ``columns``: what is there, times a square, is as much again

log2 products instead of one for every power, in double precision, H systems at once. The gradients
of the squares are collected in a list and brought back to A at the end, by `squares_vjp`.
"""

import numpy as np


def squares(A, count):
    """``[A, A^2, A^4, ...]``, ``count`` of them."""
    out = [A]
    while len(out) < count:
        out.append(out[-1] @ out[-1])
    return out


def squares_vjp(powers, grads):
    """The gradient to A of those to its squares; ``grads`` is used up."""
    for i in range(len(powers) - 1, 0, -1):
        grads[i - 1] += adjoint(powers[i - 1]) @ grads[i] + grads[i] @ adjoint(powers[i - 1])
    return grads[0]


def columns(powers, B, count):
    """``[B, A B, ..., A^(count-1) B]``, (H, N, count p), from the squares of A."""
    H, N, p = B.shape
    out = np.empty((H, N, count * p), np.result_type(powers[0], B))
    out[..., :p] = B
    for power, done, more in _steps(powers, count, p):
        np.matmul(power, out[..., :more], out=out[..., done : done + more])
    return out


def columns_vjp(powers, table, grad, p, grads):
    """The gradient to B of ``grad``, that to the table, which is used up; adds to ``grads``."""
    steps = list(_steps(powers, table.shape[-1] // p if p else 1, p))
    for i in reversed(range(len(steps))):
        power, done, more = steps[i]
        late = grad[..., done : done + more]
        grad[..., :more] += adjoint(power) @ late
        grads[i] += late @ adjoint(table[..., :more])
    return grad[..., :p]


def _steps(powers, count, p):
    """``(square, columns done, columns that it adds)`` of every doubling."""
    for i in range(ceil_log2(count)):
        yield powers[i], p << i, p * min(1 << i, count - (1 << i))


def ceil_log2(n):
    """The number of doublings from 1 to at least ``n``."""
    return max(n - 1, 0).bit_length()


def adjoint(M):
    """The conjugate transpose."""
    return np.conj(transposed(M))


def transposed(M):
    """The transpose of every system's matrix."""
    return np.swapaxes(M, -2, -1)


def double(*arrays):
    """The same values in double precision."""
    return [a.astype(np.result_type(a, np.float64), copy=False) for a in arrays]
