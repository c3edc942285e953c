"""A small classifier for tests of training: a diagonal layer, a mean over time, a dense head.

Its dropout is drawn from the seed that it is given, and it says in ``calls`` how it was called.
"""

import numpy as np

from ssm_manual.layers import S4D
from ssm_manual.training import AdamW, Batches, EarlyStopping, Trainer, warmup_cosine


class Classifier:
    def __init__(self, features=4, modes=4, classes=3, *, dtype="float32", seed=0, view="scan"):
        rng = np.random.default_rng(seed)
        self.ssm = S4D(features, modes, rng=rng, dtype=dtype, view=view)
        weight = rng.standard_normal((classes, features)).astype(dtype)
        self.params = {f"ssm.{name}": a for name, a in self.ssm.params.items()}
        self.params |= {"head.weight": weight, "head.bias": np.zeros(classes, dtype)}
        self.calls = []

    def forward(self, u, state=None, *, lengths=None, seed=None, cache=True):
        self.calls.append({"lengths": lengths, "seed": seed, "cache": cache})
        y, state, of_ssm = self.ssm.forward(u, lengths=lengths)
        mask = np.ones(y.shape[:2], y.dtype)
        if seed is not None:
            mask = np.random.default_rng(seed).integers(0, 2, y.shape[:2]).astype(y.dtype) * 2
        pooled = y.mean(axis=-1) * mask
        # einsum, for its sums do not depend on the number of threads of a BLAS
        out = np.einsum("bh,kh->bk", pooled, self.params["head.weight"]) + self.params["head.bias"]
        return out, state, (of_ssm, y.shape, mask, pooled) if cache else None

    def backward(self, grad, cache):
        of_ssm, shape, mask, pooled = cache
        to_pool = np.einsum("bk,kh->bh", grad, self.params["head.weight"]) * mask / shape[-1]
        grad_y = np.broadcast_to(to_pool[..., None], shape).astype(grad.dtype)
        grad_u, _, grads = self.ssm.backward(grad_y, of_ssm)
        grads = {f"ssm.{name}": g for name, g in grads.items()}
        grads["head.weight"] = np.einsum("bk,bh->kh", grad, pooled)
        grads["head.bias"] = grad.sum(axis=0)
        return grad_u, None, grads


def task(items=20, length=40, seed=5):
    """Sinusoids of three frequencies in noise, and which of them it is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, items)
    phase = 0.1 * (1 + labels[:, None, None]) ** 2 * np.arange(length) + rng.random((items, 4, 1))
    return (np.sin(phase) + rng.standard_normal(phase.shape)).astype(np.float32), labels


EPOCHS = 6


def trainer(**options):
    """Everything that has a state: schedule, groups, momentum, clipping, accumulation, dropout."""
    from functools import partial

    model = Classifier()
    options = {
        "schedule": partial(warmup_cosine, warmup=5, total=60),
        "max_norm": 1.0,
        "accumulate": 2,
        "seed": 7,
    } | options
    return Trainer(model, "softmax_cross_entropy", AdamW(model.params, lr=0.02), **options)


def fit(trainer, data=None, **options):
    """Train on `task` with validation and early stopping."""
    options = {
        "epochs": EPOCHS,
        "validation": Batches(*task(6, seed=6), batch_size=4),
        "early_stopping": EarlyStopping(patience=9, restore=False),
        "checkpoint_every": 2,
    } | options
    if options.get("checkpoint") is None:
        del options["checkpoint_every"]
    return trainer.fit(data or batches(), **options)


def batches():
    return Batches(*task(), batch_size=3)


def bits(trainer):
    """Everything that a run leaves behind, as bytes; not how long it took."""
    arrays = {f"params/{name}": a for name, a in trainer.model.params.items()}
    for slot, values in trainer.optimizer.state.items():
        arrays |= {f"{slot}/{name}": a for name, a in values.items()}
    found = {name: a.tobytes() for name, a in arrays.items()}
    history = {k: v for k, v in trainer.history.items() if k != "items_per_second"}
    return found | {"history": history, "updates": trainer.optimizer.updates}
