"""What the layers share that treat every time by itself: no state, padding cut off."""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _lengths

#: Largest seed of a layer, as of `ops.dropout`.
LARGEST_SEED = 2**64 - 1


class Cache(NamedTuple):
    """What `PerTime.backward` needs of `PerTime.forward`."""

    residuals: tuple  # of the op
    lengths: np.ndarray | None
    shape: tuple  # of y


class PerTime:
    """A layer whose output at a time depends on its input at that time alone.

    A subclass has ``params``, ``dtype``, ``_features`` (of the input; None takes any number),
    ``_apply(u, axis, seed) -> (y, residuals)`` and ``_pull_back(residuals, grad_y) -> (grad_u,
    grads)``.
    """

    def forward(self, u, state=None, *, lengths=None, seed=None, cache=True):
        """Apply the layer at every time.

        Parameters
        ----------
        u : array_like
            (batch, H, L), real, in the layer's precision; L may be 0.
        state : None
            The layer has none.
        lengths : array_like of int, optional
            Samples of each item, (batch,), from 0 to L: what lies beyond is padding, finite but
            otherwise without effect. Its output is zero, and so are its gradients. None: all have
            L.
        seed : int, optional
            At least 0 and less than 2^64. Drives dropout, None is evaluation; a layer without
            randomness takes it and has no use for it.
        cache : bool
            False: the third result is None.

        Returns
        -------
        y : ndarray
            (batch, features, L).
        state : None
        cache : NamedTuple or None
            For `backward`.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, a value is not finite, or there is a state.
        """
        u = signal("u", u, (-1, self._features or -1, None), self.dtype)
        stateless("state", state)
        lengths = _lengths.checked(lengths, u.shape[0], u.shape[2])
        with named(u=u):
            y, residuals = self._apply(u, -2, checked_seed(seed))
        if lengths is not None:
            if np.may_share_memory(y, u):
                y = np.array(y)
            _lengths.clear(y, lengths)
        kept = Cache(residuals, lengths, y.shape)
        return y, None, kept if _validate.flag("cache", cache) else None

    def backward(self, grad_y, cache, grad_state=None):
        """Gradients of everything `forward` depended on, by hand.

        Parameters
        ----------
        grad_y : array_like
            dL/dy, of y's shape and dtype; None is zero.
        cache : NamedTuple
            From `forward`.
        grad_state : None
            The layer has no state.

        Returns
        -------
        grad_u : ndarray
            Of u's shape.
        grad_state : None
        grads : dict of ndarray
            By parameter, of its shape and dtype.

        Raises
        ------
        ValueError
            If the cotangent's shape or dtype does not fit, or there is no cache.
        """
        residuals, lengths, shape = given("cache", cache)
        stateless("grad_state", grad_state)
        if lengths is not None and grad_y is not None:
            like = _validate.stand_in(shape, self.dtype)
            grad_y = _lengths.cleared(_validate.cotangent("grad_y", grad_y, like), lengths)
        grad_u, grads = self._pull_back(residuals, grad_y)
        return grad_u, None, grads

    def step(self, u_t, state=None):
        """One sample, in evaluation.

        Parameters
        ----------
        u_t : array_like
            (batch, H), real, in the layer's precision.
        state : None
            The layer has none.

        Returns
        -------
        y_t : ndarray
            (batch, features).
        state : None

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, a value is not finite, or there is a state.
        """
        u_t = signal("u_t", u_t, (-1, self._features or -1), self.dtype)
        stateless("state", state)
        with named(u_t=u_t):
            return self._apply(u_t, -1, None)[0], None


class named:
    """Context manager: an op's complaint about NaN or infinity, by the layer's names."""

    def __init__(self, **signals):
        self.signals = signals

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, _validate.NonFiniteError):
            for name, a in self.signals.items():
                if a is not None:
                    _validate.finite_values(name, a)


def signal(name, u, expected, dtype):
    """A signal of a layer, checked for shape and dtype; for values an op looks on its way."""
    u, _ = _validate.arrays(
        **{name: u}, parameters=_validate.stand_in((), dtype), real=(name,), finite=False
    )
    meaning = "(batch, H)" if len(expected) == 2 else "(batch, H, L)"
    return _validate.shape(name, u, expected, meaning=meaning)


def stateless(name, value):
    """An error if a layer without state is given one."""
    if value is not None:
        raise ValueError(f"{name} is {_validate.show(value)}; it must be None, there is no state")


def checked_seed(seed):
    """The seed of a layer, or None."""
    if seed is None:
        return None
    return _validate.integer("seed", seed, minimum=0, maximum=LARGEST_SEED)


def given(name, cache):
    """A cache, or an error if `forward` kept none, or if all that it gave was handed over."""
    if not hasattr(cache, "_fields"):
        what = f"a tuple of {len(cache)}" if isinstance(cache, tuple) else _validate.show(cache)
        raise ValueError(
            f"{name} is {what}; it must be what forward gave, with cache=True, as its third result"
        )
    return cache


def uniform(rng, bound, shape, dtype):
    """Numbers between -bound and bound, drawn in double precision."""
    return rng.uniform(-bound, bound, shape).astype(dtype)
