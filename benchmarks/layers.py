"""A whole layer, forward and backward: ours in chunks against FFT and Vandermonde S4D.

The rivals do what published S4D code does: a kernel from exponentials exp(dtA l) summed over the
modes, and an FFT convolution; PyTorch and JAX with their automatic gradients (skipped where not
installed). float32, 128 channels, 32 stored modes, S4D-Lin with dt in [1e-3, 0.1].

Verified first, on some of the channels: output and every gradient against float64. Then all are
timed in turn and minima are printed. The achieved rate counts the operations of the chunked
algorithm, 6 Q + 28 N a sample [CHUNK-10] and nothing else, and is set beside the rate of matrix
products in the same process: a large one, and those of the size that a layer is made of. Then the
memory by which a process of its own grows, input and gradients included; and time against length.

Last the same for a layer that is diagonal plus low rank (S4-LegS): `layers.S4` beside `layers.S4D`
of as many states, and beside the published form of it in PyTorch, whose kernel is a sum over
(H, N, L/2 + 1) Cauchy terms. Verified by its output and the gradient to its input.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings

import numpy as np

from ssm_manual._blas import single_threaded
from ssm_manual._numba import gemm, parallel_jit, prange, threads
from ssm_manual.layers import S4, S4D
from ssm_manual.ops import chunked, convolve, scan, truncate

PEAK = """
import numpy as np
from ssm_manual.ops import chunked

def memory(field):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))

def call(batch, H, L):
    dtA = np.full((H, {N}), -0.01 + 0.1j, np.complex64)
    u = np.ones((batch, H, L), np.float32)
    (y, _), kept = chunked.apply_from_exponent_fwd(dtA, dtA, dtA, np.ones(H, np.float32), u)
    g = np.ones_like(u)
    return y, chunked.apply_from_exponent_vjp(kept, (g, None))

call(2, 4, 100)
call(2, 128, 500)  # loads every kernel
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew: compilers have had theirs
before = memory("VmRSS")
call({batch}, {H}, {L})
print(memory("VmHWM") - before)
"""


def problem(batch, H, N, L, rng):
    """Exponents as S4D-Lin begins with, B_bar, C, D, u and the cotangent of y; float32."""
    dt = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), (H, 1)))
    dtA = dt * (-0.5 + 1j * np.pi * np.arange(N))
    B, C = (rng.standard_normal((H, N)) + 1j * rng.standard_normal((H, N)) for _ in range(2))
    u, g = rng.standard_normal((2, batch, H, L), dtype=np.float32)
    weights = tuple(a.astype(np.complex64) for a in (dtA, dt * B, C))
    return (*weights, rng.standard_normal(H).astype(np.float32), u), g


class Ours:
    """The chunked view of this package."""

    def both(self, args, g):
        (y, _), kept = chunked.apply_from_exponent_fwd(*args)
        return y, chunked.apply_from_exponent_vjp(kept, (g, None))[:5]


class PyTorch:
    """Broadcast exponentials, FFT convolution and automatic gradients."""

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
        self.torch = torch
        torch.set_num_threads(threads())

    def both(self, args, g):
        torch = self.torch
        dtA, B, C, D, u = args = [torch.from_numpy(a).requires_grad_() for a in args]
        L = u.shape[-1]
        powers = torch.exp(dtA[..., None] * torch.arange(L))
        K = 2 * torch.einsum("hn,hnl->hl", C * B, powers).real
        spectrum = torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(K, n=2 * L)
        y = torch.fft.irfft(spectrum, n=2 * L)[..., :L] + D[:, None] * u
        y.backward(torch.from_numpy(g))
        return y.detach().numpy(), [a.grad.numpy() for a in args]


class JAX:
    """The same, compiled as a whole."""

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jax
            import jax.numpy as jnp

        def layer(dtA, B, C, D, u):
            L = u.shape[-1]
            powers = jnp.exp(dtA[..., None] * jnp.arange(L))
            K = 2 * jnp.einsum("hn,hnl->hl", C * B, powers).real
            spectrum = jnp.fft.rfft(u, n=2 * L) * jnp.fft.rfft(K, n=2 * L)
            return jnp.fft.irfft(spectrum, n=2 * L)[..., :L] + D[:, None] * u

        def both(args, g):
            y, pull = jax.vjp(layer, *args)
            return y, [a.conj() for a in pull(g)]  # JAX's gradients are the conjugates of ours

        self.jitted = jax.jit(both)

    def both(self, args, g):
        y, grads = self.jitted(args, g)
        return np.asarray(y), [np.asarray(a) for a in grads]


def contestants():
    """Those that are installed, by name."""
    found = {}
    for kind in (Ours, PyTorch, JAX):
        try:
            found[kind.__name__] = kind()
        except ImportError as error:
            print(f"{kind.__name__} is skipped: {error} (pip install torch jax)")
    return found


def off(found, exact):
    """The norm of the error, relative to that of the exact values."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def verify(names, args, g):
    """Errors of the output and of the worst gradient, by name; ours must stay below 3e-4."""
    dtA, B, C, D, u = (a.astype(np.result_type(a, float)) for a in args)
    (y, _), kept = convolve.convolve_fwd(np.exp(dtA), B, C, D, u)
    grad_A, *others = convolve.convolve_vjp(kept, (g.astype(float), None))[:5]
    exact = [np.conj(np.exp(dtA)) * grad_A, *others]
    errors = {}
    for name, rival in names.items():
        found_y, grads = rival.both(args, g)
        worst = max(off(a, e) for a, e in zip(grads, exact))
        errors[name] = {"output": off(found_y, y), "gradient": worst}
    if max(errors["Ours"].values()) > 3e-4:
        raise SystemExit(f"ours is off by {errors['Ours']}")
    return errors


def fastest(calls, seconds, at_least):
    """The least time of each call; all are run in turn until the time is up."""
    times = {name: [] for name in calls}
    start = time.perf_counter()
    rounds = 0
    while rounds <= at_least or time.perf_counter() - start < seconds:
        for name, call in calls.items():
            for _ in range(1 if name in ("PyTorch", "JAX") else 5):
                begin = time.perf_counter()
                call()
                if rounds:  # the first round warms up
                    times[name].append(time.perf_counter() - begin)
        rounds += 1
    return {name: min(values) for name, values in times.items()}


@parallel_jit
def _products(workers, repeats, A, B, out):
    for worker in prange(workers):
        for _ in range(repeats):
            gemm(A[worker], B[worker], 0.0, out[worker])


def products(rng, rows, inner, columns):
    """A call that multiplies small matrices on every thread, and its operations."""
    workers, repeats = threads(), max(1, int(2e8 / (rows * inner * columns)))
    A, B = (
        rng.standard_normal((workers, *shape), dtype=np.float32)
        for shape in ((rows, inner), (inner, columns))
    )
    out = np.empty((workers, rows, columns), np.float32)

    def call():
        with single_threaded():
            _products(workers, repeats, A, B, out)

    return call, 2.0 * workers * repeats * rows * inner * columns


def peak_memory(batch, H, N, L):
    """Bytes by which a fresh process grows at most during one step; None where Linux is not."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return None
    code = PEAK
    for name, value in (("batch", batch), ("H", H), ("N", N), ("L", L)):
        code = code.replace("{" + name + "}", str(value))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


VIEWS = {
    "scan": (scan.scan_fwd, scan.scan_vjp),
    "convolution": (convolve.convolve_fwd, convolve.convolve_vjp),
    "chunked": (chunked.apply_fwd, chunked.apply_vjp),
}


def over_length(views, lengths, batch, H, N):
    """Seconds of some views by length, forward and backward, in turn; minima."""
    found = {view: [] for view in views}
    for L in lengths:
        (dtA, *rest), g = problem(batch, H, N, L, np.random.default_rng(1))
        args = np.exp(dtA), *rest
        times = {view: [] for view in views}
        for _ in range(20 if L <= 1 << 14 else 4):
            for view in views:
                forward, backward = VIEWS[view]
                start = time.perf_counter()
                backward(forward(*args)[1], (g, None))
                times[view].append(time.perf_counter() - start)
        for view, values in times.items():
            found[view].append(min(values))
    return found


def slope(lengths, times):
    """Of log time over log length, by least squares."""
    return float(np.polyfit(np.log(lengths), np.log(times), 1)[0])


def draw(lengths, times, N, ax=None):
    """Time against length, a line for every view; returns the axes."""
    from ssm_manual import plots

    if ax is None:
        ax = plots.figure(6.4, 4.2).add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    for (view, values), colour in zip(times.items(), plots.CYCLE):
        ms = np.array(values) * 1e3
        ax.plot(lengths, ms, marker="o", markersize=4, color=colour)
        ax.annotate(
            f" {view} {ms[-1]:,.0f}", (lengths[-1], ms[-1]), color=colour, va="center", fontsize=9
        )
    ax.margins(x=0.12)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlabel("length (samples)")
    ax.set_ylabel("time, forward + backward (ms)")
    ax.set_title(f"one sequence, 8 channels, {N} stored modes, float32")
    return ax


class PyTorchS4:
    """C~, a Cauchy sum by broadcasting, Woodbury, FFT convolution and automatic gradients."""

    def __init__(self, torch, layer, length):
        self.torch = torch
        p = layer.params
        Lambda, P, B, C = (a.astype(complex) for a in (layer.Lambda, p["P"], layer.B, p["C"]))
        C_tilde = truncate.truncate(Lambda, P, P, C, layer.dt, length)
        arrays = [a.astype(np.complex64) for a in (Lambda, P[:, 0], B, C_tilde)]
        arrays += [np.log(layer.dt).astype(np.float32), p["D"].copy()]
        self.params = [torch.from_numpy(a).requires_grad_() for a in arrays]
        # float64 angles, so that the roots of unity are exact to float32
        z = torch.exp(-2j * torch.pi * torch.arange(length // 2 + 1, dtype=torch.double) / length)
        self.minus, self.plus = (1 - z).to(torch.complex64), (1 + z).to(torch.complex64)

    def kernel(self, length):
        Lambda, P, B, C, log_dt, _ = self.params
        left = (2 / self.torch.exp(log_dt))[:, None, None] * self.minus
        R = 1 / (left - self.plus * Lambda[..., None])
        R_conj = 1 / (left - self.plus * Lambda.conj()[..., None])

        def cauchy(v):
            return (v[..., None] * R).sum(-2) + (v.conj()[..., None] * R_conj).sum(-2)

        k00, k01, k10, k11 = (cauchy(a * b) for a in (C, P.conj()) for b in (B, P))
        spectrum = 2 * (k00 - self.plus * k01 * k10 / (1 + self.plus * k11))
        return self.torch.fft.irfft(spectrum, n=length)

    def both(self, u, g):
        torch, D = self.torch, self.params[-1]
        u = torch.from_numpy(u).requires_grad_()
        L = u.shape[-1]
        spectrum = torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(self.kernel(L), n=2 * L)
        y = torch.fft.irfft(spectrum, n=2 * L)[..., :L] + D[:, None] * u
        for p in self.params:
            p.grad = None
        y.backward(torch.from_numpy(g))
        return y.detach().numpy(), u.grad.numpy()


def low_rank(torch, quick, seconds, rng):
    """Errors and seconds of S4 layers, and of our S4D; prints them."""
    (batch, H, L), N = ((2, 4, 128), 4) if quick else ((16, 128, 4096), 32)
    layer, diagonal = S4(H, N, rng=rng), S4D(H, N, rng=rng, train_B=True)
    u, g = rng.standard_normal((2, batch, H, L), dtype=np.float32)
    arrays = {name: a.astype(float) for name, a in layer.to_arrays().items()}
    exact, _, cache = S4.from_arrays(**arrays, view="convolution").forward(u[:2].astype(float))
    expected = S4.from_arrays(**arrays, view="convolution").backward(g[:2].astype(float), cache)

    def both(layer, u, g):
        y, _, cache = layer.forward(u)
        return y, layer.backward(g, cache)[0]

    names = {"S4": lambda u, g: both(layer, u, g), "S4D": lambda u, g: both(diagonal, u, g)}
    if torch is not None:
        names["PyTorch"] = PyTorchS4(torch, layer, L).both
    results = {"batch": batch, "length": L, "errors": {}}
    print(f"\ndiagonal plus low rank, batch {batch}, H {H}, N {N} stored modes, L {L}, float32:")
    for name in names.keys() - {"S4D"}:
        y, grad_u = names[name](u[:2], g[:2])
        errors = {"output": off(y, exact), "grad_u": off(grad_u, expected[0])}
        results["errors"][name] = errors
        print(f"  {name} verified: output {errors['output']:.1e}, grad_u {errors['grad_u']:.1e}")
        if max(errors.values()) > (1e-5 if name == "S4" else 1e-2):
            raise SystemExit(f"{name} is off by {errors}")
    calls = {name: lambda call=call: call(u, g) for name, call in names.items()}
    times = fastest(calls, seconds, 2)
    for name, value in times.items():
        print(f"  {name:8s}{value * 1e3:10.2f} ms{value / times['S4']:9.2f} times S4")
    return results | {"times_s": times}


def main():
    """Verify, warm up, time in turn, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    parser.add_argument("--seconds", type=float, default=30, help="time for each shape (30)")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    parser.add_argument("--figure", metavar="FILE", help="draw the views over length")
    options = parser.parse_args()
    quick = options.quick
    H, N, side = (16, 8, 256) if quick else (128, 32, 2048)
    shapes = [(4, 256)] if quick else [(16, 1024), (16, 4096), (4, 16384)]
    seconds = 0 if quick else options.seconds
    rng = np.random.default_rng(0)
    names = contestants()

    start = time.perf_counter()
    names["Ours"].both(*problem(2, H, N, 1024, rng))
    print(f"compilation or loading from the cache: {time.perf_counter() - start:.2f} s")
    errors = verify(names, *problem(2, 8, N, shapes[-1][1], rng))
    print("verified against float64, relative error of the norm:")
    for name, found in errors.items():
        print(f"  {name:8s}" + "".join(f"  {what} {value:.1e}" for what, value in found.items()))

    results = {"errors": errors, "shapes": []}
    a = rng.standard_normal((side, side)).astype(np.float32)
    for batch, L in shapes:
        args, g = problem(batch, H, N, L, rng)
        (_, _), kept = chunked.apply_from_exponent_fwd(*args)
        Q, _, group, block = kept.sizes
        work = batch * H * L * (6 * Q + 28 * N)
        small, small_work = products(rng, max(group, block), 2 * N, Q)
        calls = {"large product": lambda: a @ a, "small products": small}
        for name, rival in names.items():
            calls[name] = lambda rival=rival: rival.both(args, g)  # noqa: B023
        times = fastest(calls, seconds, 2)
        rates = {
            "large product": 2 * side**3 / times.pop("large product"),
            "small products": small_work / times.pop("small products"),
        }
        achieved = work / times["Ours"]
        print(f"\nbatch {batch}, H {H}, N {N}, L {L}, float32, {threads()} threads, Q {Q}:")
        print(f"  {work / (batch * H * L):.0f} operations a sample, {work / 1e9:.2f} GFLOP in all")
        for name, value in times.items():
            print(f"  {name:8s}{value * 1e3:10.2f} ms{value / times['Ours']:9.1f} times ours")
        print(f"  achieved {achieved / 1e9:.0f} GFLOP/s; ", end="")
        shares = [f"{achieved / r:.0%} of a {n}'s {r / 1e9:.0f}" for n, r in rates.items()]
        print(", ".join(shares))
        found = {"batch": batch, "length": L, "Q": Q, "flop": work, "times_s": times}
        found |= {"achieved_flops": achieved, "product_flops": rates}
        grown = peak_memory(batch, H, N, L)
        if grown is not None:
            found["memory"] = grown / args[4].nbytes
            print(f"  memory at most {found['memory']:.2f} times the input's, all included")
        results["shapes"].append(found)

    torch = names["PyTorch"].torch if "PyTorch" in names else None
    results["low_rank"] = low_rank(torch, quick, seconds, rng)

    lengths = [2**k for k in (range(7, 10) if quick else range(10, 21))]
    # A layer large enough that what does not depend on the length is small at 1024 samples.
    sizes = (2, 4) if quick else (16, 16)
    (layer,) = over_length(["chunked"], lengths, *sizes, N).values()
    results["layer_over_length"] = {"lengths": lengths, "times_s": layer}
    results["slope"] = slope(lengths, layer)
    print(f"\nchunked, batch {sizes[0]}, H {sizes[1]}, {lengths[0]} to {lengths[-1]} samples:")
    print(f"  slope of log time over log length {results['slope']:.3f}")
    times = over_length(VIEWS, lengths, 1, 8, N)
    results["views_over_length"] = {"lengths": lengths, "times_s": times}
    if options.figure:
        draw(lengths, times, N).figure.savefig(options.figure, dpi=150)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
