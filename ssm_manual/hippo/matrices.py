"""The matrices of three measures: ``legs``, ``legt``, ``fout``. See docs/derivations/hippo.md."""

import numpy as np

from ssm_manual import _validate

__all__ = ["MEASURES", "fout", "legs", "legt"]

#: Ways of weighing the past.
MEASURES = ("legs", "legt", "fout")

#: Of `legt`: how the states are scaled.
SCALINGS = ("orthonormal", "legendre")

#: Seconds; with it the Fourier frequencies are pi k, as in S4D-Lin.
THETA = 2.0

#: The shortest window, in seconds: the reciprocal of a shorter one leaves the range of float32.
SHORTEST = 1e-30


def legs(N, *, dtype="float64"):
    """``A_nk = -sqrt((2n+1)(2k+1))`` below, ``-(n+1)`` on, 0 above the diagonal [HIPPO-3].

    Scaled Legendre measure. ``B_n = sqrt(2n+1)``. Two systems share these matrices:

    * ``c'(t) = (A c + B u) / t``: c(t) are the coefficients of the whole past [0, t] in the
      orthonormal Legendre polynomials of that interval [HIPPO-2]. Exact for every N.
    * ``x'(s) = A x + B u``, which state-space layers use: the same in logarithmic time, a past that
      fades as exp(-s), in seconds.

    Parameters
    ----------
    N : int
        Number of states, at least 1.
    dtype : {"float64", "float32"}
        Of the result.

    Returns
    -------
    A : ndarray
        (N, N), real, lower triangular, in 1/s.
    B : ndarray
        (N,), real.

    Raises
    ------
    ValueError
        If N is not a positive integer or ``dtype`` is unknown.

    Notes
    -----
    The eigenvalues of A are -1, ..., -N, but nothing is decomposed by them: the eigenvectors'
    condition number is 8e4 at N = 8 and 8e10 at N = 16, see `nplr`. Cost: O(N^2).

    References
    ----------
    A. Gu, T. Dao, S. Ermon, A. Rudra, C. Ré (2020), "HiPPO: Recurrent memory with optimal
    polynomial projections", theorem 2, which writes -A where we write A; A. Gu, I. Johnson, A.
    Timalsina, A. Rudra, C. Ré (2022), "How to train your HiPPO", eq. 5, with our sign.

    Examples
    --------
    >>> A, B = legs(2)
    >>> A.round(3), B.round(3)
    (array([[-1.   ,  0.   ],
           [-1.732, -2.   ]]), array([1.   , 1.732]))
    """
    R = roots(N)
    A = -np.tril(np.outer(R, R), -1) - np.diag(np.arange(1.0, R.size + 1))  # [HIPPO-3]
    return cast(dtype, A, R)


def legt(N, *, theta=THETA, scaling="orthonormal", dtype="float64"):
    """``A_nk = -sqrt((2n+1)(2k+1)) / theta``, times ``(-1)^(n-k)`` above the diagonal [HIPPO-5].

    Translated Legendre measure: the last ``theta`` seconds, weighed alike. ``B_n = sqrt(2n+1) /
    theta``.

    Parameters
    ----------
    N : int
        Number of states, at least 1.
    theta : float
        Length of the window in seconds, positive. The default, 2, has the time scale of
        ``diagonal("lin", ...)`` and is half the rate of theta = 1, as is customary in layers.
    scaling : {"orthonormal", "legendre"}
        ``orthonormal``: as above; `nplr` needs it. ``legendre``: the states are coefficients of
        P_n(2 age - 1) themselves [HIPPO-7], age 0 now and 1 at the window's far end, so that their
        sum is u(t - theta). Then A_nk = (2n+1) / theta times -1 above the diagonal and
        (-1)^(n-k+1) elsewhere, and **B_n = (2n+1) (-1)^n / theta**. The sign belongs to this A: B
        without it has no window to remember.
    dtype : {"float64", "float32"}
        Of the result.

    Returns
    -------
    A : ndarray
        (N, N), real, in 1/s; Re of every eigenvalue below 0.
    B : ndarray
        (N,), real, in 1/s.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    The delay u(t - theta), read out of the state, is the Padé approximant [N-1/N] of
    exp(-theta s) [HIPPO-6]. Cost: O(N^2).

    References
    ----------
    HiPPO (2020), theorem 1: ``orthonormal`` is its lambda_n = 1, ``legendre`` its lambda_n =
    sqrt(2n+1) (-1)^n, the Legendre memory unit (A. Voelker, I. Kajić, C. Eliasmith 2019).

    Examples
    --------
    >>> A, B = legt(2, theta=1.0, scaling="legendre")
    >>> A, B
    (array([[-1., -1.],
           [ 3., -3.]]), array([ 1., -3.]))
    """
    theta = _validate.real_number("theta", theta, minimum=SHORTEST)
    R = roots(N)
    n = np.arange(R.size)
    sign = np.where((n[:, None] < n) & ((n[:, None] - n) % 2 == 1), -1.0, 1.0)
    A, B = -np.outer(R, R) * sign / theta, R / theta  # [HIPPO-5]
    if _validate.one_of("scaling", scaling, SCALINGS) == "legendre":
        A = np.outer(R * R, np.ones(R.size)) / theta  # [HIPPO-7]: (2n+1) times the signs
        A *= np.where(n[:, None] < n, -1.0, np.where((n[:, None] - n) % 2, 1.0, -1.0))
        B = R * R * np.where(n % 2, -1.0, 1.0) / theta
    return cast(dtype, A, B)


def fout(N, *, theta=THETA, dtype="float64"):
    """``A = (2 / theta) (pi k J - b b^T)``, ``B = (2 / theta) b`` [HIPPO-9].

    Truncated Fourier measure: the last ``theta`` seconds in cosines and sines. State 2k is the
    cosine and 2k + 1 the sine of frequency k / theta in cycles per second, k < N/2; J turns each
    pair, and b is 1 for the constant, sqrt 2 for the other cosines, 0 for sines. State 1, the sine
    of frequency 0, is always zero; it makes the pairs complete.

    Parameters
    ----------
    N : int
        Number of states, even.
    theta : float
        Length of the window in seconds, positive; with the default, 2, the angular frequencies are
        pi k.
    dtype : {"float64", "float32"}
        Of the result.

    Returns
    -------
    A : ndarray
        (N, N), real, in 1/s. One eigenvalue is 0, that of the unused state; the others have
        Re < 0.
    B : ndarray
        (N,), real, in 1/s.

    Raises
    ------
    ValueError
        If an argument is out of its range, or N is odd: a cosine without its sine has no equation
        of motion.

    Notes
    -----
    ``2 b^T x - u`` reads the delay u(t - theta) with magnitude 1 at every frequency, for every N
    [HIPPO-10]. Cost: O(N^2).

    References
    ----------
    "How to train your HiPPO" (2022), theorem 7 (theta = 1, and without state 1).

    Examples
    --------
    >>> A, B = fout(4)
    >>> A.round(3)
    array([[-1.   ,  0.   , -1.414,  0.   ],
           [ 0.   ,  0.   ,  0.   ,  0.   ],
           [-1.414,  0.   , -2.   , -3.142],
           [ 0.   ,  0.   ,  3.142,  0.   ]])
    """
    theta = _validate.real_number("theta", theta, minimum=SHORTEST)
    k = np.arange(even(N) // 2)
    b = np.zeros(2 * k.size)
    b[::2] = np.where(k == 0, 1.0, np.sqrt(2.0))
    A = -np.outer(b, b)  # [HIPPO-9]
    A[2 * k, 2 * k + 1] -= np.pi * k
    A[2 * k + 1, 2 * k] += np.pi * k
    return cast(dtype, 2 / theta * A, 2 / theta * b)


def of(measure, N, theta=None):
    """(A, B) of a measure by its name, in double precision."""
    if _validate.one_of("measure", measure, MEASURES) == "legs":
        if theta is not None:
            raise ValueError(
                f"theta is {_validate.show(theta)}; legs has no window, so it must be None"
            )
        return legs(N)
    return {"legt": legt, "fout": fout}[measure](N, theta=THETA if theta is None else theta)


def even(N):
    """The number of states of a Fourier basis."""
    N = _validate.size("N", N)
    if N % 2:
        raise ValueError(
            f"N is {N}; for fout it must be even: states are pairs of a cosine and a sine"
        )
    return N


def roots(N):
    """``sqrt(2n + 1)``, n < N: what makes Legendre polynomials orthonormal."""
    return np.sqrt(2.0 * np.arange(_validate.size("N", N)) + 1)


def cast(dtype, *arrays):
    """The arrays in a precision, complex ones complex; minus zero becomes zero."""
    real, complex_ = _validate.precision(dtype)
    return tuple((a + 0.0).astype(complex_ if np.iscomplexobj(a) else real) for a in arrays)
