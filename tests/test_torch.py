"""The operator and the layers in PyTorch: gradients by its checker, memory shared with ours.

Skipped where PyTorch is not installed.
"""

import copy
import io
import pickle
from typing import NamedTuple

import numpy as np
import pytest
from conftest import assert_close, cast, system

from ssm_manual import layers
from ssm_manual.ops import chunked, ssm

torch = pytest.importorskip("torch")
interop = pytest.importorskip("ssm_manual.interop.torch")
from ssm_manual.interop import _function  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors on several threads take ten times longer on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


STRICT = {"eps": 1e-6, "atol": 1e-8, "rtol": 1e-6}
NAMES = ("A_bar", "B_bar", "C", "D", "u", "x0")


def tensors(arrays, grad=True):
    return [
        None if a is None else torch.from_numpy(np.array(a)).requires_grad_(grad) for a in arrays
    ]


#: The layers that have a module.
KINDS = ("S4D", "S4")


def module(rng, H=2, N=2, *, kind="S4D", **options):
    """A layer in double precision whose every parameter matters in a few samples."""
    options = {"dt_min": 0.1, "dt_max": 0.6, "dtype": torch.float64, **options}
    return getattr(interop, kind)(H, N, rng=rng, **options)


def functional(layer, *options, **kwargs):
    """The module as a function of u, state and its parameters, and these."""
    names = [name for name, _ in layer.named_parameters()]

    def run(u, state, *values):
        arguments = (u, state, *options)
        out = torch.func.functional_call(layer, dict(zip(names, values)), arguments, kwargs)
        return tuple(o for o in out if o is not None)

    return run, [p.detach().clone().requires_grad_() for p in layer.parameters()]


# ------------------------------------------------------------------- gradients, by their checker


@pytest.mark.parametrize("view", ["scan", "convolution", "chunked"])
@pytest.mark.parametrize("real", [True, False])
def test_gradcheck_of_the_operator(rng, view, real):
    args = tensors(system(rng, 2, 2, 2, 5, real=real, low=0.9))

    def run(*args):
        return interop.apply(*args, view=view, real=real)

    # Element by element where output is real; else along random directions, which is faster.
    assert torch.autograd.gradcheck(run, args, **STRICT, fast_mode=not real)


@pytest.mark.parametrize("chunk", [None, 2])
def test_gradcheck_from_the_exponent(rng, chunk):
    A, *rest = system(rng, 2, 2, 2, 5, low=0.9)

    def run(*args):
        return interop.apply_from_exponent(*args, chunk=chunk)

    assert torch.autograd.gradcheck(run, tensors((np.log(A), *rest)), **STRICT, fast_mode=True)


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        (5, {"view": "chunked"}),
        (6, {"view": "scan", "train_B": True, "discretisation": "tustin"}),
        (7, {"view": "chunked", "train_B": True, "bidirectional": True}),
        (7, {"kind": "S4", "view": "chunked", "initial": "legt"}),
        (6, {"kind": "S4", "view": "scan", "train_B": False}),
        (8, {"kind": "S4", "view": "chunked", "bidirectional": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("lengths", [None, [5, 3]], ids=["whole", "padded"])
def test_gradcheck_of_the_layer(rng, parameters, options, lengths):
    layer = module(rng, **options)
    u, state = tensors((rng.standard_normal((2, 2, 5)), rng.standard_normal((2, 2, 2)) + 0j))
    state = None if layer.layer.bidirectional else state
    lengths = lengths and torch.tensor(lengths)
    run, values = functional(layer, lengths=lengths)
    assert len(values) == parameters
    fast = lengths is not None
    assert torch.autograd.gradcheck(run, (u, state, *values), **STRICT, fast_mode=fast)


# --------------------------------------------------------------------------- equal to our own


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_operator_gives_our_bits(rng, dtype):
    args = system(rng, 2, 3, 4, 300, dtype=dtype)
    (y, x), kept = ssm.apply_fwd(*args)
    g = cast(rng.standard_normal(y.shape), dtype)
    given = tensors(args)
    found_y, found_x = interop.apply(*given)
    found_y.backward(torch.from_numpy(g))
    assert np.array_equal(found_y.detach(), y)
    assert np.array_equal(found_x.detach(), x)
    for name, a, grad in zip(NAMES, given, ssm.apply_vjp(kept, (g, None))):
        assert a.grad.numpy().dtype == grad.dtype, name
        assert np.array_equal(a.grad, grad), name


def test_exponents_in_double_precision_beside_single(rng):
    A, *rest = system(rng, 2, 3, 4, 300, dtype=np.float32)
    args = np.log(A.astype(complex)), *rest
    (y, _), kept = chunked.apply_from_exponent_fwd(*args)
    given = tensors(args)
    out, _ = interop.apply_from_exponent(*given)
    out.sum().backward()  # the cotangent has no strides
    grads = chunked.apply_from_exponent_vjp(kept, (np.ones_like(y), None))
    assert given[0].grad.dtype == torch.complex128
    assert given[1].grad.dtype == torch.complex64
    assert_close(tuple(a.grad.numpy() for a in given), grads, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_layer_gives_our_bits(rng, kind, dtype):
    ours = getattr(layers, kind)(3, 4, dtype=dtype, rng=rng)
    layer = getattr(interop, kind).from_layer(ours)
    u = rng.standard_normal((2, 3, 300)).astype(dtype)
    g = rng.standard_normal(u.shape).astype(dtype)
    lengths = [300, 280]
    y, state, cache = ours.forward(u, lengths=lengths)
    grad_u, _, grads = ours.backward(g, cache)
    (given,) = tensors((u,))
    found, after = layer(given, lengths=torch.tensor(lengths))
    found.backward(torch.from_numpy(g))
    assert np.array_equal(found.detach(), y)
    assert np.array_equal(after.detach(), state)
    assert np.array_equal(given.grad, grad_u)
    assert {name for name, _ in layer.named_parameters()} == set(grads)
    for name, p in layer.named_parameters():
        assert p.dtype == getattr(torch, grads[name].dtype.name), name
        assert np.array_equal(p.grad, grads[name]), name


def test_other_layouts_of_memory(rng):
    layer = module(rng, 3, 4)
    u = torch.from_numpy(rng.standard_normal((2, 50, 6)))
    y, _ = layer(u[..., ::2].transpose(1, 2))
    assert torch.equal(y, layer(u[..., ::2].transpose(1, 2).contiguous())[0])
    assert layer(u[:1, :, :3].transpose(1, 2).expand(4, 3, 50))[0].shape == (4, 3, 50)
    state = torch.from_numpy(rng.standard_normal((2, 3, 4)) + 1j * rng.standard_normal((2, 3, 4)))
    v = u[..., :3].transpose(1, 2)
    assert torch.equal(layer(v, state.conj())[0], layer(v, state.conj().resolve_conj())[0])


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_and_samples_equal_the_whole(rng, kind):
    layer = module(rng, 3, 4, kind=kind)
    u = torch.from_numpy(rng.standard_normal((2, 3, 9)))
    whole, last = layer(u)
    head, state = layer(u[..., :4])
    tail, end = layer(u[..., 4:], state)
    torch.testing.assert_close(torch.cat([head, tail], -1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(end, last, rtol=1e-12, atol=1e-12)
    cotangent = torch.from_numpy(rng.standard_normal(whole.shape))
    expected = torch.autograd.grad((whole * cotangent).sum(), [*layer.parameters()])
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            state, samples = None, []
            for u_t in u.unbind(-1):
                y_t, state = layer.step(u_t, state)
                samples.append(y_t)
        y = torch.stack(samples, -1)
        assert y.requires_grad == grad
        torch.testing.assert_close(y, whole, rtol=1e-11, atol=1e-11)
        if grad:
            found = torch.autograd.grad((y * cotangent).sum(), [*layer.parameters()])
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_an_empty_sequence_hands_a_copy_of_the_state_on(rng):
    layer = module(rng)
    state = torch.from_numpy(rng.standard_normal((1, 2, 2)) + 0j).requires_grad_()
    for view in ("scan", "convolution", "chunked"):
        layer.layer.view = view
        y, after = layer(torch.zeros(1, 2, 0, dtype=torch.float64), state)
        assert y.shape == (1, 2, 0)
        assert torch.equal(after, state)
        assert after.data_ptr() != state.data_ptr()


# ------------------------------------------------------------------------------- what is kept


def test_without_gradients_nothing_is_kept(rng):
    layer = module(rng)
    u = torch.from_numpy(rng.standard_normal((1, 2, 5)))
    with torch.no_grad():
        assert layer(u)[0].grad_fn is None
    layer.requires_grad_(False)
    y, state = layer(u)
    assert y.grad_fn is None
    assert state.grad_fn is None
    layer.C.requires_grad_(True)
    layer(u)[0].sum().backward()
    assert [name for name, p in layer.named_parameters() if p.grad is not None] == ["C"]
    assert u.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_is_asked_for_a_cache_only_where_a_gradient_is_wanted(rng, kind, monkeypatch):
    layer, asked = module(rng, kind=kind), []
    u = torch.from_numpy(rng.standard_normal((2, 2, 5)))
    own = layer.layer.forward

    def forward(*args, **options):
        result = own(*args, **options)
        asked.append(result[2] is not None)
        return result

    monkeypatch.setattr(layer.layer, "forward", forward)
    lengths = torch.tensor([5, 3])
    with torch.no_grad():
        found = layer(u, lengths=lengths)
    wanted = layer(u, lengths=lengths)
    assert asked == [False, True]
    for a, b in zip(found, wanted):
        assert torch.equal(a, b)


def test_what_is_kept_belongs_to_pytorch(rng):
    """Large residuals pass through its hooks, and a second backward pass finds them freed."""
    layer = module(rng, bidirectional=True)
    u = torch.from_numpy(rng.standard_normal((8, 2, 1100))).requires_grad_()
    layer(u)[0].sum().backward()
    expected, u.grad = u.grad, None
    sizes = []

    def pack(t):
        sizes.append(t.numel() * t.element_size())
        return t.clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y, _ = layer(u)
    assert sum(size >= 1 << 16 for size in sizes) == 2  # u once, and its reversed copy
    residuals = y.grad_fn.residuals

    def largest(node):
        if isinstance(node, tuple):
            return max(map(largest, node), default=0)
        return node.nbytes if isinstance(node, np.ndarray) else 0

    assert 0 < largest(residuals) < 1 << 16
    y.sum().backward()
    assert torch.equal(u.grad, expected)
    with pytest.raises(RuntimeError, match="a second time"):
        y.sum().backward()
    u.grad = None
    again = torch.utils.checkpoint.checkpoint(layer, u, use_reentrant=False)[0]
    again.sum().backward()
    assert torch.equal(u.grad, expected)


def test_residuals_come_back_as_they_were(rng):
    class Pair(NamedTuple):
        a: object
        b: object

    given, large = rng.standard_normal((2, 3)), rng.standard_normal((100, 100))
    residuals = Pair((large[::-1], large[:, ::2], given.T[::-1]), ("view", None, given[0], 3))
    packed, kept = _function._pack(residuals, [given.T])
    assert len(kept) == 1  # the rest is small, or too small once strided, or given
    again = _function._unpack(packed, (torch.from_numpy(given.T), *kept))
    assert type(again) is Pair
    assert all(a is b for a, b in zip(again.b, residuals.b))
    for a, b in zip(again.a, residuals.a):
        assert np.array_equal(a, b)


def test_an_input_changed_before_the_backward_pass_is_noticed(rng):
    layer = module(rng)
    u = torch.from_numpy(rng.standard_normal((1, 2, 5)))
    y, _ = layer(u)
    u += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_second_derivatives_are_refused(rng):
    layer = module(rng)
    u = torch.from_numpy(rng.standard_normal((1, 2, 5))).requires_grad_()
    # The cotangents are constants: PyTorch itself would drop the second derivative silently.
    with pytest.raises(RuntimeError, match="create_graph is True; it must be False"):
        torch.autograd.grad(layer(u)[0].sum(), u, create_graph=True)


# ----------------------------------------------------------------------------- shared memory


def assert_tied(layer):
    """What is written on one side is read on the other."""
    ours = layer.layer
    assert set(ours.params) == {name for name, _ in layer.named_parameters()}
    for name, p in layer.named_parameters():
        ours.params[name][...] = 0.25
        assert bool((p == 0.25).all()), name
        with torch.no_grad():
            p.mul_(2)
        assert np.all(ours.params[name] == 0.5), name
    for name, b in layer.named_buffers():
        b.fill_(3)
        assert np.all(getattr(ours, name) == 3), name


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_shared(rng, kind):
    ours = getattr(layers, kind)(2, 3, rng=rng, dtype="float64", bidirectional=True)
    arrays = dict(ours.params)
    layer = getattr(interop, kind).from_layer(ours)
    assert layer.layer is ours
    assert_tied(layer)
    assert all(ours.params[name] is a for name, a in arrays.items())


MOVES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "float": lambda layer: layer.float(),
    "to float32": lambda layer: layer.to(torch.float32),
    "share_memory": lambda layer: layer.share_memory(),
    "assign": lambda layer: (
        layer.load_state_dict(copy.deepcopy(layer.state_dict()), assign=True) and layer
    ),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("train_B", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_memory_stays_shared(rng, kind, move, train_B):
    layer = module(rng, kind=kind, train_B=train_B)
    u = torch.from_numpy(rng.standard_normal((1, 2, 5)))
    y = layer(u)[0].detach()
    moved = MOVES[move](layer)
    assert type(moved) is type(layer)
    dtype = torch.float32 if "float" in move else torch.float64
    for name, p in [*moved.named_parameters(), *moved.named_buffers()]:
        is_complex = name in ("B", "C", "P")
        assert p.dtype == (dtype.to_complex() if is_complex else dtype), name
    assert moved.layer.dtype == str(dtype).removeprefix("torch.")
    torch.testing.assert_close(moved(u.to(dtype))[0], y.to(dtype), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        y_0, _ = moved.step(u[..., 0].to(dtype))
    torch.testing.assert_close(y_0, y[..., 0].to(dtype), rtol=1e-5, atol=1e-5)
    assert_tied(moved)
    if moved is not layer:
        assert not bool((layer.D == 0.5).any())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train_B", [True, False])
def test_state_dict_holds_the_whole_layer(rng, kind, train_B):
    first, second = (
        module(rng, kind=kind, initial=initial, train_B=train_B) for initial in ("fout", "legs")
    )
    assert set(first.state_dict()) == {"B", *first.layer.params}
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file))  # weights only
    u = torch.from_numpy(rng.standard_normal((1, 2, 5)))
    assert torch.equal(first(u)[0], second(u)[0])
    with torch.no_grad():
        assert torch.equal(first.step(u[..., 0])[0], second.step(u[..., 0])[0])


def test_an_array_replaced_in_the_layer_is_noticed(rng):
    ours = layers.S4D(2, 3, rng=rng)
    layer = interop.S4D.from_layer(ours)
    ours.params["C"] = ours.params["C"].copy()
    with pytest.raises(ValueError, match=r"C of the layer is another array than before"):
        layer(torch.zeros(1, 2, 5))


def test_seeds(rng):
    torch.manual_seed(3)
    a = interop.S4D(2, 3)
    b = interop.S4D(2, 3)
    torch.manual_seed(3)
    c = interop.S4D(2, 3)
    assert a.D.dtype == torch.float32
    assert torch.equal(a.C, c.C)
    assert not torch.equal(a.C, b.C)


# ---------------------------------------------------------------------------------- bad input


def test_bad_input(rng):
    layer = module(rng)
    u = torch.zeros(1, 2, 5, dtype=torch.float64)
    for wrong, message in [
        (u.to("meta"), "u is on the device meta; it must be on the CPU"),
        (u.numpy(), "u is .*; it must be a torch.Tensor"),
        (u.to(torch.bfloat16), "u has dtype torch.bfloat16; it must be float32"),
        (u.half(), "u has dtype float16; it must be float32"),
        (u.float(), "u float32, D float64: all arrays must have one precision"),
        (u.to_sparse(), "u has the layout torch.sparse_coo; it must be dense"),
        (u[0], r"u has shape \(2, 5\)"),
        (u / 0, "u holds nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(wrong)
    with pytest.raises(ValueError, match=r"u_t has shape \(2,\)"):
        layer.step(u[0, :, 0])
    with pytest.raises(ValueError, match="lengths holds 6"):
        layer(u, lengths=torch.tensor([6]))
    with pytest.raises(ValueError, match="x0 is on the device meta"):
        interop.apply(*tensors(system(rng, 1, 2, 2, 5, x0=False))[:5], layer.C[None].to("meta"))
    both = module(rng, bidirectional=True)
    with pytest.raises(ValueError, match="needs the whole sequence"):
        both.step(u[..., 0])


def test_bad_modules(rng):
    layer = module(rng)
    before = layer.C.detach().clone()
    for move, message in [
        (lambda: layer.half(), "dtype is torch.float16; it must be float32 or float64"),
        (lambda: layer.to("meta"), "device is meta; it must be the CPU for S4D"),
        (lambda: layer.to_empty(device="meta"), "device is meta; it must be the CPU for S4D"),
    ]:
        with pytest.raises(ValueError, match=message):
            move()
        assert torch.equal(layer.C, before)  # nothing was changed on the way
    with pytest.raises(ValueError, match=r"layer is 3; it must be an ssm_manual\.layers\.S4D"):
        interop.S4D.from_layer(3)
    with pytest.raises(ValueError, match=r"layer is .*; it must be an ssm_manual\.layers\.S4$"):
        interop.S4.from_layer(layer.layer)
    with pytest.raises(ValueError, match="dtype is 'bfloat16'; it must be one of"):
        interop.S4D(2, 3, dtype=torch.bfloat16)
    ours = layers.S4D(2, 3, rng=rng)
    ours.params["D"].setflags(write=False)
    with pytest.raises(ValueError, match="D of the layer is read-only"):
        interop.S4D.from_layer(ours)
    layer.C = torch.nn.Parameter(torch.zeros(2, 3, dtype=torch.complex128))
    with pytest.raises(ValueError, match=r"C has shape \(2, 3\)"):
        layer.layer  # noqa: B018
    assert repr(interop.S4D(2, 3)) == "S4D(2 features, 3 modes, zoh, float32)"
    assert repr(interop.S4(2, 3)) == "S4(2 features, 3 modes, rank 1, float32)"


# ------------------------------------------------------------------------------------ training


class Plain(torch.nn.Module):
    """S4D as it is written in PyTorch: a Vandermonde kernel and an FFT convolution."""

    def __init__(self, weights):
        super().__init__()
        for name, value in weights.items():
            self.register_parameter(name, torch.nn.Parameter(value.detach().clone()))

    def forward(self, u):
        L = u.shape[-1]
        A = torch.complex(-torch.exp(self.log_A_real), self.A_imag)
        dtA = A * torch.exp(self.log_dt)[:, None]
        C = self.C * (torch.exp(dtA) - 1) / A
        K = 2 * torch.einsum("hn,hnl->hl", C, torch.exp(dtA[..., None] * torch.arange(L))).real
        spectrum = torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(K, n=2 * L)
        return torch.fft.irfft(spectrum, n=2 * L)[..., :L] + self.D[:, None] * u, None


def losses(rng, layer, steps):
    """A network around the layer learns to answer with its input of 30 samples ago."""
    H = layer.D.shape[0]
    torch.manual_seed(1)
    encode, decode = torch.nn.Linear(1, H), torch.nn.Linear(H, 1)
    network = torch.nn.ModuleList([encode, layer, decode])
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0)
    u = torch.from_numpy(rng.standard_normal((8, 160, 1), dtype=np.float32))
    target = torch.roll(u, 30, 1)
    target[:, :30] = 0
    curve = []
    for _ in range(steps):
        y, _ = layer(encode(u).transpose(1, 2))
        loss = (decode(torch.nn.functional.gelu(y.transpose(1, 2))) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
    return curve


def test_the_loss_curve_of_a_plain_pytorch_layer():
    layer = interop.S4D(8, 8, initial="lin", rng=np.random.default_rng(0))
    start = {name: p.detach().clone() for name, p in layer.named_parameters()}
    ours = losses(np.random.default_rng(1), layer, 50)
    plain = Plain(start)
    theirs = losses(np.random.default_rng(1), plain, 50)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert ours[-1] < 0.8 * ours[0]
    for name, p in layer.named_parameters():
        assert not bool((p == start[name]).any()), f"some of {name} did not move"
        torch.testing.assert_close(p, getattr(plain, name), rtol=0.01, atol=0.01)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # its own
def test_torch_compile_leaves_the_layer_out_of_its_graph(rng):
    layer = module(rng)
    u = torch.from_numpy(rng.standard_normal((1, 2, 5)))
    compiled = torch.compile(lambda u: torch.relu(layer(u)[0]), backend="eager")
    assert torch.equal(compiled(u), torch.relu(layer(u)[0]))
