"""The published training run, timed: 10,000 epochs, 20 samples, 4 poles, complex64, one-step.

Verified first: the losses of all contestants against the published log. Rivals in the same process:
the same loop in plain NumPy (vectorised over poles and, where it can be, over time), and the loop
as one would first write it in Numba, on complex numbers. Quoted for scale: the original, compiled
with full optimisation and sizes known at compile time, needs 3.1 ns per epoch x step x pole (2.5
ms).
"""

import argparse
import json
import time

import numba
import numpy as np

from ssm_manual.tasks import published

POLE_STEPS = published.PUBLISHED_EPOCHS * 20 * 4
ORIGINAL_NS = 3.1


def numpy_loop(A, B, C, u, target, epochs, rates, radius):
    """The run in plain NumPy."""
    L = u.size
    x = np.zeros((L + 1, A.size), A.dtype)
    losses = np.empty(epochs, np.float32)
    for epoch in range(epochs):
        for t in range(L):
            x[t + 1] = A * x[t] + B * u[t]
        e = x[1:] @ C - target
        losses[epoch] = np.sum(e.real**2 + e.imag**2)
        grad_A = C.conj() * (e @ x[:-1].conj()) / L
        grad_B = C.conj() * (e @ u) / L
        grad_C = (e @ x[1:].conj()) / L
        A = A - rates[0] * grad_A
        B = B - rates[1] * grad_B
        C = C - rates[2] * grad_C
        size = np.abs(A)
        A = np.where(size > radius, A * (radius / np.maximum(size, radius)), A)
    return losses


@numba.njit
def first_numba_loop(A, B, C, u, target, epochs, rates, radius):
    """The run as one would first write it in Numba: complex scalars, gradients as defined."""
    L, N = u.size, A.size
    losses = np.empty(epochs, np.float32)
    x, before = np.zeros(N, A.dtype), np.zeros(N, A.dtype)
    grad_A, grad_B, grad_C = np.zeros(N, A.dtype), np.zeros(N, A.dtype), np.zeros(N, A.dtype)
    scale = np.float32(1 / L)
    for epoch in range(epochs):
        x[:] = 0
        grad_A[:] = 0
        grad_B[:] = 0
        grad_C[:] = 0
        total = np.float32(0)
        for t in range(L):
            y = A.dtype.type(0)
            for n in range(N):
                before[n] = x[n]
                x[n] = A[n] * x[n] + B[n] * u[t]
                y += C[n] * x[n]
            e = y - target[t]
            total += e.real * e.real + e.imag * e.imag
            for n in range(N):
                lam = np.conj(C[n]) * e
                grad_A[n] += lam * np.conj(before[n])
                grad_B[n] += lam * u[t]
                grad_C[n] += e * np.conj(x[n])
        losses[epoch] = total
        for n in range(N):
            A[n] -= rates[0] * (grad_A[n] * scale)
            B[n] -= rates[1] * (grad_B[n] * scale)
            C[n] -= rates[2] * (grad_C[n] * scale)
            size = np.sqrt(A[n].real ** 2 + A[n].imag ** 2)
            if size > radius:
                A[n] *= radius / size
    return losses


def ours():
    """The run through the public `fit`, in one call."""
    u, target = published.published_data()
    model = published.published_model()
    start = time.perf_counter()
    history = model.fit(
        u,
        target,
        epochs=published.PUBLISHED_EPOCHS,
        rates=published.PUBLISHED_RATES,
        mode="one_step",
    )
    return time.perf_counter() - start, u.size * history.losses


def rival(loop, epochs=published.PUBLISHED_EPOCHS):
    """The run through one of the loops above."""
    u, target = published.published_data()
    params = published.published_model().params
    arguments = [params[name].copy() for name in "ABC"]
    rates = np.array([published.PUBLISHED_RATES[name] for name in "ABC"], np.float32)
    start = time.perf_counter()
    losses = loop(*arguments, u, target, epochs, rates, np.float32(0.999))
    return time.perf_counter() - start, losses


def verify(name, losses, log):
    """Stop where a contestant does not do the work."""
    worst = max(abs(losses[e["epoch"]] / e["loss"] - 1) for e in log if e["epoch"] < losses.size)
    if worst > 1e-3:
        raise SystemExit(f"{name}: losses deviate from the published log by {worst:.1e}")
    return worst


def main():
    """Verify, warm up, time in turn, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20, help="timed runs of each (default 20)")
    parser.add_argument("--quick", action="store_true", help="one timed run of each")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    args = parser.parse_args()
    repeats = 1 if args.quick else args.repeats

    log = published.published_figures()["log"]
    first, losses = ours()
    print(f"first call, compilation or loading from the cache included: {first:.2f} s")
    _, rival_losses = rival(first_numba_loop)
    numpy_epochs = 1001
    numpy_time, numpy_losses = rival(numpy_loop, numpy_epochs)
    for name, values in (("fit", losses), ("numba", rival_losses), ("numpy", numpy_losses)):
        worst = verify(name, values, log)
        print(f"verified {name:6s}: losses within {worst:.1e} of the published log")

    times = {"fit": [], "first Numba loop": []}
    numpy_times = [numpy_time]
    for _ in range(repeats):  # in turn, so that a slow minute slows all
        times["fit"].append(ours()[0])
        times["first Numba loop"].append(rival(first_numba_loop)[0])
    numpy_times += [rival(numpy_loop, numpy_epochs)[0] for _ in range(2)]
    times["plain NumPy"] = [t * published.PUBLISHED_EPOCHS / numpy_epochs for t in numpy_times]

    best = np.min(times["fit"])
    median = np.median(times["fit"])
    print(f"\n{'':18s}  best (ms)  median (ms)  ns/epoch/step/pole   times fit (median)")
    results = {}
    for name, values in times.items():
        low, middle = np.min(values), np.median(values)
        ns = low / POLE_STEPS * 1e9
        ratio = middle / median
        print(f"{name:18s}  {low * 1e3:9.2f}  {middle * 1e3:11.2f}  {ns:18.2f}  {ratio:18.1f}")
        results[name] = {"best_s": low, "median_s": middle, "ns": ns, "times_fit": ratio}
    quoted = ORIGINAL_NS * POLE_STEPS * 1e-6
    print(f"{'original, quoted':18s}  {quoted:9.2f}  {'':11s}  {ORIGINAL_NS:18.2f}")
    print(f"\nfit / original: {best / POLE_STEPS * 1e9 / ORIGINAL_NS:.2f}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
