"""``ssm-manual denoise``: what it prints and writes, and what it refuses before any work."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ssm_manual import _files
from ssm_manual.cli import _denoise_report, _output, main
from ssm_manual.tasks import trained_filter

ROOT = Path(__file__).resolve().parents[1]

QUICK = ["denoise", "--quick", "--epochs", "30", "--poles", "4"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wave(length=300):
    return np.sin(0.1 * np.arange(length)) + 0.3 * np.sin(0.27 * np.arange(length))


def rows_of(text):
    """``{method: (causal, SNR in, SNR out, gain)}`` of the printed table."""
    lines = text.splitlines()
    head = next(i for i, x in enumerate(lines) if "SNR out" in x)
    column = lines[head].index("causal")
    rows = {}
    for row in lines[head + 1 :]:
        if not row.strip():
            break
        causal, *numbers = row[column:].replace("dB", "").split()[:4]
        rows[row[:column].strip(" *")] = (causal, *map(float, numbers))
    return rows


def test_the_default_writes_a_table_and_a_figure(folder, capsys):
    assert main(QUICK) == 0
    out = capsys.readouterr().out
    assert out.startswith("sinusoids: 1000 samples, 700 to train on, 300 compared; noise at 5 dB")
    rows = rows_of(out)
    marked = [row for row in out.splitlines() if row.startswith("*")]
    assert marked[0].split()[1:3] == ["diagonal", "SSM"]
    assert len(rows) >= 7
    assert rows["diagonal SSM"][0] == rows["least-squares FIR"][0] == "yes"
    assert rows["Savitzky-Golay"][0] == rows["Wiener (scipy)"][0] == "no"
    levels = [row[2] for row in rows.values()]
    assert levels == sorted(levels, reverse=True)
    for _, before, after, gain in rows.values():
        assert gain == pytest.approx(after - before, abs=0.011)
    assert (folder / "denoise.png").read_bytes().startswith(b"\x89PNG")
    assert os.listdir(folder) == ["denoise.png"]


def test_json_holds_what_was_printed(folder, capsys):
    argv = [*QUICK, "--signal", "eeg", "--no-figure", "--json", "out.json", "--lookahead", "3"]
    assert main([*argv, "--seed", "7", "--dtype", "float64", "--noise-snr", "-2.5"]) == 0
    out = capsys.readouterr().out
    assert "means over 4 channels" in out
    assert "causal methods wait 3 samples" in out
    assert os.listdir(folder) == ["out.json"]
    data = json.loads((folder / "out.json").read_text())
    assert data["options"]["seed"] == 7
    assert data["options"]["noise_snr"] == -2.5
    assert [channel["name"] for channel in data["channels"]] == [
        f"eeg, channel {i}" for i in range(4)
    ]
    for method, (causal, _, after, gain) in rows_of(out).items():
        mean = next(m for m in data["means"] if m["method"] == method)
        assert mean["causal"] == (causal == "yes")
        assert mean["snr"] == pytest.approx(after, abs=0.006)
        assert mean["gain"] == pytest.approx(gain, abs=0.006)
        each = [
            next(s for s in channel["scores"] if s["method"] == method)
            for channel in data["channels"]
        ]
        assert np.mean([score["snr"] for score in each]) == pytest.approx(mean["snr"])
    model = data["channels"][0]["model"]
    assert np.shape(model["A"]) == np.shape(model["B"]) == np.shape(model["C"]) == (4, 2)
    assert isinstance(model["D"], float)
    assert len(data["channels"][0]["losses"]["values"]) == 30


def test_a_seed_repeats_a_run(capsys):
    def table(seed):
        assert main([*QUICK, "--no-figure", "--seed", seed]) == 0
        return rows_of(capsys.readouterr().out)

    assert table("1") == table("1") != table("2")


def test_a_file_with_two_channels(folder, capsys):
    samples = np.stack([wave(), 5 + 100 * wave()[::-1]])
    np.savetxt(folder / "two.csv", samples.T, delimiter=",")
    assert main([*QUICK, "--signal", "two.csv", "--figure", "two.svg"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("two.csv: 300 samples")
    assert "two.csv, channel 1" in out
    assert "figure: two.svg (first channel)" in out
    assert b"<svg" in (folder / "two.svg").read_bytes()


@pytest.mark.parametrize("mode", [["--mode", "windowed", "--window", "50"], ["--mode", "one_step"]])
def test_modes(mode, capsys):
    assert main([*QUICK, "--no-figure", *mode]) == 0
    assert rows_of(capsys.readouterr().out)["diagonal SSM"][3] > 0


def test_halved_rates_are_reported(monkeypatch, capsys):
    answers = iter((True, True, False))
    monkeypatch.setattr(trained_filter, "_grown", lambda losses: next(answers))
    assert main([*QUICK, "--no-figure"]) == 0
    assert "its learning rates were halved 2 times" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------- refusals


@pytest.fixture
def no_training(monkeypatch):
    """Whatever is wrong must be found before any training."""

    def train(*args, **options):
        pytest.fail("training began")

    monkeypatch.setattr(trained_filter, "train", train)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--poles", "0"], "--poles is 0; it must be at least 1"),
        (["--epochs", "-3"], "--epochs is -3; it must be at least 1"),
        (["--lookahead", "-1"], "--lookahead is -1; it must be at least 0"),
        (["--lookahead", "290"], "a lookahead of 290 needs at least"),
        (["--seed", "-1"], "--seed is -1; it must be at least 0"),
        (["--noise-snr", "nan"], "--noise-snr is nan; it must be from -60 to 120 dB"),
        (["--window", "5"], "--window goes with --mode windowed, not with bptt"),
        (["--mode", "windowed", "--window", "0"], "--window is 0"),
        (["--signal", "noise"], "--signal is 'noise'; it must be sinusoids, ecg, eeg, or a file"),
        (["--signal", "none.wav"], "none.wav"),
        (["--signal", "bad.csv"], "bad.csv: line 2 holds 'x', which is not a number"),
        (["--signal", "short.npy"], "short.npy: samples has length 20"),
        (["--signal", "flat.npy"], "flat.npy, channel 1: samples is constant"),
        (["--figure", "a.txt"], "--figure is 'a.txt'; its name must end in one of"),
        (["--figure", "none/a.png"], "--figure is 'none/a.png', but there is no folder"),
        (["--figure", "folder.png"], "--figure is 'folder.png', which is a folder"),
        (["--json", "none/a.json"], "--json is 'none/a.json', but there is no folder"),
        (["--json", "folder.png"], "--json is 'folder.png', which is a folder"),
        (["--reproduce", "--poles", "3"], "--poles does not go with --reproduce"),
        (["--preset", "long", "--noise-snr", "3"], "--noise-snr does not go with --preset long"),
        (["--reproduce", "--json", "none/a"], "--json is 'none/a', but there is no folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(argv, message, folder, capsys):
    (folder / "bad.csv").write_text("1\nx\n")
    np.save(folder / "short.npy", wave(20))
    np.save(folder / "flat.npy", np.stack([wave(), np.ones(300)]))
    (folder / "folder.png").mkdir()
    before = sorted(os.listdir(folder))
    assert main(["denoise", *argv]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("ssm-manual denoise: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(os.listdir(folder)) == before


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    "argv",
    [
        ["--mode", "adjoint"],
        ["--poles", "many"],
        ["--dtype", "float16"],
        ["--preset", "short"],
        ["--figure", "a.png", "--no-figure"],
        ["--reproduce", "--preset", "long"],
    ],
)
def test_argparse_refuses_the_rest(argv, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["denoise", *argv])
    assert "usage: ssm-manual denoise" in capsys.readouterr().err


@pytest.mark.usefixtures("no_training")
def test_a_folder_that_cannot_be_written(folder, monkeypatch, capsys):
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_files.tempfile, "TemporaryFile", refuse)
    assert main([*QUICK, "--json", "a.json", "--no-figure"]) == 2
    assert "--json is 'a.json', but nothing can be written there: Permission denied" in (
        capsys.readouterr().err
    )


# ------------------------------------------------------------------------------------------- files


def test_a_file_is_replaced_whole_or_not_at_all(folder):
    path = folder / "a.txt"
    path.write_text("before")

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        _files.write_atomically(path, fail)
    assert path.read_text() == "before"
    assert os.listdir(folder) == ["a.txt"]
    _files.write_atomically(path, lambda file: file.write(b"after"))
    assert path.read_text() == "after"
    assert os.listdir(folder) == ["a.txt"]


def test_json_has_no_nan(folder):
    with pytest.raises(ValueError, match="Out of range float"):
        _output.write_json(folder / "a.json", {"loss": float("nan")})
    assert os.listdir(folder) == []


# ------------------------------------------------------------------------------------ the rest


@pytest.mark.parametrize(
    ("argv", "called"),
    [(["--reproduce"], "reproduce"), (["--preset", "long"], "preset_long")],
)
def test_published_runs_are_handed_over(argv, called, monkeypatch):
    calls = []
    module = types.ModuleType("ssm_manual.cli.reproduce")
    module.reproduce = lambda args: calls.append("reproduce") or 1
    module.preset_long = lambda args: calls.append("preset_long") or 0
    monkeypatch.setitem(sys.modules, "ssm_manual.cli.reproduce", module)
    import ssm_manual.cli

    monkeypatch.setattr(ssm_manual.cli, "reproduce", module, raising=False)
    assert main(["denoise", *argv]) == (called == "reproduce")
    assert calls == [called]
    assert main(["denoise", *argv, "--quick"]) == 2


def test_outputs_overwrite_neither_the_recording_nor_each_other(tmp_path, capsys):
    recording = tmp_path / "b.csv"
    recording.write_text("1\n2\n")
    assert main(["denoise", "--signal", str(recording), "--json", str(recording)]) == 2
    assert "the file of --signal; choose another name" in capsys.readouterr().err
    assert recording.read_text() == "1\n2\n"
    both = str(tmp_path / "a.png")
    assert main(["denoise", "--figure", both, "--json", both]) == 2
    assert "the file of --figure" in capsys.readouterr().err


def test_the_filter_is_saved_even_if_nobody_reads_the_table(tmp_path, monkeypatch):
    def closed(results):
        raise BrokenPipeError

    monkeypatch.setattr(_denoise_report, "table", closed)
    path = tmp_path / "m.safetensors"
    argv = ["--quick", "--epochs", "5", "--no-figure", "--save", str(path)]
    assert main(["denoise", *argv]) == 0
    assert path.stat().st_size > 500


def test_help_teaches(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["denoise", "--help"])
    out = capsys.readouterr().out
    for option in ("signal", "noise-snr", "poles", "mode", "window", "lookahead", "epochs", "seed"):
        assert f"--{option}" in out
    assert "examples" in out
    assert max(map(len, out.splitlines())) <= 100


def test_no_progress_bar_where_stderr_is_no_terminal(capsys):
    assert main([*QUICK, "--no-figure"]) == 0
    assert "epoch" not in capsys.readouterr().err


def test_help_does_not_wait_for_slow_imports():
    code = (
        "import sys, ssm_manual.cli.denoise\n"
        "slow = {'numba', 'matplotlib', 'scipy', 'pywt', 'tqdm'} & set(sys.modules)\n"
        "sys.exit(f'imported: {slow}' if slow else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 2
    assert "denoise" in capsys.readouterr().out


# ------------------------------------------------------------------------------ keeping the filter


@pytest.mark.parametrize("parameters", ["discrete", "continuous"])
def test_a_saved_filter_restores_what_the_command_restored(tmp_path, parameters):
    from ssm_manual import checkpoint
    from ssm_manual.models import RecordingFilter
    from ssm_manual.tasks import denoising, signals

    options = {"noise_snr": 3.0, "lookahead": 4, "poles": 4, "epochs": 40, "parameters": parameters}
    argv = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    path = tmp_path / "m.safetensors"
    assert main(["denoise", "--signal", "eeg", *argv, "--no-figure", "--save", str(path)]) == 0
    filter = checkpoint.load(path, expected=RecordingFilter)
    assert (filter.channels, filter.rate, filter.delay) == (4, signals.eeg().rate, 4)
    assert filter.continuous == (parameters == "continuous")
    results = [
        denoising.compare(samples, rate=filter.rate, seed=[0, channel], draws=32, **options)
        for channel, samples in enumerate(signals.eeg().samples)
    ]
    restored = filter(np.array([result.noisy for result in results]))
    expected = np.array([result.restored for result in results])
    assert np.abs(restored - expected).max() < 1e-5 * np.abs(expected).max()


def test_continuous_parameters_in_seconds_are_the_same_filter():
    from ssm_manual.tasks import denoising, signals

    samples = signals.eeg().samples[0]
    options = {"poles": 4, "epochs": 60, "parameters": "continuous", "dtype": "float64", "draws": 2}
    in_samples = denoising.compare(samples, **options)
    in_seconds = denoising.compare(samples, rate=80.0, **options)
    assert in_seconds.model.dt == pytest.approx(1 / 80)
    assert np.abs(in_seconds.model.A_bar - in_samples.model.A_bar).max() < 1e-14
    assert in_seconds.score().snr == pytest.approx(in_samples.score().snr, abs=1e-9)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--save", "m.bin"], "must end in .safetensors"),
        (["--save", "no/m.safetensors"], "no folder"),
        (["--reproduce", "--save", "m.safetensors"], "does not go with a published run"),
        (["--save", "a.safetensors", "--json", "a.safetensors"], "choose another name"),
    ],
)
def test_a_filter_that_could_not_be_kept_is_refused_at_once(argv, message, folder, capsys):
    assert main(["denoise", *argv]) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(folder) == []
