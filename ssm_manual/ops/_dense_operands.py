"""The arguments of a dense system, checked and brought to one form: real, in blocks of two by two.

A complex number that multiplies from the left is the matrix [[Re, -Im], [Im, Re]], a complex vector
the real one (Re, Im); so N complex states are 2N real ones, p complex inputs 2p real ones, and a
kernel for real systems serves both [TABLE-12].
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.ops._dense_tables import Model

__all__ = ["DenseOperands", "dense_operands"]


class DenseOperands(NamedTuple):
    """The arguments as kernels take them, and as they were given."""

    model: Model  # real, float64, contiguous; zeros for no D
    u: np.ndarray  # (batch, H, p, L) real, contiguous, of the working precision
    x0: np.ndarray  # (batch, H, N)
    is_complex: bool  # then N, p and m are twice those given
    # (A_bar, B_bar, C, D, u, x0) as they came, converted to arrays; None where left out
    given: tuple

    @property
    def outputs(self):
        """Shapes and dtype of y and x_last."""
        _, _, C, _, u, _ = self.given
        batch, H, _, L = u.shape
        dtype = np.result_type(self.u.dtype, np.complex64) if self.is_complex else self.u.dtype
        return (batch, H, C.shape[1], L), (batch, H, C.shape[2]), dtype

    def cotangents(self, grad_out):
        """Check ``(grad_y, grad_x_last)``; both come back real."""
        grad_y, grad_x_last = _validate.cotangents(grad_out, "grad_y", "grad_x_last")
        y, x, dtype = self.outputs
        grad_y = _validate.cotangent("grad_y", grad_y, _validate.stand_in(y, dtype))
        grad_x = _validate.cotangent("grad_x_last", grad_x_last, _validate.stand_in(x, dtype))
        return signal(grad_y, self.is_complex, 2), signal(grad_x, self.is_complex, 2)

    def results(self, y, x_last):
        """Output and last state, complex where the system is."""
        return unsignal(y, self.is_complex, 2), unsignal(x_last, self.is_complex, 2)

    def pull_back(self, grads, grad_u, grad_x0):
        """Gradients in the fields and dtypes of the given arguments [COMPLEX-4].

        An argument that was left out has none.
        """
        fold = unmatrix if self.is_complex else np.asarray
        found = *(fold(a) for a in grads), *self.results(grad_u, grad_x0)
        with np.errstate(over="ignore"):  # infinite, as the output itself is for such systems
            return tuple(
                None if a is None else _validate.unbroadcast(g, a).astype(a.dtype, copy=False)
                for g, a in zip(found, self.given)
            )


def dense_operands(A_bar, B_bar, C, D, u, x0):
    """Validate the arguments of a dense system.

    Systems may be in double precision beside signals in single: tables are formed in double.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, or a value is not finite.
    """
    systems, signals = {"A_bar": A_bar, "B_bar": B_bar, "C": C, "D": D}, {"u": u, "x0": x0}
    weights = _validate.arrays(**systems, optional=("D",))
    if weights[0].dtype in _validate.DOUBLE:
        given = weights + _validate.arrays(**signals, optional=("x0",))
    else:
        given = _validate.arrays(**systems, **signals, optional=("D", "x0"))
    A, B, C, D, u, x0 = given
    _validate.shape("u", u, (-1, -1, None, None), meaning="(batch, H, p, L)")
    batch, H, p, _ = u.shape
    _validate.shape("A_bar", A, (H, -1, None), meaning="(H, N, N)")
    N = A.shape[1]
    _validate.shape("A_bar", A, (H, N, N), meaning="(H, N, N)")
    _validate.shape("B_bar", B, (H, N, p), meaning="(H, N, p)")
    _validate.shape("C", C, (H, None, N), meaning="(H, m, N)")
    if D is not None:
        _validate.shape("D", D, (H, C.shape[1], p), meaning="(H, m, p)")
    if x0 is not None:
        _validate.shape("x0", x0, (batch, H, N), meaning="(batch, H, N)")
    is_complex = any(a is not None and a.dtype.kind == "c" for a in given)
    straight = np.zeros((H, C.shape[1], p)) if D is None else D
    first = np.zeros((batch, H, N), u.dtype) if x0 is None else x0
    return DenseOperands(
        Model(*(matrix(a, is_complex) for a in (A, B, C, straight))),
        signal(u, is_complex, 2),
        signal(first, is_complex, 2),
        is_complex,
        tuple(given),
    )


def matrix(a, is_complex):
    """Matrices as float64, or as blocks [[Re, -Im], [Im, Re]] of twice the size."""
    if not is_complex:
        return _validate.plain(a.astype(np.float64, copy=False))
    out = np.empty((a.shape[0], 2 * a.shape[1], 2 * a.shape[2]))
    rows, columns = a.shape[1:]
    out[:, :rows, :columns] = out[:, rows:, columns:] = a.real
    out[:, rows:, :columns] = a.imag
    out[:, :rows, columns:] = -a.imag
    return out


def unmatrix(grad):
    """The adjoint of `matrix` for complex numbers: dL/dRe + i dL/dIm."""
    rows, columns = grad.shape[1] // 2, grad.shape[2] // 2
    real = grad[:, :rows, :columns] + grad[:, rows:, columns:]
    return real + 1j * (grad[:, rows:, :columns] - grad[:, :rows, columns:])


def signal(a, is_complex, axis):
    """A signal or state, or its real parts and then its imaginary parts along ``axis``."""
    if is_complex:
        a = np.concatenate([a.real, a.imag], axis=axis)
    return _validate.plain(a)


def unsignal(a, is_complex, axis):
    """The inverse of `signal`, and its adjoint too."""
    if not is_complex:
        return a
    real, imag = np.split(a, 2, axis=axis)
    out = np.empty(real.shape, np.result_type(a.dtype, np.complex64))
    out.real, out.imag = real, imag
    return out
