"""Discretisation, one scalar formula at a time: tustin and zoh."""

import numpy as np


def tustin(A, B, dt, *, input_scale="dt"):
    """``A_bar = (1 + dt A/2) / (1 - dt A/2)`` and ``B_bar = scale B / (1 - dt A/2)``."""
    scale = dt if input_scale == "dt" else np.sqrt(dt)
    denominator = 1 - dt * A / 2
    return (1 + dt * A / 2) / denominator, scale * B / denominator


def tustin_vjp(A, B, dt, grad_A_bar, grad_B_bar, *, input_scale="dt"):
    """Gradients to A, B and dt, for arguments of one common shape (dt already broadcast)."""
    denominator = 1 - dt * A / 2
    scale, scale_slope = (dt, 1.0) if input_scale == "dt" else (np.sqrt(dt), 0.5 / np.sqrt(dt))
    dA_bar_dA = dt / denominator**2
    dB_bar_dA = scale * B * (dt / 2) / denominator**2
    dB_bar_dB = scale / denominator
    dA_bar_ddt = A / denominator**2
    dB_bar_ddt = scale_slope * B / denominator + scale * B * (A / 2) / denominator**2
    grad_A = np.conj(dA_bar_dA) * grad_A_bar + np.conj(dB_bar_dA) * grad_B_bar
    grad_B = np.conj(dB_bar_dB) * grad_B_bar
    grad_dt = np.real(np.conj(dA_bar_ddt) * grad_A_bar + np.conj(dB_bar_ddt) * grad_B_bar)
    return grad_A, grad_B, grad_dt


def zoh(A, B, dt):
    """``A_bar = exp(dt A)``, ``B_bar = B (integral of exp(s A) over s from 0 to dt)``."""
    z = np.asarray(dt * A)
    return np.exp(z), dt * B * phi1(z)


def zoh_vjp(A, B, dt, grad_A_bar, grad_B_bar):
    """Gradients to A, B and dt [ZOH-5 to 7], for arguments of one common shape."""
    z = np.asarray(dt * A)
    dB_bar_dA = dt**2 * B * phi1_slope(z)
    grad_A = np.conj(dt * np.exp(z)) * grad_A_bar + np.conj(dB_bar_dA) * grad_B_bar
    grad_B = np.conj(dt * phi1(z)) * grad_B_bar
    grad_dt = np.real(np.conj(A * np.exp(z)) * grad_A_bar + np.conj(B * np.exp(z)) * grad_B_bar)
    return grad_A, grad_B, grad_dt


def phi1(z):
    """``(exp(z) - 1) / z = sum_k z^k / (k+1)!``; the series where the quotient would cancel."""
    z = np.asarray(z)
    series, term = np.zeros_like(z), np.ones_like(z)
    for k in range(30):
        series = series + term
        term = term * z / (k + 2)
    return np.where(np.abs(z) < 1, series, (np.exp(z) - 1) / np.where(z == 0, 1, z))


def phi1_slope(z):
    """``phi1'(z) = (exp(z) - phi1(z)) / z = sum_k (k+1) z^k / (k+2)!`` [ZOH-4]."""
    z = np.asarray(z)
    series, term = np.zeros_like(z), np.ones_like(z) / 2
    for k in range(30):
        series = series + (k + 1) * term
        term = term * z / (k + 3)
    return np.where(np.abs(z) < 1, series, (np.exp(z) - phi1(z)) / np.where(z == 0, 1, z))
