"""The parameters of a diagonal model: their checks, their discretisation, and how they are kept."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.ops import discretize

PARAMETERS = ("discrete", "continuous")

_REQUIRED, _OPTIONAL = {"A", "B", "C"}, {"D", "log_dt"}


class DiagonalParameters:
    """What `DiagonalSSM` is made of; see there for arguments, attributes and errors."""

    def __init__(
        self, A, B, C, D=None, *, dt=None, parameters="discrete", real=True, input_scale="dt"
    ):
        self.parameters = _validate.one_of("parameters", parameters, PARAMETERS)
        self.real = _validate.flag("real", real)
        self.input_scale = _validate.one_of("input_scale", input_scale, discretize.INPUT_SCALES)
        if (dt is None) != (parameters == "discrete"):
            wanted = "left out" if parameters == "discrete" else "given"
            raise ValueError(f"dt is {dt!r}; with parameters={parameters!r} it must be {wanted}")
        if parameters == "discrete" and input_scale != "dt":
            raise ValueError(f"input_scale is {input_scale!r}; it goes with continuous parameters")
        must_be_real = ("D", "dt") if real else ("dt",)
        A, B, C, D, dt = _validate.arrays(
            A=A, B=B, C=C, D=D, dt=dt, real=must_be_real, optional=("D", "dt")
        )
        _validate.shape("A", A, (-1,), meaning="(N,)")
        for name, a in (("B", B), ("C", C)):
            if a.shape not in ((), A.shape):
                raise ValueError(
                    f"{name} has shape {a.shape}; it must be {A.shape} = (N,), or a scalar"
                )
        single = A.dtype in _validate.SINGLE
        dtype = np.complex64 if single else np.complex128
        self.params = {
            name: np.broadcast_to(a, A.shape).astype(dtype) for name, a in zip("ABC", (A, B, C))
        }
        if D is not None:
            _validate.shape("D", D, (), meaning="a scalar")
            self.params["D"] = D.astype(dtype(0).real.dtype if self.real else dtype)
        if dt is not None:
            _validate.shape("dt", dt, (), meaning="a scalar")
            if dt <= 0:
                raise ValueError(f"dt is {dt}; it must be positive (seconds per sample)")
            self.params["log_dt"] = np.asarray(np.log(dt.astype(np.float64)), dtype(0).real.dtype)
        self._check_stable()

    @classmethod
    def initial(
        cls, poles, *, rng, real=True, parameters="discrete", dt=None, skip=True, dtype="float32"
    ):
        """A model to start training from: resonances that cover the band, just overlapping.

        Pole n of N lies at ``omega = pi q^2``, ``q = (n + 1/2) / N``, denser at low frequencies,
        with a damping of half the distance to its neighbour. B gives each state the power 1/N under
        white input of power 1. C is random and small: were it zero, the first step would move
        neither A nor B.

        Parameters
        ----------
        poles : int
            Stored poles N, at least 1.
        rng : numpy.random.Generator
            Draws C.
        real : bool
            As for the class. For complex output the poles cover negative frequencies too.
        parameters : {"discrete", "continuous"}
            As for the class; continuous ones are the bilinear pre-images of the same poles.
        dt : float, optional
            Seconds per sample, for continuous parameters.
        skip : bool
            Whether to have a feed-through D, starting at 0.
        dtype : {"float32", "float64"}
            Precision.

        Returns
        -------
        DiagonalSSM

        Raises
        ------
        ValueError
            If an argument does not fit.
        """
        N = _validate.size("poles", poles)
        _, precision = _validate.precision(dtype)
        _validate.one_of("parameters", parameters, PARAMETERS)
        _validate.flag("skip", skip)
        _validate.generator("rng", rng)
        q = (np.arange(N) + 0.5) / N
        omega, damping = np.pi * q**2, np.pi * q / N
        if not _validate.flag("real", real):
            omega = omega * np.where(np.arange(N) % 2, -1, 1)
        A = np.exp(-damping + 1j * omega)
        B = np.sqrt((1 - np.abs(A) ** 2) / N).astype(complex)
        C = 0.1 / np.sqrt(N) * (rng.standard_normal(N) + 1j * rng.standard_normal(N))
        if parameters == "continuous":
            dt = _validate.real_number("dt", dt if dt is not None else np.nan, above=0)
            A = 2 / dt * (A - 1) / (A + 1)
            B = B * (1 - dt * A / 2) / dt
        A, B, C = (a.astype(precision) for a in (A, B, C))
        return cls(A, B, C, 0.0 if skip else None, dt=dt, parameters=parameters, real=real)

    # -------------------------------------------------------------------------------- what it is

    def __repr__(self):
        output = "real" if self.real else "complex"
        return (
            f"DiagonalSSM({self.params['A'].size} {self.parameters} poles, {output} output, "
            f"{'with' if 'D' in self.params else 'without'} D, {self.dtype})"
        )

    @property
    def dtype(self):
        """The precision as a real dtype."""
        return self.params["A"].real.dtype

    @property
    def dt(self):
        """Seconds per sample; None for discrete parameters."""
        return np.exp(self.params["log_dt"]) if "log_dt" in self.params else None

    @property
    def A_bar(self):
        """Discrete poles, (N,)."""
        return self.discretise()[0][0]

    @property
    def B_bar(self):
        """Discrete input weights, (N,)."""
        return self.discretise()[0][1]

    def discretise(self):
        """``(A_bar, B_bar)``, and the residuals of the bilinear map where there is one."""
        if self.parameters == "discrete":
            return (self.params["A"], self.params["B"]), None
        return discretize.tustin_fwd(
            self.params["A"], self.params["B"], self.dt, input_scale=self.input_scale
        )

    def to_parameters(self, discretisation, grad_A_bar, grad_B_bar, grad_C, grad_D):
        """Gradients by parameter name: through the bilinear map, and from dt to its logarithm.

        Parameters
        ----------
        discretisation : NamedTuple or None
            From `discretise`.
        grad_A_bar, grad_B_bar, grad_C : ndarray
            (N,), to what the operator was applied with.
        grad_D : ndarray or None
            ().

        Returns
        -------
        dict of ndarray
        """
        grads = {"A": grad_A_bar, "B": grad_B_bar, "C": grad_C}
        if discretisation is not None:
            pulled = discretize.tustin_vjp(discretisation, (grad_A_bar, grad_B_bar))
            grads["A"], grads["B"], grad_dt = pulled
            grads["log_dt"] = self.dt * grad_dt
        if "D" in self.params:
            grads["D"] = grad_D
        return grads

    def _check_stable(self):
        A = self.params["A"]
        if self.parameters == "continuous" and np.any(A.real >= 0):
            raise ValueError(f"A holds {A[A.real >= 0][0]}; every pole must have Re A < 0")
        if self.parameters == "continuous":
            self.discretise()  # refuses what overflows; a rounded A_bar decides nothing
            return
        # In double precision: NumPy's modulus of a complex64 may be a unit too small.
        moduli = np.abs(A.astype(complex))
        worst = A[np.argmax(moduli)]
        if np.max(moduli) >= 1 - np.finfo(complex).eps:
            raise ValueError(
                f"A holds {worst}, of modulus {abs(worst)}; every pole must lie inside the unit "
                "circle"
            )

    # ---------------------------------------------------------------------------------- checkpoints

    def to_checkpoint(self):
        """``(hyperparameters, arrays)`` for `ssm_manual.checkpoint.save`."""
        names = ("parameters", "real", "input_scale")
        return {name: getattr(self, name) for name in names}, dict(self.params)

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
        DiagonalSSM

        Raises
        ------
        ValueError
            If something is missing or does not fit, or (with ``check``) a value is not finite or a
            pole is unstable.
        """
        model = cls.__new__(cls)
        model.parameters = _validate.one_of("parameters", hyperparameters["parameters"], PARAMETERS)
        model.real = _validate.flag("real", hyperparameters["real"])
        model.input_scale = _validate.one_of(
            "input_scale", hyperparameters["input_scale"], discretize.INPUT_SCALES
        )
        required = _REQUIRED | ({"log_dt"} if model.parameters == "continuous" else set())
        if not required <= set(arrays) <= required | {"D"}:
            raise ValueError(f"it has the arrays {sorted(arrays)}; it must have {sorted(required)}")
        A = arrays["A"]
        if A.dtype not in (np.complex64, np.complex128) or A.ndim != 1 or A.size == 0:
            raise ValueError(f"A has shape {A.shape} and dtype {A.dtype}; it must be complex (N,)")
        real = A.real.dtype
        for name, a in arrays.items():
            shape = () if name in _OPTIONAL else A.shape
            dtype = real if name == "log_dt" or (name == "D" and model.real) else A.dtype
            if a.shape != shape or a.dtype != dtype:
                raise ValueError(
                    f"{name} has shape {a.shape} and dtype {a.dtype}; it must have {shape}, {dtype}"
                )
        model.params = {
            name: arrays[name] for name in ("A", "B", "C", "D", "log_dt") if name in arrays
        }
        if check:
            _validate.arrays(**model.params)
            model._check_stable()
        return model
