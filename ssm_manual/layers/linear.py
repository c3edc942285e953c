"""``Linear``: one dense map of the features, the same at every time."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers._per_time import PerTime, uniform
from ssm_manual.ops.linear import linear_fwd, linear_vjp

__all__ = ["Linear"]


class Linear(PerTime):
    """``y_t = W u_t + bias`` at every time [LINEAR-1].

    Parameters
    ----------
    features_in, features_out : int
        Channels of input and output, at least 1.
    bias : bool
        Whether there is one.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs.
    rng : numpy.random.Generator
        Draws the parameters.

    Attributes
    ----------
    params : dict of ndarray
        ``weight`` (out, in) and, unless it is switched off, ``bias`` (out,). Trained in place.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Weight and bias start uniform between -1/sqrt(in) and 1/sqrt(in), as those of torch.nn.Linear.
    Layout and names are that module's too.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Linear(3, 5, rng=np.random.default_rng(0))
    >>> y, _, cache = layer.forward(np.ones((2, 3, 7), np.float32))
    >>> y.shape
    (2, 5, 7)
    >>> grad_u, _, grads = layer.backward(y, cache)
    >>> sorted(grads)
    ['bias', 'weight']
    """

    def __init__(self, features_in, features_out, *, bias=True, dtype="float32", rng):
        columns = _validate.size("features_in", features_in)
        rows = _validate.size("features_out", features_out)
        dtype, _ = _validate.precision(dtype)
        _validate.generator("rng", rng)
        bound = 1 / np.sqrt(columns)
        self.params = {"weight": uniform(rng, bound, (rows, columns), dtype)}
        if _validate.flag("bias", bias):
            self.params["bias"] = uniform(rng, bound, rows, dtype)

    def __repr__(self):
        bias = "" if "bias" in self.params else ", no bias"
        return f"Linear({self.features_in} to {self.features_out} features{bias}, {self.dtype})"

    @property
    def features_in(self):
        """Channels of the input."""
        return self.params["weight"].shape[1]

    @property
    def features_out(self):
        """Channels of the output."""
        return self.params["weight"].shape[0]

    @property
    def dtype(self):
        """The precision."""
        return self.params["weight"].dtype

    @property
    def _features(self):
        return self.features_in

    def _apply(self, u, axis, seed):
        return linear_fwd(u, self.params["weight"], self.params.get("bias"), axis=axis)

    def _pull_back(self, residuals, grad_y):
        grad_u, *grads = linear_vjp(residuals, grad_y)
        return grad_u, dict(zip(self.params, grads))
