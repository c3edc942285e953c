"""A layer through PyTorch: what the way through its autograd adds to the time of our own layer.

The same S4D layer, forward and backward, float32: called in NumPy (`layers.S4D`), called as a
module in PyTorch (`interop.torch.S4D`), and, to compare, S4D as it is written in PyTorch, with a
Vandermonde kernel, an FFT convolution and automatic gradients. The last two are skipped where
PyTorch is not installed.

Verified first: our layer against itself in float64, the module equal to the layer in every bit of
output and gradients, the plain one to rounding. Then all are run in turn; minima are printed.
"""

import argparse
import json
import time

import numpy as np

from ssm_manual import layers
from ssm_manual._numba import threads


class Ours:
    """`layers.S4D` in NumPy."""

    def __init__(self, layer):
        self.layer = layer

    def both(self, u, g):
        """Output, gradient to u and gradients by parameter."""
        y, _, cache = self.layer.forward(u)
        grad_u, _, grads = self.layer.backward(g, cache)
        return y, grad_u, grads


class Module:
    """The same layer as a module of PyTorch."""

    def __init__(self, layer):
        import torch

        from ssm_manual.interop.torch import S4D

        torch.set_num_threads(threads())
        self.torch, self.module = torch, S4D.from_layer(layer)

    def both(self, u, g):
        """Output, gradient to u and gradients by parameter."""
        u, g = self.torch.from_numpy(u).requires_grad_(), self.torch.from_numpy(g)
        self.module.zero_grad()
        y = self.forward(u)
        y.backward(g)
        grads = {name: p.grad.numpy() for name, p in self.module.named_parameters()}
        return y.detach().numpy(), u.grad.numpy(), grads

    def forward(self, u):
        """The layer's output."""
        return self.module(u)[0]


class Plain(Module):
    """The layer written in PyTorch."""

    def forward(self, u):
        """The layer's output."""
        torch, p, L = self.torch, self.module, u.shape[-1]
        A = torch.complex(-torch.exp(p.log_A_real), p.A_imag)
        dtA = A * torch.exp(p.log_dt)[:, None]
        C = p.C * p.B * (torch.exp(dtA) - 1) / A
        K = 2 * torch.einsum("hn,hnl->hl", C, torch.exp(dtA[..., None] * torch.arange(L))).real
        spectrum = torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(K, n=2 * L)
        return torch.fft.irfft(spectrum, n=2 * L)[..., :L] + p.D[:, None] * u


def off(found, exact):
    """The norm of the error, relative to that of the exact values."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def errors(found, exact):
    """Of the output and of the worst gradient."""
    y, grad_u, grads = exact
    worst = max(off(found[1], grad_u), *(off(found[2][name], grads[name]) for name in grads))
    return {"output": off(found[0], y), "gradient": worst}


def verify(rivals, layer, u, g):
    """Errors by name, and the module's bits."""
    double = {name: a.astype(np.result_type(a, float)) for name, a in layer.params.items()}
    exact_layer = layers.S4D.from_arrays(**double, B=layer.B.astype(complex))
    exact = Ours(exact_layer).both(u.astype(float), g.astype(float))
    found = {name: rival.both(u, g) for name, rival in rivals.items()}
    if "Module" in found:
        ours, module = found["Ours"], found["Module"]
        same = all(np.array_equal(a, b) for a, b in zip(ours[:2], module[:2]))
        if not (same and all(np.array_equal(ours[2][n], module[2][n]) for n in ours[2])):
            raise SystemExit("the module differs from the layer")
    table = {name: errors(values, exact) for name, values in found.items()}
    if max(table["Ours"].values()) > 3e-4:
        raise SystemExit(f"ours is off by {table['Ours']}")
    return table


def fastest(rivals, u, g, seconds):
    """The least time of each; all are run in turn until the time is up."""
    times = {name: [] for name in rivals}
    start, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - start < seconds:
        for name, rival in rivals.items():
            for _ in range(1 if name == "Plain" else 5):
                begin = time.perf_counter()
                rival.both(u, g)
                times[name].append(time.perf_counter() - begin)
        rounds += 1
    return {name: min(values) for name, values in times.items()}


def main():
    """Verify, warm up, time in turn, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    parser.add_argument("--seconds", type=float, default=20, help="time for each shape (20)")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    options = parser.parse_args()
    quick = options.quick
    H, N = (8, 8) if quick else (128, 32)
    shapes = [(4, 256)] if quick else [(16, 1024), (16, 4096), (4, 16384)]
    rng = np.random.default_rng(0)

    layer = layers.S4D(H, N, rng=rng)
    rivals = {"Ours": Ours(layer)}
    try:
        rivals |= {"Module": Module(layer), "Plain": Plain(layer)}
    except ModuleNotFoundError as error:
        print(f"Module and Plain are skipped: {error}")
    u, g = rng.standard_normal((2, 2, H, shapes[0][1]), dtype=np.float32)
    found = verify(rivals, layer, u, g)
    print("verified against float64, relative error of the norm; the module has the layer's bits:")
    for name, values in found.items():
        print(f"  {name:8s}" + "".join(f"  {what} {value:.1e}" for what, value in values.items()))

    results = {"errors": found, "shapes": []}
    for batch, L in shapes:
        u, g = rng.standard_normal((2, batch, H, L), dtype=np.float32)
        times = fastest(rivals, u, g, 0 if quick else options.seconds)
        print(f"\nbatch {batch}, H {H}, N {N}, L {L}, float32, {threads()} threads:")
        for name, value in times.items():
            print(f"  {name:8s}{value * 1e3:10.2f} ms{value / times['Ours']:9.2f} times ours")
        results["shapes"].append({"batch": batch, "length": L, "times_s": times})
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
