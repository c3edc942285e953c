"""From continuous to discrete time, for dense systems.

    x'(s) = A x(s) + B u(s)   ->   x_t = A_bar x_{t-1} + B_bar u_t

``tustin`` is the bilinear map, ``zoh`` the zero-order hold by the matrix exponential:

    A_bar = (I - dt A/2)^-1 (I + dt A/2),   B_bar = (I - dt A/2)^-1 dt B        [DENSE-3]
    [[A_bar, B_bar], [0, I]] = exp([[dt A, dt B], [0, 0]])                      [DENSE-5]

Derivation: docs/derivations/dense.md. Diagonal systems have `discretize`, elementwise.

Design: a handful of products of N x N matrices beside the L steps of a sequence, so this is NumPy
and LAPACK, over all systems at once. Everything is computed in double precision and rounded once.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.linalg

from ssm_manual import _validate, reference
from ssm_manual._blas import single_threaded
from ssm_manual.ops._dense_examples import dense_matrices
from ssm_manual.ops._examples import complex_normal
from ssm_manual.ops.registry import Example, register

__all__ = ["tustin", "tustin_fwd", "tustin_vjp", "zoh", "zoh_fwd", "zoh_vjp"]


class Residuals(NamedTuple):
    """What the backward pass needs; the factors are cheap beside a sequence, so formed again."""

    A: np.ndarray  # as given
    B: np.ndarray
    dt: np.ndarray
    # in double precision, before the rounding to the output
    A_bar: np.ndarray
    B_bar: np.ndarray


# ------------------------------------------------------------------------------------------ Tustin


def tustin(A, B, dt):
    """``A_bar = (I - dt A/2)^-1 (I + dt A/2)``, ``B_bar = (I - dt A/2)^-1 dt B`` [DENSE-3].

    The bilinear transform (trapezium rule) of dense systems. It maps matrices whose eigenvalues
    have negative real parts to matrices whose eigenvalues lie inside the unit disc.

    Parameters
    ----------
    A : array_like
        State matrices (H, N, N), in 1/s, real or complex; no eigenvalue at 2/dt.
    B : array_like
        Input matrices (H, N, p), real or complex; p may be 0.
    dt : array_like
        Sampling intervals, in seconds per sample; real and positive, (H,) or a scalar.

    Returns
    -------
    A_bar : ndarray
        (H, N, N), no unit.
    B_bar : ndarray
        (H, N, p).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, dt is not positive, or A has an
        eigenvalue at 2/dt (to rounding), where the map has its pole.

    Notes
    -----
    Cost: one solve of N equations a system, two in the backward pass; no inverse is formed. Digits
    are lost with the condition of ``I - dt A/2``, after a scaling of its rows. [TUSTIN-1, 2] are
    the same map of a diagonal system.

    Examples
    --------
    >>> A_bar, B_bar = tustin([[[-1.0, 1.0], [0.0, -1.0]]], [[[0.0], [1.0]]], 1.0)
    >>> A_bar.round(4)
    array([[[0.3333, 0.4444],
            [0.    , 0.3333]]])
    """
    return tustin_fwd(A, B, dt)[0]


@_validate.sound("A_bar", "B_bar")
def tustin_fwd(A, B, dt):
    """`tustin` and its residuals."""
    A, B, dt, wide_A, wide_B, step = _arguments(A, B, dt)
    N = A.shape[-1]
    Z = step * wide_A / 2
    X, identity = np.eye(N) - Z, np.eye(N)
    with single_threaded(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            solved = _solve(X, identity + Z, _in_the_field_of(A, step * wide_B))  # [DENSE-3]
            # The condition that a scaling of rows cannot change: a fast and a slow pole are
            # harmless, lost rows are not. A_bar + I is twice the inverse.
            inverse = np.abs(solved[..., :N] + identity) / 2
            condition = np.sum(inverse @ np.abs(X), axis=-1).max(axis=-1)
            lost = ~(condition < 1 / np.finfo(np.float64).eps)
        except np.linalg.LinAlgError:
            lost = np.array([np.linalg.matrix_rank(x) < N for x in X])
            lost = lost if lost.any() else np.ones(len(X), bool)
    if lost.any():
        raise ValueError(
            f"A has an eigenvalue at 2/dt (to rounding) in system {int(np.argmax(lost))}; Tustin's "
            "map has its pole there, so I - dt A/2 must have an inverse"
        )
    A_bar, B_bar = solved[..., :N], _out_again(solved[..., N:], A, B)
    return _rounded(A, B, A_bar, B_bar), Residuals(A, B, dt, A_bar, B_bar)


@_validate.sound("grad_A", "grad_B", "grad_dt")
def tustin_vjp(residuals, grad_out):
    """Gradients to A, B and dt [DENSE-4] from the cotangents of ``(A_bar, B_bar)``."""
    A, B, dt, _, B_bar = residuals
    grad_A_bar, grad_B_bar = _cotangents(grad_out, A, B)
    *_, wide_A, wide_B, step = _arguments(A, B, dt)
    N = A.shape[-1]
    X = np.eye(N) - step * wide_A / 2
    with single_threaded():
        S = _solve(_adjoint(X), grad_A_bar, grad_B_bar)
        S_A, S_B = S[..., :N], S[..., N:]
        # 2 S_A X^-*, by a solve for its conjugate transpose: A_bar + I = 2 X^-1 would cancel where
        # dt A is large.
        E = 2 * _adjoint(np.linalg.solve(X, _adjoint(S_A))) + S_B @ _adjoint(B_bar)
    grad_dt = _inner(E, wide_A) / 2 + _inner(S_B, wide_B)  # [DENSE-4]
    return _pull_back(residuals, step / 2 * E, step * S_B, grad_dt)


def _solve(X, *columns):
    """``X^-1 [columns]``, one factorisation for all of them."""
    dtype = np.result_type(X, *columns)
    return np.linalg.solve(X, np.concatenate([c.astype(dtype) for c in columns], axis=-1))


# ---------------------------------------------------------------------------------- zero-order hold


def zoh(A, B, dt):
    """``A_bar = exp(dt A)``, ``B_bar = (integral of exp(s A) ds, 0 to dt) B`` [DENSE-5].

    Exact for an input that stays constant during each sample; A need not have an inverse.

    Parameters
    ----------
    A : array_like
        State matrices (H, N, N), in 1/s, real or complex.
    B : array_like
        Input matrices (H, N, p), real or complex; p may be 0.
    dt : array_like
        Sampling intervals, in seconds per sample; real and positive, (H,) or a scalar.

    Returns
    -------
    A_bar : ndarray
        (H, N, N), no unit.
    B_bar : ndarray
        (H, N, p).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, dt is not positive, or exp(dt A)
        lies beyond the range of double precision or of the output's dtype.

    Notes
    -----
    Cost: two exponentials a system (scaling and squaring), of N and N + p rows, one of 2 (N + p)
    in the backward pass, whose upper right block is the gradient [DENSE-7]. The exponential of a
    matrix that is far from normal loses digits. [ZOH-1, 2] are the same map of a diagonal system.

    Examples
    --------
    A double integrator, whose matrix is singular:

    >>> A_bar, B_bar = zoh([[[0.0, 1.0], [0.0, 0.0]]], [[[0.0], [1.0]]], 0.5)
    >>> A_bar
    array([[[1. , 0.5],
            [0. , 1. ]]])
    >>> B_bar[0, :, 0]
    array([0.125, 0.5  ])
    """
    return zoh_fwd(A, B, dt)[0]


@_validate.sound("A_bar", "B_bar")
def zoh_fwd(A, B, dt):
    """`zoh` and its residuals."""
    A, B, dt, wide_A, wide_B, step = _arguments(A, B, dt)
    N = A.shape[-1]
    scale = _power_of_two(step * wide_B)
    A_bar = _exponential(step * wide_A)  # by itself: its last bits must not depend on B
    columns = _in_the_field_of(A, step * wide_B / scale)
    columns = _exponential(_augmented(step * wide_A, columns))[..., :N, N:]  # [DENSE-5]
    B_bar = scale * _out_again(columns, A, B)
    out = _rounded(A, B, A_bar, B_bar)
    if not all(np.isfinite(a).all() for a in out):
        raise ValueError("A is too large for dt: exp(dt A) lies beyond the range of its dtype")
    return out, Residuals(A, B, dt, A_bar, B_bar)


@_validate.sound("grad_A", "grad_B", "grad_dt")
def zoh_vjp(residuals, grad_out):
    """Gradients to A, B and dt [DENSE-8] from the cotangents of ``(A_bar, B_bar)``."""
    A, B, dt, A_bar, _ = residuals
    grad_A_bar, grad_B_bar = _cotangents(grad_out, A, B)
    *_, wide_A, wide_B, step = _arguments(A, B, dt)
    N = A.shape[-1]
    scale = _power_of_two(step * wide_B)
    X = _augmented(step * wide_A, step * wide_B / scale)
    G = _augmented(grad_A_bar, scale * grad_B_bar)
    size = _power_of_two(
        G
    )  # the result is linear in G; a large one would cost squarings and digits
    n = X.shape[-1]
    blocks = np.zeros((len(X), 2 * n, 2 * n), np.result_type(X, G))
    blocks[:, :n, :n] = blocks[:, n:, n:] = _adjoint(X)
    blocks[:, :n, n:] = G / size
    grad_X = size * _exponential(blocks)[:, :n, n:]  # [DENSE-7]
    grad_A, grad_B = step * grad_X[:, :N, :N], step * grad_X[:, :N, N:] / scale
    # The derivative of an integral to its upper limit is the integrand there.
    grad_dt = _inner(grad_A_bar, wide_A @ A_bar) + _inner(grad_B_bar, A_bar @ wide_B)  # [DENSE-8]
    return _pull_back(residuals, grad_A, grad_B, grad_dt)


def _augmented(A, B):
    """``[[A, B], [0, 0]]``, square, of every system."""
    H, N, p = B.shape
    out = np.zeros((H, N + p, N + p), np.result_type(A, B))
    out[:, :N, :N], out[:, :N, N:] = A, B
    return out


def _exponential(X):
    with single_threaded(), np.errstate(over="ignore", invalid="ignore"):
        return scipy.linalg.expm(X)


def _power_of_two(M):
    """Near the largest element of each matrix, at least 2^-500; dividing by it rounds nothing."""
    largest = np.max(np.abs(M), axis=(-2, -1), keepdims=True, initial=2.0**-500)
    return np.exp2(np.floor(np.log2(largest)))


# ---------------------------------------------------------------------------------- shared by both


def _arguments(A, B, dt):
    """The arguments as given and in double precision, dt (H, 1, 1)."""
    A, B, dt = _validate.arrays(A=A, B=B, dt=dt, real=("dt",))
    _validate.shape("A", A, (-1, -1, -1), meaning="(H, N, N)")
    H, N, _ = _validate.shape("A", A, (A.shape[0],) + 2 * A.shape[1:2], meaning="(H, N, N)").shape
    _validate.shape("B", B, (H, N, None), meaning="(H, N, p)")
    if dt.ndim:
        _validate.shape("dt", dt, (H,), meaning="(H,), or a scalar")
    if np.any(dt <= 0):
        raise ValueError(f"dt is {_validate.show(dt)}; it must be positive (seconds per sample)")
    wide = [a.astype(np.result_type(a, np.float64), copy=False) for a in (A, B)]
    step = np.broadcast_to(dt, H)[:, None, None].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if not all(np.isfinite(step * a).all() for a in wide):
            raise ValueError(
                "dt is too large for A or B: dt A or dt B lies beyond the range of double precision"
            )
    return A, B, dt, *wide, step


def _in_the_field_of(A, B):
    """Complex columns beside a real matrix as real ones, twice as many."""
    if A.dtype.kind == "c" or B.dtype.kind != "c":
        return B
    return np.concatenate([B.real, B.imag], axis=-1)


def _out_again(columns, A, B):
    """The inverse of `_in_the_field_of`."""
    if A.dtype.kind == "c" or B.dtype.kind != "c":
        return columns
    re, im = np.split(columns, 2, axis=-1)
    return re + 1j * im


def _rounded(A, B, A_bar, B_bar):
    """The results in the precision of the arguments, rounded once."""
    with np.errstate(over="ignore"):
        return tuple(
            np.ascontiguousarray(bar, dtype)
            for bar, dtype in ((A_bar, A.dtype), (B_bar, np.result_type(A, B)))
        )


def _cotangents(grad_out, A, B):
    grad_A_bar, grad_B_bar = _validate.cotangents(grad_out, "grad_A_bar", "grad_B_bar")
    B_like = _validate.stand_in(B.shape, np.result_type(A, B))
    return tuple(
        g.astype(np.result_type(g, np.float64), copy=False)
        for g in (
            _validate.cotangent("grad_A_bar", grad_A_bar, A),
            _validate.cotangent("grad_B_bar", grad_B_bar, B_like),
        )
    )


def _pull_back(residuals, *grads):
    """Real parts for real arguments [COMPLEX-4], sums for a shared dt [COMPLEX-5]."""
    with np.errstate(over="ignore"):
        return tuple(
            _validate.unbroadcast(grad, argument).astype(argument.dtype, copy=False)
            for grad, argument in zip(grads, residuals)
        )


def _adjoint(M):
    return np.conj(np.swapaxes(M, -2, -1))


def _inner(a, b):
    """``<a, b>`` of every system [COMPLEX-2]."""
    return np.sum(np.conj(a) * b, axis=(-2, -1)).real


def _examples(rng):
    linear = (("B",),)
    for real, p, size in [(True, 1, 1.0), (False, 2, 1.0), (True, 2, 4.0), (False, 1, 1e-3)]:
        A = dense_matrices(rng, 3, 4, radius=10.0 * size, real=real) - 5 * size * np.eye(4)
        B = rng.standard_normal((3, 4, p)) if real else complex_normal(rng, 3, 4, p)
        note = f"{'real' if real else 'complex'}, dt |A| near {size:g}"
        yield Example((A, B, rng.uniform(0.05, 0.2, 3)), {}, note, linear)
    yield Example((A.real.copy(), B, 0.1), {}, "real A, complex B, shared dt", linear)
    yield Example((A, B[..., :0], 0.3), {}, "no input")


for _name, _fwd, _vjp, _slow in [
    ("dense_tustin", tustin_fwd, tustin_vjp, reference.dense_discretize.tustin),
    ("dense_zoh", zoh_fwd, zoh_vjp, reference.dense_discretize.zoh),
]:
    register(
        _name,
        _fwd,
        _vjp,
        reference=_slow,
        examples=partial(_examples),
        arguments=("A", "B", "dt"),
    )
