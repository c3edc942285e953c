"""``RMSNorm``: the features of every time, divided by their root mean square."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers._per_time import PerTime
from ssm_manual.ops.rms_norm import rms_norm_fwd, rms_norm_vjp

__all__ = ["RMSNorm"]


class RMSNorm(PerTime):
    """``y_t = u_t / sqrt(mean(u_t^2) + eps) scale`` at every time [NORM-3].

    Parameters
    ----------
    features : int
        Channels H, at least 1.
    eps : float
        Added to the mean square, at least 0. torch.nn.RMSNorm takes the rounding unit of the dtype
        where it is told nothing.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs.

    Attributes
    ----------
    params : dict of ndarray
        ``scale`` (H,): ones at first. Trained in place.
    eps : float
        As given.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> layer = RMSNorm(2, eps=0.0, dtype="float64")
    >>> layer.step([[3.0, 4.0]])[0].round(4).tolist()
    [[0.8485, 1.1314]]
    """

    def __init__(self, features, *, eps=1e-5, dtype="float32"):
        H = _validate.size("features", features)
        dtype, _ = _validate.precision(dtype)
        self.eps = _validate.real_number("eps", eps, minimum=0)
        self.params = {"scale": np.ones(H, dtype)}

    def __repr__(self):
        return f"RMSNorm({self.features} features, eps {self.eps:g}, {self.dtype})"

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
        return rms_norm_fwd(u, self.params["scale"], axis=axis, eps=self.eps)

    def _pull_back(self, residuals, grad_y):
        grad_u, scale = rms_norm_vjp(residuals, grad_y)
        return grad_u, {"scale": scale}
