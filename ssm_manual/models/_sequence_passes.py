"""A `SequenceModel` forward, backward and sample by sample."""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _lengths
from ssm_manual.layers._composite import Branch, Composite
from ssm_manual.layers._per_time import given
from ssm_manual.ops.pool import pool_fwd, pool_vjp


class State(NamedTuple):
    """What a `SequenceModel` remembers of the samples that it has seen."""

    parts: tuple  # the states of the blocks, and the time of learned positions
    count: np.ndarray | None  # samples seen, (batch,), of a running mean
    total: np.ndarray | None  # their sum, (batch, d_model), in double precision


class Cache(NamedTuple):
    """What `SequenceModel.backward` needs of `SequenceModel.forward`."""

    body: tuple
    head: tuple
    pool: tuple | None
    samples: np.ndarray | None  # of each item, where a mean is taken
    count: np.ndarray | None  # and with those before
    shape: tuple  # of the output


class Body(Composite):
    """Everything before the head."""

    def __init__(self, parts):
        self._branches = (Branch(False, parts),)


class Passes:
    """With ``options``, ``dtype``, ``_body`` (a `Body`) and ``_head`` (a dense layer)."""

    def forward(self, u, state=None, *, lengths=None, seed=None, cache=True):
        """The model's output.

        Parameters
        ----------
        u : array_like
            (batch, length, d_input), real, in the model's precision; for ``encoder="embedding"``
            ids, (batch, length).
        state : State, optional
            From an earlier call, to go on where that one ended; None is the beginning.
        lengths : array_like of int, optional
            Samples of each item, (batch,), up to ``length``: what lies beyond is padding, without
            effect. From 1 for ``classification``, otherwise from 0. None: all have ``length``.
        seed : int, optional
            Drives dropout, at least 0 and less than 2^64; see `layers.S4DBlock`. None is
            evaluation.
        cache : bool
            False: nothing is kept, and the third result is None.

        Returns
        -------
        y : ndarray
            (batch, d_output) for ``classification``, else (batch, length, d_output), zero in
            padding.
        state : State or None
            After each item's last sample; None where a layer reads in both directions.
        cache : NamedTuple or None
            For `backward`.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, a value is not finite, or times reach beyond
            ``positions``.
        """
        u = self._signal(u)
        L = u.shape[-1]
        lengths = _lengths.checked(lengths, len(u), L)
        state = self._state("state", state)
        keep = _validate.flag("cache", cache)
        pooled = self.options["task"] == "classification"
        if pooled and (L if lengths is None else lengths.min()) == 0:
            raise ValueError("u has items without samples; classification needs at least one each")
        x, after, body = self._body._forward(u, state.parts, lengths, seed, keep)
        if not pooled:
            y, _, head = self._head.forward(x, lengths=lengths)
            y = np.ascontiguousarray(y.swapaxes(1, 2))
            kept = Cache(body, head, None, None, None, y.shape)
            after = None if after is None else State(after, None, None)
            return y, after, kept if keep else None
        m, pool = pool_fwd(x, method=self.options["pooling"], lengths=lengths)
        samples = count = total = None
        if self.options["pooling"] == "mean":
            samples = np.full(len(u), L) if lengths is None else lengths
            total = m * samples[:, np.newaxis].astype(float)
            if state.count is not None:
                count, total = state.count + samples, state.total + total
                m = (total / count[:, np.newaxis]).astype(self.dtype)
        y, head = self._head._apply(m, -1, None)
        if after is not None:
            after = State(after, samples if count is None else count, total)
        return y, after, Cache(body, head, pool, samples, count, y.shape) if keep else None

    def backward(self, grad_y, cache, grad_state=None):
        """Gradients of everything `forward` depended on, by hand.

        Parameters
        ----------
        grad_y : array_like
            dL/dy, of y's shape and dtype.
        cache : NamedTuple
            From `forward`.
        grad_state : State, optional
            dL/d(state after), whose ``count`` is ignored; None is zero.

        Returns
        -------
        grad_u : ndarray or None
            Of u's shape; None for ids.
        grad_state : State or None
            To the state before; None where `forward` got none.
        grads : dict of ndarray
            By parameter, of its shape and dtype.

        Raises
        ------
        ValueError
            If a cotangent's shape or dtype does not fit, or there is no cache.
        """
        body, head, pool, samples, count, shape = given("cache", cache)
        like = _validate.stand_in(shape, self.dtype)
        g = _validate.cotangent("grad_y", grad_y, like)
        wanted = self._state("grad_state", grad_state)
        total = None
        if pool is None:
            g, _, to_head = self._head.backward(np.ascontiguousarray(g.swapaxes(1, 2)), head)
        else:
            g, to_head = self._head._pull_back(head, g)
            if samples is not None and (count is not None or wanted.total is not None):
                # m = T / n with T = total before + sum, and T is also the total after
                to_total = 0.0 if wanted.total is None else wanted.total
                over = samples if count is None else count
                to_total = to_total + g / over[:, np.newaxis]
                total = None if count is None else to_total
                g = (samples[:, np.newaxis] * to_total).astype(self.dtype)
            g = pool_vjp(pool, g)[0]
        grad_u, before, grads = self._body._backward(g, body, wanted.parts)
        if grad_u is not None:
            grad_u = np.ascontiguousarray(grad_u.swapaxes(1, 2))
        before = None if before is None and total is None else State(before, None, total)
        grads |= {f"head.{key}": grad for key, grad in to_head.items()}
        return grad_u, before, grads

    def step(self, u_t, state=None):
        """One sample: the output that `forward` gives for all samples up to this one.

        Parameters
        ----------
        u_t : array_like
            (batch, d_input), or ids (batch,).
        state : State, optional
            From the step before, or from `forward`; None is the beginning. It is not changed.

        Returns
        -------
        y_t : ndarray
            (batch, d_output): of ``classification``, the output if the sequence ended here.
        state : State

        Raises
        ------
        ValueError
            As `forward`, and if a layer reads in both directions.
        """
        state = self._state("state", state)
        if self.options["encoder"] == "embedding":
            u_t = np.asarray(u_t)
        else:
            u_t = self._real("u_t", u_t, (-1, self.options["d_input"]), "(batch, d_input)")
        x, after = self._body._step(u_t, state.parts)
        count = total = None
        if self.options["pooling"] == "mean":
            count = np.ones(len(x), np.int64) if state.count is None else state.count + 1
            total = x.astype(float) if state.total is None else state.total + x
            x = (total / count[:, np.newaxis]).astype(self.dtype)
        return self._head._apply(x, -1, None)[0], State(after, count, total)

    # ---------------------------------------------------------------------------------- internals

    def _signal(self, u):
        """u as the layers take it, time last."""
        if self.options["encoder"] == "embedding":
            return _validate.shape("u", np.asarray(u), (-1, None), meaning="(batch, length)")
        u = self._real("u", u, (-1, None, self.options["d_input"]), "(batch, length, d_input)")
        return np.ascontiguousarray(u.swapaxes(1, 2))

    def _real(self, name, u, shape, meaning):
        like = _validate.stand_in((), self.dtype)
        u, _ = _validate.arrays(**{name: u}, parameters=like, real=(name,))
        return _validate.shape(name, u, shape, meaning=meaning)

    def _state(self, name, state):
        if state is None:
            return State(None, None, None)
        if not isinstance(state, State):
            raise ValueError(f"{name} is {_validate.show(state)}; it must be a State, as from step")
        return state
