"""What may be wrong with, or merely unusual about, an argument: the hazards, as data.

A hazard is a change of one argument of a valid call, and what must follow:

* ``SAME``: the call works and gives what it gives for a clean, contiguous copy;
* ``REFUSED``: a ValueError or TypeError whose message names the argument;
* ``EITHER``: one or the other; what works gives no NaN.

Whatever follows, no other exception, no warning, no changed argument, no hang and no memory by the
gigabyte. Kinds of arguments, each of which may be optional (``?``: None is a valid value):

=========== ======================================================================================
``array``   float32, float64, complex64 or complex128
``real``    of these, the real ones
``pole``    an ``array`` of discrete poles; ``cpole``: of continuous ones
``ids``     whole numbers
``int``     one whole number; ``length``: one that sets the size of a result
``number``  one real number
``flag``    True or False
``choice``  one of some words
``rng``     a numpy.random.Generator
``object``  something with methods: a model, an optimiser, a function, a dict of arrays
``fixed``   not a hazard's business
=========== ======================================================================================
"""

import array
import datetime
import decimal
import mmap
import types
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import scipy.sparse
from conftest import LAYOUTS

SAME, REFUSED, EITHER = "same", "refused", "either"


class NotApplicable(Exception):
    """A hazard that has no meaning for this value, such as an axis fewer of a number."""


class Hazard(NamedTuple):
    """One change of an argument.

    Attributes
    ----------
    kinds : tuple of str
        Of the arguments that it can befall.
    change : callable
        ``change(value, rng) -> value``; the value that was is not changed.
    verdict : str
        `SAME`, `REFUSED` or `EITHER`.
    extreme : bool
        Whether the result may leave the range of the format, or not fit into memory.
    """

    kinds: tuple
    change: Callable
    verdict: str
    extreme: bool = False


POLES = ("pole", "cpole")
FLOATS = ("array", "real", *POLES)
ARRAYS = (*FLOATS, "ids")
INTEGERS = ("int", "length")
EVERYTHING = (*ARRAYS, *INTEGERS, "number", "flag", "choice", "rng", "object")

HAZARDS = {}


def _enter(prefix, kinds, verdict, changes, *, extreme=False):
    for name, change in changes.items():
        key = f"{prefix}: {name}"
        assert key not in HAZARDS, key
        HAZARDS[key] = Hazard(kinds, change, verdict, extreme)


def _constant(value):
    return lambda _, rng: value() if isinstance(value, types.FunctionType) else value


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


class Duck:
    """No array, but something that can be made one."""

    def __init__(self, a):
        self._a = a

    def __array__(self, dtype=None, copy=None):
        return np.array(self._a, dtype)


_enter("layout", ARRAYS, SAME, {name: lambda a, rng, f=f: f(a) for name, f in LAYOUTS.items()})
_enter(
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
_enter("layout", FLOATS, SAME, {"window": _strided, "nested lists": _nested})

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


_enter(
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
_enter("dtype", ("real",), REFUSED, {"complex": lambda a, rng: a + 1j * np.ones_like(a)})
_enter("dtype", (*FLOATS,), EITHER, {"other precision": _other_precision})
_enter(
    "number type",
    ("ids",),
    SAME,
    {
        "int32": _cast(np.int32),
        "int16": _cast(np.int16),
        "uint64": _cast(np.uint64),
        "big int32": _cast(">i4"),
        "list": lambda a, rng: a.tolist() if a.size else _skip(),
    },
)
_enter(
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


def _skip():
    raise NotApplicable


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


_enter(
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
_enter(
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
_enter(
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
_enter(
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


_enter(
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
_enter("poles", ("pole",), EITHER, {"far outside": _poles(2.0, 1e3, 1e30)}, extreme=True)
_enter(
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
_enter("poles", ("cpole",), EITHER, {"far left": _put(-1e10, -1e30)}, extreme=True)

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


_enter(
    "shape",
    ARRAYS,
    EITHER,
    {
        "one axis more": lambda a, rng: a[np.newaxis].copy(),
        "one axis more at the end": lambda a, rng: a[..., np.newaxis].copy(),
        "forty axes": lambda a, rng: a.reshape((1,) * (40 - a.ndim) + a.shape),
        "one axis fewer": _fewer,
        "a number": lambda a, rng: a.reshape(-1)[0] if a.size else _skip(),
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


_enter("shape", FLOATS, EITHER, {"huge without memory": _claimed}, extreme=True)

# ------------------------------------------------------------------------------------- wrong types


_WRONG = {
    "a word": "abc",
    "bytes": b"abc",
    "a dict": lambda: {"a": 1},
    "a set": lambda: {1.0, 2.0},
    "a generator": lambda: (x for x in (1.0, 2.0)),
    "an object": lambda: object(),
    "a class": dict,
    "a date": datetime.date(2020, 1, 1),
    "decimal": decimal.Decimal("0.5"),
}
_FUNCTION = {"a function": lambda: len}
_enter("type", EVERYTHING, REFUSED, {k: _constant(v) for k, v in _WRONG.items()})
_enter(
    "type",
    tuple(k for k in EVERYTHING if k != "object"),
    REFUSED,
    {k: _constant(v) for k, v in _FUNCTION.items()},
)
_enter(
    "type",
    ARRAYS,
    REFUSED,
    {
        "sparse": lambda a, rng: scipy.sparse.csr_array(np.eye(3)),
        "masked": lambda a, rng: np.ma.array(a, mask=np.zeros(a.shape, bool)),
        "ragged": lambda a, rng: [[1.0, 2.0], [3.0]],
        "list of words": lambda a, rng: ["1.0"] * 3,
        "list of None": lambda a, rng: [None] * 3,
        "a fraction": lambda a, rng: Fraction(1, 2),
    },
)
_enter(
    "type",
    ARRAYS,
    EITHER,
    {
        "memoryview": lambda a, rng: memoryview(np.ascontiguousarray(a)),
        "array.array": lambda a, rng: array.array("d", np.abs(a).ravel().tolist()),
        "duck": lambda a, rng: Duck(a),
        "an empty list": lambda a, rng: [],
        "a Python number": lambda a, rng: 1,
        "a huge Python number": lambda a, rng: 10**400,
        "a deep list": lambda a, rng: _deep(1.0, 200),
        "a list of itself": lambda a, rng: _endless(),
    },
)


def _deep(value, depth):
    for _ in range(depth):
        value = [value]
    return value


def _endless():
    a = []
    a.append(a)
    return a


_enter("type", EVERYTHING, "none", {"None": _constant(None)})

# ----------------------------------------------------------------------------------------- options

_enter(
    "int",
    INTEGERS,
    REFUSED,
    {
        "a half": _constant(2.5),
        "a float": lambda value, rng: float(value),
        "NaN": _constant(np.nan),
        "infinity": _constant(np.inf),
        "text": lambda value, rng: str(value),
        "True": _constant(True),
        "numpy True": _constant(np.True_),
        "a list": lambda value, rng: [value],
        "an array of one": lambda value, rng: np.array([float(value)]),
        "complex": lambda value, rng: complex(value),
    },
)
_enter(
    "int",
    INTEGERS,
    SAME,
    {
        "int64": lambda value, rng: np.int64(value),
        "uint8": lambda value, rng: np.uint8(value) if 0 <= value < 256 else _skip(),
        "an array without axes": lambda value, rng: np.array(value),
    },
)
_enter("int", INTEGERS, EITHER, {"zero": _constant(0), "one": _constant(1)})
_enter("int", INTEGERS, EITHER, {"-1": _constant(-1), "most negative": _constant(-(2**63))})
_enter(
    "int",
    INTEGERS,
    EITHER,
    {
        "2^62": _constant(2**62),
        "2^63": _constant(2**63),
        "2^64": _constant(2**64),
        "a googol": _constant(10**100),
        "400 digits": _constant(10**400),
        "uint64": _constant(np.uint64(2**64 - 1)),
        "2^40": _constant(2**40),
        "2^36": _constant(2**36),
    },
    extreme=True,
)
_enter(
    "number",
    ("number",),
    REFUSED,
    {
        "NaN": _constant(np.nan),
        "infinity": _constant(np.inf),
        "-infinity": _constant(-np.inf),
        "text": _constant("0.1"),
        "complex": _constant(0.1j),
        "a list": lambda value, rng: [value],
        "True": _constant(True),
        "an array of two": lambda value, rng: np.array([value, value]),
        "400 digits": _constant(10**400),
    },
)
_enter(
    "number",
    ("number",),
    EITHER,
    {
        "zero": _constant(0.0),
        "minus zero": _constant(-0.0),
        "negative": lambda value, rng: -value,
        "subnormal": _constant(5e-324),
        "1e-300": _constant(1e-300),
        "one": _constant(1),
        "a fraction": _constant(Fraction(1, 3)),
        "float32": lambda value, rng: np.float32(value),
        "float16": lambda value, rng: np.float16(value),
        "an array without axes": lambda value, rng: np.array(value),
    },
)
_enter(
    "number",
    ("number",),
    EITHER,
    {"1e30": _constant(1e30), "1e308": _constant(1.7e308)},
    extreme=True,
)
_enter(
    "flag",
    ("flag",),
    REFUSED,
    {
        "1": _constant(1),
        "0.0": _constant(0.0),
        "NaN": _constant(np.nan),
        "text": _constant("True"),
        "a list": _constant(list),
        "an array": _constant(lambda: np.array([True, False])),
    },
)
_enter("flag", ("flag",), EITHER, {"numpy": lambda value, rng: np.bool_(value)})
_enter(
    "choice",
    ("choice",),
    REFUSED,
    {
        "unknown": _constant("no such thing"),
        "upper case": lambda value, rng: str(value).upper() + "!",
        "empty": _constant(""),
        "a number": _constant(17.5),
        "NaN": _constant(np.nan),
        "a list": lambda value, rng: [value],
        "text with NUL": lambda value, rng: f"{value}\0",
        "a megabyte": lambda value, rng: f"{value}" * 2**17,
        "surrogates": _constant("\ud800"),
        "an array": _constant(lambda: np.array(["a", "b"])),
        "a dict": _constant(lambda: {"auto": 1}),
    },
)
_enter("choice", ("choice",), EITHER, {"text of NumPy": lambda value, rng: np.str_(value)})
_enter(
    "rng",
    ("rng",),
    REFUSED,
    {
        "a number": _constant(0),
        "the old kind": _constant(lambda: np.random.RandomState(0)),
        "the module": _constant(np.random),
        "a bit generator": _constant(lambda: np.random.PCG64(0)),
    },
)
_enter(
    "object",
    ("object",),
    REFUSED,
    {
        "a number": _constant(5),
        "an array": _constant(lambda: np.ones(3)),
        "a list": _constant(lambda: [1, 2]),
        "an empty dict": _constant(dict),
    },
)
