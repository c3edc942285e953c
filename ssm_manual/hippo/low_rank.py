"""Normal plus low rank: ``nplr`` splits A, ``dplr`` diagonalises. See docs/derivations/hippo.md."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.hippo.matrices import cast, of, roots

__all__ = ["dplr", "nplr"]


def nplr(measure, N, *, theta=None, dtype="float64"):
    """``A = (A + P^T P) - P^T P``, whose bracket is normal: -1/2 plus skew, or skew [HIPPO-11].

    A of HiPPO is far from normal and cannot be diagonalised in floating point. A low-rank
    correction makes it normal, with eigenvectors as good as they come:

    ========  ====================================  ============================
    ``legs``  ``P_n = sqrt(n + 1/2)``               bracket = -1/2 I + skew
    ``legt``  ``P_jn = sqrt((2n+1) / theta)``       bracket = skew; row 0 has the
                                                    odd n, row 1 the even n
    ``fout``  ``P_n = sqrt(2 / theta) b_n``         bracket = skew
    ========  ====================================  ============================

    Parameters
    ----------
    measure : {"legs", "legt", "fout"}
        Which matrices.
    N : int
        Number of states, at least 1; even for ``fout``.
    theta : float, optional
        Window of ``legt`` and ``fout`` in seconds; None is 2, and the only choice for ``legs``.
    dtype : {"float64", "float32"}
        Of the result.

    Returns
    -------
    A : ndarray
        (N, N), real.
    B : ndarray
        (N,), real.
    P : ndarray
        (rank, N), real; rank 1, for ``legt`` 2.

    Raises
    ------
    ValueError
        If an argument does not fit.

    References
    ----------
    A. Gu, K. Goel, C. Ré (2022), "Efficiently modeling long sequences with structured state
    spaces" (S4), theorem 1 and appendix C.1.

    Examples
    --------
    >>> A, B, P = nplr("legs", 3)
    >>> S = A + P.T @ P + np.eye(3) / 2
    >>> bool(np.abs(S + S.T).max() < 1e-15)
    True
    """
    A, B = of(measure, N, theta)
    return cast(dtype, A, B, correction(measure, A, B))


def correction(measure, A, B):
    """P of `nplr`."""
    if measure == "legs":
        return (roots(B.size) / np.sqrt(2))[None]
    diagonal = np.sqrt(-A.diagonal())  # (2n+1) / theta, or (2 / theta) b^2
    if measure == "fout":
        return diagonal[None]
    odd = np.arange(B.size) % 2
    return np.stack([diagonal * odd, diagonal * (1 - odd)])


def dplr(measure, N, *, theta=None, full=False, dtype="float64"):
    """``A = V (diag(Lambda) - P^T conj(P)) V^*``, diagonal plus low rank [HIPPO-12].

    The skew part S of the normal matrix is diagonalised as the Hermitian matrix -i S, which gives
    orthonormal V and puts Re Lambda where it belongs: -1/2 for ``legs`` and 0 for the others,
    exactly. P and B come back in the new basis: ``V^* P^T``, a row for each rank, and ``V^* B``.

    Eigenvectors have arbitrary phases, which differ from one LAPACK to the next. Here each is
    turned so that **B is real and positive** [HIPPO-13]; P then is too, for ``legs`` and ``fout``.

    Parameters
    ----------
    measure : {"legs", "legt", "fout"}
        Which matrices.
    N : int
        Number of states (not of stored ones), at least 1. Odd only for ``full`` and Legendre.
    theta : float, optional
        Window of ``legt`` and ``fout`` in seconds; None is 2, and the only choice for ``legs``.
    full : bool
        False: one of each conjugate pair, Im Lambda >= 0, ascending: M = N/2. A real output is then
        twice the real part. True: M = N, those first, then their conjugates in the same order,
        then the real mode of an odd N.
    dtype : {"float64", "float32"}
        Of the result: complex128 or complex64.

    Returns
    -------
    Lambda : ndarray
        (M,), complex, in 1/s.
    P : ndarray
        (rank, M), complex.
    B : ndarray
        (M,), complex, with imaginary part zero.
    V : ndarray
        (N, M), complex, orthonormal columns. With ``full`` A as above; otherwise
        A = 2 Re(V diag(Lambda) V^*) - P^T P with the real P of `nplr`.

    Raises
    ------
    ValueError
        If an argument does not fit, or N is odd and ``full`` is False: the one real mode has no
        partner, and taking it twice would be wrong.

    Notes
    -----
    Cost: O(N^3), 25 ms at N = 256. V is orthonormal to 1e-14; the absolute error of every Lambda is
    that of the largest, 1e-15 |Lambda|_max. ``fout`` is a closed form.

    References
    ----------
    S4 (2022), section 3; A. Gu, A. Gupta, K. Goel, C. Ré (2022), "On the parameterization and
    initialization of diagonal state space models" (S4D), section 4.

    Examples
    --------
    >>> Lambda, P, B, V = dplr("legs", 4)
    >>> Lambda.round(4)
    array([-0.5+0.5565j, -0.5+4.6033j])
    """
    _validate.flag("full", full)
    A, B = of(measure, N, theta)
    N = B.size
    if N % 2 and not full:
        raise ValueError(
            f"N is {N}; an odd number has one real mode without a partner: it must be even, or full"
        )
    P = correction(measure, A, B)
    omega, V = _pairs(A, B) if measure == "fout" else _hermitian(A)
    B, P = V.conj().T @ B, P @ V.conj()
    turn = B / np.abs(B)  # [HIPPO-13]: v -> v turn, so that v^* B -> |v^* B|
    V, P, B = V * turn, P / turn, np.abs(B).astype(complex)
    Lambda = 1j * omega - (0.5 if measure == "legs" else 0.0)
    if full:
        paired = slice(0, N // 2)
        Lambda, P, B, V = (
            np.concatenate([a[..., paired], a[..., paired].conj(), a[..., N // 2 :]], axis=-1)
            for a in (Lambda, P, B, V)
        )
    return cast(dtype, Lambda, P, B, V)


def _hermitian(A):
    """Frequencies >= 0 and eigenvectors of A's skew part; the real mode of an odd N comes last."""
    S = (A - A.T) / 2
    omega, V = np.linalg.eigh(-1j * S)  # ascending, and symmetric about zero
    half, N = (len(A) + 1) // 2, len(A)
    omega, V = omega[N - half :], V[:, N - half :]
    if N % 2:  # omega[0] is zero but for rounding, and its eigenvector real but for a phase
        omega, V = np.roll(omega, -1), np.roll(V, -1, axis=1)
        omega[-1], V[:, -1] = 0.0, (V[:, -1] / (V[0, -1] / np.abs(V[0, -1]))).real
    # v and its conjugate are orthogonal to the size of rounding over the gap between their
    # eigenvalues, 1e-12 at N = 256. One step towards the nearest orthogonal matrix squares that.
    Q = np.concatenate([V[:, : N // 2].real, V[:, : N // 2].imag], axis=1) * np.sqrt(2)
    Q = np.concatenate([Q, V[:, N // 2 :].real], axis=1)
    Q = Q @ (3 * np.eye(N) - Q.T @ Q) / 2
    paired = (Q[:, : N // 2] + 1j * Q[:, N // 2 : 2 * (N // 2)]) * np.sqrt(0.5)
    return omega, np.concatenate([paired, Q[:, 2 * (N // 2) :]], axis=1)


def _pairs(A, B):
    """The same for `fout`, whose skew part turns pairs: (cosine, sine) -> (1, -i) / sqrt 2."""
    k = np.arange(B.size // 2)
    V = np.zeros((B.size, k.size), complex)
    V[2 * k, k], V[2 * k + 1, k] = np.sqrt(0.5), -1j * np.sqrt(0.5)
    return A[2 * k + 1, 2 * k].copy(), V
