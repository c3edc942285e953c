"""`DiagonalSSM`: what it computes, its hand-written gradients, and the doors it keeps shut."""

import copy
import itertools

import numpy as np
import pytest
from conftest import assert_close, cast, complex_normal, cotangents, discrete_poles
from scipy import signal

from ssm_manual import reference
from ssm_manual.gradcheck import check_vjp
from ssm_manual.models import DiagonalSSM

#: Every kind of model, by name: keywords of `make`.
KINDS = {
    f"{parameters}-{'real' if real else 'complex'}{'-D' if skip else ''}": {
        "parameters": parameters,
        "real": real,
        "skip": skip,
    }
    for parameters, real, skip in itertools.product(
        ("discrete", "dt", "sqrt_dt"), (True, False), (True, False)
    )
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


def make(rng, kind, poles=4, dtype=np.float64, low=0.5, high=0.99):
    """A random model; ``parameters`` of its kind says discrete, or the input scale."""
    form = KINDS[kind]
    A = discrete_poles(rng, poles, low=low, high=high)
    B, C = complex_normal(rng, poles), complex_normal(rng, poles)
    D = rng.standard_normal() if form["real"] else complex(complex_normal(rng))
    options = {"real": form["real"]}
    if form["parameters"] != "discrete":
        dt = 0.3  # far from the limit of small dt, where wrong derivatives look right
        A, B = 2 / dt * (A - 1) / (A + 1), B / dt
        options |= {"dt": dt, "parameters": "continuous", "input_scale": form["parameters"]}
    return DiagonalSSM(*(cast(a, dtype) for a in (A, B, C)), D if form["skip"] else None, **options)


def draw(rng, model, *shape):
    """A random input in the model's precision, complex where the model takes it."""
    u = rng.standard_normal(shape) if model.real else complex_normal(rng, *shape)
    return cast(u, model.dtype)


def slow(model, u, state=None):
    """The model by `ssm_manual.reference`, in double precision."""
    p = {k: v.astype(complex if v.dtype.kind == "c" else float) for k, v in model.params.items()}
    A, B = p["A"], p["B"]
    if model.parameters == "continuous":
        dt = np.exp(p["log_dt"])
        A, B = reference.discretize.tustin(A, B, dt, input_scale=model.input_scale)
    rows = np.atleast_2d(u)[:, None].astype(float if u.dtype.kind == "f" else complex)
    x0 = None if state is None else state.reshape(-1, 1, A.size)
    y, x = reference.scan.scan(A, B, p["C"], p.get("D"), rows, x0, real=model.real)
    return y.reshape(u.shape), x.reshape(*u.shape[:-1], A.size)


# ------------------------------------------------------------------------------------- forward


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("view", ["auto", "scan", "convolution"])
@EVERY_KIND
def test_forward_equals_the_reference(rng, kind, view, dtype):
    for poles, shape, with_state in [
        (1, (1,), False),
        (4, (17,), True),
        (7, (3, 64), True),
        (4, (1, 131), False),
        (4, (2, 0), True),
        (4, (0,), False),
    ]:
        model = make(rng, kind, poles, dtype)
        u = draw(rng, model, *shape)
        state = cast(complex_normal(rng, *shape[:-1], poles), dtype) if with_state else None
        y, last, _ = model.forward(u, state, view=view)
        expected_y, expected_last = slow(model, u, state)
        complex_dtype = np.result_type(dtype, np.complex64)
        assert (y.dtype, last.dtype) == (dtype if model.real else complex_dtype, complex_dtype)
        assert_close(y, expected_y, TOLERANCE[dtype])
        assert_close(last, expected_last, TOLERANCE[dtype])


@EVERY_KIND
def test_step_by_step_equals_forward(rng, kind):
    model = make(rng, kind)
    for shape in [(20,), (3, 20)]:
        u = draw(rng, model, *shape)
        y, last, _ = model.forward(u)
        state = None
        for t in range(shape[-1]):
            y_t, state = model.step(u[..., t], state)
            assert y_t.shape == shape[:-1]
            assert_close(y_t, y[..., t], 1e-13, scale=np.max(np.abs(y)))
        assert_close(state, last, 1e-13)


def test_step_takes_a_python_number():
    model = DiagonalSSM([0.5], 1.0, 0.5)
    y, state = model.step(1.0)
    y, state = model.step(0, state)
    assert float(y) == 0.5
    assert state.tolist() == [0.5]


@pytest.mark.parametrize("view", ["scan", "convolution"])
@EVERY_KIND
def test_cuts_change_nothing(rng, kind, view):
    model = make(rng, kind)
    u = draw(rng, model, 2, 200)
    whole, last, _ = model.forward(u, view=view)
    for cuts in [(0, 0, 1, 200), tuple(np.sort(rng.integers(0, 201, 6)))]:
        pieces, state = [], None
        for piece in np.split(u, cuts, axis=-1):
            y, state, _ = model.forward(piece, state, view=view)
            pieces.append(y)
        assert_close(np.concatenate(pieces, axis=-1), whole, 1e-12)
        assert_close(state, last, 1e-12)


@EVERY_KIND
def test_kernel_is_the_impulse_response(rng, kind):
    model = make(rng, kind)
    impulse = np.zeros(50)
    impulse[0] = 1.0
    y, _, _ = model.forward(impulse)
    y[0] -= model.params.get("D", 0)
    assert_close(model.kernel(50), y, 1e-13)
    assert model.kernel(0).shape == (0,)


@EVERY_KIND
def test_frequency_response(rng, kind):
    model = make(rng, kind, low=0.3, high=0.9)  # 0.9^1024 is far below rounding
    K, D = model.kernel(1024), complex(model.params.get("D", 0))
    f = np.fft.fftfreq(1024)
    assert_close(model.frequency_response(f), np.fft.fft(K) + D, 1e-12)
    assert model.frequency_response(0.25).shape == ()
    # SciPy, one pole after the other (its polynomials of many poles would lose digits):
    few = rng.uniform(-0.5, 0.5, (2, 3))
    expected = np.full(few.shape, D)
    for a, b, c in zip(model.A_bar, model.B_bar, model.params["C"]):
        for pole, weight in [(a, b * c), (a.conj(), (b * c).conj())][: 2 if model.real else 1]:
            h = signal.freqz([weight], [1, -pole], worN=2 * np.pi * few.ravel())[1]
            expected += h.reshape(few.shape)
    assert_close(model.frequency_response(few), expected, 1e-12)


# ------------------------------------------------------------------------------------ backward


def as_op(model, with_state):
    """The model as a pair ``(fwd, vjp)`` of all that its output depends on, with their names."""
    names = (*model.params, "u", *(["state"] if with_state else []))

    def fwd(*args, view):
        values = dict(zip(names, map(np.asarray, args)))
        moved = copy.copy(model)
        moved.params = {name: values[name] for name in model.params}
        y, state, cache = moved.forward(values["u"], values.get("state"), view=view)
        return (y, state), (moved, cache)

    def vjp(residuals, grad_out):
        moved, cache = residuals
        grad_u, grad_state, grads = moved.backward(grad_out[0], cache, grad_out[1])
        grads = {**grads, "u": grad_u, "state": grad_state}
        return tuple(grads[name] for name in names)

    return fwd, vjp, names


@pytest.mark.parametrize("view", ["scan", "convolution"])
@EVERY_KIND
def test_backward_against_differences(rng, kind, view):
    for shape, with_state, cotangent in [((3, 23), True, "random"), ((19,), True, "last")]:
        model = make(rng, kind, 3, low=0.9)
        fwd, vjp, names = as_op(model, with_state)
        args = [*model.params.values(), draw(rng, model, *shape)]
        if with_state:
            args.append(complex_normal(rng, *shape[:-1], 3))
        report = check_vjp(fwd, vjp, args, arguments=names, rng=rng, view=view, cotangent=cotangent)
        assert report, report


@EVERY_KIND
def test_backward_of_two_views_agrees(rng, kind):
    model = make(rng, kind)
    u = draw(rng, model, 2, 130)
    state = complex_normal(rng, 2, 4)
    found = []
    for view in ("scan", "convolution"):
        y, last, cache = model.forward(u, state, view=view)
        if not found:
            grad_y, grad_last = cotangents(rng, (y, last))
        grad_u, grad_state, grads = model.backward(grad_y, cache, grad_last)
        found.append((grad_u, grad_state, *(grads[name] for name in model.params)))
    assert_close(found[0], found[1], 1e-12, names=("u", "state", *model.params))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@EVERY_KIND
def test_gradients_have_their_arguments_shape_and_dtype(rng, kind, dtype):
    model = make(rng, kind, dtype=dtype)
    u = draw(rng, model, 3, 9)
    y, _, cache = model.forward(u)
    grad_u, grad_state, grads = model.backward(cotangents(rng, y), cache)
    assert grad_state is None
    assert set(grads) == set(model.params)
    for name, value in {**model.params, "u": u}.items():
        grad = grad_u if name == "u" else grads[name]
        assert (grad.shape, grad.dtype) == (value.shape, value.dtype), name


# -------------------------------------------------------------------------------- construction


@pytest.mark.parametrize("poles", range(1, 65))
def test_initial_is_stable(rng, poles):
    for real, (parameters, dt), dtype in itertools.product(
        (True, False),
        (("discrete", None), ("continuous", 1e-3), ("continuous", 2.0)),
        ("float32", "float64"),
    ):
        model = DiagonalSSM.initial(
            poles, rng=rng, real=real, parameters=parameters, dt=dt, dtype=dtype
        )
        assert model.dtype == dtype
        assert np.max(np.abs(model.A_bar)) < 1
        assert np.all(model.params["C"] != 0)
        # B gives every state the power 1/N under white input of power 1
        power = np.abs(model.B_bar) ** 2 / (1 - np.abs(model.A_bar) ** 2)
        assert_close(poles * power, np.ones(poles), 1e-2 if dtype == "float32" else 1e-10)


def test_initial_draws_from_its_generator_alone():
    first, again, other = (
        DiagonalSSM.initial(4, rng=np.random.default_rng(seed)).params["C"] for seed in (0, 0, 1)
    )
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_repr():
    model = DiagonalSSM([-1.0, -2.0], 1.0, 1.0, dt=0.5, parameters="continuous", real=False)
    assert repr(model) == "DiagonalSSM(2 continuous poles, complex output, without D, float64)"
    assert "1 discrete poles, real output, with D, float32" in repr(
        DiagonalSSM(np.float32([0.5]), 1.0, 1.0, 0.0)
    )


def test_the_model_keeps_copies():
    A = np.array([0.5 + 0.1j])
    model = DiagonalSSM(A, A, A)
    model.params["A"][0] = 0
    assert A[0] == 0.5 + 0.1j
    assert model.params["B"][0] == model.params["C"][0] == A[0]


CONTINUOUS = {"parameters": "continuous", "dt": 0.1}


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (([1.5], 1.0, 1.0), {}, r"A .*1\.5.*unit circle"),
        (([1.0], 1.0, 1.0), {}, "A .*unit circle"),
        (([1j], 1.0, 1.0), {}, "A .*unit circle"),
        (([0.1j], 1.0, 1.0), CONTINUOUS, "A holds .*Re A < 0"),
        (([-1.0, 1.0], 1.0, 1.0), CONTINUOUS, "A holds .*Re A < 0"),
        (([-1e300], 1.0, 1.0), {"parameters": "continuous", "dt": 1e300}, "A is too large for dt"),
        (([-1.0], 1.0, 1.0), {"parameters": "continuous"}, "dt is None.*must be given"),
        (([0.5], 1.0, 1.0), {"dt": 0.1}, r"dt is 0\.1.*left out"),
        (([-1.0], 1.0, 1.0), {**CONTINUOUS, "dt": 0.0}, "dt is 0.*positive"),
        (([-1.0], 1.0, 1.0), {**CONTINUOUS, "dt": -1.0}, "dt is -1.*positive"),
        (([-1.0], 1.0, 1.0), {**CONTINUOUS, "dt": [0.1, 0.2]}, "dt has shape.*scalar"),
        (([-1.0], 1.0, 1.0), {**CONTINUOUS, "dt": 0.1j}, "dt .*real"),
        (([-1.0], 1.0, 1.0), {**CONTINUOUS, "dt": np.nan}, "dt .*finite"),
        (([], 1.0, 1.0), {}, "A has shape"),
        ((0.5, 1.0, 1.0), {}, "A has shape"),
        (([[0.5]], 1.0, 1.0), {}, "A has shape"),
        (([0.5, 0.4], [1.0], 1.0), {}, "B has shape.*scalar"),
        (([0.5, 0.4], 1.0, [1.0, 2.0, 3.0]), {}, "C has shape.*scalar"),
        (([0.5], 1.0, 1.0, [0.0]), {}, "D has shape.*scalar"),
        (([0.5], 1.0, 1.0, 1j), {}, "D .*real"),
        (([np.nan], 1.0, 1.0), {}, "A holds nan"),
        (([0.5], np.inf, 1.0), {}, "B holds inf"),
        ((np.array([0.5]), np.float32([1.0]), 1.0), {}, "A float64, B float32.*one precision"),
        ((np.array([1]), 1.0, 1.0), {}, "A has dtype int64"),
        ((np.float32([0.5]), 1e300, 1.0), {}, r"B is 1e\+300; .*range of float32"),
        (([0.5], 1.0, 1.0), {"real": 1}, "real is 1"),
        (([0.5], 1.0, 1.0), {"parameters": "both"}, "parameters is 'both'"),
        (([-1.0], 1.0, 1.0), {**CONTINUOUS, "input_scale": "root"}, "input_scale is 'root'"),
    ],
)
def test_the_constructor_names_what_is_wrong(args, options, message):
    with pytest.raises(ValueError, match=message):
        DiagonalSSM(*args, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poles": 0}, "poles is 0"),
        ({"poles": 2.0}, "poles is 2.0"),
        ({"rng": 0}, "rng is 0"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"dt": 0.1}, "dt is 0.1"),
        ({"parameters": "continuous"}, "dt"),
        ({"parameters": "continuous", "dt": -1.0}, "dt is -1.0"),
        ({"skip": None}, "skip is None"),
        ({"real": None}, "real is None"),
        ({"parameters": "log"}, "parameters is 'log'"),
    ],
)
def test_initial_names_what_is_wrong(rng, options, message):
    with pytest.raises(ValueError, match=message):
        DiagonalSSM.initial(**{"poles": 4, "rng": rng, **options})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, y, c: m.forward(np.ones((1, 1, 5))), "u has shape"),
        (lambda m, y, c: m.forward(np.ones((0, 5))), "u has shape"),
        (lambda m, y, c: m.forward(1.0), "u has shape"),
        (lambda m, y, c: m.forward(np.ones(5, np.float32)), "u float32.*one precision"),
        (lambda m, y, c: m.forward(np.ones(5) * 1j), "u .*real"),
        (lambda m, y, c: m.forward([1.0, np.nan]), "u holds nan at index"),
        (lambda m, y, c: m.forward(np.ones(5), np.ones(3)), "state has shape"),
        (lambda m, y, c: m.forward(np.ones((2, 5)), np.ones(4)), "state has shape"),
        (lambda m, y, c: m.forward(np.ones(5), view="fft"), "view is 'fft'"),
        (lambda m, y, c: m.step(np.ones((2, 2))), "u_t has shape"),
        (lambda m, y, c: m.step("a"), "u_t has dtype"),
        (lambda m, y, c: m.step(1.0, np.ones(1)), "state has shape"),
        (lambda m, y, c: m.kernel(-1), "length is -1"),
        (lambda m, y, c: m.frequency_response(1j), "frequencies .*real"),
        (lambda m, y, c: m.frequency_response([np.inf]), "frequencies holds inf"),
        (lambda m, y, c: m.backward(y[..., 1:], c), "grad_y has shape"),
        (lambda m, y, c: m.backward(y + 0j, c), "grad_y has .*complex"),
        (lambda m, y, c: m.backward(y * np.nan, c), "grad_y holds nan"),
        (lambda m, y, c: m.backward(y, c, np.ones(3) + 0j), "grad_state has shape"),
    ],
)
def test_methods_name_what_is_wrong_and_change_nothing(rng, call, message):
    model = make(rng, "discrete-real-D")
    before = {name: value.tobytes() for name, value in model.params.items()}
    y, _, cache = model.forward(np.ones(5))
    with pytest.raises(ValueError, match=message):
        call(model, y, cache)
    assert {name: value.tobytes() for name, value in model.params.items()} == before
