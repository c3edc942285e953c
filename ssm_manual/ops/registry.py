"""The record of every op beside its gradient, so that one test can enumerate and check them all.

An op enters by `register` in the file that defines it. `ssm_manual.gradcheck.check_registry` and
the test suite walk over `PAIRS`; an op without a checked gradient cannot land.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["PAIRS", "Example", "Pair", "register"]


class Example(NamedTuple):
    """One call of an op to be checked, in double precision.

    Attributes
    ----------
    args : tuple
        Positional arguments: float64 or complex128 arrays, or None and integers, which are not
        differentiated.
    options : dict
        Keyword-only options of the op.
    note : str
        What is special about it, e.g. ``"L 17, |A_bar| 0.999"``; shown in the table.
    linear : tuple of tuple of str
        Groups of arguments in which the op is jointly linear while the others are held; each also
        satisfies ``<g, J v> = <J* g, v>`` to rounding [COMPLEX-3].
    """

    args: tuple
    options: dict[str, Any]
    note: str = ""
    linear: tuple[tuple[str, ...], ...] = ()


class Pair(NamedTuple):
    """An op, its vector-Jacobian product, its slow reference and the examples to check them on.

    Attributes
    ----------
    name : str
        As shown in tables and taken by ``ssm-manual gradcheck --show``.
    fwd : callable
        ``fwd(*args, **options) -> (out, residuals)``.
    vjp : callable
        ``vjp(residuals, grad_out) -> one gradient per argument``.
    reference : callable
        ``reference(*args, **options) -> out``, from `ssm_manual.reference`.
    examples : callable
        ``examples(rng) -> iterator of Example``.
    arguments : tuple of str
        Names of the positional arguments, in order.
    """

    name: str
    fwd: Callable
    vjp: Callable
    reference: Callable
    examples: Callable[..., Iterator[Example]]
    arguments: tuple[str, ...]


PAIRS: dict[str, Pair] = {}


def register(name, fwd, vjp, *, reference, examples, arguments):
    """Enter a pair into the record; a name can be taken once.

    Raises
    ------
    ValueError
        If ``name`` is taken.
    """
    if name in PAIRS:
        raise ValueError(f"name is {name!r}; an op of that name is registered already")
    PAIRS[name] = Pair(name, fwd, vjp, reference, examples, tuple(arguments))
