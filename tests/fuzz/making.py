"""How rows are written that have no registry to come from."""

from fuzz.engine import Row
from fuzz.hazard import EITHER

#: For exceptions: a dtype is a word, and more.
WORD = {"dtype type": (EITHER, "any spelling of a dtype"), "dtype choice": (EITHER, "as above")}


def for_years(argument, *, bounded=False):
    """Exceptions for a number of repetitions: what would run for years is not tried.

    bounded: what no array could hold is refused at once, and therefore is.
    """
    short = ["2^36", "2^40"]
    long = ["2^62", "2^63", "2^64", "uint64", "a googol", "400 digits"]
    names = short if bounded else short + long
    return {f"{argument} int: {name}": (None, "would run for years") for name in names}


def simple(name, call, words, make, **more):
    """A row whose name is that of the function below ``ssm_manual``."""
    return Row(f"ssm_manual.{name}", call, words, make, **more)


def method(name, function, words, make, **more):
    """A row of a method: ``make`` gives the object as ``self``."""

    def call(self, **given):
        return getattr(self, function)(**given)

    return simple(f"{name}.{function}", call, words, make, **more)
