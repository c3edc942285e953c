"""The kernel of a diagonal plus low-rank system (S4), by its generating function.

    K_l = 2 Re(C A_bar^l B_bar),   A = diag(Lambda) - P Q^*                        [CAUCHY-1]

On a circle a little smaller than the unit circle the generating function of the first L samples is
a rational function of Cauchy sums [CAUCHY-8], and the kernel is its inverse Fourier transform. No
power of A_bar is formed but the one in `truncate`, nothing is divided by 1 + z, any length will do.
Derivation: docs/derivations/cauchy.md. Kernels: `_cauchy_rows`.
Cost: O(N (1 + r)^2 L) at the speed of matrix products, a Fourier transform of L samples, and the
O(N^3 log L) of `truncate`; three times that backward.
"""

from typing import NamedTuple

import numpy as np
import scipy.fft

from ssm_manual import _validate, reference
from ssm_manual._numba import threads
from ssm_manual.ops import _cauchy_rows as _rows
from ssm_manual.ops._dplr_arguments import System, system
from ssm_manual.ops._dplr_examples import systems
from ssm_manual.ops._dplr_power import OneStep
from ssm_manual.ops.registry import Example, register
from ssm_manual.ops.truncate import truncate_system, truncate_system_vjp

__all__ = ["cauchy", "cauchy_fwd", "cauchy_vjp"]

#: r^L, for nodes on a circle of radius r: by this factor, and no less, the last sample is damped.
DAMPING = 0.5

#: Error of K_0, relative to the largest sample, from which a kernel is refused.
SPOILT = 1e-6


def cauchy(Lambda, P, Q, B, C, dt, length, *, real=True):
    """``K_l = 2 Re(C A_bar^l B_bar)`` for l = 0, ..., length - 1 [CAUCHY-1].

    ``A_bar = (I - dt A / 2)^-1 (I + dt A / 2)`` and ``B_bar = (I - dt A / 2)^-1 dt B`` are the
    bilinear map of ``A = diag(Lambda) - sum_j P_j Q_j^*``.

    Parameters
    ----------
    Lambda : array_like
        Diagonal of A in 1/s, S + (N,); any finite value but 2/dt.
    P, Q : array_like
        Low-rank term, S + (rank, N): the unit of their product is 1/s. Tied: pass P twice and add
        up the two gradients.
    B, C : array_like
        Input and output weights, S + (N,). The leading shapes broadcast to a common S.
    dt : array_like
        Seconds a sample, of a shape that broadcasts to S; real and positive.
    length : int
        Number of samples, at least 0.
    real : bool
        True: one of each conjugate pair is stored, the conjugates take part in the low-rank term,
        and K is real. False: N states as they stand, ``K_l = C A_bar^l B_bar``, complex.

    Returns
    -------
    K : ndarray
        S + (length,), real or complex.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, dt is not positive, ``length`` is
        negative, A has an eigenvalue 2/dt, A_bar^L is beyond the range of a double, A_bar has an
        unstable eigenvalue on a node, 2^(1/L) from the origin, or dt A is so large that no digits
        are left.

    Notes
    -----
    All in double precision, rounded once: with parameters in single precision the error is that
    rounding. In double precision some 10 to 100 units of 2^-53, relative to the largest sample, for
    stable systems with tied P and dt |A| from 0 to some 100: LegS, LegT, FouT, integrators
    [CAUCHY-23]. Oscillations that last for all L samples have some L units, as powers of a rounded
    A_bar do. A kernel of another length differs by as much. Memory beside K: 32 bytes a frequency
    and rank, kept for the backward pass, and two matrices of 2N x 2N a channel. Channels are shared
    out among threads, with the same bits for any number of them. While the call lasts, BLAS runs on
    one thread in the whole process.

    References
    ----------
    A. Gu, K. Goel, C. Ré (2022), "Efficiently modeling long sequences with structured state spaces"
    (S4), section 3 and appendix C.3. There C_tilde is the parameter, z = -1 needs care, the rank is
    one, and gradients are left to automatic differentiation.

    Examples
    --------
    >>> import numpy as np
    >>> P = np.zeros((1, 1))
    >>> cauchy([-1.0 + 0j], P, P, [1.0 + 0j], [1.0 + 0j], 2 / 3, 3).round(6)  # A_bar = B_bar = 1/2
    array([1.  , 0.5 , 0.25])
    """
    return cauchy_fwd(Lambda, P, Q, B, C, dt, length, real=real)[0]


class Residuals(NamedTuple):
    """What the backward pass needs; resolvents and powers are formed again."""

    system: System
    weights: System  # the same with C_tilde in the place of C [CAUCHY-4]
    step: OneStep
    circle: _rows.Circle
    # (H, r, F) complex: the row and the column of the Woodbury identity [CAUCHY-13], 32 r bytes a
    # frequency, which spare the backward pass the forward sums
    eta: np.ndarray
    xi: np.ndarray
    K_like: np.ndarray  # the output's shape and dtype, owning no memory


@_validate.sound("K")
def cauchy_fwd(Lambda, P, Q, B, C, dt, length, *, real=True):
    """`cauchy` and its residuals."""
    s = system(real, Lambda=Lambda, P=P, Q=Q, B=B, C=C, dt=dt)
    truncated, step, length = truncate_system(s, length)
    damped = s._replace(C=(1 - DAMPING) * s.C + DAMPING * truncated)  # [CAUCHY-4]
    circle = _circle(length, s.real)
    (H, rank, _), F = s.P.shape, len(circle.turn)
    spectrum = np.empty((H, F), np.complex128)
    eta, xi = (np.empty((H, rank, F), np.complex128) for _ in range(2))
    _rows.sums(s.pole, _weights(damped)[1], circle, spectrum, eta, xi)
    K = _from_spectrum(spectrum, length, s.real)
    _check(K, s, step)
    dtype = np.result_type(s.given["C"].dtype, np.complex64)
    with np.errstate(over="ignore"):  # infinite, where a single-precision number cannot hold it
        K = K.reshape(*s.shape, length).astype(dtype.type(0).real.dtype if s.real else dtype)
    like = _validate.stand_in(K.shape, K.dtype)
    return K, Residuals(s, damped, step, circle, eta, xi, like)


@_validate.sound("grad_Lambda", "grad_P", "grad_Q", "grad_B", "grad_C", "grad_dt", "grad_length")
def cauchy_vjp(residuals, grad_K):
    """Gradients to Lambda, P, Q, B, C and dt [CAUCHY-12 to 21]; None for the length."""
    s, damped, step, circle, eta, xi, K_like = residuals
    grad_K = _validate.cotangent("grad_K", grad_K, K_like)
    (H, _, N), length = s.P.shape, K_like.shape[-1]
    factors, weights = _weights(damped)
    grad_weights, grad_pole = np.zeros_like(weights), np.zeros((H, 2, N))
    g = _to_spectrum(grad_K.reshape(H, length), circle, s.real)
    _rows.moments(s.pole, weights, circle, g, eta, xi, grad_weights, grad_pole)
    *grads, to_B, to_damped = _from_weights(damped, factors, grad_weights, grad_pole)
    # Lambda, P and Q act on the sums and through the truncation [CAUCHY-4].
    *more, to_C = truncate_system_vjp(s, step, length, DAMPING * to_damped)
    to_pole, to_P, to_Q = (a + b for a, b in zip(grads, more))
    to_C += (1 - DAMPING) * to_damped
    return *s.pull_back(Lambda=to_pole, P=to_P, Q=to_Q, B=to_B, C=to_C), None


def _check(K, s, step):
    """Refuse a kernel that a node on a pole has spoilt: K_0 = C B_bar is known [CAUCHY-22]."""
    if K.shape[1] == 0:
        return
    terms = s.C * step.input_weights(s.B, s.real)
    first = np.sum(terms, axis=1)
    error = np.abs(K[:, 0] - (2 * first.real if s.real else first))
    scale = np.maximum(np.max(np.abs(K), axis=1), np.sum(np.abs(terms), axis=1))
    if not np.all(error <= SPOILT * scale):  # NaN is not, either
        raise ValueError(
            f"Lambda, P, Q: A_bar must have no eigenvalue on the circle of radius 2^(1/length); at "
            f"length {K.shape[1]} an unstable one lies on a node there: move it or change the "
            "length; or else dt A is too large for any digits of the kernel to be left"
        )


def _circle(length, real):
    """The nodes ``z = exp(-zeta)``, zeta = sigma + i w [CAUCHY-3, 5]; the upper half if real."""
    q, step = np.arange(length // 2 + 1 if real and length else length), np.pi / max(length, 1)
    sigma = -np.log(DAMPING) / (2 * max(length, 1))
    # w = q step, turned to where the sine keeps its digits: near w = pi / 2 and w = pi, too.
    sin, cos = np.sin(np.minimum(q, length - q) * step), np.sin((length - 2 * q) * (step / 2))
    S = np.sinh(sigma) * cos + 1j * np.cosh(sigma) * sin
    C = np.cosh(sigma) * cos + 1j * np.sinh(sigma) * sin
    if real:
        numerator, slopes = (S, -C), (C * C, S * C)
        slopes = slopes[0].real, slopes[0].imag, slopes[1].real, slopes[1].imag
    else:
        numerator, slopes = (
            (np.ones_like(S), 1j * np.ones_like(S)),
            (C.real, C.imag, -C.imag, C.real),
        )
    parts = S.real, S.imag, C.real, C.imag
    return _rows.Circle(np.stack(parts), np.stack(numerator), S + C, np.stack(slopes), real)


def _workers(size):
    return threads() if size >= 1 << 16 else 1


def _from_spectrum(spectrum, length, real):
    """K from the generating function at the nodes [CAUCHY-3]."""
    if length == 0:
        return spectrum.real if real else spectrum
    transform = scipy.fft.irfft if real else scipy.fft.ifft
    K = transform(spectrum, length, workers=_workers(spectrum.size))
    return np.multiply(K, DAMPING ** (-np.arange(length) / length), out=K)


def _to_spectrum(grad_K, circle, real):
    """The cotangent of the spectrum before its turn: the adjoint of the transform [CAUCHY-12]."""
    length = grad_K.shape[1]
    if length == 0:
        return grad_K.astype(np.complex128)
    g = grad_K * DAMPING ** (-np.arange(length) / length)
    transform, turn = (scipy.fft.rfft if real else scipy.fft.fft), circle.turn.conj()
    g = transform(g, norm="forward", workers=_workers(g.size))
    if real:  # an inner frequency stands for its conjugate too
        turn[1 : (length + 1) // 2] *= 2
    return np.multiply(g, turn, out=g)


def _weights(s):
    """The terms left_a right_b (H, 1 + r, 1 + r, N), and their real weights [CAUCHY-8, 9]."""
    left = np.concatenate([s.C[:, None], s.Q], axis=1)
    right = np.concatenate([s.B[:, None], s.P], axis=1)
    terms = left[:, :, None] * right[:, None]
    H, N = s.pole.shape
    flat = terms.reshape(H, -1, N)
    if s.real:
        pair = 2 * flat.real, 2 * (flat * s.pole.conj()[:, None]).real
    else:
        pair = flat.real, flat.imag
    return (left, right, terms), np.ascontiguousarray(np.stack(pair, axis=2))


def _from_weights(s, factors, grad_weights, grad_pole):
    """Gradients to pole, P, conj(Q), B and C_tilde [CAUCHY-14, 15]."""
    left, right, terms = factors
    first, second = (grad_weights[:, :, i].reshape(terms.shape) for i in range(2))
    m0, m1 = grad_pole[:, 0], grad_pole[:, 1]
    if s.real:
        grad_terms = 2 * (first + second * s.pole[:, None, None])
        to_pole = 2 * np.sum(second * terms, axis=(1, 2)) + 2 * (s.pole * m0 - m1)
    else:
        grad_terms = first + 1j * second
        to_pole = -(m0 + 1j * m1)
    to_left = np.sum(grad_terms * right.conj()[:, None], axis=2)
    to_right = np.sum(grad_terms * left.conj()[:, :, None], axis=1)
    return to_pole, to_right[:, 1:].copy(), to_left[:, 1:].copy(), to_right[:, 0], to_left[:, 0]


def _examples(rng):
    linear = (("B",), ("C",))
    for note, real, args, length in systems(rng):
        yield Example((*args, length), {"real": real}, note, linear)


register(
    "cauchy",
    cauchy_fwd,
    cauchy_vjp,
    reference=reference.cauchy.cauchy,
    examples=_examples,
    arguments=("Lambda", "P", "Q", "B", "C", "dt", "length"),
)
