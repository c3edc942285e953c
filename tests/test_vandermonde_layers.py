"""The kernel of a layer: exponents as parameters, whole blocks and rests, limits, threads."""

import contextlib
import os

import numpy as np
import pytest
from conftest import (
    LAYOUTS,
    assert_close,
    cast,
    complex_normal,
    cotangents,
    discrete_poles,
    double,
    error,
    run_python,
)

from ssm_manual import gradcheck, reference
from ssm_manual.ops import _vandermonde_rows, vandermonde

LENGTHS = [0, 1, 2, 3, 17, 64, 65, 1047]
PRECISIONS = [np.float32, np.float64]
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
OPS = {
    "A_bar": (vandermonde.kernel_fwd, vandermonde.kernel_vjp, "kernel"),
    "dtA": (
        vandermonde.kernel_from_exponent_fwd,
        vandermonde.kernel_from_exponent_vjp,
        "kernel_from_exponent",
    ),
}


def s4d(rng, H, N, dtype=np.float64):
    """Exponents as S4D-Lin begins with, dt from 1e-3 to 1e-1, and weights of size one."""
    dt = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), (H, 1)))
    dtA = dt * (-0.5 + 1j * np.pi * np.arange(N))
    return tuple(
        cast(a, dtype) for a in (dtA, complex_normal(rng, H, N), complex_normal(rng, H, N))
    )


def scale(B, C):
    """What the modes would add up to if none cancelled: the scale of rounding."""
    return 2 * float(np.max(np.sum(np.abs(B * C), axis=-1)))


# ------------------------------------------------------------------------------ exponents, blocks


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("N", [1, 4, 7])
@pytest.mark.parametrize("length", LENGTHS)
def test_exponents_equal_the_reference(rng, length, N, real, dtype):
    for H in (1, 2):
        args = s4d(rng, H, N, dtype)
        K, kept = vandermonde.kernel_from_exponent_fwd(*args, length, real=real)
        expected = reference.vandermonde.kernel_from_exponent(*double(args), length, real=real)
        assert K.dtype == (dtype if real else args[0].dtype)
        assert K.shape == (H, length)
        # The reference's exponentials lose digits in proportion to the phase, of up to pi a step.
        allowed = 8 * (N + 4) * UNIT[dtype] + 4 * length * 2.0**-53
        assert error(K, expected, scale=scale(*args[1:])) <= allowed
        g = cotangents(rng, K)
        found = vandermonde.kernel_from_exponent_vjp(kept, g)
        expected = reference.vandermonde.kernel_from_exponent_vjp(
            *double(args), length, g.astype(complex), real=real
        )
        assert found[3] is None
        for a, e in zip(found, expected):
            assert a.dtype == args[0].dtype
            assert error(a, e) <= 8 * (length + N + 4) * UNIT[dtype]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("length", [4096, 4096 - 1, 4096 + 37, 70000])
def test_whole_blocks_and_a_rest_of_a_layer(rng, length, real, dtype):
    """Large enough for threads; 70000 samples make more blocks than a block has samples."""
    H, N = 3, 32 if length == 70000 else 96
    assert H * N * length >= _vandermonde_rows.PARALLEL_FROM
    args = s4d(rng, H, N, dtype)
    K, kept = vandermonde.kernel_from_exponent_fwd(*args, length, real=real)
    exact = reference.vandermonde.kernel_from_exponent(*double(args), length, real=real)
    allowed = 4 * N * UNIT[dtype] + 10 * length * 2.0**-53
    assert error(K, exact, scale=scale(*args[1:])) <= allowed
    g = cotangents(rng, K)
    found = vandermonde.kernel_from_exponent_vjp(kept, g)[:3]
    exact = reference.vandermonde.kernel_from_exponent_vjp(
        *double(args), length, g.astype(complex), real=real
    )
    assert_close(found, exact, {np.float32: 1e-5, np.float64: 1e-11}[dtype])


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, op, layout):
    fwd, vjp, _ = OPS[op]
    args = discrete_poles(rng, 3, 4) - 1, complex_normal(rng, 3, 4), complex_normal(rng, 3, 4)
    plain, kept = fwd(*args, 33)
    np.testing.assert_array_equal(fwd(*(LAYOUTS[layout](a) for a in args), 33)[0], plain)
    g = cotangents(rng, plain)
    assert_close(vjp(kept, LAYOUTS[layout](g)), vjp(kept, g), 0)


@pytest.mark.parametrize("real", [True, False])
def test_exponents_and_their_poles_are_one_kernel(rng, real):
    """And one gradient, by the chain rule of exp [COMPLEX-6]."""
    A, B, C = discrete_poles(rng, 2, 5), complex_normal(rng, 2, 5), complex_normal(rng, 2, 5)
    K, kept = vandermonde.kernel_fwd(A, B, C, 90, real=real)
    same, also = vandermonde.kernel_from_exponent_fwd(np.log(A), B, C, 90, real=real)
    assert_close(same, K, 1e-13)
    g = cotangents(rng, K)
    grad_A, *others = vandermonde.kernel_vjp(kept, g)
    grad_x, *same = vandermonde.kernel_from_exponent_vjp(also, g)
    assert_close((grad_x, *same), (np.conj(A) * grad_A, *others), 1e-12)


def test_real_exponents_have_real_gradients(rng):
    x, B, C = -rng.random((2, 4)), rng.standard_normal((2, 4)), rng.standard_normal(4)
    K, kept = vandermonde.kernel_from_exponent_fwd(x, B, C, 12)
    found = vandermonde.kernel_from_exponent_vjp(kept, cotangents(rng, K))
    assert [a.dtype for a in found[:3]] == [np.float64] * 3
    assert [a.shape for a in found[:3]] == [(2, 4), (2, 4), (4,)]
    decays = np.exp(x[..., None] * np.arange(12))
    np.testing.assert_allclose(K, 2 * np.einsum("hn,hnt->ht", C * B, decays), rtol=1e-13)


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("op", OPS)
def test_gradients_of_a_layer(rng, op, real):
    """A length that has whole blocks and a rest, and more modes than a vector has lanes."""
    fwd, vjp, _ = OPS[op]
    pole = discrete_poles(rng, 2, 33, low=0.9)
    pole = np.log(pole) if op == "dtA" else pole
    args = pole, complex_normal(rng, 33), complex_normal(rng, 2, 33), 301
    report = gradcheck.check_vjp(fwd, vjp, args, real=real)
    assert report, report


# ---------------------------------------------------------------------------------- limiting cases


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("op", OPS)
def test_a_pole_at_zero(rng, op, dtype):
    """K = (C B, 0, 0, ...), and grad_A = conj(C B) g_1; as an exponent, -1000 is that pole."""
    fwd, vjp, _ = OPS[op]
    pole = cast(np.array([-1000.0 + 3j if op == "dtA" else 0j]), dtype)
    B, C = (cast(complex_normal(rng, 1), dtype) for _ in range(2))
    K, kept = fwd(pole, B, C, 300, real=False)
    assert_close(K[:1], B * C, 4 * UNIT[dtype])
    assert not K[1:].any()
    g = cotangents(rng, K)
    grad_pole, grad_B, _, _ = vjp(kept, g)
    assert_close(grad_B, np.conj(C) * g[:1], 8 * UNIT[dtype])
    expected = np.conj(C * B) * g[1:2] if op == "A_bar" else np.zeros(1)
    assert_close(grad_pole, expected, 8 * UNIT[dtype])


@pytest.mark.parametrize("op", OPS)
def test_a_pole_outside_the_circle(rng, op):
    fwd, _, name = OPS[op]
    pole = np.array([[1.5 * np.exp(1j), 1.001 * np.exp(2j)]])
    pole = np.log(pole) if op == "dtA" else pole
    args = pole, complex_normal(rng, 1, 2), complex_normal(rng, 1, 2), 1000
    K = fwd(*args, real=False)[0]
    exact = getattr(reference.vandermonde, name)(*args, real=False)
    np.testing.assert_allclose(K, exact, rtol=1e-11)
    assert np.abs(K[0, -1]) > 1e170


@pytest.mark.parametrize("op", OPS)
def test_overflow_is_infinite_and_seen(op):
    """No exception and no warning on the way: the caller sees a value that is not finite."""
    fwd, vjp, _ = OPS[op]
    pole = np.array([np.log(1.5) if op == "dtA" else 1.5], np.complex64)
    one = np.ones(1, np.complex64)
    K, kept = fwd(pole, one, one, 300)
    assert np.isfinite(K[:200]).all()
    assert not np.isfinite(K[-1])
    grads = vjp(kept, np.ones(300, np.float32))[:3]
    assert not np.isfinite(np.concatenate(grads)).any()


@pytest.mark.parametrize("op", OPS)
def test_no_channels(op):
    fwd, vjp, _ = OPS[op]
    empty = np.zeros((0, 3), complex)
    K, kept = fwd(empty, empty, empty, 70)
    assert K.shape == (0, 70)
    assert [grad.shape for grad in vjp(kept, K)[:3]] == [(0, 3)] * 3


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_kernel_that_has_decayed_is_zero(dtype):
    """Rather than subnormal, on which every later product would be slow."""
    L = 8192 if dtype == np.float32 else 1 << 16
    K = vandermonde.kernel(np.full((2, 8), dtype(0.98)), dtype(1), dtype(1), L)
    tiny = np.finfo(dtype).tiny
    assert K[0, 0] == 16
    assert not K[:, -L // 4 :].any()
    assert not ((K != 0) & (np.abs(K) < tiny)).any()
    np.testing.assert_array_less(1e5 * tiny, K[:, : int(np.log(1e5 * tiny) / np.log(0.98))])


# ---------------------------------------------------------------------------------- threads, memory

LAYER = """
import hashlib, threading
import numba, numpy as np, threadpoolctl
from ssm_manual.ops import _vandermonde_rows, vandermonde
rng = np.random.default_rng(3)
def cn(*shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
H, N, L = 6, 24, 10007
x = -10 ** rng.uniform(-4, -1, (H, N)) + 3j * rng.random((H, N))
B, C = cn(H, N), cn(H, N)
assert H * N * L >= _vandermonde_rows.PARALLEL_FROM
def work(dtype=np.complex64):
    args = [a.astype(dtype) for a in (x, B, C)]
    digest = hashlib.sha256()
    for real in (True, False):
        K, kept = vandermonde.kernel_from_exponent_fwd(*args, L, real=real)
        grads = vandermonde.kernel_from_exponent_vjp(kept, K)
        for a in (K, *grads[:3]):
            digest.update(a.tobytes())
    return digest.hexdigest()
def blas():
    found = threadpoolctl.threadpool_info()
    return sorted((i["filepath"], i["num_threads"]) for i in found if i["user_api"] == "blas")
"""


def test_the_same_bits_for_any_number_of_threads():
    code = (
        LAYER
        + """
import scipy.linalg.cython_blas
for ours, of_blas in [(1, 1), (2, 1), (3, 2), (1, 2)]:
    numba.set_num_threads(ours)
    threadpoolctl.threadpool_limits(of_blas, "blas")
    assert {number for _, number in blas()} == {of_blas}
    print(work(), work(np.complex128))
"""
    )
    runs = run_python(code, NUMBA_NUM_THREADS="3", OPENBLAS_NUM_THREADS="2").splitlines()
    assert len(runs) == 4
    assert len(set(runs)) == 1


def test_calls_from_several_threads_leave_blas_as_it_was():
    """Blocks overlap: the last to end puts the number of BLAS threads back."""
    code = """
import scipy.linalg.cython_blas
before = blas()
assert before, "no BLAS that can be asked"
alone = work()
assert blas() == before
found = []
def repeat():
    for _ in range(5):
        found.append(work())
threads = [threading.Thread(target=repeat) for _ in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert found == [alone] * 15
assert blas() == before
print("fine")
"""
    out = run_python(LAYER + code, NUMBA_NUM_THREADS="2", OPENBLAS_NUM_THREADS="3")
    assert out == "fine\n"


def test_products_that_blas_would_share_out_are_kept_to_one_thread(rng, monkeypatch):
    """With threads of our own around them, or alone; the smallest need not pay for it."""
    entered = []

    @contextlib.contextmanager
    def recorded():
        entered.append(True)
        yield

    monkeypatch.setattr(_vandermonde_rows, "single_threaded", recorded)
    for H, N, L, guarded in [
        (1, 4, 20, False),
        (1, 4, 16384, False),
        (1, 4, 1 << 17, True),  # a short table, but many rows against it
        (1, 64, 5000, True),
        (40, 32, 1024, True),
    ]:
        entered.clear()
        args = s4d(rng, H, N)
        K, kept = vandermonde.kernel_from_exponent_fwd(*args, L)
        vandermonde.kernel_from_exponent_vjp(kept, K)
        assert entered == [True] * 2 * guarded


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be set back"
)
def test_memory_beside_the_output_is_small():
    """At most twice K again, forward and backward; the matrix of powers would take 48 times K."""
    code = """
def memory(field):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))
def call(L):
    args = [a.astype(np.complex64) for a in (x, B, C)]
    K, kept = vandermonde.kernel_from_exponent_fwd(*args, L)
    return vandermonde.kernel_from_exponent_vjp(kept, K)
call(10007)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew: compilers have had theirs
before = memory("VmRSS")
call(1 << 20)
print((memory("VmHWM") - before) / (4 * H << 20))
"""
    assert 0.9 < float(run_python(LAYER + code, NUMBA_NUM_THREADS="2")) < 3
