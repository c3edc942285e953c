"""``Embedding``: a vector of features for every id of a vocabulary, and for every place in time."""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _lengths
from ssm_manual.layers._per_time import checked_seed, given, stateless
from ssm_manual.ops import embedding as ops

__all__ = ["Embedding"]


class Cache(NamedTuple):
    """What `Embedding.backward` needs of `Embedding.forward`."""

    residuals: tuple  # of the lookup
    pieces: tuple  # (items, residuals of the positions) for every starting time
    lengths: np.ndarray | None
    shape: tuple  # of y


class Embedding:
    """``y_t = table[ids_t]``, plus a learned vector for the time t if asked for [EMBED-1, 3].

    Parameters
    ----------
    vocabulary : int
        Number of ids V, at least 1; ids are 0 to V - 1.
    features : int
        Channels H, at least 1.
    longest : int, optional
        Number of times with a learned position, at least 1: no sequence may be longer. None: no
        positions.
    deviation : float
        Standard deviation of the parameters at first, above 0.
    dtype : {"float32", "float64"}
        Precision of parameters and outputs.
    rng : numpy.random.Generator
        Draws the parameters.

    Attributes
    ----------
    params : dict of ndarray
        ``table`` (V, H) and, with ``longest``, ``positions`` (H, longest). Trained in place.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Both start normal with mean 0 and variance 1, as torch.nn.Embedding; GPT-2 has 0.02 as
    ``deviation``. With positions the state is the time of each item's next sample, so that a
    sequence can go on in pieces.

    Examples
    --------
    >>> layer = Embedding(10, 4, longest=50, rng=np.random.default_rng(0))
    >>> y, state, cache = layer.forward([[3, 1, 4], [1, 5, 9]])
    >>> y.shape, state.tolist()
    ((2, 4, 3), [3, 3])
    """

    def __init__(self, vocabulary, features, *, longest=None, deviation=1.0, dtype="float32", rng):
        V = _validate.size("vocabulary", vocabulary)
        H = _validate.size("features", features)
        dtype, _ = _validate.precision(dtype)
        largest = float(np.finfo(dtype).max) / 100  # none is drawn that far out
        deviation = _validate.real_number("deviation", deviation, above=0, maximum=largest)
        _validate.generator("rng", rng)
        shapes = {"table": (V, H)}
        if longest is not None:
            shapes["positions"] = H, _validate.length("longest", longest, minimum=1)
            _validate.room(features=H, longest=longest)
        self.params = {
            name: (deviation * rng.standard_normal(shape)).astype(dtype)
            for name, shape in shapes.items()
        }

    def __repr__(self):
        places = "" if self.longest is None else f", {self.longest} times"
        return f"Embedding({self.vocabulary} ids, {self.features} features{places}, {self.dtype})"

    @property
    def vocabulary(self):
        """Number of ids V."""
        return self.params["table"].shape[0]

    @property
    def features(self):
        """Channels H."""
        return self.params["table"].shape[1]

    @property
    def longest(self):
        """Number of times with a position, or None."""
        return self.params["positions"].shape[1] if "positions" in self.params else None

    @property
    def dtype(self):
        """The precision."""
        return self.params["table"].dtype

    def forward(self, u, state=None, *, lengths=None, seed=None, cache=True):
        """Look up sequences of ids.

        Parameters
        ----------
        u : array_like of int
            Ids, (batch, L), from 0 to V - 1, in padding too; L may be 0.
        state : array_like of int, optional
            Time of each item's first sample, (batch,); None is 0. Only with positions.
        lengths : array_like of int, optional
            Samples of each item, (batch,), from 0 to L: what lies beyond is padding. Its output is
            zero. None: all have L.
        seed : int, optional
            Taken as by every layer; there is no randomness here.
        cache : bool
            False: the third result is None.

        Returns
        -------
        y : ndarray
            (batch, H, L).
        state : ndarray or None
            Time of each item's next sample, (batch,); None without positions.
        cache : NamedTuple or None
            For `backward`.

        Raises
        ------
        ValueError
            If ids or times are no integers or out of range, or a shape does not fit.
        """
        u = _integers("u", u, (-1, None), "(batch, L)", self.vocabulary)
        checked_seed(seed)
        batch, L = u.shape
        lengths = _lengths.checked(lengths, batch, L)
        start = self._start(state, batch)
        y, residuals = ops.embedding_fwd(u, self.params["table"], axis=-2)
        pieces, after = (), None
        if start is not None:
            y, pieces = self._add_positions(y, start, lengths)
            after = start + (L if lengths is None else lengths)
        if lengths is not None:
            _lengths.clear(y, lengths)
        kept = Cache(residuals, tuple(pieces), lengths, y.shape)
        return y, after, kept if _validate.flag("cache", cache) else None

    def backward(self, grad_y, cache, grad_state=None):
        """Gradients to the tables, by hand [EMBED-2, 4].

        Parameters
        ----------
        grad_y : array_like
            dL/dy, of y's shape and dtype; None is zero.
        cache : NamedTuple
            From `forward`.
        grad_state : None
            Times have no gradient.

        Returns
        -------
        grad_u : None
            Ids have no gradient.
        grad_state : None
        grads : dict of ndarray
            By parameter, of its shape and dtype.

        Raises
        ------
        ValueError
            If the cotangent's shape or dtype does not fit, or there is no cache.
        """
        residuals, pieces, lengths, shape = given("cache", cache)
        stateless("grad_state", grad_state)
        g = _validate.cotangent("grad_y", grad_y, _validate.stand_in(shape, self.dtype))
        if lengths is not None:
            g = _lengths.cleared(g, lengths)
        grads = {"table": ops.embedding_vjp(residuals, g)[1]}
        if "positions" in self.params:
            total = np.zeros(self.params["positions"].shape)
            for items, length, kept in pieces:
                piece = ops.positions_vjp(kept, g[items, :, :length])[1]
                total = _validate.plus("grad_positions", total, piece)
            with np.errstate(over="ignore"):  # infinite in the layer's precision
                grads["positions"] = total.astype(self.dtype)
        return None, None, grads

    def step(self, u_t, state=None):
        """One id of each item.

        Parameters
        ----------
        u_t : array_like of int
            (batch,), from 0 to V - 1.
        state : array_like of int, optional
            As in `forward`.

        Returns
        -------
        y_t : ndarray
            (batch, H).
        state : ndarray or None
            As in `forward`.

        Raises
        ------
        ValueError
            As `forward`.
        """
        u_t = _integers("u_t", u_t, (-1,), "(batch,)", self.vocabulary)
        start = self._start(state, u_t.size)
        y = np.take(self.params["table"], u_t, axis=0)
        if start is None:
            return y, None
        self._within(start + 1)
        return y + self.params["positions"].T[start], start + 1

    # ---------------------------------------------------------------------------------- internals

    def _start(self, state, batch):
        if self.longest is None:
            return stateless("state", state)
        if state is None:
            return np.zeros(batch, np.int64)
        return _integers("state", state, (batch,), "(batch,)", None)

    def _within(self, ends):
        if ends.max() > self.longest:
            raise ValueError(
                f"u reaches time {ends.max()}; it must end within longest = {self.longest}, the "
                "times that have a position"
            )

    def _add_positions(self, y, start, lengths):
        """y plus its positions, and the items, lengths and residuals of each starting time."""
        L = y.shape[2]
        ends = start + (L if lengths is None else lengths)
        self._within(ends)
        table, pieces = self.params["positions"], []
        if (start == start[0]).all():
            length = int(ends.max() - start[0])  # of padding there need be no positions
            whole = [(slice(None), length, int(start[0]))]
        else:
            whole = [(np.flatnonzero(start == s), None, int(s)) for s in np.unique(start)]
        for items, length, s in whole:
            if length is None:
                length = int(ends[items].max() - s)
            out, kept = ops.positions_fwd(y[items, :, :length], table, start=s)
            y[items, :, :length] = out
            pieces.append((items, length, kept))
        return y, pieces


def _integers(name, value, shape, meaning, stop):
    a = _validate.integers(name, value)
    _validate.shape(name, a, shape, meaning=meaning)
    if a.size and (a.min() < 0 or (stop is not None and a.max() >= stop)):
        wrong = a[(a < 0) | (a >= stop) if stop is not None else a < 0][0]
        limit = "at least 0" if stop is None else f"from 0 to {stop - 1}"
        raise ValueError(f"{name} holds {wrong}; it must be {limit}")
    return a.astype(np.int64)
