"""Directional derivatives by finite differences, with a verdict on their own accuracy.

Design
------
* Everything is an inner product ``<a, b> = Re sum conj(a) b`` over all outputs [CHECK-1], so real
  and complex arguments need no separate code.
* The outputs are subtracted before the inner product is taken: entries that do not depend on the
  argument then cancel exactly, and only the roundings of the others remain.
* No single step is trusted. Steps are tried on a ladder until two neighbours agree [CHECK-5].
"""

import numbers
from typing import NamedTuple

import numpy as np

#: The first relative step, for a sequence of length one [CHECK-4].
FIRST_STEP = 0.01

#: Each rung of the ladder has the step of the rung before, divided by this.
RATIO = 4

#: The most steps that are tried, from the first downwards.
RUNGS = 6

#: Standard error of the stencil times the step, for values rounded to 53 bits [CHECK-3].
ROUNDING = 2.0**-53 * (2 * 8**2 + 2 * 1**2) ** 0.5 / 12

#: The longest relative step that is tried where rounding spoils all shorter ones [CHECK-5].
LONGEST_STEP = 0.2


class Derivative(NamedTuple):
    """A derivative: its value, the relative step it was taken at, how well two steps agree."""

    value: float
    step: float
    agreement: float


def is_number(x):
    """Whether ``x`` is to be differentiated: a float or complex number or an array of such."""
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "fc"
    return isinstance(x, numbers.Number) and not isinstance(x, numbers.Integral)


def quotient(a, b):
    """``|a - b| / max(|a|, |b|)`` [CHECK-6]; 0 where both are zero, inf where one is not finite."""
    if a == b:
        return 0.0 if np.isfinite(a) else np.inf
    scale = max(abs(a), abs(b))
    return abs(a - b) / scale if np.isfinite(scale) else np.inf


def inner(a, b):
    """``<a, b> = Re sum conj(a) b`` over two tuples of arrays [CHECK-1]; None counts as nothing."""
    return float(sum(np.vdot(p, q).real for p, q in zip(a, b) if p is not None and q is not None))


def as_tuple(out):
    """The outputs of an op as a tuple of arrays, whether it returned one or several."""
    outs = out if isinstance(out, tuple) else (out,)
    return tuple(None if o is None else np.asarray(o) for o in outs)


def like_output(values, out):
    """Cotangents packed as the op packed its outputs: tuple for tuple, scalar for scalar."""

    def pack(value, o):
        return value if value is None or isinstance(o, np.ndarray) else value[()]

    if isinstance(out, tuple):
        return tuple(pack(v, o) for v, o in zip(values, out))
    return pack(values[0], out)


def random_like(rng, x):
    """Standard normal numbers of the shape of ``x``, complex where ``x`` is complex."""
    x = np.asarray(x)
    real = rng.standard_normal(x.shape)
    if x.dtype.kind == "c":
        return np.asarray(real + 1j * rng.standard_normal(x.shape))
    return np.asarray(real)


def random_cotangents(rng, outs, kind):
    """One random cotangent per output.

    With ``kind="last"`` only the last index of the last axis is not zero.
    """
    cotangents = []
    for out in outs:
        g = None if out is None else random_like(rng, out)
        if kind == "last" and g is not None and g.ndim:
            g[..., :-1] = 0
        cotangents.append(g)
    return tuple(cotangents)


def size_of(x):
    """The root mean square of ``x``, or 1 where that is zero: the unit of its steps."""
    x = np.asarray(x)
    largest = float(np.abs(x).max(initial=0.0))
    if largest == 0.0:
        return 1.0
    return largest * float(np.sqrt(np.mean(np.abs(x / largest) ** 2)))  # squares cannot overflow


def random_direction(rng, x, grad):
    """A random direction, tilted so that ``<grad, d>`` is not small by chance [CHECK-4].

    ``d = r + 2 sign(<grad, r>) grad / ||grad||`` with standard normal ``r``, then scaled so that
    its largest entry has the size of ``x``.
    """
    d = random_like(rng, x)
    if grad is not None:
        grad = np.asarray(grad)
        largest = np.abs(grad).max(initial=0.0)
        if largest:
            unit = grad / largest  # a tiny gradient must not underflow when squared
            unit = unit / np.linalg.norm(unit.ravel())
            d = d + np.copysign(2.0, inner((unit,), (d,))) * unit
    largest = np.abs(d).max(initial=0.0)
    return d * (size_of(x) / largest) if largest else d


def first_step(args, outs):
    """The relative step of the first rung, ``0.01 / L``; ``L`` is the longest axis [CHECK-4]."""
    arrays = [a for a in (*args, *outs) if isinstance(a, np.ndarray)]
    longest = max((n for a in arrays for n in a.shape), default=1)
    return FIRST_STEP / max(longest, 1)


def along(op_fwd, args, index, direction, options):
    """``s -> outputs of op_fwd with args[index] + s direction``; the argument keeps its type."""
    x = args[index]

    def at(s):
        moved = x + s * direction
        moved = np.asarray(moved) if isinstance(x, np.ndarray) else type(x)(moved)
        return as_tuple(op_fwd(*args[:index], moved, *args[index + 1 :], **options)[0])

    return at


def stencil(at, cotangents, h):
    """``[8 (phi(h) - phi(-h)) - phi(2h) + phi(-2h)] / 12 h``, ``phi(s) = <g, at(s)>`` [CHECK-2].

    Returns
    -------
    value : float
        The estimate of the derivative.
    noise : float
        The rounding error to be expected in it, if each output that changes is correct to half a
        unit in the last place [CHECK-3].
    """
    ahead, behind, far_ahead, far_behind = at(h), at(-h), at(2 * h), at(-2 * h)
    value, variance = 0.0, 0.0
    for g, a, b, c, d in zip(cotangents, ahead, behind, far_ahead, far_behind):
        if g is None:
            continue
        change = 8 * (a - b) - (c - d)
        value += np.vdot(g, change).real
        variance += float(np.sum(np.abs(g * a * (change != 0)) ** 2))
    return float(value) / (12 * h), ROUNDING * np.sqrt(variance) / h


def derivative(at, cotangents, step, rtol):
    """The derivative of ``<g, at(s)>`` at ``s = 0`` from the two steps that agree best [CHECK-5].

    Parameters
    ----------
    at : callable
        ``at(s)`` gives the tuple of outputs.
    cotangents : tuple of ndarray
        One per output.
    step : float
        The step of the first rung. Steps are shortened by `RATIO` until two neighbours agree to
        ``rtol / 1000``. Where rounding keeps them from agreeing to ``rtol / 100``, longer steps are
        tried as well: they settle nothing but functions that are linear, or nearly so.
    rtol : float
        The accuracy that is wanted.

    Returns
    -------
    Derivative
        The value at the longer step of the pair: of the two it has the smaller rounding error, and
        its truncation error is about the difference of the pair at most.
    """
    first = previous = stencil(at, cotangents, step)
    best = None
    for rung in range(1, RUNGS):
        h = step / RATIO**rung
        current = stencil(at, cotangents, h)
        best = _better(best, previous, current, h * RATIO)
        if best.agreement <= rtol / 1000:
            return best
        previous = current
    h, previous = step * RATIO, first
    while best.agreement > rtol / 100 and h <= LONGEST_STEP:
        try:
            with np.errstate(all="ignore"):
                current = stencil(at, cotangents, h)
        except ValueError:  # the op refuses an argument so far away, such as a negative dt
            break
        best = _better(best, current, previous, h)
        h, previous = h * RATIO, current
    return best


def _better(best, longer, shorter, h):
    """``best``, or the value at the step ``h`` if that agrees better with the shorter one."""
    value, noise = longer
    agreement = quotient(value, shorter[0])
    if noise:  # two roundings can agree by chance
        agreement = max(agreement, noise / abs(value) if value else np.inf)
    if best is None or agreement < best.agreement:
        return Derivative(value, h, agreement)
    return best
