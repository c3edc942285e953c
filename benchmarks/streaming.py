"""A layer sample by sample and block by block: time of a step, and memory of an endless stream.

One step of an S4D layer (batch 1, 128 channels, 32 stored modes, float32) beside a compiled call
that does nothing with the same arguments: with the two arrays of `step`, and with all that the
compiled step takes, the layer's tables and parameters included. Then a long signal through one
channel, block by block, the state carried over. Verified first: steps against the whole sequence,
and the stream against the convolution view of the whole signal.
"""

import argparse
import json
import time

import numba
import numpy as np

from ssm_manual.layers import S4D, _continuous

H, N = 128, 32


def resident():
    """Resident memory in megabytes; zero where the system does not tell."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024
    except OSError:
        return 0.0


def shortest(calls, rounds):
    """Seconds of each call: the shortest mean of a hundred; the calls take turns."""
    best = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(100):
                call()
            best[name] = min(best[name], (time.perf_counter() - start) / 100)
    return best


def steps(rng, rounds):
    """Times of a step and of empty calls, after verification."""
    layer = S4D(H, N, rng=rng)
    u = rng.standard_normal((1, H, 50), dtype=np.float32)
    y, last, _ = layer.forward(u)
    state, out = None, []
    for t in range(50):
        y_t, state = layer.step(np.ascontiguousarray(u[..., t]), state)
        out.append(y_t)
    error = np.linalg.norm(np.stack(out, -1) - y) / np.linalg.norm(y)
    drift = np.linalg.norm(state - last) / np.linalg.norm(last)
    if not max(error, drift) < 1e-5:
        raise SystemExit(f"steps differ from the sequence by {max(error, drift):.1e}")

    @numba.njit
    def empty(u_t, state):
        pass

    @numba.njit
    def empty_with_all(parameters, tables, u_t, state, y, after):
        pass

    u_t = np.ascontiguousarray(u[..., 0])
    _, tables = layer._tables  # as the compiled step takes them
    everything = _continuous.parameters(layer), tables, u_t, state, out[0], state.copy()
    empty(u_t, state), empty_with_all(*everything)
    calls = {
        "step": lambda: layer.step(u_t, state),
        "empty call, (u_t, state)": lambda: empty(u_t, state),
        "empty call, all arrays": lambda: empty_with_all(*everything),
    }
    return shortest(calls, rounds)


def stream(rng, length, block):
    """Seconds and megabytes of a long signal in blocks, after verification of the whole of it."""
    layer = S4D(1, N, rng=rng, view="chunked")
    u = rng.standard_normal((1, 1, length), dtype=np.float32)
    y = np.zeros_like(u)
    layer.forward(u[..., :block])  # compiled
    before, most, start, state = resident(), 0.0, time.perf_counter(), None
    for at in range(0, length, block):
        y[..., at : at + block], state, _ = layer.forward(u[..., at : at + block], state)
        most = max(most, resident() - before)
    seconds = time.perf_counter() - start
    whole = S4D.from_arrays(**layer.to_arrays(), view="convolution")
    expected, last, _ = whole.forward(u)
    error = np.linalg.norm(y - expected) / np.linalg.norm(expected)
    drift = np.linalg.norm(state - last) / np.linalg.norm(last)
    if not max(error, drift) < 3e-4:
        raise SystemExit(f"the stream differs from the convolution by {max(error, drift):.1e}")
    return {"seconds": seconds, "added_mb": most, "error": float(error), "last": float(drift)}


def main():
    """Verify, time, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short stream, few rounds")
    parser.add_argument("--length", type=int, default=10**7, help="of the stream (default 10^7)")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    length = 200_000 if args.quick else args.length

    times = steps(rng, 3 if args.quick else 200)
    print(f"one step, H {H}, N {N}, float32 (verified)")
    for name, seconds in times.items():
        print(f"  {name:26} {seconds * 1e6:8.2f} us   step / this {times['step'] / seconds:6.1f}")

    block = 65536
    found = stream(rng, length, block)
    print(f"\na stream of {length} samples, N {N}, in blocks of {block} (verified)")
    print(f"  {found['seconds'] / length * 1e9:.2f} ns a sample, {found['seconds']:.2f} s in all")
    print(f"  memory that it added beside input and output: at most {found['added_mb']:.1f} MB")
    print(f"  against the convolution view of the whole: {found['error']:.1e}, last state "
          f"{found['last']:.1e}")  # fmt: skip
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"seconds": times, "stream": found}, file, indent=1)


if __name__ == "__main__":
    main()
