"""Tustin's map of a diagonal-plus-low-rank matrix is diagonal plus low rank again.

    A = diag(Lambda) - P Q^*   ->   A_bar = diag(Lambda_bar) - P_bar Q_bar^*         [DPLR-3]

Derivation: docs/derivations/dplr.md. H x r x N numbers, in NumPy and in double precision.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import _dplr_operands
from ssm_manual.ops._examples import complex_normal
from ssm_manual.ops.registry import Example, register

__all__ = ["tustin_dplr", "tustin_dplr_fwd", "tustin_dplr_vjp"]


def tustin_dplr(Lambda, P, Q, B, dt, *, real=True):
    """``A_bar = diag(Lambda_bar) - sum_j P_bar_j Q_bar_j^*``, B_bar, by Tustin's map [DPLR-3].

    With h = dt/2, r = 1/(1 - h Lambda), and Q^* x standing for 2 Re(Q^* x) where ``real``:

        Lambda_bar = (1 + h Lambda) r,   Q_bar = h conj(r) Q,   P_bar = 2 r P (I + Q_bar^* P)^-1,
        B_bar = dt r B - h P_bar (Q_bar^* B)

    Parameters
    ----------
    Lambda : array_like
        Diagonal, (H, N) or (N,), in 1/s.
    P, Q : array_like
        Low-rank factors, (H, r, N) or (r, N); a tied system has Q = P.
    B : array_like
        Input weights, (H, N) or (N,).
    dt : array_like
        Sampling intervals, (H,) or a scalar, in seconds per sample; positive.
    real : bool
        True: one of each conjugate pair is stored, and A x = Lambda x - P 2 Re(Q^* x). False: the
        N states as they stand.

    Returns
    -------
    Lambda_bar : ndarray
        (H, N), without unit.
    P_bar, Q_bar : ndarray
        (H, r, N).
    B_bar : ndarray
        (H, N).

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, dt is not positive, or A has an
        eigenvalue at 2/dt, or Lambda an element there.

    Notes
    -----
    The result is complex128 for arguments of either precision: it is a table, and what is rounded
    here is multiplied by the length of a sequence. Gradients come in the precision of the
    arguments. Cost: O(r^2 N) a channel and an r x r inverse; the backward pass keeps r, P_bar and
    the inverse. With Q = P and Re Lambda <= 0 the inverse exists for every dt [DPLR-10]. Digits are
    lost where an element of Lambda lies close to 2/dt, even if no eigenvalue of A does.

    References
    ----------
    A. Gu, K. Goel, C. Ré (2022), "Efficiently modeling long sequences with structured state
    spaces" (S4), appendix C.2, there for one product with A_bar; here as a DPLR matrix.

    Examples
    --------
    >>> one = [[1.0]]  # A = -1 - 1 = -2, and (1 - 2/2) / (1 + 2/2) = 0
    >>> Lambda_bar, P_bar, Q_bar, B_bar = tustin_dplr([-1.0], one, one, [1.0], 1.0, real=False)
    >>> A_bar = Lambda_bar - P_bar[:, 0] * Q_bar[:, 0]
    >>> bool(abs(A_bar[0, 0]) < 1e-15), float(B_bar[0, 0].real.round(12))
    (True, 0.5)
    """
    return tustin_dplr_fwd(Lambda, P, Q, B, dt, real=real)[0]


class Residuals(NamedTuple):
    """What the backward pass needs; all complex128, with their axis H."""

    given: tuple
    Lambda: np.ndarray  # (H, N)
    P: np.ndarray  # (H, r, N)
    Q: np.ndarray
    B: np.ndarray  # (H, N)
    h: np.ndarray  # (H, 1): dt / 2
    reciprocal: np.ndarray  # (H, N): 1 / (1 - h Lambda), which every derivative has
    inverse: np.ndarray  # (H, r, r): (I + Q_bar^* P)^-1, real if ``real``
    out: tuple
    real: bool


NAMES = ("Lambda", "P", "Q", "B", "dt")


@_validate.sound("Lambda_bar", "P_bar", "Q_bar", "B_bar")
def tustin_dplr_fwd(Lambda, P, Q, B, dt, *, real=True):
    """`tustin_dplr` and its residuals."""
    _validate.flag("real", real)
    given, H, _, rank = _dplr_operands.parameters(NAMES, (Lambda, P, Q, B, dt))
    if np.any(given[4] <= 0):
        raise ValueError(
            f"dt is {_validate.show(given[4])}; it must be positive (seconds per sample)"
        )
    Lambda, P, Q, B, dt = (
        _dplr_operands.spread(a, H, axes) for a, axes in zip(given, (2, 3, 3, 2, 1))
    )
    h = dt[:, np.newaxis] / 2
    denominator = 1 - h * Lambda
    if np.any(denominator == 0):
        raise ValueError("Lambda has an element at 2/dt, where Tustin's map is not defined")
    r = 1 / denominator
    Q_bar = h[..., np.newaxis] * np.conj(r)[:, np.newaxis] * Q
    M = np.eye(rank) + products(Q_bar, P, real)
    try:
        X = np.linalg.inv(M)
    except np.linalg.LinAlgError:
        X = np.full(M.shape, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        P_bar = 2 * np.swapaxes(X, 1, 2) @ (r[:, np.newaxis] * P)  # [DPLR-3]
    if not np.isfinite(P_bar).all():
        raise ValueError("Lambda, P, Q have an eigenvalue at 2/dt, where Tustin's map has a pole")
    t = products(Q_bar, B[:, np.newaxis], real)
    B_bar = 2 * h * r * B - h * np.sum(P_bar * t, axis=1)
    out = (1 + h * Lambda) * r, P_bar, Q_bar, B_bar
    return out, Residuals(tuple(given), Lambda, P, Q, B, h, r, X, out, bool(real))


@_validate.sound("grad_Lambda", "grad_P", "grad_Q", "grad_B", "grad_dt")
def tustin_dplr_vjp(residuals, grad_out):
    """Gradients to Lambda, P, Q, B, dt [DPLR-5] from those of the four outputs."""
    given, Lambda, P, Q, B, h, r, X, out, real = residuals
    names = "grad_Lambda_bar", "grad_P_bar", "grad_Q_bar", "grad_B_bar"
    grads = _validate.cotangents(grad_out, *names)
    grad_L, grad_P_bar, grad_Q_bar, grad_B_bar = (
        _validate.cotangent(name, g, like) for name, g, like in zip(names, grads, out)
    )
    _, P_bar, Q_bar, B_bar = out
    gain = 2 if real else 1
    t = products(Q_bar, B[:, np.newaxis], real)  # (H, r, 1)
    row = np.newaxis
    # B_bar = 2 h r B - h P_bar t,  t = Q_bar^* B
    grad_t = -h[..., row] * products(P_bar, grad_B_bar[:, row], real) / gain
    grad_P_bar = grad_P_bar - h[..., row] * np.conj(t) * grad_B_bar[:, row]
    grad_Q_bar = grad_Q_bar + gain * np.conj(grad_t) * B[:, row]
    grad_B = 2 * h * np.conj(r) * grad_B_bar + gain * np.sum(Q_bar * grad_t, axis=1)
    grad_r = 2 * h * np.conj(B) * grad_B_bar
    grad_h = _inner(B_bar / h, grad_B_bar)
    # P_bar = 2 (r P) X,  X = M^-1
    grad_rP = 2 * np.conj(X) @ grad_P_bar
    grad_X = 2 * products(r[:, row] * P, grad_P_bar, real) / gain
    X_star = np.conj(np.swapaxes(X, 1, 2))
    grad_M = -X_star @ grad_X @ X_star
    # M = I + Q_bar^* P
    grad_Q_bar = grad_Q_bar + gain * np.conj(grad_M) @ P
    grad_P = gain * np.swapaxes(grad_M, 1, 2) @ Q_bar + np.conj(r)[:, row] * grad_rP
    grad_r = grad_r + np.sum(np.conj(P) * grad_rP, axis=1)
    # Q_bar = h conj(r) Q
    grad_Q = h[..., row] * r[:, row] * grad_Q_bar
    grad_r = grad_r + h * np.sum(np.conj(grad_Q_bar) * Q, axis=1)
    grad_h = grad_h + np.sum(_inner(np.conj(r)[:, row] * Q, grad_Q_bar), axis=1)
    # Lambda_bar = (1 + h Lambda) r and r = 1 / (1 - h Lambda) [TUSTIN-4, 5]
    square = np.conj(r * r)
    grad_Lambda = h * square * (2 * grad_L + grad_r)
    grad_h = grad_h + _inner(Lambda * r * r, 2 * grad_L + grad_r)
    grads = grad_Lambda, grad_P, grad_Q, grad_B, grad_h[:, 0] / 2
    return tuple(_validate.unbroadcast(g, a).astype(a.dtype) for g, a in zip(grads, given))


def products(left, right, real):
    """``Q_j^* P_k`` for all j and k, (H, r, r): 2 Re of it where conjugates are left out."""
    found = np.conj(left) @ np.swapaxes(right, -1, -2)
    return 2 * found.real if real else found


def _inner(a, b):
    """``Re sum conj(a) b`` over the last axis, which stays."""
    return np.sum((np.conj(a) * b).real, axis=-1, keepdims=True)


def _examples(rng):
    linear = (("B",),)
    for real in (True, False):
        for rank in (1, 2):
            Lambda = -rng.uniform(0.1, 8, (3, 4)) + 9j * rng.standard_normal((3, 4))
            P, Q = (complex_normal(rng, 3, rank, 4) for _ in range(2))
            B, dt = complex_normal(rng, 3, 4), rng.uniform(0.05, 0.3, 3)
            note = f"{'pairs' if real else 'complex'}, rank {rank}"
            yield Example((Lambda, P, Q, B, dt), {"real": real}, note, linear)
            args = Lambda[0], P[0], P[0], B, np.array(0.1)
            yield Example(args, {"real": real}, f"{note}, Q = P, shared", linear)


register(
    "tustin_dplr",
    tustin_dplr_fwd,
    tustin_dplr_vjp,
    reference=reference.dplr_discretize.tustin_dplr,
    examples=_examples,
    arguments=NAMES,
)
