"""One case: a valid call, changed by hazards, made, and judged by the rule of `hazard`.

A case that breaks the rule raises `Fault`, whose text says what was called and what went wrong.
"""

import contextlib
import dataclasses
import re
import resource
import signal
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fuzz.hazard import ARRAYS, EITHER, REFUSED, SAME, NotApplicable
from fuzz.hazards import HAZARDS
from ssm_manual._validate import NonFiniteError
from ssm_manual.training import DivergenceError

#: Seconds that a single case may take; compiling is the slowest of what is allowed.
PATIENCE = 300

#: Bytes by which a case may lift the peak of the process's memory.
MEMORY = 1 << 30

#: Largest difference of equal results, relative to the largest number of an array.
CLOSE = {"float32": 1e-5, "float64": 1e-12}
AGREE = {"float32": 2e-3, "float64": 1e-8}

#: A message names an argument as the subject of what it says, or as one of several: a word such as
#: "a", "rate" or "real" in the middle of a sentence is no name.
SAYS = (
    r"(?:^|[,:;('\"`]|[,:;(] |\b(?:and|or|of|with|than|as|needs|for|by|where|give|but|both|no) )"
    r"{}(?:\[[^]]*\])*"
    r"(?:$|[,:;=)'\"`]|\.(?!\w)| (?:is|are|has|have|holds?|lies?|would|does|must|takes?|and|or)\b"
    r"| [(<>=\d]| (?:float|complex)\d)"
)


class Fault(AssertionError):
    """A case that breaks the rule."""


class Row(NamedTuple):
    """A public function, how to call it validly, and what there is to try on it.

    Attributes
    ----------
    name : str
        Of the row, the function's public name.
    call : callable
        ``call(**given) -> result``.
    arguments : str
        ``"name:kind name:kind? ..."``, see `fuzz.hazards`; others of ``make`` are ``fixed``.
    make : callable
        ``make(rng, dtype) -> dict``: valid arguments; the same generator gives the same.
    covers : tuple of str
        Public names that the row calls beside ``name``.
    reference : callable or None
        ``reference(**given) -> result`` by the obvious way, to compare with.
    exceptions : dict
        ``{"argument hazard": (verdict, why)}``: where this function's documentation says otherwise;
        either part may be ``*``, and a hazard may be named by the part before its colon.
    result : callable or None
        ``result(out, given)``: raises `Fault` if something is wrong with the result of a clean call
        that a comparison would not see.
    overflows : str
        Where the documentation says that NaN may come out of finite numbers; empty if nowhere.
    precise : bool
        Whether every floating-point array of the result has the precision of the call.
    also : tuple of str
        Other names by which a message may speak of the arguments.
    given_back : bool
        Whether NaN and infinity that came in may come out.
    alters : bool
        Whether the call is there to change the model or layer that it is given.
    """

    name: str
    call: Callable
    arguments: str
    make: Callable
    covers: tuple = ()
    reference: Callable | None = None
    exceptions: dict = {}  # noqa: RUF012
    result: Callable | None = None
    overflows: str = ""
    precise: bool = False
    also: tuple = ()
    given_back: bool = False
    alters: bool = False

    def kinds(self):
        """``{argument: (kind, whether it is optional)}``."""
        pairs = (word.split(":") for word in self.arguments.split())
        return {name: (kind.rstrip("?"), kind.endswith("?")) for name, kind in pairs}

    def pairs(self):
        """Every ``(argument, hazard)`` of the row."""
        return [
            (name, key)
            for name, (kind, _) in self.kinds().items()
            for key, hazard in HAZARDS.items()
            if kind in hazard.kinds
        ]

    def verdict(self, name, key):
        """What must follow from a hazard to an argument."""
        group = key.split(":")[0]
        for pattern in (f"{name} {key}", f"{name} {group}", f"* {key}", f"* {group}", f"{name} *"):
            if pattern in self.exceptions:
                return self.exceptions[pattern][0]
        if HAZARDS[key].verdict == "none":
            return EITHER if self.kinds()[name][1] else REFUSED
        return HAZARDS[key].verdict


class Case(NamedTuple):
    """What `run` takes, small enough to be shown."""

    seed: int
    dtype: str
    hazards: tuple  # of (argument, hazard)


def run(row, case):
    """Make a case of a row and judge it.

    Returns
    -------
    str
        What came of it: ``"same"``, ``"works"``, ``"refused"`` or ``"not applicable"``.

    Raises
    ------
    Fault
        If it breaks the rule.
    """
    given, verdicts, extreme = _changed(row, case)
    if not verdicts and case.hazards:
        return "not applicable"
    clean = not set(verdicts.values()) - {SAME}
    kinds = row.kinds()
    numbers = {n: v for n, v in given.items() if kinds.get(n, ("fixed",))[0] != "object"}
    before = _frozen(numbers, row.alters)
    try:
        with _guarded():
            out = row.call(**given)
    except (ValueError, TypeError) as error:
        if clean:
            raise Fault(_text(row, case, given, f"a valid call is refused: {error!r}")) from error
        if not (extreme and isinstance(error, NonFiniteError)):  # of the result: too large
            _check_message(row, case, given, verdicts, error)
        outcome = "refused"
    except DivergenceError as error:
        if not extreme:
            raise Fault(_text(row, case, given, f"{error!r}")) from error
        outcome = "refused"
    except MemoryError as error:
        if not extreme:
            raise Fault(_text(row, case, given, f"{error!r}")) from error
        outcome = "refused"
    except Fault as error:
        raise Fault(_text(row, case, given, str(error))) from error
    except Exception as error:
        raise Fault(_text(row, case, given, f"raises {error!r}")) from error
    else:
        refused = [name for name, verdict in verdicts.items() if verdict == REFUSED]
        if refused:
            raise Fault(_text(row, case, given, f"{refused} is accepted, result {_short(out)}"))
        outcome = "same" if clean else "works"
        _check_values(row, case, given, out, extreme)
        if clean:
            try:
                _check_same(row, case, given, out)
            except Fault as error:
                raise Fault(_text(row, case, given, str(error))) from error
    if _frozen(numbers, row.alters) != before:
        changed = [n for n, old in before.items() if _frozen(numbers, row.alters)[n] != old]
        raise Fault(_text(row, case, given, f"changes its argument {', '.join(changed)}"))
    return outcome


def _changed(row, case):
    """The arguments with the hazards, the verdicts by argument, and whether one is extreme."""
    given = row.make(np.random.default_rng(case.seed), np.dtype(case.dtype))
    rng = np.random.default_rng([case.seed, 1])
    verdicts, extreme = {}, False
    for name, key in case.hazards:
        hazard, verdict = HAZARDS[key], row.verdict(name, key)
        if verdict is None or (given[name] is None and key != "type: None"):
            continue
        if row.kinds()[name][0] in ARRAYS and not isinstance(given[name], np.ndarray):
            given[name] = np.asarray(given[name])
        try:
            given[name] = hazard.change(given[name], rng)
        except NotApplicable:
            continue
        verdicts[name] = verdict
        extreme |= hazard.extreme
    return given, verdicts, extreme


@contextlib.contextmanager
def _guarded():
    """Warnings are errors; time and memory have an end."""

    def late(number, frame):
        raise Fault(f"has not ended after {PATIENCE} s")

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
        if grown > MEMORY:  # and then to refuse does not make it good
            raise Fault(f"takes {grown / 2**20:.0f} MB")


def _check_message(row, case, given, verdicts, error):
    """The message names an argument that is to blame."""
    to_blame = [name for name, verdict in verdicts.items() if verdict != SAME]
    if any(HAZARDS[key].verdict != REFUSED for _, key in case.hazards) or len(case.hazards) > 1:
        to_blame += [n for n in row.kinds() if n not in to_blame]  # they must fit each other
    to_blame += row.also
    patterns = [r"grad_\w+" if name.startswith("grad_") else re.escape(name) for name in to_blame]
    if not any(re.search(SAYS.format(p), str(error)) for p in patterns):
        text = f"the error names none of {', '.join(to_blame)}: {error!r}"
        raise Fault(_text(row, case, given, text)) from error


def _check_values(row, case, given, out, extreme):
    """No NaN; nothing infinite but where numbers leave the range."""
    if row.given_back or (extreme and row.overflows):
        return
    for path, a in leaves(out):
        if a.dtype.kind not in "fc":
            continue
        if np.isnan(a).any():
            raise Fault(_text(row, case, given, f"{path} of the result holds NaN"))
        if not extreme and not np.isfinite(a).all():
            raise Fault(_text(row, case, given, f"{path} of the result holds infinity"))


def _check_same(row, case, given, out):
    """A clean call and the reference give the same."""
    again = row.make(np.random.default_rng(case.seed), np.dtype(case.dtype))
    for name, key in case.hazards:
        if key == "type: None":
            again[name] = None
    if case.hazards:
        compare(out, row.call(**again), CLOSE[case.dtype], "a clean call", types=True)
    if row.precise:
        for path, a in leaves(out):
            if a.dtype.kind in "fc" and a.real.dtype != case.dtype:
                raise Fault(f"{path} of the result is {a.dtype}")
    if row.reference is not None:
        again = row.make(np.random.default_rng(case.seed), np.dtype(case.dtype))
        compare(out, row.reference(**again), AGREE[case.dtype], "the reference")
    if row.result is not None:
        row.result(out, given)


# -------------------------------------------------------------------------------- trees of results


def leaves(value, path="out", depth=0):
    """``(path, array)`` of every number, text or array of them in a result."""
    if isinstance(value, (np.ndarray, np.generic, int, float, complex, str)):
        a = np.asarray(value)
        if a.dtype.kind in "fciubU":
            yield path, a
    elif depth > 6:
        return
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{path}[{key!r}]", depth + 1)
    elif isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from leaves(part, f"{path}[{i}]", depth + 1)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), f"{path}.{field.name}", depth + 1)
    elif isinstance(getattr(value, "params", None), dict):
        yield from leaves(value.params, f"{path}.params", depth + 1)


def compare(out, expected, rtol, against, *, types=False):
    """Two results are equal, up to ``rtol`` of the largest number of an array."""
    ours, theirs = list(leaves(out)), list(leaves(expected))
    if len(ours) != len(theirs):
        raise Fault(f"{len(ours)} arrays, {against} gives {len(theirs)}")
    for (path, a), (_, b) in zip(ours, theirs):
        if a.shape != b.shape or (types and a.dtype != b.dtype):
            found = f"{a.shape} {a.dtype}, {against} {b.shape} {b.dtype}"
            raise Fault(f"{path} is {found}")
        if a.dtype.kind not in "fc" or b.dtype.kind not in "fc":
            if not np.array_equal(a, b):
                raise Fault(f"{path} differs from {against}")
            continue
        with np.errstate(all="ignore"):
            gap = np.max(np.abs(a - b), initial=0)
            size = np.max(np.abs(b), initial=0)
        if not gap <= rtol * size:
            raise Fault(f"{path} differs from {against} by {gap:.3g}, at a size of {size:.3g}")


def _frozen(given, alters):
    """The bytes of every array among the arguments, and of the parameters of models and layers."""

    def freeze(value):
        if isinstance(value, np.ma.MaskedArray):
            return value.data.tobytes(), value.mask.tobytes()
        if isinstance(value, np.ndarray):
            small = value if value.size < 10**6 else value[:1]
            held = repr(small.tolist()) if value.dtype.kind == "O" else small.tobytes()
            return value.shape, value.strides, str(value.dtype), held
        if isinstance(value, (list, tuple)) and len(value) < 100 and not _endless(value):
            return [freeze(v) for v in value]
        if isinstance(value, dict):
            return {k: freeze(v) for k, v in value.items()}
        if isinstance(getattr(value, "params", None), dict) and not alters:  # a model, a layer
            return {k: freeze(np.asarray(v)) for k, v in value.params.items()}
        return None

    return {name: freeze(value) for name, value in given.items()}


def _endless(value):
    depth = 0
    while isinstance(value, (list, tuple)) and value and depth < 300:
        value, depth = value[0], depth + 1
    return depth > 20


# ------------------------------------------------------------------------------------------- texts


def _short(value: Any):
    if isinstance(value, np.ndarray):
        return f"{type(value).__name__} {value.dtype} {value.shape}"
    text = repr(value) if not _endless(value) else "a list of lists"
    return text if len(text) < 100 else text[:97] + "..."


def _text(row, case, given, what):
    lines = [f"{row.name}: {what}", f"  {case!r}"]
    with contextlib.suppress(Exception):
        lines += [f"  {name} = {_short(value)}" for name, value in given.items()]
    return "\n".join(lines)
