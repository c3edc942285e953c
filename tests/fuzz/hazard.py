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

import types
from collections.abc import Callable
from typing import NamedTuple

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


def enter(prefix, kinds, verdict, changes, *, extreme=False):
    for name, change in changes.items():
        key = f"{prefix}: {name}"
        assert key not in HAZARDS, key
        HAZARDS[key] = Hazard(kinds, change, verdict, extreme)


def constant(value):
    return lambda _, rng: value() if isinstance(value, types.FunctionType) else value


def skip():
    """The hazard has no meaning for this value."""
    raise NotApplicable
