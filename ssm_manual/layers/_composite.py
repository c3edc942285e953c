"""What blocks have in common: parts in a row, with or without a way around them.

A composite is a list of branches, a branch a list of parts, a part a layer with a name:

    u <- u + part_n(... part_2(part_1(u)))      or, without the residual,      u <- part_n(...)

Its backward pass is the same list from the end: each part pulls the gradient back, and a residual
adds what went around.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _lengths, _makers, _parts
from ssm_manual.layers._per_time import LARGEST_SEED, given, signal

__all__ = ["Branch", "Composite", "Parameters", "child_seeds"]


class Parameters(dict):
    """Arrays by name, trained in place: they are the parts' own, so that none can be exchanged."""

    def __setitem__(self, name, value):
        raise TypeError(f"params[{name!r}] cannot be exchanged; write params[{name!r}][...] = ...")

    def update(self, *_, **__):  # of a dict that is formed anew at every look
        raise TypeError("params cannot be exchanged; write params[name][...] = ... for each")


class Branch(NamedTuple):
    """Parts in a row."""

    residual: bool  # whether the input is added to the output
    parts: tuple  # of (name, layer)


class Cache(NamedTuple):
    """What `Composite.backward` needs of `Composite.forward`."""

    branches: tuple  # the caches of the parts, branch by branch
    lengths: np.ndarray | None
    shape: tuple  # of y


def child_seeds(seed, count):
    """The seeds of ``count`` parts: words of NumPy's SeedSequence, which hashes; None stays None.

    Word i does not depend on ``count``, and the parts of a part have the words of its own seed.
    """
    if seed is None:
        return [None] * count
    seed = _validate.integer("seed", seed, minimum=0, maximum=LARGEST_SEED)
    return np.random.SeedSequence(seed).generate_state(count, np.uint64).tolist()


class Composite:
    """A layer made of layers; a subclass sets ``_branches`` and ``_width``, the features of u."""

    # ---------------------------------------------------------------------------------- what it is

    @property
    def params(self):
        """Arrays by dotted names, such as ``ssm.C``: those of the parts, trained in place."""
        found = Parameters()
        for name, part in self._parts():
            for key, a in part.params.items():
                dict.__setitem__(found, f"{name}.{key}", a)
        return found

    def count_parameters(self):
        """How many real numbers are trained; a complex one counts twice.

        Returns
        -------
        int
        """
        return _makers.count({name: a.shape for name, a in self.params.items()})

    def _parts(self):
        return [part for branch in self._branches for part in branch.parts]

    # --------------------------------------------------------------------------- forward, backward

    def forward(self, u, state=None, *, lengths=None, seed=None, cache=True):
        """Apply the block to sequences.

        Parameters
        ----------
        u : array_like
            (batch, H, L), real, in the block's precision; L may be 0.
        state : tuple, optional
            State before the first sample: the states of the parts that have one; None is zero.
        lengths : array_like of int, optional
            Samples of each item, (batch,), from 0 to L: what lies beyond is padding, finite but
            otherwise without effect. Its output is zero, and so are its gradients. None: all have
            L.
        seed : int, optional
            Drives dropout, at least 0 and less than 2^64: part i has word i of
            ``numpy.random.SeedSequence(seed)``. None is evaluation.
        cache : bool
            False: nothing is kept, and the third result is None.

        Returns
        -------
        y : ndarray
            (batch, H, L).
        state : tuple or None
            State after each item's last sample; None where a part reads in both directions.
        cache : NamedTuple or None
            For `backward`.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit or a value is not finite.
        """
        u = signal("u", u, (-1, self._width, None), self.dtype)
        keep = _validate.flag("cache", cache)
        lengths = _lengths.checked(lengths, u.shape[0], u.shape[2])
        return self._forward(u, state, lengths, seed, keep)

    def backward(self, grad_y, cache, grad_state=None):
        """Gradients of everything `forward` depended on: the parts' own, last part first.

        Parameters
        ----------
        grad_y : array_like
            dL/dy, of y's shape and dtype; None is zero.
        cache : NamedTuple
            From `forward`.
        grad_state : tuple, optional
            dL/d(state after); None is zero.

        Returns
        -------
        grad_u : ndarray
            Of u's shape.
        grad_state : tuple or None
            To the state before; None where `forward` got none.
        grads : dict of ndarray
            By parameter, of its shape and dtype.

        Raises
        ------
        ValueError
            If a cotangent's shape or dtype does not fit, or there is no cache.
        """
        like = _validate.stand_in(given("cache", cache).shape, self.dtype)
        grad_y = _validate.cotangent("grad_y", grad_y, like, finite=False)
        return self._backward(grad_y, cache, grad_state)

    def step(self, u_t, state=None):
        """One sample, in evaluation.

        Parameters
        ----------
        u_t : array_like
            (batch, H), real, in the block's precision.
        state : tuple, optional
            As in `forward`. It is not changed.

        Returns
        -------
        y_t : ndarray
            (batch, H).
        state : tuple
            As from `forward`.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, a value is not finite, or a part reads in both
            directions.
        """
        return self._step(signal("u_t", u_t, (-1, self._width), self.dtype), state)

    # ---------------------------------------------------------------------------------- internals

    def _forward(self, u, state, lengths, seed, keep):
        """`forward` of checked arguments, but for the values."""
        states = iter(self._states("state", state))
        seeds = iter(child_seeds(seed, len(self._parts())))
        after, kept = [], []
        for residual, parts in self._branches:
            y, caches, own = u, [], False
            for _, part in parts:
                options = {"seed": next(seeds), "cache": keep}
                if _parts.has_state(part):
                    y, x, cache = part.forward(y, next(states), lengths=lengths, **options)
                    after.append(x)
                else:  # padding is cleared once, at the end
                    y, _, cache = part.forward(y, **options)
                caches.append(cache)
                own = _parts.is_fresh(part, own, options["seed"])
            if residual:  # in place where nobody else holds y
                with np.errstate(over="ignore"):  # infinite, as what is beyond the range is
                    y = np.add(y, u, out=y) if own else y + u
                own = True
            kept.append(tuple(caches))
            u = y
        if lengths is not None:
            u = u if own else np.array(u)
            _lengths.clear(u, lengths)
        after = None if any(x is None for x in after) else tuple(after)
        return u, after, Cache(tuple(kept), lengths, u.shape) if keep else None

    def _backward(self, g, cache, grad_state):
        """`backward` of a checked cotangent, but for the values."""
        if cache.lengths is not None:
            g = _lengths.cleared(_validate.finite_values("grad_y", g), cache.lengths)
        states = self._states("grad_state", grad_state)
        before, grads = [], {}
        for (residual, parts), caches in zip(self._branches[::-1], cache.branches[::-1]):
            around = g
            for (name, part), kept in zip(parts[::-1], caches[::-1]):
                if _parts.has_state(part):
                    g, x, found = part.backward(g, kept, states.pop())
                    before.append(x)
                else:
                    g, _, found = part.backward(g, kept)
                grads |= {f"{name}.{key}": grad for key, grad in found.items()}
            if residual:
                with np.errstate(over="ignore"):
                    g = np.add(g, around, out=g) if _parts.gives_own(parts[0][1]) else g + around
        # A part has none where it got no state, or where its state is a time.
        before = None if all(x is None for x in before) else tuple(before[::-1])
        return g, before, {name: grads[name] for name in self.params}

    def _step(self, u_t, state):
        states, after = iter(self._states("state", state)), []
        for residual, parts in self._branches:
            y = u_t
            for _, part in parts:
                if _parts.has_state(part):
                    y, x = part.step(y, next(states))
                    after.append(x)
                else:
                    y = part.step(y)[0]
            if residual:
                with np.errstate(over="ignore"):
                    y = y + u_t
            u_t = y
        return u_t, tuple(after)

    def _states(self, name, state):
        count = sum(_parts.has_state(part) for _, part in self._parts())
        if state is None:
            return [None] * count
        if not isinstance(state, (tuple, list)) or len(state) != count:
            raise ValueError(
                f"{name} is {_validate.show(state)}; it must be a tuple of {count}, as from forward"
            )
        return list(state)
