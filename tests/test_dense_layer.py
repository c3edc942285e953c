"""The dense layer: its equation, gradients, states, padding, one sample, clamp and other forms."""

import numpy as np
import pytest
from conftest import assert_close, error
from scipy import linalg

from ssm_manual import checkpoint, hippo
from ssm_manual.gradcheck import check_vjp
from ssm_manual.layers import DenseSSM

VIEWS = ("scan", "convolution", "chunked")
DISCRETISATIONS = ("tustin", "zoh", "none")


def make(rng, N=4, p=2, m=3, *, dtype="float64", **options):
    options = {"dt": 0.3, "train_state": True} | options
    layer = DenseSSM(N, p, m, dtype=dtype, rng=rng, **options)
    for name in {"A", "B", "bias", "x0"} & set(layer.params):
        a = layer.params[name]
        a += (0.1 * rng.standard_normal(a.shape)).astype(a.dtype)
    return layer


def by_definition(layer, u, x0=None):
    """[MIMO-1] in loops, A_bar and B_bar by the maps' own formulas."""
    A, B, dt = layer.A.astype(float), layer.params["B"].astype(float), layer.dt
    if layer.discretisation == "tustin":
        inverse = np.linalg.inv(np.eye(len(A)) - dt / 2 * A)
        A, B = inverse @ (np.eye(len(A)) + dt / 2 * A), inverse @ (dt * B)
    elif layer.discretisation == "zoh":
        N, p = B.shape
        joint = linalg.expm(dt * np.block([[A, B], [np.zeros((p, N + p))]]))
        A, B = joint[:N, :N], joint[:N, N:]
    x = np.tile(layer.params.get("x0", np.zeros(len(A))), (len(u), 1)) if x0 is None else x0
    y = np.empty((len(u), layer.outputs, u.shape[-1]))
    for t in range(u.shape[-1]):
        x = x @ A.T + u[..., t] @ B.T
        y[..., t] = x @ layer.params["C"].T + layer.params.get("bias", 0)
        if "D" in layer.params:
            y[..., t] += u[..., t] @ layer.params["D"].T
    return y, x


def run(layer, u, x0, g, g_x, lengths=None):
    """Everything that comes out of a layer, by name."""
    y, x, cache = layer.forward(u, x0, lengths=lengths)
    grad_u, grad_x0, grads = layer.backward(g, cache, g_x)
    return {"y": y, "x": x, "u": grad_u, "state": grad_x0} | grads


def drawn(rng, layer, batch=3, L=37):
    """Input, state and their cotangents."""
    shapes = (layer.inputs, L), (layer.states,), (layer.outputs, L), (layer.states,)
    return tuple(rng.standard_normal((batch, *s)).astype(layer.dtype) for s in shapes)


# -------------------------------------------------------------------------------- what it computes


@pytest.mark.parametrize("discretisation", DISCRETISATIONS)
@pytest.mark.parametrize("initial", hippo.MEASURES)
@pytest.mark.parametrize("given", [False, True])
def test_it_is_the_recurrence_by_definition(rng, initial, discretisation, given):
    layer = make(rng, initial=initial, discretisation=discretisation)
    u, x0, _, _ = drawn(rng, layer)
    state = x0 if given else None
    y, x, _ = layer.forward(u, state)
    expected, last = by_definition(layer, u, state)
    assert_close((y, x), (expected, last), 1e-12)


@pytest.mark.parametrize("left_out", ["bias", "feedthrough", "train_A", "train_state"])
def test_what_is_left_out_is_no_parameter(rng, left_out):
    layer = make(rng, **{left_out: False})
    name = {"bias": "bias", "feedthrough": "D", "train_A": "A", "train_state": "x0"}[left_out]
    assert set(layer.params) == {"A", "B", "C", "D", "bias", "x0"} - {name}
    u, x0, g, g_x = drawn(rng, layer)
    y, _, _ = layer.forward(u)
    assert error(y, by_definition(layer, u)[0]) < 1e-12
    found = run(layer, u, x0, g, g_x)
    assert set(found) == {"y", "x", "u", "state", *layer.params}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 2e-5)])
@pytest.mark.parametrize("length", [0, 1, 64, 197])
def test_all_views_agree_in_everything(rng, length, dtype, tolerance):
    layer = make(rng, dtype=dtype, initial="legs")
    u, x0, g, g_x = drawn(rng, layer, L=length)
    found = {}
    for layer.view in VIEWS:
        found[layer.view] = run(layer, u, x0, g, g_x)
    for name, expected in found["scan"].items():
        assert found["scan"][name].dtype == dtype
        for view in VIEWS[1:]:
            scale = np.maximum(np.abs(expected), 1e-3) if expected.size else None
            assert error(found[view][name], expected, scale) < tolerance, (view, name)


@pytest.mark.parametrize("discretisation", DISCRETISATIONS)
@pytest.mark.parametrize("given", [False, True])
def test_gradients(rng, discretisation, given):
    """Every parameter, the input and the state, from random cotangents of output and last state."""
    layer = make(rng, discretisation=discretisation)
    u, x0, _, _ = drawn(rng, layer, batch=2, L=9)
    names = list(layer.params)

    def forward(*args):
        layer.params = dict(zip(names, args))
        y, x, cache = layer.forward(args[-2], args[-1] if given else None)
        return (y, x), cache

    def backward(cache, grad_out):
        grad_u, grad_x0, grads = layer.backward(grad_out[0], cache, grad_out[1])
        assert (grad_x0 is None) != given
        grad_x0 = grad_x0 if given else np.zeros(x0.shape)
        return (*(grads[name] for name in names), grad_u, grad_x0)

    args = (*layer.params.values(), u, x0)
    report = check_vjp(forward, backward, args, arguments=(*names, "u", "state"))
    assert report, report


@pytest.mark.parametrize("given", [False, True])
def test_items_of_different_lengths_are_the_items_alone(rng, given):
    layer = make(rng)
    u, x0, g, g_x = drawn(rng, layer, batch=4, L=20)
    state, lengths = x0 if given else None, [20, 0, 7, 7]
    together = run(layer, u, state, g, g_x, lengths)
    sums = dict.fromkeys(layer.params, 0)
    for i, n in enumerate(lengths):
        one = slice(i, i + 1)
        alone = run(layer, u[one, :, :n], state[one] if given else None, g[one, :, :n], g_x[one])
        for name in ("y", "u"):
            assert error(together[name][one, :, :n], alone[name], 1.0) < 1e-12
            assert not together[name][one, :, n:].any()
        assert error(together["x"][one], alone["x"]) < 1e-12
        if given:
            assert error(together["state"][one], alone["state"]) < 1e-12
        sums = {name: sums[name] + alone[name] for name in sums}
    for name, expected in sums.items():
        assert error(together[name], expected, 1.0) < 1e-12, name


@pytest.mark.parametrize("discretisation", DISCRETISATIONS)
def test_step_is_forward_and_sees_every_change(rng, discretisation):
    layer = make(rng, discretisation=discretisation)
    u, _, _, _ = drawn(rng, layer, L=5)
    for change in (None, "A", "B", "C", "D", "bias", "x0", "dt"):
        if change == "dt":
            layer.dt = 0.4
        elif change:
            layer.params[change] *= 1.1
        y, x, _ = layer.forward(u)
        state = None
        for t in range(5):
            y_t, state = layer.step(u[..., t], state)
            assert error(y_t, y[..., t]) < 1e-12, change
        assert error(state, x) < 1e-12


def test_a_step_refuses_a_parameter_that_is_not_finite(rng):
    layer = make(rng)
    layer.step(np.zeros((1, 2)))
    layer.params["A"][0, 0] = np.nan
    for _ in range(2):
        with pytest.raises(ValueError, match="A holds nan"):
            layer.step(np.zeros((1, 2)))


def test_single_precision_keeps_A_bar_in_double(rng):
    """A slow system over 16384 samples, where rounding A_bar to float32 would show."""
    layer = make(rng, N=8, p=1, m=1, dtype="float32", dt=1e-4, train_state=False, view="chunked")
    arrays = {name: a.astype(float) for name, a in layer.to_arrays().items()}
    wide = DenseSSM.from_arrays(**arrays, discretisation="tustin", dt=layer.dt, view="chunked")
    u, _, g, _ = drawn(rng, layer, batch=1, L=16384)
    found, expected = (
        run(one, u.astype(one.dtype), None, g.astype(one.dtype), None) for one in (layer, wide)
    )
    for name, value in expected.items():
        if value is not None:
            assert found[name].dtype == "float32"
            assert error(found[name], value) < 3e-5, name


# ------------------------------------------------------------------------------------- stability


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("discretisation", DISCRETISATIONS)
def test_the_clamp_shrinks_every_eigenvalue_by_one_factor(rng, discretisation, dtype):
    layer = make(rng, N=6, discretisation=discretisation, dtype=dtype)
    layer.params["A"] += (2 * np.eye(6)).astype(dtype)
    before = layer.A_bar
    radius = np.abs(np.linalg.eigvals(before)).max()
    assert layer.spectral_radius == radius
    assert radius > 1
    assert layer.clamp(0.9)
    assert 0.9 - 1e-5 < layer.spectral_radius <= 0.9
    assert error(layer.A_bar, 0.9 / radius * before) < (1e-12 if dtype == "float64" else 1e-5)
    after = layer.A.copy()
    assert not layer.clamp(0.9)
    np.testing.assert_array_equal(layer.A, after)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_clamp_to_the_circle_at_minus_one(rng, dtype):
    """A_bar = -1 is the image of no finite A: it stops a little short of it."""
    layer = DenseSSM(2, 1, 1, rng=rng, initial=np.diag([10.0, -1.0]), dt=1.0, dtype=dtype)
    assert layer.spectral_radius == 1.5
    assert layer.clamp(1.0)
    assert 1 - 1e-6 < layer.spectral_radius <= 1
    assert np.isfinite(layer.A).all()


def test_a_spectral_radius_below_one_is_no_bound_on_what_comes_before():
    """Its notes say so: A_bar is not normal, and its powers may grow a thousandfold first."""
    A = np.diag([0.9, 0.9]) + np.diag([300.0], 1)
    layer = DenseSSM.from_arrays(A=A, B=np.eye(2), C=np.eye(2))
    assert layer.spectral_radius == 0.9
    assert np.linalg.norm(np.linalg.matrix_power(A, 9), 2) > 1000


# ----------------------------------------------------------------------------------- other forms


@pytest.mark.parametrize("train_A", [False, True])
def test_kept_in_a_file(rng, tmp_path, train_A):
    layer = make(rng, train_A=train_A, discretisation="zoh", view="scan")
    checkpoint.save(tmp_path / "a", layer)
    again = checkpoint.load(tmp_path / "a", expected=DenseSSM)
    assert repr(again) == repr(layer)
    assert (again.dt, again.view, set(again.params)) == (0.3, "scan", set(layer.params))
    u, x0, g, g_x = drawn(rng, layer)
    for name, value in run(layer, u, x0, g, g_x).items():
        np.testing.assert_array_equal(run(again, u, x0, g, g_x)[name], value)


def test_as_arrays_and_back(rng):
    layer = make(rng, bias=False, train_A=False)
    arrays = layer.to_arrays()
    assert set(arrays) == {"A", "B", "C", "D", "x0"}
    again = DenseSSM.from_arrays(**arrays, discretisation="tustin", dt=0.3, train_A=False)
    u, _, _, _ = drawn(rng, layer)
    np.testing.assert_array_equal(again.forward(u)[0], layer.forward(u)[0])
    arrays["A"][...] = 0
    assert layer.A.any()


def test_what_it_starts_from(rng):
    layer = DenseSSM(5, 1, 2, rng=rng, dtype="float64")
    A, B = hippo.legs(5)
    np.testing.assert_array_equal(layer.A, A)
    np.testing.assert_array_equal(layer.params["B"][:, 0], B)
    discrete = DenseSSM(5, 1, 2, rng=rng, dtype="float64", discretisation="none")
    assert error(discrete.A, layer.A_bar) < 1e-15
    assert not DenseSSM(5, 1, 2, rng=rng).params["bias"].any()
    several = DenseSSM(5, 3, 2, rng=rng).params["B"]
    assert np.linalg.matrix_rank(several) == 3
    own = DenseSSM(2, 1, 1, rng=rng, initial=[[0.0, 1.0], [-1.0, 0.0]], train_A=False)
    assert repr(own) == "DenseSSM(2 states, 1 inputs, 1 outputs, tustin, A fixed, float32)"
    np.testing.assert_array_equal(own.A, [[0, 1], [-1, 0]])


ARRAYS = {"A": np.eye(2), "B": np.ones((2, 1)), "C": np.ones((1, 2))}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: DenseSSM(0, 1, 1, rng=rng), "states is 0"),
        (lambda rng: DenseSSM(1, 0, 1, rng=rng), "inputs is 0"),
        (lambda rng: DenseSSM(1, 1, 0, rng=rng), "outputs is 0"),
        (lambda rng: DenseSSM(2, 1, 1, rng=1), "rng is 1"),
        (lambda rng: DenseSSM(2, 1, 1, rng=rng, initial="leg"), "initial is 'leg'"),
        (lambda rng: DenseSSM(2, 1, 1, rng=rng, initial=np.eye(3)), r"initial has shape \(3, 3\)"),
        (lambda rng: DenseSSM(2, 1, 1, rng=rng, discretisation="euler"), "discretisation is"),
        (lambda rng: DenseSSM(2, 1, 1, rng=rng, dt=0.0), "dt is 0.0"),
        (lambda rng: DenseSSM(2, 1, 1, rng=rng, view="fft"), "view is 'fft'"),
        (lambda rng: DenseSSM(2, 1, 1, rng=rng, bias=1), "bias is 1"),
        (lambda rng: DenseSSM(2, 1, 1, rng=rng, train_A="no"), "train_A is 'no'"),
        (lambda rng: DenseSSM(2, 1, 1, rng=rng, dtype="f2"), "dtype is"),
        (lambda rng: DenseSSM.from_arrays(**ARRAYS | {"A": np.eye(3)}), "A has shape"),
        (lambda rng: DenseSSM.from_arrays(**ARRAYS | {"C": np.ones((1, 3))}), "C has shape"),
        (lambda rng: DenseSSM.from_arrays(**ARRAYS, x0=np.ones(3)), "x0 has shape"),
        (lambda rng: DenseSSM.from_arrays(**ARRAYS, D=np.ones(1)), "D has shape"),
        (lambda rng: DenseSSM.from_arrays(**ARRAYS, bias=np.ones(2)), "bias has shape"),
        (lambda rng: DenseSSM.from_arrays(**ARRAYS | {"B": 1j * np.ones((2, 1))}), "B has dtype"),
        (lambda rng: make(rng).forward(np.ones((1, 3, 4))), r"u has shape \(1, 3, 4\)"),
        (lambda rng: make(rng).forward(np.ones((1, 2, 4), "f4")), "one precision"),
        (lambda rng: make(rng).forward(np.ones((1, 2, 4)), np.ones((2, 4))), "state has shape"),
        (lambda rng: make(rng).forward(np.ones((1, 2, 4)), lengths=[5]), "lengths holds 5"),
        (lambda rng: make(rng).step(np.ones((1, 3))), r"u_t has shape \(1, 3\)"),
        (lambda rng: make(rng).step(np.ones((1, 2)), np.ones((1, 3))), "state has shape"),
        (lambda rng: make(rng).clamp(1.5), "radius is 1.5"),
        (lambda rng: make(rng, train_A=False).clamp(), "A is fixed"),
        (
            lambda rng: make(rng).backward(
                np.ones((1, 2, 4)), make(rng).forward(np.ones((1, 2, 4)))[2]
            ),
            "grad_y has shape",
        ),
        (
            lambda rng: DenseSSM.from_checkpoint(make(rng).to_checkpoint()[0], {"A": np.eye(2)}),
            "it has the arrays",
        ),
    ],
)
def test_refuses(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(rng)
