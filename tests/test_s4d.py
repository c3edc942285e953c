"""The S4D layer: views, gradients, states, padding, and its other forms."""

import itertools

import numpy as np
import pytest
from conftest import assert_close, error, load
from scipy import signal

from ssm_manual import checkpoint, hippo
from ssm_manual.gradcheck import check_vjp
from ssm_manual.layers import S4D, _continuous

VIEWS = ("chunked", "scan", "convolution")
DISCRETISATIONS = ("zoh", "tustin")
MINIMAL = load("s4d_minimal.npz")
DIAGONAL = load("s4_kernel_diag.npz")


def make(rng, H=3, N=5, *, dtype="float64", **options):
    options = {"dt_min": 0.02, "dt_max": 0.5} | options
    layer = S4D(H, N, dtype=dtype, rng=rng, **options)
    if "B" in layer.params:
        layer.params["B"][...] += 0.3 * rng.standard_normal((H, N))
    return layer


def twin(layer, view):
    """The same layer in another view."""
    hyper, arrays = layer.to_checkpoint()
    return S4D.from_checkpoint(hyper | {"view": view}, {k: v.copy() for k, v in arrays.items()})


def complex_normal(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def by_definition(layer, u, x0=None):
    """[S4D-4] in loops, in double precision, from A and dt by the maps' own formulas."""
    A, dt, B = layer.A, layer.dt[:, None], layer.B.astype(complex)
    if layer.discretisation == "zoh":
        A_bar = np.exp(dt * A)
        B_bar = (A_bar - 1) / A * B
    else:
        A_bar = (1 + dt * A / 2) / (1 - dt * A / 2)
        B_bar = dt * B / (1 - dt * A / 2)
    x = np.zeros((len(u), *A.shape), complex) if x0 is None else x0
    y = np.empty(u.shape)
    for t in range(u.shape[-1]):
        x = A_bar * x + B_bar * u[..., t, None]
        y[..., t] = 2 * np.sum(layer.params["C"] * x, axis=-1).real + layer.params["D"] * u[..., t]
    return y, x


def run(layer, u, x0, g, g_x, lengths=None):
    """Everything that comes out of a layer, by name."""
    y, x, cache = layer.forward(u, x0, lengths=lengths)
    grad_u, grad_x0, grads = layer.backward(g, cache, g_x)
    return {"y": y, "x": x, "u": grad_u, "x0": grad_x0} | grads


# -------------------------------------------------------------------------------- what it computes


@pytest.mark.parametrize("initial", hippo.INITIAL)
@pytest.mark.parametrize("discretisation", DISCRETISATIONS)
@pytest.mark.parametrize("view", VIEWS)
def test_it_is_the_recurrence_by_definition(rng, view, discretisation, initial):
    layer = make(rng, view=view, discretisation=discretisation, initial=initial, train_B=True)
    u, x0 = rng.standard_normal((2, 3, 150)), complex_normal(rng, 2, 3, 5)
    y, x, _ = layer.forward(u, x0)
    expected, last = by_definition(layer, u, x0)
    assert error(y, expected) < 1e-11
    assert error(x, last) < 1e-11


@pytest.mark.parametrize("length", [1, 2, 3, 17, 64, 1047, 4096])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 3e-4)])
@pytest.mark.parametrize("discretisation", DISCRETISATIONS)
def test_all_views_agree_in_everything(rng, length, dtype, tolerance, discretisation):
    layer = make(rng, H=2, N=7, dtype=dtype, dt_min=1e-3, dt_max=0.1, train_B=True,
                 discretisation=discretisation)  # fmt: skip
    C = layer.params["C"].dtype
    u, g = (rng.standard_normal((2, 2, length)).astype(dtype) for _ in range(2))
    x0, g_x = (complex_normal(rng, 2, 2, 7).astype(C) for _ in range(2))
    found = {view: run(twin(layer, view), u, x0, g, g_x) for view in VIEWS}
    for name, expected in found["chunked"].items():
        for view in ("scan", "convolution"):
            assert error(found[view][name], expected) < tolerance, (view, name)


@pytest.mark.parametrize("view", VIEWS)
def test_long_sequences_in_single_precision(rng, view):
    """dt in [1e-3, 0.1], 16384 samples, against the same layer in double precision."""
    layer = make(rng, H=3, N=9, dtype="float32", dt_min=1e-3, dt_max=0.1, view=view)
    arrays = {name: a.astype(float) for name, a in layer.to_arrays().items()}
    wide = S4D.from_arrays(**arrays)
    u, g = (rng.standard_normal((1, 3, 16384)).astype("f4") for _ in range(2))
    found = run(layer, u, None, g, None)
    expected = run(wide, u.astype(float), None, g.astype(float), None)
    for name, value in expected.items():
        if value is not None:
            assert error(found[name], value) < 3e-4, name


@pytest.mark.parametrize("discretisation", DISCRETISATIONS)
def test_slow_modes_keep_their_phases_in_single_precision(rng, discretisation):
    """log A_bar is in double precision all the way: rounded, it costs a hundred times more."""
    layer = make(rng, H=2, dtype="float32", dt_min=0.01, dt_max=0.1, initial="lin",
                 discretisation=discretisation, view="chunked")  # fmt: skip
    layer.params["log_A_real"][...] = np.log(0.005)
    arrays = {name: a.astype(float) for name, a in layer.to_arrays().items()}
    wide = S4D.from_arrays(**arrays, discretisation=discretisation, view="chunked")
    u, g = (rng.standard_normal((1, 2, 16384)).astype("f4") for _ in range(2))
    found = run(layer, u, None, g, None)
    expected = run(wide, u.astype(float), None, g.astype(float), None)
    for name, value in expected.items():
        if value is not None:
            assert error(found[name], value) < 4e-6, name


@pytest.mark.parametrize("view", VIEWS)
def test_the_beginning_does_not_depend_on_the_end(rng, view):
    layer = make(rng, view=view)
    u = rng.standard_normal((2, 3, 700))
    y, _, _ = layer.forward(u)
    for k in (1, 5, 63, 64, 65, 500):
        assert error(layer.forward(u[..., :k])[0], y[..., :k]) < 1e-12


@pytest.mark.parametrize("view", [*VIEWS, "auto"])
def test_cutting_anywhere_changes_nothing(rng, view):
    layer = make(rng, view=view)
    u, g = rng.standard_normal((2, 3, 300)), rng.standard_normal((2, 3, 300))
    x0, g_x = complex_normal(rng, 2, 3, 5), complex_normal(rng, 2, 3, 5)
    whole = run(layer, u, x0, g, g_x)
    cuts = np.sort(rng.integers(0, 301, 4))
    edges = [0, *cuts, *cuts[:1], 300]  # an empty piece too
    edges = sorted(edges)
    state, kept, y = x0, [], []
    for a, b in itertools.pairwise(edges):
        out, state, cache = layer.forward(u[..., a:b], state)
        kept.append(cache)
        y.append(out)
    adjoint, grad_u, total = g_x, [], {}
    for (a, b), cache in reversed([*zip(itertools.pairwise(edges), kept)]):
        to_u, adjoint, grads = layer.backward(g[..., a:b], cache, adjoint)
        grad_u.insert(0, to_u)
        total = {name: total.get(name, 0) + value for name, value in grads.items()}
    pieces = {"y": np.concatenate(y, -1), "x": state, "u": np.concatenate(grad_u, -1)}
    for name, value in (pieces | {"x0": adjoint} | total).items():
        assert error(value, whole[name]) < 1e-10, name


# ---------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("discretisation", DISCRETISATIONS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, [37, 20, 0]])
def test_gradients(rng, view, discretisation, bidirectional, lengths):
    options = {"view": view, "discretisation": discretisation, "bidirectional": bidirectional}
    layer = make(rng, train_B=True, **options)
    names = list(layer.params)

    def forward(u, x0, *params):
        layer.params.update(zip(names, params))
        y, x, cache = layer.forward(u, x0, lengths=lengths)
        return ((y,) if x is None else (y, x)), cache

    def vjp(cache, grad_out):
        grad_u, grad_x0, grads = layer.backward(grad_out[0], cache, *grad_out[1:])
        return grad_u, grad_x0, *(grads[name] for name in names)

    u = rng.standard_normal((3, 3, 37))
    x0 = None if bidirectional else complex_normal(rng, 3, 3, 5)
    params = [value.copy() for value in layer.params.values()]
    report = check_vjp(forward, vjp, (u, x0, *params))
    assert report, report


def test_the_gradient_through_a_pole_at_zero(rng):
    """Tustin with dt A = -2: A_bar is 0 and has no logarithm, but a derivative."""
    layer = make(rng, H=1, N=2, discretisation="tustin", initial="real", view="chunked")
    layer.params["log_dt"][...] = np.log(0.5)
    layer.params["log_A_real"][...] = np.log([[4.0, 1.0]])
    assert _continuous.system(layer).A_bar[0, 0] == 0
    u, g = rng.standard_normal((1, 1, 40)), rng.standard_normal((1, 1, 40))
    found = run(layer, u, None, g, None)
    expected = run(twin(layer, "scan"), u, None, g, None)
    for name in ("y", "x", "u", "log_dt", "log_A_real", "A_imag", "C", "D"):
        assert error(found[name], expected[name]) < 1e-12, name


def test_frozen_input_weights_have_no_gradient(rng):
    layer = make(rng)
    y, _, cache = layer.forward(rng.standard_normal((1, 3, 9)))
    assert set(layer.backward(y, cache)[2]) == set(layer.params) == set(layer.to_arrays()) - {"B"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_have_the_parameters_shapes_and_dtypes(rng, dtype):
    layer = make(rng, dtype=dtype, train_B=True, bidirectional=True)
    y, _, cache = layer.forward(rng.standard_normal((1, 3, 9)).astype(dtype))
    grad_u, _, grads = layer.backward(y, cache)
    assert y.dtype == grad_u.dtype == dtype
    for name, value in layer.params.items():
        assert (grads[name].shape, grads[name].dtype) == (value.shape, value.dtype)


# ---------------------------------------------------------------------- both directions, padding


@pytest.mark.parametrize("view", VIEWS)
def test_both_directions_by_definition(rng, view):
    """[S4D-6] as two sums: the sample itself is in both, D once, nothing shifted."""
    layer = make(rng, bidirectional=True, view=view)
    L = 30
    u = rng.standard_normal((2, 3, L))
    K = layer.kernel(L)
    other = twin(layer, view)
    other.params["C"] = other.params["C_reverse"]
    K_reverse = other.kernel(L)
    y, state, _ = layer.forward(u)
    expected = layer.params["D"][:, None] * u
    for t in range(L):
        for j in range(L):
            if t >= j:
                expected[..., t] += K[:, j] * u[..., t - j]
            if t + j < L:
                expected[..., t] += K_reverse[:, j] * u[..., t + j]
    assert state is None
    assert error(y, expected) < 1e-12


@pytest.mark.parametrize("lengths", [[50, 0, 17, 50, 1], [17] * 5], ids=["mixed", "equal"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_an_item_of_a_padded_batch_is_the_item_alone(rng, view, bidirectional, lengths):
    layer = make(rng, view=view, bidirectional=bidirectional)
    u, g = rng.standard_normal((5, 3, 50)), rng.standard_normal((5, 3, 50))
    u[2, :, 17:] = 1e9  # never read
    x0 = g_x = None
    if not bidirectional:
        x0, g_x = complex_normal(rng, 5, 3, 5), complex_normal(rng, 5, 3, 5)
    found = run(layer, u, x0, g, g_x, lengths)
    total = dict.fromkeys(layer.params, 0)
    for i, length in enumerate(lengths):
        one = slice(i, i + 1)
        state = (None, None) if bidirectional else (x0[one], g_x[one])
        alone = run(layer, u[one, :, :length], state[0], g[one, :, :length], state[1])
        for name in ("y", "u"):
            assert_close(found[name][one, :, :length], alone[name], 1e-13)
            assert not found[name][one, :, length:].any()  # exactly zero
        for name in () if bidirectional else ("x", "x0"):
            assert_close(found[name][one], alone[name], 1e-13)
        total = {name: total[name] + alone[name] for name in total}
    for name, value in total.items():
        assert error(found[name], value) < 1e-12, name


def test_items_of_one_batch_may_take_different_views(rng, monkeypatch):
    """``auto``: long items by chunks, short ones by the scan; their gradients are added."""
    monkeypatch.setattr(_continuous, "SHORT", 40)
    auto = make(rng, view="auto", discretisation="tustin", train_B=True)
    u, g = rng.standard_normal((3, 3, 50)), rng.standard_normal((3, 3, 50))
    x0, g_x = complex_normal(rng, 3, 3, 5), complex_normal(rng, 3, 3, 5)
    lengths = [50, 7, 33]
    pieces = auto.forward(u, x0, lengths=lengths)[2].pieces
    assert {piece.view for piece in pieces} == {"scan", "chunked"}
    found = run(auto, u, x0, g, g_x, lengths)
    for name, value in run(twin(auto, "scan"), u, x0, g, g_x, lengths).items():
        assert error(found[name], value) < 1e-12, name


# -------------------------------------------------------------------------------- sample by sample


@pytest.mark.parametrize("discretisation", DISCRETISATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_steps_are_the_sequence(rng, discretisation, dtype, tolerance):
    layer = make(rng, dtype=dtype, discretisation=discretisation)
    u = rng.standard_normal((2, 3, 40)).astype(dtype)
    y, last, _ = layer.forward(u)
    state, out = None, []
    for t in range(40):
        y_t, state = layer.step(np.ascontiguousarray(u[..., t]), state)
        out.append(y_t)
    assert error(np.stack(out, -1), y) < tolerance
    assert error(state, last) < tolerance
    assert out[0].dtype == dtype


@pytest.mark.parametrize("name", ["log_dt", "log_A_real", "A_imag", "C", "B", "D"])
def test_a_step_sees_every_change_of_a_parameter(rng, name):
    layer = make(rng, train_B=True)
    u_t, state = rng.standard_normal((1, 3)), complex_normal(rng, 1, 3, 5)
    before, _ = layer.step(u_t, state)
    layer.params[name].flat[-1] += 1e-9  # in place, one number, barely
    after, _ = layer.step(u_t, state)
    expected, _ = by_definition(layer, u_t[..., None], state)
    assert error(after, expected[..., 0]) < 1e-14
    layer.params[name] = layer.params[name][::-1].copy()  # another array
    expected, _ = by_definition(layer, u_t[..., None], state)
    assert error(layer.step(u_t, state)[0], expected[..., 0]) < 1e-14
    assert not np.array_equal(before, after) or name == "log_dt"


def test_a_step_sees_another_discretisation_and_other_sizes(rng):
    layer, u_t = make(rng), rng.standard_normal((2, 3))
    layer.step(u_t)
    layer.discretisation = "tustin"
    assert_close(layer.step(u_t)[0], layer.forward(u_t[..., None])[0][..., 0], 1e-14)
    layer.B[0, 0] += 1  # not trained, but edited
    assert_close(layer.step(u_t)[0], layer.forward(u_t[..., None])[0][..., 0], 1e-14)
    for options in ({"N": 2}, {"N": 90}, {"dtype": "float32"}):
        other = make(rng, train_B=True, discretisation="tustin", **options)
        layer.params = other.params
        given = u_t.astype(other.dtype)
        assert np.array_equal(layer.step(given)[0], other.step(given)[0])


@pytest.mark.parametrize("name", ["log_dt", "A_imag", "C", "B", "D"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_step_refuses_parameters_that_are_not_finite(rng, name, value):
    """As `forward` does; NaN is never equal to what was kept, and no table is."""
    layer = make(rng, train_B=True)
    layer.step(rng.standard_normal((1, 3)))
    layer.params[name].flat[-1] = value
    with pytest.raises(ValueError, match=f"{name} holds"):
        layer.step(rng.standard_normal((1, 3)))


def test_a_step_leaves_the_state_it_was_given(rng):
    layer = make(rng)
    state = complex_normal(rng, 1, 3, 5)
    kept = state.copy()
    layer.step(rng.standard_normal((1, 3)), state)
    assert np.array_equal(state, kept)


def test_a_step_takes_arrays_of_any_layout(rng):
    layer = make(rng)
    u, state = rng.standard_normal((3, 2)).T, np.asfortranarray(complex_normal(rng, 2, 3, 5))
    state.setflags(write=False)
    expected = layer.step(np.ascontiguousarray(u), np.ascontiguousarray(state))
    found = layer.step(u, state)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected))
    assert np.array_equal(layer.step(u.tolist(), state)[0], expected[0])


# ------------------------------------------------------------------------------------- other forms


@pytest.mark.parametrize("case", ["kernel_a", "kernel_b"])
@pytest.mark.parametrize("view", VIEWS)
def test_weights_trained_elsewhere(case, view):
    """The minimal reference layer: its kernel, and its gradients, from its own arrays."""
    data = {name.split("/")[1]: MINIMAL[name] for name in MINIMAL if name.startswith(case)}
    names = ("log_dt", "C", "log_A_real", "A_imag")
    H, L = data["K"].shape
    layer = S4D.from_arrays(**{name: data[name] for name in names}, D=np.zeros(H), view=view)
    assert error(layer.kernel(L), data["K"]) < 1e-12
    impulse = np.zeros((1, H, L))
    impulse[..., 0] = 1
    y, _, cache = layer.forward(impulse)
    assert error(y[0], data["K"]) < 1e-12
    grads = layer.backward(data["W"][None], cache)[2]
    grads["C"] = np.stack([grads["C"].real, grads["C"].imag], -1)
    for name in names:
        assert error(grads[name], data[f"grad_{name}"]) < 1e-10, name


CASES = sorted({"/".join(name.split("/")[:2]) for name in DIAGONAL if name.startswith("diag-")})


@pytest.mark.parametrize("case", CASES)
def test_kernels_of_another_implementation(case):
    """Both discretisations of six initialisations, with its gradients [parity, 1e-12]."""
    data = {name.split("/")[2]: DIAGONAL[name] for name in DIAGONAL if name.startswith(case + "/")}
    H = data["A_real"].shape[0]
    layer = S4D.from_arrays(
        log_dt=data["inv_dt"][:, 0],
        C=data["C"][0],
        log_A_real=data["A_real"],
        A_imag=-data["A_imag"],  # they store the other half of each pair
        D=np.zeros(H),
        B=data["B"][0],
        train_B=True,
        discretisation="zoh" if case.endswith("zoh") else "tustin",
        view="chunked",
    )
    impulse = np.zeros((1, H, data["K"].shape[-1]))
    impulse[..., 0] = 1
    y, _, cache = layer.forward(impulse)
    assert error(y[0], data["K"][0]) < 1e-12
    grads = layer.backward(data["W"], cache)[2]
    for name in ("C", "B"):
        own = np.stack([grads[name].real, grads[name].imag], -1)
        assert error(own, data[f"grad_{name}"][0]) < 1e-10, name
    assert error(grads["log_dt"], data["grad_inv_dt"][:, 0]) < 1e-10
    assert error(grads["log_A_real"], data["grad_A_real"]) < 1e-10
    assert error(-grads["A_imag"], data["grad_A_imag"]) < 1e-10


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_arrays_and_back(rng, dtype, bidirectional):
    layer = make(rng, dtype=dtype, bidirectional=bidirectional, train_B=True)
    arrays = layer.to_arrays()
    again = S4D.from_arrays(**arrays, train_B=True)
    assert again.params.keys() == layer.params.keys()
    for name, value in layer.params.items():
        assert again.params[name].tobytes() == value.tobytes()
    arrays["C"][...] = 0  # a copy
    assert layer.params["C"].any()


@pytest.mark.parametrize("discretisation", DISCRETISATIONS)
@pytest.mark.parametrize("channel", [None, 1])
def test_scipy_gives_the_same_output(rng, discretisation, channel):
    layer = make(rng, discretisation=discretisation)
    u = rng.standard_normal((1, 3, 60))
    y, _, _ = layer.forward(u)
    rows = slice(None) if channel is None else slice(channel, channel + 1)
    _, found, _ = signal.dlsim(layer.to_statespace(channel), u[0, rows].T)
    assert error(found.T, y[0, rows]) < 1e-12


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("options", [{}, {"train_B": True, "bidirectional": True}])
def test_checkpoints(tmp_path, rng, mmap, options):
    layer = make(rng, dtype="float32", discretisation="tustin", view="scan", **options)
    checkpoint.save(tmp_path / "m", layer)
    again = checkpoint.load(tmp_path / "m", expected=S4D, mmap=mmap)
    u = rng.standard_normal((2, 3, 50)).astype("f4")
    assert layer.forward(u)[0].tobytes() == again.forward(u)[0].tobytes()
    assert repr(again) == repr(layer)


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 0}, "features is 0"),
        ({"modes": 1.5}, "modes is 1.5"),
        ({"dtype": "int32"}, "dtype is 'int32'"),
        ({"dtype": None}, "dtype is None"),
        ({"rng": 0}, "rng is 0"),
        ({"initial": "leg"}, "did you mean 'legs'"),
        ({"discretisation": "bilinear"}, "discretisation is"),
        ({"view": "fft"}, "view is 'fft'"),
        ({"dt_min": 0.0}, "dt_min"),
        ({"dt_min": 1.0, "dt_max": 0.5}, "dt_max"),
        ({"train_B": 1}, "train_B is 1"),
        ({"bidirectional": None}, "bidirectional is None"),
    ],
)
def test_bad_arguments(rng, change, message):
    with pytest.raises(ValueError, match=message):
        S4D(**({"features": 2, "modes": 2, "rng": rng} | change))


def test_bad_calls(rng):
    layer, both = make(rng), make(rng, bidirectional=True)
    u, state = rng.standard_normal((2, 3, 8)), complex_normal(rng, 2, 3, 5)
    bad = {
        "u has shape": lambda: layer.forward(u[0]),
        "must have one precision": lambda: layer.forward(u.astype("f4")),
        "must be real": lambda: layer.forward(u + 0j),
        "finite": lambda: layer.forward(np.where(u > 1, np.nan, u)),
        "state has shape": lambda: layer.forward(u, state[:1]),
        "has none to go on from": lambda: both.forward(u, state),
        "it has no step": lambda: both.step(u[..., 0]),
        "u_t has shape": lambda: layer.step(u[:, :2, 0]),
        "u_t holds": lambda: layer.step(np.full((2, 3), np.inf)),
        "no state-space system": lambda: both.to_statespace(),
        "channel is 3": lambda: layer.to_statespace(3),
        "lengths holds 9": lambda: layer.forward(u, lengths=[8, 9]),
        "lengths holds -1": lambda: layer.forward(u, lengths=[8, -1]),
        "lengths is": lambda: layer.forward(u, lengths=[8.0, 1.0]),
        "must hold 2 integers": lambda: layer.forward(u, lengths=[8]),
        "grad_y has": lambda: layer.backward(u[:1], layer.forward(u)[2]),
        "grad_state is given": lambda: both.backward(u, both.forward(u)[2], state),
    }
    for message, call in bad.items():
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"C": np.ones((3, 4, 3))}, "C has shape"),
        ({"log_dt": np.zeros(2)}, "shape"),
        ({"D": np.zeros(3, "f4")}, "one precision"),
        ({"A_imag": np.full((3, 4), np.nan)}, "A_imag holds"),
        ({"B": np.ones((3, 5), complex)}, "B has shape"),
    ],
)
def test_bad_arrays(rng, change, message):
    arrays = make(rng, N=4).to_arrays()
    with pytest.raises(ValueError, match=message):
        S4D.from_arrays(**(arrays | change))


def test_the_compiled_step_is_told_all_that_its_tables_depend_on(rng):
    layer = make(rng, train_B=True)
    told = {id(a) for a in _continuous.parameters(layer)}
    assert told == {id(a) for a in layer.params.values()}


@pytest.mark.parametrize("lengths", [None, [2, 0]])
def test_memory_that_others_left_behind_is_not_read(rng, lengths):
    """The last states were once cast from fresh memory: whatever it held could overflow there."""
    layer = S4D(2, 3, rng=rng)
    u = np.ones((2, 2, 4), np.float32)
    expected = layer.forward(u, lengths=lengths)
    for count in (6, 12, 24):  # of the sizes that arrays of states may have
        left = [np.full(count, 1e300) for _ in range(8)]
        del left
        for a, b in zip(layer.forward(u, lengths=lengths)[:2], expected[:2]):
            assert np.array_equal(a, b)
