"""Epochs of gradient descent on one sequence, in one compiled loop.

The op-by-op path (`ssm_manual.training.descent`) costs some hundred microseconds of Python an
epoch, whatever the size; the published run has 10,000 epochs of 80 pole-steps each. Both paths do
the same, to rounding (continuous parameters are discretised in double precision here), and are
tested against each other.

Design
------
* **C leaves the sums** [DESCENT-2]. With ``mu_t = e_t + conj(A_bar) mu_{t+1}`` the adjoint state is
  ``lambda_t = conj(C) mu_t``, so a pole's backward pass has no product with C in it.
* **Two kinds of loops.** A recurrence along time is a dependency chain, bound by the latency of a
  complex product: four poles advance together, in registers, and hide it. Outputs and gradients are
  sums without a chain: real and imaginary parts lie in arrays of their own with time contiguous,
  which the compiler turns into vector instructions.
* **Truncation is where mu is cut** [DESCENT-3]: it restarts at each window's last step. A window of
  1 is the one-step direction, one of L the gradient.
* One row of data an epoch, ``u[epoch % rows]``, so that the noise can be fresh each time.

Poles are padded with zeros to a multiple of four; a pole with A = B = C = 0 keeps zero gradients.
"""

import numpy as np

from ssm_manual._numba import jit, jit_contracted, jit_reassociated
from ssm_manual.training.clamp import clamp_continuous, clamp_discrete

__all__ = ["DIVERGED", "FINISHED", "LANES", "NO_PROGRESS", "TARGET_REACHED", "judge", "run"]

#: Poles that advance together.
LANES = 4

#: Why a run ended.
FINISHED, TARGET_REACHED, NO_PROGRESS, DIVERGED = range(4)


@jit_contracted
def _advance(a, x, s):
    """``s + a x``, summed so that only two operations stand between x and the result, not three."""
    re = a.real * x.real + (s.real - a.imag * x.imag)
    im = a.real * x.imag + (s.imag + a.imag * x.real)
    return complex(re, im)


@jit_contracted
def _states(A, B, u, x_re, x_im):
    """``x_t = A_bar x_{t-1} + B_bar u_t`` from a zero state [SCAN-1]; column t + 1 holds x_t."""
    for n in range(0, A.size, LANES):
        a0, a1, a2, a3 = A[n], A[n + 1], A[n + 2], A[n + 3]
        b0, b1, b2, b3 = B[n], B[n + 1], B[n + 2], B[n + 3]
        x0 = x1 = x2 = x3 = A.dtype.type(0)
        for t in range(u.size):
            x0, x1 = _advance(a0, x0, b0 * u[t]), _advance(a1, x1, b1 * u[t])
            x2, x3 = _advance(a2, x2, b2 * u[t]), _advance(a3, x3, b3 * u[t])
            x_re[n, t + 1], x_im[n, t + 1] = x0.real, x0.imag
            x_re[n + 1, t + 1], x_im[n + 1, t + 1] = x1.real, x1.imag
            x_re[n + 2, t + 1], x_im[n + 2, t + 1] = x2.real, x2.imag
            x_re[n + 3, t + 1], x_im[n + 3, t + 1] = x3.real, x3.imag


@jit_reassociated
def _errors(C, D, gain, u, target, x_re, x_im, e_re, e_im):
    """``e_t = y_t - target_t`` with y_t of [SCAN-2]; returns sum |e|^2."""
    L = u.size
    for t in range(L):
        e_re[t] = D.real * u[t] - target[0, t]
        e_im[t] = D.imag * u[t] - target[1, t]
    for n in range(C.size):
        re, im = gain * C[n].real, gain * C[n].imag
        for t in range(L):
            e_re[t] += re * x_re[n, t + 1] - im * x_im[n, t + 1]
        if gain == 1:
            for t in range(L):
                e_im[t] += re * x_im[n, t + 1] + im * x_re[n, t + 1]
    total = u.dtype.type(0)
    for t in range(L):
        total += e_re[t] * e_re[t] + e_im[t] * e_im[t]
    return total


@jit_contracted
def _adjoints(A, e_re, e_im, window, mu_re, mu_im):
    """``mu_t = e_t + conj(A_bar) mu_{t+1}``, cut at the windows' edges [DESCENT-2, 3]."""
    L = e_re.size
    for n in range(0, A.size, LANES):
        a0, a1 = A[n].conjugate(), A[n + 1].conjugate()
        a2, a3 = A[n + 2].conjugate(), A[n + 3].conjugate()
        end = L
        while end > 0:
            start = (end - 1) // window * window
            m0 = m1 = m2 = m3 = A.dtype.type(0)
            for t in range(end - 1, start - 1, -1):
                error = complex(e_re[t], e_im[t])
                m0, m1 = _advance(a0, m0, error), _advance(a1, m1, error)
                m2, m3 = _advance(a2, m2, error), _advance(a3, m3, error)
                mu_re[n, t], mu_im[n, t] = m0.real, m0.imag
                mu_re[n + 1, t], mu_im[n + 1, t] = m1.real, m1.imag
                mu_re[n + 2, t], mu_im[n + 2, t] = m2.real, m2.imag
                mu_re[n + 3, t], mu_im[n + 3, t] = m3.real, m3.imag
            end = start


@jit_reassociated
def _correlate_all(p_re, p_im, x_re, x_im, out):
    """``sum_t p_t conj(x_{t-1})`` for every pole; column t of x holds x_{t-1}."""
    for n in range(out.size):
        re, im = x_re[n, 0] * 0, x_re[n, 0] * 0
        for t in range(p_re.shape[1]):
            re += p_re[n, t] * x_re[n, t] + p_im[n, t] * x_im[n, t]
            im += p_im[n, t] * x_re[n, t] - p_re[n, t] * x_im[n, t]
        out[n] = complex(re, im)


@jit_reassociated
def _correlate_errors(e_re, e_im, x_re, x_im, shift, out):
    """``sum_t e_t conj(x_t)`` (shift 1) or ``sum_t e_t conj(x_{t-1})`` (shift 0) for every pole."""
    for n in range(out.size):
        re, im = x_re[n, 0] * 0, x_re[n, 0] * 0
        for t in range(e_re.size):
            re += e_re[t] * x_re[n, t + shift] + e_im[t] * x_im[n, t + shift]
            im += e_im[t] * x_re[n, t + shift] - e_re[t] * x_im[n, t + shift]
        out[n] = complex(re, im)


@jit_reassociated
def _sums_with_input(p_re, p_im, u, out):
    """``sum_t p_t u_t`` for every row of p and a real u."""
    for n in range(out.size):
        re, im = u[0] * 0, u[0] * 0
        for t in range(u.size):
            re += p_re[n, t] * u[t]
            im += p_im[n, t] * u[t]
        out[n] = complex(re, im)


@jit
def _scale_by_readout(C, scale, grad_A, grad_B, grad_C):
    """C enters after the sums [DESCENT-2]."""
    for n in range(C.size):
        c = scale * C[n].conjugate()
        grad_A[n] = c * grad_A[n]
        grad_B[n] = c * grad_B[n]
        grad_C[n] = scale * grad_C[n]


@jit
def judge(loss, stops, best):
    """Whether to go on after an epoch with this loss: FINISHED is yes."""
    target, limit, patience, improvement = stops
    if not loss <= limit:  # NaN compares false
        return DIVERGED
    if loss <= target:
        return TARGET_REACHED
    if loss < best[0] * (1 - improvement):
        best[0], best[1] = loss, 0
    else:
        best[1] += 1
        if best[1] >= patience:
            return NO_PROGRESS
    return FINISHED


@jit
def _tustin(A, B, dt, root, A_bar, B_bar):
    """[TUSTIN-1, 2, 3], in double precision, rounded once."""
    scale = np.sqrt(dt) if root else dt
    for n in range(A.size):
        reciprocal = 1 / (1 - 0.5 * dt * A[n])
        A_bar[n] = (1 + 0.5 * dt * A[n]) * reciprocal
        B_bar[n] = scale * B[n] * reciprocal


@jit
def _tustin_vjp(A, B, dt, root, grad_A, grad_B):
    """Gradients to A_bar and B_bar become those to A and B; returns that to dt [TUSTIN-9]."""
    scale = np.sqrt(dt) if root else dt
    grad_dt = 0.0
    for n in range(A.size):
        reciprocal = 1 / (1 - 0.5 * dt * A[n])
        square = reciprocal * reciprocal
        if root:
            dB_bar_ddt = B[n] * (1 + 0.5 * dt * A[n]) * square / (2 * scale)
        else:
            dB_bar_ddt = B[n] * square
        to_A_bar, to_B_bar = grad_A[n], grad_B[n]
        along_dt = (A[n] * square).conjugate() * to_A_bar + dB_bar_ddt.conjugate() * to_B_bar
        grad_dt += along_dt.real
        along_B = (scale * B[n] * 0.5 * dt * square).conjugate() * to_B_bar
        grad_A[n] = (dt * square).conjugate() * to_A_bar + along_B
        grad_B[n] = (scale * reciprocal).conjugate() * to_B_bar
    return grad_dt


@jit
def _descend(weights, grads, rates):
    """``theta <- theta - rate grad`` [DESCENT-1] for A, B and C."""
    for part in range(3):
        for n in range(weights.shape[1]):
            weights[part, n] -= rates[part] * grads[part, n]


@jit
def run(weights, D, log_dt, u, target, gain, window, rates, bounds, stops, best, form, losses):
    """Run ``losses.size`` epochs; the parameters are updated in place.

    Parameters
    ----------
    weights : ndarray
        (3, N) complex: A, B, C; discrete, or continuous with ``log_dt``. N is a multiple of
        `LANES`.
    D : ndarray
        (1,) complex; its imaginary part stays zero where the output is real.
    log_dt : ndarray
        (1,) real.
    u : ndarray
        (rows, L), real; epoch k of this call uses row k modulo rows.
    target : ndarray
        (rows, 2, L): real and imaginary parts.
    gain : float
        2 for real output, 1 for complex output.
    window : int
        Steps between cuts of the adjoint state; L for none.
    rates : ndarray
        (5,): A, B, C, D, log_dt.
    bounds : tuple of float
        (radius, margin, gap) of the clamps.
    stops : tuple of float
        (loss to stop at, loss that counts as divergence, epochs without progress to stop at,
        relative improvement that counts as progress).
    best : ndarray
        (2,) float64: the best loss so far and the epochs since; carried from call to call.
    form : tuple of bool
        (whether A, B are continuous, whether Tustin's input scale is sqrt(dt)).
    losses : ndarray
        (epochs,), filled with mean |e|^2 before each update.

    Returns
    -------
    epochs, reason : int
        How many epochs were evaluated, and why the run ended. Unless it is FINISHED, the parameters
        are those that gave the last loss: no update followed it.
    """
    N, L = weights.shape[1], u.shape[1]
    continuous, root = form
    real = u.dtype.type
    x_re, x_im = np.zeros((N, L + 1), u.dtype), np.zeros((N, L + 1), u.dtype)
    mu_re, mu_im = np.empty((N, L), u.dtype), np.empty((N, L), u.dtype)
    e = np.empty((2, L), u.dtype)
    e_re, e_im, e_re_row, e_im_row = e[0], e[1], e[:1], e[1:]
    grads = np.empty_like(weights)
    discrete = weights.copy() if continuous else weights
    A, B, C = discrete[0], discrete[1], weights[2]
    grad_A, grad_B, grad_C = grads[0], grads[1], grads[2]
    eu = np.empty(1, weights.dtype)
    for epoch in range(losses.size):
        row = epoch % u.shape[0]
        if continuous:
            dt = np.exp(float(log_dt[0]))
            if not 0 < real(dt) < np.inf:  # dt = 0 would give finite losses, and mean nothing
                losses[epoch] = np.nan
                return epoch + 1, DIVERGED
            _tustin(weights[0], weights[1], dt, root, A, B)
        _states(A, B, u[row], x_re, x_im)
        total = _errors(C, D[0], gain, u[row], target[row], x_re, x_im, e_re, e_im)
        losses[epoch] = total / real(L)
        reason = judge(float(losses[epoch]), stops, best)
        if reason != FINISHED:
            return epoch + 1, reason
        _sums_with_input(e_re_row, e_im_row, u[row], eu)
        if window == 1:
            _correlate_errors(e_re, e_im, x_re, x_im, 0, grad_A)
            grad_B[:] = eu[0]
        else:
            _adjoints(A, e_re, e_im, window, mu_re, mu_im)
            _correlate_all(mu_re, mu_im, x_re, x_im, grad_A)
            _sums_with_input(mu_re, mu_im, u[row], grad_B)
        _correlate_errors(e_re, e_im, x_re, x_im, 1, grad_C)
        _scale_by_readout(C, gain / real(L), grad_A, grad_B, grad_C)
        D[0] -= rates[3] / real(L) * eu[0]  # real where the output is: then so are the errors
        if continuous:
            grad_dt = _tustin_vjp(weights[0], weights[1], dt, root, grad_A, grad_B)
            log_dt[0] -= rates[4] * real(dt * grad_dt)
            _descend(weights, grads, rates)
            dt = np.exp(float(log_dt[0]))
            clamp_continuous(weights[0], real(dt), bounds[1], bounds[2])
        else:
            _descend(weights, grads, rates)
            clamp_discrete(weights[0], bounds[0])
    return losses.size, FINISHED
