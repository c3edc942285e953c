"""``Dropout``: numbers, or whole channels, set to zero at random while a model is trained."""

from ssm_manual import _validate
from ssm_manual.layers._per_time import PerTime
from ssm_manual.ops.dropout import dropout_fwd, dropout_vjp

__all__ = ["Dropout"]


class Dropout(PerTime):
    """``y = m u``, with m 0 at probability ``rate``, else ``1 / (1 - rate)`` [DROPOUT-1].

    Parameters
    ----------
    rate : float
        Probability that a number is dropped, at least 0 and less than 1.
    tied : bool
        Whether all times of a channel share one value of the mask.
    dtype : {"float32", "float64"}
        Precision of inputs and outputs.

    Attributes
    ----------
    params : dict
        Empty.
    rate, tied
        As given.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Without a seed `forward` is the identity, as `step` always is, and gives back u itself. The mask
    depends on the seed and on a number's place in u: the pieces of a sequence that was cut have
    other masks than the whole.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Dropout(0.5, dtype="float64")
    >>> layer.forward(np.ones((1, 1, 6)), seed=3)[0].tolist()
    [[[2.0, 0.0, 2.0, 0.0, 0.0, 0.0]]]
    """

    _features = None

    def __init__(self, rate, *, tied=False, dtype="float32"):
        self.rate = _validate.real_number("rate", rate, minimum=0)
        if self.rate >= 1:
            raise ValueError(f"rate is {rate!r}; it must be at least 0 and less than 1")
        self.tied = _validate.flag("tied", tied)
        self.dtype, _ = _validate.precision(dtype)
        self.params = {}

    def __repr__(self):
        tied = ", tied" if self.tied else ""
        return f"Dropout({self.rate:g}{tied}, {self.dtype})"

    def _apply(self, u, axis, seed):
        return dropout_fwd(u, rate=self.rate, seed=seed, tied=self.tied)

    def _pull_back(self, residuals, grad_y):
        return dropout_vjp(residuals, grad_y)[0], {}
