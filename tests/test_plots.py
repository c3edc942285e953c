"""Figures: functions take axes or make them, return them, label them, and need no pyplot."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssm_manual import plots
from ssm_manual.tasks import denoising

ROOT = Path(__file__).resolve().parents[1]

A_BAR = 0.9 * np.exp(1j * np.array([0.3, 1.2]))


def calls():
    """Every function that draws into one axes, with arguments."""
    return {
        "poles": lambda **ax: plots.poles(A_BAR, **ax),
        "kernel": lambda **ax: plots.kernel(np.ones(5), **ax),
        "frequency_response": lambda **ax: plots.frequency_response([0.0, 0.5], [1.0, 2j], **ax),
        "loss_curve": lambda **ax: plots.loss_curve([3.0, 2.0, 1.0], **ax),
        "signals": lambda **ax: plots.signals({"clean": np.ones(4), "x": np.zeros(4)}, **ax),
    }


@pytest.mark.parametrize("name", calls())
def test_makes_axes_or_takes_them(name):
    draw = calls()[name]
    ax = draw()
    assert isinstance(ax, Axes)
    assert ax.figure.get_layout_engine() is not None
    mine = Figure().add_subplot()
    assert draw(ax=mine) is mine
    for axes in (ax, mine):
        assert axes.lines
        assert "(" in axes.get_xlabel() or axes.get_xlabel() == "epoch"
        assert "(" in axes.get_ylabel()
        axes.figure.savefig(io.BytesIO(), format="png")


def test_importing_and_drawing_needs_no_pyplot():
    code = (
        "import sys\n"
        "from ssm_manual import plots\n"
        "plots.poles([0.5j]).figure.savefig(sys.stderr.buffer, format='png')\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith(b"\x89PNG")


def line(ax, label):
    return next(x for x in ax.lines if x.get_label() == label)


def test_poles_are_drawn_where_they_are():
    ax = plots.poles(A_BAR, initial=0.5 * A_BAR, conjugates=True)
    for label, z in (("trained", A_BAR), ("initial", 0.5 * A_BAR), ("conjugate", A_BAR.conj())):
        drawn = line(ax, label)
        np.testing.assert_allclose(drawn.get_xdata() + 1j * drawn.get_ydata(), z)
    circle = ax.lines[0]
    np.testing.assert_allclose(np.hypot(circle.get_xdata(), circle.get_ydata()), 1)
    assert ax.get_aspect() == 1
    far = plots.poles([3.0 + 0j])
    assert far.get_xlim()[1] > 3


def test_kernel_over_samples_or_seconds():
    K = np.array([1.0, 0.5, 0.25])
    ax = plots.kernel(K)
    np.testing.assert_array_equal(ax.lines[-1].get_xydata(), np.stack([[0, 1, 2], K], axis=1))
    assert ax.get_xlabel() == "lag (samples)"
    ax = plots.kernel(K, dt=0.1)
    np.testing.assert_allclose(ax.lines[-1].get_xdata(), [0, 0.1, 0.2])
    assert ax.get_xlabel() == "lag (s)"


def test_complex_kernel_has_two_lines():
    K = np.array([1 + 2j, 3 - 1j])
    ax = plots.kernel(K)
    np.testing.assert_array_equal(line(ax, "real part").get_ydata(), K.real)
    np.testing.assert_array_equal(line(ax, "imaginary part").get_ydata(), K.imag)


def test_frequency_response_in_decibels():
    ax = plots.frequency_response([0.0, 0.25, 0.5], [1, 10j, 0.0], rate=80)
    x, y = ax.lines[0].get_xdata(), ax.lines[0].get_ydata()
    np.testing.assert_allclose(x, [0, 20, 40])
    np.testing.assert_allclose(y, [0, 20, -300])
    assert ax.get_xlabel() == "frequency (Hz)"
    assert plots.frequency_response([0.1], [1.0]).get_xlabel() == "frequency (cycles/sample)"


def test_loss_curve_smooths_long_runs():
    losses = np.exp(-np.arange(1000) / 300) * (1 + 0.3 * (-1.0) ** np.arange(1000))
    ax = plots.loss_curve(losses)
    raw, mean = ax.lines
    np.testing.assert_array_equal(raw.get_ydata(), losses)
    x, y = mean.get_xdata(), mean.get_ydata()
    np.testing.assert_allclose(y, np.exp(-x / 300), rtol=0.03)
    assert ax.get_yscale() == "log"
    assert len(plots.loss_curve([1.0, 0.0]).lines) == 1  # zero has no logarithm
    assert plots.loss_curve([1.0, 0.0]).get_yscale() == "linear"


def test_signals_share_a_time_axis():
    ax = plots.signals({"noisy": np.ones(3), "clean": np.zeros(3)}, rate=10, start=5, unit="mV")
    np.testing.assert_allclose(line(ax, "clean").get_xdata(), [0.5, 0.6, 0.7])
    assert ax.get_xlabel() == "time (s)"
    assert ax.get_ylabel() == "signal (mV)"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["noisy", "clean"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.poles([np.nan]), "A_bar holds nan"),
        (lambda: plots.poles(A_BAR, initial=A_BAR[:1]), r"initial has shape \(1,\)"),
        (lambda: plots.kernel(np.ones((2, 2))), r"K has shape \(2, 2\)"),
        (lambda: plots.kernel(np.ones(0)), r"K has shape \(0,\)"),
        (lambda: plots.kernel(np.ones(2), dt=0.0), "dt is 0.0"),
        (lambda: plots.frequency_response([0.1], [1.0, 2.0]), r"response has shape \(2,\)"),
        (lambda: plots.loss_curve([1j]), "losses has dtype complex128"),
        (lambda: plots.signals({"a": np.ones(2), "b": np.ones(3)}), r"traces\['b'\] has shape"),
        (lambda: plots.signals({"a": np.ones(2)}, rate=-1.0), "rate is -1.0"),
        (lambda: plots.signals({"a": [0, np.nan]}), r"traces\['a'\]"),
        (lambda: plots.signals({"a": [0, np.inf]}, gaps=True), r"traces\['a'\] holds infinity"),
    ],
)
def test_refuses(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_colours_are_those_of_okabe_and_ito():
    ax = plots.kernel(np.ones(3))
    assert ax.lines[-1].get_color() == "#0072B2"
    assert len(set(plots.COLOURS.values())) == len(plots.COLOURS)


@pytest.mark.parametrize("rate", [None, 100.0])
def test_the_figure_of_a_comparison(rate):
    samples = np.sin(0.1 * np.arange(400)) + 0.5 * np.sin(0.29 * np.arange(400))
    result = denoising.compare(
        samples, name="two tones", rate=rate, lookahead=4, poles=4, epochs=150, draws=2
    )
    figure = plots.denoising(result)
    assert isinstance(figure, Figure)
    axes = {ax.get_label(): ax for ax in figure.axes}
    assert set(axes) == {"signal", "poles", "kernel", "response", "loss"}
    for ax in axes.values():
        assert ax.get_xlabel()
        assert ax.get_ylabel()
    title = axes["signal"].get_title(loc="left")
    assert title.startswith("two tones, held-out part")
    assert f"{result.snr_in:.1f} dB before, {result.score().snr:.1f} dB after" in title
    restored = line(axes["signal"], "restored")
    np.testing.assert_array_equal(restored.get_ydata(), result.restored[280:396])
    assert restored.get_xdata()[0] == pytest.approx(280 if rate is None else 2.8)
    K = axes["kernel"].lines[-1].get_ydata()
    model = result.model
    assert K[0] == pytest.approx(model.kernel(1)[0] + float(model.params["D"]), rel=1e-5)
    # the response that is drawn is the kernel's Fourier transform
    response = axes["response"].lines[0]
    f = response.get_xdata()[100] / (rate or 1)
    whole = model.kernel(4000).astype(float)
    whole[0] += model.params["D"]
    level = 20 * np.log10(np.abs(np.sum(whole * np.exp(-2j * np.pi * f * np.arange(4000)))))
    assert response.get_ydata()[100] == pytest.approx(level, abs=0.01)
    short = plots.denoising(result, longest=50)
    assert len(line(short.axes[0], "clean").get_xdata()) == 50
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
