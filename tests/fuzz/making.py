"""How rows are written that have no registry to come from."""

from fuzz.engine import Row
from fuzz.hazard import EITHER

#: For exceptions: a dtype is a word, and more.
WORD = {"dtype type": (EITHER, "any spelling of a dtype"), "dtype choice": (EITHER, "as above")}


def simple(name, call, words, make, **more):
    """A row whose name is that of the function below ``ssm_manual``."""
    return Row(f"ssm_manual.{name}", call, words, make, **more)


def method(name, function, words, make, **more):
    """A row of a method: ``make`` gives the object as ``self``."""

    def call(self, **given):
        return getattr(self, function)(**given)

    return simple(f"{name}.{function}", call, words, make, **more)
