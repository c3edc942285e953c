"""Looking inside a model changes nothing in it, and shows what differences show."""

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssm_manual import plots
from ssm_manual.layers import S4D
from ssm_manual.models import SequenceModel, look_inside


def made(**options):
    options = {"modes": 2, "dtype": "float64", "dropout": 0.2} | options
    return SequenceModel(2, 3, 2, 2, rng=np.random.default_rng(0), **options)


@pytest.fixture(scope="module")
def u():
    return np.random.default_rng(1).standard_normal((2, 12, 2))


@pytest.fixture(scope="module")
def seen(u):
    return look_inside(made(), u, np.cos, seed=3)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("options", [{}, {"task": "regression", "block": "rnn", "modes": None}])
@pytest.mark.parametrize("lengths", [None, [12, 7]])
def test_output_and_gradients_are_those_of_the_model(u, options, lengths):
    model = made(**options)
    y, _, cache = model.forward(u, lengths=lengths, seed=3)
    _, _, grads = model.backward(np.cos(y), cache)
    body = model._body
    found = look_inside(model, u, np.cos, lengths=lengths, seed=3)
    assert model._body is body
    np.testing.assert_array_equal(found.output, y)
    assert same(found.grads, grads)
    assert list(found.grads) == list(model.params)
    names = list(model.layers)[:-1]
    for signals in (found.activations, found.gradients):
        assert list(signals) == names
        for x in signals.values():
            assert x.shape == (2, 3, 12)
            assert lengths is None or not x[1, :, 7:].any()
            assert x[:, :, :7].any()


def test_signals_are_those_of_the_layers_one_by_one(u):
    model = made()
    found = look_inside(model, u)
    x = np.swapaxes(u, 1, 2)
    for name, layer in list(model.layers.items())[:-1]:
        x, _, _ = layer.forward(np.ascontiguousarray(x))
        np.testing.assert_allclose(found.activations[name], x, rtol=1e-12, atol=1e-13)
    assert found.gradients is None
    assert found.grads is None


def test_gradients_are_those_to_the_output_of_a_part(u):
    """A shift of the encoder's bias moves its output at every time alike; likewise the norm's."""
    model = made(dropout=0.0)
    found = look_inside(model, u, np.cos)
    for part, name in (("encoder", "bias"), ("norm", "shift")):
        whole = found.gradients[part].sum(axis=(0, 2))
        np.testing.assert_allclose(found.grads[f"{part}.{name}"], whole, rtol=1e-10)
    # and one block's, by differences: from its output on, by the parts that follow
    x, g = found.activations["blocks.0"], found.gradients["blocks.0"]
    d = np.random.default_rng(2).standard_normal(x.shape)

    def loss(x):
        for name in ("blocks.1", "norm"):
            x, _, _ = model.layers[name].forward(x)
        return np.sin(model.layers["head"].forward(x.mean(axis=2)[..., None])[0]).sum()

    slope = (loss(x + 1e-5 * d) - loss(x - 1e-5 * d)) / 2e-5
    np.testing.assert_allclose(np.sum(g * d), slope, rtol=1e-6)


def test_bad_input_is_named(u):
    with pytest.raises(ValueError, match="model is"):
        look_inside(S4D(2, 2, rng=np.random.default_rng(0)), u)
    with pytest.raises(ValueError, match="to_output is"):
        look_inside(made(), u, 1.0)
    seen = look_inside(made(), u)
    for draw in (plots.inside_gradients, plots.inside_norms):
        with pytest.raises(ValueError, match="must come from look_inside, with to_output"):
            draw(seen)
    with pytest.raises(ValueError, match="layer is"):
        plots.layer_poles(seen)
    layer = S4D(2, 2, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="before"):
        plots.layer_kernels(layer, 9, before=S4D(3, 2, rng=np.random.default_rng(0)))


@pytest.mark.parametrize("name", ["inside_activations", "inside_gradients", "inside_norms"])
def test_panels_make_axes_or_take_them(seen, name):
    draw = getattr(plots, name)
    assert isinstance(draw(seen), Axes)
    mine = Figure().add_subplot()
    assert draw(seen, mine) is mine
    assert "(" in mine.get_xlabel() + mine.get_ylabel()


def test_panels_show_what_was_seen(seen):
    ax = plots.inside_activations(seen)
    dots = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "o"]
    rms = [np.sqrt(np.mean(x**2)) for x in seen.activations.values()]
    np.testing.assert_allclose(dots, rms)
    drawn = plots.inside_gradients(seen).lines[1].get_ydata()
    g = seen.gradients["blocks.0"]
    np.testing.assert_allclose(drawn, np.sqrt(np.mean(g**2, axis=(0, 1))))
    ax = plots.inside_norms(seen)
    at = [label.get_text() for label in ax.get_yticklabels()].index("blocks.1.mixer")
    mixer = [g.ravel() for name, g in seen.grads.items() if name.startswith("blocks.1.mixer")]
    assert ax.lines[0].get_xdata()[at] == pytest.approx(np.linalg.norm(np.concatenate(mixer)))


def test_padding_does_not_count(u):
    lengths = [12, 5]
    found = look_inside(made(), u, np.cos, lengths=lengths)
    dots = [
        x.get_ydata()[0] for x in plots.inside_activations(found).lines if x.get_marker() == "o"
    ]
    x = found.activations["encoder"]
    kept = np.concatenate([x[0].ravel(), x[1, :, :5].ravel()])
    assert dots[0] == pytest.approx(np.sqrt(np.mean(kept**2)))
    g = found.gradients["encoder"]
    drawn = plots.inside_gradients(found).lines[0].get_ydata()
    assert drawn[9] == pytest.approx(np.sqrt(np.mean(g[0, :, 9] ** 2)))


def test_a_layer_and_what_it_was(seen):
    layer, before = (S4D(4, 2, dtype="float64", rng=np.random.default_rng(k)) for k in (0, 1))
    ax = plots.layer_kernels(layer, 20, before=before, channels=2)
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(drawn["channel 3"], layer.kernel(20)[3])
    np.testing.assert_array_equal(drawn["before"], before.kernel(20)[0])
    ax = plots.layer_poles(layer, before=before)
    (now,) = [line for line in ax.lines if line.get_label() == "now"]
    z = layer.dt[:, None] * layer.A
    memory, frequency = now.get_data()
    np.testing.assert_allclose(np.exp(-1 / memory), np.abs(np.exp(z)).ravel())
    np.testing.assert_allclose(2 * np.pi * frequency, z.imag.ravel())
    figure = plots.inside(seen, layer, before=before, length=20)
    assert len(figure.axes) == 5
    figure.savefig(io.BytesIO(), format="png")
