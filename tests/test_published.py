"""The published runs, against the figures as printed; and the command that repeats them."""

import json

import numpy as np
import pytest
from conftest import assert_close

from ssm_manual.cli import main, reproduce
from ssm_manual.tasks import published

LOSSES = [5.476446, 1.611923, 0.863172, 0.505832, 0.3185, 0.244188, 0.210453, 0.189896, 0.175427]
LOSSES.append(0.164259)


@pytest.fixture(scope="module")
def run():
    return published.run_published()


@pytest.fixture(scope="module")
def figures():
    return published.published_figures()


def last_places(ours, theirs, digits):
    """How far a printed pair of numbers is off, in units of its last place."""
    ours = complex(ours)
    return max(
        abs(round(a * 10**digits) - b * 10**digits) for a, b in zip((ours.real, ours.imag), theirs)
    )


def test_the_figures_are_those_of_the_log(figures):
    entries = [(e["epoch"], e["channel"]) for e in figures["log"]]
    assert entries == [(1000 * k, channel) for k in range(10) for channel in range(4)]
    assert [e["loss"] for e in figures["log"] if e["channel"] == 0] == LOSSES
    assert {e["loss"] for e in figures["log"]} == set(LOSSES)
    assert len(figures["verification"]) > 0


@pytest.mark.parametrize("k", range(10))
def test_losses(run, k):
    assert abs(run.losses[1000 * k] / LOSSES[k] - 1) < 1e-3


def test_printed_parameters(run, figures):
    for entry in figures["log"]:
        params = run.params_log[entry["epoch"]]
        for name, symbol in (("A_bar", "A"), ("B_bar", "B"), ("C", "C")):
            value = params[symbol][entry["channel"]]
            assert last_places(value, entry[name], 3) < 2.5, (entry["epoch"], name)


def test_verification_table(run, figures):
    u, target = published.published_data()
    y, _, _ = run.model.forward(u)
    for row in figures["verification"]:
        assert last_places(y[row["step"]], row["prediction"], 2) < 2.5, row
        assert last_places(target[row["step"]], row["target"], 2) < 1, row


def test_the_run_is_in_single_precision_from_the_published_start(run):
    assert (run.losses.dtype, run.losses.size) == (np.float32, 10_000)
    assert {value.dtype for value in run.model.params.values()} == {np.dtype(np.complex64)}
    model = published.published_model()
    z = 0.05 * np.array([-1 + 1.99j, -1 + 2j, -1 + 2.01j, -1 + 5j])
    assert_close(model.params["A"], (1 + z) / (1 - z), 1e-6)
    assert_close(model.params["B"], 0.1 / (1 - z), 1e-6)
    assert np.all(model.params["C"] == 0.25)
    t = 0.1 * np.arange(20)
    u, target = published.published_data()
    assert_close(u, np.sin(2 * t) + np.sin(20 * t), 1e-6)
    assert_close(target, np.sin(2 * t) + 0j, 1e-6)


@pytest.mark.parametrize(("scale", "loss"), [(1, 0.077), (5, 0.0016)])
def test_full_back_propagation_gets_further(run, scale, loss):
    """From the same start; the convolution mode, op by op, begins with the same losses."""
    full = published.run_published("bptt", scale)
    digits = 3 if scale == 1 else 4
    assert round(float(full.losses[9000]), digits) == loss
    assert full.losses[9000] < 0.5 * run.losses[9000]
    rates = {name: scale * rate for name, rate in published.PUBLISHED_RATES.items()}
    convolution = published.published_model().fit(
        *published.published_data(), epochs=50, rates=rates, mode="convolution"
    )
    assert_close(20 * convolution.losses, full.losses[:50], 1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_long_run(dtype):
    model = published.long_model(dtype)
    u, target = published.long_data(dtype)
    history = model.fit(
        u,
        target,
        epochs=published.LONG_EPOCHS,
        rates=published.LONG_RATES,
        margin=published.LONG_MARGIN,
    )
    assert (model.dtype, history.epochs) == (dtype, 5000)
    assert history.losses[0] == pytest.approx(0.1999, rel=0.01)
    assert history.losses[-1] == pytest.approx(0.0191, rel=0.01)
    assert float(model.dt) == pytest.approx(1e-3, rel=1e-6)
    assert np.all(model.params["A"].real < 0)


# ------------------------------------------------------------------------------------- the command


def test_reproduce(tmp_path, capsys, run):
    target, figure = tmp_path / "run.json", tmp_path / "run.png"
    status = main(["denoise", "--reproduce", "--json", str(target), "--figure", str(figure)])
    assert status == 0
    printed = capsys.readouterr().out
    assert "reproduced" in printed
    assert "NOT reproduced" not in printed
    assert all(f"({loss:.6f})" in printed for loss in LOSSES)
    assert figure.read_bytes().startswith(b"\x89PNG")
    data = json.loads(target.read_text("utf-8"))
    assert data["reproduced"] is True
    assert data["largest_relative_loss_deviation"] < 1e-3
    assert data["largest_parameter_deviation_units"] <= 2
    assert data["largest_verification_deviation_units"] <= 2
    assert data["losses"] == {str(1000 * k): float(run.losses[1000 * k]) for k in range(10)}
    full = data["full_bptt_losses"]
    assert set(full) == {"rates x 1", "rates x 5"}
    assert all(set(losses) == set(data["losses"]) for losses in full.values())
    assert full["rates x 5"]["9000"] < full["rates x 1"]["9000"] < data["losses"]["9000"]


@pytest.mark.parametrize("entry", [0, 39])
def test_reproduce_fails_where_a_loss_is_off(tmp_path, capsys, monkeypatch, run, figures, entry):
    altered = json.loads(json.dumps(figures))
    altered["log"][entry]["loss"] *= 1.003
    monkeypatch.setattr(published, "published_figures", lambda: altered)
    monkeypatch.setattr(published, "run_published", lambda *args: run)  # it is not the run's turn
    target = tmp_path / "run.json"
    assert main(["denoise", "--reproduce", "--json", str(target)]) == 1
    assert "NOT reproduced" in capsys.readouterr().out
    data = json.loads(target.read_text("utf-8"))
    assert data["reproduced"] is False
    assert data["largest_relative_loss_deviation"] > reproduce.TOLERANCE


def test_preset_long(tmp_path, capsys):
    target, figure = tmp_path / "run.json", tmp_path / "run.svg"
    command = ["denoise", "--preset", "long", "--json", str(target), "--figure", str(figure)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "mean |e|^2" in printed
    assert b"<svg" in figure.read_bytes()
    data = json.loads(target.read_text("utf-8"))
    assert len(data["losses"]) == published.LONG_EPOCHS
    assert data["losses"][0] == pytest.approx(0.1999, rel=0.01)
    assert data["losses"][-1] == pytest.approx(0.0191, rel=0.01)
    assert set(data["parameters"]) == {"A", "B", "C", "log_dt"}
    assert [len(data["parameters"][name]) for name in ("A", "B", "C", "log_dt")] == [4, 4, 4, 1]
