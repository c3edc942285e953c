"""The truncated output weights of a diagonal plus low-rank system: what a kernel of L samples sees.

    C_tilde = C (I - A_bar^L),   A_bar the bilinear map of A = diag(Lambda) - P Q^*      [CAUCHY-4]

by binary powers of ``A_bar - I``. Derivation: docs/derivations/cauchy.md. Kernels: `_dplr_power`.
Cost: about log2(L) - 3 squarings of a real 2N x 2N matrix a channel, three times that backward.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate, reference
from ssm_manual.ops import _dplr_power as _power
from ssm_manual.ops._dplr_arguments import System, system
from ssm_manual.ops._dplr_examples import systems
from ssm_manual.ops._dplr_power import OneStep
from ssm_manual.ops.registry import Example, register

__all__ = ["truncate", "truncate_fwd", "truncate_vjp"]

#: Longest kernel: 2^40 samples.
LONGEST = 1 << 40


def truncate(Lambda, P, Q, C, dt, length, *, real=True):
    """``C_tilde = C (I - A_bar^L)``: the weights of a kernel cut off after L samples [CAUCHY-4].

    ``A_bar = (I - dt A / 2)^-1 (I + dt A / 2)`` with ``A = diag(Lambda) - sum_j P_j Q_j^*``.

    Parameters
    ----------
    Lambda : array_like
        Diagonal of A in 1/s, S + (N,); any finite value but 2/dt.
    P, Q : array_like
        Low-rank term, S + (rank, N), in 1/s for P and without unit for Q (or shared between them
        in any other way). Tied: pass P twice and add up the two gradients.
    C : array_like
        Output weights, S + (N,). The leading shapes broadcast to a common S.
    dt : array_like
        Seconds a sample, of a shape that broadcasts to S; real and positive.
    length : int
        L, from 0 to 2^40.
    real : bool
        True: one of each conjugate pair is stored, and the conjugates take part in the low-rank
        term. False: N states as they stand.

    Returns
    -------
    C_tilde : ndarray
        S + (N,), complex.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, dt is not positive, ``length`` is
        out of range, A has an eigenvalue 2/dt, or A_bar^L is beyond the range of a double.

    Notes
    -----
    All in double precision, rounded once. What is formed is ``A_bar^L - I``, never A_bar^L: for a
    slow system, or a small dt, no digits go in ``I - A_bar^L`` [CAUCHY-6]. Error: L units of 2^-53
    times dt |A| at most. Cost: O(N^3 log L) a channel; memory: two matrices of 2N x 2N a channel.
    Channels are shared out among threads, with the same bits for any number of them.

    References
    ----------
    A. Gu, K. Goel, C. Ré (2022), "Efficiently modeling long sequences with structured state spaces"
    (S4), appendix C.3, where C_tilde itself is trained.

    Examples
    --------
    >>> import numpy as np
    >>> P = np.zeros((1, 1))
    >>> truncate([-1.0 + 0j], P, P, [1.0 + 0j], 2 / 3, 3).round(6)  # A_bar = 1/2
    array([0.875+0.j])
    """
    return truncate_fwd(Lambda, P, Q, C, dt, length, real=real)[0]


class Residuals(NamedTuple):
    """What the backward pass needs."""

    system: System
    step: OneStep  # O(N r) numbers a channel; all powers are formed again
    length: int
    out_like: np.ndarray  # the output's shape and dtype, owning no memory


@_validate.sound("C_tilde")
def truncate_fwd(Lambda, P, Q, C, dt, length, *, real=True):
    """`truncate` and its residuals."""
    s = system(real, Lambda=Lambda, P=P, Q=Q, C=C, dt=dt)
    C_tilde, step, length = truncate_system(s, length)
    with np.errstate(over="ignore"):  # infinite, where a single-precision number cannot hold it
        dtype = np.result_type(s.given["C"].dtype, np.complex64)
        out = C_tilde.reshape(*s.shape, -1).astype(dtype)
    return out, Residuals(s, step, length, _validate.stand_in(out.shape, out.dtype))


@_validate.sound("grad_Lambda", "grad_P", "grad_Q", "grad_C", "grad_dt", "grad_length")
def truncate_vjp(residuals, grad_C_tilde):
    """Gradients to Lambda, P, Q, C and dt [CAUCHY-18 to 21]; None for the length."""
    s, step, length, out_like = residuals
    g = _validate.cotangent("grad_C_tilde", grad_C_tilde, out_like)
    to_pole, to_P, to_Q, to_C = truncate_system_vjp(s, step, length, g.reshape(s.C.shape))
    return *s.pull_back(Lambda=to_pole, P=to_P, Q=to_Q, C=to_C), None


def truncate_system(s, length):
    """C_tilde (H, N) in double precision, the step it came from, and the length, checked."""
    length = _validate.integer("length", length, minimum=0, maximum=LONGEST)
    step = _power.one_step(s.pole, s.P, s.Q, s.real)
    with np.errstate(over="ignore", invalid="ignore"):  # seen below; said by NumPy if stepped
        c = _power.truncated(_power.matrix(step, s.real), _power.row(s.C), length)
    if not np.isfinite(c).all():
        raise ValueError(
            f"Lambda, P, Q: A_bar^length must lie within the range of a double; the system is "
            f"unstable, and at length {length} it does not"
        )
    return _power.from_row(c), step, length


def truncate_system_vjp(s, step, length, g):
    """Gradients to pole, P, conj(Q) and C of a system."""
    F = _power.matrix(step, s.real)
    grad_c = _power.truncated_vjp(F, _power.row(s.C), length, _power.row(g.astype(complex)))
    grad_F = F  # in its place
    grads = _power.one_step_vjp(s.Q, s.real, step, _power.matrix_vjp(step, s.real, grad_F))
    return *grads, _power.from_row(grad_c)


def _examples(rng):
    for note, real, (Lambda, P, Q, _, C, dt), length in systems(rng):
        yield Example((Lambda, P, Q, C, dt, length), {"real": real}, note, (("C",),))


register(
    "truncate",
    truncate_fwd,
    truncate_vjp,
    reference=reference.truncate.truncate,
    examples=_examples,
    arguments=("Lambda", "P", "Q", "C", "dt", "length"),
)
