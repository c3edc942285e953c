"""One model of a stream over its rows: what it remembers, and how that is taken and put back.

Design
------
* The recurrence calls the kernel of `ops.scan` itself, with everything that does not change
  prepared once. Validation, discretisation and copies of the parameters, which `forward` owes its
  callers, took ten times as long as the 64 samples of 64 poles themselves.
* That kernel sets subnormal states to zero at every 64th sample of a call. So that any cutting
  gives the same bits, calls begin at every 64th sample of the *stream*. A block that ends between
  two borders leaves the state of the last border and the samples since. The next block goes on from
  where it stands if no state is subnormal, so that there is nothing to set to zero; otherwise the
  samples since the border are run again.
"""

import numpy as np

from ssm_manual import _validate
from ssm_manual.ops import scan

#: Distance of the borders: where the kernel of the recurrence flushes.
BORDER = scan.BLOCK

#: Most samples in a call: what the kernel keeps for a backward pass stays small.
PIECE = 1024 * BORDER


class Recurrence:
    """A `DiagonalSSM` over ``rows`` channels, with the parameters that it has now."""

    def __init__(self, model, rows):
        (A_bar, B_bar), _ = model.discretise()
        C, D = model.params["C"], model.params.get("D")
        self._weights = tuple(
            np.array(a, A_bar.dtype, order="C", ndmin=2)
            for a in (A_bar, B_bar, 2 * C)  # the 2 of [SCAN-2]
        )
        self._D = np.full(1, 0 if D is None else D, model.dtype)
        self._x = np.zeros((rows, 1, A_bar.size), A_bar.dtype)
        self._border = self._x  # the state at the last border
        self._since = np.zeros((rows, 1, BORDER), model.dtype)  # samples since the border
        self._count = 0  # how many

    def advance(self, u):
        """Outputs (rows, n) of the next samples u (rows, n), in the model's precision."""
        u = u[:, np.newaxis]
        n = u.shape[2]
        if not self._count and n == BORDER:  # the usual case, without a detour
            return self._run(u)[:, 0]
        y = np.empty_like(u)
        at = min(n, -self._count % BORDER)
        if at:
            y[..., :at] = self._up_to_border(u[..., :at])
        rest = n - (n - at) % BORDER
        while at < rest:
            stop = min(at + PIECE, rest)
            y[..., at:stop] = self._run(u[..., at:stop])
            at = stop
        if at < n:
            self._border = self._x.copy()
            y[..., at:] = self._run(u[..., at:])
            self._remember(u[..., at:])
        return y[:, 0]

    def _up_to_border(self, u):
        """Samples that begin after a border and do not go beyond the next one."""
        before = self._count
        self._remember(u)
        parts = np.abs(self._x.view(u.dtype))
        if not np.any((parts > 0) & (parts < np.finfo(u.dtype).tiny)):
            return self._run(u)
        self._x = self._border.copy()
        return self._run(self._since[..., : before + u.shape[2]])[..., before:]

    def _remember(self, u):
        stop = self._count + u.shape[2]
        self._since[..., self._count : stop] = u
        self._count = stop % BORDER

    def _run(self, u):
        """The kernel, whose u, x and y must be contiguous; x is changed."""
        rows, _, n = u.shape
        N = self._x.shape[2]
        y = np.empty(u.shape, u.dtype)
        kept = np.empty((rows, 1, -(-n // BORDER), N), self._x.dtype)
        threads = rows > 1 and rows * n * N >= scan.PARALLEL_FROM
        run = scan._forward_parallel if threads else scan._forward_serial
        run(*self._weights, self._D, np.ascontiguousarray(u), self._x, y, kept)
        return y

    def state(self):
        """By name, copied."""
        since = self._since[:, 0, : self._count].copy()
        border = self._border if self._count else self._x
        return {"x": self._x[:, 0].copy(), "border": border[:, 0].copy(), "since": since}

    def mark(self):
        """What `go_back` takes: the border is never written to, the rest is."""
        return self._x.copy(), self._border, self._since.copy(), self._count

    def go_back(self, mark):
        """Forget what came after `mark`."""
        self._x, self._border, self._since, self._count = mark

    def restore(self, name, arrays):
        """Go on from `state`."""
        own = _take(name, arrays, self.state())
        for key in ("x", "border"):
            setattr(self, f"_{key}", own[key][:, np.newaxis].copy())
        since = own["since"]
        self._count = since.shape[1]
        if self._count >= BORDER:
            raise ValueError(
                f"{name}.since has {self._count} samples; it must have fewer than {BORDER}"
            )
        self._since[:, 0, : self._count] = since


class Deep:
    """A `SequenceModel` over ``rows`` channels."""

    def __init__(self, model, rows):
        self._model, self._rows, self._state = model, rows, None

    def advance(self, u):
        """As of `Recurrence`."""
        if not u.shape[1]:
            return u
        y, self._state, _ = self._model.forward(u[..., np.newaxis], self._state, cache=False)
        return y[..., 0]

    def state(self):
        """By name, copied; empty before the first sample."""
        return dict(_leaves(self._state))

    def mark(self):
        """As of `Recurrence`; a state is replaced, never written to."""
        return self._state

    def go_back(self, mark):
        """As of `Recurrence`."""
        self._state = mark

    def restore(self, name, arrays):
        """Go on from `state`, whose form that of one sample of silence tells."""
        if not arrays:
            return
        u = np.zeros((self._rows, 1, 1), self._model.dtype)
        _, form, _ = self._model.forward(u, cache=False)
        self._state = _filled(form, _take(name, arrays, dict(_leaves(form))))


def _take(name, arrays, like):
    """``arrays``, checked against ``like``: names, dtypes, shapes (but of ``since``), values."""
    if arrays.keys() != like.keys():
        raise ValueError(
            f"state has {sorted(arrays)} for {name}; it must have {sorted(like)}, as from a stream "
            "of the same filter"
        )
    for key, expected in like.items():
        shape = expected.shape if key != "since" else (len(expected), None)
        a = arrays[key] = np.asarray(arrays[key])
        whole = f"state['{name}.{key}']"
        if a.dtype != expected.dtype:
            raise ValueError(f"{whole} has dtype {a.dtype}; it must be {expected.dtype}")
        _validate.shape(whole, a, shape)
        _validate.finite_values(whole, a)
    return arrays


def _leaves(tree, path=""):
    """Arrays and numbers of nested tuples with their places as names, copied."""
    if isinstance(tree, tuple):
        for index, part in enumerate(tree):
            yield from _leaves(part, f"{path}.{index}" if path else str(index))
    elif tree is not None:
        yield path, np.array(tree)


def _filled(form, arrays, path=""):
    """The tree of the same form whose leaves are ``arrays``."""
    if isinstance(form, tuple):
        parts = [
            _filled(part, arrays, f"{path}.{index}" if path else str(index))
            for index, part in enumerate(form)
        ]
        return form._make(parts) if hasattr(form, "_make") else tuple(parts)
    if form is None:
        return None
    return arrays[path].copy() if isinstance(form, np.ndarray) else type(form)(arrays[path])
