"""``S4D``: H independent channels, each a diagonal state-space model with N stored poles."""

import numpy as np

from ssm_manual import _validate, hippo
from ssm_manual.layers import _continuous, _forms, _passes
from ssm_manual.ops import ssm, vandermonde

__all__ = ["S4D"]


class S4D:
    """H channels side by side, each with N poles of its own and one output [S4D-4].

        x_t = A_bar x_{t-1} + B_bar u_t,    y_t = 2 Re(sum_n C_n x_{t,n}) + D u_t

    Parameters
    ----------
    features : int
        Channels H, at least 1.
    modes : int
        Stored poles a channel N, at least 1; each stands for a conjugate pair.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs. What depends on parameters alone is always
        formed in double precision.
    rng : numpy.random.Generator
        Draws dt, C and D.
    initial : {"legs", "lin", "inv", "fout", "real", ...}
        Poles and input weights to start from, see `ssm_manual.hippo.diagonal`.
    discretisation : {"zoh", "tustin"}
        See `ssm_manual.ops.discretize`.
    dt_min, dt_max : float
        Range of the sampling intervals, see `ssm_manual.hippo.log_dt`.
    train_B : bool
        Whether B is a parameter; otherwise it stays as it begins, since C scales the same product.
    bidirectional : bool
        True: ``y = f(u) + reverse(g(reverse(u)))``, where g has the poles and input weights of f, a
        C of its own (``C_reverse``) and no D. Such a layer sees the whole sequence and has no state
        to pass on.
    view : {"auto", "chunked", "scan", "convolution"}
        How the operator is applied, see `ssm_manual.ops.ssm`; all agree to rounding.

    Attributes
    ----------
    params : dict of ndarray
        ``log_dt`` (H,), ``log_A_real`` (H, N), ``A_imag`` (H, N), ``C`` (H, N) complex, ``D`` (H,);
        ``B`` (H, N) complex if it is trained, ``C_reverse`` (H, N) if bidirectional. Trained in
        place.
    B : ndarray
        (H, N): the input weights, trained or not.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Parameters: H (2 + 4 N), and 2 H N more each for B and for the second direction.

    References
    ----------
    A. Gu, A. Gupta, K. Goel, C. Ré (2022), "On the parameterization and initialization of diagonal
    state space models" (S4D).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> layer = S4D(4, 8, rng=rng)
    >>> u = rng.standard_normal((2, 4, 100), dtype=np.float32)
    >>> y, state, cache = layer.forward(u)
    >>> y.shape, state.shape
    ((2, 4, 100), (2, 4, 8))
    >>> grad_u, _, grads = layer.backward(np.ones_like(y), cache)
    >>> sorted(grads)
    ['A_imag', 'C', 'D', 'log_A_real', 'log_dt']
    """

    def __init__(
        self,
        features,
        modes,
        *,
        dtype="float32",
        rng,
        initial="legs",
        discretisation="zoh",
        dt_min=1e-3,
        dt_max=1e-1,
        train_B=False,
        bidirectional=False,
        view="auto",
    ):
        H = _validate.integer("features", features, minimum=1)
        N = _validate.integer("modes", modes, minimum=1)
        dtype, _ = _validate.precision(dtype)
        _validate.generator("rng", rng)
        _validate.one_of("initial", initial, hippo.INITIAL)
        A, B = hippo.diagonal(initial, N, channels=H)
        log_dt = hippo.log_dt(H, dt_min=dt_min, dt_max=dt_max, rng=rng)

        def normal():
            return np.sqrt(0.5) * (rng.standard_normal((H, N)) + 1j * rng.standard_normal((H, N)))

        arrays = {
            "log_dt": log_dt,
            "log_A_real": np.log(-A.real),
            "A_imag": A.imag,
            "C": normal(),
            "D": rng.standard_normal(H),
        }
        if _validate.flag("train_B", train_B):
            arrays["B"] = B
        if _validate.flag("bidirectional", bidirectional):
            arrays["C_reverse"] = normal()
        self._set(arrays, B, dtype, discretisation, view)

    def _set(self, arrays, B, dtype, discretisation, view):
        real, weight = np.dtype(dtype), np.result_type(dtype, np.complex64)
        self.params = {
            name: np.array(a, weight if name in _forms.COMPLEX else real)
            for name, a in arrays.items()
        }
        self._fixed_B = np.array(B, weight)
        self.discretisation = _validate.one_of(
            "discretisation", discretisation, _continuous.DISCRETISATIONS
        )
        self.view = _validate.one_of("view", view, ssm.VIEWS)
        self._tables = None, None  # of `step`: the discretisation they are of, and they

    # -------------------------------------------------------------------------------- what it is

    def __repr__(self):
        both = ", bidirectional" if self.bidirectional else ""
        return (
            f"S4D({self.features} features, {self.modes} modes, {self.discretisation}{both}, "
            f"{self.dtype})"
        )

    @property
    def features(self):
        """Channels H."""
        return self.params["C"].shape[0]

    @property
    def modes(self):
        """Stored poles a channel N."""
        return self.params["C"].shape[1]

    @property
    def dtype(self):
        """The precision as a real dtype."""
        return self.params["D"].dtype

    @property
    def bidirectional(self):
        """Whether the layer reads the sequence in both directions."""
        return "C_reverse" in self.params

    @property
    def B(self):
        """Continuous input weights, (H, N) complex."""
        return self.params.get("B", self._fixed_B)

    @property
    def A(self):
        """Continuous poles, (H, N) complex128, in 1/s: ``-exp(log_A_real) + i A_imag`` [S4D-1]."""
        return _continuous.poles(self.params)[0]

    @property
    def dt(self):
        """Sampling intervals, (H,) float64, in seconds per sample."""
        return _continuous.poles(self.params)[1][:, 0]

    def kernel(self, length):
        """``K_l = 2 Re sum_n C_n B_bar_n exp(l dt A_n)``, without D.

        Parameters
        ----------
        length : int
            Number of samples.

        Returns
        -------
        ndarray
            (H, length), in the layer's precision.
        """
        system = self._system()
        C = self.params["C"].astype(complex)
        K = vandermonde.kernel_from_exponent(system.exponent, system.B_bar, C, length)
        return K.astype(self.dtype)

    # ------------------------------------------------------------------------ forward, backward

    def forward(self, u, state=None, *, lengths=None):
        """Apply the layer to sequences.

        Parameters
        ----------
        u : array_like
            (batch, H, L), real, in the layer's precision; L may be 0.
        state : array_like, optional
            State before the first sample, (batch, H, N) complex; None is zero.
        lengths : array_like of int, optional
            Samples of each item, (batch,), from 0 to L: what lies beyond is padding, finite but
            otherwise without effect. Its output is zero, and so are its gradients. None: all have
            L.

        Returns
        -------
        y : ndarray
            (batch, H, L).
        state : ndarray or None
            State after each item's last sample, (batch, H, N); None for a bidirectional layer.
        cache : NamedTuple
            For `backward`.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, a value is not finite, or a bidirectional layer is
            given a state.
        """
        u = self._signal("u", u)
        return _passes.forward(self, u, self._state(state, u.shape[0]), lengths)

    def backward(self, grad_y, cache, grad_state=None):
        """Gradients of everything `forward` depended on, by hand [S4D-3].

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
            By parameter, of its shape and dtype.

        Raises
        ------
        ValueError
            If a cotangent's shape or dtype does not fit.
        """
        batch, shape = cache.shape[0], self.params["C"].shape
        grad_y = _validate.cotangent("grad_y", grad_y, _validate.stand_in(cache.shape, self.dtype))
        if grad_state is not None:
            if self.bidirectional:
                raise ValueError("grad_state is given; a bidirectional layer has no state")
            like = _validate.stand_in((batch, *shape), self.params["C"].dtype)
            grad_state = _validate.cotangent("grad_state", grad_state, like)
        return _passes.backward(self, grad_y, cache, grad_state)

    def step(self, u_t, state=None):
        """One sample: ``state <- A_bar state + B_bar u_t`` and its output [S4D-5].

        The discrete system is kept between calls and formed anew when a parameter has changed.

        Parameters
        ----------
        u_t : array_like
            (batch, H), real, in the layer's precision.
        state : array_like, optional
            (batch, H, N) complex; None is zero. It is not changed.

        Returns
        -------
        y_t : ndarray
            (batch, H).
        state : ndarray
            (batch, H, N).

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, a value is not finite, or the layer is bidirectional.
        """
        return _forms.step(self, u_t, state)

    # ------------------------------------------------------------------------------- other forms

    @classmethod
    def from_arrays(cls, *, log_dt, C, log_A_real, A_imag, D, B=None, **options):
        """A layer with given parameters, such as weights trained elsewhere.

        Names and layouts are those of the minimal S4D of state-spaces/s4: its ``kernel.log_dt``,
        ``kernel.C``, ``kernel.log_A_real``, ``kernel.A_imag`` and ``D``, with B = 1 and ``zoh``.
        What follows there (activation, ``output_linear``) is no part of this layer.

        Parameters
        ----------
        log_dt : array_like
            (H,).
        C : array_like
            (H, N) complex, or (H, N, 2) real: real and imaginary parts.
        log_A_real, A_imag : array_like
            (H, N).
        D : array_like
            (H,).
        B : array_like, optional
            (H, N) complex or (H, N, 2) real; None is one everywhere.
        **options
            ``C_reverse`` (as C), ``train_B``, ``discretisation``, ``view``.

        Returns
        -------
        S4D
            In the arrays' precision.

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit, or a value is not finite.

        Examples
        --------
        >>> weights = {
        ...     "log_dt": np.log([0.1, 0.01]),
        ...     "C": np.ones((2, 3, 2)),
        ...     "log_A_real": np.log(np.full((2, 3), 0.5)),
        ...     "A_imag": np.pi * np.arange(3.0) * np.ones((2, 1)),
        ...     "D": np.zeros(2),
        ... }
        >>> S4D.from_arrays(**weights)
        S4D(2 features, 3 modes, zoh, float64)
        """
        return _forms.from_arrays(cls, log_dt, C, log_A_real, A_imag, D, B, **options)

    def to_arrays(self):
        """Parameters by the names and in the layouts of `from_arrays`, C and B as real pairs.

        Returns
        -------
        dict of ndarray
            Copies. ``B`` only where it is not one everywhere, ``C_reverse`` only if bidirectional.
        """
        return _forms.to_arrays(self)

    def to_statespace(self, channel=None):
        """The layer as a real discrete system in SciPy's timing [S4D-7].

        ``x_{k+1} = A x_k + B u_k``, ``y_k = C x_k + D u_k``: `scipy.signal.dlsim` gives the output
        of `forward`. SciPy's output does not see the newest state, so that C and D hold one step.

        Parameters
        ----------
        channel : int, optional
            One channel alone; None puts all side by side, in a dense matrix of (2 H N)^2 numbers.

        Returns
        -------
        A, B, C, D : ndarray
            float64: (2HN, 2HN) of 2 x 2 rotations, (2HN, H), (H, 2HN) and (H, H) diagonal.
        dt : float
            1: time in samples.

        Raises
        ------
        ValueError
            If the channel does not exist, or the layer is bidirectional.

        Examples
        --------
        >>> from scipy import signal
        >>> rng = np.random.default_rng(0)
        >>> layer = S4D(1, 4, dtype="float64", rng=rng)
        >>> u = rng.standard_normal((1, 1, 50))
        >>> _, y, _ = signal.dlsim(layer.to_statespace(), u[0].T)
        >>> np.allclose(y.T, layer.forward(u)[0][0])
        True
        """
        return _forms.to_statespace(self, channel)

    def to_checkpoint(self):
        """``(hyperparameters, arrays)`` for `ssm_manual.checkpoint.save`."""
        names = {"discretisation": self.discretisation, "view": self.view}
        return names, self.params | {"fixed_B": self._fixed_B}

    @classmethod
    def from_checkpoint(cls, hyperparameters, arrays, *, check=True):
        """The inverse of `to_checkpoint`; see `ssm_manual.checkpoint.load`.

        Parameters
        ----------
        hyperparameters : dict
            From a file.
        arrays : dict of ndarray
            From a file; kept, not copied.
        check : bool
            False: names, shapes and dtypes are looked at, but no value is read.

        Returns
        -------
        S4D

        Raises
        ------
        ValueError
            If something is missing or does not fit.
        """
        return _forms.from_checkpoint(cls, hyperparameters, arrays, check)

    # ---------------------------------------------------------------------------------- internals

    def _system(self):
        return _continuous.discretise(self.params, self.B, self.discretisation)

    def _signal(self, name, u):
        u, _ = _validate.arrays(**{name: u}, D=self.params["D"], real=(name,))
        return _validate.shape(name, u, (-1, self.features, None), meaning="(batch, H, L)")

    def _state(self, state, batch):
        if state is None:
            return None
        if self.bidirectional:
            raise ValueError("state is given; a bidirectional layer has none to go on from")
        state, C = _validate.arrays(state=state, C=self.params["C"])
        _validate.shape("state", state, (batch, *C.shape), meaning="(batch, H, N)")
        return state.astype(C.dtype, copy=False)
