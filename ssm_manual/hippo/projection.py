"""A signal projected onto its own past, online: ``project``, and ``basis`` to read it out."""

import numpy as np
from numpy.polynomial import legendre
from scipy import linalg

from ssm_manual import _validate
from ssm_manual.hippo.matrices import MEASURES, even, of, roots

__all__ = ["basis", "project"]


def basis(measure, N, age):
    """The orthonormal functions whose coefficients the states are [HIPPO-1, 8].

    ``u(t - age * span)`` is about ``sum_n c_n(t) basis_n(age)``, where the span is t for ``legs``
    and theta for ``legt`` and ``fout``. Legendre: ``sqrt(2n+1) P_n(1 - 2 age)``. Fourier: 1, 0,
    ``sqrt 2 cos(2 pi k age)``, ``sqrt 2 sin(2 pi k age)``.

    Parameters
    ----------
    measure : {"legs", "legt", "fout"}
        Which functions.
    N : int
        How many, at least 1; even for ``fout``.
    age : array_like
        How long ago, as a fraction of the span: 0 is now, 1 the far end. Real, any shape.

    Returns
    -------
    ndarray
        (N,) + the shape of ``age``, float64.

    Raises
    ------
    ValueError
        If an argument does not fit, or an age lies outside [0, 1].

    Examples
    --------
    >>> basis("legt", 3, [0.0, 1.0]).round(3)
    array([[ 1.   ,  1.   ],
           [ 1.732, -1.732],
           [ 2.236,  2.236]])
    """
    _validate.one_of("measure", measure, MEASURES)
    age = np.asarray(_validate.array("age", age, real=True), float)
    if np.any((age < 0) | (age > 1)):
        raise ValueError(f"age is {_validate.show(age)}; every value must lie in [0, 1]")
    if measure != "fout":
        return _legendre(roots(N), 1 - 2 * age)
    k = np.arange(even(N) // 2)
    angle = 2 * np.pi * np.multiply.outer(k, age)
    scale = np.where(k == 0, 1.0, np.sqrt(2.0)).reshape(-1, *[1] * age.ndim)
    both = np.stack([scale * np.cos(angle), scale * np.sin(angle)], axis=1)
    return both.reshape(2 * k.size, *age.shape)


def project(measure, u, N, *, window=None):
    """States after each sample of a signal that is constant during each sample.

    ``legs`` integrates ``c'(t) = (A c + B u) / t`` and so projects the whole past at every sample;
    ``legt`` and ``fout`` integrate ``x' = A x + B u`` with theta = ``window``. All of them exactly
    [HIPPO-4]: what error remains is that of a finite basis.

    Parameters
    ----------
    measure : {"legs", "legt", "fout"}
        How the past is weighed.
    u : array_like
        (length,), real.
    N : int
        Number of states, at least 1; even for ``fout``.
    window : float, optional
        theta in samples, positive; None for ``legs``, which has no window.

    Returns
    -------
    c : ndarray
        (length, N), of u's dtype. ``basis(measure, N, age).T @ c[t]`` is the past at sample t.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Computed in double precision. Cost: O(N^2) a sample. A step of ``legs`` re-expands the history
    of [0, t] on [0, t + 1] by Gauss-Legendre quadrature with N nodes, exact for its degree. That is
    an orthogonal projection and never amplifies, whereas A itself is far from normal.

    Examples
    --------
    >>> c = project("legs", np.array([1.0, 1.0, 4.0]), 2)
    >>> c[:, 0]  # the mean so far
    array([1., 1., 2.])
    """
    _validate.one_of("measure", measure, MEASURES)
    u = _validate.shape("u", _validate.array("u", u, real=True), (None,), meaning="(length,)")
    if measure == "legs":
        if window is not None:
            raise ValueError(
                f"window is {_validate.show(window)}; legs has no window, so it must be None"
            )
        return _in_range(lambda v: _scaled(v, roots(N)), u)
    if window is None:
        raise ValueError(f"window is None; {measure} needs its length in samples")
    A, B = of(measure, N, _validate.real_number("window", window, above=0))
    return _in_range(lambda v: _translated(v, A, B), u)


def _in_range(project, u):
    """``project(u)`` by a power of two that keeps what is near the end of the range within it."""
    exponent = int(np.frexp(np.abs(u, dtype=float).max(initial=0.0))[1])
    c = project(np.ldexp(u.astype(float), -exponent))
    with np.errstate(over="ignore"):
        return np.ldexp(c, exponent).astype(u.dtype)


def _scaled(u, R):
    """`project` for ``legs`` [HIPPO-4]."""
    N = R.size
    x, weight = legendre.leggauss(N)
    place = (x + 1) / 2  # nodes on [0, 1], where 0 is the beginning
    history = _legendre(R, x).T * (weight / 2)[:, None]  # coefficients -> weighed values at nodes
    c, states = np.zeros(N), np.empty((u.size, N))
    for t, u_t in enumerate(u):
        ratio = t / (t + 1)
        onto = _legendre(R, 2 * ratio * place - 1)
        c[0] -= u_t  # the deviation from u_t is zero during the new sample
        c = ratio * (onto @ (history @ c))
        c[0] += u_t
        states[t] = c
    return states


def _translated(u, A, B):
    """`project` for ``legt`` and ``fout``: exact over one sample of constant input."""
    N = B.size
    step = linalg.expm(np.block([[A, B[:, None]], [np.zeros((1, N + 1))]]))  # [HIPPO-4]
    A_bar, B_bar = step[:N, :N], step[:N, N]
    c, states = np.zeros(N), np.empty((u.size, N))
    for t, u_t in enumerate(u):
        c = A_bar @ c + B_bar * u_t
        states[t] = c
    return states


def _legendre(R, x):
    """``sqrt(2n+1) P_n(x)``, (N,) + the shape of x."""
    P = legendre.legvander(x, R.size - 1) * R
    return np.moveaxis(P.reshape(*np.shape(x), R.size), -1, 0)  # of a scalar it makes one row
