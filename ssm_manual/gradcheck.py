"""Proofs of hand-written gradients, for the ops of this package and for your own.

* `check_vjp` compares a vector-Jacobian product with five-point differences along random
  directions.
* `check_adjoint` tests ``<g, J v> = <J* g, v>`` of an op that is linear in some of its arguments.
* `numeric_gradient` is the full gradient by differences: slow, and good to look at.
* `check_registry` runs the first two over every registered op and compares each with its
  reference.

The derivation, the step and the error model are in ``docs/derivations/gradient_checks.md``
([CHECK-1] to [CHECK-7]); ``examples/check_your_own_op.py`` proves an op of a user's own.

>>> import numpy as np
>>> def square(x):
...     return x * x, x
>>> def square_vjp(residuals, grad_out):
...     return (2 * residuals.conj() * grad_out,)
>>> bool(check_vjp(square, square_vjp, (np.array([1 + 2j, 3 - 1j]),)))
True
"""

import zlib
from collections.abc import Iterable

import numpy as np

from ssm_manual import _validate
from ssm_manual._gradcheck import differences as _fd
from ssm_manual._gradcheck.adjoint import check_adjoint
from ssm_manual._gradcheck.contract import call_fwd as _call_fwd
from ssm_manual._gradcheck.report import PASS, ArgumentCheck, RegistryCheck, RegistryReport, Report
from ssm_manual._gradcheck.vjp import COTANGENTS, check_vjp, numeric_gradient

__all__ = [
    "ArgumentCheck",
    "RegistryCheck",
    "RegistryReport",
    "Report",
    "check_adjoint",
    "check_example",
    "check_registry",
    "check_vjp",
    "numeric_gradient",
    "registered",
    "registry_examples",
]

TOLERANCES = {"differences": 1e-7, "adjoint": 1e-12, "reference": 1e-10}


def check_example(pair, example, *, rng=None):
    """Every check of one example of a registered op: reference, differences and adjoints.

    Parameters
    ----------
    pair : ssm_manual.ops.registry.Pair
        The op.
    example : ssm_manual.ops.registry.Example
        The call.
    rng : numpy.random.Generator or int, optional
        As for `check_vjp`.

    Returns
    -------
    RegistryReport
    """
    rng = np.random.default_rng(0 if rng is None else rng)
    shared = {"arguments": pair.arguments, "rng": rng, **example.options}
    found = [("reference", None, _against_reference(pair, example, TOLERANCES["reference"]))]
    for kind in COTANGENTS:
        report = check_vjp(
            pair.fwd,
            pair.vjp,
            example.args,
            cotangent=kind,
            rtol=TOLERANCES["differences"],
            **shared,
        )
        found.append(("differences", kind, report))
    given = {n for n, x in zip(pair.arguments, example.args) if x is not None}
    groups = [tuple(n for n in group if n in given) for group in example.linear]
    for group in filter(None, groups):  # an argument left out, such as x0=None, has no part in J
        report = check_adjoint(
            pair.fwd, pair.vjp, example.args, group, rtol=TOLERANCES["adjoint"], **shared
        )
        found.append(("adjoint", "random", report))
    return RegistryReport(
        RegistryCheck(
            op=pair.name,
            against=against,
            tolerance=TOLERANCES[against],
            example=example.note,
            cotangent=kind,
            **row._asdict(),
        )
        for against, kind, rows in found
        for row in rows
    )


def _against_reference(pair, example, rtol):
    """Rows for the outputs: ``||fast - slow|| / max(||fast||, ||slow||)``."""
    fast = _fd.as_tuple(_call_fwd(pair.fwd, example.args, example.options)[0])
    slow = _fd.as_tuple(pair.reference(*example.args, **example.options))
    if len(fast) != len(slow):
        verdict = f"{len(fast)} outputs, the reference has {len(slow)}"
        return [ArgumentCheck("(output)", (), "-", np.inf, None, verdict, None, None)]
    rows = []
    for i, (a, b) in enumerate(zip(fast, slow)):
        if a is None and b is None:
            continue
        name = "(output)" if len(fast) == 1 else f"(output {i})"
        shape, dtype = ((), "None") if a is None else (a.shape, str(a.dtype))
        error, verdict = np.inf, "shape or dtype differs from the reference"
        if a is not None and b is not None and (a.shape, a.dtype) == (b.shape, b.dtype):
            norms = max(np.linalg.norm(a.ravel()), np.linalg.norm(b.ravel()))
            error = float(np.linalg.norm((a - b).ravel()) / norms) if norms else 0.0
            verdict = PASS if error <= rtol else "differs from the reference"
        rows.append(ArgumentCheck(name, shape, dtype, error, None, verdict, None, None))
    return rows


def registered(names=None):
    """The registered pairs of the given names, or all of them in the order of registration.

    Parameters
    ----------
    names : sequence of str, optional
        Which ops.

    Returns
    -------
    list of ssm_manual.ops.registry.Pair

    Raises
    ------
    ValueError
        If a name is not registered; the message lists those that are.
    """
    import ssm_manual.ops  # noqa: F401  (importing it registers every op)
    from ssm_manual.ops import registry

    if isinstance(names, (str, bytes)) or not isinstance(names, (Iterable, type(None))):
        raise ValueError(f"names is {_validate.show(names)}; it must be a sequence of ops' names")
    names = list(registry.PAIRS) if names is None else list(names)
    for name in names:
        _validate.one_of("op", name, tuple(registry.PAIRS))
    return [registry.PAIRS[name] for name in names]


def registry_examples(pair, seed):
    """The examples of one op, and the generator to go on with.

    Both depend on the seed and the op's name alone, so an op checked by itself gets the same
    verdict as among all others.

    Parameters
    ----------
    pair : ssm_manual.ops.registry.Pair
        The op.
    seed : int
        Not negative.

    Returns
    -------
    examples : list of ssm_manual.ops.registry.Example
    rng : numpy.random.Generator
    """
    rng = np.random.default_rng([seed, zlib.crc32(pair.name.encode())])
    return list(pair.examples(rng)), rng


def check_registry(names=None, *, seed=0, progress=None):
    """Check registered ops on all their examples.

    Parameters
    ----------
    names : sequence of str, optional
        Which ops; all of them by default.
    seed : int
        Seeds examples, directions and cotangents.
    progress : callable, optional
        Called as ``progress(done, total, name)`` before each example and once after the last.

    Returns
    -------
    RegistryReport
        Rows `RegistryCheck`: outputs against the reference (relative norm, 1e-10), gradients
        against differences with random and with last-step cotangents (1e-7), and the adjoint
        identity of the linear arguments (1e-12).

    Raises
    ------
    ValueError
        If a name is not registered; the message lists those that are.
    """
    seed = _validate.integer("seed", seed, minimum=0)
    jobs = []
    for pair in registered(names):
        calls, rng = registry_examples(pair, seed)
        jobs += [(pair, example, rng) for example in calls]
    rows = []
    for done, (pair, example, rng) in enumerate(jobs):
        if progress:
            progress(done, len(jobs), pair.name)
        rows += check_example(pair, example, rng=rng)
    if progress:
        progress(len(jobs), len(jobs), "")
    return RegistryReport(rows)
