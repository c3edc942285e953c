"""Random diagonal plus low-rank systems for the registry."""

import numpy as np

from ssm_manual.ops._examples import complex_normal


def systems(rng):
    """(note, real, (Lambda, P, Q, B, C, dt), length): every kind of call, in double precision.

    Poles last about as long as the kernel: of faster ones the truncation has no gradient to see.
    """
    sizes = [(1, 1, 1, 1), (2, 1, 3, 2), (1, 1, 4, 17), (2, 2, 4, 33), (2, 1, 3, 64), (1, 2, 2, 41)]
    for real in (True, False):
        for i, (H, rank, N, L) in enumerate(sizes):
            side = "Im > 0" if i % 2 else "Im < 0"
            dt = rng.uniform(0.05, 0.2, H) * (1 if L < 60 else 0.3)
            decay = rng.uniform(0.5, 1.5, (H, N)) / (L * dt[:, None])
            turn = rng.uniform(0.3, 1.5, (H, N)) / dt[:, None] * (1 if i % 2 else -1)
            P, Q = (complex_normal(rng, H, rank, N) * np.sqrt(1 / (4 * N * L)) for _ in range(2))
            P, Q = P / dt[:, None, None] ** 0.5, Q / dt[:, None, None] ** 0.5
            args = -decay + 1j * turn, P, Q, complex_normal(rng, H, N), complex_normal(rng, H, N)
            yield f"real={real}, {side}, H {H}, rank {rank}, N {N}, L {L}", real, (*args, dt), L
        Lambda = -0.1 + 1j * rng.uniform(-8, 8, 3)
        P, Q = 0.3 * complex_normal(rng, 1, 3), 0.3 * complex_normal(rng, 2, 1, 3)
        args = Lambda, P, Q, complex_normal(rng, 1, 3), complex_normal(rng, 3), np.array(0.1)
        yield f"real={real}, broadcast", real, args, 21
        args = Lambda, P, P.copy(), *args[3:]
        yield f"real={real}, P = Q, P^* P beside -Re Lambda", real, args, 30
    weights = (rng.standard_normal(shape) for shape in [(1, 3), (1, 3), 3, 3])
    yield "real parameters", True, (-rng.uniform(0.1, 1, 3), *weights, 0.2), 12
