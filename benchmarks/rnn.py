"""The recurrent baselines beside PyTorch's, so that what is compared with them is compared fairly.

One layer, as many units as inputs, float32: forward, and forward with backward. Verified first:
outputs and gradients of the same weights agree with PyTorch's (skipped where it is not installed)
and outputs with the reference in double precision.
"""

import argparse
import json
import time

import numpy as np

from ssm_manual import reference
from ssm_manual._numba import threads
from ssm_manual.layers import LSTM, RNN

try:
    import torch
except ImportError:
    torch = None


class Contest:
    """One layer, its input and cotangent, and PyTorch's twin."""

    def __init__(self, kind, batch, H, L):
        rng = np.random.default_rng(0)
        self.layer = {"rnn": RNN, "lstm": LSTM}[kind](H, H, rng=rng)
        self.x, self.g = rng.standard_normal((2, batch, H, L), dtype=np.float32)
        if torch is None:
            return
        self.module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM}[kind](H, H, batch_first=True)
        p = self.layer.params
        with torch.no_grad():
            for name, a in [("weight_ih", p["W_in"]), ("weight_hh", p["W_h"])]:
                getattr(self.module, name + "_l0").copy_(torch.from_numpy(a))
            self.module.bias_ih_l0.copy_(torch.from_numpy(p["bias"]))
            self.module.bias_hh_l0.zero_()
        as_theirs = [np.ascontiguousarray(a.swapaxes(1, 2)) for a in (self.x, self.g)]
        self.torch_x, self.torch_g = (torch.from_numpy(a) for a in as_theirs)
        self.torch_x.requires_grad_()

    def forward(self):
        """Ours, as for training."""
        return self.layer.forward(self.x)

    def both(self):
        """Ours: output, and gradients to x and the parameters."""
        y, _, cache = self.layer.forward(self.x)
        grad_x, _, grads = self.layer.backward(self.g, cache)
        return y, grad_x, grads["W_in"], grads["W_h"], grads["bias"]

    def torch_forward(self):
        """PyTorch's, as for training."""
        return self.module(self.torch_x)[0]

    def torch_both(self):
        """PyTorch's: as `both`."""
        self.module.zero_grad()
        self.torch_x.grad = None
        y = self.module(self.torch_x)[0]
        y.backward(self.torch_g)
        found = y.detach().swapaxes(1, 2), self.torch_x.grad.swapaxes(1, 2)
        names = "weight_ih_l0", "weight_hh_l0", "bias_ih_l0"
        return tuple(a.numpy() for a in (*found, *(getattr(self.module, n).grad for n in names)))


def difference(found, expected):
    """Largest difference, relative to the largest number."""
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def verify():
    """Largest error of outputs and gradients."""
    errors = {}
    for kind in ("rnn", "lstm"):
        contest = Contest(kind, 9, 16, 40)
        p = {name: a.astype(float) for name, a in contest.layer.params.items()}
        states = (None,) * (2 if kind == "lstm" else 1)
        twin = getattr(getattr(reference, kind), kind)
        exact = twin(contest.x.astype(float), *states, p["W_in"], p["W_h"], p["bias"])[0]
        found = contest.both()
        errors[kind] = difference(found[0], exact)
        if torch is not None:
            pairs = zip(found, contest.torch_both())
            errors[kind + " torch"] = max(difference(a, b) for a, b in pairs)
    for name, error in errors.items():
        if not error < 1e-5:
            raise SystemExit(f"{name}: differs by {error:.1e}")
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
    parser.add_argument("--quick", action="store_true", help="one small size, few rounds")
    parser.add_argument("--rounds", type=int, default=7, help="of which the best counts")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    options = parser.parse_args()
    sizes = [(16, 128, 1024), (8, 128, 4096), (64, 128, 256), (1, 128, 1024), (16, 256, 512)]
    if options.quick:
        sizes, options.rounds = [(9, 16, 64)], 2
    if torch is not None:
        torch.set_num_threads(threads())

    errors = verify()
    rivals = "the reference" if torch is None else "the reference and PyTorch"
    print(f"verified: within {max(errors.values()):.1e} of {rivals}\n")
    print(f"{threads()} threads, float32, milliseconds; in brackets how many times as fast\n")
    print(
        f"{'batch x H x L':>16s} {'':5s}{'forward':>9s}{'PyTorch':>17s}{'both':>9s}{'PyTorch':>17s}"
    )
    results = {"errors": errors, "threads": threads(), "rows": []}
    for size in sizes:
        for kind in ("rnn", "lstm"):
            contest = Contest(kind, *size)
            names = ["forward", "both"]
            if torch is not None:
                names += ["torch_forward", "torch_both"]
            calls = {name: getattr(contest, name) for name in names}
            for call in calls.values():
                call()  # compile, warm up
            times = best(calls, options.rounds)
            cells = ""
            for name in ("forward", "both"):
                theirs = times.get("torch_" + name)
                ratio = (
                    "" if theirs is None else f"{theirs * 1e3:9.1f} ({theirs / times[name]:.1f})"
                )
                cells += f"{times[name] * 1e3:9.1f}{ratio:>17s}"
            print(f"{'{} x {} x {}'.format(*size):>16s} {kind:5s}{cells}")
            results["rows"].append({"size": size, "kind": kind, "seconds": times})
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
