"""What may be kept as text: names, and plain data as JSON."""

import json
import math
import os
from numbers import Real

import numpy as np

from ssm_manual import _validate

__all__ = [
    "dumps",
    "from_text",
    "known",
    "name",
    "numbers",
    "seed",
    "strict",
    "tags",
    "texts",
    "words",
]

#: Dicts and lists within each other, at most: far from where Python's recursion ends, so that what
#: one program has written every other can read, show and export.
DEEPEST = 100

#: Characters of a name, at most.
LONGEST_NAME = 2**20


def name(argument, value):
    """``value`` if it can name something: any text but the empty one."""
    if isinstance(value, str):
        value = str(value)  # one of NumPy's loses the NULs at its end
    if not isinstance(value, str) or not value:
        raise ValueError(f"{argument} is {_validate.show(value)}; it must be a text, not empty")
    if len(value) > LONGEST_NAME:
        raise ValueError(
            f"{argument} has {len(value)} characters; it must have at most {LONGEST_NAME}"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{argument} is {_validate.show(value)}; it must be a text that UTF-8 can hold"
        ) from None
    return value


def tags(value):
    """Tags in order, each once."""
    try:
        found = None if isinstance(value, (str, bytes)) else list(value)
    except TypeError:
        found = None
    if found is None:
        raise ValueError(f"tags is {_validate.show(value)}; it must be a list of texts")
    return sorted({name(f"tags[{i}]", tag) for i, tag in enumerate(found)})


def seed(value):
    """The seed of a run: nothing, a whole number or several."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return [_validate.integer("seed", number) for number in value]
    return _validate.integer("seed", value)


def texts(argument, value):
    """A dict of texts, or nothing."""
    return {name(argument, key): name(argument, text) for key, text in (value or {}).items()}


def dumps(argument, value):
    """Plain data as JSON. NumPy's numbers and arrays become Python's, paths become text.

    NaN and infinity stay what they are: Python's JSON, on its way into a file of ours, has words
    for them.
    """
    try:
        text = json.dumps(value, default=_convert, ensure_ascii=False)
        _check_form(value)  # now that it is known to have an end
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{argument} does not fit into JSON: {error}") from None
    return text


def from_text(text, kind=object):
    """The inverse of `dumps`; `ValueError` if there is something else."""
    try:
        value = json.loads(text)
        _check_form(value)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(value, kind):
        raise ValueError(f"{_validate.show(value)} is no {kind.__name__}")
    return value


def strict(value):
    """The same data for JSON that other programs read: NaN and infinity as texts.

    Parameters
    ----------
    value : object
        Plain data.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        If dicts and lists lie too deep within each other.
    """
    try:
        return _strict(value)
    except RecursionError:
        raise ValueError("value has too many dicts and lists within each other") from None


def _strict(value):
    if isinstance(value, dict):
        return {key: _strict(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def numbers(argument, values):
    """Real numbers by name, as floats; NaN and infinity too."""
    return {name("a name", key): _number(argument, key, value) for key, value in values.items()}


def _number(argument, key, value):
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (Real, np.floating, np.integer)
    ):
        what = f"{argument}[{_validate.show(key)}] is {_validate.show(value)}"
        raise ValueError(f"{what}; it must be a real number")
    try:
        with np.errstate(over="ignore"):  # of longer formats, as below
            found = float(value)
        if math.isinf(found) and abs(value) != math.inf:
            raise OverflowError
    except OverflowError:
        what = f"{argument}[{_validate.show(key)}] is {_validate.show(value)}"
        raise ValueError(f"{what}; it is beyond float64") from None
    return found


def known(argument, value, names):
    """Raise `ValueError` unless ``value`` is one of the names that there are."""
    if not isinstance(value, str) or value not in names:
        listed = ", ".join(map(repr, names)) or "there is none"
        raise ValueError(f"{argument} is {_validate.show(value)}; it must be one of: {listed}")


def sound(name, started, tags):
    """Whether a run's columns are of the types that a store writes."""
    return type(name) is str and type(started) is float and all(type(tag) is str for tag in tags)


def scores(found, damaged):
    """Scores as they were kept, which are numbers."""
    if not all(type(value) in (int, float) for value in found.values()):
        raise damaged("a score")
    return found


def ended(found, damaged):
    """A moment, or None."""
    if type(found) not in (float, type(None)):
        raise damaged("its end")
    return found


def words(error):
    """An error as a text that can be kept."""
    if not isinstance(error, str):
        name = type(error).__name__
        try:
            error = f"{name}: {error}"
        except Exception:  # somebody's `__str__`: that there was an error matters more
            error = name
    text = error
    return text.rstrip(": ").encode(errors="replace").decode()


def _check_form(value):
    """`ValueError` if dicts and lists lie too deep within each other, or a key is no text.

    JSON would make a text of such a key, and lose one of ``{1: a, "1": b}``.
    """
    level, depth = [value], 0
    while level := [v for v in level if isinstance(v, (dict, list, tuple))]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} dicts and lists within each other")
        below = []
        for parent in level:
            if isinstance(parent, dict):
                wrong = [key for key in parent if not isinstance(key, str)]
                if wrong:
                    raise ValueError(f"the key {_validate.show(wrong[0])} is no text")
            below += parent.values() if isinstance(parent, dict) else parent
        level = below


def _convert(value):
    if isinstance(value, (np.generic, np.ndarray)):
        if value.dtype.kind == "c":
            return np.stack([value.real, value.imag], axis=-1).tolist()
        if value.dtype.kind in "biufU":
            return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{_validate.show(value)} is neither a number, a text, a list nor a dict")
