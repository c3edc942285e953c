"""The arguments of the operator, checked and brought to one form, for every view of it.

Inside, time is last and contiguous: u, y (batch, H, L), weights (H, N), states (batch, H, N).
Weights may come in any shape that broadcasts to (H, N): a spectrum shared by all channels is (N,).
The kernels see contiguous complex weights, so that they are compiled once a precision.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate

__all__ = ["Operands", "operands"]


class Operands(NamedTuple):
    """The operator's arguments as its kernels take them, and as they were given."""

    A_bar: np.ndarray  # (H, N) complex, contiguous; dtA where that is the parameter
    B_bar: np.ndarray  # (H, N)
    C: np.ndarray  # (H, N), without the factor 2 of real output
    D: np.ndarray  # (H,) of y's dtype; zeros where there is none
    u: np.ndarray  # (batch, H, L), contiguous, real or complex
    x0: np.ndarray  # (batch, H, N) complex; zeros where there is none
    real: bool
    # (A_bar, B_bar, C, D, u, x0) as they came, converted to arrays; None where left out
    given: tuple

    @property
    def y_dtype(self):
        """Real output is real; complex output has the weights' dtype."""
        return self.A_bar.real.dtype if self.real else self.A_bar.dtype

    def cotangents(self, grad_out):
        """Check ``(grad_y, grad_x_last)``."""
        grad_y, grad_x_last = _validate.cotangents(grad_out, "grad_y", "grad_x_last")
        y_like = _validate.stand_in(self.u.shape, self.y_dtype)
        return (
            _validate.plain(_validate.cotangent("grad_y", grad_y, y_like)),
            _validate.plain(_validate.cotangent("grad_x_last", grad_x_last, self.x0)),
        )

    def pull_back(self, *grads):
        """Gradients in the shapes and dtypes of the given arguments [COMPLEX-4, COMPLEX-5].

        None stays None, and an argument that was left out has none.
        """
        with np.errstate(over="ignore"):  # infinite, as the output itself is for such poles
            return tuple(
                None
                if argument is None or grad is None
                else _validate.unbroadcast(grad, argument).astype(argument.dtype, copy=False)
                for grad, argument in zip(grads, self.given)
            )


def operands(A_bar, B_bar, C, D, u, x0, real, *, exponent=False):
    """Validate the operator's arguments.

    With ``exponent`` the first is dtA, the logarithm of A_bar, and may be in double precision
    beside data in single: a phase of many turns has no digits to spare.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, or u or D are complex for a real
        output.
    """
    _validate.flag("real", real)
    must_be_real = ("u", "D") if real else ()
    pole = "dtA" if exponent else "A_bar"
    values = {pole: A_bar, "B_bar": B_bar, "C": C, "D": D, "u": u, "x0": x0}
    wide = []
    if exponent and _validate.array(pole, A_bar).dtype in _validate.DOUBLE:
        wide = [_validate.array(pole, values.pop(pole))]
    given = wide + _validate.arrays(**values, real=must_be_real, optional=("D", "x0"))
    A_bar, B_bar, C, D, u, x0 = given
    _validate.shape("u", u, (-1, -1, None), meaning="(batch, H, L)")
    batch, H, _ = u.shape
    weights = _validate.broadcast(**{pole: A_bar, "B_bar": B_bar, "C": C})
    N = weights[-1] if weights else 1
    if len(weights) > 2 or N == 0 or (len(weights) == 2 and weights[0] not in (1, H)):
        raise ValueError(
            f"{pole} {A_bar.shape}, B_bar {B_bar.shape} and C {C.shape} have the shape {weights} "
            f"in common; it must broadcast to (H, N) with H = {H}, the channels of u, and N at "
            "least 1"
        )
    complex_dtype = np.result_type(u.dtype, np.complex64)
    y_dtype = complex_dtype.type(0).real.dtype if real else complex_dtype
    if D is not None and D.shape not in ((), (1,), (H,)):
        raise ValueError(f"D has shape {D.shape}; it must be ({H},) = (H,), or a scalar")
    if x0 is not None:
        _validate.shape("x0", x0, (batch, H, N), meaning="(batch, H, N)")

    def full(a):
        return np.array(np.broadcast_to(a, (H, N)), complex_dtype, order="C")

    return Operands(
        full(A_bar),
        full(B_bar),
        full(C),
        np.zeros(H, y_dtype) if D is None else np.array(np.broadcast_to(D, H), y_dtype),
        _validate.plain(u),
        np.zeros((batch, H, N), complex_dtype)
        if x0 is None
        else _validate.plain(x0.astype(complex_dtype, copy=False)),
        bool(real),
        tuple(given),
    )
