"""The ops around the operator of a deep model, each beside the time that it cannot go below.

At (batch, 128, length) in float32, forward and backward: for maps of single numbers, norms and
gates the floor is memory, the bytes that must be read and written at the rate of a copy by the same
threads; for dense maps it is the rate of a large matrix product on as many threads. Verified first
against the reference in double precision.
"""

import argparse
import json
import time

import numpy as np

from ssm_manual import reference
from ssm_manual._numba import parallel_jit, prange, threads
from ssm_manual.ops import (
    activations,
    dropout,
    embedding,
    gelu,
    gelu_dropout,
    glu,
    layer_norm,
    linear,
    linear_glu,
    pool,
    rms_norm,
)

H, PIECE = 128, 4096


@parallel_jit
def shared_copy(a, b):
    """A copy by all threads, in pieces as the ops take them."""
    for i in prange(a.shape[0]):
        b[i] = a[i]


def cases(rng, batch, L):
    """Name: (fwd, vjp, args, options, reference, arrays read and written or products)."""

    def draw(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    x, wide = draw(batch, H, L), draw(batch, 2 * H, L)
    weight, bias = draw(2 * H, H) / 12, draw(2 * H)
    scale, shift = draw(H), draw(H)
    ids, table = rng.integers(0, 256, (batch, L)), draw(256, H)
    mask = {"rate": 0.1, "seed": 1}
    axis = {"axis": -2}
    memory = {"floor": (2, 3)}  # arrays of x's size: read x, write y; read x and g, write grad_x
    product = {"products": 2 * H}

    def case(module, name, args, options, floor):
        pair = getattr(module, name + "_fwd"), getattr(module, name + "_vjp")
        twin = getattr(reference, module.__name__.rpartition(".")[2])
        return *pair, args, options, getattr(twin, name), floor

    return {
        "relu": case(activations, "relu", (x,), {}, memory),
        "sigmoid": case(activations, "sigmoid", (x,), {}, memory),
        "tanh": case(activations, "tanh", (x,), {}, memory),
        "gelu": case(gelu, "gelu", (x,), {}, memory),
        "dropout": case(dropout, "dropout", (x,), mask, {"floor": (2, 2)}),
        "gelu_dropout": case(gelu_dropout, "gelu_dropout", (x,), mask, memory),
        "layer_norm": case(layer_norm, "layer_norm", (x, scale, shift), axis, memory),
        "rms_norm": case(rms_norm, "rms_norm", (x, scale), axis, memory),
        "glu": case(glu, "glu", (wide,), axis, {"floor": (3, 5)}),
        "embedding": case(embedding, "embedding", (ids, table), axis, {"floor": (1, 1)}),
        "pool": case(pool, "pool", (x,), {}, {"floor": (1, 1)}),
        "linear": case(linear, "linear", (x, weight, bias), axis, product),
        "linear_glu": case(linear_glu, "linear_glu", (x, weight, bias), axis, product),
    }


def verify(found):
    """Largest error of every op's output, relative to the largest number of it."""
    errors = {}
    for name, (fwd, _, args, options, twin, _) in found.items():
        exact = twin(*(a if a.dtype.kind == "i" else a.astype(float) for a in args), **options)
        error = np.max(np.abs(fwd(*args, **options)[0] - exact)) / np.max(np.abs(exact))
        if not error < 2e-6:
            raise SystemExit(f"{name} differs from its reference by {error:.1e}")
        errors[name] = float(error)
    return errors


def best(calls, rounds):
    """Seconds of each call: the shortest of some rounds in turn."""
    times = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def main():
    """Verify, warm up, time in turn, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    options = parser.parse_args()
    batch, L, side, rounds = (2, 256, 256, 2) if options.quick else (16, 1024, 2048, 30)
    rng = np.random.default_rng(0)

    errors = verify(cases(rng, 1, 40))
    print(f"verified: largest error {max(errors.values()):.1e} of the largest number")
    found = cases(rng, batch, L)
    pieces = np.ones((batch * H * L // PIECE, PIECE), np.float32)
    matrix = rng.standard_normal((side, side), dtype=np.float32)
    calls = {
        "copy": lambda: shared_copy(pieces, np.empty_like(pieces)),
        "product": lambda: matrix @ matrix,
    }
    for name, (fwd, vjp, args, chosen, _, _) in found.items():
        y, kept = fwd(*args, **chosen)
        g = rng.standard_normal(y.shape, dtype=np.float32)
        calls[name, 0] = lambda f=fwd, a=args, o=chosen: f(*a, **o)
        calls[name, 1] = lambda f=vjp, k=kept, g=g: f(k, g)
    for call in calls.values():
        call()  # compile
    times = best(calls, rounds)

    a_pass, rate = times["copy"] / 2, 2 * side**3 / times["product"]
    print(f"\nbatch {batch}, H {H}, L {L}, float32, {threads()} threads; a copy takes "
          f"{times['copy'] * 1e3:.2f} ms, a large product {rate / 1e9:.0f} GFLOP/s\n")  # fmt: skip
    print(" " * 14 + "   forward    floor  ratio    backward    floor  ratio")
    results = {"errors": errors, "copy_s": times["copy"], "product_flops": rate, "ops": {}}
    for name, (*_, floor) in found.items():
        if "products" in floor:
            work = 2 * floor["products"] * H * batch * L
            floors = work / rate, 2 * work / rate
        else:
            floors = [arrays * a_pass for arrays in floor["floor"]]
        row = [(times[name, i], floors[i], times[name, i] / floors[i]) for i in (0, 1)]
        (t, f, r), (t_back, f_back, r_back) = row
        print(f"{name:14s}{t * 1e3:7.2f} ms{f * 1e3:9.2f}{r:7.1f}{t_back * 1e3:9.2f} ms"
              f"{f_back * 1e3:9.2f}{r_back:7.1f}")  # fmt: skip
        results["ops"][name] = {"forward_s": t, "forward_floor_s": f} | {
            "backward_s": t_back,
            "backward_floor_s": f_back,
        }
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
