"""``<g, J v> = <J* g, v>`` to rounding, for arguments in which an op is linear."""

import numpy as np

from ssm_manual import _validate
from ssm_manual._gradcheck import differences as fd
from ssm_manual._gradcheck.contract import (
    argument_names,
    broken_gradient,
    call_fwd,
    first_calls,
    own_copies,
)
from ssm_manual._gradcheck.report import PASS, ArgumentCheck, Report


def check_adjoint(op_fwd, op_vjp, args, linear, *, arguments=None, rtol=1e-12, rng=None, **options):
    """``<g, J v> = <J* g, v>`` for arguments in which the op is jointly linear [CHECK-7].

    Sharper than a difference quotient, for there is no step: ``J v`` is the op itself with the
    group ``linear`` set to ``v`` and all other arguments held; ``J* g`` is what ``op_vjp`` returns
    at the arguments given.

    Parameters
    ----------
    op_fwd, op_vjp : callable
        As for `check_vjp`.
    args : sequence
        As for `check_vjp`.
    linear : sequence of str
        Names of the arguments of the group, e.g. ``("u", "x0")``.
    arguments : sequence of str, optional
        Names of all arguments; by default those of ``op_fwd``'s signature.
    rtol : float
        Largest ``|<g, J v> - <J* g, v>|`` relative to the larger of the two. ``g`` is a random part
        plus an equally long part along ``J v``, so that neither is small by chance.
    rng : numpy.random.Generator or int, optional
        By default a fixed seed.
    **options
        Passed on to ``op_fwd``.

    Returns
    -------
    Report
        One row for the group. An op that is not linear in the group fails as well.

    Raises
    ------
    ValueError
        If a name is unknown or its argument cannot be differentiated, or if some entry of the
        output neither vanishes with the group nor is independent of it: ``J v`` would then be a
        difference, with cancellation. Add the arguments of the remaining terms to the group.
    """
    names = argument_names(op_fwd, args, arguments)
    rtol = _validate.real_number("rtol", rtol, above=0.0)
    args = own_copies(args, names)
    group = _positions(linear, names, args)
    rng = np.random.default_rng(0 if rng is None else rng)
    shape = np.shape(args[group[0]]) if len(group) == 1 else (sum(np.size(args[i]) for i in group),)
    dtype = str(np.result_type(*(np.asarray(args[i]).dtype for i in group)))

    def report(error, verdict, numeric=None, analytic=None):
        label = " + ".join(linear)
        return Report([ArgumentCheck(label, shape, dtype, error, None, verdict, numeric, analytic)])

    out, residuals, broken = first_calls(op_fwd, op_vjp, args, options, rng)
    if broken:
        return report(np.inf, broken)
    v = [fd.random_like(rng, args[i]) for i in group]
    push = _push(op_fwd, args, group, v, options, linear)
    g = fd.random_cotangents(rng, push, "random")
    length = np.sqrt(fd.inner(push, push))
    along = np.sqrt(fd.inner(g, g)) / length if length else 0.0
    g = tuple(None if r is None else np.asarray(r + along * p) for r, p in zip(g, push))
    grads = op_vjp(residuals, fd.like_output(g, out))
    for i in group:
        broken = "the gradient is None" if grads[i] is None else broken_gradient(grads[i], args[i])
        if broken:
            return report(np.inf, broken)
    lhs, rhs = fd.inner(g, push), fd.inner([grads[i] for i in group], v)
    error = fd.quotient(lhs, rhs)
    return report(error, PASS if error <= rtol else "wrong", lhs, rhs)


def _positions(linear, names, args):
    """The positions of the arguments of the group."""
    if isinstance(linear, str) or not linear:
        raise ValueError(f"linear is {linear!r}; it must be a non-empty tuple of argument names")
    group = [names.index(_validate.one_of("linear", name, names)) for name in linear]
    for i in group:
        if not fd.is_number(args[i]):
            raise ValueError(
                f"{names[i]} is {_validate.show(args[i])}; it must be an array or a number, "
                "because linear names it"
            )
    return group


def _push(op_fwd, args, group, v, options, linear):
    """``J v``: the outputs with the group set to ``v``, minus those that do not depend on it."""

    def outputs(scale):
        moved = list(args)
        for i, vi in zip(group, v):
            x = args[i]
            moved[i] = np.asarray(scale * vi) if isinstance(x, np.ndarray) else type(x)(scale * vi)
        return fd.as_tuple(call_fwd(op_fwd, moved, options)[0])

    at_zero, at_v = outputs(0.0), outputs(1.0)
    for zero, full in zip(at_zero, at_v):
        if zero is not None and not ((zero == 0) | (zero == full)).all():
            raise ValueError(
                f"linear is {tuple(linear)!r}; with these arguments zero, all entries of the "
                "output must be zero or what it is with any other value of them (add the arguments "
                "of the remaining terms)"
            )
    return tuple(None if a is None else np.asarray(a - b) for a, b in zip(at_v, at_zero))
