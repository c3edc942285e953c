"""The arguments of the DPLR operator, checked and brought to one form.

Parameters may come in double precision beside signals in single precision: tables are formed in
double precision anyway, and a rounded pole would cost digits that a long sequence multiplies.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate

__all__ = ["Operands", "parameters", "signals"]


class Operands(NamedTuple):
    """The signals of the operator as its views take them, and all arguments as they were given."""

    D: np.ndarray | None  # (H,) in double precision, real or complex as y
    u: np.ndarray  # (batch, H, L), real or complex
    x0: np.ndarray | None  # (batch, H, N) complex; None is zero
    real: bool
    sizes: tuple  # batch, H, N, L
    given: tuple  # all arguments as they came, converted to arrays; None where left out

    @property
    def y_dtype(self):
        """Of y, in u's precision: real for a real system."""
        return self.u.real.dtype if self.real else np.result_type(self.u, np.complex64)

    @property
    def x_dtype(self):
        """Of states, in u's precision."""
        return np.result_type(self.u, np.complex64)

    def cotangents(self, grad_out):
        """``(grad_y, grad_x_last)``, checked; None stays None where it may be left out."""
        grad_y, grad_x_last = _validate.cotangents(grad_out, "grad_y", "grad_x_last")
        batch, H, N, _ = self.sizes
        like_y = _validate.stand_in(self.u.shape, self.y_dtype)
        like_x = _validate.stand_in((batch, H, N), self.x_dtype)
        grad_y = _validate.cotangent("grad_y", grad_y, like_y)
        if grad_x_last is not None:
            grad_x_last = _validate.cotangent("grad_x_last", grad_x_last, like_x)
        return grad_y, grad_x_last

    def pull_back(self, *grads):
        """Gradients in the shapes, fields and precisions of the given arguments."""
        return tuple(
            None
            if argument is None or grad is None
            else _validate.unbroadcast(np.asarray(grad), argument).astype(
                argument.dtype, copy=False
            )
            for grad, argument in zip(grads, self.given)
        )


def parameters(names, values, *, optional=()):
    """``values`` as arrays of one precision, and their H, N and rank.

    ``names`` says what each is: P, Q, P_bar and Q_bar (H, r, N), D and dt (H,), others (H, N); the
    axis H, and all axes of D and dt, may be left out where channels share.
    """
    given = _validate.arrays(**dict(zip(names, values)), real=("dt",), optional=optional)
    H = rank = N = None
    for name, a in zip(names, given):
        axes = 1 if name in ("D", "dt") else 3 if name[0] in "PQ" else 2
        if a is None:
            continue
        wanted = {1: "(H,), or a scalar", 2: "(H, N) or (N,)", 3: "(H, r, N) or (r, N)"}[axes]
        if a.ndim not in (axes - 1, axes) or 0 in a.shape:
            raise ValueError(f"{name} has shape {a.shape}; it must be {wanted}, none of them 0")
        if axes > 1:
            N = _same(name, a, "N", a.shape[-1], N)
        if axes == 3:
            rank = _same(name, a, "the rank", a.shape[-2], rank)
        if a.ndim == axes and a.shape[0] > 1:
            H = _same(name, a, "H", a.shape[0], H)
    return given, H or 1, N, rank


def _same(name, a, what, size, others):
    if others is not None and size != others:
        raise ValueError(
            f"{name} has shape {a.shape}, where {what} is {size}; it must be {others}, as of the "
            "arguments before it"
        )
    return size


def signals(given, H, N, D, u, x0, real):
    """`Operands`, given the parameters of `parameters` in their order (D among them).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, or u or D are complex for a real
        output.
    """
    _validate.flag("real", real)
    u, x0 = _validate.arrays(u=u, x0=x0, real=("u",) if real else (), optional=("x0",))
    first = given[0]
    if first.dtype in _validate.SINGLE and u.dtype in _validate.DOUBLE:
        raise ValueError(
            f"u has dtype {u.dtype} beside parameters in single precision; it must have their "
            "precision, or single precision beside parameters in double"
        )
    if real and D is not None and D.dtype.kind == "c":
        raise ValueError(f"D has dtype {D.dtype}; it must be real for a real output")
    _validate.shape("u", u, (-1, -1, None), meaning="(batch, H, L)")
    batch, channels, L = u.shape
    if H not in (1, channels):
        raise ValueError(f"u has shape {u.shape}; it must be (batch, {H}, L), as the parameters")
    if x0 is not None:
        _validate.shape("x0", x0, (batch, channels, N), meaning="(batch, H, N)")
        x0 = x0.astype(np.result_type(u, np.complex64), copy=False)
    if D is not None:
        D = np.broadcast_to(D.astype(float if real else complex), channels)
    return Operands(D, u, x0, bool(real), (batch, channels, N, L), (*given, u, x0))


def spread(a, H, axes):
    """A parameter with its axis H written out, complex128 (real stays float64)."""
    a = a.astype(complex if axes > 1 else np.result_type(a, float))
    return np.broadcast_to(a, (H, *a.shape[max(a.ndim - axes + 1, 0) :]) if axes > 1 else (H,))
