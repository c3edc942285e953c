"""``RNN``: a plain recurrent layer, the baseline that state-space layers are measured against."""

from ssm_manual import _validate
from ssm_manual.layers._recurrent import Recurrent
from ssm_manual.ops import rnn as op

__all__ = ["RNN"]


class RNN(Recurrent):
    """``y_t = f(W_in u_t + W_h y_{t-1} + bias)`` [RNN-1]; the state is the last output, (batch, H).

    Parameters
    ----------
    features_in : int
        Channels of the input I, at least 1.
    features : int
        Units H, at least 1.
    nonlinearity : {"tanh", "relu"}
        f.
    bias : bool
        Whether there is one.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs.
    rng : numpy.random.Generator
        Draws the parameters.

    Attributes
    ----------
    params : dict of ndarray
        ``W_in`` (H, I), ``W_h`` (H, H) and, unless it is switched off, ``bias`` (H,). Trained in
        place.
    nonlinearity : str
        As given.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Parameters: H (I + H + 1). torch.nn.RNN has two biases that act as their sum, which is the one
    here. Everything starts as there, uniform between -1/sqrt(H) and 1/sqrt(H), the bias as the sum
    of two such numbers. Several layers are several objects, the output of one the input of the
    next.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> layers = [RNN(3, 5, rng=rng), RNN(5, 5, rng=rng)]
    >>> y = rng.standard_normal((2, 3, 10), dtype=np.float32)
    >>> caches = []
    >>> for layer in layers:
    ...     y, state, cache = layer.forward(y)
    ...     caches.append(cache)
    >>> y.shape, state.shape
    ((2, 5, 10), (2, 5))
    >>> grad, _, grads = layers[1].backward(y, caches[1])
    >>> layers[0].backward(grad, caches[0])[0].shape
    (2, 3, 10)
    """

    _gates = 1

    def __init__(
        self, features_in, features, *, nonlinearity="tanh", bias=True, dtype="float32", rng
    ):
        self.nonlinearity = _validate.one_of("nonlinearity", nonlinearity, op.NONLINEARITIES)
        self._draw(features_in, features, bias, dtype, rng)

    def __repr__(self):
        return (
            f"RNN({self.features_in} to {self.features} features, {self.nonlinearity}, "
            f"{self.dtype})"
        )

    @classmethod
    def from_arrays(cls, *, weight_ih, weight_hh, bias_ih=None, bias_hh=None, nonlinearity="tanh"):
        """A layer with given parameters: names and layouts are those of torch.nn.RNN, copied.

        Parameters
        ----------
        weight_ih : array_like
            (H, I).
        weight_hh : array_like
            (H, H).
        bias_ih, bias_hh : array_like, optional
            (H,); their sum is the bias. Without either there is none.
        nonlinearity : {"tanh", "relu"}
            f.

        Returns
        -------
        RNN
            In the arrays' precision.

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit, or a value is not finite.

        Examples
        --------
        >>> layer = RNN.from_arrays(weight_ih=[[1.0]], weight_hh=[[0.5]], nonlinearity="relu")
        >>> layer.forward([[[1.0, 0.0, 0.0]]])[0].tolist()
        [[[1.0, 0.5, 0.25]]]
        """
        layer = cls.__new__(cls)
        layer.nonlinearity = _validate.one_of("nonlinearity", nonlinearity, op.NONLINEARITIES)
        layer._take(weight_ih, weight_hh, bias_ih, bias_hh)
        return layer

    def _run(self, u, state, lengths, keep):
        p = self.params
        args = u, *state, p["W_in"], p["W_h"], p.get("bias")
        return op.rnn_fwd(*args, nonlinearity=self.nonlinearity, lengths=lengths)

    def _pull_back(self, residuals, grads):
        grad_u, before, *to_weights = op.rnn_vjp(residuals, grads)
        return grad_u, before, *to_weights

    def _unpacked(self, name, state):
        return (state,)

    def _packed(self, parts):
        return parts[0]
