"""Hazards of arrays: how they lie in memory, what they are made of, their values and shapes."""

import mmap
import warnings

import numpy as np
from conftest import LAYOUTS

from fuzz.hazard import ARRAYS, EITHER, FLOATS, REFUSED, SAME, NotApplicable, enter, skip

# ----------------------------------------------------------------------------------------- layouts


class Subclass(np.ndarray):
    """An array of another class whose arithmetic would show."""

    def __array_finalize__(self, obj):
        self.unit = "V"

    def __array_ufunc__(self, *args, **options):
        raise AssertionError("arithmetic on a subclass: take np.asarray first")


def _mapped(a, rng):
    if not a.size:
        raise NotApplicable
    file = mmap.mmap(-1, a.nbytes)
    file.write(a.tobytes())
    return np.frombuffer(file, a.dtype).reshape(a.shape)


def _matrix(a, rng):
    if a.ndim != 2:
        raise NotApplicable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.matrix(a)


def _nested(a, rng):
    if a.dtype not in (np.float64, np.complex128) or not a.size:
        raise NotApplicable  # a list alone is in double precision; an empty one has no shape
    return a.tolist()


def _scalar(a, rng):
    if a.ndim:
        raise NotApplicable
    return a[()]


def _strided(a, rng):
    """A window into a larger array that is full of NaN."""
    room = np.full([n + 2 for n in a.shape], np.nan, a.dtype)
    window = room[(slice(1, -1),) * a.ndim] if a.ndim else room[...]
    window[...] = a
    return window


def _swapped(a, rng):
    """The first and the last axis exchanged in memory."""
    return np.ascontiguousarray(np.swapaxes(a, 0, -1)).swapaxes(0, -1) if a.ndim else a.copy()


enter("layout", ARRAYS, SAME, {name: lambda a, rng, f=f: f(a) for name, f in LAYOUTS.items()})
enter(
    "layout",
    ARRAYS,
    SAME,
    {
        "mapped into memory": _mapped,
        "exchanged axes": _swapped,
        "subclass": lambda a, rng: a.copy().view(Subclass),
        "matrix": _matrix,
        "number of NumPy": _scalar,
    },
)
enter("layout", FLOATS, SAME, {"window": _strided, "nested lists": _nested})

# ------------------------------------------------------------------------------------------ dtypes


def _of(dtype):
    def change(a, rng):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.ones(a.shape, dtype)

    return change


def _cast(dtype):
    def change(a, rng):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return a.astype(dtype)

    return change


def _other_precision(a, rng):
    real = np.float64 if a.dtype in (np.float32, np.complex64) else np.float32
    return a.astype(np.result_type(real, np.complex64) if a.dtype.kind == "c" else real)


enter(
    "dtype",
    FLOATS,
    REFUSED,
    {
        "float16": _cast(np.float16),
        "longdouble": _of(np.longdouble),
        "clongdouble": _of(np.clongdouble),
        "int64": _of(np.int64),
        "uint8": _of(np.uint8),
        "bool": _of(bool),
        "object": _cast(object),
        "text": _of("U3"),
        "bytes": _of("S3"),
        "dates": lambda a, rng: np.zeros(a.shape, "datetime64[s]"),
        "structured": lambda a, rng: np.zeros(a.shape, [("x", float), ("y", int)]),
        "void": lambda a, rng: np.zeros(a.shape, "V8"),
        "list of bool": lambda a, rng: np.ones(a.shape, bool).tolist() if a.size else True,
    },
)
enter("dtype", ("real",), REFUSED, {"complex": lambda a, rng: a + 1j * np.ones_like(a)})
enter("dtype", (*FLOATS,), EITHER, {"other precision": _other_precision})
enter(
    "number type",
    ("ids",),
    SAME,
    {
        "int32": _cast(np.int32),
        "int16": _cast(np.int16),
        "uint64": _cast(np.uint64),
        "big int32": _cast(">i4"),
        "list": lambda a, rng: a.tolist() if a.size else skip(),
    },
)
enter(
    "number type",
    ("ids",),
    REFUSED,
    {
        "float64": _cast(np.float64),
        "bool": _of(bool),
        "object": _cast(object),
        "text": _of("U3"),
        "dates": lambda a, rng: np.zeros(a.shape, "datetime64[s]"),
        "NaN": lambda a, rng: np.full(a.shape, np.nan),
        "complex": _cast(complex),
    },
)


# ------------------------------------------------------------------------------------------ values


def _put(*values, imaginary=False):
    """Some of the elements, at least one, become one of ``values``."""

    def change(a, rng):
        if not a.size:
            raise NotApplicable
        if imaginary and a.dtype.kind != "c":
            raise NotApplicable
        a = np.array(a, order="C")
        flat = a.reshape(-1)
        where = rng.random(flat.size) < 0.3
        where[rng.integers(flat.size)] = True
        with np.errstate(all="ignore"):
            put = np.asarray(values, np.float64)[rng.integers(len(values), size=flat.size)]
            if a.dtype.kind in "iu":
                flat[where] = put[where].astype(np.int64)
            elif imaginary:
                flat.imag[where] = put[where]
            else:
                flat.real[where] = put[where]
        return a

    return change


def _scaled(single, double):
    def change(a, rng):
        factor = single if a.dtype in (np.float32, np.complex64) else double
        with np.errstate(all="ignore"):
            return (a * a.real.dtype.type(factor)).astype(a.dtype)

    return change


enter(
    "value",
    FLOATS,
    REFUSED,
    {
        "NaN": _put(np.nan),
        "infinity": _put(np.inf),
        "-infinity": _put(-np.inf),
        "imaginary NaN": _put(np.nan, imaginary=True),
        "imaginary infinity": _put(np.inf, imaginary=True),
    },
)
enter(
    "value",
    FLOATS,
    EITHER,
    {
        "zeros": lambda a, rng: np.zeros_like(a),
        "some zeros": _put(0.0, -0.0),
        "subnormal": _put(1e-310, -5e-324, 1e-40, -1e-45),
        "negative": lambda a, rng: -a,
        "all alike": lambda a, rng: np.full_like(a, a.flat[0]) if a.size else a.copy(),
        "ones": lambda a, rng: np.ones_like(a),
        "small": _scaled(1e-20, 1e-150),
    },
)
enter(
    "value",
    FLOATS,
    EITHER,
    {
        "tiny": _scaled(1e-38, 1e-300),
        "large": _scaled(1e15, 1e130),
        "huge": _scaled(1e38, 1e300),
        "one huge": lambda a, rng: _put(3e38 if a.dtype in (np.float32, np.complex64) else 1.7e308)(
            a, rng
        ),
        "huge and tiny": lambda a, rng: _put(
            *((3e38, -3e38, 1e-38) if a.itemsize // (1 + (a.dtype.kind == "c")) == 4 else ()),
            *((1.7e308, -1.7e308, 1e-300) if a.dtype in (np.float64, np.complex128) else ()),
        )(a, rng),
    },
    extreme=True,
)
enter(
    "id",
    ("ids",),
    EITHER,
    {
        "negative": _put(-1),
        "too large": _put(1000),
        "largest": lambda a, rng: np.full(a.shape, 2**63 - 1),
        "most negative": lambda a, rng: np.full(a.shape, -(2**63)),
        "beyond int64": lambda a, rng: np.full(a.shape, 2**64 - 1, np.uint64),
    },
)


def _poles(*values):
    def change(a, rng):
        if not a.size:
            raise NotApplicable
        a = np.array(a, np.result_type(a, np.complex64), order="C")
        flat = a.reshape(-1)
        angles = rng.choice([0, 0.5 * np.pi, np.pi, 2 * np.pi * rng.random()], flat.size)
        where = rng.random(flat.size) < 0.5
        where[0] = True
        modulus = np.asarray(values)[rng.integers(len(values), size=flat.size)]
        flat[where] = (modulus * np.exp(1j * angles))[where]
        return a

    return change


enter(
    "poles",
    ("pole",),
    EITHER,
    {
        "on the unit circle": _poles(1.0),
        "just inside": _poles(1 - 2**-53, 1 - 2**-24, 1 - 1e-9),
        "just outside": _poles(1 + 2**-52, 1 + 2**-20),
        "at zero": _poles(0.0, 1e-300),
    },
)
enter("poles", ("pole",), EITHER, {"far outside": _poles(2.0, 1e3, 1e30)}, extreme=True)
enter(
    "poles",
    ("cpole",),
    EITHER,
    {
        "on the imaginary axis": lambda a, rng: (
            1j * a.imag if a.dtype.kind == "c" else 0 * a
        ).astype(a.dtype),
        "to the right": lambda a, rng: -a,
        "zero": _put(0.0),
        "nearly at zero": _put(-1e-300, -1e-30),
    },
)
enter("poles", ("cpole",), EITHER, {"far left": _put(-1e10, -1e30)}, extreme=True)

# ------------------------------------------------------------------------------------------ shapes


def _fewer(a, rng):
    if not a.ndim or not a.shape[0]:
        raise NotApplicable
    return a[0].copy()


def _last(take):
    def change(a, rng):
        if not a.ndim:
            raise NotApplicable
        return take(a)

    return change


enter(
    "shape",
    ARRAYS,
    EITHER,
    {
        "one axis more": lambda a, rng: a[np.newaxis].copy(),
        "one axis more at the end": lambda a, rng: a[..., np.newaxis].copy(),
        "forty axes": lambda a, rng: a.reshape((1,) * (40 - a.ndim) + a.shape),
        "one axis fewer": _fewer,
        "a number": lambda a, rng: a.reshape(-1)[0] if a.size else skip(),
        "flat": lambda a, rng: a.reshape(-1).copy(),
        "one element": lambda a, rng: a.reshape(-1)[:1].copy(),
        "last axis longer": _last(lambda a: np.concatenate([a, a[..., :1]], axis=-1)),
        "last axis shorter": _last(lambda a: a[..., :-1].copy()),
        "first axis longer": _last(lambda a: np.concatenate([a, a[:1]], axis=0)),
        "first axis shorter": _last(lambda a: a[:-1].copy()),
        "last axis of one": _last(lambda a: a[..., :1].copy()),
        "first axis of one": _last(lambda a: a[:1].copy()),
        "last axis empty": _last(lambda a: a[..., :0].copy()),
        "first axis empty": _last(lambda a: a[:0].copy()),
        "no axis longer than zero": lambda a, rng: np.empty((0,) * max(a.ndim, 1), a.dtype),
        "transposed": _last(lambda a: a.T),
    },
)


def _claimed(a, rng):
    """A first axis of 2^40 that owns no memory: a read of it all would take an hour."""
    if a.ndim < 2 or 0 in a.shape:
        raise NotApplicable
    return np.broadcast_to(a[:1], (2**40, *a.shape[1:]))


enter("shape", FLOATS, EITHER, {"huge without memory": _claimed}, extreme=True)
