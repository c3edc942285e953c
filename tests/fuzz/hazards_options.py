"""Hazards of arguments of any kind: other types; numbers, flags and words that are wrong."""

import array
import datetime
import decimal
from fractions import Fraction

import numpy as np
import scipy.sparse

from fuzz.hazard import ARRAYS, EITHER, EVERYTHING, INTEGERS, REFUSED, SAME, constant, enter, skip


class Duck:
    """No array, but something that can be made one."""

    def __init__(self, a):
        self._a = a

    def __array__(self, dtype=None, copy=None):
        return np.array(self._a, dtype)


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
enter("type", EVERYTHING, REFUSED, {k: constant(v) for k, v in _WRONG.items()})
enter(
    "type",
    tuple(k for k in EVERYTHING if k != "object"),
    REFUSED,
    {k: constant(v) for k, v in _FUNCTION.items()},
)
enter(
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
enter(
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


enter("type", EVERYTHING, "none", {"None": constant(None)})

# ----------------------------------------------------------------------------------------- options

enter(
    "int",
    INTEGERS,
    REFUSED,
    {
        "a half": constant(2.5),
        "a float": lambda value, rng: float(value),
        "NaN": constant(np.nan),
        "infinity": constant(np.inf),
        "text": lambda value, rng: str(value),
        "True": constant(True),
        "numpy True": constant(np.True_),
        "a list": lambda value, rng: [value],
        "an array of one": lambda value, rng: np.array([float(value)]),
        "complex": lambda value, rng: complex(value),
    },
)
enter(
    "int",
    INTEGERS,
    SAME,
    {
        "int64": lambda value, rng: np.int64(value),
        "uint8": lambda value, rng: np.uint8(value) if 0 <= value < 256 else skip(),
        "an array without axes": lambda value, rng: np.array(value),
    },
)
enter("int", INTEGERS, EITHER, {"zero": constant(0), "one": constant(1)})
enter("int", INTEGERS, REFUSED, {"-1": constant(-1), "most negative": constant(-(2**63))})
enter(
    "int",
    INTEGERS,
    EITHER,
    {
        "2^62": constant(2**62),
        "2^63": constant(2**63),
        "2^64": constant(2**64),
        "a googol": constant(10**100),
        "400 digits": constant(10**400),
        "uint64": constant(np.uint64(2**64 - 1)),
        "2^40": constant(2**40),
        "2^36": constant(2**36),
    },
    extreme=True,
)
enter(
    "number",
    ("number",),
    REFUSED,
    {
        "NaN": constant(np.nan),
        "infinity": constant(np.inf),
        "-infinity": constant(-np.inf),
        "text": constant("0.1"),
        "complex": constant(0.1j),
        "a list": lambda value, rng: [value],
        "True": constant(True),
        "an array of two": lambda value, rng: np.array([value, value]),
        "400 digits": constant(10**400),
    },
)
enter(
    "number",
    ("number",),
    EITHER,
    {
        "zero": constant(0.0),
        "minus zero": constant(-0.0),
        "negative": lambda value, rng: -value,
        "subnormal": constant(5e-324),
        "1e-300": constant(1e-300),
        "one": constant(1),
        "a fraction": constant(Fraction(1, 3)),
        "float32": lambda value, rng: np.float32(value),
        "float16": lambda value, rng: np.float16(value),
        "an array without axes": lambda value, rng: np.array(value),
    },
)
enter(
    "number",
    ("number",),
    EITHER,
    {"1e30": constant(1e30), "1e308": constant(1.7e308)},
    extreme=True,
)
enter(
    "flag",
    ("flag",),
    REFUSED,
    {
        "1": constant(1),
        "0.0": constant(0.0),
        "NaN": constant(np.nan),
        "text": constant("True"),
        "a list": constant(list),
        "an array": constant(lambda: np.array([True, False])),
    },
)
enter("flag", ("flag",), EITHER, {"numpy": lambda value, rng: np.bool_(value)})
enter(
    "choice",
    ("choice",),
    REFUSED,
    {
        "unknown": constant("no such thing"),
        "upper case": lambda value, rng: str(value).upper() + "!",
        "empty": constant(""),
        "a number": constant(17.5),
        "NaN": constant(np.nan),
        "a list": lambda value, rng: [value],
        "text with NUL": lambda value, rng: f"{value}\0",
        "a megabyte": lambda value, rng: f"{value}"[:16] * 2**17,
        "surrogates": constant("\ud800"),
        "an array": constant(lambda: np.array(["a", "b"])),
        "a dict": constant(lambda: {"auto": 1}),
    },
)
enter("choice", ("choice",), EITHER, {"text of NumPy": lambda value, rng: np.str_(value)})
enter(
    "rng",
    ("rng",),
    REFUSED,
    {
        "a number": constant(0),
        "the old kind": constant(lambda: np.random.RandomState(0)),
        "the module": constant(np.random),
        "a bit generator": constant(lambda: np.random.PCG64(0)),
    },
)
enter(
    "object",
    ("object",),
    REFUSED,
    {
        "a number": constant(5),
        "an array": constant(lambda: np.ones(3)),
        "a list": constant(lambda: [1, 2]),
        "an empty dict": constant(dict),
    },
)
