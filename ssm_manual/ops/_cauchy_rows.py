"""The kernels of `cauchy`: the Cauchy sums of a channel, block by block of frequencies.

Design
------
* Every term is a real weight times the resolvent of one mode, or of one conjugate pair, at one
  frequency. So all (1 + r)^2 sums are one product of real matrices, weights (2 (1 + r)^2, N) times
  resolvents (N, 2 x frequencies) [CAUCHY-10], and so are both their adjoints [CAUCHY-15, 16]. BLAS
  does them; what is left are loops over frequencies, contiguous, which vectorise.
* A block is short enough for its resolvents to stay in the cache between the loop that forms them
  and the product that reads them.
* The resolvents are formed again in the backward pass: 2N real numbers a frequency. The 2r complex
  numbers of the Woodbury identity are kept.
* A channel belongs to one thread, and BLAS to one thread inside it: the same bits for any number.
"""

from typing import NamedTuple

import numpy as np

from ssm_manual._blas import single_threaded
from ssm_manual._numba import gemm, jit, jit_contracted, jit_reassociated, parallel_jit, prange

#: Frequencies a block.
BLOCK = 256

#: Modes times frequencies, over all channels, from which threads pay.
PARALLEL_FROM = 1 << 16


class Circle(NamedTuple):
    """What depends on the node alone: S = sinh(zeta / 2), C = cosh(zeta / 2) [CAUCHY-5]."""

    parts: np.ndarray  # (4, F) float64: Re S, Im S, Re C, Im C
    numerator: np.ndarray  # (2, F) complex128: (S, -C) for pairs, (1, i) for single modes
    turn: np.ndarray  # (F,) complex128: exp(zeta / 2) = S + C
    slopes: np.ndarray  # (4, F) float64: what the gradient to a pole is summed with [CAUCHY-16]
    paired: bool


def sums(pole, weights, circle, spectrum, eta, xi):
    """Samples of the generating function into ``spectrum`` (H, F), and eta, xi (H, r, F).

    ``pole`` (H, N) without unit, ``weights`` (H, (1 + r)^2, 2, N) real.
    """
    _run(_cauchy_sums_parallel, _cauchy_sums, pole, circle, weights, spectrum, eta, xi)


def moments(pole, weights, circle, g, eta, xi, grad_weights, grad_pole):
    """The gradients to the weights and, (H, 2, N), what [CAUCHY-16] needs of that to the poles."""
    arrays = weights, g, eta, xi, grad_weights, grad_pole
    _run(_cauchy_moments_parallel, _cauchy_moments, pole, circle, *arrays)


def _run(parallel, serial, pole, circle, *arrays):
    threads = len(pole) > 1 and pole.size * len(circle.turn) >= PARALLEL_FROM
    with single_threaded():
        (parallel if threads else serial)(pole, circle, *arrays)


# --------------------------------------------------------------------------------------- one block


@jit_contracted
def _resolvents(pole, circle, begin, R):
    """1 / (S - C lambda), or 1 / ((S - C lambda) (S - C conj(lambda))), into R (N, 2, F)."""
    # A slice of a row is contiguous, and known to be: a slice of columns is not, and no vector.
    end = begin + R.shape[2]
    S_re, S_im = circle.parts[0][begin:end], circle.parts[1][begin:end]
    C_re, C_im = circle.parts[2][begin:end], circle.parts[3][begin:end]
    for n in range(pole.shape[0]):
        rho, omega = pole[n].real, pole[n].imag
        x, y = R[n, 0], R[n, 1]
        if circle.paired:
            for f in range(x.shape[0]):  # [CAUCHY-9]
                u, v = S_re[f] - C_re[f] * rho, S_im[f] - C_im[f] * rho
                p, q = C_im[f] * omega, C_re[f] * omega
                re = (u + p) * (u - p) - (v - q) * (v + q)
                im = (u + p) * (v + q) + (v - q) * (u - p)
                over = 1 / (re * re + im * im)
                x[f], y[f] = re * over, -im * over
        else:
            for f in range(x.shape[0]):
                re = S_re[f] - C_re[f] * rho + C_im[f] * omega
                im = S_im[f] - C_im[f] * rho - C_re[f] * omega
                over = 1 / (re * re + im * im)
                x[f], y[f] = re * over, -im * over


@jit
def _combine(S, numerator, kappa):
    """The sums kappa_ab (ab, F) from the real products S (ab, 2, 2, F) [CAUCHY-10]."""
    for ab in range(S.shape[0]):
        for f in range(numerator.shape[1]):
            first = complex(S[ab, 0, 0, f], S[ab, 0, 1, f])
            second = complex(S[ab, 1, 0, f], S[ab, 1, 1, f])
            kappa[ab, f] = numerator[0, f] * first + numerator[1, f] * second


@jit
def _separate(g, eta, xi, numerator, G):
    """The adjoint of `_woodbury` and of `_combine`: gradients to S (ab, 2, 2, F) [CAUCHY-14]."""
    r = eta.shape[0]
    for a in range(1 + r):
        for b in range(1 + r):
            out = G[a * (1 + r) + b]
            for f in range(g.shape[0]):
                z = g[f]
                if a > 0:
                    z = -z * eta[a - 1, f].conjugate()
                if b > 0:
                    z = -z * xi[b - 1, f].conjugate()
                first, second = numerator[0, f].conjugate() * z, numerator[1, f].conjugate() * z
                out[0, 0, f], out[0, 1, f] = first.real, first.imag
                out[1, 0, f], out[1, 1, f] = second.real, second.imag


@jit
def _woodbury(kappa, parts, turn, spectrum, eta, xi):
    """``turn (kappa_00 - kappa_01 C (I + C kappa_11)^-1 kappa_10)`` [CAUCHY-8]."""
    r = eta.shape[0]
    M = np.empty((r, 2 * r), np.complex128)
    for f in range(turn.shape[0]):
        C = complex(parts[2, f], parts[3, f])
        total = kappa[0, f]
        if r == 1:
            m = 1 + C * kappa[3, f]
            inverse = C * m.conjugate() * (1 / (m.real * m.real + m.imag * m.imag))
            eta[0, f], xi[0, f] = kappa[1, f] * inverse, kappa[2, f] * inverse
            total -= kappa[1, f] * xi[0, f]
        elif r > 1:
            for i in range(r):
                for j in range(r):
                    unit = 1.0 if i == j else 0.0
                    M[i, j] = unit + C * kappa[(i + 1) * (1 + r) + j + 1, f]
                    M[i, r + j] = unit * C
            _invert(M)
            for i in range(r):
                eta[i, f] = xi[i, f] = 0
                for j in range(r):  # [CAUCHY-13]
                    eta[i, f] += kappa[j + 1, f] * M[j, r + i]
                    xi[i, f] += M[i, r + j] * kappa[(j + 1) * (1 + r), f]
            for i in range(r):
                total -= kappa[i + 1, f] * xi[i, f]
        spectrum[f] = turn[f] * total


@jit
def _invert(M):
    """``[M | c I] -> [I | c M^-1]``, Gauss and Jordan, with the largest pivot of each column."""
    r = M.shape[0]
    for k in range(r):
        best = k
        for i in range(k + 1, r):
            if abs(M[i, k]) > abs(M[best, k]):
                best = i
        for j in range(2 * r):
            M[k, j], M[best, j] = M[best, j], M[k, j]
        pivot = M[k, k]
        for j in range(2 * r):
            M[k, j] /= pivot
        for i in range(r):
            if i != k:
                factor = M[i, k]
                for j in range(2 * r):
                    M[i, j] -= factor * M[k, j]


@jit_reassociated
def _to_poles(R, grad_R, circle, begin, out):
    """Adds the sums over frequencies that the gradient to each pole is made of [CAUCHY-16]."""
    end = begin + R.shape[2]
    a, b = circle.slopes[0][begin:end], circle.slopes[1][begin:end]
    c, d = circle.slopes[2][begin:end], circle.slopes[3][begin:end]
    for n in range(R.shape[0]):
        x, y, gx, gy = R[n, 0], R[n, 1], grad_R[n, 0], grad_R[n, 1]
        first, second = 0.0, 0.0
        for f in range(x.shape[0]):
            p, q = x[f] * x[f] - y[f] * y[f], 2 * x[f] * y[f]
            re, im = p * gx[f] + q * gy[f], p * gy[f] - q * gx[f]
            first -= a[f] * re + b[f] * im
            second -= c[f] * re + d[f] * im
        out[0, n] += first
        out[1, n] += second


# ---------------------------------------------------------------------------------------- channels


@jit
def _sums_of_channel(pole, circle, weights, spectrum, eta, xi):
    N, count, F = pole.shape[0], weights.shape[0], circle.turn.shape[0]
    W = weights.reshape(2 * count, N)
    resolvents = np.empty(N * 2 * BLOCK)
    products = np.empty(4 * count * BLOCK)
    kappa = np.empty((count, BLOCK), np.complex128)
    for begin in range(0, F, BLOCK):
        end = min(begin + BLOCK, F)
        m = end - begin
        R = resolvents[: N * 2 * m].reshape(N, 2, m)
        S = products[: 4 * count * m].reshape(2 * count, 2 * m)
        _resolvents(pole, circle, begin, R)
        gemm(W, R.reshape(N, 2 * m), 0.0, S)  # [CAUCHY-10]
        _combine(S.reshape(count, 2, 2, m), circle.numerator[:, begin:end], kappa)
        out = spectrum[begin:end], eta[:, begin:end], xi[:, begin:end]
        _woodbury(kappa, circle.parts[:, begin:end], circle.turn[begin:end], *out)


@jit
def _moments_of_channel(pole, circle, weights, g, eta, xi, grad_weights, grad_pole):
    N, count, F = pole.shape[0], weights.shape[0], circle.turn.shape[0]
    W, grad_W = weights.reshape(2 * count, N), grad_weights.reshape(2 * count, N)
    resolvents, to_resolvents = np.empty(N * 2 * BLOCK), np.empty(N * 2 * BLOCK)
    products = np.empty(4 * count * BLOCK)
    for begin in range(0, F, BLOCK):
        end = min(begin + BLOCK, F)
        m = end - begin
        R = resolvents[: N * 2 * m].reshape(N, 2, m)
        grad_R = to_resolvents[: N * 2 * m].reshape(N, 2, m)
        G = products[: 4 * count * m].reshape(2 * count, 2 * m)
        _resolvents(pole, circle, begin, R)
        given = g[begin:end], eta[:, begin:end], xi[:, begin:end]
        _separate(*given, circle.numerator[:, begin:end], G.reshape(count, 2, 2, m))
        gemm(G, R.reshape(N, 2 * m).T, 1.0, grad_W)  # [CAUCHY-15]
        gemm(W.T, G, 0.0, grad_R.reshape(N, 2 * m))  # [CAUCHY-16]
        _to_poles(R, grad_R, circle, begin, grad_pole)


@jit
def _cauchy_sums(pole, circle, weights, spectrum, eta, xi):
    for h in range(pole.shape[0]):
        _sums_of_channel(pole[h], circle, weights[h], spectrum[h], eta[h], xi[h])


@parallel_jit
def _cauchy_sums_parallel(pole, circle, weights, spectrum, eta, xi):
    for h in prange(pole.shape[0]):
        _sums_of_channel(pole[h], circle, weights[h], spectrum[h], eta[h], xi[h])


@jit
def _cauchy_moments(pole, circle, weights, g, eta, xi, grad_weights, grad_pole):
    for h in range(pole.shape[0]):
        given = pole[h], circle, weights[h], g[h], eta[h], xi[h]
        _moments_of_channel(*given, grad_weights[h], grad_pole[h])


@parallel_jit
def _cauchy_moments_parallel(pole, circle, weights, g, eta, xi, grad_weights, grad_pole):
    for h in prange(pole.shape[0]):
        given = pole[h], circle, weights[h], g[h], eta[h], xi[h]
        _moments_of_channel(*given, grad_weights[h], grad_pole[h])
