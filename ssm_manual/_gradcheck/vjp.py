"""``<J* g, d>`` beside its finite difference: `check_vjp`, and `numeric_gradient` to look at."""

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
from ssm_manual._gradcheck.report import PASS, ArgumentCheck, Report, severity

COTANGENTS = ("random", "last")


def judge(numeric, analytic, agreement, rtol):
    """(relative error, verdict) on two values of one derivative [CHECK-6].

    ``agreement`` is the relative difference of the two steps behind ``numeric`` [CHECK-5].
    """
    if analytic is None:
        if numeric == 0.0:
            return 0.0, PASS
        return 1.0, "the gradient is None, but the output depends on the argument"
    error = fd.quotient(numeric, analytic)
    if error <= rtol and agreement <= rtol:
        return error, PASS
    if numeric == 0.0 and agreement == 0.0:
        return error, "wrong: the output does not change at all"
    if error > 10 * agreement:
        return error, "wrong"
    return error, f"inconclusive: no two steps agree to {rtol:.0e}"


def check_vjp(
    op_fwd,
    op_vjp,
    args,
    *,
    arguments=None,
    rtol=1e-7,
    directions=3,
    rng=None,
    cotangent="random",
    **options,
):
    """``<J* g, d> = d/ds <g, f(x + s d)>`` for every argument, random ``d`` and ``g`` [CHECK-1].

    The left-hand side is what ``op_vjp`` claims, the right-hand side a five-point difference
    [CHECK-2].

    Parameters
    ----------
    op_fwd : callable
        ``op_fwd(*args, **options) -> (out, residuals)``; ``out`` is an array, a number or a tuple
        of them, float64 or complex128.
    op_vjp : callable
        ``op_vjp(residuals, grad_out) -> gradients``, one per argument, None where not
        differentiable. A tuple ``out`` takes a tuple of cotangents. The gradient of a complex
        argument is ``dL/dRe + i dL/dIm``.
    args : sequence
        Arrays of float64 or complex128 and numbers are differentiated, at any finite value; None,
        integers, strings and arrays of integers are not.
    arguments : sequence of str, optional
        Names for the table; by default those of ``op_fwd``'s signature.
    rtol : float
        Largest relative error, per argument; there is no absolute tolerance [CHECK-6].
    directions : int
        Random directions per argument, each with a random cotangent of its own.
    rng : numpy.random.Generator or int, optional
        By default a fixed seed, so that a test gives the same verdict every time.
    cotangent : {"random", "last"}
        ``"last"``: zero except at the last index of each output's last axis, as for a loss on the
        last step alone.
    **options
        Passed on to ``op_fwd``. Where an option has the name of a keyword above, wrap the op.

    Returns
    -------
    Report
        Rows `ArgumentCheck`; true if all pass. These fail, too: a gradient of the wrong shape or
        dtype or that is not finite; None where the output depends on the argument; the wrong
        number of gradients; an op that changes its arguments, cotangent or residuals in place; a
        difference whose own accuracy cannot be established ("inconclusive", [CHECK-5]).

    Raises
    ------
    ValueError
        If an argument is in single precision, not finite or of a type that cannot be
        differentiated, if none of them can, or if ``op_fwd`` does not return a pair, its outputs
        being no list.

    Notes
    -----
    A gradient that is zero must be exactly zero; so must then be the change of the output.
    Costs 8 evaluations of ``op_fwd`` per argument and direction, up to 60 where rounding makes
    steps hard to agree on, and ``directions + 2`` of
    ``op_vjp``.

    Examples
    --------
    >>> import numpy as np
    >>> def cube(x):
    ...     return x**3, x
    >>> def cube_vjp(residuals, grad_out):
    ...     return (3 * residuals**2 * grad_out,)
    >>> bool(check_vjp(cube, cube_vjp, (np.array([0.5, -2.0]),)))
    True
    >>> bool(check_vjp(cube, cube_vjp, (np.array([0.5 + 1j, -2.0]),)))  # conj is missing
    False
    """
    names = argument_names(op_fwd, args, arguments)
    rtol = _validate.real_number("rtol", rtol, above=0.0)
    directions = _validate.integer("directions", directions, minimum=1)
    _validate.one_of("cotangent", cotangent, COTANGENTS)
    args = own_copies(args, names)
    checked = [i for i, x in enumerate(args) if fd.is_number(x)]
    if not checked:
        raise ValueError(
            "args holds nothing to differentiate; it must hold a float64 or complex128 value"
        )
    rng = np.random.default_rng(0 if rng is None else rng)

    def row(i, error, verdict, step=None, numeric=None, analytic=None):
        x = np.asarray(args[i])
        return ArgumentCheck(
            names[i], x.shape, str(x.dtype), error, step, verdict, numeric, analytic
        )

    out, residuals, broken = first_calls(op_fwd, op_vjp, args, options, rng)
    if broken:
        return Report(row(i, np.inf, broken) for i in checked)
    outs = fd.as_tuple(out)
    step = fd.first_step(args, outs)
    worst = {}
    for _ in range(directions):
        cotangents = fd.random_cotangents(rng, outs, cotangent)
        grads = op_vjp(residuals, fd.like_output(cotangents, out))
        for i, (x, grad) in enumerate(zip(args, grads)):
            broken = broken_gradient(grad, x)
            if broken:
                worst[i] = row(i, np.inf, broken)
            if broken or not fd.is_number(x):
                continue
            d = fd.random_direction(rng, x, grad)
            at = fd.along(op_fwd, args, i, d, options)
            numeric, h, agreement = fd.derivative(at, cotangents, step, rtol)
            analytic = None if grad is None else fd.inner((grad,), (d,))
            error, verdict = judge(numeric, analytic, agreement, rtol)
            found = row(i, error, verdict, h, numeric, analytic)
            if i not in worst or severity(found) > severity(worst[i]):
                worst[i] = found
    return Report(worst[i] for i in sorted(worst))


def numeric_gradient(op_fwd, args, index, grad_out, **options):
    """``grad = dL/dRe x + i dL/dIm x`` of ``L = <grad_out, f(x)>``, element by element [CHECK-2].

    Parameters
    ----------
    op_fwd : callable
        ``op_fwd(*args, **options) -> (out, residuals)``.
    args : sequence
        As for `check_vjp`.
    index : int
        Which argument.
    grad_out : ndarray, number or tuple of them
        The cotangent of each output, of its shape.
    **options
        Passed on to ``op_fwd``.

    Returns
    -------
    ndarray
        Of the shape and dtype of ``args[index]``; each element is from the two steps that agree
        best [CHECK-5].

    Raises
    ------
    ValueError
        If ``args[index]`` cannot be differentiated or ``grad_out`` does not fit the outputs.

    Notes
    -----
    8 or more evaluations per real number in the argument: for looking at, on small examples.

    Examples
    --------
    >>> import numpy as np
    >>> def square(z):
    ...     return z * z, z
    >>> z = np.array([1 + 2j])
    >>> numeric_gradient(square, (z,), 0, np.array([1 + 0j])).round(6)  # conj(2 z)
    array([2.-4.j])
    """
    args = own_copies(args, argument_names(op_fwd, args, None))
    index = _validate.integer("index", index, minimum=0)
    if index >= len(args) or not fd.is_number(args[index]):
        raise ValueError(
            f"index is {index}; it must be that of an array or a number among the {len(args)} args"
        )
    x = np.asarray(args[index])
    outs = fd.as_tuple(call_fwd(op_fwd, args, options)[0])
    cotangents = fd.as_tuple(grad_out)
    shapes = [[None if a is None else a.shape for a in arrays] for arrays in (cotangents, outs)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"grad_out has shapes {shapes[0]}; it must have those of the outputs, {shapes[1]}"
        )
    step, size = fd.first_step(args, outs), fd.size_of(x)
    grad = np.zeros_like(x)
    for where in np.ndindex(x.shape):
        for unit in (1.0, 1j) if x.dtype.kind == "c" else (1.0,):
            d = np.zeros_like(x)
            d[where] = size * unit
            at = fd.along(op_fwd, args, index, d, options)
            grad[where] += unit * fd.derivative(at, cotangents, step, 1e-8).value / size
    return grad
