"""The contract of an op apart from values: types, shapes, counts, nothing changed in place."""

import inspect

import numpy as np

from ssm_manual import _validate
from ssm_manual._gradcheck import differences as fd


def argument_names(op_fwd, args, arguments):
    """The arguments' names: given, or those of the op's signature, or numbered."""
    if not isinstance(args, (tuple, list)):
        kind = type(args).__name__
        raise ValueError(f"args is of type {kind}; it must be a tuple of the op's arguments: (x,)")
    if arguments is None:
        try:
            parameters = inspect.signature(op_fwd).parameters.values()
        except (TypeError, ValueError):  # built-in functions have no signature
            parameters = ()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        found = [p.name for p in parameters if p.kind in kinds]
        return tuple(found[i] if i < len(found) else f"args[{i}]" for i in range(len(args)))
    if len(arguments) != len(args):
        raise ValueError(
            f"arguments has {len(arguments)} names; it must have one for each of {len(args)} args"
        )
    return tuple(arguments)


def own_copies(args, names):
    """Copies of the arguments, each of them checked to be something that can be treated here."""
    copies = []
    for name, x in zip(names, args):
        if isinstance(x, np.ma.MaskedArray):
            raise ValueError(f"{name} is a masked array, whose mask would be ignored")
        if isinstance(x, np.ndarray):  # of no subclass, whose arithmetic may be another
            x = np.asarray(x)
        static = x is None or isinstance(x, (int, str, np.integer, np.bool_))
        if isinstance(x, np.ndarray) and x.dtype.kind in "iub":
            static = True  # indices and masks
        if not static:
            try:
                dtype = np.asarray(x).dtype
            except ValueError:  # a ragged list, or one too deep
                dtype = np.dtype(object)
            if not fd.is_number(x) or dtype.newbyteorder("=") not in _validate.DOUBLE:
                raise ValueError(
                    f"{name} is {_validate.show(x)} of type {type(x).__name__} and dtype {dtype}; "
                    "it must be a number or an array, float64 or complex128 (or None, an integer "
                    "or a string, which are not differentiated)"
                )
            if not np.isfinite(x).all():
                raise ValueError(f"{name} holds NaN or infinity; every value must be finite")
        if isinstance(x, np.ndarray):
            x = np.array(x, x.dtype.newbyteorder("="), order="K")
        copies.append(x)
    return tuple(copies)


def call_fwd(op_fwd, args, options):
    """``(out, residuals)`` of an op; an error where it returns anything else."""
    result = op_fwd(*args, **options)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(
            f"op_fwd returned {_validate.show(result)}; it must return (out, residuals)"
        )
    if isinstance(result[0], list):
        raise ValueError(
            f"out is a list of length {len(result[0])}; it must be an array, a number or, of "
            "several outputs, a tuple"
        )
    return result


def broken_gradient(grad, x):
    """What is wrong with a gradient apart from its value, or an empty text."""
    if grad is None or x is None:
        return ""
    if not fd.is_number(x):
        return f"a gradient for an argument of type {type(x).__name__}, which has none"
    grad, x = np.asarray(grad), np.asarray(x)
    if grad.shape != x.shape:
        return f"the gradient has shape {grad.shape}, not {x.shape}"
    if grad.dtype.kind == "c" and x.dtype.kind != "c":
        return "a complex gradient for a real argument"
    if grad.dtype != x.dtype:
        return f"the gradient has dtype {grad.dtype}, not {x.dtype}"
    return "" if np.isfinite(grad).all() else "the gradient is not finite"


def bits(values):
    """The bytes of every array or number among ``values``, to see whether anything has changed."""
    return [None if v is None or isinstance(v, str) else np.asarray(v).tobytes() for v in values]


def first_calls(op_fwd, op_vjp, args, options, rng):
    """Call the op once and its vjp twice with the same cotangent.

    Returns
    -------
    out, residuals
        From ``op_fwd``.
    broken : str
        What is wrong with these calls apart from the gradients' values, or an empty text.
    """
    before = bits(args)
    out, residuals = call_fwd(op_fwd, args, options)
    if bits(args) != before:
        return out, residuals, "op_fwd changes its arguments in place"
    outs = fd.as_tuple(out)
    for o in outs:
        if o is not None and o.dtype not in _validate.DOUBLE:
            return out, residuals, f"op_fwd returns {o.dtype} for double-precision arguments"
        if o is not None and not np.isfinite(o).all():
            return out, residuals, "the output is not finite"
    cotangents = fd.random_cotangents(rng, outs, "random")
    given = bits(cotangents)
    grads = op_vjp(residuals, fd.like_output(cotangents, out))
    if not isinstance(grads, (tuple, list)):
        return out, residuals, f"op_vjp returns {type(grads).__name__}, not a tuple of gradients"
    if len(grads) != len(args):
        return out, residuals, f"op_vjp returns {len(grads)} gradients for {len(args)} arguments"
    first = bits(grads)
    if bits(args) != before:
        return out, residuals, "op_vjp changes the arguments of op_fwd in place"
    if bits(cotangents) != given:
        return out, residuals, "op_vjp changes its cotangent in place"
    if bits(op_vjp(residuals, fd.like_output(cotangents, out))) != first:
        return out, residuals, "op_vjp changes its residuals: a second call gives other bits"
    return out, residuals, ""
