"""From continuous to discrete time, elementwise on diagonal A.

``tustin`` is the bilinear map, ``zoh`` the zero-order hold:

    x'(s) = A x(s) + B u(s)   ->   x_t = A_bar x_{t-1} + B_bar u_t

Derivations: docs/derivations/tustin.md, docs/derivations/zoh.md. These are small elementwise maps
(H x N values beside the H x N x L of a scan), so they are written in NumPy and stay readable.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops._examples import complex_normal
from ssm_manual.ops.registry import Example, register

__all__ = ["tustin", "tustin_fwd", "tustin_vjp", "zoh", "zoh_fwd", "zoh_vjp"]

INPUT_SCALES = ("dt", "sqrt_dt")


# ------------------------------------------------------------------------------------------ Tustin


def tustin(A, B, dt, *, input_scale="dt"):
    """``A_bar = (1 + z) / (1 - z)``, ``B_bar = s B / (1 - z)``, ``z = dt A / 2`` [TUSTIN-1, 2, 3].

    The bilinear transform (trapezium rule) of a diagonal system. It maps Re A < 0 into the unit
    disc.

    Parameters
    ----------
    A : array_like
        Poles, in 1/s, real or complex; any finite value but 2/dt.
    B : array_like
        Input weights, real or complex.
    dt : array_like
        Sampling interval, in seconds per sample; real and positive. A, B and dt broadcast against
        each other.
    input_scale : {"dt", "sqrt_dt"}
        The factor s: ``dt`` is the bilinear transform of the system, ``sqrt_dt`` the variant that
        keeps the energy of the input at any sampling rate. Both are in use.

    Returns
    -------
    A_bar, B_bar : ndarray
        Discrete poles (no unit) and input weights, each of the broadcast shape of its own factors.

    Raises
    ------
    ValueError
        If an argument is not finite, dt is not positive, dtypes or shapes do not match,
        ``input_scale`` is unknown, or a pole lies exactly at 2/dt, where the transform has its own
        pole.

    Notes
    -----
    Cost: a few operations an element. Relative error: a few units of rounding, but for cancellation
    in 1 + z or 1 - z when dt A is close to -2 or 2.

    References
    ----------
    A. Tustin (1947), J. IEE 94 IIA; Gu, Goel, Ré (2022), "Efficiently modeling long sequences with
    structured state spaces", eq. 3, which has this map with ``input_scale="dt"``.

    Examples
    --------
    >>> A_bar, B_bar = tustin(-1 + 2j, 1.0, 0.1)
    >>> complex(A_bar.round(6)), complex(B_bar.round(6))
    ((0.88764+0.179775j), (0.094382+0.008989j))
    """
    return tustin_fwd(A, B, dt, input_scale=input_scale)[0]


class TustinResiduals(NamedTuple):
    """What the backward pass of `tustin` needs."""

    A: np.ndarray  # the arguments, for their shapes and values
    B: np.ndarray
    dt: np.ndarray
    reciprocal: np.ndarray  # 1 / (1 - dt A / 2), which every derivative has
    input_scale: str


@_validate.sound("A_bar", "B_bar")
def tustin_fwd(A, B, dt, *, input_scale="dt"):
    """`tustin` and its residuals."""
    A, B, dt = _arguments(A, B, dt)
    _validate.one_of("input_scale", input_scale, INPUT_SCALES)
    z = _product(A, dt) / 2
    if np.any(z == 1):
        raise ValueError("A has a pole at 2/dt, where the bilinear transform is not defined")
    reciprocal = 1 / (1 - z)
    scale = dt if input_scale == "dt" else np.sqrt(dt)
    A_bar = (1 + z) * reciprocal  # [TUSTIN-1]
    B_bar = scale * B * reciprocal  # [TUSTIN-2], [TUSTIN-3]
    return (A_bar, B_bar), TustinResiduals(A, B, dt, reciprocal, input_scale)


@_validate.sound("grad_A", "grad_B", "grad_dt")
def tustin_vjp(residuals, grad_out):
    """Gradients to A, B and dt [TUSTIN-9], from the cotangents of ``(A_bar, B_bar)``."""
    A, B, dt, reciprocal, input_scale = residuals
    grad_A_bar, grad_B_bar = _cotangents(grad_out, A, B, dt)
    square = reciprocal * reciprocal
    root = np.sqrt(dt)
    scale = dt if input_scale == "dt" else root
    dA_bar_dA = dt * square  # [TUSTIN-4]
    dA_bar_ddt = A * square  # [TUSTIN-5]
    dB_bar_dB = scale * reciprocal  # [TUSTIN-6]
    dB_bar_dA = scale * B * (dt / 2) * square  # [TUSTIN-7]
    if input_scale == "dt":
        dB_bar_ddt = B * square  # [TUSTIN-8]
    else:
        dB_bar_ddt = B * (1 + dt * A / 2) * square / (2 * root)  # [TUSTIN-8]
    return _pull_back(
        residuals,
        dA_bar_dA.conj() * grad_A_bar + dB_bar_dA.conj() * grad_B_bar,
        dB_bar_dB.conj() * grad_B_bar,
        dA_bar_ddt.conj() * grad_A_bar + dB_bar_ddt.conj() * grad_B_bar,
    )


# --------------------------------------------------------------------------------- zero-order hold


def zoh(A, B, dt):
    """``A_bar = exp(dt A)``, ``B_bar = dt B phi1(dt A)``, ``phi1(z) = (e^z - 1) / z`` [ZOH-1, 2].

    Zero-order hold: exact for an input that stays constant during a sample.

    Parameters
    ----------
    A : array_like
        Poles, in 1/s, real or complex; A = 0 is allowed (B_bar = dt B).
    B : array_like
        Input weights, real or complex.
    dt : array_like
        Sampling interval, in seconds per sample; real and positive. A, B and dt broadcast against
        each other.

    Returns
    -------
    A_bar, B_bar : ndarray
        Discrete poles (no unit) and input weights.

    Raises
    ------
    ValueError
        If an argument is not finite, dt is not positive, or dtypes or shapes do not match.

    Notes
    -----
    The closed forms cancel near z = 0, where training usually begins: at dt 1e-3 and Re A = -1/2
    the textbook derivative of phi1 is wrong by tens of per cent in complex64. Here phi1 is formed
    by a complex `expm1` [ZOH-3] and its derivative by a series for |z| < 1 [ZOH-4]. Cost: one
    exponential, one sine and one cosine an element.

    References
    ----------
    Gu, Gupta, Goel, Ré (2022), "On the parameterization and initialization of diagonal state space
    models", section 3, which has ``B_bar = (A_bar - 1) B / A``: the same, but for A near zero.

    Examples
    --------
    >>> A_bar, B_bar = zoh(0.0, 2.0, 0.1)
    >>> float(A_bar), float(B_bar)
    (1.0, 0.2)
    """
    return zoh_fwd(A, B, dt)[0]


class ZohResiduals(NamedTuple):
    """What the backward pass of `zoh` needs."""

    A: np.ndarray  # the arguments, for their shapes and values
    B: np.ndarray
    dt: np.ndarray
    exponential: np.ndarray  # A_bar
    phi1: np.ndarray  # (e^z - 1) / z


@_validate.sound("A_bar", "B_bar")
def zoh_fwd(A, B, dt):
    """`zoh` and its residuals."""
    A, B, dt = _arguments(A, B, dt)
    z = _product(A, dt)
    if np.any(z.real > np.log(np.finfo(z.dtype).max)):
        raise ValueError("A is too large for dt: exp(dt A) lies beyond the range of its dtype")
    exponential, phi1 = np.exp(z), _phi1(z)
    return (exponential, dt * B * phi1), ZohResiduals(A, B, dt, exponential, phi1)  # [ZOH-1, 2]


@_validate.sound("grad_A", "grad_B", "grad_dt")
def zoh_vjp(residuals, grad_out):
    """Gradients to A [ZOH-5], B [ZOH-6] and dt [ZOH-7] from those of ``(A_bar, B_bar)``."""
    A, B, dt, exponential, phi1 = residuals
    grad_A_bar, grad_B_bar = _cotangents(grad_out, A, B, dt)
    dB_bar_dA = B * dt * dt * _phi1_derivative(dt * A, exponential, phi1)
    return _pull_back(
        residuals,
        (dt * exponential).conj() * grad_A_bar + dB_bar_dA.conj() * grad_B_bar,  # [ZOH-5]
        (dt * phi1).conj() * grad_B_bar,  # [ZOH-6]
        (A * exponential).conj() * grad_A_bar + (B * exponential).conj() * grad_B_bar,  # [ZOH-7]
    )


def _expm1(z):
    """``exp(z) - 1`` without cancellation for complex z, which NumPy's own has [ZOH-3]."""
    if z.dtype.kind != "c":
        return np.expm1(z)
    sine = np.sin(z.imag / 2)
    out = np.empty_like(z)
    out.real = np.expm1(z.real) * np.cos(z.imag) - 2 * sine * sine
    out.imag = np.exp(z.real) * np.sin(z.imag)
    return out


def _phi1(z):
    """``(e^z - 1) / z``, 1 at z = 0."""
    at_zero = np.abs(z) < np.finfo(z.dtype).tiny  # where a complex quotient overflows, too
    return np.where(at_zero, z.dtype.type(1), _expm1(z) / np.where(at_zero, z.dtype.type(1), z))


def _phi1_derivative(z, exponential, phi1):
    """``phi1'(z) = (e^z - phi1(z)) / z``, by its series for |z| < 1 [ZOH-4]."""
    near = np.abs(z) < 1
    w = np.where(near, z, 0)
    series = np.zeros_like(w)
    for k in reversed(range(19)):  # Horner's rule; 19 terms leave less than 2^-53 at |z| = 1
        series = series * w + z.real.dtype.type((k + 1) / math.factorial(k + 2))
    far = np.where(near, z.dtype.type(1), z)
    return np.where(near, series, (exponential - phi1) / far)


# ---------------------------------------------------------------------------------- shared by both


def _arguments(A, B, dt):
    A, B, dt = _validate.arrays(A=A, B=B, dt=dt, real=("dt",))
    _validate.broadcast(A=A, B=B, dt=dt)
    if np.any(dt <= 0):
        raise ValueError(f"dt is {_validate.show(dt)}; it must be positive (seconds per sample)")
    return A, B, dt


def _product(A, dt):
    """``dt A``, refused where it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = dt * A
    if not np.isfinite(z).all():
        raise ValueError("A is too large for dt: dt A lies beyond the range of its dtype")
    return z


def _cotangents(grad_out, A, B, dt):
    grad_A_bar, grad_B_bar = _validate.cotangents(grad_out, "grad_A_bar", "grad_B_bar")
    A_bar = np.empty(np.broadcast_shapes(A.shape, dt.shape), A.dtype)
    B_bar = np.empty(np.broadcast_shapes(A_bar.shape, B.shape), np.result_type(A, B))
    return (
        _validate.cotangent("grad_A_bar", grad_A_bar, A_bar),
        _validate.cotangent("grad_B_bar", grad_B_bar, B_bar),
    )


def _pull_back(residuals, grad_A, grad_B, grad_dt):
    """Sum over broadcast axes [COMPLEX-5]; take the real part for a real argument [COMPLEX-4]."""
    return (
        _validate.unbroadcast(grad_A, residuals.A),
        _validate.unbroadcast(grad_B, residuals.B),
        _validate.unbroadcast(grad_dt, residuals.dt),
    )


def _examples(rng, **options):
    def draw(*shape):
        return complex_normal(rng, *shape)

    def poles(shape, size=10.0):
        return -rng.uniform(0.05, 1, shape) * size + 1j * size * rng.standard_normal(shape)

    linear = (("B",),)
    # dt |A| near 1, where every conjugate and every cross term shows.
    yield Example((poles((3, 4)), draw(3, 4), 0.1), options, "dt |A| near 1", linear)
    yield Example(
        (poles((3, 4)), draw(3, 4), rng.uniform(0.05, 0.2, (3, 1))),
        options,
        "dt per channel",
        linear,
    )
    yield Example(
        (poles((4,)), np.ones(()), rng.uniform(0.05, 0.2, (4,))), options, "B shared", linear
    )
    yield Example(
        (-rng.uniform(1, 9, (5,)), rng.standard_normal(5), 0.1), options, "real A, B", linear
    )
    yield Example((-rng.uniform(1, 9, (5,)), draw(5), 0.1), options, "real A, complex B", linear)
    yield Example((poles((7,), 0.5), draw(7), 1e-3), options, "dt |A| 5e-4", linear)
    yield Example((poles((2, 3, 2)), draw(3, 2), 0.3), options, "three axes", linear)


for _name, _scale in [("tustin", "dt"), ("tustin_sqrt_dt", "sqrt_dt")]:
    register(
        _name,
        tustin_fwd,
        tustin_vjp,
        reference=reference.discretize.tustin,
        examples=partial(_examples, input_scale=_scale),
        arguments=("A", "B", "dt"),
    )
register(
    "zoh",
    zoh_fwd,
    zoh_vjp,
    reference=reference.discretize.zoh,
    examples=_examples,
    arguments=("A", "B", "dt"),
)
