"""Training on the sinusoid forecast: ours against the same model in PyTorch, in one process.

The model is that of ``ssm-manual train sinusoids``: a dense encoder, three blocks (S4D, GELU, dense
H to 2H with GLU, residual) without norms, a dense head at every sample; 32 features, 16 stored
modes, float32. Data, batches of 10 and AdamW are the task's. PyTorch's S4D is the published one: a
kernel from exponentials summed over the modes, and an FFT convolution.

Verified first, from the same weights: output and every gradient. Then both train epoch by epoch in
turn, each on the same batches; minima over epochs are printed, and twenty times that.
"""

import argparse
import json
import time
import warnings

import numpy as np

from ssm_manual._numba import threads
from ssm_manual.models import SequenceModel
from ssm_manual.ops.loss import mse_fwd, mse_vjp
from ssm_manual.tasks import training_run
from ssm_manual.tasks.sinusoids import SinusoidForecast
from ssm_manual.training import AdamW, Group
from ssm_manual.training.groups import is_ssm


class Ours:
    """This package."""

    def __init__(self, options, settings):
        self.model = SequenceModel(**options, rng=np.random.default_rng(0))
        slow = Group("ssm", is_ssm, lr=settings.ssm_lr, weight_decay=0.0)
        self.optimizer = AdamW(self.model.params, lr=settings.lr, groups=[slow])

    def step(self, u, target):
        y, _, cache = self.model.forward(u, seed=1)
        loss, residuals = mse_fwd(y, target)
        grads = self.model.backward(mse_vjp(residuals, np.float32(1))[0], cache)[2]
        self.optimizer.step(grads)
        return float(loss)


class PyTorch:
    """Modules, automatic gradients, its own AdamW."""

    def __init__(self, options, settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
        self.torch, nn = torch, torch.nn
        torch.set_num_threads(threads())
        H, source = options["d_model"], SequenceModel(**options, rng=np.random.default_rng(0))

        class Block(nn.Module):
            def __init__(self, layer):
                super().__init__()
                self.ssm, self.mixer = nn.ParameterDict(), nn.Conv1d(H, 2 * H, 1)
                for name, a in layer.params.items():
                    self.ssm[name] = nn.Parameter(torch.from_numpy(a.copy()))
                self.B = torch.from_numpy(layer.B.copy())

            def forward(self, u):
                p, L = self.ssm, u.shape[-1]
                A = -torch.exp(p["log_A_real"]) + 1j * p["A_imag"]
                dtA = A * torch.exp(p["log_dt"])[:, None]
                CB = p["C"] * self.B * (torch.exp(dtA) - 1) / A
                powers = torch.exp(dtA[..., None] * torch.arange(L))
                K = 2 * torch.einsum("hn,hnl->hl", CB, powers).real
                spectrum = torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(K, n=2 * L)
                y = torch.fft.irfft(spectrum, n=2 * L)[..., :L] + p["D"][:, None] * u
                return u + nn.functional.glu(self.mixer(nn.functional.gelu(y)), dim=1)

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder, self.head = nn.Linear(3, H), nn.Linear(H, 3)
                count = range(options["n_layers"])
                self.blocks = nn.ModuleList(Block(source.layers[f"blocks.{i}"].ssm) for i in count)

            def forward(self, u):
                y = self.encoder(u).transpose(1, 2)
                for block in self.blocks:
                    y = block(y)
                return self.head(y.transpose(1, 2))

        self.model = Model()
        self.of = {}  # our name -> its parameter
        for name, a in source.params.items():
            parameter = self.model.get_parameter(name)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(a.copy()).reshape(parameter.shape))
            self.of[name] = parameter
        slow = [p for name, p in self.of.items() if is_ssm(name)]
        rest = [p for name, p in self.of.items() if not is_ssm(name)]
        self.optimizer = torch.optim.AdamW(
            [{"params": slow, "lr": settings.ssm_lr, "weight_decay": 0.0}, {"params": rest}],
            lr=settings.lr,
            weight_decay=0.01,
        )

    def step(self, u, target):
        self.optimizer.zero_grad()
        y = self.model(self.torch.from_numpy(u))
        loss = self.torch.nn.functional.mse_loss(y, self.torch.from_numpy(target))
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def off(found, exact):
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def verify(options, contestants, u, target):
    """Outputs and gradients against double precision; 1e-3 is allowed, a rival's gradient 2e-2."""
    exact = SequenceModel(**options, dtype="float64", rng=np.random.default_rng(0))
    for name, a in exact.params.items():
        a[...] = contestants["Ours"].model.params[name]
    y, _, cache = exact.forward(u.astype(float))
    _, residuals = mse_fwd(y, target.astype(float))
    grads = exact.backward(mse_vjp(residuals, 1.0)[0], cache)[2]
    errors = {}
    for name, contestant in contestants.items():
        if name == "Ours":
            out, _, cache = contestant.model.forward(u)
            _, residuals = mse_fwd(out, target)
            found = contestant.model.backward(mse_vjp(residuals, np.float32(1))[0], cache)[2]
        else:
            torch = contestant.torch
            out = contestant.model(torch.from_numpy(u))
            torch.nn.functional.mse_loss(out, torch.from_numpy(target)).backward()
            out = out.detach().numpy()
            found = {n: p.grad.numpy().reshape(grads[n].shape) for n, p in contestant.of.items()}
        worst, where = max((off(found[n], e), n) for n, e in grads.items())
        errors[name] = {"output": off(out, y), "gradient": worst}
        if errors[name]["output"] > 1e-3 or worst > (1e-3 if name == "Ours" else 2e-2):
            raise SystemExit(f"{name} is off by {errors[name]}, {where}")
        print(f"{name} verified: output off by {off(out, y):.1e}, gradients {worst:.1e} ({where})")
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller task, two epochs")
    parser.add_argument("--epochs", type=int, default=5, help="timed, of each (default 5)")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    args = parser.parse_args()
    task = SinusoidForecast(quick=args.quick)
    settings, options = training_run.options_of(task, "s4d")
    train = task.parts(0).train
    contestants = {"Ours": Ours(options, settings)}
    try:
        contestants["PyTorch"] = PyTorch(options, settings)
    except ImportError as error:
        print(f"PyTorch is skipped: {error} (pip install torch)")
    first = next(iter(train(0, np.random.default_rng(0))))
    errors = verify(options, contestants, first.u, first.target)
    times, losses = {name: [] for name in contestants}, {}
    for epoch in range(2 if args.quick else 1 + args.epochs):  # the first is a warm-up
        for name, contestant in contestants.items():
            batches = list(train(epoch, np.random.default_rng([1, epoch])))
            began = time.perf_counter()
            found = [contestant.step(batch.u, batch.target) for batch in batches]
            times[name].append(time.perf_counter() - began)
            losses[name] = float(np.mean(found))
    print(f"{threads()} threads, {len(train)} updates an epoch, {train.batch_size} sequences each")
    results = {"threads": threads(), "errors": errors, "contestants": {}}
    for name, spent in times.items():
        best = min(spent[1:])
        ratio = best / min(times["Ours"][1:])
        print(f"{name:8} {best:7.2f} s an epoch, {20 * best:6.1f} s for 20   ratio {ratio:.2f}"
              f"   loss of the last {losses[name]:.5f}")  # fmt: skip
        results["contestants"][name] = {"epoch_s": best, "ratio": ratio, "loss": losses[name]}
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
