"""Precision of the kernels that do not drift, against 300 bits.

One unit is 2^-53 (complex128) or 2^-24 (complex64) of |K_t|; the proved bounds are those of
docs/derivations/precise_kernels.md. Samples count as long as |K_t| is above 2^60 times the smallest
normal number: below, rounding to the format itself is coarser.
"""

import json
import shutil
import sys
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from conftest import PACKAGE, cast, complex_normal, discrete_poles, error, run_python

from ssm_manual.ops import _double_double, kernels
from ssm_manual.ops.kernels.anchored import M_MAX, N_MAX
from ssm_manual.ops.kernels.power import LARGEST

UNIT = {np.complex64: 2.0**-24, np.complex128: 2.0**-53}
DTYPES = list(UNIT)
#: Units allowed everywhere and on average.
ALLOWED = {"anchored": (4.25, 1.0), "log_parallel": (8.0, 2.0)}


def wide(z):
    z = complex(z)
    return mpmath.mpc(z.real, z.imag)


def units(found, A, B, C, at):
    """Errors of K at the samples ``at``; those at the ends of the range are left out."""
    dtype = np.dtype(np.asarray(found).dtype)
    smallest, largest = float(np.finfo(dtype).tiny) * 2.0**60, float(np.finfo(dtype).max) / 2
    errors = []
    with mpmath.workprec(300):
        start, pole = wide(C) * wide(B), wide(A)
        for t, K in zip(at, found):
            exact = start * pole ** int(t)
            if smallest < abs(exact) < largest:
                errors.append(float(abs(wide(K) - exact) / abs(exact)) / UNIT[dtype.type])
    return np.array(errors)


def slow_poles(rng, dtype):
    """Poles with 1 - |A_bar| from 1e-2 down to 1e-9, one phase in each quarter and the axes."""
    gaps = 10.0 ** -rng.uniform(2, 9, 12)
    gaps[:2] = 1e-2, 1e-9
    phases = (np.arange(12) % 4 + rng.random(12)) / 4
    phases[8:] = 0, 0.25, 0.5, 0.75
    return ((1 - gaps) * np.exp(2j * np.pi * phases)).astype(dtype)


def samples(rng, length, count=60):
    """Times of all sizes up to length - 1, the edges of blocks and spans among them."""
    span = M_MAX * N_MAX
    edges = [0, 1, M_MAX - 1, M_MAX, span - 1, span, 5 * span + 3, 1023, 1024, length - 1]
    drawn = np.concatenate(
        [np.exp(rng.uniform(0, np.log(length), count)), rng.uniform(0, length, count)]
    ).astype(np.int64)
    return np.array(sorted({t for t in [*edges, *drawn] if 0 <= t < length}))


# ------------------------------------------------------------------------------------------- drift


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ALLOWED)
def test_no_drift_to_ten_million_samples(rng, method, dtype):
    """Every pole to 2^17 samples, two of them to 10^7: that far only the slow ones live."""
    found = []
    for i, A in enumerate(slow_poles(rng, dtype)):
        B, C = complex_normal(rng, 2).astype(dtype)
        length = 10**7 + 1 if i in (1, 9) else 2**17
        K = kernels.generate(A, B, C, length, method=method)
        at = samples(rng, length)
        found.append(units(K[at], A, B, C, at))
    found = np.concatenate(found)
    assert found.size > 600
    everywhere, average = ALLOWED[method]
    assert found.max() <= everywhere
    assert found.mean() <= average


def test_the_chosen_method_does_not_drift_in_single_precision(rng):
    """Recursion is hundreds of units off at t = 10^6."""
    A, one = np.complex64(0.999999 * np.exp(2.3j)), np.complex64(1)
    at = samples(rng, 10**6)
    chosen, recursive = (
        kernels.generate(A, one, one, 10**6, method=m)[at] for m in ("auto", "recursive")
    )
    assert units(chosen, A, one, one, at).max() <= 1.001  # rounded once [ANCHORED-5]
    assert units(recursive, A, one, one, at).max() > 100


PLANTED = {
    "products in plain double": (
        "_double_double.py",
        "return re, re_low, im, im_low",
        "return re, 0.0, im, 0.0",
    ),
    "the head of a span in plain double": (
        "kernels/anchored.py",
        "normalised(product(head, step), exponent + step_exponent)",
        "normalised((head[0] * step[0] - head[2] * step[2], 0.0,\n"
        "            head[0] * step[2] + head[2] * step[0], 0.0), exponent + step_exponent)",
    ),
    "one part of the logarithm": (
        "kernels/log_parallel.py",
        "return octaves, octaves_low, turns, turns_low",
        "return octaves, 0.0, turns, 0.0",
    ),
}

MEASURE = """
import json
import numpy as np
from ssm_manual.ops import kernels
A, B, C, length, at = {arguments}
K = kernels.generate(A, B, C, length, method={method!r})
print(json.dumps([[z.real, z.imag] for z in K[at]]))
"""


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistakes_are_found(rng, tmp_path, mistake):
    """A copy of the package with one line made worse exceeds the bound that the package keeps."""
    file, right, wrong = PLANTED[mistake]
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / PACKAGE.name / "ops" / file
    text = path.read_text("utf-8")
    assert text.count(right) == 1
    path.write_text(text.replace(right, wrong), "utf-8")
    method = "log_parallel" if "log_parallel" in file else "anchored"
    A, B, C = complex((1 - 1e-7) * np.exp(2.3j)), 1 + 0.5j, 0.3 - 1j
    at = samples(rng, 10**6)
    found = {}
    for place in (tmp_path, PACKAGE.parent):
        code = MEASURE.format(arguments=(A, B, C, 10**6, at.tolist()), method=method)
        cache = str(tmp_path / "cache") if place == tmp_path else None
        environment = {"NUMBA_CACHE_DIR": cache} if cache else {}
        parts = json.loads(run_python(code, path=place, **environment))
        K = np.array([complex(*z) for z in parts])
        found[place] = units(K, A, B, C, at).max()
    assert found[PACKAGE.parent] <= ALLOWED[method][0] < found[tmp_path]


# ------------------------------------------------------------------------- the ends of the range

#: Pole, weights, length: growth out of the subnormal numbers, decay out of the largest, any speed.
EXTREMES = {
    "out of the subnormals": (1.01 * np.exp(1j), 1e-310, 1 + 1j, 60000),
    "from the largest": (0.99 * np.exp(1j), 1.2e308, 1 + 0.1j, 60000),
    "from beyond the largest": (0.9 * np.exp(1j), 1e154, 3e154, 8000),
    "from far beyond": (-0.5 + 0j, 1e200, 1e200, 3000),
    "weights that cancel": (0.999 * np.exp(2j), 1e-250, 1e250j, 5000),
    "fast": (0.1 + 0.2j, 1.0, 1.0, 700),
    "faster": (1e-20 + 1e-21j, 1e300, 1.0, 50),
    "fastest": (1e-300j, 1e290, 1.0, 5),
    "a subnormal pole": (3e-310 + 1e-312j, 1e300, 1e8, 4),
    "doubling": (-2.0 + 0j, 1e-300, 1.0, 1900),
    "growing fast": (3e7 - 2e7j, 1e-290, 1.0, 70),
    "the largest pole": (1.5e308 + 0j, 1e-250, 1e-50, 3),
    "between": (0.75 + 0j, 1.0, 1.0, 2400),
}


@pytest.mark.parametrize("method", ALLOWED)
@pytest.mark.parametrize("case", EXTREMES)
def test_the_ends_of_the_range(case, method):
    """Nothing is lost on the way to a sample that the format can hold."""
    A, B, C, length = EXTREMES[case]
    with mpmath.workprec(300):
        start, pole = wide(C) * wide(B), wide(A)
        logs = [float(mpmath.log(abs(start), 2) + t * mpmath.log(abs(pole), 2)) for t in (0, 1)]
    octaves = logs[0] + (logs[1] - logs[0]) * np.arange(length)
    K = kernels.generate(A, B, C, length, method=method)
    alive = np.flatnonzero((octaves > -960) & (octaves < 1023))
    assert alive.size >= 1
    at = alive[np.unique(np.linspace(0, alive.size - 1, 80).astype(int))]
    assert units(K[at], A, B, C, at).max() <= ALLOWED[method][0]
    assert not np.any(K[octaves < -1080])
    beyond = K[octaves > 1026]
    assert not np.any(np.isfinite(beyond.real) & np.isfinite(beyond.imag))


@pytest.mark.parametrize("method", ALLOWED)
def test_a_real_kernel_overflows_to_infinity(method):
    """Not to NaN, as recursion does one step later."""
    K = kernels.generate(1.5, 1.0, 1.0, 5000, method=method)
    assert np.all(K[1760:] == np.inf)
    assert np.all(np.isfinite(K[:1750]))
    K = kernels.generate(np.float32(1.5), np.float32(1), np.float32(1), 400, method=method)
    assert np.all(K[225:] == np.inf)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ALLOWED)
def test_no_subnormal_numbers_are_dragged_along(method, dtype):
    """A decayed kernel ends in zeros, not in numbers that make a processor crawl."""
    A, one = dtype(0.999 * np.exp(1j)), dtype(1)
    K = kernels.generate(A, one, one, 900_000, method=method)
    size = np.maximum(abs(K.real), abs(K.imag))
    assert np.count_nonzero((size > 0) & (size < np.finfo(dtype).tiny)) <= 2 * M_MAX
    assert not np.any(K[800_000:])
    last = int(np.log(4 * float(np.finfo(dtype).tiny)) / np.log(abs(complex(A))))
    assert np.all(size[:last] > 0)  # and no sooner


# ------------------------------------------------------------------------------------- the parts


def test_both_parts_of_an_anchor_count(rng):
    """All samples of a block share the anchor's error: without its second part it stays on average.

    The powers of 3/4 up to the 33rd are exact.
    """
    shared = []
    for B, C in rng.uniform(1, 2, (100, 2)):
        K = kernels.generate(0.75, B, C, 34, method="anchored")
        exact = [Fraction(B) * Fraction(C) * Fraction(3, 4) ** t for t in range(34)]
        shared.append(np.mean([float((Fraction(k) - e) / e) * 2.0**53 for k, e in zip(K, exact)]))
    assert np.std(shared) < 0.15  # 0.45 without


def test_the_product_of_two_parts_and_a_power():
    """[ANCHORED-5] on numbers that need no rounding."""
    W, turned, out = np.array([3.0, 5.0]), np.array([-5.0, 3.0]), np.empty(2)
    sys.modules["ssm_manual.ops.kernels.anchored"]._samples(1.0, 0.25, 2.0, -0.5, W, turned, out)
    assert complex(*out) == (1.25 + 1.5j) * (3 + 5j)


def test_logarithms_and_samples_at_the_longest_time(rng):
    """[LOG-2] to 400 u^2 in nepers and radians, and [LOG-5] just below t = 2^40."""
    module = sys.modules["ssm_manual.ops.kernels.log_parallel"]
    first = 2**40 - module.BLOCK
    for phase in 2 * np.pi * rng.random(20):
        A = complex((1 + 2.0**-52 * rng.uniform(-1, 1)) * np.exp(1j * phase))
        B, C = complex_normal(rng, 2)
        logarithms, out = np.empty(8), np.empty(40)
        module._logarithms(A, complex(B), complex(C), logarithms)
        module._block(logarithms, first, out)
        with mpmath.workprec(300):
            octaves, turns = (
                mpmath.mpf(float(x)) + float(y) for x, y in logarithms[4:].reshape(2, 2)
            )
            exact = mpmath.log(wide(A))
            found = mpmath.mpc(octaves * mpmath.log(2), turns * 2 * mpmath.pi)
            off = found - exact
            off -= mpmath.mpc(0, 2 * mpmath.pi) * mpmath.nint(off.imag / (2 * mpmath.pi))
            assert abs(off) < 400 * 2.0**-106
        K = out.view(complex)
        assert units(K, A, B, C, first + np.arange(20)).max() <= ALLOWED["log_parallel"][0]


# ----------------------------------------------------------------------------------- consistency


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ALLOWED)
def test_a_sample_does_not_know_the_length(rng, method, dtype):
    """y(L)[:k] == y(k) to the bit, at every edge of a table, and for one pole as for many."""
    A, B, C = (a.astype(dtype) for a in (discrete_poles(rng, 3), *complex_normal(rng, 2, 3)))
    A[1], A[2] = dtype(0.99999 * np.exp(1j)), dtype(0.3)
    longest = 2 * M_MAX * N_MAX + 5
    K = kernels.generate(A, B, C, longest, method=method)
    span = M_MAX * N_MAX
    for length in (1, 2, 17, 127, 128, 129, 1023, 1024, 1025, span - 1, span, span + 1, span + 200):
        for row in range(3):
            one = kernels.generate(A[row], B[row], C[row], length, method=method)
            np.testing.assert_array_equal(one, K[row, :length])


@pytest.mark.parametrize("kind", [complex, np.complex128, np.complex64])
def test_plain_numbers_take_the_short_way_to_the_same_bits(rng, kind):
    A, B, C = (kind(z) for z in (0.99 * np.exp(1j), *complex_normal(rng, 2)))
    dtype = np.complex64 if kind is np.complex64 else np.complex128
    for length in (0, 1, 15, 16, 17, 18, 1000):
        expected = kernels.generate(*(np.array(z, dtype) for z in (A, B, C)), length)
        found = kernels.generate(A, B, C, length)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)
    for bad in (kind(np.inf), kind(complex(0, np.nan))):
        for args in [(bad, B, C), (A, bad, C), (A, B, bad)]:
            with pytest.raises(ValueError, match="every value must be finite"):
                kernels.generate(*args, 100)
    huge = kind(np.finfo(dtype).max)  # its sum overflows, its values do not
    assert np.all(kernels.generate(kind(0.5), huge, kind(0), 100) == 0)
    assert kernels.generate(huge, huge, kind(0), 100).shape == (100,)
    with pytest.raises(ValueError, match="length is -1"):
        kernels.generate(A, B, C, -1)


def test_auto_follows_its_table(rng):
    A, B, C = cast(discrete_poles(rng, 5), np.float32), *cast(complex_normal(rng, 2, 5), np.float32)
    from ssm_manual.ops.kernels.generate import AUTO, LONGEST

    assert AUTO[-1][0] == LONGEST
    assert [row[0] for row in AUTO] == sorted(row[0] for row in AUTO)
    for length in (1, 16, 17, 300):
        method = next(name for longest, name, _ in AUTO if length <= longest)
        np.testing.assert_array_equal(
            kernels.generate(A, B, C, length),
            kernels.generate(A, B, C, length, method=method),
        )


def test_gradients_of_long_kernels_in_single_precision(rng):
    """The sums over t run in double precision: a float32 chain is a thousand units off here."""
    length = 2**17
    A, B, C = (np.complex64(z) for z in ((1 - 1e-5) * np.exp(2j), *complex_normal(rng, 2)))
    g = complex_normal(rng, length).astype(np.complex64)
    found = kernels.generate_vjp(kernels.generate_fwd(A, B, C, length)[1], g)
    args = (complex(z) for z in (A, B, C))
    exact = kernels.generate_vjp(kernels.generate_fwd(*args, length)[1], g.astype(complex))
    for a, e in zip(found[:3], exact[:3]):
        assert error(a, e) <= 8 * UNIT[np.complex64]


# ------------------------------------------------------------------------------------ arithmetic


def test_sums_and_products_are_exact(rng):
    for _ in range(300):
        a, b = rng.standard_normal(2) * 2.0 ** rng.integers(-60, 60, 2)
        s, e = _double_double.two_sum(a, b)
        assert s == a + b
        assert Fraction(s) + Fraction(e) == Fraction(a) + Fraction(b)
        p, e = _double_double.two_product(a, b)
        assert p == a * b
        assert Fraction(p) + Fraction(e) == Fraction(a) * Fraction(b)


def test_the_error_of_a_product(rng):
    """[ANCHORED-3], also where a part cancels."""
    worst = 0.0
    for i in range(400):
        a, b = (double_double(rng) for _ in range(2))
        if i % 2:  # the real part nearly vanishes
            b = (a[2], rng.uniform(-1, 1) * 2.0**-54, a[0], rng.uniform(-1, 1) * 2.0**-54)
        found = _double_double.product(a, b)
        with mpmath.workprec(300):
            z, w, x = (
                mpmath.mpc(mpmath.mpf(v[0]) + v[1], mpmath.mpf(v[2]) + v[3]) for v in (a, b, found)
            )
            worst = max(worst, float(abs(x - z * w) / abs(z * w)) * 2.0**106)
        for high, low in (found[:2], found[2:]):
            assert high + low == high
    assert 0.5 < worst <= 15 * 2**0.5


def double_double(rng):
    re, im = rng.standard_normal(2)
    low = rng.uniform(-0.5, 0.5, 2) * np.spacing(np.abs([re, im]))
    return re, float(low[0]), im, float(low[1])


# -------------------------------------------------------------------------------------- one power


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_up_to_the_largest(rng, dtype):
    """1 + 2^-48 t units [ANCHORED-6]; poles on the circle in rounding, so that high powers live."""
    phases = np.exp(2j * np.pi * rng.random(60))
    scale = {np.complex64: 2.0**-23, np.complex128: 2.0**-52}[dtype]
    poles = ((1 + scale * rng.uniform(-1, 1, 60)) * phases).astype(dtype)
    poles[0], poles[1] = 1j, -1
    powers = [2**48, 2**48 - 1, 2**47 + 12345, 10**12, 10**9, 10**7, 1000, 64, 3, 2, 1, 0]
    counted = 0
    for t in powers:
        found = kernels.power(poles, t)
        assert found.dtype == dtype
        for A, K in zip(poles, found):
            for off in units([K], A, 1, 1, [t]):
                counted += 1
                assert off <= 1.001 + t / 2**48 * (dtype is np.complex128)
    assert counted >= 300


def test_powers_broadcast_and_keep_the_dtype():
    t = np.array([[0], [1], [5]])
    found = kernels.power(np.array([0.5, -2.0]), t)
    np.testing.assert_array_equal(found, np.array([[1, 1], [0.5, -2], [0.5**5, -32]]))
    for A in (0.5, np.float32(0.5), np.complex64(0.5j), np.array(0.5)):
        one = kernels.power(A, 3)
        assert isinstance(one, np.generic)
        assert one == np.asarray(A) ** 3
        assert one.dtype == np.asarray(A).dtype
    assert kernels.power(0.0, 0) == 1
    assert kernels.power(0j, [1, 2]).tolist() == [0, 0]
    assert kernels.power(np.float32(1.5), 400) == np.inf
    assert kernels.power(2.0, 1023) == 2.0**1023
    assert kernels.power(2.0, 1024) == np.inf
    assert kernels.power(0.5, 1074) == 2.0**-1074
    assert kernels.power(0.5, 2**48) == 0
    assert kernels.power(np.zeros((0, 2)), 3).shape == (0, 2)
    assert kernels.power(0.5, []).shape == (0,)
    assert kernels.power(0.5, np.uint8(2)) == 0.25


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (-1, "t holds -1; it must be from 0 to 2\\^48"),
        ([3, LARGEST + 1], f"t holds {LARGEST + 1}; it must be from 0"),
        (2**70, "t .*; it must be"),
        (np.array([2**64 - 1], np.uint64), "t holds 18446744073709551615; it must be from 0"),
        (1.0, "t is 1.0; it must be an integer"),
        ([0.5], "t is \\[0.5\\]; it must be an integer"),
        (np.array([1, 1.5, 3], object), "t is .* it must be an integer"),
        (True, "t is True; it must be an integer"),
        ([True], "t is \\[True\\]; it must be an integer"),
        ("3", "t is '3'; it must be an integer"),
        (None, "t is None; it must be an integer"),
        ([[1], [1, 2]], "t is .* it must be an integer"),
        ([1, 2, 3], "A_bar \\(2,\\), t \\(3,\\): these shapes must broadcast"),
    ],
)
def test_bad_exponents_are_refused(t, message):
    with pytest.raises(ValueError, match=message):
        kernels.power(np.array([0.5, 0.25]), t)


def test_bad_poles_are_refused():
    with pytest.raises(ValueError, match="A_bar holds inf"):
        kernels.power(np.inf, 3)
    with pytest.raises(ValueError, match="A_bar has dtype int64"):
        kernels.power(np.array([2]), 3)
