"""Speed and precision of the methods of `ssm_manual.ops.kernels`, measured here and now.

Errors are taken against exact arithmetic: the powers of a pole in integers of 384 bits, which share
nothing with the methods. They are in units of the working precision (2^-53 in complex128, 2^-24 in
complex64), relative to the size of the sample itself.
"""

import math
import time
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.ops import kernels

__all__ = ["METHODS", "Survey", "exact", "survey"]

#: All methods but ``auto``, which is one of them at any length.
METHODS = tuple(method for method in kernels.METHODS if method != "auto")

#: Units of the working precision.
UNITS = {"complex128": 2.0**-53, "complex64": 2.0**-24}

#: Bits after the point: enough for powers of a pole close to the circle up to 2^40.
_BITS = 384

#: Most rounds of timing, and seconds that one length may take.
_ROUNDS, _BUDGET = 200, 1.0

#: Samples at which errors are looked at.
_PLACES = 160


class Survey(NamedTuple):
    """What was measured, by precision.

    Attributes
    ----------
    lengths : list of int
        Kernel lengths that were timed.
    seconds : dict
        ``seconds[dtype][method]`` (lengths,): the shortest time of a call that fills a warm array;
        ``"fill"`` is merely writing it.
    t : list of int
        Samples at which the error was taken.
    errors : dict
        ``errors[dtype][method]`` (t,): the largest over all poles, in units.
    moduli : list of float
        Of the poles.
    threads : int
        That parallel methods could use.
    """

    lengths: list
    seconds: dict
    t: list
    errors: dict
    moduli: list
    threads: int


def exact(A_bar, t):
    """``A_bar^t`` as two integers, real and imaginary part times 2^384, to some 2^-340.

    Parameters
    ----------
    A_bar : complex
        A pole on or inside the unit circle, taken as it stands: every float is a fraction.
    t : int
        Not negative.

    Returns
    -------
    real, imag : int
    """
    power, base = (1 << _BITS, 0), _fixed(A_bar)
    while t:
        if t & 1:
            power = _times(power, base)
        base = _times(base, base)
        t >>= 1
    return power


def survey(*, lengths, longest, poles=3, rng, progress=None):
    """Time all methods at some lengths, and take their errors up to one length.

    Parameters
    ----------
    lengths : sequence of int
        Kernel lengths to time.
    longest : int
        Samples up to which errors are taken.
    poles : int
        Random poles for the errors: any phase, and a modulus that leaves the kernel a size above
        1e-4 everywhere.
    rng : numpy.random.Generator
        Draws them.
    progress : callable, optional
        ``progress(done, total)``, in steps of one method.

    Returns
    -------
    Survey

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    from ssm_manual._numba import threads

    lengths = [_validate.integer("lengths", length, minimum=1) for length in lengths]
    longest = _validate.length("longest", longest, minimum=2)
    count = _validate.size("poles", poles)
    steps = len(UNITS) * len(METHODS) * (len(lengths) + count)
    tick = _Ticker(progress, steps)
    places = np.unique(np.geomspace(1, longest, _PLACES).astype(np.int64) - 1).tolist()
    decay = rng.uniform(1, 9, count) / longest
    drawn = np.exp(-decay + 2j * np.pi * rng.uniform(size=count))
    weights = np.exp(2j * np.pi * rng.uniform(size=(2, count)))
    seconds, errors = {}, {}
    for dtype, unit in UNITS.items():
        triples = np.stack([drawn, *weights], axis=1).astype(dtype)
        errors[dtype] = _errors(triples, longest, places, unit, tick)
        seconds[dtype] = _seconds(dtype, lengths, tick)
    return Survey(lengths, seconds, places, errors, np.abs(drawn).tolist(), threads())


class _Ticker:
    def __init__(self, progress, total):
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self):
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _errors(triples, longest, places, unit, tick):
    """By method: the largest error over all (A_bar, B_bar, C) at each place."""
    worst = {method: np.zeros(len(places)) for method in METHODS}
    K = np.empty(longest, triples.dtype)
    for A_bar, B_bar, C in triples:
        first = _times(_fixed(B_bar), _fixed(C))
        truth = [_times(first, exact(A_bar, t)) for t in places]
        for method in METHODS:
            kernels.generate(A_bar, B_bar, C, longest, method=method, out=K)
            found = [_distance(complex(K[t]), true) / unit for t, true in zip(places, truth)]
            worst[method] = np.maximum(worst[method], found)
            tick()
    return {method: values.tolist() for method, values in worst.items()}


def _seconds(dtype, lengths, tick):
    """By method: the shortest time of a call at each length; the methods take turns."""
    pole = tuple(np.array(z, dtype) for z in (0.9999995 * np.exp(2.3j), 1.0, 0.5))
    found = {method: [] for method in ("fill", *METHODS)}
    for length in lengths:
        out = np.zeros(length, dtype)
        calls = {"fill": lambda out=out: out.fill(1)}
        for method in METHODS:
            calls[method] = lambda out=out, method=method: kernels.generate(
                *pole, out.size, method=method, out=out
            )
            calls[method]()  # compiled, and the array is in memory
            tick()
        best, spent = dict.fromkeys(calls, math.inf), dict.fromkeys(calls, 0.0)
        for done in range(_ROUNDS):
            for name, call in calls.items():
                # Shares, as the slow ones would leave too few rounds to the fast, which need them.
                if done >= 3 and spent[name] > _BUDGET / len(calls):
                    continue
                before = time.perf_counter()
                call()
                seconds = time.perf_counter() - before
                best[name] = min(best[name], seconds)
                spent[name] += seconds
        for name, value in best.items():
            found[name].append(value)
    return found


def _fixed(z):
    """A complex number as two integers, exactly where it is not below 2^-300."""
    parts = (float(part).as_integer_ratio() for part in (z.real, z.imag))
    return tuple((top << _BITS) // bottom for top, bottom in parts)


def _times(a, b):
    return (a[0] * b[0] - a[1] * b[1]) >> _BITS, (a[0] * b[1] + a[1] * b[0]) >> _BITS


def _distance(z, true):
    """|z - true| / |true|; a value that is not finite is infinitely far."""
    if not (math.isfinite(z.real) and math.isfinite(z.imag)):
        return math.inf
    wrong = [own - right for own, right in zip(_fixed(z), true)]
    size = math.isqrt(true[0] ** 2 + true[1] ** 2)
    return math.hypot(*((part << 64) // size / 2**64 for part in wrong))  # integers of any length
