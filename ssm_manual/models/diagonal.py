"""``DiagonalSSM``: N complex poles side by side, their outputs summed; one input, one output."""

import math
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.models._diagonal_parameters import DiagonalParameters
from ssm_manual.ops import discretize, ssm, vandermonde

__all__ = ["DiagonalSSM"]


class Cache(NamedTuple):
    """What `DiagonalSSM.backward` needs of `DiagonalSSM.forward`."""

    discretisation: discretize.TustinResiduals | None
    operator: ssm.Residuals
    shape: tuple
    state_shape: tuple


class DiagonalSSM(DiagonalParameters):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = 2 Re(sum_n C_n x_{t,n}) + D u_t``.

    Parameters
    ----------
    A : array_like
        Poles, (N,): discrete (|A| < 1, no unit) or continuous (Re A < 0, in 1/s), as ``parameters``
        says. All arrays have one precision, which is the model's.
    B, C : array_like
        Input and output weights, (N,) or a scalar for all poles.
    D : array_like, optional
        Feed-through, a scalar; None for a model without one. Real where the output is.
    dt : float, optional
        Sampling interval in seconds per sample, for continuous parameters alone; trained through
        its logarithm.
    parameters : {"discrete", "continuous"}
        What is trained: A_bar and B_bar themselves, or A, B and dt through the bilinear map.
    real : bool
        True: one pole of each conjugate pair is stored and the output is real. False: the output is
        the complex sum.
    input_scale : {"dt", "sqrt_dt"}
        Of the bilinear map, see `ssm_manual.ops.discretize.tustin`; for continuous parameters
        alone.

    Attributes
    ----------
    params : dict of ndarray
        ``A``, ``B``, ``C`` (N,) complex, ``D`` () if there is one, ``log_dt`` () if continuous.
        Trained in place.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, a pole is unstable or dt is not
        positive.

    Examples
    --------
    >>> import numpy as np
    >>> model = DiagonalSSM([0.9 + 0.1j], 1.0, 0.5)
    >>> y, state, cache = model.forward(np.array([1.0, 0.0, 0.0]))
    >>> y.round(3)
    array([1. , 0.9, 0.8])
    """

    # -------------------------------------------------------------------------------- what it is

    def kernel(self, length):
        """``K_t = 2 Re sum_n C_n A_bar_n^t B_bar_n`` [VAND-1], without D.

        Parameters
        ----------
        length : int
            Number of samples.

        Returns
        -------
        K : ndarray
            (length,), real or complex.
        """
        return vandermonde.kernel(self.A_bar, self.B_bar, self.params["C"], length, real=self.real)

    def frequency_response(self, frequencies):
        """``H(f) = sum_n C_n B_bar_n / (1 - A_bar_n exp(-2 pi i f)) + D``, the transfer function.

        Real output has the conjugate poles and weights as well.

        Parameters
        ----------
        frequencies : array_like
            In cycles per sample, any shape.

        Returns
        -------
        H : ndarray
            Complex, of the frequencies' shape, in double precision.
        """
        f = np.asarray(_validate.array("frequencies", frequencies, real=True), float)
        delay = np.exp(-2j * np.pi * np.fmod(f, 1))[..., None]  # whole turns overflow
        A, weight = self.A_bar.astype(complex), self.B_bar.astype(complex) * self.params["C"]
        H = np.sum(weight / (1 - A * delay), axis=-1)
        if self.real:
            H = H + np.sum(weight.conj() / (1 - A.conj() * delay), axis=-1)
        return H + self.params.get("D", 0)

    # ------------------------------------------------------------------------ forward, backward

    def forward(self, u, state=None, *, view="auto"):
        """Apply the model to a sequence.

        Parameters
        ----------
        u : array_like
            Input, (length,) or (batch, length), in the model's precision; length may be 0.
        state : array_like, optional
            State before the first sample, (N,) or (batch, N); None is zero.
        view : {"auto", "scan", "convolution", "chunked"}
            How the operator is applied.

        Returns
        -------
        y : ndarray
            Output, of u's shape.
        state : ndarray
            State after the last sample: pass it on with the next piece.
        cache : NamedTuple
            For `backward`.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit or a value is not finite.
        """
        (A_bar, B_bar), discretisation = self.discretise()
        u = self.sequence("u", u)
        x0 = self._state("state", state, u.shape)
        rows = u.reshape(math.prod(u.shape[:-1]), 1, u.shape[-1])
        (y, x), operator = ssm.apply_fwd(
            A_bar,
            B_bar,
            self.params["C"],
            self.params.get("D"),
            rows,
            x0,
            view=view,
            real=self.real,
        )
        state_shape = (*u.shape[:-1], A_bar.size)
        cache = Cache(discretisation, operator, u.shape, state_shape if state is not None else ())
        return y.reshape(u.shape), x.reshape(state_shape), cache

    def backward(self, grad_y, cache, grad_state=None):
        """Gradients of everything `forward` depended on, by hand.

        Parameters
        ----------
        grad_y : array_like
            dL/dy, of y's shape and dtype.
        cache : NamedTuple
            From `forward`.
        grad_state : array_like, optional
            dL/d(state after), of its shape and dtype; None is zero.

        Returns
        -------
        grad_u : ndarray
            Of u's shape.
        grad_state : ndarray or None
            To the state before; None where `forward` got none.
        grads : dict of ndarray
            By parameter, of its shape.

        Raises
        ------
        ValueError
            If a cotangent's shape or dtype does not fit.
        """
        shape, N = cache.shape, self.params["A"].size
        batch = math.prod(shape[:-1])
        grad_y = self._cotangent_rows("grad_y", grad_y, (batch, 1, shape[-1]), shape)
        if grad_state is not None:
            full = (*shape[:-1], N)
            grad_state = self._cotangent_rows("grad_state", grad_state, (batch, 1, N), full)
        grad_A, grad_B, grad_C, grad_D, grad_u, grad_x0 = ssm.apply_vjp(
            cache.operator, (grad_y, grad_state)
        )
        grads = self.to_parameters(cache.discretisation, grad_A, grad_B, grad_C, grad_D)
        if grad_x0 is not None:
            grad_x0 = grad_x0.reshape(cache.state_shape)
        return grad_u.reshape(shape), grad_x0, grads

    def step(self, u_t, state=None):
        """One sample: ``state <- A_bar state + B_bar u_t`` and its output [SCAN-1, 2].

        Parameters
        ----------
        u_t : array_like
            A scalar or (batch,).
        state : array_like, optional
            (N,) or (batch, N); None is zero.

        Returns
        -------
        y_t, state : ndarray
            Of u_t's shape; of the state's.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit or a value is not finite.
        """
        real = ("u_t",) if self.real else ()
        u_t, _ = _validate.arrays(u_t=u_t, A=self.params["A"], real=real)
        if u_t.ndim > 1 or u_t.size == 0:
            raise ValueError(f"u_t has shape {u_t.shape}; it must be a scalar or (batch,)")
        y, state, _ = self.forward(u_t[..., None], state)
        return y[..., 0], state

    # ------------------------------------------------------------------------------------ training

    def loss_and_grads(self, u, target, *, mode="bptt", window=None):
        """``half_mse`` of the output from a zero state, and its gradients in the given mode.

        Parameters
        ----------
        u, target : array_like
            (length,) or (batch, length), not empty.
        mode : {"bptt", "windowed", "one_step", "convolution"}
            See `ssm_manual.training.fit`. ``windowed`` and ``one_step`` are not gradients of the
            loss.
        window : int, optional
            Steps a window, for ``windowed``.

        Returns
        -------
        loss : float
            (1/2) mean |y - target|^2.
        grads : dict of ndarray
            By parameter, of its shape.

        Raises
        ------
        ValueError
            If an argument does not fit.
        """
        from ssm_manual.training.objective import loss_and_grads

        return loss_and_grads(self, u, target, mode=mode, window=window)

    def fit(self, u, target=None, **options):
        """Train in place by plain gradient descent; see `ssm_manual.training.fit` for all options.

        Parameters
        ----------
        u : array_like or callable
            Input, (length,) or (batch, length), or ``batches(start_epoch, n_epochs) -> (u,
            target)``.
        target : array_like, optional
            What the output should be.
        **options
            ``epochs`` (required), ``rates``, ``mode``, ``window``, ``radius``, ``margin``,
            ``target_loss``, ``patience``, ``improvement``, ``progress``.

        Returns
        -------
        History
            Losses and why the run ended.

        Raises
        ------
        ValueError
            If an argument does not fit.
        DivergenceError
            If the loss leaves the finite range; the model is put back to its last sound parameters.
        """
        from ssm_manual.training.descent import fit

        return fit(self, u, target, **options)

    # ------------------------------------------------------------------------------------ internals

    def sequence(self, name, u):
        """An input or target, checked.

        Parameters
        ----------
        name : str
            For the message.
        u : array_like
            (length,) or (batch, length), of the model's precision; real where the output is.

        Returns
        -------
        ndarray
        """
        u, _ = _validate.arrays(**{name: u}, A=self.params["A"], real=(name,) if self.real else ())
        if u.ndim not in (1, 2) or 0 in u.shape[:-1]:
            raise ValueError(f"{name} has shape {u.shape}; it must be (length,) or (batch, length)")
        return u

    def _state(self, name, state, shape):
        if state is None:
            return None
        state, _ = _validate.arrays(**{name: state}, A=self.params["A"])
        _validate.shape(name, state, (*shape[:-1], self.params["A"].size), meaning="(batch, N)")
        return state.reshape(-1, 1, self.params["A"].size)

    def _cotangent_rows(self, name, grad, rows, shape):
        grad, _ = _validate.arrays(**{name: grad}, A=self.params["A"])
        if name == "grad_state" and grad.dtype.kind != "c":
            raise ValueError(f"{name} has dtype {grad.dtype}; it must be complex, as the state is")
        return _validate.shape(name, grad, shape).reshape(rows)
