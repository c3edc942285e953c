"""``LayerNorm``: the features of every time, centred and brought to unit variance."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers._per_time import PerTime
from ssm_manual.ops.layer_norm import layer_norm_fwd, layer_norm_vjp

__all__ = ["LayerNorm"]


class LayerNorm(PerTime):
    """``y_t = (u_t - mean) / sqrt(variance + eps) scale + shift`` at every time [NORM-1].

    Parameters
    ----------
    features : int
        Channels H, at least 1.
    eps : float
        Added to the variance, at least 0.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs.

    Attributes
    ----------
    params : dict of ndarray
        ``scale`` and ``shift`` (H,): ones and zeros at first, as torch.nn.LayerNorm's weight and
        bias. Trained in place.
    eps : float
        As given.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> layer = LayerNorm(2, eps=0.0)
    >>> layer.step(np.array([[1.0, 3.0]], np.float32))[0].tolist()
    [[-1.0, 1.0]]
    """

    def __init__(self, features, *, eps=1e-5, dtype="float32"):
        H = _validate.size("features", features)
        dtype, _ = _validate.precision(dtype)
        self.eps = _validate.real_number("eps", eps, minimum=0)
        self.params = {"scale": np.ones(H, dtype), "shift": np.zeros(H, dtype)}

    def __repr__(self):
        return f"LayerNorm({self.features} features, eps {self.eps:g}, {self.dtype})"

    @property
    def features(self):
        """Channels H."""
        return self.params["scale"].size

    @property
    def dtype(self):
        """The precision."""
        return self.params["scale"].dtype

    @property
    def _features(self):
        return self.features

    def _apply(self, u, axis, seed):
        scale, shift = self.params["scale"], self.params["shift"]
        return layer_norm_fwd(u, scale, shift, axis=axis, eps=self.eps)

    def _pull_back(self, residuals, grad_y):
        grad_u, scale, shift = layer_norm_vjp(residuals, grad_y)
        return grad_u, {"scale": scale, "shift": shift}
