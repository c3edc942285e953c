"""Calls that check every view of the dense operator."""

import numpy as np

from ssm_manual.ops._examples import complex_normal
from ssm_manual.ops.registry import Example


def dense_matrices(rng, H, N, *, radius, real=True):
    """Random matrices (H, N, N) of a given spectral radius; not normal."""
    A = rng.standard_normal((H, N, N)) if real else complex_normal(rng, H, N, N)
    return A * (radius / np.max(np.abs(np.linalg.eigvals(A)), axis=-1))[:, None, None]


def dense_calls(rng):
    """Calls of the operator ``(A_bar, B_bar, C, D, u, x0)``, the same for every view."""
    linear = (("B_bar", "D"), ("C", "D"), ("u", "x0"))
    # batch, H, N, p, m, L
    sizes = [(1, 1, 1, 1, 1, 1), (3, 2, 4, 1, 1, 2), (2, 1, 5, 2, 3, 17), (1, 2, 3, 1, 2, 65)]
    for batch, H, N, p, m, L in sizes:
        # A radius that leaves a visible trace of x0 after L steps: others drown in rounding.
        radius = 0.7 ** (2 / (L + 1))
        size = f"batch {batch}, H {H}, N {N}, p {p}, m {m}, L {L}"
        shapes = (H, N, p), (H, m, N), (H, m, p), (batch, H, p, L)
        A = dense_matrices(rng, H, N, radius=radius)
        B, C, D, u = (rng.standard_normal(shape) for shape in shapes)
        yield Example((A, B, C, D, u, None), {}, f"real, {size}", linear)
        A = dense_matrices(rng, H, N, radius=radius, real=False)
        B, C, D, u = (complex_normal(rng, *shape) for shape in shapes)
        x0 = complex_normal(rng, batch, H, N)
        yield Example((A, B, C, D, u, x0), {}, f"complex, x0, {size}", linear[2:])
    A = dense_matrices(rng, 2, 4, radius=0.95)
    B, C = rng.standard_normal((2, 4, 2)), complex_normal(rng, 2, 1, 4)
    u, x0 = rng.standard_normal((2, 2, 2, 21)), rng.standard_normal((2, 2, 4))
    yield Example((A, B, C, None, u, x0), {}, "real but for C, no D", linear[2:])
    args = A, B[..., :0], C.real.copy(), None, u[:, :, :0], x0
    yield Example(args, {}, "no input: the free response", (("x0",),))
    args = A, B, np.zeros((2, 0, 4)), None, u, x0
    yield Example(args, {}, "no output: the last state", linear[2:])
