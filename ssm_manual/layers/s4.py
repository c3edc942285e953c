"""``S4``: H independent channels, each diagonal plus low rank, with all of HiPPO's matrix."""

import numpy as np

from ssm_manual import _validate, hippo
from ssm_manual.layers import _continuous, _forms, _low_rank
from ssm_manual.layers._layer import Layer
from ssm_manual.ops import cauchy, dplr, dplr_dense

__all__ = ["S4"]

#: Names of the initial matrices.
INITIAL = ("legs", "legt", "fout")

#: Re Lambda to start from where that of the matrix is zero, in 1/s: see `S4`.
SMALLEST_DECAY = 1e-4


class S4(Layer):
    """H channels side by side, each diagonal plus low rank with one output [DPLR-1, 2, 3].

        x' = (diag(Lambda) - P P^*) x + B u,    y = 2 Re(C x) + D u

    sampled by Tustin's map. `S4D` drops P; with it, the layer starts from all of HiPPO's matrix.

    Parameters
    ----------
    features : int
        Channels H, at least 1.
    modes : int
        Stored modes a channel N, at least 1; each stands for a conjugate pair.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs. What depends on parameters alone is always
        formed in double precision.
    rng : numpy.random.Generator
        Draws dt, C and D.
    initial : {"legs", "legt", "fout"}
        Matrices to start from, see `ssm_manual.hippo.dplr`; the rank is 2 for ``legt``, else 1.
    dt_min, dt_max : float
        Range of the sampling intervals, see `ssm_manual.hippo.log_dt`.
    train_B : bool
        Whether B is a parameter, as in S4; otherwise it stays as it begins.
    bidirectional : bool
        True: ``y = f(u) + reverse(g(reverse(u)))``, where g has the matrix and input weights of f,
        a C of its own (``C_reverse``) and no D. Such a layer sees the whole sequence and has no
        state to pass on.
    view : {"auto", "chunked", "scan", "convolution"}
        How the operator is applied, see `ssm_manual.ops.dplr`; all agree to rounding.

    Attributes
    ----------
    params : dict of ndarray
        ``log_dt`` (H,), ``log_A_real`` (H, N), ``A_imag`` (H, N), ``P`` (H, r, N) complex, ``C``
        (H, N) complex, ``D`` (H,); ``B`` (H, N) complex if it is trained, ``C_reverse`` (H, N) if
        bidirectional. Trained in place.
    B : ndarray
        (H, N): the input weights, trained or not.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Stable for every value of the parameters: with Q = P the Hermitian part of A is
    Re Lambda - P P^* < 0, and ||A_bar|| < 1 in the Euclidean norm [DPLR-10]. Re Lambda =
    -exp(log_A_real) cannot be zero, as it is for ``legt`` and ``fout``; they start from -1e-4 / s,
    which multiplies a kernel by exp(-1e-4 t): less than 2e-4 within their window of two seconds.

    Parameters: H (2 + (6 + 2 r) N), 2 H N fewer with a fixed B and 2 H N more for the second
    direction. Cost: of `dplr.apply`. P and Q cannot be trained apart; `dplr.apply` takes both.

    References
    ----------
    A. Gu, K. Goel, C. Ré (2022), "Efficiently modeling long sequences with structured state
    spaces" (S4); the tied low-rank term is from K. Goel, A. Gu, C. Donahue, C. Ré (2022), "It's
    raw! Audio generation with state-space models" (SaShiMi), section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> layer = S4(4, 8, rng=rng)
    >>> u = rng.standard_normal((2, 4, 100), dtype=np.float32)
    >>> y, state, cache = layer.forward(u)
    >>> y.shape, state.shape
    ((2, 4, 100), (2, 4, 8))
    >>> grad_u, _, grads = layer.backward(np.ones_like(y), cache)
    >>> sorted(grads)
    ['A_imag', 'B', 'C', 'D', 'P', 'log_A_real', 'log_dt']
    """

    _operator = _low_rank
    _required = ("log_dt", "log_A_real", "A_imag", "P", "C", "D")
    _hyperparameters = ("view",)

    #: The one map that keeps the form.
    discretisation = "tustin"

    def __init__(
        self,
        features,
        modes,
        *,
        dtype="float32",
        rng,
        initial="legs",
        dt_min=1e-3,
        dt_max=1e-1,
        train_B=True,
        bidirectional=False,
        view="auto",
    ):
        H = _validate.size("features", features)
        N = _validate.size("modes", modes)
        dtype, _ = _validate.precision(dtype)
        _validate.generator("rng", rng)
        _validate.one_of("initial", initial, INITIAL)
        Lambda, P, B, _ = hippo.dplr(initial, 2 * N)
        B = np.broadcast_to(B, (H, N))
        log_dt = hippo.log_dt(H, dt_min=dt_min, dt_max=dt_max, rng=rng)

        def normal():
            return np.sqrt(0.5) * (rng.standard_normal((H, N)) + 1j * rng.standard_normal((H, N)))

        decay = np.maximum(-Lambda.real, SMALLEST_DECAY)
        arrays = {
            "log_dt": log_dt,
            "log_A_real": np.broadcast_to(np.log(decay), (H, N)),
            "A_imag": np.broadcast_to(Lambda.imag, (H, N)),
            "P": np.broadcast_to(P, (H, *P.shape)),
            "C": normal(),
            "D": rng.standard_normal(H),
        }
        if _validate.flag("train_B", train_B):
            arrays["B"] = B
        if _validate.flag("bidirectional", bidirectional):
            arrays["C_reverse"] = normal()
        self._set(arrays, B, dtype, view)

    def _set(self, arrays, B, dtype, view):
        super()._set(arrays, B, dtype, view, dplr.VIEWS)

    # -------------------------------------------------------------------------------- what it is

    def __repr__(self):
        both = ", bidirectional" if self.bidirectional else ""
        return (
            f"S4({self.features} features, {self.modes} modes, rank {self.rank}{both}, "
            f"{self.dtype})"
        )

    @property
    def rank(self):
        """Rank r of the low-rank term, of a stored half of the modes."""
        return self.params["P"].shape[1]

    @property
    def Lambda(self):
        """Diagonal of A, (H, N) complex128, in 1/s: ``-exp(log_A_real) + i A_imag`` [DPLR-12]."""
        return _continuous.poles(self.params)[0]

    @property
    def dt(self):
        """Sampling intervals, (H,) float64, in seconds per sample."""
        return _continuous.poles(self.params)[1][:, 0]

    def kernel(self, length):
        """``K_l = 2 Re(C A_bar^l B_bar)``, without D, by Cauchy sums [CAUCHY-1].

        Parameters
        ----------
        length : int
            Number of samples.

        Returns
        -------
        ndarray
            (H, length), in the layer's precision.
        """
        Lambda, P, B, dt = _low_rank.system(self)
        C = self.params["C"].astype(complex)
        return cauchy.cauchy(Lambda, P, P, B, C, dt, length).astype(self.dtype)

    # ------------------------------------------------------------------------------- other forms

    @classmethod
    def from_arrays(
        cls,
        *,
        log_dt,
        C,
        log_A_real,
        A_imag,
        P,
        B,
        D,
        C_reverse=None,
        train_B=True,
        view="auto",
    ):
        """A layer with given parameters, such as weights trained elsewhere.

        The names are those of `params`. Weights that keep C~ = C (I - A_bar^L) instead of C must be
        divided by that matrix first.

        Parameters
        ----------
        log_dt : array_like
            (H,).
        C : array_like
            (H, N) complex, or (H, N, 2) real: real and imaginary parts.
        log_A_real, A_imag : array_like
            (H, N).
        P : array_like
            (H, r, N) complex, or (H, r, N, 2) real.
        B : array_like
            As C.
        D : array_like
            (H,).
        C_reverse : array_like, optional
            As C; makes the layer bidirectional.
        train_B : bool
            Whether B is a parameter.
        view : {"auto", "chunked", "scan", "convolution"}
            As of the class.

        Returns
        -------
        S4
            In the arrays' precision.

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit, or a value is not finite.
        """
        given = {"log_dt": log_dt, "log_A_real": log_A_real, "A_imag": A_imag, "D": D, "C": C}
        given |= {"P": P, "B": B, "C_reverse": C_reverse}
        arrays = _forms.checked(given, ("C_reverse",))
        B = arrays["B"] if _validate.flag("train_B", train_B) else arrays.pop("B")
        layer = cls.__new__(cls)
        layer._set(arrays, B, arrays["D"].dtype, view)
        return layer

    def to_arrays(self):
        """Parameters by the names and in the layouts of `from_arrays`, complex ones as real pairs.

        Returns
        -------
        dict of ndarray
            Copies. ``C_reverse`` only if bidirectional.
        """
        return _forms.to_arrays(self, with_B=True)

    def to_statespace(self, channel=None):
        """The layer as a real discrete system in SciPy's timing [S4D-7].

        ``x_{k+1} = A x_k + B u_k``, ``y_k = C x_k + D u_k``: `scipy.signal.dlsim` gives the output
        of `forward`. SciPy's output does not see the newest state, so that C and D hold one step.

        Parameters
        ----------
        channel : int, optional
            One channel alone; None puts all side by side, in a matrix of (2 H N)^2 numbers.

        Returns
        -------
        A, B, C, D : ndarray
            float64: (2HN, 2HN) of dense blocks, (2HN, H), (H, 2HN) and (H, H) diagonal.
        dt : float
            1: time in samples.

        Raises
        ------
        ValueError
            If the channel does not exist, or the layer is bidirectional.
        """
        of = _forms.rows(self, channel)
        C, D = self.params["C"].astype(complex), self.params["D"].astype(float)
        A, B, C, D = dplr_dense.dplr_dense(*_low_rank.system(self).discrete, C, D)
        A, B, C, D = A[of], B[of], C[of] @ A[of], D[of] + C[of] @ B[of]
        return *(_forms.blocks(a) for a in (A, B, C, D)), 1.0
