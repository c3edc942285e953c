"""What the gradient checker must not lose: directions, cotangents, steps, seeds."""

import numpy as np
import pytest
from conftest import complex_normal

from ssm_manual._gradcheck import differences
from ssm_manual._gradcheck import vjp as checker
from ssm_manual.gradcheck import check_adjoint, check_vjp, registered, registry_examples


def test_adjoint_check_sees_a_skew_error(rng):
    """<v, (1 + i/2) v> = <v, v>: a cotangent along J v alone would be blind to it."""
    z = complex_normal(rng, 9)
    assert check_adjoint(lambda z: (1 * z, None), lambda _, g: (1 * g,), (z,), ("z",))
    assert not check_adjoint(lambda z: (1 * z, None), lambda _, g: ((1 + 0.5j) * g,), (z,), ("z",))


def test_the_last_cotangent_is_zero_elsewhere(rng):
    seen = []

    def vjp(x, g):
        seen.append(g.copy())
        return (2 * x * g,)

    x = rng.standard_normal((2, 5))
    assert check_vjp(lambda x: (x**2, x), vjp, (x,), cotangent="last", directions=4)
    assert len(seen) == 4 + 2
    assert all(np.any(g[:, -1]) and not np.any(g[:, :-1]) for g in seen[2:])


@pytest.mark.parametrize("seed", range(8))
def test_every_direction_counts(seed):
    """Wrong for half of the cotangents: 20 directions must find one of them, whichever is first."""

    def vjp(x, g):
        return (2 * x * g * (1.001 if g[0] > 0 else 1),)

    assert not check_vjp(
        lambda x: (x**2, x), vjp, (np.array([0.3, -2.0]),), directions=20, rng=seed
    )


def test_two_steps_that_disagree_prove_nothing():
    assert checker.judge(1.0, 1.0, 1e-3, 1e-7)[1].startswith("inconclusive")
    assert checker.judge(1.0, 1.0, 1e-9, 1e-7)[1] == "pass"
    best = differences._better(None, (1.0, 0.5), (1.0, 0.0), 0.1)
    assert best.agreement == 0.5  # the expected rounding, although the two values are equal


def test_steps_are_in_units_of_the_argument():
    x = np.array([1e-9, -2e-9])
    assert check_vjp(
        lambda x: (np.exp(1e9 * x), x), lambda x, g: (1e9 * np.exp(1e9 * x) * g,), (x,)
    )


def test_directions_lean_on_the_gradient_to_either_side(rng):
    grad, signs = complex_normal(rng, 40), set()
    for _ in range(50):
        d = differences.random_direction(rng, grad, grad)
        along = differences.inner((grad,), (d,)) / np.linalg.norm(grad)
        signs.add(np.sign(along))
        assert abs(along) * np.sqrt(40) > 1.0 * np.linalg.norm(d)
    assert signs == {-1.0, 1.0}


def test_examples_depend_on_the_seed():
    (pair,) = registered(["tustin"])
    one, other = (registry_examples(pair, seed)[0][0].args[0] for seed in (0, 1))
    assert np.all(one != other)


def test_infinite_derivatives_do_not_pass():
    with np.errstate(all="ignore"):
        report = check_vjp(lambda x: (x * 1e308, None), lambda _, g: (g * 0.9e308,), (np.ones(16),))
    assert not report
