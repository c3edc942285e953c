"""``ssm-manual runs``, and ``--store`` of the commands that train."""

import io
import json
import math
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from ssm_manual import checkpoint
from ssm_manual.cli import _denoise_report, _runs_report, main
from ssm_manual.models import DiagonalSSM, RecordingFilter, SequenceModel
from ssm_manual.store import Store
from ssm_manual.tasks import denoising, training_run


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three runs: one well, one with another configuration, one that failed."""
    path = tmp_path_factory.mktemp("store") / "runs.db"
    with Store(path) as store:
        for k, rate in enumerate((0.1, 0.2)):
            with store.start("demo", {"rate": rate, "deep": {"width": 4}}, seed=k, tags=["t"]) as a:
                for step in range(40):
                    a.log(step, **{"loss": 1 / (step + 1 + k), "m/lr": rate})
                a.log(40, loss=math.nan)
                a.signal("noisy", rate=100.0, channels=2)
                a.append("noisy", np.repeat(np.float32([[1], [2]]), 3000, axis=1))
                a.append("$x_1$", np.arange(5) * 1j)
                a.save_checkpoint(DiagonalSSM([0.5], 1.0, 0.5))
                a.finish(snr=10.0 + k)
        with pytest.raises(ZeroDivisionError), store.start("other") as b:
            b.log(0, worst=1 / 0)
    return path


@pytest.fixture
def filled(made, folder):
    """A copy of them, here."""
    shutil.copy(made, "runs.db")
    return folder


def ran(capsys, *argv):
    assert main(["runs", *argv]) == 0
    return capsys.readouterr().out


def test_list_is_a_line_a_run(filled, capsys):
    lines = ran(capsys, "list", "runs.db").splitlines()
    assert lines[0] == f"run  name   status    began {'took':>20}  seed  tags  result"
    assert len(lines) == 4
    assert re.match(r"  1  demo   finished  \d{4}-\d\d-\d\d .* 0     t     snr 10$", lines[1])
    assert re.match(r"  3  other  failed .* ZeroDivisionError: division by zero$", lines[3])
    assert len(ran(capsys, "list", "runs.db", "--name", "demo").splitlines()) == 3
    assert len(ran(capsys, "list", "runs.db", "--status", "failed").splitlines()) == 2
    assert len(ran(capsys, "list", "runs.db", "--tag", "t").splitlines()) == 3
    assert ran(capsys, "list", "runs.db", "--since", "2999-01-01") == "no runs\n"
    assert len(ran(capsys, "list", "runs.db", "--since", "2000-01-31T10:00").splitlines()) == 4
    ran(capsys, "list", "runs.db", "--json", "list.json")
    data = json.loads((filled / "list.json").read_text())
    assert [run["id"] for run in data] == [1, 2, 3]
    assert data[1]["config"] == {"rate": 0.2, "deep": {"width": 4}}
    assert data[0]["signals"]["noisy"]["length"] == 3000


def test_show_tells_all_about_a_run(filled, capsys):
    out = ran(capsys, "show", "runs.db", "1", "--json", "one.json")
    for text in (
        r"^  status  finished$", r"^  deep.width  4$", r"^  snr  10$",
        r"^  loss +41  0 to 40 +1 +nan +0\.025 +1 +1$", r"^  m/lr +40  0 to 39 ",
        r"^  noisy   float32 +2 +3000  100 Hz +30$", r"^  \$x_1\$ +complex128 +5$", r"^  model$",
        r"^  numpy +\d",
    ):  # fmt: skip
        assert re.search(text, out, re.M), text
    data = json.loads((filled / "one.json").read_text())
    assert data["metrics"]["loss"]["values"][:2] == [1, 0.5]
    assert data["metrics"]["loss"]["values"][-1] == "NaN"
    assert data["scores"] == {"snr": 10}
    assert "failed: ZeroDivisionError: division by zero" in ran(capsys, "show", "runs.db", "3")


def test_compare_shows_differences_and_results_side_by_side(filled, capsys):
    out = ran(capsys, "compare", "runs.db", "1", "2", "--json", "both.json")
    rows = [line.split() for line in out.splitlines()]
    for row in (
        ["run", "1", "run", "2"], ["rate", "0.1", "0.2"], ["seed", "0", "1"], ["snr", "10", "11"],
        ["loss", "nan", "nan"], ["m/lr", "0.1", "0.2"],
    ):  # fmt: skip
        assert row in rows
    assert not any(row and row[0] in ("deep.width", "tags", "name") for row in rows)
    ends = {len(line) for line in out.splitlines() if line[:4] in ("rate", "seed", "snr ")}
    assert len(ends) == 1  # flush right
    data = json.loads((filled / "both.json").read_text())
    assert data["differences"] == {"seed": [0, 1], "rate": [0.1, 0.2]}
    assert data["scores"] == {"snr": [10, 11]}
    out = ran(capsys, "compare", "runs.db", "1", "3")
    assert re.search(r"^snr +10$", out, re.M)
    assert re.search(r"^name +demo +other$", out, re.M)


def test_plot_draws_metrics_and_signals(filled, capsys, monkeypatch):
    from ssm_manual.cli import _runs_plot

    drawn, draw = [], _runs_plot.draw
    monkeypatch.setattr(_runs_plot, "draw", lambda *a: drawn.append(draw(*a)) or drawn[-1])

    def panels(*argv):
        assert ran(capsys, "plot", "runs.db", *argv, "--out", "a.png") == "figure: a.png\n"
        assert (filled / "a.png").read_bytes().startswith(b"\x89PNG")
        return drawn[-1].axes

    loss, noisy, plain = panels("1")
    (line,) = loss.lines
    assert np.array_equal(line.get_xdata(), np.arange(41))
    assert np.array_equal(line.get_ydata()[:40], 1 / np.arange(1, 41))
    assert math.isnan(line.get_ydata()[40])
    assert loss.get_yscale() == "log"
    assert "1 not finite" in loss.get_legend().get_texts()[0].get_text()
    time = noisy.lines[0].get_xdata()
    assert np.allclose(time, np.arange(1000, 2000) / 100)
    assert plain.lines[0].get_ydata().tolist() == [0, 1, 2, 3, 4]
    (both,) = panels("1", "2", "--metric", "lr")
    assert [line.get_ydata()[0] for line in both.lines] == [0.1, 0.2]
    assert [text.get_text() for text in both.get_legend().get_texts()] == ["run 1 m", "run 2 m"]
    _, own = panels("1", "--signal", "noisy", "--channel", "1", "--start", "7", "--samples", "9")
    assert own.lines[0].get_xdata()[0] == 0.07
    assert own.lines[0].get_xdata().size == 9
    assert own.get_title(loc="left") == "run 1, channel 1"
    assert set(own.lines[0].get_ydata()) == {2.0}
    with Store("runs.db") as store, store.start("gaps") as run:
        for name in ("x" * 70 + "a", "x" * 70 + "b"):  # alike as far as they are shown
            run.append(name, np.array([1.0, math.nan, 2.0, math.inf]))
    (ax,) = panels("4")
    assert [line.get_ydata().tolist()[::2] for line in ax.lines] == [[1, 2], [1, 2]]
    assert all(np.isnan(line.get_ydata()[1::2]).all() for line in ax.lines)  # no zero, a gap
    assert all("2 not finite" in text.get_text() for text in ax.get_legend().get_texts())


def test_plot_draws_every_loss_and_six_metrics_at_most(filled, capsys, monkeypatch):
    from ssm_manual import plots
    from ssm_manual.cli import _runs_plot

    drawn, figure = [], plots.figure
    monkeypatch.setattr(plots, "figure", lambda *size: drawn.append(figure(*size)) or drawn[-1])
    with Store("runs.db") as store:
        with store.start("losses") as run:
            run.log(0, loss=1.0, validation_loss=2.0, lr=0.1)
        with store.start("many") as run:
            run.log(0, **{f"m{k}": k for k in range(9)})
    for number, names in (("4", ["loss", "validation_loss"]), ("5", [f"m{k}" for k in range(6)])):
        ran(capsys, "plot", "runs.db", number, "--out", "a.png")
        assert [ax.get_ylabel() for ax in drawn[-1].axes] == [_runs_plot._text(n) for n in names]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.04, "0.0 s"), (99.94, "99.9 s"), (100.4, "0:01:40"), (1e300, "?")],
)
def test_how_long_a_run_took(seconds, text):
    ended = None if seconds is None else seconds
    assert _runs_report.took(SimpleNamespace(started=0.0, ended=ended)) == text


def test_export_and_delete(filled, capsys, monkeypatch):
    assert ran(capsys, "export", "runs.db", "1", "out") == "run 1: out\n"
    assert "metrics.csv" in os.listdir("out")
    assert main(["runs", "export", "runs.db", "1", "out"]) == 2
    assert "folder is 'out', which exists" in capsys.readouterr().err
    assert main(["runs", "delete", "runs.db", "1"]) == 2
    assert "--yes deletes without asking" in capsys.readouterr().err

    def answer(text):
        terminal = io.StringIO(text)
        terminal.isatty = lambda: True
        monkeypatch.setattr("sys.stdin", terminal)
        return main(["runs", "delete", "runs.db", "1"])

    for text in ("\n", "", "no\n"):
        assert answer(text) == 1
        assert "Delete this run for ever?" in capsys.readouterr().out
    assert len(ran(capsys, "list", "runs.db").splitlines()) == 4
    assert answer("y\n") == 0
    with Store("runs.db") as store:
        store.start("now")
        assert main(["runs", "delete", "runs.db", "2", "4", "--yes", "--force"]) == 2
        assert "run 4 is running: it cannot be deleted" in capsys.readouterr().err
        assert [run.id for run in store.runs()] == [2, 3, 4]  # all or none
    assert ran(capsys, "delete", "runs.db", "2", "3", "4", "--yes").endswith("deleted 2, 3, 4\n")
    assert ran(capsys, "list", "runs.db") == "no runs\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["list", "nowhere.db"], "nowhere.db: there is no such store"),
        (["list", "."], "is a folder"),
        (["list", "runs.db", "--json", "runs.db"], "--json is 'runs.db', the file of DB"),
        (["show", "runs.db", "9"], "there is no run 9"),
        (["compare", "runs.db", "1"], "it takes two or more"),
        (["compare", "runs.db", "1", "1"], "each can be given once"),
        (["plot", "runs.db", "1", "--out", "x.txt"], "--out is 'x.txt'; its name must end in"),
        (["plot", "runs.db", "1", "--metric", "x"], "--metric is 'x'; it must be one of: 'loss'"),
        (["plot", "runs.db", "1", "--signal", "x"], "--signal is 'x'; no RUN has"),
        (["plot", "runs.db", "1", "--start", "9999"], "--start is 9999; signal 'noisy'"),
        (["plot", "runs.db", "1", "--channel", "2"], "--channel is 2; signal 'noisy' of run 1"),
        (["plot", "runs.db", "1", "--samples", "1"], "--samples is 1"),
        (["plot", "runs.db", "3"], "neither a metric nor a signal"),
        (["export", "runs.db", "1", "no/where"], "there is no folder"),
        (["delete", "runs.db", "9", "--yes"], "there is no run 9"),
    ],
)  # fmt: skip
def test_what_is_refused(argv, message, filled, capsys):
    before = sorted(os.listdir(filled))
    assert main(["runs", *argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ssm-manual runs: ")
    assert message in error
    assert sorted(os.listdir(filled)) == before


def test_help_teaches(capsys):
    for argv, text in [
        (["--help"], "ssm-manual runs compare runs.db 1 2"),
        (["plot", "--help"], "--metric NAME"),
        (["list", "--help"], "--since TIME"),
    ]:
        with pytest.raises(SystemExit) as end:
            main(["runs", *argv])
        assert end.value.code == 0
        assert text in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["runs", "list", "x.db", "--since", "yesterday"])
    assert "'yesterday' is no time such as" in capsys.readouterr().err
    for number in ("one", "0", "-1", "1.0", str(2**63)):
        with pytest.raises(SystemExit) as end:
            main(["runs", "show", "x.db", number])
        assert end.value.code == 2
        assert f"RUN: {number!r} is no number of a run" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- --store

DENOISE = ["denoise", "--quick", "--epochs", "30", "--poles", "4", "--no-figure"]


def test_denoise_with_a_store_and_without(folder, capsys):
    t = np.arange(300.0)
    two_channels = np.stack([np.sin(0.1 * t), np.sin(0.27 * t) + np.sin(0.1 * t)], axis=1)
    np.savetxt("two.csv", two_channels, delimiter=",")
    argv = [*DENOISE, "--signal", "two.csv", "--seed", "7"]
    assert main([*argv, "--json", "a.json", "--save", "a.safetensors"]) == 0
    plain = capsys.readouterr().out
    assert main([*argv, "--json", "b.json", "--store", "runs.db"]) == 0
    kept = capsys.readouterr().out
    one, two = (json.loads((folder / name).read_text()) for name in ("a.json", "b.json"))
    for data in (one, two):
        for channel in data["channels"]:
            del channel["training_seconds"]
    assert one == two
    assert "run 1 of runs.db\n" in kept
    table = [line for line in plain.splitlines() if " dB " in line]
    assert table == [line for line in kept.splitlines() if " dB " in line]
    with Store("runs.db", readonly=True) as store:
        (run,) = store.runs()
        assert (run.name, run.status, run.seed) == ("denoise two.csv", "finished", 7)
        assert run.config["poles"] == 4
        assert run.config["epochs"] == 30
        for k, channel in enumerate(one["channels"]):
            steps, values = run.metrics(f"loss, channel {k}")
            assert steps.tolist() == channel["losses"]["epochs"]
            assert values.tolist() == channel["losses"]["values"]
        own = next(m for m in one["means"] if m["method"] == denoising.METHOD)
        assert run.scores["SNR out"] == own["snr"]
        assert run.scores["gain"] == own["gain"]
        clean = run.read("clean")
        assert clean.shape == (2, 300)
        assert np.allclose(clean, two_channels.T)
        assert run.signals["restored"].rate == one["channels"][0]["rate"]
        model = run.load_checkpoint(expected=RecordingFilter)
        saved = checkpoint.load("a.safetensors")
        for a, b in zip(model.models, saved.models):
            assert np.array_equal(a.params["A"], b.params["A"])


def test_losses_are_kept_while_it_trains_and_all_in_the_end(folder):
    with Store("runs.db") as store, store.start("a") as run:
        curve = _denoise_report.Curve(run, 0, False)
        curve.reached(2, 0.5)
        assert run.metrics("loss")[0].tolist() == [1]  # before the end
        curve.reached(4, np.float32(9.0))  # and then training diverges and begins anew
        curve.complete(np.array([1.0, 0.5, 0.25, 0.125]))
        steps, values = run.metrics("loss")
        assert steps.tolist() == [0, 1, 2, 3, 3]
        assert values.tolist() == [1.0, 0.5, 0.25, 9.0, 0.125]
        _denoise_report.Curve(None, 0, False).complete(np.ones(3))


def test_train_with_a_store_and_without(folder, capsys):
    argv = ["train", "previous-bit", "--quick", "--no-figure", "--seed", "1", "--beside", "none"]
    assert main([*argv, "--json", "a.json"]) == 0
    assert main([*argv, "--json", "b.json", "--store", "runs.db", "--save", "m.safetensors"]) == 0
    assert "run 1 of runs.db\n" in capsys.readouterr().out
    one, two = (json.loads((folder / name).read_text()) for name in ("a.json", "b.json"))
    for data in (one, two):
        for run in data["runs"]:
            del run["seconds"], run["history"]["items_per_second"]
    assert one == two
    with Store("runs.db", readonly=True) as store:
        (run,) = store.runs()
        assert (run.name, run.status, run.seed) == ("train previous-bit", "finished", 1)
        assert run.config["settings"]["s4d"]["lr"] == one["runs"][0]["settings"]["lr"]
        for own in one["runs"]:
            name, history = own["model"], own["history"]
            ends = [int(end) - 1 for end in history.pop("epoch_end")]
            for key, values in history.items():
                steps, found = run.metrics(f"{name}/{key}")
                assert found.tolist() == values
                each = key in ("loss", "lr", "grad_norm")
                assert steps.tolist() == (list(range(len(values))) if each else ends)
            assert run.scores[f"test accuracy, {name}"] == own["test"]["accuracy"]
        assert run.checkpoints == ["s4d"]
        kept = run.load_checkpoint("s4d", expected=SequenceModel)
        saved = checkpoint.load("m.safetensors")
        for name, value in saved.params.items():
            assert np.array_equal(value, kept.params[name])


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(ValueError("on purpose"), "failed", 2), (KeyboardInterrupt(), "interrupted", 130)],
)
def test_a_run_that_breaks_off_is_marked(error, status, code, folder, capsys, monkeypatch):
    def broken(*args, **options):
        raise error

    monkeypatch.setattr(training_run, "_warm", broken)
    monkeypatch.setattr(denoising, "compare", broken)
    assert main(["train", "previous-bit", "--quick", "--no-figure", "--store", "runs.db"]) == code
    assert main([*DENOISE, "--store", "runs.db"]) == code
    with Store("runs.db", readonly=True) as store:
        runs = store.runs()
        assert [run.status for run in runs] == [status] * 2
        assert runs[0].error == runs[1].error == f"{type(error).__name__}: {error}".rstrip(": ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--store", "."], "--store: .: is a folder"),
        (["--store", "no/where.db"], "--store: no/where.db: there is no folder"),
        (["--store", "a.json", "--json", "a.json"], "--json is 'a.json', the file of --store"),
    ],
)
def test_a_store_that_cannot_be_is_refused_before_any_work(
    argv, message, folder, capsys, monkeypatch
):
    def broken(*args, **options):
        pytest.fail("it trained")

    monkeypatch.setattr(training_run, "train", broken)
    monkeypatch.setattr(denoising, "compare", broken)
    for command in (["train", "previous-bit", "--quick", "--no-figure"], DENOISE):
        assert main([*command, *argv]) == 2
        assert message in capsys.readouterr().err
    assert os.listdir(folder) == []


def test_a_store_does_not_go_with_fixed_runs(capsys):
    assert main(["denoise", "--reproduce", "--store", "x.db"]) == 2
    assert "--store does not go with a published run" in capsys.readouterr().err
    argv = ["train", "previous-bit", "--choose", "--store", "x.db"]
    assert main(argv) == 2
    assert "--store does not go with --choose" in capsys.readouterr().err
