"""Bad input at every public door is a ValueError that names the argument."""

import numpy as np
import pytest

from ssm_manual import training
from ssm_manual.models import DiagonalSSM
from ssm_manual.ops import (
    cauchy,
    convolve,
    discretize,
    kernels,
    loss,
    scan,
    ssm,
    terminal_state,
    truncate,
    vandermonde,
)

u = np.linspace(-1, 1, 10).reshape(2, 1, 5)
A = np.array([[0.5 + 0.1j, 0.2 - 0.3j, -0.4j]])
x0 = np.ones((2, 1, 3), complex)
OPERATOR = {"A_bar": A, "B_bar": 2 * A, "C": 3 * A, "D": np.ones(1), "u": u, "x0": x0}
LOW_RANK = {"Lambda": A - 1, "P": A[:, None], "Q": 2 * A[:, None]}
KERNEL = {"A_bar": A, "B_bar": 2 * A, "C": 3 * A, "length": 4}


def model(**changes):
    return DiagonalSSM(**{"A": A[0], "B": A[0], "C": A[0], "D": np.array(0.5), **changes})


def backward(grad_y, grad_state):
    m = model()
    return m.backward(grad_y, m.forward(u[:, 0], x0[:, 0])[2], grad_state)


#: Every public function: how to call it, valid arguments, and which of them are arrays (those that
#: may be None in parentheses).
CALLS = {
    "tustin": (discretize.tustin, {"A": A[0], "B": A[0], "dt": np.array(0.1)}, "A B dt"),
    "zoh": (discretize.zoh, {"A": A[0], "B": A[0], "dt": np.array(0.1)}, "A B dt"),
    "generate": (kernels.generate, KERNEL, "A_bar B_bar C"),
    "vandermonde": (vandermonde.kernel, KERNEL, "A_bar B_bar C"),
    "from_exponent": (
        vandermonde.kernel_from_exponent,
        {"dtA": A - 1, "B_bar": 2 * A, "C": 3 * A, "length": 4},
        "dtA B_bar C",
    ),
    "truncate": (
        truncate.truncate,
        {**LOW_RANK, "C": A, "dt": np.array([0.1]), "length": 4},
        "Lambda P Q C dt",
    ),
    "cauchy": (
        cauchy.cauchy,
        {**LOW_RANK, "B": A, "C": 3 * A, "dt": np.array([0.1]), "length": 4},
        "Lambda P Q B C dt",
    ),
    "terminal_state": (
        terminal_state.terminal_state,
        {name: OPERATOR[name] for name in ("A_bar", "B_bar", "u", "x0")},
        "A_bar B_bar u (x0)",
    ),
    "scan": (scan.scan, OPERATOR, "A_bar B_bar C (D) u (x0)"),
    "convolve": (convolve.convolve, OPERATOR, "A_bar B_bar C (D) u (x0)"),
    "apply": (ssm.apply, OPERATOR, "A_bar B_bar C (D) u (x0)"),
    "causal": (convolve.causal, {"u": u, "K": np.ones(5)}, "u K"),
    "half_mse": (loss.half_mse, {"prediction": u, "target": u}, "prediction target"),
    "mse": (loss.mse, {"prediction": u, "target": u}, "prediction target"),
    "DiagonalSSM": (model, {"A": A[0], "B": A[0], "C": A[0], "D": np.array(0.5)}, "A B C (D)"),
    "continuous": (
        lambda **given: model(parameters="continuous", **given),
        {"A": A[0] - 1, "dt": np.array(0.1)},
        "A dt",
    ),
    "initial": (DiagonalSSM.initial, {"poles": 3, "rng": np.random.default_rng(0)}, ""),
    "forward": (model().forward, {"u": u[:, 0], "state": x0[:, 0]}, "u (state)"),
    "backward": (backward, {"grad_y": u[:, 0], "grad_state": x0[:, 0]}, "grad_y (grad_state)"),
    "step": (model().step, {"u_t": u[:, 0, 0], "state": x0[:, 0]}, "u_t (state)"),
    "model.kernel": (model().kernel, {"length": 4}, ""),
    "frequency_response": (model().frequency_response, {"frequencies": u}, "frequencies"),
    "loss_and_grads": (model().loss_and_grads, {"u": u[:, 0], "target": u[:, 0]}, "u target"),
    "fit": (
        lambda **given: training.fit(model(), **given),
        {"u": u[0, 0], "target": u[0, 0], "epochs": 2},
        "u target",
    ),
    "fit, continuous": (
        lambda **given: training.fit(
            model(A=A[0] - 1, parameters="continuous", dt=0.1), u[0, 0], u[0, 0], **given
        ),
        {"epochs": 2},
        "",
    ),
}


def put(value, a):
    """The array with ``value`` as its last element."""
    a = np.array(a)
    a.reshape(-1)[-1:] = value
    return a


KINDS = {
    "integer": lambda a: np.ones(a.shape, np.int64),
    "boolean": lambda a: np.ones(a.shape, bool),
    "half precision": lambda a: np.ones(a.shape, np.float16),
    "object": lambda a: a.astype(object),
    "text": lambda a: np.full(a.shape, "1.0"),
    "masked": lambda a: np.ma.array(a, mask=np.zeros(a.shape, bool)),
    "NaN": lambda a: put(np.nan, a),
    "infinity": lambda a: put(-np.inf, a),
    "ragged": lambda a: [[1.0, 2.0], [3.0]],
    "a list of booleans": lambda a: np.ones(a.shape, bool).tolist(),
    "a word": lambda a: "abc",
}
if np.finfo(np.longdouble).bits > 64:
    KINDS["extended precision"] = lambda a: np.ones(a.shape, np.longdouble)
    KINDS["extended complex"] = lambda a: np.ones(a.shape, np.clongdouble)

ARRAYS = [(call, name) for call, (_, _, names) in CALLS.items() for name in names.split()]


@pytest.mark.parametrize("call", CALLS)
def test_the_valid_calls_work(call):
    """Without the change that a test makes, each call below runs."""
    function, given, _ = CALLS[call]
    function(**given)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("call", "name"), ARRAYS)
def test_arrays(call, name, kind):
    function, given, _ = CALLS[call]
    name = name.strip("()")
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        function(**{**given, name: KINDS[kind](given[name])})


@pytest.mark.parametrize(("call", "name"), ARRAYS)
def test_none_where_something_is_needed(call, name):
    function, given, _ = CALLS[call]
    if name.startswith("("):
        function(**{**given, name.strip("()"): None})  # optional: None is fine
    else:
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            function(**{**given, name: None})


@pytest.mark.parametrize(("call", "name"), [c for c in ARRAYS if c[0] != "frequency_response"])
def test_mixed_precision(call, name):
    function, given, _ = CALLS[call]
    name = name.strip("()")
    single = given[name].astype(np.complex64 if np.iscomplexobj(given[name]) else np.float32)
    with pytest.raises(ValueError, match=rf"\b{name}\b.*precision|precision.*\b{name}\b"):
        function(**{**given, name: single})


c = np.complex128
OPTIONS = [
    ("tustin", {"dt": 0.0}, "dt is .* positive"),
    ("tustin", {"dt": -0.1}, "dt is .* positive"),
    ("tustin", {"dt": [0.1, -0.1, 0.1]}, "dt is .* positive"),
    ("tustin", {"dt": 0.1j}, "dt has dtype complex128; it must be real"),
    ("tustin", {"B": np.ones(2)}, r"A \(3,\), B \(2,\)"),
    ("tustin", {"A": 2.0, "dt": 1.0}, "A has a pole at 2/dt"),
    ("tustin", {"input_scale": "none"}, "input_scale is 'none'"),
    ("tustin", {"input_scale": None}, "input_scale is None"),
    ("zoh", {"dt": 0.0}, "dt is .* positive"),
    ("zoh", {"B": np.ones(2)}, r"B \(2,\)"),
    ("generate", {"B_bar": np.ones(2)}, r"B_bar \(2,\)"),
    *(
        (call, {"length": bad}, "length is")
        for call in (
            "generate",
            "vandermonde",
            "from_exponent",
            "cauchy",
            "truncate",
            "model.kernel",
        )
        for bad in (-1, 1.5, "4", None, True, 4.0)
    ),
    ("generate", {"method": "fast"}, "method is 'fast'"),
    ("generate", {"method": None}, "method is None"),
    *(("generate", {"cutoff": bad}, "cutoff is") for bad in (-1e-3, 1.5, np.nan, "0", None, True)),
    ("generate", {"threshold": 5}, "threshold is 5; it goes with method='hybrid'"),
    *(
        ("generate", {"threshold": bad, "method": "hybrid"}, "threshold is")
        for bad in (-1, 2.5, True, "5")
    ),
    ("generate", {"out": np.zeros((1, 3, 5), c)}, "out is"),
    ("generate", {"out": np.zeros((1, 3, 4))}, "out is"),
    ("generate", {"out": np.zeros((1, 3, 4), np.complex64)}, "out is"),
    ("generate", {"out": [0] * 12}, "out is"),
    ("generate", {"out": np.broadcast_to(np.zeros(4, c), (1, 3, 4))}, "out is read-only"),
    ("vandermonde", {"A_bar": 0.5, "B_bar": 1.0, "C": 1.0}, r"A_bar.*\(N,\)"),
    ("vandermonde", {"A_bar": np.ones((2, 0)), "B_bar": 1.0, "C": 1.0}, r"A_bar.*\(N,\)"),
    ("vandermonde", {"C": np.ones(2)}, r"C \(2,\)"),
    ("vandermonde", {"real": 1}, "real is 1"),
    ("from_exponent", {"dtA": -0.5, "B_bar": 1.0, "C": 1.0}, r"dtA.*\(N,\)"),
    ("from_exponent", {"C": np.ones(2)}, r"dtA \(1, 3\).*C \(2,\)"),
    ("from_exponent", {"dtA": np.array([-1 - 2e12j])}, r"dtA .*2e\+12.* at most 2\^40"),
    ("from_exponent", {"real": None}, "real is None"),
    *(
        case
        for call in ("scan", "convolve", "apply")
        for case in [
            (call, {"u": u[0]}, r"u has shape \(1, 5\)"),
            (call, {"u": u[:0]}, r"u has shape \(0, 1, 5\)"),
            (call, {"u": u[:, :0]}, r"u has shape \(2, 0, 5\)"),
            (call, {"u": u + 0j}, "u has dtype complex128; it must be real"),
            (call, {"D": np.ones(1, c)}, "D has dtype complex128; it must be real"),
            (call, {"D": np.ones(2)}, r"D has shape \(2,\)"),
            (call, {"D": np.ones((1, 1))}, r"D has shape \(1, 1\)"),
            (call, {"A_bar": np.ones((2, 3))}, r"A_bar \(2, 3\)"),
            (call, {"B_bar": np.ones((1, 1, 3))}, r"B_bar \(1, 1, 3\)"),
            (call, {"C": np.ones((1, 2))}, r"C \(1, 2\)"),
            (call, {"A_bar": np.ones((1, 0)), "B_bar": 1.0, "C": 1.0}, r"A_bar \(1, 0\)"),
            (call, {"x0": x0[0]}, r"x0 has shape \(1, 3\)"),
            (call, {"x0": x0[..., :2]}, r"x0 has shape \(2, 1, 2\)"),
            (call, {"x0": x0[:1]}, r"x0 has shape \(1, 1, 3\)"),
            (call, {"real": "yes"}, "real is 'yes'"),
            (call, {"real": None}, "real is None"),
        ]
    ),
    *(("scan", {"horizon": bad}, "horizon is") for bad in (0, -1, 1.5, True, "all", np.nan)),
    ("apply", {"view": "fourier"}, "view is 'fourier'"),
    ("apply", {"view": None}, "view is None"),
    ("terminal_state", {"u": u[0]}, r"u has shape \(1, 5\)"),
    ("terminal_state", {"x0": x0[0]}, r"x0 has shape \(1, 3\)"),
    ("causal", {"u": 1.0}, r"u has shape \(\)"),
    ("causal", {"K": 1.0}, r"K \(\)"),
    ("causal", {"K": np.ones((1, 0))}, r"K \(1, 0\)"),
    ("causal", {"K": np.ones((3, 1, 5))}, r"K \(3, 1, 5\)"),
    ("causal", {"method": "winograd"}, "method is 'winograd'"),
    *(
        case
        for call in ("mse", "half_mse")
        for case in [
            (call, {"target": u[0]}, r"target has shape \(1, 5\)"),
            (call, {"target": u + 0j}, "target has dtype complex128; it must be real"),
            (call, {"prediction": u[:0], "target": u[:0]}, "prediction has shape .* not be empty"),
        ]
    ),
    ("DiagonalSSM", {"A": np.array([0.5, 1.0 + 0j, 0.1])}, "A holds .* inside the unit circle"),
    ("DiagonalSSM", {"A": np.exp(1j * np.arange(3.0))}, "A holds .* inside the unit circle"),
    ("DiagonalSSM", {"A": A}, r"A has shape \(1, 3\)"),
    ("DiagonalSSM", {"A": A[0, :0]}, r"A has shape \(0,\)"),
    ("DiagonalSSM", {"A": 0.5}, r"A has shape \(\)"),
    ("DiagonalSSM", {"B": np.ones(2)}, r"B has shape \(2,\)"),
    ("DiagonalSSM", {"C": np.ones((1, 3))}, r"C has shape \(1, 3\)"),
    ("DiagonalSSM", {"D": np.ones(1)}, r"D has shape \(1,\)"),
    ("DiagonalSSM", {"D": 1j}, "D has dtype complex128; it must be real"),
    ("DiagonalSSM", {"dt": 0.1}, "dt is 0.1; .* left out"),
    ("DiagonalSSM", {"parameters": "analog"}, "parameters is 'analog'"),
    ("DiagonalSSM", {"real": 0}, "real is 0"),
    ("DiagonalSSM", {"input_scale": "2"}, "input_scale is '2'"),
    ("continuous", {"A": A[0] + 1}, "A holds .* Re A < 0"),
    ("continuous", {"A": 1j * A[0].real}, "A holds .* Re A < 0"),
    ("continuous", {"A": -1e308 - A[0].real, "dt": 10.0}, "A is too large for dt"),
    ("continuous", {"dt": 0.0}, "dt is .* positive"),
    ("continuous", {"dt": -1.0}, "dt is .* positive"),
    ("continuous", {"dt": np.ones(3)}, r"dt has shape \(3,\)"),
    ("continuous", {"dt": 1j}, "dt has dtype complex128; it must be real"),
    *(("initial", {"poles": bad}, "poles is") for bad in (0, -1, 2.5, True, None)),
    ("initial", {"rng": 0}, "rng is 0"),
    ("initial", {"dtype": "float16"}, "dtype is 'float16'"),
    ("initial", {"parameters": "analog"}, "parameters is 'analog'"),
    ("initial", {"parameters": "continuous"}, "dt is"),
    ("initial", {"parameters": "continuous", "dt": -1.0}, "dt is -1.0"),
    ("initial", {"dt": 0.1}, "dt is 0.1"),
    ("initial", {"real": None}, "real is None"),
    ("initial", {"skip": 1}, "skip is 1"),
    ("forward", {"u": u}, r"u has shape \(2, 1, 5\)"),
    ("forward", {"u": 1.0}, r"u has shape \(\)"),
    ("forward", {"u": u[:0, 0], "state": None}, r"u has shape \(0, 5\)"),
    ("forward", {"u": u[:, 0] + 0j}, "u has dtype complex128; it must be real"),
    ("forward", {"state": x0[0, 0]}, r"state has shape \(3,\)"),
    ("forward", {"state": x0[:, 0, :2]}, r"state has shape \(2, 2\)"),
    ("forward", {"view": "fourier"}, "view is 'fourier'"),
    ("backward", {"grad_y": u[0, 0]}, r"grad_y has shape \(5,\)"),
    ("backward", {"grad_y": u[:, 0] + 0j}, "grad_y has dtype complex128"),
    ("backward", {"grad_state": x0[0, 0]}, r"grad_state has shape \(3,\)"),
    ("backward", {"grad_state": x0[:, 0].real}, "grad_state has dtype float64"),
    ("step", {"u_t": u[:, 0]}, r"u_t has shape \(2, 5\)"),
    ("step", {"u_t": u[0, 0, :0], "state": None}, r"u_t has shape \(0,\)"),
    ("step", {"u_t": 1j, "state": x0[0, 0]}, "u_t has dtype complex128; it must be real"),
    ("step", {"state": x0[0, 0]}, r"state has shape \(3,\)"),
    ("frequency_response", {"frequencies": 0.1j}, "frequencies has dtype complex128"),
    *(
        case
        for call in ("loss_and_grads", "fit")
        for case in [
            (call, {"u": u}, r"u has shape \(2, 1, 5\)"),
            (call, {"u": u[0, 0, :0], "target": u[0, 0, :0]}, r"u has shape \(0,\)"),
            (call, {"u": u[0, 0] + 0j, "target": u[0, 0]}, "u has dtype complex128"),
            (call, {"target": u[0, 0, :3]}, r"target has shape \(3,\)"),
            (call, {"target": (u[:, 0] if call != "fit" else u[0, 0]) + 0j}, "target has dtype"),
            (call, {"mode": "adam"}, "mode is 'adam'"),
            (call, {"window": 3}, "window is 3; it goes with mode='windowed'"),
            (call, {"mode": "windowed", "window": 0}, "window is 0"),
            (call, {"mode": "windowed", "window": 1.5}, "window is 1.5"),
        ]
    ),
    ("loss_and_grads", {"mode": "windowed"}, "window is None"),
    *(("fit", {"epochs": bad}, "epochs is") for bad in (0, -5, 1.5, None, True)),
    *(("fit", {"rates": bad}, "rates is") for bad in (0.1, [1], "A", {"A"})),
    ("fit", {"rates": {"E": 0.1}}, "rates names 'E'"),
    ("fit", {"rates": {"dt": 0.1}}, "rates names 'dt'"),  # a discrete model has none
    *(
        ("fit", {"rates": {"A": bad}}, r"rates\['A'\] is")
        for bad in (-1, np.nan, np.inf, "1", None)
    ),
    *(("fit", {"radius": bad}, "radius is") for bad in (0, 1, 1.5, -1, np.nan, "1", None)),
    *(("fit, continuous", {"margin": bad}, "margin is") for bad in (0, -1, np.nan, "1", None)),
    *(("fit", {"target_loss": bad}, "target_loss is") for bad in (-1, np.nan, np.inf, None)),
    *(("fit", {"patience": bad}, "patience is") for bad in (0, -1, 1.5, True)),
    *(("fit", {"improvement": bad}, "improvement is") for bad in (-1, 2, np.nan, None)),
    *(("fit", {"progress": bad}, "progress is") for bad in (True, 3, "bar")),
    (
        "fit",
        {"u": lambda start, count: (u[0], u[0])},
        "u is callable and target is given",
    ),
    *(
        ("fit", {"u": function, "target": None}, message)
        for function, message in [
            (lambda start, count: u[0], "u is a callable that must return"),
            (lambda start, count: (u[:, 0], u[:, 0]), "u is a callable that returned 2 rows; .* 1"),
            (lambda start, count: (u[0], u[0] * np.nan), "target holds nan"),
            (lambda start, count: (u[0], u[0, :, :3]), "target has shape"),
            (
                lambda start, count: (u[0, :, start:],) * 2,
                "returned rows of 4 samples",
            ),
        ]
    ),
]


@pytest.mark.parametrize(("call", "changes", "message"), OPTIONS)
def test_shapes_and_options(call, changes, message):
    function, given, _ = CALLS[call]
    with pytest.raises(ValueError, match=message):
        function(**{**given, **changes})


def test_fit_wants_a_model():
    with pytest.raises(ValueError, match="model is None"):
        training.fit(None, u[0, 0], u[0, 0], epochs=1)
