"""Prove the gradient of an op of your own, and watch a wrong one fail.

    python examples/check_your_own_op.py [--quick]

An op comes as two functions. The forward one returns its output and whatever the backward one
needs; the backward one (the vector-Jacobian product) turns the gradient of the output into one
gradient per argument.
"""

import argparse
import sys

import numpy as np

from ssm_manual.gradcheck import check_adjoint, check_vjp, numeric_gradient

# --- a real op: y = x sigmoid(x) -----------------------------------------------------------------


def silu_fwd(x):
    """y = x sigmoid(x)."""
    s = 1 / (1 + np.exp(-x))
    return x * s, (x, s)


def silu_vjp(residuals, grad_y):
    """grad_x = grad_y (s + x s (1 - s)) with s = sigmoid(x)."""
    x, s = residuals
    return (grad_y * (s + x * s * (1 - s)),)


# --- a complex op: rotate each channel of a signal by a phase and weigh it ------------------------


def rotate_fwd(z, phase, weight):
    """y = weight exp(i phase) z: z (channels, time) complex, the others (channels, 1) real."""
    turn = np.exp(1j * phase)
    return weight * turn * z, (z, turn, weight)


def rotate_vjp(residuals, grad_y):
    """Conjugate; take the real part for a real argument; sum where it was broadcast."""
    z, turn, weight = residuals
    grad_z = np.conj(weight * turn) * grad_y
    grad_phase = (np.conj(1j * weight * turn * z) * grad_y).real.sum(axis=1, keepdims=True)
    grad_weight = (np.conj(turn * z) * grad_y).real.sum(axis=1, keepdims=True)
    return grad_z, grad_phase, grad_weight


def rotate_vjp_without_conj(residuals, grad_y):
    """The most frequent mistake: the formula for real numbers, applied to complex ones."""
    z, turn, weight = residuals
    grad_z = weight * turn * grad_y
    grad_phase = (1j * weight * turn * z * grad_y).real.sum(axis=1, keepdims=True)
    grad_weight = (turn * z * grad_y).real.sum(axis=1, keepdims=True)
    return grad_z, grad_phase, grad_weight


def main(argv=None):
    """Run all checks; returns 0 if the right rules pass and the wrong one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one direction instead of five")
    directions = 1 if parser.parse_args(argv).quick else 5
    rng = np.random.default_rng(1)

    print("y = x sigmoid(x)")
    silu = check_vjp(silu_fwd, silu_vjp, (rng.standard_normal((3, 8)),), directions=directions)
    print(silu, "\n")

    z = rng.standard_normal((2, 6)) + 1j * rng.standard_normal((2, 6))
    args = z, rng.standard_normal((2, 1)), rng.standard_normal((2, 1))
    print("y = weight exp(i phase) z")
    rotate = check_vjp(rotate_fwd, rotate_vjp, args, directions=directions)
    print(rotate, "\n")

    print("It is linear in z and linear in weight, so the adjoint identity holds to rounding:")
    adjoint = [check_adjoint(rotate_fwd, rotate_vjp, args, (name,)) for name in ("z", "weight")]
    print(*adjoint, "", sep="\n")

    print("The same without conjugates:")
    wrong = check_vjp(rotate_fwd, rotate_vjp_without_conj, args, directions=directions)
    print(wrong, "\n")

    print("Where is it wrong? The numeric gradient to z of its first channel, beside both claims:")
    y, residuals = rotate_fwd(*args)
    grad_y = rng.standard_normal(y.shape) + 1j * rng.standard_normal(y.shape)
    numeric = numeric_gradient(rotate_fwd, args, 0, grad_y)[0]
    right = rotate_vjp(residuals, grad_y)[0][0]
    without = rotate_vjp_without_conj(residuals, grad_y)[0][0]
    print(f"{'numeric':>20} {'with conj':>20} {'without':>20}")
    for row in zip(numeric, right, without):
        print(*(f"{value:20.6f}" for value in row))

    as_expected = silu and rotate and all(adjoint) and not wrong
    return 0 if as_expected else 1


if __name__ == "__main__":
    sys.exit(main())
