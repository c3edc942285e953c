"""The S4 layer: views, gradients, states, padding, and its other forms.

What it shares with S4D is tested there; here is what depends on the low-rank term.
"""

import itertools

import numpy as np
import pytest
from conftest import assert_close, complex_normal, error
from scipy import signal

from ssm_manual import checkpoint, hippo
from ssm_manual.gradcheck import check_vjp
from ssm_manual.layers import S4, S4D, _low_rank

VIEWS = ("chunked", "scan", "convolution")
INITIAL = ("legs", "legt", "fout")


def make(rng, H=2, N=4, *, dtype="float64", trained=True, **options):
    """A layer whose every parameter has moved."""
    layer = S4(H, N, dtype=dtype, rng=rng, **({"dt_min": 0.02, "dt_max": 0.5} | options))
    for p in layer.params.values() if trained else ():
        p += 0.2 * (complex_normal(rng, *p.shape) if p.dtype.kind == "c" else rng.random(p.shape))
    return layer


def by_definition(layer, u, x):
    """The dense recurrence of [DPLR-1, 2], all states and their conjugates, in double precision."""
    p = {name: a.astype(np.result_type(a, float)) for name, a in layer.params.items()}
    y, last = np.empty(u.shape), np.empty((*u.shape[:2], layer.modes), complex)
    for h in range(layer.features):
        Lambda = -np.exp(p["log_A_real"][h]) + 1j * p["A_imag"][h]
        Lambda, P, B, C, state = (
            np.concatenate([a, a.conj()], axis=-1)
            for a in (Lambda, p["P"][h], layer.B[h].astype(complex), p["C"][h], x[:, h])
        )
        dt, one = np.exp(p["log_dt"][h]), np.eye(len(Lambda))
        A = np.diag(Lambda) - P.T @ P.conj()
        A_bar = np.linalg.solve(one - dt / 2 * A, one + dt / 2 * A)
        B_bar = np.linalg.solve(one - dt / 2 * A, dt * B)
        for t in range(u.shape[-1]):
            state = state @ A_bar.T + u[:, h, t, None] * B_bar
            y[:, h, t] = (state @ C).real + p["D"][h] * u[:, h, t]
        last[:, h] = state[:, : layer.modes]
    return y, last


def run(layer, u, x0, g, g_x, lengths=None):
    """Everything that comes out of a layer, by name."""
    y, x, cache = layer.forward(u, x0, lengths=lengths)
    grad_u, grad_x0, grads = layer.backward(g, cache, g_x)
    return {"y": y, "x": x, "u": grad_u, "x0": grad_x0} | grads


def signals(rng, layer, batch, L):
    """u, x0, and the cotangents of y and of the last state."""
    H, N, C = layer.features, layer.modes, layer.params["C"].dtype
    u, g = (rng.standard_normal((batch, H, L)).astype(layer.dtype) for _ in range(2))
    x0, g_x = (complex_normal(rng, batch, H, N).astype(C) for _ in range(2))
    return u, x0, g, g_x


# -------------------------------------------------------------------------------- what it computes


@pytest.mark.parametrize("initial", INITIAL)
def test_forward_steps_and_the_dense_recurrence(rng, initial):
    layer = make(rng, initial=initial, trained=initial != "legt")
    u, x0, _, _ = signals(rng, layer, 2, 90)
    expected, last = by_definition(layer, u, x0)
    for view in VIEWS:
        layer.view = view
        y, x, _ = layer.forward(u, x0)
        assert error(y, expected) < 1e-11
        assert error(x, last) < 1e-11
    state, out = x0, []
    for t in range(90):
        y_t, state = layer.step(u[..., t], state)
        out.append(y_t)
    assert error(np.stack(out, -1), expected) < 1e-12
    assert error(state, last) < 1e-12
    impulse = np.eye(1, 90)[None].repeat(2, axis=1)
    expected, _ = by_definition(layer, impulse, 0 * x0[:1])
    expected[..., 0] -= layer.params["D"]
    for L in (89, 90):
        assert error(layer.kernel(L), expected[0, :, :L]) < 1e-11
    _, found, _ = signal.dlsim(layer.to_statespace(), u[0].T)
    assert error(found.T, layer.forward(u[:1])[0][0]) < 1e-12
    _, found, _ = signal.dlsim(layer.to_statespace(1), u[0, 1:].T)
    assert error(found.T, layer.forward(u[:1])[0][0, 1:]) < 1e-12


@pytest.mark.parametrize("length", [1, 3, 17, 64, 1047])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-5)])
def test_all_views_agree_in_everything(rng, length, dtype, tolerance):
    layer = make(rng, dtype=dtype, dt_min=1e-3, dt_max=0.1, initial="legt", trained=length != 64)
    given = signals(rng, layer, 2, length)
    layer.view = "scan"
    expected = run(layer, *given)
    for view in ("chunked", "convolution"):
        layer.view = view
        for name, value in run(layer, *given).items():
            assert value.dtype == expected[name].dtype
            assert error(value, expected[name]) < tolerance, (view, name)


@pytest.mark.parametrize("initial", INITIAL)
@pytest.mark.parametrize("view", VIEWS)
def test_long_sequences_in_single_precision(rng, view, initial):
    """dt in [1e-3, 0.1], 16384 samples, against double precision: published code has 8.6e-4."""
    layer = S4(2, 8, rng=rng, initial=initial, view=view)
    wide = S4.from_arrays(**{name: a.astype(float) for name, a in layer.to_arrays().items()})
    u, _, g, _ = signals(rng, layer, 1, 16384)
    wide.view = "chunked"
    expected = run(wide, u.astype(float), None, g.astype(float), None)
    for name, value in run(layer, u, None, g, None).items():
        if value is not None:
            assert error(value, expected[name]) < 1e-5, name


def test_the_beginning_does_not_depend_on_the_end(rng):
    layer = make(rng)
    u = rng.standard_normal((2, 2, 300))
    for view in VIEWS:
        layer.view = view
        y, _, _ = layer.forward(u)
        for k in (1, 5, 63, 64, 65, 200):
            assert error(layer.forward(u[..., :k])[0], y[..., :k]) < 1e-12


def test_cutting_anywhere_changes_nothing(rng):
    layer = make(rng, view="chunked")
    u, x0, g, g_x = signals(rng, layer, 2, 200)
    whole = run(layer, u, x0, g, g_x)
    state, kept, y = x0, [], []
    cuts = list(itertools.pairwise([0, 1, 70, 70, 133, 200]))  # an empty piece too
    for (a, b), view in zip(cuts, itertools.cycle(VIEWS)):
        layer.view = view
        out, state, cache = layer.forward(u[..., a:b], state)
        kept.append(cache)
        y.append(out)
    adjoint, grad_u, total = g_x, [], {}
    for (a, b), cache in reversed([*zip(cuts, kept)]):
        to_u, adjoint, grads = layer.backward(g[..., a:b], cache, adjoint)
        grad_u.insert(0, to_u)
        total = {name: total.get(name, 0) + value for name, value in grads.items()}
    pieces = {"y": np.concatenate(y, -1), "x": state, "u": np.concatenate(grad_u, -1)}
    for name, value in (pieces | {"x0": adjoint} | total).items():
        assert error(value, whole[name]) < 1e-10, name


def test_no_parameters_are_unstable(rng):
    """[DPLR-10]: drawn at random, some of them huge."""
    layer = make(rng, H=20, N=3)
    for scale in (1, 10, 100):
        for name in ("P", "A_imag"):
            layer.params[name] *= scale
        layer.params["log_A_real"][...] = rng.normal(0, 4, (20, 3))
        layer.params["log_dt"][...] = rng.normal(0, 4, 20)
        for h in range(20):
            assert np.linalg.norm(layer.to_statespace(h)[0], 2) < 1 + 1e-13


@pytest.mark.parametrize("initial", ["legt", "fout"])
def test_a_small_decay_is_all_that_differs_from_hippo(initial):
    """Re Lambda starts from -1e-4, not from 0: 2e-4 of the kernel over the window."""
    layer = S4(1, 16, dtype="float64", rng=np.random.default_rng(0), initial=initial,
               dt_min=0.01, dt_max=0.01)  # fmt: skip
    kept = layer.kernel(200)
    layer.params["log_A_real"][...] = -700
    exact = layer.kernel(200)
    assert 1e-6 < error(kept, exact) < 2e-4


# ---------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    ("view", "bidirectional", "lengths"),
    [
        ("chunked", False, None),
        ("chunked", True, None),
        ("scan", False, [21, 9]),
        ("convolution", False, None),  # a call of it takes longest
    ],
)
def test_gradients(rng, view, bidirectional, lengths):
    sizes = (1, 2) if view == "convolution" else (2, 4)
    layer = make(rng, *sizes, view=view, bidirectional=bidirectional, initial="legt")
    names = list(layer.params)

    def forward(u, x0, *params):
        layer.params.update(zip(names, params))
        y, x, cache = layer.forward(u, x0, lengths=lengths)
        return ((y,) if x is None else (y, x)), cache

    def vjp(cache, grad_out):
        grad_u, grad_x0, grads = layer.backward(grad_out[0], cache, *grad_out[1:])
        return grad_u, grad_x0, *(grads[name] for name in names)

    u, x0, _, _ = signals(rng, layer, 2, 21)
    params = [value.copy() for value in layer.params.values()]
    report = check_vjp(forward, vjp, (u, None if bidirectional else x0, *params))
    assert report, report


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("train_B", [True, False])
def test_gradients_have_the_parameters_shapes_and_dtypes(rng, dtype, train_B):
    layer = make(rng, dtype=dtype, train_B=train_B, bidirectional=True)
    y, _, cache = layer.forward(rng.standard_normal((1, 2, 9)).astype(dtype))
    grad_u, _, grads = layer.backward(y, cache)
    assert y.dtype == grad_u.dtype == dtype
    assert grads.keys() == layer.params.keys()
    assert ("B" in grads) == train_B
    for name, value in layer.params.items():
        assert (grads[name].shape, grads[name].dtype) == (value.shape, value.dtype)


# ---------------------------------------------------------------------- both directions, padding


def test_both_directions_by_definition(rng):
    """[S4D-6] as two sums."""
    layer = make(rng, bidirectional=True)
    u, L = rng.standard_normal((2, 2, 30)), 30
    K = layer.kernel(L)
    arrays = layer.to_arrays()
    arrays["C"] = arrays.pop("C_reverse")
    K_reverse = S4.from_arrays(**arrays).kernel(L)
    expected = layer.params["D"][:, None] * u
    for t in range(L):
        for j in range(L):
            if t >= j:
                expected[..., t] += K[:, j] * u[..., t - j]
            if t + j < L:
                expected[..., t] += K_reverse[:, j] * u[..., t + j]
    for view in VIEWS:
        layer.view = view
        y, state, _ = layer.forward(u)
        assert state is None
        assert error(y, expected) < 1e-12


def test_an_item_of_a_padded_batch_is_the_item_alone(rng):
    for view in VIEWS:
        layer = make(rng, view=view)
        u, x0, g, g_x = signals(rng, layer, 3, 40)
        u[1, :, 17:] = 1e9  # never read
        lengths = [40, 17, 0]
        found, total = run(layer, u, x0, g, g_x, lengths), dict.fromkeys(layer.params, 0)
        for i, length in enumerate(lengths):
            one, short = slice(i, i + 1), slice(length)
            alone = run(layer, u[one, :, short], x0[one], g[one, :, short], g_x[one])
            for name in ("y", "u"):
                assert_close(found[name][one, :, short], alone[name], 1e-13)
                assert not found[name][one, :, length:].any()  # exactly zero
            for name in ("x", "x0"):
                assert_close(found[name][one], alone[name], 1e-13)
            total = {name: total[name] + alone[name] for name in total}
        for name, value in total.items():
            assert error(found[name], value) < 1e-12, name


# -------------------------------------------------------------------------------- sample by sample


@pytest.mark.parametrize("name", ["log_dt", "log_A_real", "A_imag", "P", "C", "B", "D"])
def test_a_step_sees_every_change_of_a_parameter(rng, name):
    layer = make(rng)
    u_t, state = rng.standard_normal((1, 2)), complex_normal(rng, 1, 2, 4)
    layer.step(u_t, state)
    for change in (1e-9, 0.1):
        layer.params[name].flat[-1] += change  # in place, one number, barely
        expected, after = by_definition(layer, u_t[..., None], state)
        y, x = layer.step(u_t, state)
        assert error(y, expected[..., 0]) < 1e-13
        assert error(x, after) < 1e-13
    layer.params[name].flat[-1] = np.nan
    with pytest.raises(ValueError, match=f"{name} holds"):
        layer.step(u_t, state)


def test_a_step_sees_other_sizes_and_is_told_all(rng):
    layer = make(rng)
    assert {id(a) for a in _low_rank.parameters(layer)} == {id(a) for a in layer.params.values()}
    for options in ({}, {"initial": "legt"}, {"N": 2}, {"dtype": "float32"}):
        other = make(rng, **options)
        layer.params = other.params
        u_t = rng.standard_normal((2, 2)).astype(other.dtype)
        assert np.array_equal(layer.step(u_t)[0], other.step(u_t)[0])
        forward = other.forward(u_t[..., None])[0][..., 0]
        assert error(layer.step(u_t)[0], forward) < (1e-13 if other.dtype == "float64" else 1e-5)


# ------------------------------------------------------------------------------------- other forms


def test_without_its_low_rank_term_it_is_s4d(rng):
    layer = make(rng)
    layer.params["P"][...] = 0
    arrays = layer.to_arrays()
    arrays.pop("P")
    other = S4D.from_arrays(**arrays, discretisation="tustin", train_B=True)
    given = signals(rng, layer, 2, 70)
    expected = run(other, *given)
    for name, value in run(layer, *given).items():
        if name != "P":
            assert error(value, expected[name]) < 1e-11, name


def test_it_starts_from_hippo(rng):
    layer = S4(3, 8, rng=rng, dtype="float64")
    Lambda, P, B, _ = hippo.dplr("legs", 16)
    assert error(layer.Lambda, np.broadcast_to(Lambda, (3, 8))) < 1e-15
    assert np.array_equal(layer.params["P"], np.broadcast_to(P, (3, 1, 8)))
    assert np.array_equal(layer.B, np.broadcast_to(B, (3, 8)))
    assert np.all((layer.dt >= 1e-3) & (layer.dt <= 0.1))
    assert layer.rank == 1
    assert repr(layer) == "S4(3 features, 8 modes, rank 1, float64)"
    assert S4(1, 2, rng=rng, initial="legt").rank == 2


@pytest.mark.parametrize("initial", ["legs", "legt"])
def test_a_new_layer_lies_in_memory_as_a_loaded_one_does(rng, initial):
    layer = S4(3, 4, rng=rng, initial=initial, bidirectional=True)
    assert [name for name, a in layer.params.items() if not a.flags.c_contiguous] == []
    assert S4(3, 4, rng=rng, train_B=False).B.flags.c_contiguous


@pytest.mark.parametrize("train_B", [True, False])
def test_arrays_and_checkpoints(tmp_path, rng, train_B):
    layer = make(rng, dtype="float32", train_B=train_B, bidirectional=True, view="scan")
    checkpoint.save(tmp_path / "m", layer)
    u = rng.standard_normal((2, 2, 50)).astype("f4")
    expected = layer.forward(u)[0]
    arrays = layer.to_arrays()
    others = [
        S4.from_arrays(**arrays, train_B=train_B, view="scan"),
        *(checkpoint.load(tmp_path / "m", expected=S4, mmap=mmap) for mmap in (False, True)),
    ]
    for again in others:
        assert again.forward(u)[0].tobytes() == expected.tobytes()
        assert again.params.keys() == layer.params.keys()
        assert (repr(again), again.view) == (repr(layer), "scan")
    arrays["P"][...] = 0  # a copy
    assert layer.params["P"].any()


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 0}, "features is 0"),
        ({"modes": 1.5}, "modes is 1.5"),
        ({"dtype": "int32"}, "dtype is 'int32'"),
        ({"rng": 0}, "rng is 0"),
        ({"initial": "lin"}, "initial is 'lin'"),
        ({"view": "fft"}, "view is 'fft'"),
        ({"dt_min": 1.0, "dt_max": 0.5}, "dt_max"),
        ({"train_B": 1}, "train_B is 1"),
        ({"bidirectional": None}, "bidirectional is None"),
    ],
)
def test_bad_arguments(rng, change, message):
    with pytest.raises(ValueError, match=message):
        S4(**({"features": 2, "modes": 2, "rng": rng} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"P": np.ones((2, 4), complex)}, "P has shape"),
        ({"P": np.ones((2, 0, 4), complex)}, "P has shape"),
        ({"P": np.ones((2, 1, 3), complex)}, "P has shape"),
        ({"P": None}, "P is None"),
        ({"B": None}, "B is None"),
        ({"D": np.zeros(2, "f4")}, "one precision"),
        ({"log_dt": np.zeros(3)}, "shape"),
    ],
)
def test_bad_arrays(rng, change, message):
    with pytest.raises(ValueError, match=message):
        S4.from_arrays(**(make(rng).to_arrays() | change))


def test_bad_calls(rng):
    layer, both = make(rng), make(rng, bidirectional=True)
    u, state = rng.standard_normal((2, 2, 8)), complex_normal(rng, 2, 2, 4)
    bad = {
        "u has shape": lambda: layer.forward(u[:, :1]),
        "u has dtype|must have one precision": lambda: layer.forward(u.astype("f4")),
        "state has shape": lambda: layer.forward(u, state[:1]),
        "has none to go on from": lambda: both.forward(u, state),
        "it has no step": lambda: both.step(u[..., 0]),
        "u_t holds": lambda: layer.step(np.full((2, 2), np.inf)),
        "no state-space system": lambda: both.to_statespace(),
        "channel is 2": lambda: layer.to_statespace(2),
        "grad_y has": lambda: layer.backward(u[:1], layer.forward(u)[2]),
        "holds the array|it must have": lambda: S4.from_checkpoint(
            {"view": "auto"}, layer.to_checkpoint()[1] | {"P": np.ones((2, 4), complex)}
        ),
    }
    for message, call in bad.items():
        with pytest.raises(ValueError, match=message):
            call()
