"""Residual blocks: other implementations, gradients, states, padding, dropout, files."""

import numpy as np
import pytest
from conftest import assert_close, error, load

from ssm_manual import checkpoint
from ssm_manual.gradcheck import check_vjp
from ssm_manual.layers import RNN, S4, S4D, GatedBlock, LayerNorm, S4DBlock, _composite

MINIMAL = load("s4d_minimal.npz")
MEGGISON = load("meggison_models.npz")
NEEDLE = load("needle_s4.npz")

KINDS = {
    "glu": (S4DBlock, {}),
    "feed_forward": (S4DBlock, {"mixer": "feed_forward", "expansion": 2, "norm": "rms"}),
    "s4": (S4DBlock, {"ssm": "s4", "ssm_options": {"initial": "legt"}, "tied_dropout": True}),
    "gated": (GatedBlock, {"expansion": 2}),
    "bidirectional": (S4DBlock, {"ssm_options": {"bidirectional": True}}),
    "without norm": (S4DBlock, {"norm": "none", "mixer": "feed_forward"}),
}
CAUSAL = [kind for kind in KINDS if kind != "bidirectional"]


def make(rng, kind, *, dtype="float64", H=4, **options):
    """A block whose parameters have nothing special about them."""
    cls, given = KINDS[kind]
    block = cls(H, 3, dtype=dtype, rng=rng, dropout=0.3, **given | options)
    return moved(rng, block)


def moved(rng, block):
    for a in block.params.values():
        a[...] += 0.1 * rng.standard_normal(a.shape)
    return block


def states(rng, block, batch=2):
    """A random state of a block, and a cotangent of it."""
    if block.ssm.bidirectional:
        return None, None
    _, state, _ = block.forward(rng.standard_normal((batch, block.features, 3)).astype(block.dtype))
    return tuple(
        tuple((rng.standard_normal(x.shape) + 1j * rng.standard_normal(x.shape)).astype(x.dtype)
              for x in state)
        for _ in range(2)
    )  # fmt: skip


# --------------------------------------------------------------------------- other implementations


def pairs(a):
    return a[..., 0] + 1j * a[..., 1]


def test_the_minimal_layer_is_the_branch_of_a_block_without_norm():
    """D-skip convolution, exact GELU, dense H to 2H, GLU: everything around it is ours alone."""
    data = {key.removeprefix("layer/"): a for key, a in MINIMAL.items() if "layer/" in key}
    ssm = S4D.from_arrays(
        D=data["D"],
        **{key: data[f"kernel.{key}"] for key in ("log_dt", "C", "log_A_real", "A_imag")},
    )
    rng = np.random.default_rng(0)
    block = S4DBlock(4, ssm=ssm, norm="none", dropout=0, dtype="float64", rng=rng)
    block.params["mixer.weight"][...] = data["output_linear.0.weight"][..., 0]
    block.params["mixer.bias"][...] = data["output_linear.0.bias"]
    y, _, cache = block.forward(data["u"])
    assert error(y - data["u"], data["y"]) < 1e-12
    grad_u, _, grads = block.backward(data["W"], cache)
    assert error(grad_u - data["W"], data["grad_u"]) < 1e-10
    names = {"mixer.weight": "output_linear.0.weight", "mixer.bias": "output_linear.0.bias"}
    names |= {f"ssm.{key}": f"kernel.{key}" for key in ("log_dt", "log_A_real", "A_imag", "C")}
    names |= {"ssm.D": "D"}
    assert set(names) == set(grads)
    for name, theirs in names.items():
        expected = data[f"grad_{theirs}"]
        expected = pairs(expected) if name == "ssm.C" else expected
        assert error(grads[name], expected.reshape(grads[name].shape)) < 1e-10, name


def shared_ssm(params, **options):
    """Poles that all channels share, the whole spectrum and Re(sum), as a layer of ours."""
    B = params["B_real"] + 1j * params["B_imag"]

    def everywhere(a):
        return np.broadcast_to(a, B.shape)

    return S4D.from_arrays(
        log_dt=params["log_dt"],
        log_A_real=everywhere(np.log(-params["Lambda_real"])),
        A_imag=everywhere(params["Lambda_imag"]),
        B=B,
        C=(params["C_real"] + 1j * params["C_imag"]) / 2,
        D=params["D"],
        train_B=True,
        **options,
    )


def shared_grads(grads, params):
    """Their gradients from ours: shared parameters sum over the channels, C is twice ours."""
    return {
        "Lambda_real": (grads["log_A_real"] / params["Lambda_real"]).sum(axis=0),
        "Lambda_imag": grads["A_imag"].sum(axis=0),
        "B_real": grads["B"].real,
        "B_imag": grads["B"].imag,
        "C_real": grads["C"].real / 2,
        "C_imag": grads["C"].imag / 2,
        "log_dt": grads["log_dt"],
        "D": grads["D"],
    }


def group(name):
    """``params, x, W, exact`` of one group of the file."""
    of = {key.removeprefix(name + "/"): a for key, a in MEGGISON.items() if key.startswith(name)}

    def under(folder):
        return {k.removeprefix(folder): a for k, a in of.items() if k.startswith(folder)}

    return under("param/"), of, under("exact/")


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
@pytest.mark.parametrize("initial", ["legs", "inv"])
def test_a_layer_with_shared_poles(initial, method):
    params, of, exact = group(f"layer_{initial}_{method}")
    layer = shared_ssm(params, discretisation={"bilinear": "tustin"}.get(method, method))
    y, _, cache = layer.forward(of["x"].swapaxes(1, 2))
    assert error(y.swapaxes(1, 2), exact["y"]) < 1e-10
    grad_u, _, grads = layer.backward(of["W"].swapaxes(1, 2), cache)
    assert error(grad_u.swapaxes(1, 2), exact["grad_x"]) < 1e-10
    for name, grad in shared_grads(grads, params).items():
        assert error(grad, exact[f"grad/{name}"]) < 1e-10, name


#: Their names of what is not the SSM.
NAMES = {
    "norm.scale": "norm1.weight",
    "norm.shift": "norm1.bias",
    "feed_norm.scale": "norm2.weight",
    "feed_norm.shift": "norm2.bias",
    "feed_in.weight": "ff.0.weight",
    "feed_in.bias": "ff.0.bias",
    "feed_out.weight": "ff.3.weight",
    "feed_out.bias": "ff.3.bias",
}


def load_block(block, params):
    """Put their parameters of a feed-forward block into ours."""
    own = {key.removeprefix("s4d."): a for key, a in params.items() if key.startswith("s4d.")}
    for name, a in shared_ssm(own).params.items():
        block.params[f"ssm.{name}"][...] = a
    for name, theirs in NAMES.items():
        block.params[name][...] = params[theirs]
    return own


def block_grads(grads, own):
    """Their gradients of a feed-forward block from ours."""
    ssm = {key.removeprefix("ssm."): g for key, g in grads.items() if key.startswith("ssm.")}
    found = {f"s4d.{name}": grad for name, grad in shared_grads(ssm, own).items()}
    return found | {theirs: grads[name] for name, theirs in NAMES.items()}


def test_a_feed_forward_block():
    params, of, exact = group("block")
    own = {key.removeprefix("s4d."): a for key, a in params.items() if key.startswith("s4d.")}
    rng = np.random.default_rng(0)
    block = S4DBlock(4, ssm=shared_ssm(own), mixer="feed_forward", dtype="float64", rng=rng)
    load_block(block, params)
    y, _, cache = block.forward(of["x"].swapaxes(1, 2))
    assert error(y.swapaxes(1, 2), exact["y"]) < 1e-10
    grad_u, _, grads = block.backward(of["W"].swapaxes(1, 2), cache)
    assert error(grad_u.swapaxes(1, 2), exact["grad_x"]) < 1e-10
    found = block_grads(grads, own)
    assert set(found) == {key.removeprefix("grad/") for key in exact if "grad/" in key}
    for name, grad in found.items():
        assert error(grad, exact[f"grad/{name}"]) < 1e-10, name


def gated(params, dtype):
    """A gated block of the file: real shared poles, no D, weights (in, out)."""
    D, N = params["C"].shape

    def everywhere(a, *shape):
        return np.broadcast_to(a, shape).astype(dtype)

    ssm = S4D.from_arrays(
        log_dt=everywhere(params["log_step"], D),
        log_A_real=everywhere(np.log(-params["Lambda"].astype(float)), D, N),
        A_imag=np.zeros((D, N), dtype),
        B=everywhere(params["B"], D, N) + 0j,
        C=(params["C"].astype(dtype) + 0j) / 2,
        D=np.zeros(D, dtype),
        train_B=True,
    )
    rng = np.random.default_rng(0)
    block = GatedBlock(D, ssm=ssm, expansion=2, dropout=0, dtype=dtype, rng=rng)
    for name, theirs in GATED.items():
        a = params[theirs]
        block.params[name][...] = a.T if name.endswith("weight") else a.reshape(-1)
    return block


GATED = {
    "norm.scale": "layernorm.weight",
    "norm.shift": "layernorm.bias",
    "project.weight": "in_proj.weight",
    "project.bias": "in_proj.bias",
    "feed_in.weight": "ffn_linear1.weight",
    "feed_in.bias": "ffn_linear1.bias",
    "feed_out.weight": "ffn_linear2.weight",
    "feed_out.bias": "ffn_linear2.bias",
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_the_gated_layer(dtype, tolerance):
    """Poles, B and the step are shared, real, and their outputs Re(sum)."""
    data = {key.removeprefix("layer/"): a for key, a in NEEDLE.items() if key.startswith("layer/")}
    params = {key.removeprefix("param/"): a for key, a in data.items() if "param/" in key}
    block = gated(params, dtype)
    u = np.ascontiguousarray(data["x"].swapaxes(1, 2).astype(dtype))
    y, _, cache = block.forward(u)
    assert error(y.swapaxes(1, 2), data["out_f64"]) < tolerance
    g = np.ascontiguousarray(data["W"].swapaxes(1, 2).astype(dtype))
    grad_u, _, grads = block.backward(g, cache)
    assert error(grad_u.swapaxes(1, 2), data["grad_x"]) < tolerance
    found = {theirs: grads[name] for name, theirs in GATED.items()}
    found = {name: g.T if "weight" in name and g.ndim == 2 else g for name, g in found.items()}
    found |= {
        "Lambda": (grads["ssm.log_A_real"] / params["Lambda"]).sum(axis=0),
        "B": grads["ssm.B"].real.sum(axis=0),
        "C": grads["ssm.C"].real / 2,
        "log_step": grads["ssm.log_dt"].sum(keepdims=True),
    }
    assert set(found) == {key.removeprefix("grad/") for key in data if key.startswith("grad/")}
    for name, grad in found.items():
        expected = data[f"grad/{name}"]
        assert error(grad.reshape(expected.shape), expected) < tolerance, name


def test_the_gated_model_of_two_layers():
    """Its learned positions are added first; it has no encoder, no last norm and no head."""
    data = {key.removeprefix("model/"): a for key, a in NEEDLE.items() if key.startswith("model/")}
    y = data["x"].astype(float) + data["param/embedding.weight"]
    y = np.ascontiguousarray(y.swapaxes(1, 2))
    for i in range(2):
        prefix = f"param/layers.{i}."
        params = {k.removeprefix(prefix): a for k, a in data.items() if k.startswith(prefix)}
        y, _, _ = gated(params, "float64").forward(y)
    assert error(y.swapaxes(1, 2), data["out_f64"]) < 1e-10


# --------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_everything(rng, kind):
    """With dropout, whose seed freezes it, padding, a state before and a cotangent after."""
    block = make(rng, kind)
    params = block.params
    u, lengths = rng.standard_normal((2, 4, 21)), (21, 8)
    x0, _ = states(rng, block)

    def fill(values):
        for a, value in zip(params.values(), values, strict=True):
            a[...] = value

    def fwd(u, *values):
        before, values = (values[:1], values[1:]) if x0 else (None, values)
        fill(values)
        y, after, cache = block.forward(u, before, lengths=lengths, seed=5)
        return (y, after[0]) if x0 else y, (cache, values)

    def vjp(kept, g):
        cache, values = kept
        fill(values)  # the cache holds the parameters themselves
        g, g_x = (g[0], (g[1],)) if x0 else (g, None)
        grad_u, before, grads = block.backward(g, cache, g_x)
        return grad_u, *(before or ()), *grads.values()

    args = u, *(x0 or ()), *(a.copy() for a in params.values())
    report = check_vjp(fwd, vjp, args)
    assert report, report


def test_gradients_come_by_the_names_of_the_parameters(rng):
    for kind in KINDS:
        block = make(rng, kind)
        y, _, cache = block.forward(rng.standard_normal((1, 4, 5)))
        _, _, grads = block.backward(y, cache)
        assert list(grads) == list(block.params)
        assert all(grads[name].shape == a.shape for name, a in block.params.items())
        assert all(grads[name].dtype == a.dtype for name, a in block.params.items())


# ----------------------------------------------------------------------- states, padding, precision


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-5)])
@pytest.mark.parametrize("kind", CAUSAL)
def test_steps_equal_forward(rng, kind, dtype, tolerance):
    block = make(rng, kind, dtype=dtype)
    u = rng.standard_normal((2, 4, 40)).astype(dtype)
    y, last, _ = block.forward(u)
    first, state, _ = block.forward(u[..., :9])
    found = [*np.moveaxis(first, -1, 0)]
    for t in range(9, 40):
        y_t, state = block.step(u[..., t], state)
        found.append(y_t)
    assert y.dtype == y_t.dtype == block.dtype == dtype
    assert error(np.stack(found, axis=-1), y) < tolerance
    assert error(state[0], last[0]) < tolerance


def test_a_block_that_reads_backwards_has_no_step_and_no_state(rng):
    block = make(rng, "bidirectional")
    u = rng.standard_normal((2, 4, 7))
    assert block.forward(u)[1] is None
    with pytest.raises(ValueError, match="bidirectional"):
        block.step(u[..., 0])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(rng, kind):
    block = make(rng, kind)
    lengths = np.array([30, 1, 0, 17])
    u, g = rng.standard_normal((4, 4, 30)), rng.standard_normal((4, 4, 30))
    y, state, cache = block.forward(u, lengths=lengths)
    grad_u, _, grads = block.backward(g, cache)
    total = dict.fromkeys(grads, 0)
    for b, n in enumerate(lengths):
        alone, last, kept = block.forward(u[b : b + 1, :, :n])
        to_u, _, found = block.backward(g[b : b + 1, :, :n], kept)
        assert error(y[b, :, :n], alone[0]) < 1e-12
        assert error(grad_u[b, :, :n], to_u[0]) < 1e-12
        assert not y[b, :, n:].any()
        assert not grad_u[b, :, n:].any()
        if state is not None:
            assert error(state[0][b], last[0][0]) < 1e-12
        total = {name: total[name] + found[name] for name in found}
    for name, grad in grads.items():
        assert error(grad, total[name]) < 1e-11, name
    u[1, :, 1:] = 1e3
    assert np.array_equal(block.forward(u, lengths=lengths)[0], y)


def test_inputs_are_left_alone(rng):
    """Residuals are added in place, but never into an array of the caller or of a cache."""
    for kind in KINDS:
        for seed in (None, 3):
            block = make(rng, kind)
            u, g = rng.standard_normal((2, 4, 20)), rng.standard_normal((2, 4, 20))
            kept = u.copy(), g.copy()
            y, _, cache = block.forward(u, seed=seed)
            first = block.backward(g, cache)
            assert np.array_equal(u, kept[0])
            assert np.array_equal(g, kept[1])
            again = block.backward(g, cache)
            assert_close((first[0], *first[2].values()), (again[0], *again[2].values()), 0.0)
            assert np.array_equal(block.forward(u, seed=seed)[0], y)


def test_a_residual_is_not_added_into_what_a_layer_keeps(rng):
    """An RNN keeps its output for the backward pass."""
    layer = RNN(4, 4, dtype="float64", rng=rng)
    block = S4DBlock(4, ssm=layer, mixer="feed_forward", dtype="float64", rng=rng)
    block.params["feed_out.weight"][...] = block.params["feed_out.bias"][...] = 0
    u, g = rng.standard_normal((2, 4, 20)), rng.standard_normal((2, 4, 20))
    y, _, cache = block.forward(u)
    normed = LayerNorm(4, dtype="float64").forward(u)[0]
    alone, _, kept = layer.forward(normed)
    assert error(y - u, alone) < 1e-12
    found = block.backward(g, cache)[2]
    for name, grad in layer.backward(g, kept)[2].items():
        assert error(found[f"ssm.{name}"], grad) < 1e-12, name


def test_without_a_cache_the_output_is_the_same(rng):
    block = make(rng, "glu")
    u = rng.standard_normal((2, 4, 20))
    y, _, cache = block.forward(u, seed=1, cache=False)
    assert cache is None
    assert np.array_equal(y, block.forward(u, seed=1)[0])
    for wrong in (None, block.forward(u)):  # all three results
        with pytest.raises(ValueError, match=r"cache is .*; it must be what forward gave"):
            block.backward(y, wrong)


# ----------------------------------------------------------------------------------------- dropout


def test_dropout_follows_its_seed(rng):
    for kind in ("glu", "feed_forward", "gated"):
        block = make(rng, kind)
        u = rng.standard_normal((2, 4, 50))
        y = block.forward(u, seed=3)[0]
        assert np.array_equal(block.forward(u, seed=3)[0], y)
        assert error(block.forward(u, seed=4)[0], y) > 0.01
        assert error(block.forward(u)[0], y) > 0.01


def test_seeds_of_parts_are_words_of_a_seed_sequence():
    expected = np.random.SeedSequence(3).generate_state(4, np.uint64)
    assert _composite.child_seeds(3, 4) == expected.tolist()
    assert _composite.child_seeds(3, 2) == expected[:2].tolist()
    assert _composite.child_seeds(None, 2) == [None, None]


def test_dropout_drops_where_the_block_says(rng):
    """What a branch adds is dropped by elements, or for all times of a channel at once."""
    for kind in ("glu", "gated"):
        for tied in (False, True):
            block = make(rng, kind, H=16, tied_dropout=tied)
            if kind == "gated":  # nothing comes after the gate's dropout
                block.params["feed_out.weight"][...] = block.params["feed_out.bias"][...] = 0
            u = rng.standard_normal((4, 16, 60))
            dropped = block.forward(u, seed=2)[0] == u
            by_channel = dropped.all(axis=-1) | ~dropped.any(axis=-1)
            assert by_channel.all() == tied
            assert abs(dropped.mean() - 0.3) < (0.25 if tied else 0.03)


# ----------------------------------------------------------------------------------- construction


def test_parameters_have_documented_names_and_count(rng):
    H, N = 4, 3
    ssm = H * (2 + 4 * N)
    glu, feed = make(rng, "glu"), make(rng, "feed_forward", norm="layer")
    assert [name for name in glu.params if "ssm" not in name] == [
        "norm.scale", "norm.shift", "mixer.weight", "mixer.bias"]  # fmt: skip
    assert glu.count_parameters() == 2 * H + ssm + 2 * H * (H + 1)
    hidden = 2 * H
    assert feed.count_parameters() == 4 * H + ssm + hidden * (H + 1) + H * (hidden + 1)
    gate = make(rng, "gated")
    assert gate.count_parameters() == (
        2 * H + ssm + 2 * H * (H + 1) + hidden * (H + 1) + H * (hidden + 1)
    )
    assert glu.params["ssm.C"] is glu.ssm.params["C"]
    with pytest.raises(TypeError, match="cannot be exchanged"):
        glu.params["ssm.C"] = np.zeros((4, 3), complex)
    with pytest.raises(TypeError, match="cannot be exchanged"):
        glu.params.update(gate.params)


@pytest.mark.parametrize("kind", KINDS)
def test_files(rng, tmp_path, kind):
    block = make(rng, kind, dtype="float32")
    checkpoint.save(tmp_path / "block", block)
    again = checkpoint.load(tmp_path / "block", expected=type(block), mmap=True, verify=True)
    assert list(again.params) == list(block.params)
    u = rng.standard_normal((2, 4, 20)).astype("f4")
    assert np.array_equal(again.forward(u, seed=1)[0], block.forward(u, seed=1)[0])
    assert repr(again) == repr(block)
    hyper, arrays = block.to_checkpoint()
    first = next(name for name in arrays if not name.startswith("ssm"))
    for wrong, match in [
        ({first: arrays[first][:1]}, first.partition(".")[0]),
        ({first: arrays[first].astype(float)}, first.partition(".")[0]),
        ({"other.weight": arrays[first]}, "other.weight"),
    ]:
        with pytest.raises(ValueError, match=match):
            type(block).from_checkpoint(hyper, arrays | wrong)


def test_a_given_layer_is_the_layer_within(rng):
    layer = S4(4, 3, dtype="float64", rng=rng)
    block = S4DBlock(4, ssm=layer, dtype="float64", rng=rng)
    assert block.ssm is layer
    assert GatedBlock(4, ssm=layer, dtype="float64", rng=rng).ssm is layer


GIVEN = {"features": 4, "modes": 3, "rng": np.random.default_rng(0)}


@pytest.mark.parametrize("cls", [S4DBlock, GatedBlock])
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"features": 0}, "features is 0"),
        ({"modes": 0}, "modes is 0"),
        ({"ssm": "s5"}, "ssm is 's5'"),
        ({"ssm": 3, "modes": None}, "ssm is 3; it must be 's4d', 's4' or a layer"),
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"expansion": 0, "mixer": "feed_forward"}, "expansion is 0"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and less than 1"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"tied_dropout": 1}, "tied_dropout is 1"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"rng": 3}, "rng is 3"),
        ({"ssm_options": {"modes": 3}}, "a key of ssm_options is 'modes'"),
        ({"ssm_options": 3}, "ssm_options is 3; it must be a dict"),
        ({"ssm_options": {"initial": "legz"}}, "initial is 'legz'"),
    ],
)
def test_bad_options(cls, changes, match):
    given = GIVEN | changes
    if cls is GatedBlock:
        given.pop("mixer", None)
    with pytest.raises(ValueError, match=match):
        cls(given.pop("features"), **given)


def test_options_that_would_be_ignored_are_refused(rng):
    layer = S4D(4, 3, rng=rng)
    for options, match in [
        ({"expansion": 4}, "expansion is 4; it must be None for mixer 'glu'"),
        ({"mixer": "sum"}, "mixer is 'sum'"),
        ({"ssm": layer}, "modes is 3; it must be None where ssm is a layer"),
        ({"ssm": layer, "modes": None, "ssm_options": {}}, "ssm_options"),
        ({"ssm": layer, "modes": None, "dtype": "float64"}, "it must have 4 features in float64"),
        ({"ssm": S4D(3, 3, rng=rng), "modes": None}, "it must have 4 features"),
    ]:
        given = {"modes": 3, "rng": rng} | options
        with pytest.raises(ValueError, match=match):
            S4DBlock(4, **given)


def test_bad_signals(rng):
    block = make(rng, "glu")
    u = rng.standard_normal((2, 4, 10))
    y, state, cache = block.forward(u)
    for call, match in [
        (lambda: block.forward(u[:, :3]), r"u has shape \(2, 3, 10\)"),
        (lambda: block.forward(u.astype("f4")), "u float32"),
        (lambda: block.forward(np.where(u > 1, np.nan, u)), "u holds nan"),
        (lambda: block.forward(u, state[0]), "state is an array"),
        (lambda: block.forward(u, (state[0][:1],)), "state has shape"),
        (lambda: block.forward(u, lengths=[11, 3]), "lengths holds 11"),
        (lambda: block.forward(u, seed=-1), "seed is -1"),
        (lambda: block.forward(u, seed=0.5), "seed is 0.5"),
        (lambda: block.forward(u, cache=1), "cache is 1"),
        (lambda: block.backward(y[:1], cache), "grad_y has shape"),
        (lambda: block.backward(np.where(u > 1, np.nan, u), cache), "grad_y holds nan"),
        (lambda: block.backward(y, cache, (state[0], None)), "grad_state is"),
        (lambda: block.step(u[..., :1]), r"u_t has shape \(2, 4, 1\)"),
        (lambda: block.step(u[..., 0], state + state), "state is"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()


def test_a_composite_of_one_stateless_layer():
    """The empty state of parts that have none is an empty tuple."""
    layer = LayerNorm(4, dtype="float64")
    block = _composite.Composite()
    block._branches, block._width = (_composite.Branch(False, (("norm", layer),)),), 4
    block.dtype = layer.dtype
    u = np.arange(24.0).reshape(2, 4, 3)
    y, state, _ = block.forward(u)
    assert state == ()
    assert np.array_equal(y, layer.forward(u)[0])
