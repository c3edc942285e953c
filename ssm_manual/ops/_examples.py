"""Random arguments for the registry, and the calls that check every view of the operator."""

import numpy as np

from ssm_manual.ops.registry import Example


def complex_normal(rng, *shape):
    """Complex numbers whose real and imaginary parts are standard normal."""
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def discrete_poles(rng, *shape, low=0.5, high=1.0):
    """Poles with a modulus in [low, high) and any angle."""
    return rng.uniform(low, high, shape) * np.exp(2j * np.pi * rng.random(shape))


def lasting_poles(rng, *shape, length):
    """Poles that leave a visible trace of x0 after ``length`` steps: others drown in rounding."""
    root = 2 / (length + 1)
    return rng.uniform(0.5, 1, shape) ** root * np.exp(2j * np.pi * rng.random(shape))


def operator_calls(rng):
    """Calls of the operator ``(A_bar, B_bar, C, D, u, x0)``, the same for every view."""
    linear = (("B_bar", "D"), ("C", "D"), ("u", "x0"))
    for batch, H, N, L in [(1, 1, 1, 1), (3, 2, 4, 2), (2, 1, 7, 17), (3, 2, 4, 64), (1, 2, 3, 65)]:
        B, C = complex_normal(rng, H, N), complex_normal(rng, H, N)
        weights = lasting_poles(rng, H, N, length=L), B, C
        size = f"batch {batch}, H {H}, N {N}, L {L}"
        u, D, x0 = rng.standard_normal((batch, H, L)), rng.standard_normal(H), None
        yield Example((*weights, D, u, x0), {"real": True}, f"real, {size}")
        u, D = complex_normal(rng, batch, H, L), complex_normal(rng, H)
        x0 = complex_normal(rng, batch, H, N)
        yield Example((*weights, D, u, x0), {"real": False}, f"complex, x0, {size}", linear[2:])
    u, x0 = rng.standard_normal((2, 3, 20)), complex_normal(rng, 2, 3, 4)
    A, B, C = (
        lasting_poles(rng, 4, length=20),
        complex_normal(rng, 1, 4),
        complex_normal(rng, 3, 4),
    )
    args = A, B, C, rng.standard_normal(()), u, x0
    yield Example(args, {"real": True}, "spectrum shared by the channels, x0", linear[2:])
    A, B = rng.uniform(0.5, 1, (3, 4)) ** 0.1, rng.standard_normal((3, 4))
    yield Example((A, B, C, None, u, x0), {"real": True}, "real poles, no D", linear[2:])
    args = A, B, C, np.ones(()), u, x0
    yield Example(args, {"real": False}, "complex output of a real input", linear[2:])
    A = discrete_poles(rng, 1, 2, low=0.99)
    B, C = complex_normal(rng, 1, 2), complex_normal(rng, 1, 2)
    u = rng.standard_normal((1, 1, 1047))
    yield Example((A, B, C, None, u, None), {"real": True}, "L 1047, |A_bar| in [0.99, 1)")
