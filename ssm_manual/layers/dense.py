"""``DenseSSM``: one state-space model with a dense A, several inputs and several outputs."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _dense_forms, _dense_system
from ssm_manual.ops import dense_ssm

__all__ = ["DenseSSM"]


class DenseSSM:
    """One system of N states, p inputs and m outputs, A a full matrix of parameters [MIMO-1].

        x_t = A_bar x_{t-1} + B_bar u_t,    y_t = C x_t + D u_t + bias

    Nothing keeps A stable while it is trained: `spectral_radius` says where it stands, `clamp`
    brings it back.

    Parameters
    ----------
    states, inputs, outputs : int
        N, p and m, each at least 1.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs. A_bar and B_bar are always formed in double
        precision.
    rng : numpy.random.Generator
        Draws C and D, and B where it does not come from HiPPO as it is.
    initial : {"legs", "legt", "fout"} or array_like
        A matrix of `ssm_manual.hippo`, or A itself, (N, N) real: what the equation above is given,
        so A_bar where nothing is discretised.
    discretisation : {"tustin", "zoh", "none"}
        How A_bar and B_bar come from A and B, see `ssm_manual.ops.dense_discretize`. ``none``: A
        and B are A_bar and B_bar themselves; a named matrix is taken there once by Tustin's map.
    dt : float
        Seconds per sample, greater than 0; not trained, since A and B have scales of their own.
    bias, feedthrough : bool
        Whether there is a bias, and whether there is a D.
    train_A : bool
        Whether A is a parameter; otherwise it stays as it begins.
    train_state : bool
        Whether the state before the first sample is a parameter, ``x0``; otherwise it is zero.
    view : {"auto", "scan", "convolution", "chunked"}
        How the operator is applied, see `ssm_manual.ops.dense_ssm`; all agree to rounding.

    Attributes
    ----------
    params : dict of ndarray
        ``B`` (N, p), ``C`` (m, N); ``A`` (N, N), ``D`` (m, p), ``bias`` (m,) and ``x0`` (N,) where
        they are trained. Trained in place.
    A : ndarray
        (N, N), trained or not: in 1/s, without unit where nothing is discretised.
    dt : float
        Seconds per sample.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    B begins as HiPPO's for one input; for several each has HiPPO's times normal numbers of variance
    1/p, so that they differ. With a given A it is normal of variance 1/p, C of 1/N and D of 1/p;
    bias and x0 are zero.

    References
    ----------
    A. Gu, T. Dao, S. Ermon, A. Rudra, C. Ré (2020), "HiPPO: Recurrent memory with optimal
    polynomial projections", for the matrices. There they are not trained.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> layer = DenseSSM(16, 2, 3, rng=rng)
    >>> layer
    DenseSSM(16 states, 2 inputs, 3 outputs, tustin, A trained, float32)
    >>> u = rng.standard_normal((5, 2, 100), dtype=np.float32)
    >>> y, state, cache = layer.forward(u)
    >>> y.shape, state.shape
    ((5, 3, 100), (5, 16))
    >>> grad_u, _, grads = layer.backward(np.ones_like(y), cache)
    >>> sorted(grads)
    ['A', 'B', 'C', 'D', 'bias']
    """

    def __init__(
        self,
        states,
        inputs,
        outputs,
        *,
        dtype="float32",
        rng,
        initial="legs",
        discretisation="tustin",
        dt=0.01,
        bias=True,
        feedthrough=True,
        train_A=True,
        train_state=False,
        view="auto",
    ):
        N = _validate.size("states", states)
        p = _validate.size("inputs", inputs)
        m = _validate.size("outputs", outputs)
        dtype, _ = _validate.precision(dtype)
        _validate.generator("rng", rng)
        dt = _validate.real_number("dt", dt, above=0)
        _validate.one_of("discretisation", discretisation, _dense_system.DISCRETISATIONS)
        A, B = _dense_system.initial(initial, N, p, discretisation, dt, rng)
        arrays = {"A": A, "B": B, "C": rng.standard_normal((m, N)) / np.sqrt(N)}
        if _validate.flag("feedthrough", feedthrough):
            arrays["D"] = rng.standard_normal((m, p)) / np.sqrt(p)
        if _validate.flag("bias", bias):
            arrays["bias"] = np.zeros(m)
        if _validate.flag("train_state", train_state):
            arrays["x0"] = np.zeros(N)
        options = {"discretisation": discretisation, "dt": dt, "view": view}
        self._set(arrays, dtype, train_A=train_A, **options)

    def _set(self, arrays, dtype, *, train_A, discretisation, dt, view):
        self.params = {name: np.array(a, dtype) for name, a in arrays.items()}
        self._fixed_A = None
        if not _validate.flag("train_A", train_A):
            self._fixed_A = self.params.pop("A")
        self.discretisation = _validate.one_of(
            "discretisation", discretisation, _dense_system.DISCRETISATIONS
        )
        self.dt = _validate.real_number("dt", dt, above=0)
        self.view = _validate.one_of("view", view, dense_ssm.VIEWS)
        self._tables = None  # of `step`

    # -------------------------------------------------------------------------------- what it is

    def __repr__(self):
        return _dense_forms.text(self)

    @property
    def states(self):
        """States N."""
        return self.params["C"].shape[1]

    @property
    def inputs(self):
        """Inputs p."""
        return self.params["B"].shape[1]

    @property
    def outputs(self):
        """Outputs m."""
        return self.params["C"].shape[0]

    @property
    def dtype(self):
        """The precision as a real dtype."""
        return self.params["C"].dtype

    @property
    def A(self):
        """The matrix, (N, N), trained or not."""
        return self.params.get("A", self._fixed_A)

    @property
    def A_bar(self):
        """The discrete matrix, (N, N) float64, without unit."""
        return _dense_system.discretise(self).A_bar[0]

    @property
    def spectral_radius(self):
        """Largest modulus of an eigenvalue of A_bar; below 1 a state fades in the end.

        How far it grows before is another matter: A_bar is not normal (for LegS far from it), and
        its norm may be large while all its eigenvalues are small.
        """
        return float(np.abs(np.linalg.eigvals(self.A_bar)).max())

    def clamp(self, radius=0.999):
        """``A_bar <- A_bar min(1, radius / spectral_radius)``, by changing A in place [MIMO-4].

        Parameters
        ----------
        radius : float
            The largest spectral radius allowed, above 0 and at most 1.

        Returns
        -------
        bool
            Whether anything had to be changed.

        Raises
        ------
        ValueError
            If the radius does not fit, or A is fixed or not finite.

        Notes
        -----
        All eigenvalues shrink by one factor, those within the circle too: the matrix keeps its
        eigenvectors. It is not the nearest stable matrix, and no bound on the norm of its powers.
        Cost: the eigenvalues, O(N^3).

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> layer = DenseSSM(3, 1, 1, rng=rng, initial=2 * np.eye(3), discretisation="none")
        >>> layer.spectral_radius, layer.clamp(0.5), layer.spectral_radius, layer.clamp(0.5)
        (2.0, True, 0.5, False)
        """
        return _dense_system.clamp(self, radius)

    # ------------------------------------------------------------------------ forward, backward

    def forward(self, u, state=None, *, lengths=None):
        """Apply the layer to sequences.

        Parameters
        ----------
        u : array_like
            (batch, p, L), real, in the layer's precision; L may be 0.
        state : array_like, optional
            State before the first sample, (batch, N) real; None is ``x0`` where that is trained,
            and zero otherwise.
        lengths : array_like of int, optional
            Samples of each item, (batch,), from 0 to L: what lies beyond is padding, finite but
            otherwise without effect. Its output is zero, and so are its gradients. None: all have
            L.

        Returns
        -------
        y : ndarray
            (batch, m, L).
        state : ndarray
            State after each item's last sample, (batch, N).
        cache : NamedTuple
            For `backward`.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, or a value is not finite.
        """
        u, _ = _validate.arrays(u=u, C=self.params["C"], real=("u",))
        _validate.shape("u", u, (-1, self.inputs, None), meaning="(batch, inputs, L)")
        return _dense_system.forward(self, u, self._state(state, len(u)), lengths)

    def backward(self, grad_y, cache, grad_state=None):
        """Gradients of everything `forward` depended on, by hand [MIMO-2, 3].

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
        batch, _, L = cache.shape
        like = _validate.stand_in((batch, self.outputs, L), self.dtype)
        grad_y = _validate.cotangent("grad_y", grad_y, like)
        like = _validate.stand_in((batch, self.states), self.dtype)
        grad_state = _validate.cotangent("grad_state", grad_state, like)
        return _dense_system.backward(self, grad_y, cache, grad_state)

    def step(self, u_t, state=None):
        """One sample: ``state <- A_bar state + B_bar u_t`` and its output, O(N (N + p + m)).

        The discrete system is kept between calls and formed anew when A, B or dt has changed.

        Parameters
        ----------
        u_t : array_like
            (batch, p), real, in the layer's precision.
        state : array_like, optional
            (batch, N) real; None as in `forward`. It is not changed.

        Returns
        -------
        y_t : ndarray
            (batch, m).
        state : ndarray
            (batch, N).

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, or a value is not finite.
        """
        u_t, _ = _validate.arrays(u_t=u_t, C=self.params["C"], real=("u_t",))
        _validate.shape("u_t", u_t, (-1, self.inputs), meaning="(batch, inputs)")
        return _dense_forms.step(self, u_t, self._state(state, len(u_t)))

    # ------------------------------------------------------------------------------- other forms

    @classmethod
    def from_arrays(cls, *, A, B, C, D=None, bias=None, x0=None, **options):
        """A layer with given parameters.

        Parameters
        ----------
        A : array_like
            (N, N), real.
        B : array_like
            (N, p).
        C : array_like
            (m, N).
        D : array_like, optional
            (m, p); None leaves it out.
        bias : array_like, optional
            (m,); None leaves it out.
        x0 : array_like, optional
            (N,), trained; None is a state of zero.
        **options
            ``discretisation`` (by default ``"none"``: A and B are A_bar and B_bar), ``dt`` (by
            default 1), ``train_A``, ``view``.

        Returns
        -------
        DenseSSM
            In the arrays' precision.

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit, or a value is not finite.

        Examples
        --------
        >>> DenseSSM.from_arrays(A=[[0.5]], B=[[1.0]], C=[[2.0]]).forward(np.ones((1, 1, 3)))[0]
        array([[[2. , 3. , 3.5]]])
        """
        return _dense_forms.from_arrays(cls, A, B, C, D, bias, x0, **options)

    def to_arrays(self):
        """Copies of the parameters by the names of `from_arrays`, A among them if it is fixed.

        Returns
        -------
        dict of ndarray
        """
        return {name: a.copy() for name, a in ({"A": self.A} | self.params).items()}

    def to_checkpoint(self):
        """``(hyperparameters, arrays)`` for `ssm_manual.checkpoint.save`."""
        names = {
            "discretisation": self.discretisation,
            "dt": self.dt,
            "train_A": "A" in self.params,
            "view": self.view,
        }
        return names, {"A": self.A} | self.params

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
        DenseSSM

        Raises
        ------
        ValueError
            If something is missing or does not fit.
        """
        return _dense_forms.from_checkpoint(cls, hyperparameters, arrays, check)

    # ---------------------------------------------------------------------------------- internals

    def _state(self, state, batch):
        if state is None:
            return None
        state, _ = _validate.arrays(state=state, C=self.params["C"], real=("state",))
        return _validate.shape("state", state, (batch, self.states), meaning="(batch, N)")
