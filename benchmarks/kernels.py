"""The kernel of one pole by every method, against the time of merely filling the array.

Verified first: all methods and rivals agree, each within the error that it may have. Then they run
in turn, round after round, so that a slow minute slows all; the shortest time of each counts. The
result goes into one array, allocated and warm. Rivals: ``ndarray.fill`` (the floor: nothing can
write the array faster), ``np.exp(np.log(A_bar) * np.arange(L))`` and ``scipy.signal.lfilter`` on an
impulse. One pole of modulus 1 - 5e-7; the error is that of the last sample against a single power
in double-double, in units of 2^-53 (complex64: 2^-24).

Then short kernels of many poles at once, from which `ssm_manual.ops.kernels.generate` takes its
table for ``method="auto"``, and what a call costs beside its kernel.
"""

import argparse
import json
import time

import numba
import numpy as np
from scipy import signal

from ssm_manual.ops import kernels
from ssm_manual.ops.kernels.anchored import anchored_one

A, B, C = 0.9999995 * np.exp(2.3j), 1 + 0.25j, 0.25 - 1j  # C B is exact in both precisions
UNIT = {np.dtype(np.complex128): 2.0**-53, np.dtype(np.complex64): 2.0**-24}

#: What takes tens of nanoseconds a sample runs in few rounds.
SLOW = {"log", "np.exp(np.log)", "lfilter"}


def contestants(pole, out):
    """Name -> function that fills ``out`` (or, for the rivals of NumPy and SciPy, returns K)."""
    length, dtype = out.size, out.dtype
    impulse = np.zeros(length, dtype)
    impulse[0] = 1

    def ours(method, threads):
        def run():
            numba.set_num_threads(threads)
            return kernels.generate(*pole, length, method=method, out=out)

        return run

    ways = {"fill": lambda: out.fill(1)}
    for method in ("anchored", "recursive", "naive", "log", "log_parallel"):
        ways[method] = ours(method, 1)
    most = numba.config.NUMBA_NUM_THREADS
    if most > 1:
        ways[f"log_parallel, {most} threads"] = ours("log_parallel", most)
    a, b, c = pole
    ways["np.exp(np.log)"] = lambda: c * b * np.exp(np.log(a) * np.arange(length, dtype=dtype))
    numerator, denominator = np.array([c * b], dtype), np.array([1, -a], dtype)
    ways["lfilter"] = lambda: signal.lfilter(numerator, denominator, impulse)
    return ways


def verify(pole, ways, out):
    """Errors of the last sample in units by name; fails if a kernel is wrong anywhere."""
    dtype, length = out.dtype, out.size
    a, b, c = (complex(z) for z in pole)
    exact = complex(c * b) * kernels.power(a, length - 1)
    wide = kernels.generate(a, b, c, length, method="log_parallel")
    errors = {}
    for name, way in ways.items():
        if name == "fill":
            continue
        K = way()
        errors[name] = float(abs(complex(K[-1]) - exact) / abs(exact) / UNIT[dtype])
        # Without drift 8 units, and as many of the comparison; a chain sqrt(5) a step; log-space
        # the rounding of a logarithm of size 2.3, multiplied by t, and that of the product.
        drift = 0 if name.startswith(("anchored", "log_p")) else 6
        worst = np.max(np.abs(K - wide) / np.abs(wide))
        if not worst <= (16 + drift * length) * UNIT[dtype]:
            raise SystemExit(f"{name} is off by {worst:.1e} in {length} samples of {dtype}")
    return errors


def shortest(ways, out, budget, rounds):
    """Seconds by name: the shortest of ``rounds``, or of as many as fit into ``budget`` seconds."""
    times = {name: [] for name in ways}
    start = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - start > budget:
            break
        for name, way in ways.items():
            if name in SLOW and done >= 3 and times[name][0] > 1e-3:
                continue
            out.fill(0)
            before = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - before)
    return {name: min(found) for name, found in times.items()}


def many(dtype, length, rounds):
    """Seconds a kernel of 512 poles at once, by method."""
    rng = np.random.default_rng(0)
    pole = rng.uniform(0.9, 0.999, 512) * np.exp(2j * np.pi * rng.random(512))
    pole, ones = pole.astype(dtype), np.ones(512, dtype)
    out = np.zeros((512, length), dtype)
    ways = {
        method: lambda method=method: kernels.generate(
            pole, ones, ones, length, method=method, out=out
        )
        for method in ("recursive", "anchored")
    }
    one, other = (way().copy() for way in ways.values())
    if np.max(np.abs(one - other)) > 6 * length * UNIT[dtype]:
        raise SystemExit(f"the methods differ at {length} samples of {dtype}")
    return {name: s / 512 for name, s in shortest(ways, out, 1.0, rounds).items()}


def calls(rounds):
    """Seconds of `generate` at L = 1000, of its kernel alone and of an empty jitted call."""
    pole = complex(A), complex(B), complex(C)
    K = np.empty(1000, complex)

    @numba.njit
    def empty(A_bar, B_bar, C, length):
        pass

    @numba.njit
    def repeated(A_bar, B_bar, C, K, times):
        for _ in range(times):
            anchored_one(A_bar, B_bar, C, K)

    array = np.array([A])
    ways = {
        "generate": (lambda: kernels.generate(*pole, 1000), 100),
        "empty": (lambda: empty(*pole, 1000), 100),
        "generate of arrays": (lambda: kernels.generate(array, *pole[1:], 1000), 20),
    }
    best = dict.fromkeys([*ways, "kernel"], np.inf)
    for way, _ in ways.values():
        way()
    repeated(*pole, K, 1)
    for _ in range(rounds):
        for name, (way, times) in ways.items():
            before = time.perf_counter()
            for _ in range(times):
                way()
            best[name] = min(best[name], (time.perf_counter() - before) / times)
        before = time.perf_counter()
        repeated(*pole, K, 100)
        best["kernel"] = min(best["kernel"], (time.perf_counter() - before) / 100)
    return best


def main():
    """Compile, verify, time in turn, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    args = parser.parse_args()
    lengths = [
        2**n for n in ((6, 10, 14) if args.quick else (6, 8, 10, 12, 14, 16, 18, 20, 22, 24))
    ]
    rounds, budget = (5, 0.3) if args.quick else (400, 3.0)
    threads = numba.get_num_threads()
    results = {"kernels": [], "compilation_s": {}}

    for dtype in UNIT:
        pole = tuple(np.array(z, dtype) for z in (A, B, C))
        for name, way in contestants(pole, np.empty(64, dtype)).items():
            start = time.perf_counter()
            way()
            if name in kernels.METHODS:
                results["compilation_s"][f"{name}, {dtype}"] = time.perf_counter() - start
    print("compilation or loading from the cache, seconds:")
    for name, seconds in results["compilation_s"].items():
        print(f"  {name:25} {seconds:6.2f}")

    for dtype in UNIT:
        pole = tuple(np.array(z, dtype) for z in (A, B, C))
        for length in lengths:
            out = np.zeros(length, dtype)
            ways = contestants(pole, out)
            errors = verify(pole, ways, out)
            times = shortest(ways, out, budget, rounds)
            print(f"\n{dtype}, L = {length} (verified)")
            head = f"{'us':>10} {'ns/sample':>10} {'/ fill':>8} {'/ anchored':>11}  error (units)"
            print(f"{'':25} {head}")
            for name, seconds in times.items():
                error = errors.get(name)
                print(
                    f"  {name:23} {seconds * 1e6:10.1f} {seconds / length * 1e9:10.3f} "
                    f"{seconds / times['fill']:8.2f} {seconds / times['anchored']:11.2f}"
                    + ("" if error is None else f"  {error:13.1f}")
                )
                results["kernels"].append(
                    {"dtype": str(dtype), "length": length, "method": name, "seconds": seconds}
                    | ({} if error is None else {"error_units": error})
                )
    numba.set_num_threads(threads)

    results["many_s"] = []
    print("\n512 poles at once, ns a kernel (verified)")
    print(f"{'':12} {'L':>6} {'recursive':>10} {'anchored':>10} {'recursive / anchored':>21}")
    for dtype in UNIT:
        for length in (8, 16, 32, 64, 128, 256, 512, 1024):
            found = many(dtype, length, rounds)
            results["many_s"].append({"dtype": str(dtype), "length": length} | found)
            a, b = found["recursive"], found["anchored"]
            print(f"{dtype!s:12} {length:6d} {a * 1e9:10.0f} {b * 1e9:10.0f} {a / b:21.2f}")

    found = results["call_s"] = calls(20 if args.quick else 400)
    beyond = found["generate"] - found["kernel"]
    print("\none call of generate with three complex numbers, L = 1000")
    for name, seconds in found.items():
        print(f"  {name:23} {seconds * 1e6:10.2f} us")
    ratio = beyond / found["empty"]
    print(f"  beyond the kernel       {beyond * 1e6:10.2f} us, {ratio:.1f} empty calls")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
