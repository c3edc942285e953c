"""RNN and LSTM, ops and layers: references, an independent implementation, states, padding."""

import itertools

import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, cast, cotangents, error, load

from ssm_manual import _blas, reference
from ssm_manual.gradcheck import check_vjp
from ssm_manual.layers import LSTM, RNN, LayerNorm
from ssm_manual.ops import _recurrent, lstm, rnn

OTHER = load("needle_rnn_optim.npz")
KINDS = ("tanh", "relu", "lstm")
kinds = pytest.mark.parametrize("kind", KINDS)


def op(kind):
    """fwd, vjp, reference, its vjp, gates, options."""
    if kind == "lstm":
        twin = reference.lstm
        return lstm.lstm_fwd, lstm.lstm_vjp, twin.lstm, twin.lstm_vjp, 4, {}
    options = {"nonlinearity": kind}
    return rnn.rnn_fwd, rnn.rnn_vjp, reference.rnn.rnn, reference.rnn.rnn_vjp, 1, options


def arguments(rng, kind, batch, columns, H, L, dtype="float64"):
    gates = op(kind)[4]
    states = [0.5 * rng.standard_normal((batch, H)) for _ in range(2 if kind == "lstm" else 1)]
    W_in, W_h = (rng.standard_normal((gates * H, n)) / np.sqrt(n) for n in (columns, H))
    args = rng.standard_normal((batch, columns, L)), *states, W_in, 0.7 * W_h, W_in[:, 0].copy()
    return tuple(cast(a, dtype) for a in args)


def make(rng, kind, columns=3, H=4, dtype="float64"):
    if kind == "lstm":
        return LSTM(columns, H, dtype=dtype, rng=rng)
    return RNN(columns, H, nonlinearity=kind, dtype=dtype, rng=rng)


def flat(state):
    return state if isinstance(state, tuple) else (state,)


def draw_state(rng, kind, batch=3, H=4):
    parts = tuple(rng.standard_normal((batch, H)) for _ in range(2 if kind == "lstm" else 1))
    return parts if kind == "lstm" else parts[0]


# -------------------------------------------------------------------------------------- the ops


@kinds
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("batch", "columns", "H", "L"),
    [(1, 1, 1, 1), (3, 2, 7, 17), (2, 3, 5, 31), (1, 4, 3, 32), (19, 2, 4, 33), (2, 3, 9, 0),
     (1, 3, 4, 1047)],
)  # fmt: skip
def test_the_ops_are_their_references(rng, kind, dtype, batch, columns, H, L):
    fwd, vjp, twin, twin_vjp, _, options = op(kind)
    args = arguments(rng, kind, batch, columns, H, L, dtype)
    out, kept = fwd(*args, **options)
    g = cotangents(rng, out)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    wide = [a.astype(float) for a in args]
    assert_close(out, twin(*wide, **options), tolerance)
    expected = twin_vjp(*wide, *(a.astype(float) for a in g), **options)
    grads = vjp(kept, g)
    assert_close(grads, expected, tolerance)
    assert {a.dtype.name for a in (*out, *grads)} == {dtype}


@kinds
def test_lengths(rng, kind):
    """Every item as if it were alone; the references know lengths too."""
    fwd, vjp, twin, twin_vjp, _, options = op(kind)
    args = arguments(rng, kind, 18, 2, 3, 40)
    lengths = rng.integers(0, 41, 18)
    lengths[:3] = 0, 40, 32
    out, kept = fwd(*args, **options, lengths=lengths)
    g = cotangents(rng, out)
    grads = vjp(kept, g)
    assert_close(out, twin(*args, **options, lengths=lengths), 1e-12)
    assert_close(grads, twin_vjp(*args, *g, **options, lengths=lengths), 1e-12)
    n, states = lengths[5], len(out)
    alone = fwd(args[0][5:6, :, :n], *(a[5:6] for a in args[1:states]), *args[states:], **options)
    assert error(out[0][5:6, :, :n], alone[0][0]) < 1e-13
    assert_close(tuple(a[5:6] for a in out[1:]), alone[0][1:], 1e-13)


@kinds
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(rng, kind, layout):
    fwd, vjp, *_, options = op(kind)
    args = arguments(rng, kind, 2, 3, 4, 9)
    out, kept = fwd(*args, **options)
    g = cotangents(rng, out)
    expected = vjp(kept, g)
    found, kept = fwd(*(LAYOUTS[layout](a) for a in args), **options)
    assert_close(found, out, 0)
    assert_close(vjp(kept, tuple(LAYOUTS[layout](a) for a in g)), expected, 0)


def test_small_products_are_taken_in_columns(rng, monkeypatch):
    """A product above the size that BLAS takes without packing is the same product."""
    A, B = rng.standard_normal((9, 700)), rng.standard_normal((700, 450))
    assert A.size * B.shape[1] > 2 * _recurrent.SMALL
    out = rng.standard_normal((9, 450))
    expected = A @ B + out
    with _blas.single_threaded():
        _recurrent.product(A, B, 1.0, out)
    assert error(out, expected) < 1e-13


def test_the_residuals_of_a_forward_pass_do_not_move(rng):
    """Backward twice gives the same; the states that were given stay as they are."""
    for kind in KINDS:
        fwd, vjp, *_, options = op(kind)
        args = arguments(rng, kind, 2, 3, 4, 9)
        before = [a.copy() for a in args]
        out, kept = fwd(*args, **options)
        g = cotangents(rng, out)
        first = vjp(kept, g)
        assert_close(vjp(kept, g), first, 0)
        assert_close(args, tuple(before), 0)
        assert not any(np.shares_memory(a, b) for a in out[1:] for b in args)


def test_without_a_backward_pass_the_lstm_keeps_nothing(rng):
    args = arguments(rng, "lstm", 3, 2, 4, 70)
    out, nothing = lstm.run(*args, None, keep=False)
    assert nothing is None
    assert_close(out, lstm.lstm_fwd(*args)[0], 0)
    assert_close(out, lstm.lstm(*args), 0)


# ---------------------------------------------------------------------- an independent program


@pytest.mark.parametrize("case", ["rnn1_tanh", "rnn1_relu", "rnn2_tanh", "rnn2_relu", "lstm2"])
def test_another_implementation(case):
    """Outputs and gradients of a stack; its matrices are (in, out), its biases are two."""
    stack, x = [], np.moveaxis(OTHER["seq/x"], 0, -1)  # (time, batch, I) -> (batch, I, time)
    for i in range(int(case[-1]) if case == "lstm2" else int(case[3])):
        given = {
            "weight_ih": OTHER[f"{case}/param/{i}.W_ih"].T,
            "weight_hh": OTHER[f"{case}/param/{i}.W_hh"].T,
            "bias_ih": OTHER[f"{case}/param/{i}.bias_ih"],
            "bias_hh": OTHER[f"{case}/param/{i}.bias_hh"],
        }
        given = {name: a.astype(float) for name, a in given.items()}
        if case == "lstm2":
            stack.append(LSTM.from_arrays(**given))
        else:
            stack.append(RNN.from_arrays(**given, nonlinearity=case[5:]))
    y, caches = x.astype(float), []
    for i, layer in enumerate(stack):
        y, state, cache = layer.forward(y)
        caches.append(cache)
        assert error(flat(state)[0], OTHER[f"{case}/h_n"][i]) < 1e-6
        if case == "lstm2":
            assert error(state[1], OTHER["lstm2/c_n"][i]) < 1e-6
    assert error(np.moveaxis(y, -1, 0), OTHER[f"{case}/out"]) < 1e-6
    grad = np.moveaxis(OTHER[f"{case}/W"], 0, -1)
    for i in reversed(range(len(stack))):
        grad, _, grads = stack[i].backward(grad, caches[i])
        if case == "lstm2":
            expected = [OTHER[f"lstm2/torchgrad/{n}_l{i}"] for n in ("weight_ih", "weight_hh")]
            biases = [OTHER[f"lstm2/torchgrad/bias_{n}_l{i}"] for n in ("ih", "hh")]
        else:
            expected = [OTHER[f"{case}/grad/{i}.W_{n}"].T for n in ("ih", "hh")]
            biases = [OTHER[f"{case}/grad/{i}.bias_{n}"] for n in ("ih", "hh")]
        assert_close((grads["W_in"], grads["W_h"]), tuple(expected), 1e-6)
        for bias in biases:
            assert error(grads["bias"], bias) < 1e-6


def test_another_layer_norm():
    layer = LayerNorm(4)
    x = OTHER["layernorm/x"]
    assert error(layer.forward(x[:, :, None])[0][:, :, 0], OTHER["layernorm/y"]) < 1e-6


# ------------------------------------------------------------------------------------ the layers


@kinds
@pytest.mark.parametrize("lengths", [None, [11, 0, 4]])
def test_gradients_of_the_layers(rng, kind, lengths):
    layer = make(rng, kind)
    names, parts = tuple(layer.params), 2 if kind == "lstm" else 1

    def packed(states):
        return tuple(states) if parts == 2 else states[0]

    def forward(u, *rest):
        layer.params.update(zip(names, rest[parts:]))
        y, state, cache = layer.forward(u, packed(rest[:parts]), lengths=lengths, seed=1)
        return (y, *flat(state)), cache

    def vjp(cache, g):
        grad_u, grad_state, grads = layer.backward(g[0], cache, packed(g[1:]))
        return grad_u, *flat(grad_state), *(grads[name] for name in names)

    u, state = rng.standard_normal((3, 3, 11)), flat(draw_state(rng, kind))
    report = check_vjp(forward, vjp, (u, *state, *(p.copy() for p in layer.params.values())))
    assert report, report


@kinds
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float32", 1e-6)])
def test_step_is_forward(rng, kind, dtype, tolerance):
    layer = make(rng, kind, dtype=dtype)
    u = rng.standard_normal((3, 3, 40)).astype(dtype)
    y, state, _ = layer.forward(u)
    after, found = None, np.empty(y.shape, dtype)
    for t in range(40):
        found[..., t], after = layer.step(u[..., t], after)
    assert error(found, y) < tolerance
    assert_close(flat(after), flat(state), tolerance)
    assert type(after) is type(state)


@kinds
def test_pieces_are_the_whole(rng, kind):
    """Cut anywhere, an empty piece included: outputs, states and every gradient."""
    layer = make(rng, kind)
    u, g = rng.standard_normal((3, 3, 50)), rng.standard_normal((3, 4, 50))
    start, grad = draw_state(rng, kind), draw_state(rng, kind)
    y, end, cache = layer.forward(u, start)
    expected = layer.backward(g, cache, grad)
    cuts, state, caches, outputs = [0, 13, 13, 45, 50], start, [], []
    for a, b in itertools.pairwise(cuts):
        out, state, cache = layer.forward(u[:, :, a:b], state)
        caches.append(cache)
        outputs.append(out)
    assert error(np.concatenate(outputs, axis=-1), y) < 1e-14
    assert_close(flat(state), flat(end), 1e-14)
    total = dict.fromkeys(layer.params, 0)
    for (a, b), cache in zip(list(itertools.pairwise(cuts))[::-1], caches[::-1]):
        grad_u, grad, grads = layer.backward(g[:, :, a:b], cache, grad)
        assert error(grad_u, expected[0][:, :, a:b]) < 1e-13
        total = {name: total[name] + grads[name] for name in total}
    assert_close(flat(grad), flat(expected[1]), 1e-13)
    for name, value in total.items():
        assert error(value, expected[2][name]) < 1e-13, name


@kinds
def test_padding_has_no_effect(rng, kind):
    layer = make(rng, kind)
    u, lengths = rng.standard_normal((3, 3, 9)), np.array([9, 0, 4])
    other, found = u.copy(), []
    for item, n in enumerate(lengths):
        other[item, :, n:] = 100.0
    start = draw_state(rng, kind)
    g, grad = rng.standard_normal((3, 4, 9)), draw_state(rng, kind)
    for signal in (u, other):
        y, state, cache = layer.forward(signal, start, lengths=lengths)
        grad_u, before, grads = layer.backward(g, cache, grad)
        found.append((y, *flat(state), grad_u, *flat(before), *grads.values()))
        for item, n in enumerate(lengths):
            assert not y[item, :, n:].any()
            assert not grad_u[item, :, n:].any()
    assert_close(found[1], found[0], 0)
    for i in range(len(flat(state))):  # the second item has no sample
        assert np.array_equal(flat(state)[i][1], flat(start)[i][1])
        assert np.array_equal(flat(before)[i][1], flat(grad)[i][1])


@kinds
def test_evaluation_and_missing_states(rng, kind):
    layer = make(rng, kind)
    u = rng.standard_normal((2, 3, 40))
    y, state, cache = layer.forward(u, cache=False)
    assert cache is None
    again, end, cache = layer.forward(u)
    assert np.array_equal(again, y)
    assert_close(flat(end), flat(state), 0)
    assert layer.backward(y, cache)[1] is None
    with pytest.raises(ValueError, match="cache is None; it must be what forward gave"):
        layer.backward(y, None)


def test_half_a_state(rng):
    layer = make(rng, "lstm")
    u, c = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 4))
    y, _, cache = layer.forward(u, (None, c))
    assert np.array_equal(y, layer.forward(u, (np.zeros((2, 4)), c))[0])
    grad_h, grad_c = layer.backward(y, cache)[1]
    assert grad_h is None
    assert grad_c.any()


def test_without_bias(rng):
    for layer in (RNN(3, 4, bias=False, rng=rng), LSTM(3, 4, bias=False, rng=rng)):
        assert tuple(layer.params) == ("W_in", "W_h")
        u = rng.standard_normal((2, 3, 5), dtype=np.float32)
        y, _, cache = layer.forward(u)
        assert tuple(layer.backward(y, cache)[2]) == ("W_in", "W_h")


def test_the_start_is_as_told(rng):
    """As torch.nn.RNN and torch.nn.LSTM: uniform within 1/sqrt(H), two biases in one."""
    for layer, rows in ((RNN(100, 64, rng=rng), 64), (LSTM(100, 64, rng=rng), 256)):
        assert {n: p.shape for n, p in layer.params.items()} == {
            "W_in": (rows, 100), "W_h": (rows, 64), "bias": (rows,)
        }  # fmt: skip
        for name, p in layer.params.items():
            bound = 0.25 if name == "bias" else 0.125
            assert 0.6 * bound < np.abs(p).max() <= bound
        assert abs(layer.params["W_h"].std() * 8 - 1 / np.sqrt(3)) < 0.03
        assert (layer.features_in, layer.features, layer.dtype.name) == (100, 64, "float32")


# ------------------------------------------------------------------------------------- refusals


@kinds
def test_bad_signals_and_states(rng, kind):
    layer = make(rng, kind, dtype="float32")
    u = rng.standard_normal((2, 3, 5), dtype=np.float32)
    bad = u.copy()
    bad[1, 2, 3] = np.inf
    with pytest.raises(ValueError, match=r"u holds inf at index \(1, 2, 3\)"):
        layer.forward(bad)
    with pytest.raises(ValueError, match=r"u_t holds inf at index \(1, 2\)"):
        layer.step(bad[..., 3])
    with pytest.raises(ValueError, match=r"u has shape \(2, 4, 5\)"):
        layer.forward(np.ones((2, 4, 5), np.float32))
    wrong = np.ones((2, 5), np.float32)
    state, label = ((wrong, None), r"\[0\]") if kind == "lstm" else (wrong, "")
    with pytest.raises(ValueError, match=rf"state{label} has shape \(2, 5\)"):
        layer.forward(u, state)
    y, _, cache = layer.forward(u)
    with pytest.raises(ValueError, match=rf"grad_state{label} has shape \(2, 5\)"):
        layer.backward(y, cache, state)
    with pytest.raises(ValueError, match="grad_y has shape"):
        layer.backward(y[:, :, 1:], cache)
    with pytest.raises(ValueError, match="lengths holds 6; it must be from 0 to 5"):
        layer.forward(u, lengths=[6, 1])
    with pytest.raises(ValueError, match="seed is -1"):
        layer.forward(u, seed=-1)


def test_bad_arguments(rng):
    x, h0, W_in, W_h, bias = arguments(rng, "tanh", 2, 3, 4, 5)
    for args, options, message in [
        ((x[0], h0, W_in, W_h, bias), {}, "x has shape"),
        ((x, h0[:, 1:], W_in, W_h, bias), {}, "h0 has shape"),
        ((x, h0, W_in[:, 1:], W_h, bias), {}, "W_in has shape"),
        ((x, h0, W_in, W_h[1:], bias), {}, "W_h has shape"),
        ((x, h0, W_in, W_h, bias[1:]), {}, "bias has shape"),
        ((x, h0, 1j * W_in, W_h, bias), {}, "W_in has dtype complex128; it must be real"),
        ((x.astype("f4"), h0, W_in, W_h, bias), {}, "all arrays must have one precision"),
        ((x, h0, W_in, W_h, bias), {"nonlinearity": "sigmoid"}, "nonlinearity is 'sigmoid'"),
        ((x, h0, W_in, W_h, bias), {"lengths": [1]}, r"lengths is \[1\]; it must hold 2 integers"),
        ((x, h0, W_in, W_h, bias), {"lengths": [1, -1]}, "lengths lie between -1 and 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            rnn.rnn(*args, **options)
    out, kept = rnn.rnn_fwd(x, h0, W_in, W_h, bias)
    with pytest.raises(ValueError, match="grad_out is a tuple of 1"):
        rnn.rnn_vjp(kept, out[:1])
    with pytest.raises(ValueError, match="grad_h_last has shape"):
        rnn.rnn_vjp(kept, (out[0], out[0]))
    args = arguments(rng, "lstm", 2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"W_h has shape \(12, 4\); it must be \(16, 4\)"):
        lstm.lstm(*args[:4], args[4][4:], args[5])
    with pytest.raises(ValueError, match="grad_c_last has shape"):
        lstm.lstm_vjp(lstm.lstm_fwd(*args)[1], (None, None, out[0]))
    for make_one, message in [
        (lambda: RNN(3, 4, nonlinearity="gelu", rng=rng), "nonlinearity is 'gelu'"),
        (lambda: RNN(0, 4, rng=rng), "features_in is 0"),
        (lambda: LSTM(3, 0, rng=rng), "features is 0"),
        (lambda: LSTM(3, 4, bias="no", rng=rng), "bias is 'no'"),
        (lambda: RNN.from_arrays(weight_ih=W_in, weight_hh=W_h[1:]), "weight_hh has shape"),
        (lambda: LSTM.from_arrays(weight_ih=W_in[1:], weight_hh=W_h), "weight_hh has shape"),
        (
            lambda: RNN.from_arrays(weight_ih=W_in, weight_hh=W_h, bias_hh=bias[1:]),
            "bias_hh has shape",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            make_one()
    with pytest.raises(ValueError, match=r"state is an array.*it must be a tuple \(h, c\)"):
        LSTM(3, 4, rng=rng, dtype="float64").forward(x, h0)
