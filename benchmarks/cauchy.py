"""The kernel of a full S4 layer, K (H, L), forward and with all gradients, timed against NumPy.

The rival is the same mathematics in plain NumPy: broadcast resolvents (channels, pairs, nodes),
matrix products, rank 1, powers by `matrix_power`, and the same adjoint of the sums written with
arrays. It is spared the adjoint of the power, takes 16 channels at a time, for memory, and has its
BLAS on one thread, which on a busy machine is much the faster. 128 channels, 32 stored pairs of
LegS, double precision.

Verified first against dense powers, on some of the channels. Then both are timed in turn, minima
are printed, and the parts of ours beside them.
"""

import argparse
import json
import time

import numpy as np
from threadpoolctl import threadpool_limits

from ssm_manual import hippo, reference
from ssm_manual.ops import cauchy, truncate


def problem(H, N, rng):
    """LegS with N pairs in every channel, dt log-uniform in [1e-3, 1e-1]."""
    Lambda, P, B, _ = hippo.dplr("legs", 2 * N)
    C = rng.standard_normal((H, N)) + 1j * rng.standard_normal((H, N))
    dt = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), H))
    Lambda, P, B = (np.broadcast_to(a, (H, *a.shape)).copy() for a in (Lambda, P, B))
    return Lambda, P, P, B, C, dt


class Plain:
    """Plain NumPy; of the truncation, only the gradient to C."""

    def forward(self, args, L):
        return self.both(args, np.zeros((len(args[0]), L)), forward_only=True)

    def both(self, args, g, forward_only=False):
        Lambda, P, Q, B, C, dt = args
        L, P, Q = g.shape[-1], P[:, 0], Q[:, 0].conj()
        half = dt[:, None] / 2
        pole, p, b = half * Lambda, half * P, half * B
        whole = [np.concatenate([a, a.conj()], axis=-1) for a in (pole, p, Q, C)]
        A = -whole[1][:, :, None] * whole[2][:, None]
        n = np.arange(A.shape[1])
        A[:, n, n] += whole[0]
        I = np.eye(len(n))
        rest = I - np.linalg.matrix_power(np.linalg.solve(I - A, I + A), L) / 2
        C_hat = np.einsum("hi,hij->hj", whole[3], rest)[:, : len(n) // 2]
        zeta = (np.log(2) + 2j * np.pi * np.arange(L // 2 + 1)) / (2 * L)
        S, c = np.sinh(zeta), np.cosh(zeta)
        one = 1 / (S - c * pole[..., None])
        two = 1 / (S - c * pole.conj()[..., None])
        left, right = np.stack([C_hat, Q], axis=1), np.stack([b, p], axis=1)
        v = left[:, :, None] * right[:, None]
        H, N = pole.shape
        flat = v.reshape(H, 4, N)
        k = (flat @ one + flat.conj() @ two).reshape(H, 2, 2, -1)
        eta = k[:, 0, 1] * c / (1 + c * k[:, 1, 1])
        xi = k[:, 1, 0] * c / (1 + c * k[:, 1, 1])
        damp = 2 ** (np.arange(L) / L)
        K = np.fft.irfft((S + c) * (k[:, 0, 0] - eta * k[:, 1, 0]), L) * damp
        if forward_only:
            return K
        gamma = np.fft.rfft(g * damp, norm="forward") * (S + c).conj()
        gamma[:, 1 : (L + 1) // 2] *= 2
        ones = np.ones_like(eta)
        outer = np.stack([ones, -eta], 1)[:, :, None] * np.stack([ones, -xi], 1)[:, None]
        to_k = outer.conj() * gamma[:, None, None]
        to_k = to_k.reshape(H, 4, -1)
        to_v = to_k @ one.conj().swapaxes(1, 2)
        # The conjugate term holds conj(v).
        to_v = to_v + (to_k @ two.conj().swapaxes(1, 2)).conj()
        to_v = to_v.reshape(v.shape)
        turned = flat.swapaxes(1, 2)
        slope = (turned.conj() @ to_k) * (c * one * one).conj()
        slope_two = (turned @ to_k) * (c * two * two).conj()
        to_pole = slope.sum(-1) + slope_two.sum(-1).conj()
        to_left = np.sum(to_v * right.conj()[:, None], axis=2)
        to_right = np.sum(to_v * left.conj()[:, :, None], axis=1)
        row = np.concatenate([to_left[:, 0], 0 * to_left[:, 0]], axis=1)
        to_C = np.einsum("hij,hj->hi", rest.conj(), row)
        return K, (to_pole, to_left, to_right, to_C[:, :N] + to_C[:, N:].conj())


class Ours:
    """The op of this package."""

    def forward(self, args, L):
        return cauchy.cauchy(*args, L)

    def both(self, args, g):
        K, kept = cauchy.cauchy_fwd(*args, g.shape[-1])
        return K, cauchy.cauchy_vjp(kept, g)


def verify(args, g):
    """Largest error of kernels and gradients against the dense recurrence; of the rival's to C."""
    L = g.shape[-1]
    K, grads = Ours().both(args, g)
    exact = reference.cauchy.cauchy_vjp(*args, L, g)
    K_exact = reference.cauchy.cauchy(*args, L)
    plain, rest = Plain().both(args, g)
    scale = np.abs(K_exact).max()
    errors = {
        "kernel": float(np.abs(K - K_exact).max() / scale),
        "gradients": float(
            max(np.abs(a - e).max() / np.abs(e).max() for a, e in zip(grads, exact))
        ),
        "NumPy kernel": float(np.abs(plain - K_exact).max() / scale),
        "NumPy gradient to C": float(np.abs(rest[3] - exact[4]).max() / np.abs(exact[4]).max()),
    }
    if max(errors.values()) > 1e-9:
        raise SystemExit(f"something is off: {errors}")
    return errors


def fastest(calls, seconds):
    """The least time of each call; all are run in turn until the time is up, once at least."""
    times = {name: [] for name in calls}
    start, rounds = time.perf_counter(), 0
    while rounds <= 1 or time.perf_counter() - start < seconds:
        for name, call in calls.items():
            for _ in range(1 if name.startswith("NumPy") else 3):
                begin = time.perf_counter()
                call()
                if rounds:  # the first round warms up
                    times[name].append(time.perf_counter() - begin)
        rounds += 1
    return {name: min(values) for name, values in times.items()}


def contest(args, g):
    """What is timed, by name."""
    L = g.shape[-1]
    kept = truncate.truncate_fwd(*args[:3], *args[4:], L)[1]
    shares = [slice(h, h + 16) for h in range(0, len(g), 16)]
    parts = [(tuple(a[share] for a in args), g[share]) for share in shares]

    def in_parts(call):
        with threadpool_limits(1):
            for part in parts:
                call(*part)

    return {
        "ours forward": lambda: Ours().forward(args, L),
        "ours with gradients": lambda: Ours().both(args, g),
        "NumPy forward": lambda: in_parts(lambda some, _: Plain().forward(some, L)),
        "NumPy with gradients": lambda: in_parts(Plain().both),
        "of which truncation": lambda: truncate.truncate_fwd(*args[:3], *args[4:], L),
        "and its gradients": lambda: truncate.truncate_vjp(kept, args[4]),
    }


def main():
    """Verify, warm up, time in turn, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    parser.add_argument("--seconds", type=float, default=30, help="time for each length (30)")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    options = parser.parse_args()
    H, N, lengths = (4, 4, (256,)) if options.quick else (128, 32, (4096, 16384))
    rng = np.random.default_rng(0)
    args = problem(H, N, rng)
    some = tuple(a[:2] for a in args)
    errors = verify(some, rng.standard_normal((2, min(lengths[0], 1024))))
    print("verified against dense powers: " + ", ".join(f"{k} {v:.0e}" for k, v in errors.items()))
    results = {"errors": errors, "times_s": {}}
    print(f"\nH {H}, {N} pairs, rank 1, double precision\n{'':30s}{'ms':>9s}{'/ ours':>9s}")
    for L in lengths:
        calls = contest(args, rng.standard_normal((H, L)))
        times = fastest(calls, 0 if options.quick else options.seconds)
        results["times_s"][L] = times
        print(f"L {L}")
        for name, value in times.items():
            way = name.split(" ", 1)[1]
            ratio = f"{value / times['ours ' + way]:9.1f}" if name.startswith("NumPy") else ""
            print(f"  {name:28s}{value * 1e3:9.2f}{ratio}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
