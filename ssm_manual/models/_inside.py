"""What goes on within a `SequenceModel`: signals after every part, and the gradients to them."""

import copy
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _lengths, _parts
from ssm_manual.layers._composite import child_seeds
from ssm_manual.models._sequence_passes import Body
from ssm_manual.models.sequence import SequenceModel

__all__ = ["Inside", "look_inside"]


class Inside(NamedTuple):
    """What `look_inside` saw; parts are those before the head, in order.

    Attributes
    ----------
    output : ndarray
        The model's output.
    activations : dict of ndarray
        By part, such as ``blocks.0``: its output, (batch, H, L).
    gradients : dict of ndarray or None
        By part: dL/d(its output), (batch, H, L); None without ``to_output``.
    grads : dict of ndarray or None
        By parameter, as from `SequenceModel.backward`.
    lengths : ndarray or None
        Samples of each item; what lies beyond is padding.
    """

    output: np.ndarray
    activations: dict
    gradients: dict | None
    grads: dict | None
    lengths: np.ndarray | None


class Watched(Body):
    """A body that keeps copies of what passes between its parts."""

    def __init__(self, body):
        self._branches = body._branches
        self.activations, self.gradients = {}, {}

    def _forward(self, u, state, lengths, seed, keep):
        """From rest: ``state`` is None."""
        parts, kept = self._parts(), []
        for (name, part), own in zip(parts, child_seeds(seed, len(parts))):
            inner = {"lengths": lengths} if _parts.has_state(part) else {}
            u, _, cache = part.forward(u, seed=own, cache=keep, **inner)
            kept.append(cache)
            seen = self.activations[name] = np.array(u)
            if lengths is not None:
                _lengths.clear(seen, lengths)
        u = self.activations[name]
        return u, None, (kept, lengths) if keep else None

    def _backward(self, g, cache, grad_state):
        kept, lengths = cache
        if lengths is not None:
            g = _lengths.cleared(g, lengths)
        grads = {}
        for (name, part), own in zip(self._parts()[::-1], kept[::-1]):
            seen = self.gradients[name] = np.array(g)
            if lengths is not None:
                _lengths.clear(seen, lengths)
            g, _, found = part.backward(g, own)
            grads |= {f"{name}.{key}": grad for key, grad in found.items()}
        return g, None, grads


def look_inside(model, u, to_output=None, *, lengths=None, seed=None):
    """One pass through a model, with all that passes between its parts.

    Parameters
    ----------
    model : SequenceModel
        Not changed.
    u : array_like
        As for `SequenceModel.forward`.
    to_output : callable, optional
        ``to_output(y) -> dL/dy``, of y's shape and dtype; None: no backward pass.
    lengths : array_like of int, optional
        Samples of each item, (batch,). None: all have the whole length.
    seed : int, optional
        Drives dropout; None is evaluation.

    Returns
    -------
    Inside
        Signals and gradients, each (batch, H, L), in the units of the model.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    One signal a part, twice with gradients, is copied on top of what a step of training keeps.

    Examples
    --------
    >>> import numpy as np
    >>> from ssm_manual.models import SequenceModel, look_inside
    >>> rng = np.random.default_rng(0)
    >>> model = SequenceModel(3, 8, 5, 2, modes=4, rng=rng)
    >>> u = rng.standard_normal((2, 50, 3), dtype=np.float32)
    >>> seen = look_inside(model, u, np.ones_like)
    >>> list(seen.activations), seen.gradients["blocks.1"].shape
    (['encoder', 'blocks.0', 'blocks.1', 'norm'], (2, 8, 50))
    """
    if not isinstance(model, SequenceModel):
        raise ValueError(f"model is {_validate.show(model)}; it must be a SequenceModel")
    if to_output is not None and not callable(to_output):
        raise ValueError(f"to_output is {_validate.show(to_output)}; it must be callable, or None")
    watched = copy.copy(model)
    watched._body = body = Watched(model._body)
    y, _, cache = watched.forward(u, lengths=lengths, seed=seed, cache=to_output is not None)
    lengths = None if lengths is None else np.array(lengths, np.int64)
    if to_output is None:
        return Inside(y, body.activations, None, None, lengths)
    _, _, grads = watched.backward(to_output(y), cache)
    gradients = {name: body.gradients[name] for name in body.activations}
    return Inside(y, body.activations, gradients, {k: grads[k] for k in model.params}, lengths)
