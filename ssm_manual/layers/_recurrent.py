"""What the layers `RNN` and `LSTM` share: parameters, their start, forward, backward and step."""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _lengths
from ssm_manual.layers._per_time import checked_seed, given, named, signal, uniform


class Cache(NamedTuple):
    """What `Recurrent.backward` needs of `Recurrent.forward`."""

    residuals: tuple  # of the op
    lengths: np.ndarray | None
    shape: tuple  # of y
    stateful: bool  # whether forward was given a state


class Recurrent:
    """H units, each of which sees the input and the last output of all.

    A subclass has ``_gates`` (rows of the matrices by unit), ``_run(u, state, lengths, cache) ->
    ((y, *state), residuals)`` with a state of several arrays, ``_pull_back(residuals, grads) ->
    (grad_u, *grad_state, grad_W_in, grad_W_h, grad_bias)``, and ``_packed``, ``_unpacked``: between
    that tuple and the state as users see it.
    """

    def _draw(self, features_in, features, bias, dtype, rng):
        columns = _validate.size("features_in", features_in)
        H = _validate.size("features", features)
        dtype, _ = _validate.precision(dtype)
        _validate.generator("rng", rng)
        bound, rows = 1 / np.sqrt(H), self._gates * H
        self.params = {
            "W_in": uniform(rng, bound, (rows, columns), dtype),
            "W_h": uniform(rng, bound, (rows, H), dtype),
        }
        if _validate.flag("bias", bias):
            self.params["bias"] = uniform(rng, bound, (2, rows), dtype).sum(axis=0)

    def _take(self, weight_ih, weight_hh, bias_ih, bias_hh):
        """Parameters by PyTorch's names and in its layout."""
        names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
        arrays = dict(zip(names, (weight_ih, weight_hh, bias_ih, bias_hh)))
        arrays = dict(
            zip(names, _validate.arrays(**arrays, real=names, optional=("bias_ih", "bias_hh")))
        )
        _validate.shape("weight_ih", arrays["weight_ih"], (-1, -1), meaning="(rows, I)")
        rows, H = arrays["weight_ih"].shape[0], arrays["weight_ih"].shape[0] // self._gates
        _validate.shape("weight_hh", arrays["weight_hh"], (self._gates * H, H))
        _validate.shape("weight_ih", arrays["weight_ih"], (self._gates * H, -1))
        biases = [a for name, a in arrays.items() if name.startswith("bias") and a is not None]
        self.params = {
            "W_in": np.array(arrays["weight_ih"]),
            "W_h": np.array(arrays["weight_hh"]),
        }
        for name in ("bias_ih", "bias_hh"):
            if arrays[name] is not None:
                _validate.shape(name, arrays[name], (rows,))
        if biases:
            self.params["bias"] = np.array(sum(biases))

    @property
    def features_in(self):
        """Channels of the input I."""
        return self.params["W_in"].shape[1]

    @property
    def features(self):
        """Units H, the channels of the output."""
        return self.params["W_h"].shape[1]

    @property
    def dtype(self):
        """The precision."""
        return self.params["W_h"].dtype

    def forward(self, u, state=None, *, lengths=None, seed=None, cache=True):
        """Apply the layer to sequences.

        Parameters
        ----------
        u : array_like
            (batch, I, L), real, in the layer's precision; L may be 0. Until `backward` it must
            stay as it is, and so must y.
        state : array_like or tuple of array_like, optional
            State before the first sample; None is zero. See the class.
        lengths : array_like of int, optional
            Samples of each item, (batch,), from 0 to L: what lies beyond is padding, finite but
            otherwise without effect. Its output is zero, and so are its gradients. None: all have
            L.
        seed : int, optional
            Taken as by every layer; there is no randomness here.
        cache : bool
            False: the third result is None, and nothing is kept for `backward`.

        Returns
        -------
        y : ndarray
            (batch, H, L).
        state : ndarray or tuple of ndarray
            State after each item's last sample.
        cache : NamedTuple or None
            For `backward`.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit or a value is not finite.
        """
        u = signal("u", u, (-1, self.features_in, None), self.dtype)
        before = self._state("state", state, u.shape[0])
        checked_seed(seed)
        lengths = _lengths.checked(lengths, u.shape[0], u.shape[2])
        keep = _validate.flag("cache", cache)
        with named(u=u):
            (y, *after), residuals = self._run(u, before, lengths, keep)
        kept = Cache(residuals, lengths, y.shape, state is not None) if keep else None
        return y, self._packed(after), kept

    def backward(self, grad_y, cache, grad_state=None):
        """Gradients of everything `forward` depended on: back-propagation through time, by hand.

        Parameters
        ----------
        grad_y : array_like
            dL/dy, of y's shape and dtype; None is zero.
        cache : NamedTuple
            From `forward`.
        grad_state : array_like or tuple of array_like, optional
            dL/d(state after), of its form; None is zero.

        Returns
        -------
        grad_u : ndarray
            Of u's shape.
        grad_state : ndarray, tuple of ndarray or None
            To the state before; None where `forward` got none.
        grads : dict of ndarray
            By parameter, of its shape and dtype.

        Raises
        ------
        ValueError
            If a cotangent's shape or dtype does not fit, or there is no cache.
        """
        residuals, _, shape, stateful = given("cache", cache)
        like = _validate.stand_in(shape, self.dtype)
        grad_y = _validate.cotangent("grad_y", grad_y, like)
        after = self._state("grad_state", grad_state, shape[0])
        grad_u, *rest = self._pull_back(residuals, (grad_y, *after))
        names = ("W_in", "W_h", "bias")
        before, grads = rest[:-3], dict(zip(names, rest[-3:]))
        grads = {name: g for name, g in grads.items() if name in self.params}
        return grad_u, self._packed(before) if stateful else None, grads

    def step(self, u_t, state=None):
        """One sample, by the same operations as `forward`.

        Parameters
        ----------
        u_t : array_like
            (batch, I), real, in the layer's precision.
        state : array_like or tuple of array_like, optional
            As in `forward`; it is not changed.

        Returns
        -------
        y_t : ndarray
            (batch, H).
        state : ndarray or tuple of ndarray
            State after the sample.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit or a value is not finite.
        """
        u_t = signal("u_t", u_t, (-1, self.features_in), self.dtype)
        before = self._state("state", state, u_t.shape[0])
        with named(u_t=u_t):
            (y, *after), _ = self._run(u_t[:, :, np.newaxis], before, None, False)
        return y[:, :, 0], self._packed(after)

    def _state(self, name, state, batch):
        """The parts of a state or of its gradient, checked; those of None are None."""
        parts = self._unpacked(name, state)
        found = []
        for i, part in enumerate(parts):
            if part is not None:
                label = name if len(parts) == 1 else f"{name}[{i}]"
                like = _validate.stand_in((), self.dtype)
                part, _ = _validate.arrays(**{label: part, "parameters": like}, real=(label,))
                _validate.shape(label, part, (batch, self.features), meaning="(batch, H)")
            found.append(part)
        return found
