"""Dense systems chunk by chunk: equal to a loop over time and to the reference, in everything."""

import numpy as np
import pytest
from conftest import (
    LAYOUTS,
    assert_close,
    cast,
    complex_normal,
    cotangents,
    double,
    run_python,
)

from ssm_manual import gradcheck, hippo, reference
from ssm_manual.ops import dense_chunked

NAMES = ("A_bar", "B_bar", "C", "D", "u", "x0")


def system(rng, batch=2, H=2, N=5, p=1, m=1, L=40, *, is_complex=False, dtype=np.float64):
    """Arguments whose eigenvalues have a modulus up to 0.99."""
    draw = complex_normal if is_complex else lambda rng, *shape: rng.standard_normal(shape)
    A = draw(rng, H, N, N)
    A *= 0.99 / np.abs(np.linalg.eigvals(A)).max(axis=-1)[:, None, None]
    shapes = (H, N, p), (H, m, N), (H, m, p), (batch, H, p, L), (batch, H, N)
    return tuple(cast(a, dtype) for a in (A, *(draw(rng, *shape) for shape in shapes)))


def legs(rng, H, N):
    """HiPPO-LegS by Tustin's map in its normal-plus-low-rank basis, dt in [1e-3, 1e-1]."""
    Lambda, P, B, _ = hippo.dplr("legs", N)
    A = np.block([[np.diag(Lambda.real), -np.diag(Lambda.imag)], [np.diag(Lambda.imag)] * 2])
    A[N // 2 :, N // 2 :] = np.diag(Lambda.real)
    for row in np.concatenate([P.real, P.imag], axis=1):
        A -= 2 * np.outer(row, row)
    B = np.concatenate([B.real, B.imag])[:, None]
    A_bar, B_bar = np.empty((H, N, N)), np.empty((H, N, 1))
    for h, dt in enumerate(np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), H))):
        M = np.linalg.inv(np.eye(N) - dt / 2 * A)
        A_bar[h], B_bar[h] = 2 * M - np.eye(N), M @ B * dt
    return A_bar, B_bar, rng.standard_normal((H, 1, N)), rng.standard_normal((H, 1, 1))


def loop(A, B, C, D, u, x0):
    """Step by step."""
    states, y = [x0], []
    for t in range(u.shape[-1]):
        states.append(np.einsum("hij,bhj->bhi", A, states[-1]))
        states[-1] = states[-1] + np.einsum("hij,bhj->bhi", B, u[..., t])
        y.append(np.einsum("hij,bhj->bhi", C, states[-1]) + np.einsum("hij,bhj->bhi", D, u[..., t]))
    shape = (*u.shape[:2], C.shape[1], 0)
    return np.stack(y, axis=-1) if y else np.zeros(shape, C.dtype), states


def loop_vjp(args, states, grad_y, grad_x_last):
    """Back-propagation through time, step by step."""
    A, B, C, D, u, _ = args
    grads, lam = [np.zeros_like(a) for a in args], grad_x_last
    for t in range(u.shape[-1] - 1, -1, -1):
        g, v = grad_y[..., t], u[..., t]
        lam = lam + np.einsum("hoi,bho->bhi", C.conj(), g)
        grads[0] += np.einsum("bhi,bhj->hij", lam, states[t].conj())
        grads[1] += np.einsum("bhi,bhj->hij", lam, v.conj())
        grads[2] += np.einsum("bho,bhj->hoj", g, states[t + 1].conj())
        grads[3] += np.einsum("bho,bhj->hoj", g, v.conj())
        grads[4][..., t] = np.einsum("hij,bhi->bhj", B.conj(), lam)
        grads[4][..., t] += np.einsum("hoj,bho->bhj", D.conj(), g)
        lam = np.einsum("hij,bhi->bhj", A.conj(), lam)
    grads[5] = lam
    return tuple(grads)


def of_norm(found, expected):
    """Errors relative to the norm of each array."""
    return [
        float(np.linalg.norm(a - e) / max(np.linalg.norm(e), 1e-300))
        for a, e in zip(found, expected)
    ]


# ------------------------------------------------------------------------------------------- equal


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 5, 16, None])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 3), (0, 2), (3, 0)])
def test_equal_to_a_loop_over_time(rng, sizes, chunk, is_complex):
    """Output, last state, every gradient; each cotangent alone too; many sequences, and one."""
    p, m = sizes
    for batch, L in [(3, 0), (1, 1), (3, 2), (1, 17), (1, 64), (3, 131), (20, 33)]:
        args = system(rng, batch, 2, 4, p, m, L, is_complex=is_complex)
        out, kept = dense_chunked.apply_fwd(*args, chunk=chunk)
        y, states = loop(*args)
        assert_close(out, (y, states[-1]), 1e-12, names=("y", "x_last"))
        g = cotangents(rng, out)
        for pair in (g, (g[0], np.zeros_like(g[1])), (np.zeros_like(g[0]), g[1])):
            found, expected = dense_chunked.apply_vjp(kept, pair), loop_vjp(args, states, *pair)
            assert_close(found, expected, 1e-11, names=NAMES)


@pytest.mark.parametrize("is_complex", [False, True])
def test_equal_to_the_reference(rng, is_complex):
    for L in (0, 1, 9, 13):
        args = system(rng, 2, 2, 3, 2, 1, L, is_complex=is_complex)
        out, kept = dense_chunked.apply_fwd(*args, chunk=4)
        assert_close(out, reference.dense_chunked.apply(*args, chunk=4), 1e-13)
        g = cotangents(rng, out)
        expected = reference.dense_chunked.apply_vjp(*args, *g, chunk=4)
        expected = expected if is_complex else tuple(a.real for a in expected)
        assert_close(dense_chunked.apply_vjp(kept, g), expected, 1e-12, names=NAMES)


def test_one_state_is_the_diagonal_operator(rng):
    """With diagonal matrices the view of diagonal systems says the same, gradients too."""
    from ssm_manual.ops import chunked

    A, B, C = (np.exp(2j) * rng.uniform(0.5, 0.99, (2, 3)) for _ in range(3))
    u, x0 = complex_normal(rng, 2, 2, 150), complex_normal(rng, 2, 2, 3)
    A_bar = np.stack([np.diag(a) for a in A])
    args = A_bar, B[..., None], C[:, None], None, u[:, :, None], x0
    (y, x), kept = dense_chunked.apply_fwd(*args)
    expected, other = chunked.apply_fwd(A, B, C, None, u, x0, real=False)
    assert_close((y[:, :, 0], x), expected, 1e-12)
    g = cotangents(rng, (y, x))
    grads = dense_chunked.apply_vjp(kept, g)
    found = np.einsum("hnn->hn", grads[0]), grads[1][..., 0], grads[2][:, 0], grads[4][:, :, 0]
    expected = chunked.apply_vjp(other, (g[0][:, :, 0], g[1]))
    assert_close((*found, grads[5]), (*expected[:3], *expected[4:]), 1e-11)


def test_gradients_of_each_kind(rng):
    """No D, no x0; real matrices beside a complex signal, whose gradients are real."""
    A, B, C, D, u, x0 = system(rng, 2, 2, 3, 2, 1, 30)
    args = A, B, C, None, u, None
    out, kept = dense_chunked.apply_fwd(*args, chunk=8)
    grads = dense_chunked.apply_vjp(kept, cotangents(rng, out))
    assert grads[3] is None
    assert grads[5] is None
    args = A, B, C, D, u + 1j * u[::-1], x0
    out, kept = dense_chunked.apply_fwd(*args, chunk=8)
    assert [a.dtype for a in out] == [np.complex128] * 2
    grads = dense_chunked.apply_vjp(kept, cotangents(rng, out))
    assert [a.dtype for a in grads] == [a.dtype for a in args]
    assert [a.shape for a in grads] == [a.shape for a in args]
    assert gradcheck.check_vjp(
        dense_chunked.apply_fwd, dense_chunked.apply_vjp, args, chunk=8, directions=1
    )


def test_a_large_batch_in_groups(rng):
    """More sequences than a task takes: gradients of groups are added."""
    args = system(rng, 2 * dense_chunked.LARGEST_GROUP + 3, 1, 3, L=70)
    out, kept = dense_chunked.apply_fwd(*args, chunk=16)
    assert kept.sizes.group < len(args[4])
    y, states = loop(*args)
    assert_close(out, (y, states[-1]), 1e-12)
    g = cotangents(rng, out)
    assert_close(dense_chunked.apply_vjp(kept, g), loop_vjp(args, states, *g), 1e-11, names=NAMES)


def test_a_long_sequence_in_blocks(rng, monkeypatch):
    """Blocks of a few chunks and of one: the states go on from block to block."""
    args = system(rng, 3, 2, 4, 2, 2, 150)
    out, kept = dense_chunked.apply_fwd(*args, chunk=4)
    g = cotangents(rng, out)
    grads = dense_chunked.apply_vjp(kept, g)
    for rows in (1, 15):
        monkeypatch.setattr(dense_chunked, "ROWS", rows)
        again, kept = dense_chunked.apply_fwd(*args, chunk=4)
        assert kept.sizes.block == max(rows // kept.sizes.group, 1)
        assert_close(again, out, 1e-14)
        assert_close(dense_chunked.apply_vjp(kept, g), grads, 1e-12)


def test_a_beginning_is_the_beginning_of_the_whole(rng):
    *weights, u, x0 = system(rng, 2, 2, 20, 1, 1, 300)
    y = dense_chunked.apply(*weights, u, x0)[0]
    for k in (1, 15, 16, 17, 200, 299):
        head = dense_chunked.apply(*weights, u[..., :k], x0)[0]
        assert_close(head, y[..., :k], 1e-13)


def test_what_comes_later_changes_no_bit(rng):
    """Causality, exactly: the other half of every Toeplitz block is zero."""
    *weights, u, x0 = system(rng, 2, 2, 4, 2, 2, 200)
    later = u.copy()
    later[..., 120:] += 1e3 * rng.standard_normal((2, 2, 2, 80))
    y, other = (dense_chunked.apply(*weights, a, x0)[0] for a in (u, later))
    np.testing.assert_array_equal(y[..., :120], other[..., :120])
    assert np.all(y[..., 120] != other[..., 120])


# --------------------------------------------------------------------------------------- precision


def test_single_precision_over_a_long_sequence(rng):
    """HiPPO-LegS, 64 states, L 16384, systems in double beside signals in single."""
    weights = legs(rng, 4, 64)
    u, g = rng.standard_normal((2, 2, 4, 1, 16384)).astype(np.float32)
    exact, kept_exact = dense_chunked.apply_fwd(*weights, double([u])[0])
    out, kept = dense_chunked.apply_fwd(*weights, u)
    assert [a.dtype for a in out] == [np.float32] * 2
    assert max(of_norm(out, exact)) < 1e-6
    grads = dense_chunked.apply_vjp(kept, (g, None))[:5]
    expected = dense_chunked.apply_vjp(kept_exact, (double([g])[0], None))[:5]
    assert [a.dtype for a in grads] == [np.float64] * 4 + [np.float32]
    for a, e in zip(grads[:4], expected):  # system by system
        assert max(of_norm(a, e)) < 1e-5
    assert of_norm(grads[4:], expected[4:])[0] < 1e-6


def test_all_in_single_precision(rng):
    args = system(rng, 2, 2, 6, 2, 2, 100, dtype=np.float32, is_complex=True)
    out, kept = dense_chunked.apply_fwd(*args)
    assert [a.dtype for a in out] == [np.complex64] * 2
    y, states = loop(*double(args))
    assert max(of_norm(out, (y, states[-1]))) < 1e-5
    g = cotangents(rng, out)
    grads = dense_chunked.apply_vjp(kept, g)
    assert [a.dtype for a in grads] == [np.complex64] * 6
    assert max(of_norm(grads, loop_vjp(double(args), states, *double(g)))) < 1e-5


def test_nothing_becomes_subnormal():
    """An impulse that dies away ends in zeros, which are fast."""
    u = np.zeros((1, 1, 1, 4096), np.float32)
    u[..., 0] = 1
    one = np.ones((1, 1, 1))
    y, x_last = dense_chunked.apply(0.7 * one, one, one, None, u)
    assert y[0, 0, 0, 0] == 1
    assert not y[..., 3000:].any()
    assert not x_last.any()


def test_what_overflows_is_refused(rng):
    A, *rest = system(rng, 1, 1, 3, L=3000)
    with pytest.raises(ValueError, match=r"y would be NaN .* range of float64"):
        dense_chunked.apply(1e9 * A, *rest)


# ------------------------------------------------------------------------------------------- doors


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, layout):
    args = system(rng, 2, 2, 3, 2, 1, 50)
    out, kept = dense_chunked.apply_fwd(*args)
    again, kept_again = dense_chunked.apply_fwd(*(LAYOUTS[layout](a) for a in args))
    assert_close(again, out, 0)
    g = cotangents(rng, out)
    found = dense_chunked.apply_vjp(kept_again, tuple(LAYOUTS[layout](a) for a in g))
    assert_close(found, dense_chunked.apply_vjp(kept, g), 0)


def test_arguments_and_cotangents_are_left_alone(rng):
    args = system(rng, 2, 2, 3)
    before = [a.copy() for a in args]
    out, kept = dense_chunked.apply_fwd(*args)
    g = cotangents(rng, out)
    g_before = [a.copy() for a in g]
    first = dense_chunked.apply_vjp(kept, g)
    assert_close(dense_chunked.apply_vjp(kept, g), first, 0)
    for a, b in zip((*args, *g), (*before, *g_before)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("place", "bad", "message"),
    [
        (0, np.zeros((2, 3, 4)), r"A_bar has shape \(2, 3, 4\)"),
        (0, np.zeros((1, 3, 3)), r"A_bar has shape \(1, 3, 3\); it must be \(2,"),
        (0, np.full((2, 3, 3), np.nan), "A_bar holds nan"),
        (1, np.zeros((2, 3)), r"B_bar has shape \(2, 3\); it must be \(2, 3, 1\)"),
        (2, np.zeros((2, 1, 4)), r"C has shape \(2, 1, 4\); it must be \(2, any, 3\)"),
        (3, np.zeros((2, 1)), r"D has shape \(2, 1\); it must be \(2, 1, 1\)"),
        (4, np.zeros((2, 2, 9)), r"u has shape \(2, 2, 9\)"),
        (4, np.zeros((2, 2, 1, 9), int), "u has dtype int64"),
        (5, np.zeros((2, 2, 4)), r"x0 has shape \(2, 2, 4\); it must be \(2, 2, 3\)"),
        (5, np.zeros((2, 2, 3), np.float32), "x0 float32: all arrays must have one precision"),
    ],
)
def test_bad_arguments(rng, place, bad, message):
    args = list(system(rng, 2, 2, 3, L=9))
    args[place] = bad
    with pytest.raises(ValueError, match=message):
        dense_chunked.apply(*args)


def test_bad_options_and_precisions(rng):
    args = system(rng, 1, 1, 3, L=9)
    for bad in (0, -3, 1.5, True, "64"):
        with pytest.raises(ValueError, match="chunk is"):
            dense_chunked.apply(*args, chunk=bad)
    single = [cast(a, np.float32) for a in args]
    with pytest.raises(ValueError, match=r"C float32.*one precision"):
        dense_chunked.apply(*args[:2], single[2], *args[3:])
    with pytest.raises(ValueError, match=r"u float64.*one precision"):
        dense_chunked.apply(*single[:4], *args[4:])
    _, kept = dense_chunked.apply_fwd(*args)
    with pytest.raises(ValueError, match="grad_y has shape"):
        dense_chunked.apply_vjp(kept, (np.zeros((1, 1, 9)), None))


# ------------------------------------------------------------------------------------ planted bugs


def changed(name, change):
    """A fault in what the backward pass believes the system to be."""

    def plant(kept):
        model = kept.operands.model
        model = model._replace(**{name: change(getattr(model, name))})
        return kept._replace(operands=kept.operands._replace(model=model))

    return plant


@pytest.mark.parametrize(
    ("bug", "wrong"),
    [
        (changed("A", lambda a: a.swapaxes(1, 2).copy()), "A_bar B_bar C u x0"),
        (changed("B", np.zeros_like), "A_bar C u"),
        (changed("C", np.negative), "A_bar B_bar u x0"),
        (changed("D", np.zeros_like), "u"),
        (lambda kept: kept._replace(states=np.zeros_like(kept.states)), "A_bar C"),
    ],
)
def test_planted_bugs_are_found(rng, bug, wrong):
    args = system(rng, 2, 2, 3, 2, 2, 50)
    out, kept = dense_chunked.apply_fwd(*args, chunk=8)
    g = cotangents(rng, out)
    y_states = loop(*args)[1]
    errors = of_norm(dense_chunked.apply_vjp(bug(kept), g), loop_vjp(args, y_states, *g))
    assert {name for name, e in zip(NAMES, errors) if e > 1e-3} == set(wrong.split())


# ----------------------------------------------------------------------------------------- threads

WORK = """
import hashlib
import numba, numpy as np
from ssm_manual.ops import dense_chunked
rng = np.random.default_rng(3)
def work(dtype, H, batch, L, N=20, p=2):
    shapes = (H, N, N), (H, N, p), (H, 1, N), (H, 1, p), (batch, H, p, L), (batch, H, N)
    args = [rng.standard_normal(shape) for shape in shapes]
    args[0] *= 0.15
    args[4:] = [a.astype(dtype) for a in args[4:]]
    out, kept = dense_chunked.apply_fwd(*args)
    digest = hashlib.sha256()
    for a in (*out, *dense_chunked.apply_vjp(kept, out)):
        digest.update(a.tobytes())
    return digest.hexdigest()
print(work(np.float32, 7, 3, 517), work(np.float64, 1, 70, 200), numba.get_num_threads())
"""


def test_the_same_bits_for_any_number_of_threads():
    """Several systems, and one with many sequences."""
    runs = [
        run_python(WORK, NUMBA_NUM_THREADS=str(n), OPENBLAS_NUM_THREADS=str(m)).split()
        for n, m in [(1, 1), (2, 2)]
    ]
    assert [run[2] for run in runs] == ["1", "2"]
    assert runs[0][:2] == runs[1][:2]
