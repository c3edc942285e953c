"""What layers of independent channels have in common: forward, backward, step, checkpoints."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _forms, _passes
from ssm_manual.layers._per_time import checked_seed, given

__all__ = ["Layer"]


class Layer:
    """H channels side by side, each a state-space model with N stored modes.

    A subclass has parameters in ``params`` and an operator, see `_passes`.
    """

    #: The module that applies the layer's system.
    _operator = None

    #: Names of the parameters that every layer of the class has, and of its options.
    _required = ()
    _hyperparameters = ()

    def _set(self, arrays, B, dtype, view, views):
        real, weight = np.dtype(dtype), np.result_type(dtype, np.complex64)
        # In C order whatever is given: a copy of a broadcast array would keep the order of its
        # strides, and a layer that was just made would lie in memory as none that was loaded does.
        self.params = {
            name: np.array(a, weight if name in _forms.COMPLEX else real, order="C")
            for name, a in arrays.items()
        }
        self._fixed_B = np.array(B, weight, order="C")
        self.view = _validate.one_of("view", view, views)
        self._tables = None, None  # of `step`: the discretisation they are of, and they

    @property
    def features(self):
        """Channels H."""
        return self.params["C"].shape[0]

    @property
    def modes(self):
        """Stored poles a channel N."""
        return self.params["C"].shape[1]

    @property
    def dtype(self):
        """The precision as a real dtype."""
        return self.params["D"].dtype

    @property
    def bidirectional(self):
        """Whether the layer reads the sequence in both directions."""
        return "C_reverse" in self.params

    @property
    def B(self):
        """Continuous input weights, (H, N) complex."""
        return self.params.get("B", self._fixed_B)

    # ------------------------------------------------------------------------ forward, backward

    def forward(self, u, state=None, *, lengths=None, seed=None, cache=True):
        """Apply the layer to sequences.

        Parameters
        ----------
        u : array_like
            (batch, H, L), real, in the layer's precision; L may be 0.
        state : array_like, optional
            State before the first sample, (batch, H, N) complex; None is zero.
        lengths : array_like of int, optional
            Samples of each item, (batch,), from 0 to L: what lies beyond is padding, finite but
            otherwise without effect. Its output is zero, and so are its gradients. None: all have
            L.
        seed : int, optional
            Taken as by every layer; there is no randomness here.
        cache : bool
            False: the third result is None.

        Returns
        -------
        y : ndarray
            (batch, H, L).
        state : ndarray or None
            State after each item's last sample, (batch, H, N); None for a bidirectional layer.
        cache : NamedTuple or None
            For `backward`.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, a value is not finite, or a bidirectional layer is
            given a state.
        """
        u = self._signal("u", u)
        checked_seed(seed)
        keep = _validate.flag("cache", cache)
        y, after, kept = _passes.forward(self, u, self._state(state, u.shape[0]), lengths)
        return y, after, kept if keep else None

    def backward(self, grad_y, cache, grad_state=None):
        """Gradients of everything `forward` depended on, by hand [S4D-3, DPLR-12].

        Parameters
        ----------
        grad_y : array_like
            dL/dy, of y's shape and dtype.
        cache : NamedTuple
            From `forward`.
        grad_state : array_like, optional
            dL/d(state after), of its shape and dtype; None is zero.

        Returns
        -------
        grad_u : ndarray
            Of u's shape.
        grad_state : ndarray or None
            To the state before; None where `forward` got none.
        grads : dict of ndarray
            By parameter, of its shape and dtype.

        Raises
        ------
        ValueError
            If a cotangent's shape or dtype does not fit, or there is no cache.
        """
        batch, shape = given("cache", cache).shape[0], self.params["C"].shape
        grad_y = _validate.cotangent("grad_y", grad_y, _validate.stand_in(cache.shape, self.dtype))
        if grad_state is not None:
            if self.bidirectional:
                raise ValueError("grad_state is given; a bidirectional layer has no state")
            like = _validate.stand_in((batch, *shape), self.params["C"].dtype)
            grad_state = _validate.cotangent("grad_state", grad_state, like)
        return _passes.backward(self, grad_y, cache, grad_state)

    def step(self, u_t, state=None):
        """One sample: ``state <- A_bar state + B_bar u_t`` and its output [S4D-5, DPLR-8].

        The discrete system is kept between calls and formed anew when a parameter has changed.

        Parameters
        ----------
        u_t : array_like
            (batch, H), real, in the layer's precision.
        state : array_like, optional
            (batch, H, N) complex; None is zero. It is not changed.

        Returns
        -------
        y_t : ndarray
            (batch, H).
        state : ndarray
            (batch, H, N).

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, a value is not finite, or the layer is bidirectional.
        """
        return _forms.step(self, u_t, state)

    # ------------------------------------------------------------------------------- checkpoints

    def to_checkpoint(self):
        """``(hyperparameters, arrays)`` for `ssm_manual.checkpoint.save`."""
        options = {name: getattr(self, name) for name in self._hyperparameters}
        return options, self.params | {"fixed_B": self._fixed_B}

    @classmethod
    def from_checkpoint(cls, hyperparameters, arrays, *, check=True):
        """The inverse of `to_checkpoint`; see `ssm_manual.checkpoint.load`.

        Parameters
        ----------
        hyperparameters : dict
            From a file.
        arrays : dict of ndarray
            From a file; kept, not copied.
        check : bool
            False: names, shapes and dtypes are looked at, but no value is read.

        Returns
        -------
        Layer
            Of the class that was asked.

        Raises
        ------
        ValueError
            If something is missing or does not fit.
        """
        return _forms.from_checkpoint(cls, hyperparameters, arrays, check)

    # ---------------------------------------------------------------------------------- internals

    def _signal(self, name, u):
        u, _ = _validate.arrays(**{name: u}, D=self.params["D"], real=(name,))
        return _validate.shape(name, u, (-1, self.features, None), meaning="(batch, H, L)")

    def _state(self, state, batch):
        if state is None:
            return None
        if self.bidirectional:
            raise ValueError("state is given; a bidirectional layer has none to go on from")
        state, C = _validate.arrays(state=state, C=self.params["C"])
        _validate.shape("state", state, (batch, *C.shape), meaning="(batch, H, N)")
        return state.astype(C.dtype, copy=False)
