"""The survey of kernel methods: its exact arithmetic, its command, its figure."""

import json
import os
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from ssm_manual.cli import main
from ssm_manual.ops import kernels
from ssm_manual.tasks import kernel_survey


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("t", [0, 1, 2, 3, 63, 1000, 12345, 10**6, 2**30])
def test_exact_powers(t):
    A = complex(0.9999999 * np.exp(2.3j))
    with mpmath.workprec(600):
        true = mpmath.mpc(A) ** t
        real, imag = kernel_survey.exact(A, t)
        own = mpmath.mpc(real, imag) / mpmath.mpf(2) ** 384
        assert abs(own - true) < mpmath.mpf(2) ** -340


def test_exact_powers_are_fractions():
    """(3/4 + i/2)^5 by hand: products of fractions, no rounding at all."""
    real, imag = Fraction(1), Fraction(0)
    for _ in range(5):
        real, imag = (
            real * Fraction(3, 4) - imag * Fraction(1, 2),
            real * Fraction(1, 2) + imag * Fraction(3, 4),
        )
    assert kernel_survey.exact(0.75 + 0.5j, 5) == (int(real * 2**384), int(imag * 2**384))


@pytest.fixture(scope="module")
def found():
    return kernel_survey.survey(lengths=[64, 100], longest=3000, rng=np.random.default_rng(0))


def test_a_survey_has_every_method_in_both_precisions(found):
    assert set(found.seconds) == set(found.errors) == {"complex64", "complex128"}
    for dtype in found.seconds:
        assert set(found.seconds[dtype]) == {"fill", *kernels.METHODS} - {"auto"}
        assert set(found.errors[dtype]) == set(kernels.METHODS) - {"auto"}
        assert all(t > 0 for times in found.seconds[dtype].values() for t in times)
    assert found.t[0] == 0
    assert found.t[-1] == 2999


def test_the_survey_sees_what_drifts_and_what_does_not(found):
    for errors in found.errors.values():
        assert max(errors["anchored"]) < 4.25
        assert max(errors["log_parallel"]) < 8
        assert max(errors["recursive"]) > 10
        assert max(errors["log"]) > 300
        assert min(max(values) for values in errors.values()) > 0.2  # nothing is exact


def test_a_wrong_kernel_is_seen(monkeypatch):
    right = kernels.generate

    def wrong(*args, out, **options):
        right(*args, out=out, **options)
        out[-1] *= 1 + 1e-9
        return out

    monkeypatch.setattr(kernels, "generate", wrong)
    found = kernel_survey.survey(lengths=[64], longest=64, rng=np.random.default_rng(0), poles=1)
    assert found.errors["complex128"]["anchored"][-1] > 1e6


def test_an_infinite_kernel_is_infinitely_far():
    assert kernel_survey._distance(complex(np.inf, 0), (1 << 384, 0)) == np.inf
    assert kernel_survey._distance(complex(1, np.nan), (1 << 384, 0)) == np.inf
    assert kernel_survey._distance(1.5 + 0j, (1 << 384, 0)) == 0.5


def test_the_command_writes_all_it_measured(folder, capsys):
    assert main(["kernels", "--length", "1024", "--longest", "500", "--json", "k.json"]) == 0
    text = capsys.readouterr().out
    assert "complex64" in text
    assert "anchored" in text
    written = json.loads((folder / "k.json").read_text())
    assert written["lengths"] == [1024]
    assert len(written["errors"]["complex64"]["log"]) == len(written["t"])
    assert sorted(os.listdir(folder)) == ["k.json", "kernels.png"]


def test_every_line_of_the_figure_bears_its_name_and_value(found):
    from ssm_manual import plots

    figure = plots.kernel_methods(found)
    figure.canvas.draw()
    for ax, measured in zip(figure.axes, [found.seconds, found.errors] * 2):
        assert len(ax.texts) == len(measured["complex64"])
        heights = sorted(text.get_window_extent().y0 for text in ax.texts)
        assert np.diff(heights).min() > 0.9 * ax.texts[0].get_window_extent().height
        for line in ax.lines[: len(kernel_survey.METHODS)]:
            (text,) = (t for t in ax.texts if t.get_text().split()[0] == line.get_label())
            assert text.get_color() == line.get_color()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--length", "10"], "--length is 10"),
        (["--longest", "1"], "--longest is 1"),
        (["--longest", str(2**27)], "--longest"),
        (["--poles", "0"], "--poles is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--figure", "k.txt"], "must end in"),
        (["--figure", "no/k.png"], "no folder"),
        (["--json", "k.png", "--figure", "k.png"], "choose another name"),
        (["--json", "./k.png", "--figure", "k.png"], "choose another name"),
    ],
)
def test_bad_options(argv, message, folder, capsys):
    assert main(["kernels", *argv]) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(folder) == []
