"""``LSTM``: a recurrent layer with gates, the other baseline of state-space layers."""

from ssm_manual import _validate
from ssm_manual.layers._recurrent import Recurrent
from ssm_manual.ops import lstm as op

__all__ = ["LSTM"]


class LSTM(Recurrent):
    """``c_t = f c_{t-1} + i g``, ``y_t = o tanh(c_t)``, gated by u_t and y_{t-1} [LSTM-1, 2].

    The state is the pair (last output, cell), each (batch, H); either may be None for zero.

    Parameters
    ----------
    features_in : int
        Channels of the input I, at least 1.
    features : int
        Units H, at least 1.
    bias : bool
        Whether there is one.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs.
    rng : numpy.random.Generator
        Draws the parameters.

    Attributes
    ----------
    params : dict of ndarray
        ``W_in`` (4 H, I), ``W_h`` (4 H, H) and, unless it is switched off, ``bias`` (4 H,): rows of
        the gates i (write), f (keep), g (what is written), o (show), in this order. Trained in
        place.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Parameters: 4 H (I + H + 1). torch.nn.LSTM has the same order of gates, and two biases that act
    as their sum, which is the one here. Everything starts as there, uniform between -1/sqrt(H) and
    1/sqrt(H), the bias as the sum of two such numbers; no gate starts open. Several layers are
    several objects, the output of one the input of the next.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> layer = LSTM(3, 5, rng=rng)
    >>> y, (h, c), cache = layer.forward(rng.standard_normal((2, 3, 10), dtype=np.float32))
    >>> y.shape, np.array_equal(h, y[:, :, -1])
    ((2, 5, 10), True)
    >>> grad_u, _, grads = layer.backward(y, cache)
    >>> sorted(grads)
    ['W_h', 'W_in', 'bias']
    """

    _gates = 4

    def __init__(self, features_in, features, *, bias=True, dtype="float32", rng):
        self._draw(features_in, features, bias, dtype, rng)

    def __repr__(self):
        return f"LSTM({self.features_in} to {self.features} features, {self.dtype})"

    @classmethod
    def from_arrays(cls, *, weight_ih, weight_hh, bias_ih=None, bias_hh=None):
        """A layer with given parameters: names and layouts are those of torch.nn.LSTM, copied.

        Parameters
        ----------
        weight_ih : array_like
            (4 H, I), gates in the order i, f, g, o.
        weight_hh : array_like
            (4 H, H).
        bias_ih, bias_hh : array_like, optional
            (4 H,); their sum is the bias. Without either there is none.

        Returns
        -------
        LSTM
            In the arrays' precision.

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit, or a value is not finite.
        """
        layer = cls.__new__(cls)
        layer._take(weight_ih, weight_hh, bias_ih, bias_hh)
        return layer

    def _run(self, u, state, lengths, keep):
        p = self.params
        return op.run(u, *state, p["W_in"], p["W_h"], p.get("bias"), lengths, keep)

    def _pull_back(self, residuals, grads):
        return op.lstm_vjp(residuals, grads)

    def _unpacked(self, name, state):
        if state is None:
            return None, None
        if not isinstance(state, tuple) or len(state) != 2:
            raise ValueError(f"{name} is {_validate.show(state)}; it must be a tuple (h, c)")
        return state

    def _packed(self, parts):
        return tuple(parts)
