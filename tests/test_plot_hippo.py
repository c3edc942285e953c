"""Figures of HiPPO: what is drawn is what the states hold and what the poles do."""

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssm_manual import hippo, plots

U = np.sin(0.05 * np.arange(300)) + 0.3 * np.cos(0.11 * np.arange(300))


def line(ax, label):
    return next(x for x in ax.lines if x.get_label() == label)


@pytest.mark.parametrize(
    "draw",
    [
        lambda **ax: plots.hippo_memory(U, 8, **ax),
        lambda **ax: plots.initial_kernels("lin", 8, **ax),
        lambda **ax: plots.initial_spectrum(modes=8, **ax),
    ],
)
def test_makes_axes_or_takes_them(draw):
    ax = draw()
    assert isinstance(ax, Axes)
    mine = Figure().add_subplot()
    assert draw(ax=mine) is mine
    for axes in (ax, mine):
        assert axes.lines
        assert "(" in axes.get_xlabel()
        assert "(" in axes.get_ylabel()
        axes.figure.savefig(io.BytesIO(), format="png")


def test_the_memory_is_read_at_its_place():
    ax = plots.hippo_memory(U, 24, rate=10, window=120)
    assert ax.get_xlabel() == "time (s)"
    begins = {"legs": 0.0, "legt": 18.0, "fout": 18.0}
    for measure, begin in begins.items():
        time, read = line(ax, measure).get_data()
        assert time.min() == pytest.approx(begin)
        assert time.max() == pytest.approx(30)
        inside = (time > begin + 3) & (time < 27)
        expected = np.interp(time[inside], (np.arange(300) + 0.5) / 10, U)
        assert np.abs(read[inside] - expected).max() < (0.2 if measure == "fout" else 0.02)
    one = plots.hippo_memory(U, 8, measures=["legt"])
    labels = [text.get_text() for text in one.get_legend().get_texts()]
    assert labels == ["u", "legt"]
    assert line(one, "legt").get_xdata().min() == 150


def test_kernels_are_those_of_the_poles():
    ax = plots.initial_kernels("legs", 8, shown=2, until=3.0)
    Lambda, B = hippo.diagonal("legs", 8)
    for n in (0, 1):
        full, dashed = ax.lines[1 + 2 * n], ax.lines[2 + 2 * n]
        K = B[n] * np.exp(Lambda[n] * full.get_xdata())
        np.testing.assert_allclose(full.get_ydata(), K.real, atol=1e-14)
        np.testing.assert_allclose(dashed.get_ydata(), K.imag, atol=1e-14)
    assert ax.lines[1].get_xdata()[-1] == 3
    assert len(plots.initial_kernels("real", 8, shown=8).lines) == 9


def test_the_spectrum_is_the_mean_over_phases(rng):
    ax = plots.initial_spectrum(["inv"], 4)
    Lambda, B = hippo.diagonal("inv", 4)
    omega, power = ax.lines[0].get_data()
    some = np.searchsorted(omega, [0.1, 1.0, 5.0])
    C = np.exp(2j * np.pi * rng.random((40_000, 4)))
    for i in some:
        response = (C * B) @ (1 / (1j * omega[i] - Lambda))
        response += (C * B).conj() @ (1 / (1j * omega[i] - Lambda.conj()))
        # the phase of a pole and that of its conjugate are opposite, and so uncorrelated
        assert 10 * np.log10(np.mean(np.abs(response) ** 2)) == pytest.approx(power[i], abs=0.15)


def test_the_figure_of_initialisations():
    figure = plots.initialisations(8)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["S4D-LegS", "S4D-Inv", "S4D-Lin", "FouT, diagonal", ""]
    assert len(figure.axes[-1].lines) == 4
    figure.savefig(io.BytesIO(), format="png")
    assert len(plots.initialisations(4, hippo.INITIAL).axes) == len(hippo.INITIAL) + 1


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.hippo_memory([1.0, np.nan]), "u holds nan"),
        (lambda: plots.hippo_memory(np.ones(0)), r"u has shape \(0,\)"),
        (lambda: plots.hippo_memory(U, window=301.0), "window is 301.0; .* at most 300"),
        (lambda: plots.hippo_memory(U, rate=0.0), "rate is 0.0"),
        (lambda: plots.hippo_memory(U, 7), "N is 7; for fout it must be even"),
        (lambda: plots.hippo_memory(U, measures=["lags"]), "measures is 'lags'"),
        (lambda: plots.initial_kernels("line"), "kind is 'line'.*did you mean 'lin'"),
        (lambda: plots.initial_kernels("lin", shown=0), "shown is 0"),
        (lambda: plots.initial_kernels("lin", until=0.0), "until is 0.0"),
        (lambda: plots.initial_spectrum(["lin", "x"]), "kind is 'x'"),
        (lambda: plots.initialisations(4, []), r"kinds is \[\]"),
        (lambda: plots.initialisations(4, ["lin", "lin"]), "each once"),
    ],
)
def test_refuses(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
