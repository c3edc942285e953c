"""Linear, LayerNorm, RMSNorm, Dropout, Embedding: gradients, padding, steps, what they refuse."""

import numpy as np
import pytest
from conftest import assert_close, error

from ssm_manual import ops
from ssm_manual.gradcheck import check_vjp
from ssm_manual.layers import Dropout, Embedding, LayerNorm, Linear, RMSNorm


def scattered(layer, rng):
    """The layer with parameters away from ones and zeros."""
    for p in layer.params.values():
        p += 0.3 * rng.standard_normal(p.shape).astype(p.dtype)
    return layer


MAKE = {
    "linear": lambda rng, dtype: Linear(4, 3, dtype=dtype, rng=rng),
    "linear without bias": lambda rng, dtype: Linear(4, 3, bias=False, dtype=dtype, rng=rng),
    "layer norm": lambda rng, dtype: scattered(LayerNorm(4, eps=0.1, dtype=dtype), rng),
    "rms norm": lambda rng, dtype: scattered(RMSNorm(4, eps=0.1, dtype=dtype), rng),
    "dropout": lambda rng, dtype: Dropout(0.4, dtype=dtype),
    "tied dropout": lambda rng, dtype: Dropout(0.4, tied=True, dtype=dtype),
    "embedding": lambda rng, dtype: Embedding(5, 4, dtype=dtype, rng=rng),
    "positions": lambda rng, dtype: Embedding(5, 4, longest=40, dtype=dtype, rng=rng),
}
every = pytest.mark.parametrize("kind", MAKE)
of_signals = pytest.mark.parametrize("kind", list(MAKE)[:6])


def draw(rng, layer, batch=3, length=11):
    """An input of the layer."""
    if isinstance(layer, Embedding):
        return rng.integers(0, layer.vocabulary, (batch, length))
    return rng.standard_normal((batch, 4, length)).astype(layer.dtype)


@every
@pytest.mark.parametrize("lengths", [None, [11, 0, 4]])
def test_gradients(rng, kind, lengths):
    layer = MAKE[kind](rng, "float64")
    names = tuple(layer.params)

    def forward(u, *params):
        layer.params.update(zip(names, params))
        y, _, cache = layer.forward(u, lengths=lengths, seed=7)
        return y, cache

    def vjp(cache, g):
        grad_u, state, grads = layer.backward(g, cache)
        assert state is None
        assert tuple(grads) == names
        return grad_u, *(grads[name] for name in names)

    args = draw(rng, layer), *(p.copy() for p in layer.params.values())
    report = check_vjp(forward, vjp, args)
    assert report, report


@every
def test_step_is_forward(rng, kind):
    layer = MAKE[kind](rng, "float64")
    u = draw(rng, layer)
    y, state, _ = layer.forward(u)
    after, found = None, np.empty(y.shape)
    for t in range(u.shape[-1]):
        found[..., t], after = layer.step(u[..., t], after)
    assert error(found, y) < 1e-14
    assert_close((after,), (state,), 0)


@every
def test_padding_has_no_effect(rng, kind):
    """Output and gradients beyond a length are zero, and what lies there changes nothing."""
    layer = MAKE[kind](rng, "float64")
    u, lengths = draw(rng, layer), np.array([11, 0, 4])
    other = draw(rng, layer)
    y, state, cache = layer.forward(u, lengths=lengths, seed=3)
    g = rng.standard_normal(y.shape)
    grad_u, _, grads = layer.backward(g, cache)
    for item, length in enumerate(lengths):
        other[item, ..., :length] = u[item, ..., :length]
        assert not y[item, :, length:].any()
        assert grad_u is None or not grad_u[item, :, length:].any()
        g[item, :, length:] = 5
    again, _, cache = layer.forward(other, lengths=lengths, seed=3)
    from_other = layer.backward(g, cache)
    assert np.array_equal(again, y)
    assert_close((from_other[0],), (grad_u,), 0)
    for name in grads:
        assert error(from_other[2][name], grads[name]) < 1e-15, name
    assert state is None or state.tolist() == lengths.tolist()


@every
def test_lengths_leave_the_arguments_as_they_were(rng, kind):
    layer = MAKE[kind](rng, "float64")
    u = draw(rng, layer)
    before = u.copy()
    y, _, cache = layer.forward(u, lengths=[11, 0, 4])
    g = np.ones(y.shape)
    layer.backward(g, cache)
    assert np.array_equal(u, before)
    assert (g == 1).all()


@every
def test_single_precision_in_single_precision_out(rng, kind):
    layer = MAKE[kind](rng, "float32")
    y, _, cache = layer.forward(draw(rng, layer), seed=1)
    grad_u, _, grads = layer.backward(y, cache)
    results = [y, *grads.values(), *layer.params.values()]
    results += [] if grad_u is None else [grad_u]
    assert {a.dtype.name for a in results} == {"float32"}
    assert layer.dtype == np.float32
    assert all(grads[name].shape == p.shape for name, p in layer.params.items())


@every
def test_evaluation_keeps_nothing(rng, kind):
    layer = MAKE[kind](rng, "float64")
    u = draw(rng, layer)
    y, _, cache = layer.forward(u, cache=False)
    assert cache is None
    assert np.array_equal(y, layer.forward(u)[0])
    with pytest.raises(ValueError, match="cache is None; it must be what forward gave"):
        layer.backward(y, cache)


def test_they_are_their_ops(rng):
    u, g = rng.standard_normal((2, 4, 9)), rng.standard_normal((2, 3, 9))
    layer = Linear(4, 3, dtype="float64", rng=rng)
    y, _, cache = layer.forward(u)
    expected = np.einsum("oi,bit->bot", layer.params["weight"], u) + layer.params["bias"][:, None]
    assert error(y, expected) < 1e-14
    assert error(layer.backward(g, cache)[2]["weight"], np.einsum("bot,bit->oi", g, u)) < 1e-14
    norm = scattered(LayerNorm(4, eps=0.2, dtype="float64"), rng)
    scale, shift = norm.params.values()
    expected = ops.layer_norm.layer_norm(u.swapaxes(1, 2), scale, shift, eps=0.2).swapaxes(1, 2)
    assert error(norm.forward(u)[0], expected) < 1e-14
    rms = scattered(RMSNorm(4, eps=0.2, dtype="float64"), rng)
    expected = u / np.sqrt((u**2).mean(axis=1, keepdims=True) + 0.2)
    assert error(rms.forward(u)[0], expected * rms.params["scale"][:, None]) < 1e-14
    dropout = Dropout(0.5, tied=True, dtype="float64")
    assert dropout.forward(u)[0] is u
    y = dropout.forward(u, seed=5)[0]
    assert np.array_equal(y, ops.dropout.dropout(u, rate=0.5, seed=5, tied=True))


def test_the_start_is_as_told():
    """Linear as torch.nn.Linear: uniform within 1/sqrt(in); Embedding: normal."""
    rng = np.random.default_rng(0)
    for p in Linear(16, 4000, rng=rng).params.values():
        assert np.abs(p).max() <= 0.25
        assert abs(p.std() - 0.25 / np.sqrt(3)) < 0.004
    table, positions = Embedding(500, 40, longest=500, deviation=0.02, rng=rng).params.values()
    for p in (table, positions):
        assert abs(p.std() - 0.02) < 5e-4
        assert abs(p.mean()) < 5e-4


def test_positions_are_those_of_the_time(rng):
    layer = Embedding(5, 4, longest=12, dtype="float64", rng=rng)
    table, positions = layer.params.values()
    u = rng.integers(0, 5, (3, 12))
    whole, end, _ = layer.forward(u)
    assert error(whole, table[u].swapaxes(1, 2) + positions) < 1e-15
    assert end.tolist() == [12, 12, 12]
    lengths = np.array([7, 0, 3])
    first, state, _ = layer.forward(u[:, :7], lengths=lengths)
    rest = np.stack([np.roll(row, -n) for row, n in zip(u, lengths)])
    second, end, cache = layer.forward(rest, state, lengths=12 - lengths)
    assert end.tolist() == [12, 12, 12]
    for item, n in enumerate(lengths):
        assert np.array_equal(first[item, :, :n], whole[item, :, :n])
        assert np.array_equal(second[item, :, : 12 - n], whole[item, :, n:])
    g = rng.standard_normal(second.shape)
    expected = np.zeros((4, 12))
    for item, n in enumerate(lengths):
        expected[:, n:] += g[item, :, : 12 - n]
    assert error(layer.backward(g, cache)[2]["positions"], expected) < 1e-14
    # Items that begin together and end apart.
    state, lengths = np.array([3, 3, 0]), np.array([2, 9, 5])
    y, end, cache = layer.forward(u[:, :9], state, lengths=lengths)
    assert end.tolist() == [5, 12, 5]
    expected = np.zeros((4, 12))
    for item, (start, n) in enumerate(zip(state, lengths)):
        places = slice(start, start + n)
        alone = table[u[item, :n]].T + positions[:, places]
        assert error(y[item, :, :n], alone) < 1e-15
        expected[:, places] += g[item, :, :n]
    assert error(layer.backward(g[:, :, :9], cache)[2]["positions"], expected) < 1e-14


@of_signals
def test_bad_signals(rng, kind):
    layer = MAKE[kind](rng, "float32")
    u = draw(rng, layer)
    bad = u.copy()
    bad[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"u holds nan at index \(1, 2, 3\)"):
        layer.forward(bad)
    with pytest.raises(ValueError, match=r"u_t holds nan at index \(1, 2\)"):
        layer.step(bad[..., 3])
    with pytest.raises(ValueError, match=r"u has shape \(4, 11\)"):
        layer.forward(u[0])
    with pytest.raises(ValueError, match="u float64, parameters float32: all arrays must have one"):
        layer.forward(u.astype(float))
    with pytest.raises(ValueError, match="state is 3; it must be None"):
        layer.forward(u, 3)
    with pytest.raises(ValueError, match="state is 3; it must be None"):
        layer.step(u[..., 0], 3)
    y, _, cache = layer.forward(u, lengths=[1, 2, 3])
    with pytest.raises(ValueError, match="grad_state is 3; it must be None"):
        layer.backward(y, cache, 3)
    with pytest.raises(ValueError, match=r"grad_y has shape \(3, .*it must have those of the outp"):
        layer.backward(y[:, :, :4], cache)


@every
def test_bad_options(rng, kind):
    layer = MAKE[kind](rng, "float64")
    u = draw(rng, layer)
    for lengths in ([1, 2], [1, 2, 12], [1, 2, 3.0]):
        with pytest.raises(ValueError, match=r"lengths (is|holds)"):
            layer.forward(u, lengths=lengths)
    for seed in (-1, 2**64, 1.0):
        with pytest.raises(ValueError, match="seed is"):
            layer.forward(u, seed=seed)
    with pytest.raises(ValueError, match="cache is 1; it must be True or False"):
        layer.forward(u, cache=1)


def test_bad_ids(rng):
    layer = Embedding(5, 4, longest=6, rng=rng)
    for u, message in [
        ([[0, 5]], "u holds 5; it must be from 0 to 4"),
        ([[0, -1]], "u holds -1; it must be from 0 to 4"),
        ([[0.0]], r"u is \[\[0\.0\]\], of dtype float64; it must be an array of integers"),
        ([0, 1], r"u has shape \(2,\); it must be"),
        ([[0] * 7], "u reaches time 7; it must end within longest = 6"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer.forward(u)
    with pytest.raises(ValueError, match="state holds -1; it must be at least 0"):
        layer.forward([[0]], [-1])
    with pytest.raises(ValueError, match="u reaches time 7"):
        layer.step([0], [6])
    assert layer.forward([[0] * 7], lengths=[6])[0].shape == (1, 4, 7)
    with pytest.raises(ValueError, match=r"state is array.*it must be None"):
        Embedding(5, 4, rng=rng).step([0], np.array([0]))


def test_bad_arguments(rng):
    for make, message in [
        (lambda: Linear(0, 3, rng=rng), "features_in is 0"),
        (lambda: Linear(3, 2.0, rng=rng), "features_out is 2.0; it must be an integer"),
        (lambda: Linear(3, 2, bias=1, rng=rng), "bias is 1; it must be True or False"),
        (lambda: Linear(3, 2, rng=0), "rng is 0; it must be a numpy.random.Generator"),
        (lambda: LayerNorm(3, eps=-1), "eps is -1; it must be finite and at least 0"),
        (lambda: RMSNorm(3, dtype="float16"), "dtype is 'float16'"),
        (lambda: Dropout(1), "rate is 1; it must be at least 0 and less than 1"),
        (lambda: Dropout(0.1, tied="yes"), "tied is 'yes'"),
        (lambda: Embedding(3, 2, longest=0, rng=rng), "longest is 0"),
        (lambda: Embedding(3, 2, deviation=0, rng=rng), "deviation is 0; it must be finite and"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
