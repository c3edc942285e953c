"""The kernel of a layer, K (H, L) from exponents dt A, timed against broadcast exponentials.

The rivals form exp(dtA l) for all channels, modes and samples, (H, N, L), and sum over the modes,
as published S4D code does: PyTorch and JAX with their automatic gradients (skipped where not
installed), and NumPy forward alone. float32, 128 channels, 32 stored modes.

Verified first, on some of the channels: kernels against a float64 oracle, where ours must not err
more than the rivals, and gradients. Then all are timed in turn, minima are printed, and the work is
set beside the rate of a large matrix product in the same process. Last, memory: how far a process
of its own grows during a call, K and (backward) its cotangent included.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings

import numpy as np

from ssm_manual import reference
from ssm_manual.ops import vandermonde

PEAK = """
import numpy as np
from ssm_manual.ops import vandermonde

def memory(field):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))

def call(H, length, backward):
    x = np.full((H, N), -0.001 + 0.1j, np.complex64)
    K, kept = vandermonde.kernel_from_exponent_fwd(x, x, x, length)
    if backward:
        g = np.ones_like(K)
        vandermonde.kernel_from_exponent_vjp(kept, g)

N = {N}
for H, length in ((2, 100), (64, 1 + (1 << 20) // (64 * N))):  # loads every kernel
    call(H, length, True)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew: compilers have had theirs
before = memory("VmRSS")
call({H}, {L}, {backward})
print(memory("VmHWM") - before)
"""


def problem(H, N, L, rng):
    """Exponents as S4D-Lin begins with, weights, and a cotangent; float32."""
    dt = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), (H, 1)))
    dtA = dt * (-0.5 + 1j * np.pi * np.arange(N))
    B, C = (rng.standard_normal((H, N)) + 1j * rng.standard_normal((H, N)) for _ in range(2))
    args = tuple(a.astype(np.complex64) for a in (dtA, B, C))
    return args, rng.standard_normal((H, L)).astype(np.float32)


class Ours:
    """The op of this package."""

    def forward(self, args, L):
        return vandermonde.kernel_from_exponent(*args, L)

    def both(self, args, g):
        K, kept = vandermonde.kernel_from_exponent_fwd(*args, g.shape[-1])
        return K, vandermonde.kernel_from_exponent_vjp(kept, g)[:3]


class NumPy:
    """Broadcast exponentials."""

    def forward(self, args, L):
        dtA, B, C = args
        powers = np.exp(dtA[..., None] * np.arange(L, dtype=np.float32))
        return 2 * np.einsum("hn,hnl->hl", C * B, powers).real

    both = None


class PyTorch:
    """Broadcast exponentials, and automatic gradients."""

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
        self.torch = torch

    def kernel(self, dtA, B, C, L):
        powers = self.torch.exp(dtA[..., None] * self.torch.arange(L))
        return 2 * self.torch.einsum("hn,hnl->hl", C * B, powers).real

    def forward(self, args, L):
        with self.torch.no_grad():
            return self.kernel(*(self.torch.from_numpy(a) for a in args), L).numpy()

    def both(self, args, g):
        args = [self.torch.from_numpy(a).requires_grad_() for a in args]
        K = self.kernel(*args, g.shape[-1])
        K.backward(self.torch.from_numpy(g))
        return K.detach().numpy(), [a.grad.numpy() for a in args]


class JAX:
    """Broadcast exponentials, compiled, and automatic gradients."""

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jax
            import jax.numpy as jnp

        def kernel(dtA, B, C, L):
            powers = jnp.exp(dtA[..., None] * jnp.arange(L))
            return 2 * jnp.einsum("hn,hnl->hl", C * B, powers).real

        def both(args, g):
            K, pull = jax.vjp(lambda *a: kernel(*a, g.shape[-1]), *args)
            return K, [a.conj() for a in pull(g)]  # JAX's gradients are the conjugates of ours

        self.jitted = jax.jit(kernel, static_argnums=3), jax.jit(both)

    def forward(self, args, L):
        return np.asarray(self.jitted[0](*args, L))

    def both(self, args, g):
        K, grads = self.jitted[1](args, g)
        return np.asarray(K), [np.asarray(a) for a in grads]


def contestants():
    """Those that are installed, by name."""
    found = {}
    for kind in (Ours, NumPy, PyTorch, JAX):
        try:
            found[kind.__name__] = kind()
        except ImportError as error:
            print(f"{kind.__name__} is skipped: {error} (the extra `bench` installs it)")
    return found


def off(found, exact):
    """The norm of the error, relative to that of the exact values."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def verify(names, args, g):
    """Errors of kernels and of gradients (the worst argument) by name; ours must be the least."""
    double = tuple(a.astype(complex) for a in args)
    L = g.shape[-1]
    K = reference.vandermonde.kernel_from_exponent(*double, L)
    grads = reference.vandermonde.kernel_from_exponent_vjp(*double, L, g.astype(float))
    errors = {}
    for name, rival in names.items():
        errors[name] = {"kernel": off(rival.forward(args, L), K)}
        if rival.both:
            found = rival.both(args, g)[1]
            errors[name]["gradient"] = max(off(a, e) for a, e in zip(found, grads))
    for name, found in errors.items():
        if any(value > 1e-3 for value in found.values()):
            raise SystemExit(f"{name} is off by {found}")
        if any(errors["Ours"][what] > value for what, value in found.items()):
            raise SystemExit(f"ours errs more than {name}: {errors}")
    return errors


def fastest(calls, seconds, at_least):
    """The least time of each call; all are run in turn until the time is up."""
    times = {name: [] for name in calls}
    start = time.perf_counter()
    rounds = 0
    while rounds <= at_least or time.perf_counter() - start < seconds:
        for name, call in calls.items():
            for _ in range(5 if name.startswith("Ours") else 1):
                begin = time.perf_counter()
                call()
                if rounds:  # the first round warms up
                    times[name].append(time.perf_counter() - begin)
        rounds += 1
    return {name: min(values) for name, values in times.items()}


def peak_memory(H, N, L, backward):
    """Bytes by which a fresh process grows at most during one call; None where Linux is not."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return None
    code = PEAK.replace("{N}", str(N)).replace("{H}", str(H)).replace("{L}", str(L))
    code = code.replace("{backward}", str(backward))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def main():
    """Verify, warm up, time in turn, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    parser.add_argument("--seconds", type=float, default=60, help="time for the timing (60)")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    options = parser.parse_args()
    H, N, L, side = (16, 8, 1024, 256) if options.quick else (128, 32, 16384, 2048)
    args, g = problem(H, N, L, np.random.default_rng(0))
    names = contestants()

    start = time.perf_counter()
    names["Ours"].both(args, g)
    print(f"compilation or loading from the cache: {time.perf_counter() - start:.2f} s")
    some = slice(None, None, 16)
    errors = verify(names, tuple(a[some] for a in args), g[some])
    print("verified against float64, relative error of the norm:")
    for name, found in errors.items():
        print(f"  {name:8s}" + "".join(f"  {what} {value:.1e}" for what, value in found.items()))

    a = np.random.default_rng(1).standard_normal((side, side)).astype(np.float32)
    calls = {"matrix product": lambda: a @ a}
    for name, rival in names.items():
        calls[f"{name} forward"] = lambda rival=rival: rival.forward(args, L)
        if rival.both:
            calls[f"{name} forward + backward"] = lambda rival=rival: rival.both(args, g)
    times = fastest(calls, 0 if options.quick else options.seconds, 2)

    rate = 2 * side**3 / times.pop("matrix product")
    print(f"\nH {H}, N {N}, L {L}, float32; a large matrix product: {rate / 1e9:.0f} GFLOP/s")
    print(f"{'':28s}{'ms':>9s}{'/ ours':>9s}{'of the product rate':>21s}")
    results = {"errors": errors, "product_flops": rate, "times_s": times, "memory": {}}
    for way, work in (("forward", 4 * H * N * L), ("forward + backward", 12 * H * N * L)):
        ours = times[f"Ours {way}"]
        for name, value in times.items():
            if name.split(" ", 1)[1] == way:
                share = f"{work / value / rate:21.1%}"
                print(f"{name:28s}{value * 1e3:9.2f}{value / ours:9.1f}{share}")
    for way, backward in (("forward", False), ("forward + backward", True)):
        grown = peak_memory(H, N, L, backward)
        if grown is not None:
            results["memory"][way] = grown / (4 * H * L)
            print(
                f"memory of {way}: at most {grown / (4 * H * L):.2f} times K, which has "
                f"{4 * H * L / 1e6:.1f} MB; exponentials would take {2 * N} times"
            )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
