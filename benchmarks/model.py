"""One training step of a deep model: ours against the same model in PyTorch, in one process.

The model: a dense encoder, four S4D blocks (layer norm, S4D, GELU, dropout, dense H to 2H with GLU,
dropout, residual), a last layer norm, the mean over time, a dense head. 128 features, 32 stored
modes, float32, dropout 0.1. A step is forward, backward and AdamW. PyTorch's S4D is the published
one: a kernel from exponentials summed over the modes, and an FFT convolution.

Verified first, from the same weights and without dropout: output and every gradient. Then both are
timed in turn and minima are printed; then the memory by which a process of each grows in a step;
then where our time goes, part by part, each beside its floor: a copy of as many bytes by the same
threads, or the operations of its matrix products at the rate of a large one.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
import warnings

import numpy as np

from ssm_manual._blas import single_threaded
from ssm_manual._numba import gemm, parallel_jit, prange, threads
from ssm_manual.models import SequenceModel
from ssm_manual.training.optimizers import AdamW

BLOCKS, CLASSES, DROPOUT = 4, 10, 0.1


def ours(H, N, dropout=DROPOUT):
    """Our model."""
    return SequenceModel(
        1, H, CLASSES, BLOCKS, modes=N, dropout=dropout, rng=np.random.default_rng(0)
    )


class Ours:
    """This package."""

    def __init__(self, H, N):
        self.model = ours(H, N)
        self.optimizer, self.seed = AdamW(self.model.params, lr=1e-4), 0

    def step(self, u, g):
        self.seed += 1
        _, _, cache = self.model.forward(u, seed=self.seed)
        self.optimizer.step(self.model.backward(g, cache)[2])


class PyTorch:
    """Modules, automatic gradients, its own AdamW."""

    def __init__(self, H, N, dropout=DROPOUT):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
        self.torch, nn = torch, torch.nn
        torch.set_num_threads(threads())
        torch.manual_seed(0)

        class S4D(nn.Module):
            def __init__(self, layer):
                super().__init__()
                p = {name: torch.from_numpy(a.copy()) for name, a in layer.params.items()}
                self.names = tuple(p)
                for name, a in p.items():
                    setattr(self, name, nn.Parameter(a))
                self.B = torch.from_numpy(layer.B.copy())

            def forward(self, u):
                L = u.shape[-1]
                A = -torch.exp(self.log_A_real) + 1j * self.A_imag
                dtA = A * torch.exp(self.log_dt)[:, None]
                CB = self.C * self.B * (torch.exp(dtA) - 1) / A
                powers = torch.exp(dtA[..., None] * torch.arange(L))
                K = 2 * torch.einsum("hn,hnl->hl", CB, powers).real
                spectrum = torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(K, n=2 * L)
                return torch.fft.irfft(spectrum, n=2 * L)[..., :L] + self.D[:, None] * u

        class Block(nn.Module):
            def __init__(self, block):
                super().__init__()
                self.norm, self.ssm = nn.LayerNorm(H), S4D(block.ssm)
                self.dropouts = nn.ModuleList([nn.Dropout(dropout), nn.Dropout(dropout)])
                self.mixer = nn.Conv1d(H, 2 * H, 1)

            def forward(self, u):
                y = self.ssm(self.norm(u.transpose(1, 2)).transpose(1, 2))
                y = self.dropouts[0](nn.functional.gelu(y))
                return u + self.dropouts[1](nn.functional.glu(self.mixer(y), dim=1))

        class Model(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.encoder, self.norm = nn.Linear(1, H), nn.LayerNorm(H)
                blocks = [model.layers[f"blocks.{i}"] for i in range(BLOCKS)]
                self.blocks = nn.ModuleList([Block(block) for block in blocks])
                self.head = nn.Linear(H, CLASSES)

            def forward(self, u):
                y = self.encoder(u).transpose(1, 2)
                for block in self.blocks:
                    y = block(y)
                return self.head(self.norm(y.transpose(1, 2)).mean(dim=1))

        source = ours(H, N)
        self.model = Model(source)
        rename = {"scale": "weight", "shift": "bias"}
        self.of = {}  # our name -> its parameter
        for name, a in source.params.items():
            path, _, last = name.rpartition(".")
            parameter = self.model.get_parameter(f"{path}.{rename.get(last, last)}")
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(a.copy()).reshape(parameter.shape))
            self.of[name] = parameter
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.01)

    def step(self, u, g):
        self.optimizer.zero_grad()
        self.model(self.torch.from_numpy(u)).backward(self.torch.from_numpy(g))
        self.optimizer.step()


def contestants(H, N):
    """Those that are installed, by name."""
    found = {"Ours": Ours(H, N)}
    try:
        found["PyTorch"] = PyTorch(H, N)
    except ImportError as error:
        print(f"PyTorch is skipped: {error} (pip install torch)")
    return found


def data(batch, L):
    """Input, and the cotangent of the output."""
    rng = np.random.default_rng(1)
    return (
        rng.standard_normal((batch, L, 1), dtype=np.float32),
        rng.standard_normal((batch, CLASSES), dtype=np.float32),
    )


def off(found, exact):
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def verify(H, N, rival):
    """Our output and gradients against double precision, and a rival's; 1e-3 is allowed."""
    u, g = data(2, 300)
    model = ours(H, N)
    y, _, cache = model.forward(u)
    grads = model.backward(g, cache)[2]
    exact = SequenceModel(1, H, CLASSES, BLOCKS, modes=N, dtype="float64",
                          rng=np.random.default_rng(0))  # fmt: skip
    for name, a in exact.params.items():
        a[...] = model.params[name]
    exact_y, _, cache = exact.forward(u.astype(float))
    exact_grads = exact.backward(g.astype(float), cache)[2]
    worst = max(off(grads[n], e) for n, e in exact_grads.items())
    errors = {"Ours": {"output": off(y, exact_y), "gradient": worst}}
    if rival is not None:
        rival.model.eval()
        out = rival.model(rival.torch.from_numpy(u))
        out.backward(rival.torch.from_numpy(g))
        worst = max(
            off(p.grad.numpy().reshape(exact_grads[n].shape), exact_grads[n])
            for n, p in rival.of.items()
        )
        errors["PyTorch"] = {"output": off(out.detach().numpy(), exact_y), "gradient": worst}
        rival.model.train()
    for name, found in errors.items():
        if max(found.values()) > 1e-3:
            raise SystemExit(f"{name} is off by {found}")
    return errors


def best(calls, seconds, at_least=3):
    """Minimum times of several calls, made in turn."""
    times, start = {name: [] for name in calls}, time.perf_counter()
    while time.perf_counter() - start < seconds or min(map(len, times.values())) < at_least:
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: min(found) for name, found in times.items()}


# ------------------------------------------------------------------------------------------ memory

PEAK = """
import sys
sys.path.insert(0, {folder!r})
import model

def memory(field):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))

rival = getattr(model, {name!r})({H}, {N})
rival.step(*model.data(2, 600))  # loads every kernel
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew: compilers have had theirs
before = memory("VmRSS")
rival.step(*model.data({batch}, {L}))
print(memory("VmHWM") - before)
"""


def memory(name, H, N, batch, L):
    """Bytes by which a process of its own grows in one step; None where it cannot be told."""
    code = PEAK.format(folder=os.path.dirname(__file__), name=name, H=H, N=N, batch=batch, L=L)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ
    )
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


# ----------------------------------------------------------------------------------- part by part


@parallel_jit
def copy(a, b):
    for i in prange(a.shape[0]):
        b[i] = a[i]


@parallel_jit
def products(a, b, out):
    for i in prange(a.shape[0]):
        gemm(a[i], b[i], 0.0, out[i])


def rates(seconds):
    """Bytes a second of a copy, read and written, and operations a second of products."""
    a = np.ones((64, 131072), np.float32)
    b = np.empty_like(a)
    m = np.ones((2 * threads(), 512, 512), np.float32)
    out = np.empty_like(m)
    with single_threaded():
        found = best({"copy": lambda: copy(a, b), "product": lambda: products(m, m, out)}, seconds)
    return 2 * a.nbytes / found["copy"], 2 * len(m) * 512**3 / found["product"]


def table(H, N, batch, L, seconds, rate):
    """Time of every part of the model, forward and backward, all of its kind together."""
    bandwidth, _ = rate
    model = ours(H, N)
    u = np.ascontiguousarray(data(batch, L)[0].swapaxes(1, 2))
    size = 4 * batch * H * L  # bytes of one signal
    optimizer = AdamW(model.params, lr=1e-4)
    grads = {name: np.zeros_like(a) for name, a in model.params.items()}
    rows = {}

    def clock(kind, floor, call, *args, **options):
        began = time.perf_counter()
        result = call(*args, **options)
        spent = time.perf_counter() - began
        rows.setdefault(kind, ([], floor))[0].append(spent)
        return result

    passes, start = 0, time.perf_counter()
    while passes < 3 or time.perf_counter() - start < seconds:
        passes += 1
        x, caches = u, []
        for name, part in model.layers.items():
            if name == "head":
                continue
            block = name.startswith("blocks")
            around = x
            for _, layer in part._branches[0].parts if block else ((name, part),):
                kind, ahead, back = floors(layer, N, x.shape, rate)
                x, _, kept = clock(f"{kind}, forward", ahead, layer.forward, x, seed=1)
                caches.append((kind, layer, kept, back, block))
            if block:
                clock("residual, forward", 3 * size / bandwidth, np.add, x, around, out=x)
        g = np.full(x.shape, 1 / L, np.float32)
        for kind, layer, kept, back, block in caches[::-1]:
            g = clock(f"{kind}, backward", back, layer.backward, g, kept)[0]
            if block and kind == "layer norm":
                clock("residual, backward", 3 * size / bandwidth, np.add, g, x, out=g)
        clock("AdamW", 0.0, optimizer.step, grads)
    return {
        kind: {
            "time": np.array(times).reshape(passes, -1).min(axis=0).sum(),
            "floor": floor * (len(times) // passes),
        }
        for kind, (times, floor) in rows.items()
    }


def floors(layer, N, shape, rate):
    """Name of a part, and the least time that its bytes or products take, forward and backward."""
    bandwidth, flops = rate
    batch, features, L = shape
    size = 4 * batch * features * L
    kind = type(layer).__name__
    if kind == "LinearGLU":
        product = 2 * batch * L * features * 2 * features / flops
        return "dense + GLU", product, 2 * product
    if kind == "S4D":  # [CHUNK-10], forward and backward together
        operations = batch * features * L * (6 * 64 + 28 * N)
        return "S4D", operations / 3 / flops, 2 * operations / 3 / flops
    if kind == "Linear":
        size = 4 * batch * layer.features_out * L
        return "encoder", size / bandwidth, size / bandwidth
    names = {"LayerNorm": "layer norm", "GeluDropout": "GELU + dropout", "Dropout": "dropout"}
    back = 2 * size if kind == "Dropout" else 3 * size
    return names[kind], 2 * size / bandwidth, back / bandwidth


# --------------------------------------------------------------------------------------------- main


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--seconds", type=float, default=20, help="for each size")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    options = parser.parse_args()
    H, N = (16, 4) if options.quick else (128, 32)
    sizes = [(2, 128)] if options.quick else [(16, 1024), (8, 4096)]
    seconds = 0.05 if options.quick else options.seconds
    rivals = contestants(H, N)
    results = {"threads": threads(), "features": H, "modes": N}
    results["errors"] = verify(H, N, rivals.get("PyTorch"))
    for name, errors in results["errors"].items():
        output, gradient = errors["output"], errors["gradient"]
        print(f"{name} verified: output off by {output:.1e}, gradients {gradient:.1e}")
    rate = rates(min(seconds, 1))
    print(f"copy {rate[0] / 1e9:.1f} GB/s, matrix products {rate[1] / 1e9:.0f} GFLOP/s")
    results["copy_bytes_per_second"], results["flops"] = rate
    results["sizes"] = []
    for batch, L in sizes:
        given = data(batch, L)
        calls = {name: functools.partial(r.step, *given) for name, r in rivals.items()}
        for call in calls.values():
            call()
        times = best(calls, seconds)
        peaks = {name: memory(name, H, N, batch, L) for name in rivals}
        entry = {"batch": batch, "length": L, "seconds": times, "bytes": peaks}
        print(f"\nbatch {batch}, length {L}")
        for name, spent in times.items():
            peak = "?" if peaks[name] is None else f"{peaks[name] / 1e6:.0f}"
            print(f"  {name:8} {1e3 * spent:8.1f} ms  {peak:>6} MB"
                  f"  ratio {spent / times['Ours']:.2f}")  # fmt: skip
        entry["parts"] = table(H, N, batch, L, min(seconds, 3), rate)
        results["sizes"].append(entry)
        total = sum(row["time"] for row in entry["parts"].values())
        print(f"  {'part':26} {'ms':>7} {'floor':>7} {'share':>6}")
        for kind, row in sorted(entry["parts"].items(), key=lambda item: -item[1]["time"]):
            print(f"  {kind:26} {1e3 * row['time']:7.2f} {1e3 * row['floor']:7.2f}"
                  f" {row['time'] / total:6.1%}")  # fmt: skip
        print(f"  {'together':26} {1e3 * total:7.2f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
