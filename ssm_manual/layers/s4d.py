"""``S4D``: H independent channels, each a diagonal state-space model with N stored poles."""

import numpy as np

from ssm_manual import _validate, hippo
from ssm_manual.layers import _continuous, _forms
from ssm_manual.layers._layer import Layer
from ssm_manual.ops import ssm, vandermonde

__all__ = ["S4D"]


class S4D(Layer):
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

    _operator = _continuous
    _required = ("log_dt", "log_A_real", "A_imag", "C", "D")
    _hyperparameters = ("discretisation", "view")

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
        H = _validate.size("features", features)
        N = _validate.size("modes", modes)
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
        super()._set(arrays, B, dtype, view, ssm.VIEWS)
        self.discretisation = _validate.one_of(
            "discretisation", discretisation, _continuous.DISCRETISATIONS
        )

    # -------------------------------------------------------------------------------- what it is

    def __repr__(self):
        both = ", bidirectional" if self.bidirectional else ""
        return (
            f"S4D({self.features} features, {self.modes} modes, {self.discretisation}{both}, "
            f"{self.dtype})"
        )

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
        system = _continuous.system(self)
        C = self.params["C"].astype(complex)
        K = vandermonde.kernel_from_exponent(system.exponent, system.B_bar, C, length)
        return K.astype(self.dtype)

    # ------------------------------------------------------------------------------- other forms

    @classmethod
    def from_arrays(
        cls,
        *,
        log_dt,
        C,
        log_A_real,
        A_imag,
        D,
        B=None,
        C_reverse=None,
        train_B=False,
        discretisation="zoh",
        view="auto",
    ):
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
        C_reverse : array_like, optional
            As C; makes the layer bidirectional.
        train_B, discretisation, view
            As of the class.

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
        given = {"log_dt": log_dt, "log_A_real": log_A_real, "A_imag": A_imag, "D": D, "C": C}
        arrays = _forms.checked(given | {"B": B, "C_reverse": C_reverse}, ("B", "C_reverse"))
        B = arrays.pop("B", None)
        if B is None:
            B = np.ones(arrays["C"].shape, complex)
        if _validate.flag("train_B", train_B):
            arrays["B"] = B
        layer = cls.__new__(cls)
        layer._set(arrays, B, arrays["D"].dtype, discretisation, view)
        return layer

    def to_arrays(self):
        """Parameters by the names and in the layouts of `from_arrays`, C and B as real pairs.

        Returns
        -------
        dict of ndarray
            Copies. ``B`` only where it is not one everywhere, ``C_reverse`` only if bidirectional.
        """
        return _forms.to_arrays(self, with_B="B" in self.params or np.any(self.B != 1))

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
