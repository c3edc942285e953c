"""``generate``: K_t = C A_bar^t B_bar by the method of your choice, and its gradient."""

from cmath import isfinite
from functools import partial
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops._examples import complex_normal, discrete_poles
from ssm_manual.ops.kernels.anchored import anchored, anchored_one
from ssm_manual.ops.kernels.log import log
from ssm_manual.ops.kernels.log_parallel import log_parallel
from ssm_manual.ops.kernels.moments import moments
from ssm_manual.ops.kernels.naive import naive
from ssm_manual.ops.kernels.recursive import recursive
from ssm_manual.ops.registry import Example, register

__all__ = ["METHODS", "generate", "generate_fwd", "generate_vjp"]

#: The methods that are one kernel, by name.
_KERNELS = {
    "anchored": anchored,
    "naive": naive,
    "recursive": recursive,
    "log": log,
    "log_parallel": log_parallel,
}

#: The names that ``method`` takes.
METHODS = ("auto", *_KERNELS, "hybrid")

#: Samples; 2^40 complex numbers are 16 TB.
LONGEST = 2**40

#: What ``auto`` takes up to which length, and why; the times are those of benchmarks/kernels.py.
AUTO = (
    (16, "recursive", "0.05 us against 0.5 us for the tables; at most 15 roundings in a row"),
    (LONGEST, "anchored", "no drift at any length; fastest from 500 samples on, by 2.8 at 2^20"),
)

#: Scalars that `anchored_one` takes as they are, and the dtype of their kernel.
_SCALARS = {
    complex: np.dtype(np.complex128),
    np.complex128: np.dtype(np.complex128),
    np.complex64: np.dtype(np.complex64),
}
_AUTO_ANCHORED = AUTO[0][0]

#: The published rule: recursion up to here, log-space on threads beyond [KERNEL-9].
HYBRID_THRESHOLD = 1024


def generate(A_bar, B_bar, C, length, *, method="auto", out=None, cutoff=0.0, threshold=None):
    """``K_t = C A_bar^t B_bar`` for t = 0, ..., length - 1 [KERNEL-1].

    Parameters
    ----------
    A_bar, B_bar, C : array_like
        Discrete poles, input and output weights (no unit), real or complex, any finite value. They
        broadcast to a common shape S.
    length : int
        Number of samples, at least 0.
    method : {"auto", "anchored", "naive", "recursive", "log", "log_parallel", "hybrid"}
        See `ssm_manual.ops.kernels`. ``auto`` takes recursion up to 16 samples and ``anchored``
        beyond, by the table `AUTO`.
    out : ndarray, optional
        Array of shape ``S + (length,)`` and the result's dtype, filled and returned.
    cutoff : float
        Early exit, off at 0: samples from the first t on with ``|A_bar|^t < cutoff`` are set to
        zero. The size is relative to the kernel's own first sample and the same samples are dropped
        by every method.
    threshold : int, optional
        For ``method="hybrid"`` alone: the longest kernel that is made by recursion (default 1024).

    Returns
    -------
    K : ndarray
        Shape ``S + (length,)``; complex if any argument is.

    Raises
    ------
    ValueError
        If an argument is not finite or of a wrong dtype or shape, ``length`` is negative,
        ``method`` is unknown, or ``threshold`` is given for another method than ``hybrid``.

    Notes
    -----
    Cost: O(length) products a pole (anchored, recursion), or as many exponentials (log-space).
    Three complex scalars of one type skip the checks that arrays need, 2 instead of 20
    microseconds a call. An unstable pole may overflow to infinity,
    and to NaN in complex kernels, where infinity meets zero.

    Examples
    --------
    >>> generate(0.5, 1.0, 2.0, 4)
    array([2.  , 1.  , 0.5 , 0.25])
    """
    # Three complex scalars: their kernel takes a microsecond, the checks that arrays need twenty.
    kind = type(A_bar)
    if (
        kind in _SCALARS
        and type(B_bar) is kind
        and type(C) is kind
        and type(length) is int
        and _AUTO_ANCHORED < length <= LONGEST
        and method == "auto"
        and out is None
        and threshold is None
        and cutoff == 0.0
        # A sum of numbers is finite only if all are; NumPy's would warn of an overflow.
        and isfinite(A_bar + B_bar + C if kind is complex else A_bar)
        and (kind is complex or (isfinite(B_bar) and isfinite(C)))
    ):
        K = np.empty(length, _SCALARS[kind])
        anchored_one(A_bar, B_bar, C, K)
        return K
    return _generate(A_bar, B_bar, C, length, method, out, cutoff, threshold)[0]


class Residuals(NamedTuple):
    """What the backward pass needs; the kernel itself is not kept."""

    A_bar: np.ndarray  # the arguments, for their shapes and values
    B_bar: np.ndarray
    C: np.ndarray
    support: np.ndarray  # samples a pole that were not cut off
    K_like: np.ndarray  # the output's shape and dtype, owning no memory


def generate_fwd(A_bar, B_bar, C, length, *, method="auto", out=None, cutoff=0.0, threshold=None):
    """`generate` and its residuals."""
    out, *kept = _generate(A_bar, B_bar, C, length, method, out, cutoff, threshold)
    return out, Residuals(*kept, _validate.stand_in(out.shape, out.dtype))


def _generate(A_bar, B_bar, C, length, method, out, cutoff, threshold):
    """The kernel, the arguments as arrays, and the support."""
    A_bar, B_bar, C = _validate.arrays(A_bar=A_bar, B_bar=B_bar, C=C)
    shape = A_bar.shape
    if not shape == B_bar.shape == C.shape:
        shape = _validate.broadcast(A_bar=A_bar, B_bar=B_bar, C=C)
    length = _validate.integer("length", length, minimum=0, maximum=LONGEST)
    _validate.one_of("method", method, METHODS)
    cutoff = _validate.real_number("cutoff", cutoff, minimum=0, maximum=1)
    if threshold is not None and method != "hybrid":
        raise ValueError(f"threshold is {threshold!r}; it goes with method='hybrid' alone")
    threshold = HYBRID_THRESHOLD if threshold is None else threshold
    threshold = _validate.integer("threshold", threshold, minimum=0)

    A, B, c = (_rows(a, shape) for a in (A_bar, B_bar, C))
    support = _support(A, length, cutoff)
    dtype = np.result_type(A_bar, B_bar, C)
    if out is None:
        out = np.empty((*shape, length), dtype)
    elif not isinstance(out, np.ndarray) or out.shape != (*shape, length) or out.dtype != dtype:
        raise ValueError(
            f"out is {_validate.show(out)}; it must be an array of shape {(*shape, length)} "
            f"and dtype {dtype}"
        )
    elif not out.flags.writeable:
        raise ValueError("out is read-only; it must be writeable")
    # The kernels fill contiguous complex rows: into the result itself where it is one.
    direct = out.dtype == A.dtype and out.flags.carray
    rows = out.reshape(A.size, length) if direct else np.empty((A.size, length), A.dtype)
    _choose(method, length, threshold)(A, B, c, support, rows)
    if not direct:
        out[...] = (rows if out.dtype.kind == "c" else rows.real).reshape(out.shape)
    return out, A_bar, B_bar, C, support


@_validate.sound("grad_A_bar", "grad_B_bar", "grad_C", "grad_length")
def generate_vjp(residuals, grad_K):
    """Gradients to A_bar [KERNEL-7], B_bar and C [KERNEL-6]; None for the length."""
    A_bar, B_bar, C, support, K_like = residuals
    grad_K = _validate.cotangent("grad_K", grad_K, K_like)
    shape, length = K_like.shape[:-1], K_like.shape[-1]
    A = _rows(A_bar, shape)
    m0, m1 = np.empty_like(A), np.empty_like(A)
    moments(A, _validate.plain(grad_K).reshape(A.size, length), support, m0, m1)
    m0, m1 = m0.reshape(shape), m1.reshape(shape)
    return (
        _validate.unbroadcast(np.conj(C * B_bar) * m1, A_bar),  # [KERNEL-7]
        _validate.unbroadcast(np.conj(C) * m0, B_bar),  # [KERNEL-6]
        _validate.unbroadcast(np.conj(B_bar) * m0, C),  # [KERNEL-6]
        None,
    )


def _choose(method, length, threshold):
    if method == "auto":
        method = next(name for longest, name, _ in AUTO if length <= longest)
    if method == "hybrid":  # [KERNEL-9]
        return recursive if length <= threshold else log_parallel
    return _KERNELS[method]


def _rows(a, shape):
    """One contiguous complex value a row: kernels see one type for each precision."""
    rows = np.empty(shape, np.result_type(a.dtype, np.complex64))
    rows[...] = a
    return rows.reshape(-1)


def _support(A, length, cutoff):
    """How many samples have ``|A_bar|^t >= cutoff`` [KERNEL-11]."""
    support = np.full(A.shape, length, np.int64)
    if cutoff == 0:
        return support
    modulus = np.abs(A.astype(np.complex128))
    decaying = (modulus < 1) & (modulus > 0)
    with np.errstate(divide="ignore"):
        last = np.floor(
            np.log(cutoff) / np.log(modulus, where=decaying, out=np.full(A.shape, -1.0))
        )
    support[decaying] = np.minimum(length, last[decaying] + 1)
    support[modulus == 0] = min(length, 1)
    return support


def _examples(rng):
    draw = partial(complex_normal, rng)
    poles = partial(discrete_poles, rng)
    linear = (("B_bar",), ("C",))
    for length in (1, 2, 17, 64):
        args = poles(3), draw(3), draw(3), length
        yield Example(args, {}, f"L {length}", linear)
    args = poles(low=0.99), draw(), draw(), 1047
    yield Example(args, {}, "L 1047, |A_bar| in [0.99, 1)", linear)
    args = poles(2, 3, low=0.8, high=1.02), draw(3), draw(2, 1), 33
    yield Example(args, {}, "broadcast, some |A_bar| > 1", linear)
    args = rng.uniform(-1, 1, 4), rng.standard_normal(4), rng.standard_normal(4), 20
    yield Example(args, {}, "real", linear)
    args = poles(3, high=0.9), draw(3), draw(3), 300
    yield Example(args, {"method": "naive", "cutoff": 1e-3}, "cut off at 1e-3", linear)


register(
    "kernel",
    generate_fwd,
    generate_vjp,
    reference=lambda *args, method="auto", **options: reference.kernels.generate(*args, **options),
    examples=_examples,
    arguments=("A_bar", "B_bar", "C", "length"),
)
