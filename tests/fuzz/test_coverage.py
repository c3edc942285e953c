"""The coverage list is complete: a public name is in a row, or it is said why not."""

import contextlib
import importlib
import inspect

import numpy as np
import pytest
from test_docs import public_objects

from fuzz.coverage import EXCLUDED, ROWS
from fuzz.engine import Fault, compare
from fuzz.hazard import EVERYTHING
from fuzz.hazards import HAZARDS


def covered():
    """Every public name that a row calls."""
    for row in ROWS:
        yield row.name.split(" ")[0]
        yield from row.covers


def excluded(name):
    """Whether a name, or a module or class that it lies in, is excluded with a reason."""
    parts = name.split(".")
    return any(EXCLUDED.get(".".join(parts[:n])) for n in range(2, len(parts) + 1))


def names():
    """Where each public function, class and method is defined, once."""
    for name, value in public_objects():
        owner = name.rpartition(".")[0].rpartition(".")[2]
        below = f"{owner}." if owner[:1].isupper() and inspect.isfunction(value) else ""
        yield name, f"{value.__module__}.{below}{value.__name__}"


def test_every_public_name_has_a_row_or_a_reason():
    known = set(covered())
    missing = [name for name, home in names() if not ({name, home} & known) and not excluded(name)]
    assert not missing, f"neither a row nor a reason in tests/fuzz/coverage.py: {missing}"


def exists(name):
    """Whether a dotted name leads to something, a method of a private base class included."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError):
            value = importlib.import_module(".".join(parts[:n]))
            break
    for part in parts[n:]:
        value = getattr(value, part, None)
    return value is not None


def test_rows_and_reasons_name_what_there_is():
    stale = [name for name in (*covered(), *EXCLUDED) if not exists(name)]
    assert not stale, f"no such public name: {stale}"


#: Flags whose effect a row's result does not show, and where it would.
WITHOUT_EFFECT = {
    "cache": "what backward needs",
    "create": "where there is no file",
    "damped": "training.SGD.step",
    "durable": "when the power goes",
    "path": "history.path",
    "readonly": "what is written afterwards",
    "real": "the output of a DiagonalSSM",
    "restore": "the parameters after training",
    "tied": "forward, with a seed",
    "tied_dropout": "forward, with a seed",
}


@pytest.mark.fuzz
def test_every_flag_has_an_effect():
    """An option that is taken and ignored would pass every comparison."""
    ignored = []
    for row in ROWS:
        for flag in [n for n, (kind, _) in row.kinds().items() if kind == "flag"]:
            if (flag not in WITHOUT_EFFECT or ".ops." in row.name) and not any(
                _differs(row, flag, seed) for seed in range(6)
            ):
                ignored.append(f"{row.name} {flag}")
    assert not ignored, f"True and False give the same: {ignored}"


def _differs(row, flag, seed):
    outs = []
    for value in (True, False):
        given = row.make(np.random.default_rng(seed), np.dtype("float64")) | {flag: value}
        try:
            outs.append(row.call(**given))
        except ValueError:
            return True  # refused beside the others
    try:
        compare(*outs, 1e-12, "the other")
    except Fault:
        return True
    return False


def test_the_data_of_all_rows_are_sound():
    groups = {key.split(":")[0] for key in HAZARDS} | {"*"}
    wrong = []
    for row in ROWS:
        kinds = row.kinds()
        wrong += [(row.name, kind) for kind, _ in kinds.values() if kind not in EVERYTHING]
        for pattern in row.exceptions:
            argument, _, hazard = pattern.partition(" ")
            if argument not in (*kinds, "*") or hazard not in groups | set(HAZARDS):
                wrong.append((row.name, pattern))
    assert not wrong, wrong
