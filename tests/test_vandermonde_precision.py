"""How precise the kernel of a layer is, against 200 bits; and its generating function."""

import mpmath
import numpy as np
import pytest
from conftest import assert_close, cast, complex_normal, discrete_poles, double, error

from ssm_manual import reference
from ssm_manual.ops import _double_double_rows, _vandermonde_rows, vandermonde

PRECISIONS = [np.float32, np.float64]
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}


def worst(K, poles, samples, unit, *, are_exponents):
    """Largest error of single poles' kernels, relative to |K_l|, against 200 bits."""
    largest = 0.0
    with mpmath.workprec(200):
        for row, pole in zip(K, poles):
            exponent = mpmath.mpc(complex(pole))
            exponent = exponent if are_exponents else mpmath.log(exponent)
            for l in samples:
                exact = mpmath.exp(exponent * int(l))
                largest = max(largest, float(abs(mpmath.mpc(complex(row[l])) - exact) / abs(exact)))
    return largest / unit


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("op", ["A_bar", "dtA"])
def test_errors_do_not_grow_with_time(rng, op, dtype):
    """A few units at a million samples [VAND-6]; powers of a rounded pole fail the same test."""
    L = 10**6 + 3
    if op == "dtA":
        poles = cast(rng.uniform(-3e-6, -1e-9, 6) + 1j * rng.uniform(-40, 40, 6), dtype)
    else:
        poles = (1 - 10 ** rng.uniform(-7, -6, 6)) * np.exp(2j * np.pi * rng.random(6))
        poles = cast(poles, dtype)
        poles = poles[np.abs(np.log(np.abs(poles.astype(complex)))) * L < 50]
    samples = np.append(rng.integers(0, L, 60), [0, 1, L - 1])
    one = np.ones(1, poles.real.dtype)
    kernel = vandermonde.kernel_from_exponent if op == "dtA" else vandermonde.kernel
    K = kernel(poles[:, None], one, one, L, real=False)
    # Complex K: the last term of the bound holds for each part. Chains add a little in float32.
    bound = 2 * 2**0.5 + (4 + 4 * 5**0.5 if dtype == np.float64 else 2.1)
    found = worst(K, poles, samples, UNIT[dtype], are_exponents=op == "dtA")
    assert found <= bound
    if dtype == np.float64:
        rounded = np.exp(poles) if op == "dtA" else poles
        powers = np.empty((L, len(poles)), complex)
        _vandermonde_rows._powers(rounded, powers)
        drift = worst(powers.T, poles, samples, UNIT[dtype], are_exponents=op == "dtA")
        assert drift > 4 * bound


@pytest.mark.parametrize("damping", [0.5, 0.01])
def test_no_worse_than_float32_exponentials(rng, damping):
    """The published form, exp(dtA l) and a sum over modes, multiplies a rounded phase by l."""
    dt = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), (16, 1)))
    dtA = cast(dt * (-damping + 1j * np.pi * np.arange(32)), np.float32)
    B, C = (cast(complex_normal(rng, 16, 32), np.float32) for _ in range(2))
    L = 16384
    exact = reference.vandermonde.kernel_from_exponent(*double((dtA, B, C)), L)
    K = vandermonde.kernel_from_exponent(dtA, B, C, L)
    time = np.arange(L, dtype=np.float32)
    plain = 2 * np.einsum("hn,hnt->ht", C * B, np.exp(dtA[..., None] * time)).real
    assert plain.dtype == np.float32
    assert error(K, exact) <= 1e-6
    assert error(K, exact) <= (0.5 if damping == 0.5 else 0.02) * error(plain, exact)


def test_exponentials_of_104_bits(rng):
    z = np.concatenate(
        [
            [0, 1e-300, 1e-17j, 1j * np.pi, 3 + 2.0**40 * 1j, -0.5 - 31.4j],
            rng.uniform(-600, 600, 50) + 1j * 10 ** rng.uniform(-5, 12, 50),
            -(10 ** rng.uniform(-12, 0, 50)) + 1j * rng.uniform(-10, 10, 50),
        ]
    )
    out = np.empty((z.size, 4))
    _double_double_rows.exponential(z, out)
    with mpmath.workprec(300):
        for value, (a, b, c, d) in zip(z, out.tolist()):
            exact = mpmath.exp(mpmath.mpc(complex(value)))
            found = mpmath.mpc(mpmath.mpf(a) + b, mpmath.mpf(c) + d)
            assert abs(found - exact) <= abs(exact) * mpmath.mpf(2) ** -93, value
    _double_double_rows.exponential(np.array([-800.0 + 1j, -1e300, 1e300]), out[:3])
    assert not out[:2].any()
    assert out[2, 0] == np.inf


# ----------------------------------------------------------------------------- generating function


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 16, 33, 200])
def test_generating_function(rng, length, real):
    """[VAND-8] is the kernel at every length; without its factor, the periodic one [VAND-9]."""
    args = discrete_poles(rng, 2, 4, low=0.9, high=0.99), *complex_normal(rng, 2, 2, 4)
    K = reference.vandermonde.kernel(*args, 20 * max(length, 200), real=real)
    found = reference.vandermonde.kernel_by_generating_function(*args, length, real=real)
    assert_close(found, K[:, :length], 1e-11)
    assert_close(found, vandermonde.kernel(*args, length, real=real), 1e-11)
    periodic = reference.vandermonde.periodic_kernel(*args, length, real=real)
    if length:
        folded = K[:, : K.shape[1] // length * length].reshape(2, -1, length).sum(axis=1)
        assert_close(periodic, folded, 1e-11)
        assert length == 200 or error(periodic, K[:, :length]) > 0.1


def test_generating_function_of_a_pole_on_a_root_of_unity():
    args = np.array([1.0 + 0j, 0.5]), np.ones(2), np.array([2.0 + 1j, -1.0])
    found = reference.vandermonde.kernel_by_generating_function(*args, 8, real=False)
    assert_close(found, reference.vandermonde.kernel(*args, 8, real=False), 1e-14)
