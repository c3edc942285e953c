"""One forward and backward pass of a model and a loss, whatever options the model's methods take.

A layer's ``forward`` gives ``(y, state, cache)``, a model's may give ``(y, cache)``: the output is
the first and the cache the last. ``backward`` gives the gradients, alone or last.
"""

import inspect

import numpy as np

from ssm_manual import _validate
from ssm_manual.ops import PAIRS

#: Losses that are known by name, where they are registered.
LOSSES = ("mse", "half_mse", "softmax_cross_entropy", "binary_cross_entropy")


class Passes:
    """A model and a loss; arguments are those of `ssm_manual.training.Trainer`."""

    def __init__(self, model, loss, loss_options):
        for name in ("params", "forward", "backward"):
            if not hasattr(model, name) or isinstance(model, type):
                raise ValueError(
                    f"model is {_validate.show(model)}; it must be an object with {name!r}"
                )
        self.model = model
        if isinstance(loss, str):
            known = [name for name in LOSSES if name in PAIRS]
            pair = PAIRS[_validate.one_of("loss", loss, known)]
            self.loss_fwd, self.loss_vjp = pair.fwd, pair.vjp
        else:
            if not isinstance(loss, (tuple, list)) or [callable(f) for f in loss] != [True, True]:
                raise ValueError(
                    f"loss is {_validate.show(loss)}; it must be a name or a pair (fwd, vjp)"
                )
            self.loss_fwd, self.loss_vjp = loss
        if not isinstance(loss_options, (dict, type(None))):
            raise ValueError(f"loss_options is {_validate.show(loss_options)}; it must be a dict")
        self.loss_options = dict(loss_options or {})
        for key in self.loss_options:
            self._check_option(f"loss_options has {key!r}", key)
        name = getattr(self.loss_fwd, "__qualname__", type(self.loss_fwd).__qualname__)
        self.name = f"{self.loss_fwd.__module__}.{name}"
        taken = inspect.signature(model.forward).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in taken.values())
        self.taken = {name for name in ("lengths", "seed", "cache") if anything or name in taken}

    def loss_and_grads(self, batch, seed):
        """The loss of a batch and the gradient of every parameter."""
        y, cache = self._forward(batch, seed=seed)
        loss, residuals = self.loss_fwd(y, batch.target, **self._options(batch))
        grad_y = self.loss_vjp(residuals, loss.dtype.type(1))[0]
        found = self.model.backward(grad_y, cache)
        return float(loss), found if isinstance(found, dict) else found[-1]

    def predict(self, batch):
        """The loss of a batch and the model's output, without dropout and without caches."""
        y, _ = self._forward(batch, cache=False)
        loss, _ = self.loss_fwd(y, batch.target, **self._options(batch))
        return float(loss), y

    def _forward(self, batch, **options):
        options = {name: value for name, value in options.items() if name in self.taken}
        if batch.lengths is not None:
            if "lengths" not in self.taken:
                raise ValueError("data gives lengths; the model's forward takes none")
            options["lengths"] = batch.lengths
        found = self.model.forward(batch.u, **options)
        return found[0], found[-1]

    def _options(self, batch):
        if batch.weights is None:
            return self.loss_options
        self._check_option("data gives weights", "weights")
        return {**self.loss_options, "weights": batch.weights}

    def _check_option(self, what, name):
        """An error if the loss has no option of that name."""
        taken = list(inspect.signature(self.loss_fwd).parameters.values())[2:]
        known = [p.name for p in taken]
        if name not in known and all(p.kind is not p.VAR_KEYWORD for p in taken):
            known = ", ".join(map(repr, known)) or "none"
            raise ValueError(f"{what}; the options of the loss are: {known}")


def finite(batch):
    """Whether all numbers of a batch are."""
    return all(
        np.isfinite(a).all() for a in batch if a is not None and np.asarray(a).dtype.kind in "fc"
    )
