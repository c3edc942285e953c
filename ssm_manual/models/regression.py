"""``LinearRegression``: a weighted sum of features and a bias, by descent or in one step."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.models import _least_squares
from ssm_manual.models._frame import Scaled, frame_of

__all__ = ["LinearRegression"]


class LinearRegression:
    """``p = sum_k w_k x_k + b`` [REGRESSION-1].

    Parameters
    ----------
    weights : array_like
        (F,), real: units of the target over units of each feature. Its precision is the model's.
    bias : array_like
        A scalar, in units of the target.

    Attributes
    ----------
    params : dict of ndarray
        ``weights`` (F,) and ``bias`` (). Trained in place.
    epochs : int
        Epochs of training so far, over all calls of `fit` and through checkpoints.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit or a value is not finite.

    Examples
    --------
    >>> model = LinearRegression([0.5, 0.2])
    >>> model.predict([[25.0, 7.0]])
    array([13.9])
    >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> LinearRegression.least_squares(X, y).params["weights"].round(12)
    array([2.])
    """

    def __init__(self, weights, bias=0.0):
        weights, bias = _validate.arrays(weights=weights, bias=bias, real=("weights", "bias"))
        _validate.shape("weights", weights, (-1,), meaning="(F,)")
        _validate.shape("bias", bias, (), meaning="a scalar")
        self.params = {"weights": weights.copy(), "bias": bias.copy()}
        self.epochs = 0
        self.scaled = None  # where standardised training stands, see _frame

    @classmethod
    def initial(cls, features, *, rng=None, dtype="float32"):
        """A model to start training from: small random weights and no bias.

        Parameters
        ----------
        features : int
            F, at least 1.
        rng : numpy.random.Generator, optional
            Draws the weights, normal with deviation 0.1; None leaves them zero. The problem is
            convex: no start is better than another, only nearer.
        dtype : {"float32", "float64"}
            Precision.

        Returns
        -------
        LinearRegression

        Raises
        ------
        ValueError
            If an argument does not fit.
        """
        F = _validate.size("features", features)
        dtype, _ = _validate.precision(dtype)
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise ValueError(
                f"rng is {_validate.show(rng)}; it must be a numpy.random.Generator, or None"
            )
        weights = np.zeros(F) if rng is None else 0.1 * rng.standard_normal(F)
        return cls(weights.astype(dtype), np.zeros((), dtype))

    # -------------------------------------------------------------------------------- what it is

    def __repr__(self):
        return f"LinearRegression({self.params['weights'].size} features, {self.dtype})"

    @property
    def dtype(self):
        """The precision."""
        return self.params["weights"].dtype

    def predict(self, X):
        """``X w + b`` [REGRESSION-1].

        Parameters
        ----------
        X : array_like
            Features, (n, F), or (F,) for one row; in the model's precision.

        Returns
        -------
        ndarray
            (n,), or a scalar for one row.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit or a value is not finite, or NaN would come out.
        """
        weights, bias = self.params["weights"], self.params["bias"]
        X, _ = _validate.arrays(X=X, weights=weights, real=("X",))
        F = weights.size
        _validate.shape("X", X, (F,) if X.ndim == 1 else (None, F), meaning="(F,) or (n, F)")
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond the range is infinite
            p = X @ weights + bias
        _validate.sound_values(p=np.asarray(p))
        return p

    # ------------------------------------------------------------------------------------ training

    def loss_and_grads(self, X, y, *, l2=0.0):
        """``(1/2n) sum (p - y)^2 + (l2/2) |w|^2`` and its gradients [REGRESSION-2, 3].

        Parameters
        ----------
        X : array_like
            Features, (n, F).
        y : array_like
            What the predictions should be, (n,).
        l2 : float
            Weight of the penalty, not negative; the bias is free.

        Returns
        -------
        loss : float
        grads : dict of ndarray
            ``weights`` (F,) and ``bias`` ().

        Raises
        ------
        ValueError
            If an argument does not fit.
        """
        from ssm_manual.training import regression

        X, y = self.table(X, y)
        l2 = regression.in_range("l2", l2, self.dtype, minimum=0)
        weights, bias = self.params["weights"], self.params["bias"]
        loss, residuals = regression.objective_fwd(weights, bias, X, y, l2=l2)
        grad_weights, grad_bias, _, _ = regression.objective_vjp(residuals, self.dtype.type(1))
        return float(loss), {"weights": grad_weights, "bias": np.asarray(grad_bias)}

    def fit(self, X, y, **options):
        """Train in place by gradient descent; see `ssm_manual.training.regression.fit`.

        Parameters
        ----------
        X : array_like
            Features, (n, F), in the model's precision.
        y : array_like
            What the predictions should be, (n,).
        **options
            ``epochs`` (required), ``rate``, ``updates``, ``l2``, ``target_loss``, ``standardise``,
            ``path``, ``checkpoint``, ``checkpoint_every``, ``checkpoint_metadata``, ``progress``.

        Returns
        -------
        RegressionHistory
            Losses, why and where the run ended, and the path if asked for.

        Raises
        ------
        ValueError
            If an argument does not fit.
        DivergenceError
            If the loss leaves the finite range; the model is put back to its best epoch.
        """
        from ssm_manual.training.regression import fit

        return fit(self, X, y, **options)

    def table(self, X, y):
        """Features and targets, checked against the model and each other.

        Parameters
        ----------
        X : array_like
            (n, F), n at least 1.
        y : array_like
            (n,).

        Returns
        -------
        X, y : ndarray
        """
        weights = self.params["weights"]
        X, y, _ = _validate.arrays(X=X, y=y, weights=weights, real=("X", "y"))
        return _table(X, y, weights.size)

    # ---------------------------------------------------------------------------------- closed form

    @classmethod
    def least_squares(cls, X, y, l2=0.0, *, standardise=False):
        """The minimiser of the same objective in one step, by a singular value decomposition.

        The features are centred, which takes the bias out of the problem, and brought to deviation
        1, so that their units do not matter; a positive ``l2`` adds one row per weight
        [REGRESSION-11]. The normal equations, which square the condition number, are never formed.
        Where columns depend on each other (a singular value below the rounding of the data) the
        minimiser is not unique: this is the one with the smallest sum of squared weights. A
        constant column gets the weight 0.

        Parameters
        ----------
        X : array_like
            Features, (n, F).
        y : array_like
            (n,), in X's precision.
        l2 : float
            As for `fit`.
        standardise : bool
            Whether the penalty and the smallest sum concern the weights of standardised features,
            as for `fit`; without dependent columns and ``l2`` it makes no difference.

        Returns
        -------
        LinearRegression
            In the data's precision; computed in double precision and rounded once.

        Raises
        ------
        ValueError
            If an argument does not fit, or the minimiser leaves the range of its precision.

        Notes
        -----
        Time O(n F^2), memory O(n F).
        """
        X, y = _validate.arrays(X=X, y=y, real=("X", "y"))
        X, y = _table(X, y, None)
        l2 = _validate.real_number("l2", l2, minimum=0)
        standardise = _validate.flag("standardise", standardise)
        weights, bias = _least_squares.solve(X, y, l2, standardise)
        with np.errstate(over="ignore"):
            weights, bias = weights.astype(X.dtype), np.asarray(bias, X.dtype)
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise ValueError(f"the minimiser leaves the range of {X.dtype}; scale X or y")
        return cls(weights, bias)

    @staticmethod
    def curvatures(X, *, standardise=False):
        """Eigenvalues of the loss's second derivative, ``[X 1]^T [X 1] / n`` [REGRESSION-6].

        The largest limits the rate, the smallest is how fast the slowest direction is learnt, and
        their quotient, the square of the condition number of ``[X 1]``, sets the number of epochs.

        Parameters
        ----------
        X : array_like
            Features, (n, F).
        standardise : bool
            Whether of the standardised features.

        Returns
        -------
        ndarray
            (F + 1,), descending, not negative, float64: squares of singular values.

        Raises
        ------
        ValueError
            If an argument does not fit.
        """
        (X,) = _validate.arrays(X=X, real=("X",))
        _validate.shape("X", X, (-1, -1), meaning="(n, F)")
        n, F = X.shape
        Z = frame_of(X, _validate.flag("standardise", standardise)).features(X)
        singular = np.zeros(F + 1)  # where n < F + 1 some stay zero
        found = np.linalg.svd(np.column_stack([Z.astype(float), np.ones(n)]), compute_uv=False)
        singular[: found.size] = found
        with np.errstate(over="ignore"):
            curvatures = singular**2 / n
        if not np.isfinite(curvatures[0]):
            raise ValueError(
                f"X holds numbers of {np.abs(X).max():g}; its squares must fit into double "
                "precision: standardise, or choose another unit"
            )
        return curvatures

    @classmethod
    def safe_rate(cls, X, *, updates="per_sample", l2=0.0, standardise=False):
        """The default rate of `fit`: no step of it overshoots [REGRESSION-9].

        ``1 / (largest curvature + l2)`` for full batches, and that over n for per-sample updates,
        so that an epoch moves about as far.

        Parameters
        ----------
        X : array_like
            Features, (n, F).
        updates, l2, standardise
            As for `fit`.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If an argument does not fit.
        """
        from ssm_manual.training.regression import UPDATES

        _validate.one_of("updates", updates, UPDATES)
        l2 = _validate.real_number("l2", l2, minimum=0)
        largest = float(cls.curvatures(X, standardise=standardise)[0])
        return 1 / (largest + l2) / (np.shape(X)[0] if updates == "per_sample" else 1)

    # ---------------------------------------------------------------------------------- checkpoints

    def to_checkpoint(self):
        """Hyperparameters and arrays for `ssm_manual.checkpoint.save`.

        Returns
        -------
        hyperparameters : dict
            ``features`` and ``epochs``.
        arrays : dict of ndarray
            The parameters; after standardised training also where it stands in its coordinates.
        """
        arrays = dict(self.params)
        if self.scaled is not None:
            arrays |= {f"scaled.{name}": value for name, value in self.scaled._asdict().items()}
        return {"features": self.params["weights"].size, "epochs": self.epochs}, arrays

    @classmethod
    def from_checkpoint(cls, hyperparameters, arrays, *, check=True):
        """The model that `to_checkpoint` described; the arrays are kept, not copied.

        Parameters
        ----------
        hyperparameters : dict
            As from `to_checkpoint`.
        arrays : dict of ndarray
            As from `to_checkpoint`, writeable.
        check : bool
            Whether to look at values too, and not at names, shapes and dtypes alone.

        Returns
        -------
        LinearRegression

        Raises
        ------
        ValueError
            If something is missing, unknown, or does not fit.
        """
        _validate.one_of(
            "hyperparameters", tuple(sorted(hyperparameters)), (("epochs", "features"),)
        )
        F = _validate.size("features", hyperparameters["features"])
        epochs = _validate.integer("epochs", hyperparameters["epochs"], minimum=0)
        own = {"weights": (F,), "bias": ()}
        extra = {"weights": (F,), "bias": (1,), "mean": (F,), "deviation": (F,)}
        extra = {f"scaled.{name}": shape for name, shape in extra.items()}
        shapes = {**own, **extra} if any(name in extra for name in arrays) else own
        _validate.one_of("arrays", tuple(sorted(arrays)), (tuple(sorted(shapes)),))
        dtype = arrays["weights"].dtype
        _validate.one_of("dtype of weights", dtype.name, ("float32", "float64"))
        for name, shape in shapes.items():
            _validate.shape(name, arrays[name], shape)
            wanted = "float64" if name in ("scaled.mean", "scaled.deviation") else dtype.name
            _validate.one_of(f"dtype of {name}", arrays[name].dtype.name, (wanted,))
            if check:
                _validate.array(name, arrays[name])
        if check and len(shapes) > len(own) and not np.all(arrays["scaled.deviation"] > 0):
            raise ValueError("scaled.deviation holds a value that is not positive")
        model = cls.__new__(cls)
        model.params = {name: arrays[name] for name in own}
        model.epochs = epochs
        model.scaled = None
        if len(shapes) > len(own):
            model.scaled = Scaled(*(arrays[f"scaled.{name}"] for name in Scaled._fields))
        return model


def _table(X, y, F):
    _validate.shape("X", X, (-1, -1 if F is None else F), meaning="(n, F)")
    _validate.shape("y", y, X.shape[:1], meaning="(n,), as many as X has rows")
    return X, y
