"""The three views, timed against each other over length and batch; forward plus backward.

Verified first: all views agree in the output and in every gradient. Then they are timed in turn,
so that a slow minute slows all. float32, 8 channels, 16 stored poles. `ssm_manual.ops.ssm` takes
its rule for ``view="auto"`` from this table.
"""

import argparse
import json
import time

import numpy as np

from ssm_manual.ops import chunked, convolve, scan

H, N = 8, 16
VIEWS = {
    "scan": (scan.scan_fwd, scan.scan_vjp),
    "convolution": (convolve.convolve_fwd, convolve.convolve_vjp),
    "chunked": (chunked.apply_fwd, chunked.apply_vjp),
}


def problem(batch, length, rng):
    """Weights, input and cotangents of one size."""
    A = rng.uniform(0.9, 0.999, (H, N)) * np.exp(1j * np.pi * rng.random((H, N)))
    B, C = (rng.standard_normal((H, N)) + 1j * rng.standard_normal((H, N)) for _ in range(2))
    u, grad_y = rng.standard_normal((2, batch, H, length)).astype(np.float32)
    D = rng.standard_normal(H).astype(np.float32)
    A, B, C = (a.astype(np.complex64) for a in (A, B, C / N))
    return (A, B, C, D, u), grad_y


def both_ways(view, args, grad_y):
    """Output and gradients in one view."""
    forward, backward = VIEWS[view]
    (y, _), residuals = forward(*args)
    return y, backward(residuals, (grad_y, None))[:5]


def verify(args, grad_y):
    """The largest deviation between the views, relative to each array's norm."""
    y, grads = both_ways("scan", args, grad_y)
    worst = 0.0
    for view in ("convolution", "chunked"):
        other_y, other = both_ways(view, args, grad_y)
        pairs = [(y, other_y), *zip(grads, other)]
        worst = max(worst, *(float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs))
    if worst > 1e-3:
        raise SystemExit(f"the views differ by {worst:.1e}")
    return worst


def main():
    """Verify, warm up, time in turn, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    batches = (1, 4) if args.quick else (1, 4, 16)
    lengths = (64, 512) if args.quick else (64, 256, 1024, 4096)
    repeats = 3 if args.quick else 9

    start = time.perf_counter()
    worst = verify(*problem(4, 64, rng))
    worst = max(worst, verify(*problem(4, 1024, rng)))  # large enough for the parallel kernels
    print(f"compilation or loading from the cache: {time.perf_counter() - start:.2f} s")
    print(f"verified: the views agree to {worst:.1e}\n")
    print(
        "batch  length" + "".join(f"{view + ' (ms)':>18}" for view in VIEWS) + "   scan / chunked"
    )
    results = []
    for batch in batches:
        for length in lengths:
            arrays, grad_y = problem(batch, length, rng)
            times = {view: [] for view in VIEWS}
            for repeat in range(repeats + 1):
                for view in VIEWS:
                    start = time.perf_counter()
                    both_ways(view, arrays, grad_y)
                    if repeat:  # the first round warms up
                        times[view].append(time.perf_counter() - start)
            medians = {view: float(np.median(times[view])) for view in VIEWS}
            columns = "".join(f"{seconds * 1e3:18.3f}" for seconds in medians.values())
            ratio = medians["scan"] / medians["chunked"]
            print(f"{batch:5d}  {length:6d}{columns}  {ratio:15.2f}")
            found = {f"{view}_s": seconds for view, seconds in medians.items()}
            results.append({"batch": batch, "length": length} | found)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
