"""Checks of arguments at every public door.

An error names the argument, what it was and what it must be.

Jitted kernels have no bounds checks, so nothing reaches them that has not passed through here.

The rules, once for the whole package:

* Arrays are float32, float64, complex64 or complex128, of any layout, read-only or not, native byte
  order or not. Integer, boolean, half and extended precision, object and masked arrays are refused:
  the caller knows the scale of an integer recording and we do not.
* All arrays of a call have one precision. Python numbers and (nested) lists of them are *weak*:
  they take the precision of the arrays beside them, and double precision where there is none.
  Nothing is promoted silently.
* NaN and infinity are refused everywhere.
* Sizes end at `SIDE` and lengths at `LONGEST`: what is beyond is a slip, and fits into no memory.
* Finite arguments give no NaN: what leaves the range of the format is infinite, and where
  infinities meet, `sound` refuses the result.
"""

import contextlib
import difflib
import functools
import math
import numbers
import operator

import numpy as np

SINGLE = (np.dtype(np.float32), np.dtype(np.complex64))
DOUBLE = (np.dtype(np.float64), np.dtype(np.complex128))

#: What an array may be made of.
FORMATS = (*SINGLE, *DOUBLE)

#: Axes of an array, at most: NumPy broadcasts no more.
AXES = 32

#: The largest number of channels, modes and the like: a matrix of that side can still be asked for,
#: and then does not fit into memory.
SIDE = 2**28

#: The largest number of samples; 2^40 complex numbers are 16 TB.
LONGEST = 2**40


class NonFiniteError(ValueError):
    """An array holds NaN or infinity; training tells an overflow from a bad argument by it."""


def show(value):
    """A short text of a value for an error message."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def one_of(name, value, allowed):
    """``value`` if it is one of the ``allowed`` strings (or other hashable values)."""
    if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
        choices = ", ".join(repr(a) for a in allowed)
        near = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{name} is {show(value)}; it must be one of {choices}{hint}")
    return value


def integer(name, value, *, minimum=None, maximum=None):
    """``value`` as a Python int within the bounds; booleans and floats are refused."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        result = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {show(value)}; it must be an integer") from None
    if minimum is not None and result < minimum:
        raise ValueError(f"{name} is {show(result)}; it must be at least {minimum}")
    if maximum is not None and result > maximum:
        raise ValueError(f"{name} is {show(result)}; it must be at most {maximum}")
    return result


def size(name, value, *, minimum=1, maximum=SIDE):
    """``value`` as a number of channels, modes, items or samples that an array may have."""
    return integer(name, value, minimum=minimum, maximum=maximum)


def length(name, value, *, minimum=0):
    """``value`` as a number of samples."""
    return integer(name, value, minimum=minimum, maximum=LONGEST)


def room(**lengths):
    """An error if an array of these lengths, each of them checked by `length`, has no room."""
    total = math.prod(lengths.values())
    if total > LONGEST:
        found = ", ".join(f"{name} is {value}" for name, value in lengths.items())
        raise ValueError(f"{found}: {total} numbers in all; there must be at most {LONGEST}")


def integers(name, value):
    """``value`` as an array of integers of any dtype and shape, masked arrays refused."""
    try:
        result = np.asarray(value)
    except (TypeError, ValueError):  # a ragged list, or one too deep
        result = None
    if isinstance(value, list) and result is not None and result.size == 0:
        result = result.astype(np.int64)
    masked = isinstance(value, np.ma.MaskedArray)
    if masked or result is None or result.dtype.kind not in "iu":
        what = "a masked array, whose mask would be ignored" if masked else show(value)
        if result is not None and not masked and f"dtype {result.dtype}" not in what:
            what += f", of dtype {result.dtype}"
        raise ValueError(f"{name} is {what}; it must be an array of integers")
    return result


def real_number(name, value, *, above=None, minimum=None, maximum=None):
    """``value`` as a finite Python float within the given bounds (``above`` is exclusive)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (numbers.Real, np.floating, np.integer)
    ):
        raise ValueError(f"{name} is {show(value)}; it must be a real number")
    try:
        result = float(value)
    except OverflowError:  # an integer of more than 308 digits
        result = np.inf
    bounds = []
    if above is not None:
        bounds.append(f"greater than {above:g}")
    if minimum is not None:
        bounds.append(f"at least {minimum:g}")
    if maximum is not None:
        bounds.append(f"at most {maximum:g}")
    wanted = " and ".join(["finite", *bounds])
    if not (
        np.isfinite(result)
        and (above is None or result > above)
        and (minimum is None or result >= minimum)
        and (maximum is None or result <= maximum)
    ):
        raise ValueError(f"{name} is {show(value)}; it must be {wanted}")
    return result


def flag(name, value):
    """``value`` if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {show(value)}; it must be True or False")
    return bool(value)


def precision(dtype):
    """``"float32"`` or ``"float64"``, in any spelling, as a pair of dtypes: real and complex."""
    if dtype is not None:  # which NumPy takes for float64
        with contextlib.suppress(TypeError, ValueError):  # the next line says what it must be
            dtype = np.dtype(dtype).name
    one_of("dtype", dtype, ("float32", "float64"))
    return np.dtype(dtype), np.result_type(dtype, np.complex64)


def generator(name, value):
    """``value`` if it is a source of random numbers."""
    if not isinstance(value, np.random.Generator):
        raise ValueError(f"{name} is {show(value)}; it must be a numpy.random.Generator")
    return value


def array(name, value, *, real=False, finite=True):
    """One argument as an array; weak values come back in double precision.

    Use `arrays` where several arguments must agree in precision.
    """
    return _convert(name, value, real=real, finite=finite)[0]


def arrays(*, real=(), optional=(), finite=True, **values):
    """All arguments as arrays of one precision, in the order given.

    Parameters
    ----------
    real : tuple of str
        Names of arguments that must not be complex.
    optional : tuple of str
        Names of arguments that may be None; None is passed through.
    finite : bool
        Whether NaN and infinity are refused.
    **values
        The arguments by name.

    Returns
    -------
    list of ndarray or None
    """
    converted, weak = {}, {}
    for name, value in values.items():
        if value is None and name in optional:
            converted[name] = None
            continue
        converted[name], weak[name] = _convert(name, value, real=name in real, finite=finite)
    strong = {name: converted[name] for name in weak if not weak[name]}
    single = [name for name, a in strong.items() if a.dtype in SINGLE]
    if single and len(single) != len(strong):
        found = ", ".join(f"{name} {a.dtype}" for name, a in strong.items())
        raise ValueError(
            f"{found}: all arrays must have one precision, either float32 and complex64 "
            "or float64 and complex128"
        )
    if single:
        for name, is_weak in weak.items():
            if is_weak:
                a = converted[name]
                if np.max(np.abs(a), initial=0) > np.finfo(np.float32).max:
                    value = show(values[name])
                    raise ValueError(f"{name} is {value}; it lies beyond the range of float32")
                converted[name] = a.astype(np.complex64 if a.dtype.kind == "c" else np.float32)
    return list(converted.values())


def _convert(name, value, *, real, finite):
    if value is None:
        raise ValueError(f"{name} is None; it must be an array or a number")
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array; the mask would be ignored, so fill it first")
    plain = isinstance(value, (int, float, complex, list, tuple))
    weak = plain and not isinstance(value, np.generic)
    try:
        result = np.asarray(value)
    except (TypeError, ValueError):
        message = f"{name} is {show(value)}; it must be a regular array of numbers"
        raise ValueError(message) from None
    if weak and result.dtype.kind in "iu" and not isinstance(value, bool):
        result = result.astype(np.float64)
    if result.dtype.newbyteorder("=") not in FORMATS:
        raise ValueError(
            f"{name} has dtype {result.dtype}; it must be float32, float64, complex64 or "
            f"complex128 (convert it and choose its scale first)"
        )
    if result.ndim > AXES:
        raise ValueError(f"{name} has {result.ndim} axes; it must have at most {AXES}")
    if not result.dtype.isnative:
        result = result.astype(result.dtype.newbyteorder("="))
    if real and result.dtype.kind == "c":
        raise ValueError(f"{name} has dtype {result.dtype}; it must be real (float32 or float64)")
    if finite:
        finite_values(name, result)
    return result, weak


def finite_values(name, a):
    """``a`` if it holds neither NaN nor infinity.

    An op whose kernel looks for them on its way (``finite=False`` above) calls this to say where.
    """
    if not np.isfinite(a).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(a))[0])
        raise NonFiniteError(
            f"{name} holds {a[where]} at index {where}; every value must be finite"
        )
    return a


def sound(*names):
    """Decorator of an op's ``fwd`` or ``vjp``: out of finite numbers comes no NaN.

    What leaves the range of the format is infinite, and NumPy says nothing of it. Where infinities
    meet, as in ``inf - inf``, the result would be NaN: then `NonFiniteError` names it. ``names``
    are those of the outputs, in order. Cost: one pass over each output.
    """

    def decorate(function):
        forward = function.__name__.endswith("_fwd")

        @functools.wraps(function)
        def call(*args, **options):
            with np.errstate(over="ignore", invalid="ignore"):
                result = function(*args, **options)
                outs = result[0] if forward else result
                for name, a in zip(names, outs if isinstance(outs, tuple) else (outs,)):
                    if a is not None and a.size and _holds_nan(a):
                        _refuse_nan(name, a)
            return result

        return call

    return decorate


def sound_values(**outputs):
    """An error if one of these arrays holds NaN; see `sound`."""
    with np.errstate(invalid="ignore"):
        for name, a in outputs.items():
            if a.size and _holds_nan(a):
                _refuse_nan(name, a)


def plus(name, a, b):
    """``a + b``, checked as `sound` checks: infinite beyond the range, and an error if NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = a + b
    sound_values(**{name: total})
    return total


def _holds_nan(a):
    """Whether NaN is in an array: a minimum keeps it, needs no memory and is a vector loop."""
    if a.dtype.kind == "c":
        if a.ndim and a.flags.c_contiguous:
            a = a.view(a.real.dtype)
        else:
            return bool(np.isnan(a).any())
    return bool(np.isnan(a.min()))


def _refuse_nan(name, a):
    where = tuple(int(i) for i in np.argwhere(np.isnan(a))[0])
    raise NonFiniteError(
        f"{name} would be NaN at index {where}: the arguments are finite, but numbers on the way "
        f"leave the range of {a.real.dtype}; scale them"
    )


def shape(name, value, expected, *, meaning=""):
    """``value`` if its shape is ``expected``: None stands for any size, -1 for at least 1.

    ``meaning`` is a text such as ``"(batch, H, L)"`` that the message repeats.
    """
    actual = value.shape
    fits = len(actual) == len(expected) and all(
        e is None or (e == -1 and a >= 1) or e == a for a, e in zip(actual, expected)
    )
    if not fits:
        wanted = (
            "("
            + ", ".join(
                "any" if e is None else "at least 1" if e == -1 else str(e) for e in expected
            )
            + ("," if len(expected) == 1 else "")
            + ")"
        )
        meaning = f" = {meaning}" if meaning else ""
        raise ValueError(f"{name} has shape {actual}; it must be {wanted}{meaning}")
    return value


def broadcast(**values):
    """The common broadcast shape of the given arrays; an error names all their shapes."""
    try:
        return np.broadcast_shapes(*(a.shape for a in values.values()))
    except ValueError:
        found = ", ".join(f"{name} {a.shape}" for name, a in values.items())
        raise ValueError(f"{found}: these shapes must broadcast against each other") from None


def stand_in(shape, dtype):
    """Read-only zeros of a shape and dtype that own no memory: the ``like`` of `cotangent`."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def cotangent(name, grad, like, *, finite=True):
    """The incoming gradient of an output ``like``: its shape and dtype, finite; None is zeros."""
    if grad is None:
        return np.zeros(like.shape, like.dtype)
    grad, weak = _convert(name, grad, real=like.dtype.kind != "c", finite=finite)
    if weak:
        grad = grad.astype(like.dtype)
    if grad.shape != like.shape or grad.dtype != like.dtype:
        raise ValueError(
            f"{name} has shape {grad.shape} and dtype {grad.dtype}; it must have those of the "
            f"output, {like.shape} and {like.dtype}"
        )
    return grad


def cotangents(grad_out, *names):
    """The parts of the incoming gradient of an op with a tuple out."""
    if not isinstance(grad_out, (tuple, list)) or len(grad_out) != len(names):
        found = f"a {type(grad_out).__name__}"
        if isinstance(grad_out, (tuple, list)):
            found += f" of {len(grad_out)}"
        raise ValueError(f"grad_out is {found}; it must be the tuple ({', '.join(names)})")
    return grad_out


def plain(a):
    """``a`` contiguous, aligned and writeable, copied only where it is not.

    To a kernel, a read-only or unaligned array is another type, for which it is compiled again.
    """
    if type(a) is np.ndarray and a.flags.carray:  # all three; np.require takes 5 us to find out
        return a
    return np.require(a, None, ("C_CONTIGUOUS", "ALIGNED", "WRITEABLE"))


def unbroadcast(grad, like):
    """A gradient in the shape and field of its argument ``like``: summed, real where it is real.

    The adjoint of broadcasting [COMPLEX-5] and of embedding the reals into the complex plane
    [COMPLEX-4].
    """
    if like.dtype.kind != "c":
        grad = np.real(grad)
    extra = grad.ndim - like.ndim
    axes = tuple(range(extra)) + tuple(
        extra + i for i, size in enumerate(like.shape) if size == 1 and grad.shape[extra + i] != 1
    )
    if axes:
        grad = grad.sum(axis=axes, dtype=grad.dtype)
    return np.ascontiguousarray(grad).reshape(like.shape)
