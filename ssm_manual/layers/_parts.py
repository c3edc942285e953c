"""Parts of blocks that are no layers of their own: fused, gated, or too small."""

import numpy as np

from ssm_manual.layers._per_time import PerTime
from ssm_manual.layers.dropout import Dropout
from ssm_manual.layers.embedding import Embedding
from ssm_manual.layers.layer_norm import LayerNorm
from ssm_manual.layers.linear import Linear
from ssm_manual.layers.rms_norm import RMSNorm
from ssm_manual.ops.activations import relu_fwd, relu_vjp
from ssm_manual.ops.embedding import positions_fwd, positions_vjp
from ssm_manual.ops.gelu_dropout import gelu_dropout_fwd, gelu_dropout_vjp
from ssm_manual.ops.glu import glu_fwd, glu_vjp
from ssm_manual.ops.linear_glu import linear_glu_fwd, linear_glu_vjp

NORMS = {"layer": LayerNorm, "rms": RMSNorm}

# ------------------------------------------------------------------------------- parts of their own


class GeluDropout(Dropout):
    """GELU and dropout in one pass."""

    def _apply(self, u, axis, seed):
        return gelu_dropout_fwd(u, rate=self.rate, seed=seed, tied=self.tied)

    def _pull_back(self, residuals, grad_y):
        return gelu_dropout_vjp(residuals, grad_y)[0], {}


class ReLU(PerTime):
    """``max(u, 0)``."""

    _features = None

    def __init__(self, *, dtype):
        self.dtype, self.params = np.dtype(dtype), {}

    def _apply(self, u, axis, seed):
        return relu_fwd(u)

    def _pull_back(self, residuals, grad_y):
        return relu_vjp(residuals, grad_y)[0], {}


class LinearGLU(Linear):
    """A dense map H to 2H and a GLU in one pass."""

    def _apply(self, u, axis, seed):
        return linear_glu_fwd(u, self.params["weight"], self.params["bias"], axis=axis)

    def _pull_back(self, residuals, grad_y):
        grad_u, *grads = linear_glu_vjp(residuals, grad_y)
        return grad_u, dict(zip(self.params, grads))


class Positions:
    """``u_t + table[:, t]``: what has no other sense of time learns where it is [EMBED-3].

    The state is the time of each item's next sample, (batch,). The table starts from zero.
    """

    def __init__(self, features, longest, *, dtype):
        self.params = {"table": np.zeros((features, longest), dtype)}

    def forward(self, u, state=None, *, lengths=None, seed=None, cache=True):
        """As of every layer."""
        batch, _, L = u.shape
        start = self._start(state, batch, L)
        if (start == start[0]).all():
            y, residuals = positions_fwd(u, self.params["table"], start=int(start[0]))
        else:
            y = u + np.stack([self.params["table"][:, t : t + L] for t in start])
            residuals = start
        return y, start + (L if lengths is None else lengths), residuals if cache else None

    def backward(self, grad_y, cache, grad_state=None):
        """As of every layer; times have no gradient [EMBED-4]."""
        if not isinstance(cache, np.ndarray):
            grad_u, grad = positions_vjp(cache, grad_y)
            return grad_u, None, {"table": grad}
        grad = np.zeros(self.params["table"].shape)
        for g, t in zip(grad_y, cache):
            grad[:, t : t + g.shape[1]] += g
        return grad_y, None, {"table": grad.astype(grad_y.dtype)}

    def step(self, u_t, state=None):
        """As of every layer."""
        start = self._start(state, len(u_t), 1)
        return u_t + self.params["table"].T[start], start + 1

    def _start(self, state, batch, L):
        longest = self.params["table"].shape[1]
        start = np.zeros(batch, np.int64) if state is None else np.asarray(state)
        if start.dtype.kind not in "iu" or start.shape != (batch,) or start.min() < 0:
            raise ValueError(f"state holds the times {start}; they must be ({batch},), at least 0")
        if start.max() + L > longest:
            raise ValueError(
                f"u reaches time {start.max() + L}; it must end within positions = {longest}"
            )
        return start


class Gated:
    """``ssm(v) sigmoid(gate)`` of the two halves of u: a layer behind a gate."""

    def __init__(self, layer):
        self.layer = layer

    @property
    def params(self):
        return self.layer.params

    @property
    def dtype(self):
        return self.layer.dtype

    def forward(self, u, state=None, *, lengths=None, seed=None, cache=True):
        H = self.layer.features
        s, after, kept = self.layer.forward(
            u[:, :H], state, lengths=lengths, seed=seed, cache=cache
        )
        y, residuals = glu_fwd(np.concatenate([s, u[:, H:]], axis=1), axis=-2)
        return y, after, (kept, residuals) if cache else None

    def backward(self, grad_y, cache, grad_state=None):
        kept, residuals = cache
        H = self.layer.features
        g = glu_vjp(residuals, grad_y)[0]
        to_v, before, grads = self.layer.backward(g[:, :H], kept, grad_state)
        g[:, :H] = to_v
        return g, before, grads

    def step(self, u_t, state=None):
        H = self.layer.features
        s, after = self.layer.step(u_t[:, :H], state)
        return glu_fwd(np.concatenate([s, u_t[:, H:]], axis=1), axis=-1)[0], after


def has_state(part):
    """Whether a part passes a state on."""
    return not isinstance(part, (PerTime, Embedding))


def is_fresh(part, before, seed):
    """Whether nobody else holds a part's output; ``before``: the same of its input."""
    if type(part) is Dropout:  # which in evaluation gives back what it got
        return before or (seed is not None and part.rate > 0)
    return isinstance(part, Linear)


def gives_own(part):
    """Whether a part's gradient to its input is an array that nobody else holds."""
    return isinstance(part, (LayerNorm, RMSNorm, Linear))
