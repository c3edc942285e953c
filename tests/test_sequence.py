"""Whole models: other implementations, gradients, states, presets, counts, files."""

from pathlib import Path

import numpy as np
import pytest
from conftest import error, load, run_python
from test_blocks import MEGGISON, block_grads, group, load_block

from ssm_manual import checkpoint
from ssm_manual.gradcheck import check_vjp
from ssm_manual.models import SequenceModel, presets

PAGE = (Path(__file__).parents[1] / "docs" / "models.md").read_text("utf-8")

#: Every block, task, encoder, pooling, norm, mixer at least once.
MODELS = {
    "s4d": {"block": "s4d", "task": "classification", "encoder": "linear"},
    "s4": {"block": "s4", "task": "regression", "encoder": "two_layer", "positions": 60},
    "gated": {"block": "gated", "task": "generation", "encoder": "embedding", "positions": 60},
    "feed_forward": {"mixer": "feed_forward", "task": "classification", "encoder": "embedding",
                     "pooling": "last", "norm": "rms", "expansion": 2},
    "rnn": {"block": "rnn", "task": "classification", "encoder": "two_layer", "norm": "none"},
    "lstm": {"block": "lstm", "task": "generation", "encoder": "linear", "tied_dropout": True},
    "bidirectional": {"layer_options": {"bidirectional": True}, "task": "regression"},
}  # fmt: skip
CAUSAL = [kind for kind in MODELS if kind != "bidirectional"]
POLES = ("s4d", "s4", "gated", "feed_forward", "bidirectional")


def make(rng, kind, *, dtype="float64", n_layers=2, **options):
    """A model whose parameters have nothing special about them; ids from 0 to 4."""
    given = {"modes": 3 if kind in POLES else None, "dropout": 0.3} | MODELS[kind] | options
    model = SequenceModel(5, 4, 3, n_layers, dtype=dtype, rng=rng, **given)
    for a in model.params.values():
        a[...] += 0.1 * rng.standard_normal(a.shape)
    return model


def signal(rng, model, batch, length):
    if model.options["encoder"] == "embedding":
        return rng.integers(0, 5, (batch, length))
    return rng.standard_normal((batch, length, 5)).astype(model.dtype)


# --------------------------------------------------------------------------- other implementations


def cross_entropy(logits, labels):
    """The mean over the batch, and its gradient."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    return -np.log(p[rows, labels]).mean(), (p - np.eye(p.shape[1])[labels]) / len(labels)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_published_model(task):
    """Feed-forward blocks between a dense encoder and a norm with a head."""
    params, of, exact = group("model_cls" if task == "classification" else "model_reg")
    d_output, d_input = len(params["decoder.bias"]), params["encoder.weight"].shape[1]
    n_layers = len([key for key in params if key.endswith("s4d.D")])
    assert n_layers == (2 if task == "classification" else 1)
    model = SequenceModel(
        d_input, 4, d_output, n_layers, task=task, modes=6, mixer="feed_forward", dtype="float64",
        rng=np.random.default_rng(0), layer_options={"train_B": True},
    )  # fmt: skip
    own = []
    for i in range(n_layers):
        block = {
            k.removeprefix(f"blocks.{i}."): a for k, a in params.items() if f"blocks.{i}." in k
        }
        own.append(load_block(model.layers[f"blocks.{i}"], block))
    around = {
        "encoder.weight": "encoder.weight",
        "encoder.bias": "encoder.bias",
        "norm.scale": "norm.weight",
        "norm.shift": "norm.bias",
        "head.weight": "decoder.weight",
        "head.bias": "decoder.bias",
    }
    for name, theirs in around.items():
        model.params[name][...] = params[theirs]
    y, _, cache = model.forward(of["x"])
    assert error(y, exact["y"]) < 1e-10
    if task == "classification":
        loss, g = cross_entropy(y, of["labels"])
    else:
        loss, g = np.mean((y - of["target"]) ** 2), 2 * (y - of["target"]) / y.size
    assert abs(loss - exact["loss"]) < 1e-10
    grad_u, _, grads = model.backward(g, cache)
    assert error(grad_u, exact["grad_x"]) < 1e-10
    found = {theirs: grads[name] for name, theirs in around.items()}
    for i in range(n_layers):
        prefix = f"blocks.{i}."
        ours = {k.removeprefix(prefix): g for k, g in grads.items() if k.startswith(prefix)}
        found |= {prefix + name: grad for name, grad in block_grads(ours, own[i]).items()}
    assert set(found) == {key.removeprefix("grad/") for key in exact if "grad/" in key}
    for name, grad in found.items():
        assert error(grad, exact[f"grad/{name}"]) < 1e-10, name


def test_the_published_size_is_that_of_the_published_arrays():
    """663,306 = what its arrays hold at width 128, 64 eigenvalues, one input and ten classes."""
    params, _, _ = group("model_cls")
    sizes = {2: 1, 4: 128, 16: 512, 6: 64, 3: 10}
    count = sum(int(np.prod([sizes[n] for n in a.shape])) for a in params.values())
    per_block = sum(
        int(np.prod([sizes[n] for n in a.shape])) for k, a in params.items() if "blocks.0." in k
    )
    assert count + 2 * per_block == presets.ORIGINAL_COUNTS["s4d"] == 663_306
    assert "model_cls/param/encoder.weight" in MEGGISON


# --------------------------------------------------------------------------------------- gradients


def flat(arrays):
    """Arrays as one vector of real numbers."""
    return np.concatenate([a.ravel().view(a.real.dtype) for a in arrays])


def fill(arrays, vector):
    """The inverse of `flat`, in place."""
    for a in arrays:
        numbers = a.ravel().view(a.real.dtype).size
        a[...] = vector[:numbers].view(a.dtype).reshape(a.shape)
        vector = vector[numbers:]


def check(rng, model, lengths, state=None):
    """Every layer's parameters as one vector, the input, and the first state's running sum."""
    u = signal(rng, model, 2, 20)
    real = u.dtype.kind == "f"
    layers = [list(layer.params.values()) for layer in model.layers.values() if layer.params]

    def fwd(*args):
        values = args[1:] if real else args
        for arrays, vector in zip(layers, values, strict=True):
            fill(arrays, vector)
        y, _, cache = model.forward(args[0] if real else u, state, lengths=lengths, seed=5)
        return y, (cache, values)

    def vjp(kept, g):
        cache, values = kept
        for arrays, vector in zip(layers, values, strict=True):
            fill(arrays, vector)  # the cache holds the parameters themselves
        grad_u, _, grads = model.backward(g, cache)
        grads = iter(grads.values())
        found = [flat([next(grads) for _ in arrays]) for arrays in layers]
        return [grad_u, *found] if real else found

    args = ([u] if real else []) + [flat(arrays) for arrays in layers]
    report = check_vjp(fwd, vjp, tuple(args), rtol=1e-6)
    assert report, report


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_of_whole_models(rng, kind):
    """Two blocks, padding, dropout frozen by its seed."""
    check(rng, make(rng, kind), (20, 7))


@pytest.mark.parametrize(("pooling", "positions"), [("mean", None), ("last", None), ("last", 30)])
def test_gradients_when_a_sequence_goes_on(rng, pooling, positions):
    """Of both pieces of a cut sequence, through the state, as of the whole.

    Times of learned positions have no gradient; those of the other states must not go with it.
    """
    model = make(rng, "s4d", pooling=pooling, positions=positions)
    u, g = signal(rng, model, 2, 30), rng.standard_normal((2, 3))
    _, whole, cache = model.forward(u)
    grad_u, _, grads = model.backward(g, cache)
    _, state, first = model.forward(u[:, :11])
    y, last, second = model.forward(u[:, 11:], state)
    assert error(y, model.forward(u)[0]) < 1e-12
    to_second, to_state, found = model.backward(g, second)
    to_first, _, rest = model.backward(np.zeros((2, 3)), first, to_state)
    assert error(np.concatenate([to_first, to_second], axis=1), grad_u) < 1e-11
    for name, grad in grads.items():
        assert error(found[name] + rest[name], grad) < 1e-11, name
    if pooling == "mean":
        assert error(last.total, whole.total) < 1e-12
        assert last.count.tolist() == whole.count.tolist() == [30, 30]


# ------------------------------------------------------------------------------------ step, padding


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-5)])
@pytest.mark.parametrize("kind", CAUSAL)
def test_steps_equal_forward(rng, kind, dtype, tolerance):
    model = make(rng, kind, dtype=dtype)
    u = signal(rng, model, 2, 40)
    _, state, _ = model.forward(u[:, :9])
    for t in range(9, 40):
        y_t, state = model.step(u[:, t], state)
        if t in (9, 10, 39) or model.options["task"] != "classification":
            y = model.forward(u[:, : t + 1])[0]
            y = y if y.ndim == 2 else y[:, -1]
            assert error(y_t, y) < tolerance, t
    assert y_t.dtype == model.dtype == dtype
    first, _ = model.step(u[:, 0])
    y = model.forward(u[:, :1])[0]
    assert error(first, y if y.ndim == 2 else y[:, 0]) < tolerance


@pytest.mark.parametrize("kind", MODELS)
def test_padding_changes_nothing(rng, kind):
    """Output, gradients and state of every item are those of the item alone."""
    model = make(rng, kind)
    lengths = np.array([25, 1, 13])
    u = signal(rng, model, 3, 25)
    y, state, cache = model.forward(u, lengths=lengths)
    g = rng.standard_normal(y.shape)
    grad_u, _, grads = model.backward(g, cache)
    total = dict.fromkeys(grads, 0)
    for b, n in enumerate(lengths):
        alone, last, kept = model.forward(u[b : b + 1, :n])
        per_step = y.ndim == 3
        assert error(y[b : b + 1, :n] if per_step else y[b : b + 1], alone) < 1e-12
        g_b = g[b : b + 1, :n] if per_step else g[b : b + 1]
        to_u, _, found = model.backward(np.ascontiguousarray(g_b), kept)
        total = {name: total[name] + found[name] for name in found}
        if grad_u is not None:
            assert error(grad_u[b, :n], to_u[0]) < 1e-11
            assert not grad_u[b, n:].any()
        if per_step:
            assert not y[b, n:].any()
        if kind != "bidirectional":
            u_t = signal(rng, model, 3, 1)[:, 0]
            together, _ = model.step(u_t, state)
            assert error(together[b : b + 1], model.step(u_t[b : b + 1], last)[0]) < 1e-11
    for name, grad in grads.items():
        assert error(grad, total[name]) < 1e-10, name


def test_positions_tell_times_apart_and_end(rng):
    model = make(rng, "gated")
    u = np.zeros((2, 60), int)
    y, state, _ = model.forward(u)
    assert not np.allclose(y[:, 0], y[:, 1])
    with pytest.raises(ValueError, match="u reaches time 61; it must end within positions = 60"):
        model.step(u[:, 0], state)
    with pytest.raises(ValueError, match="u reaches time 61"):
        model.forward(np.zeros((2, 61), int))
    _, after, _ = model.forward(u[:, :9], lengths=[9, 7])
    y, _, cache = model.forward(u[:, :3], after)  # two items at different times, of which 9 is both
    total = 0
    for b, n in enumerate((9, 7)):
        _, alone, _ = model.forward(u[:1, :n])
        expected, _, kept = model.forward(u[:1, :3], alone)
        assert error(y[b : b + 1], expected) < 1e-12
        total = total + model.backward(np.ones_like(expected), kept)[2]["positions.table"]
    grads = model.backward(np.ones_like(y), cache)[2]["positions.table"]
    assert error(grads, total) < 1e-11
    assert not np.delete(grads, np.arange(7, 12), axis=1).any()


def test_causal_models_do_not_see_the_future(rng):
    for kind in CAUSAL:
        if MODELS[kind]["task"] == "classification":
            continue
        model = make(rng, kind)
        u = signal(rng, model, 2, 40)
        y = model.forward(u)[0]
        assert error(model.forward(u[:, :13])[0], y[:, :13]) < 1e-12


# --------------------------------------------------------------------------------- dropout, threads


def test_dropout_follows_its_seed(rng):
    model = make(rng, "s4d")
    u = signal(rng, model, 2, 30)
    y = model.forward(u, seed=3)[0]
    assert np.array_equal(model.forward(u, seed=3, cache=False)[0], y)
    assert model.forward(u, seed=3, cache=False)[2] is None
    assert error(model.forward(u, seed=4)[0], y) > 1e-3
    for block in ("blocks.0", "blocks.1"):  # each has masks of its own
        layer = model.layers[block]
        layer.params["mixer.weight"][...] = model.layers["blocks.0"].params["mixer.weight"]
        layer.params["mixer.bias"][...] = 1.0
    v = rng.standard_normal((1, 4, 200))
    seeds = np.random.SeedSequence(3).generate_state(3, np.uint64).tolist()
    masks = [model.layers[f"blocks.{i}"].forward(v, seed=seeds[1 + i])[0] == v for i in (0, 1)]
    assert 0.2 < np.mean(masks[0]) < 0.4
    assert 0.2 < np.mean(masks[0] != masks[1]) < 0.6


SAME_BITS = """
import hashlib
import numpy as np
from ssm_manual.models import SequenceModel

rng = np.random.default_rng(0)
model = SequenceModel(3, 16, 4, 2, modes=4, rng=rng)
u = rng.standard_normal((4, 700, 3), dtype=np.float32)
y, _, cache = model.forward(u, seed=1)
_, _, grads = model.backward(np.ones_like(y), cache)
print(hashlib.sha256(b"".join(a.tobytes() for a in [y, *grads.values()])).hexdigest())
"""


@pytest.mark.slow
def test_the_same_bits_for_any_number_of_threads():
    assert len({run_python(SAME_BITS, timeout=600, NUMBA_NUM_THREADS=n) for n in ("1", "2")}) == 1


# -------------------------------------------------------------------------------- counts, presets


def formula(o):
    """The number of parameters as docs/models.md has it."""
    H, N = o["d_model"], o["modes"]
    norm = {"layer": 2 * H, "rms": H, "none": 0}[o["norm"]]
    bidirectional = o["layer_options"].get("bidirectional", False)

    def dense(i, out):
        return out * (i + 1)

    def ssm():
        B_and_P = 2 if o["block"] == "s4" else 0
        return H * (2 + 4 * N) + 2 * H * N * (B_and_P + bidirectional)

    expansion = 4 if o["expansion"] is None else o["expansion"]
    feed = dense(H, expansion * H) + dense(expansion * H, H)
    block = {
        "rnn": lambda: H * (2 * H + 1),
        "lstm": lambda: 4 * H * (2 * H + 1),
        "gated": lambda: norm + dense(H, 2 * H) + ssm() + feed,
        "s4d": lambda: (2 * norm + ssm() + feed) if o["mixer"] == "feed_forward"
        else norm + ssm() + dense(H, 2 * H),
        "s4": lambda: norm + ssm() + dense(H, 2 * H),
    }[o["block"]]()  # fmt: skip
    encoder = {
        "linear": dense(o["d_input"], H),
        "two_layer": dense(o["d_input"], H) + dense(H, H),
        "embedding": o["d_input"] * H,
    }[o["encoder"]]
    times = H * (o["positions"] or 0)
    return encoder + times + o["n_layers"] * block + norm + dense(H, o["d_output"])


@pytest.mark.parametrize("kind", MODELS)
def test_counts(rng, kind):
    model = make(rng, kind)
    count = sum(a.size * (1 + np.iscomplexobj(a)) for a in model.params.values())
    assert model.count_parameters() == count == formula(model.options)
    summary = model.summary().splitlines()
    assert len(summary) == 2 + len(model.params)
    assert summary[-1].split() == ["total", str(count)]
    assert sum(int(line.split("  ")[-2]) for line in summary[1:-1]) == count
    assert str(count) in repr(model)


#: What docs/models.md prints, for one input and one output (``s4d``: ten).
COUNTS = {
    "small": 11_821_569,
    "medium": 37_606_657,
    "large": 65_870_849,
    "xlarge": 129_639_425,
    "s4d": 597_258,
}


def test_counts_of_presets_and_why_they_differ_from_the_originals():
    for name, count in COUNTS.items():
        d_output = 10 if name == "s4d" else 1
        o = presets.PRESETS[name]
        assert presets.count_parameters(name, 1, d_output) == count
        assert f"| {count:,} |" in PAGE
        assert f"| {presets.ORIGINAL_COUNTS[name]:,} |" in PAGE
        H, layers, N = o["d_model"], o["n_layers"], 64
        ours = H * (2 + 4 * o["modes"])
        if name == "s4d":  # shared poles, but B and C of the whole spectrum
            theirs, more = 2 * N + 4 * H * N + 2 * H, 0
        else:  # shared real poles and B; neither encoder, last norm nor head
            theirs, more = 2 * N + H * N + 1, 2 * H + 2 * H + H + 1
        assert count - presets.ORIGINAL_COUNTS[name] == layers * (ours - theirs) + more


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_parameter_of_every_preset_moves_in_one_step(rng, name):
    """Scaled down in width and positions, with the preset's block, mixer and number of layers."""
    small = {"d_model": 8, "modes": 4}
    if "positions" in presets.PRESETS[name]:
        small["positions"] = 12
    model = presets.preset(name, 3, 2, rng=rng, **small)
    assert model.options["n_layers"] == presets.PRESETS[name]["n_layers"]
    assert model.count_parameters() == presets.count_parameters(name, 3, 2, **small)
    before = {key: a.copy() for key, a in model.params.items()}
    y, _, cache = model.forward(signal_of(rng, 4, 12, 3), seed=1)
    _, _, grads = model.backward(rng.standard_normal(y.shape).astype("f4"), cache)
    for key, a in model.params.items():
        a -= 1e-3 * np.sign(grads[key].view("f4")).view(a.dtype)  # as Adam's first step
        # Some hidden units of ReLU see no positive input in so little data.
        assert np.mean(a != before[key]) > (0.8 if "feed_" in key else 0.99), key


def signal_of(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def test_every_parameter_of_every_block_moves_in_one_step(rng):
    for kind in MODELS:
        model = make(rng, kind, dtype="float32")
        y, _, cache = model.forward(signal(rng, model, 6, 60), seed=1)
        grads = model.backward(rng.standard_normal(y.shape).astype("f4"), cache)[2]
        assert list(grads) == list(model.params)
        for name, grad in grads.items():
            assert grad.dtype == model.params[name].dtype
            assert np.mean(grad != 0) > (0.8 if "feed_" in name else 0.99), (kind, name)


# ------------------------------------------------------------------------------------ files, input


@pytest.mark.parametrize("kind", MODELS)
def test_files(rng, tmp_path, kind):
    model = make(rng, kind, dtype="float32")
    checkpoint.save(tmp_path / "model", model)
    for mmap in (False, True):
        again = checkpoint.load(tmp_path / "model", expected=SequenceModel, mmap=mmap)
        assert list(again.params) == list(model.params)
        assert again.options == model.options
        u = signal(rng, model, 2, 20)
        assert np.array_equal(again.forward(u, seed=1)[0], model.forward(u, seed=1)[0])
    hyper, arrays = model.to_checkpoint()
    with pytest.raises(ValueError, match="head has arrays"):
        SequenceModel.from_checkpoint(hyper, arrays | {"head.weight": arrays["head.weight"].T})
    with pytest.raises(ValueError, match=r"arrays of no part: other\.weight"):
        SequenceModel.from_checkpoint(hyper, arrays | {"other.weight": arrays["head.weight"]})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"d_input": 0}, "d_input is 0"),
        ({"d_model": 2.0}, "d_model is 2.0"),
        ({"d_output": -1}, "d_output is -1"),
        ({"n_layers": 0}, "n_layers is 0"),
        ({"task": "translation"}, "task is 'translation'"),
        ({"block": "gru"}, "block is 'gru'"),
        ({"encoder": "conv"}, "encoder is 'conv'"),
        ({"positions": 0}, "positions is 0"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"pooling": ""}, "pooling is ''"),
        ({"task": "regression", "pooling": "mean"}, "pooling is 'mean'; it must be None"),
        ({"modes": 0}, "modes is 0"),
        ({"block": "rnn", "modes": 3}, "modes is 3; it must be None for block 'rnn'"),
        ({"block": "gated", "mixer": "glu"}, "mixer is 'glu'; it must be None for block 'gated'"),
        ({"block": "lstm", "expansion": 2}, "expansion is 2; it must be None for block 'lstm'"),
        ({"expansion": 2}, "expansion is 2; it must be None for mixer 'glu'"),
        ({"mixer": "sum"}, "mixer is 'sum'"),
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"dropout": 1}, "dropout is 1.0"),
        ({"tied_dropout": None}, "tied_dropout is None"),
        ({"dtype": "int32"}, "dtype is 'int32'"),
        ({"rng": 0}, "rng is 0"),
        ({"layer_options": {"nonlinearity": "tanh"}}, "a key of layer_options is 'nonlinearity'"),
        ({"task": "generation", "layer_options": {"bidirectional": True}}, "must be causal"),
    ],
)
def test_bad_options(changes, match):
    given = {"d_input": 3, "d_model": 4, "d_output": 2, "n_layers": 1} | changes
    with pytest.raises(ValueError, match=match):
        SequenceModel(**{"rng": np.random.default_rng(0)} | given)


def test_bad_presets(rng):
    with pytest.raises(ValueError, match=r"name is 'smal'.*did you mean 'small'"):
        presets.preset("smal", 1, 1, rng=rng)
    with pytest.raises(ValueError, match="n_layers is 0"):
        presets.count_parameters("small", 1, 1, n_layers=0)
    with pytest.raises(ValueError, match="an option is 'layers'"):
        presets.count_parameters("small", 1, 1, layers=2)


def test_bad_signals(rng):
    model, tokens = make(rng, "s4d"), make(rng, "gated")
    u = signal(rng, model, 2, 10)
    ids = signal(rng, tokens, 2, 10)
    y, state, cache = model.forward(u)
    for call, match in [
        (lambda: model.forward(u[..., :4]), r"u has shape \(2, 10, 4\)"),
        (lambda: model.forward(u.astype("f4")), "u float32"),
        (lambda: model.forward(np.where(u > 1, np.inf, u)), "u holds inf"),
        (lambda: model.forward(u[:, :0]), "classification needs at least one"),
        (lambda: model.forward(u, lengths=[3, 0]), "classification needs at least one"),
        (lambda: model.forward(u, lengths=[3, 11]), "lengths holds 11"),
        (lambda: model.forward(u, (1, 2, 3)), "state is .*it must be a State"),
        (lambda: model.forward(u, seed="a"), "seed is 'a'"),
        (lambda: model.forward(u, cache="no"), "cache is 'no'"),
        (lambda: model.backward(y.T, cache), "grad_y has shape"),
        (lambda: model.backward(y, None), "cache is None"),
        (lambda: model.backward(y, (y, state, cache)), "as its third result"),
        (lambda: model.backward(y, cache, 3), "grad_state is 3"),
        (lambda: model.step(u[:, 0, :3]), r"u_t has shape \(2, 3\)"),
        (lambda: tokens.forward(ids + 1), "u holds 5"),
        (lambda: tokens.forward(ids[0]), r"u has shape \(10,\)"),
        (lambda: tokens.forward(ids / 2), "u is .* dtype float64; it must be an array of integers"),
        (lambda: tokens.step(ids[:, 0] - 5), "u_t holds -"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(ValueError, match="bidirectional"):
        make(rng, "bidirectional").step(u[:, 0])
    assert state.count.tolist() == [10, 10]


def test_generation_gives_the_next_token(rng):
    """Token by token, the model runs on its own output as `forward` does on the whole."""
    model = make(rng, "gated")
    ids, state = np.array([[1], [2]]), None
    for _ in range(12):
        logits, state = model.step(ids[:, -1], state)
        ids = np.concatenate([ids, logits.argmax(axis=1)[:, None]], axis=1)
    logits = model.forward(ids[:, :-1])[0]
    assert np.array_equal(logits.argmax(axis=2), ids[:, 1:])


def test_the_file_of_the_published_models_is_whole():
    assert {key.partition("/")[0] for key in load("meggison_models.npz")} >= {"model_cls", "block"}
