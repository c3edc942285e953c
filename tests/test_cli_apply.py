"""``ssm-manual apply``: a saved model over a recording, block by block."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_python
from scipy.io import wavfile
from scipy.signal import lfilter

from ssm_manual import checkpoint, plots
from ssm_manual.cli import _apply_report, main
from ssm_manual.models import DiagonalSSM, RecordingFilter
from ssm_manual.tasks.recordings import RecordingFile

ROOT = Path(__file__).resolve().parents[1]

#: One real pole: ``y_t = sum_k 0.3 0.9^k u_{t-k} + 0.1 u_t``, which SciPy filters too.
POLE, GAIN, D = 0.9, 0.3, 0.1
OFFSET, SCALE, DELAY = 0.02, 0.25, 3


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("m.safetensors")
    return tmp_path


def save(path, *, delay=DELAY, rate=8000.0, dtype=np.float32, channels=1):
    pole = np.array([POLE], np.result_type(dtype, np.complex64))
    models = [DiagonalSSM(pole, 1.0, GAIN / 2 * (i + 1), D) for i in range(channels)]
    checkpoint.save(
        path, RecordingFilter(models, offset=OFFSET, scale=SCALE, delay=delay, rate=rate)
    )


def save_continuous(path, *, rate=8000.0, delay=8):
    """A low-pass of 40 Hz: ``A = -250 / s`` by the bilinear map, of unit gain at frequency 0."""
    model = DiagonalSSM([-250.0], 250.0, 0.5, parameters="continuous", dt=1 / rate)
    checkpoint.save(path, RecordingFilter(model, delay=delay, rate=rate))


def expected(samples, delay=DELAY):
    """The recording followed by silence, filtered by SciPy and moved back by the delay."""
    u = (samples - OFFSET) / SCALE
    u = np.concatenate([u, np.zeros((u.shape[0], delay))], axis=1)
    y = lfilter([GAIN], [1, -POLE], u, axis=1) + D * u
    return OFFSET + SCALE * y[:, delay:]


def noise(rng, channels=2, length=300):
    return rng.uniform(-0.3, 0.3, (channels, length))


def wav(path, samples, rate=8000):
    wavfile.write(path, rate, samples.T)


def read(path):
    with RecordingFile(path) as file:
        return file.read()


def apply(*argv, model="m.safetensors"):
    return main(["apply", model, *map(str, argv)])


# ---------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("suffix", [".wav", ".npy", ".csv"])
def test_the_output_is_the_filter_without_its_delay(suffix, rng, capsys):
    samples = noise(rng).astype(np.float32)
    if suffix == ".wav":
        wav("a.wav", samples)
    elif suffix == ".npy":
        np.save("a.npy", samples)
    else:
        np.savetxt("a.csv", samples.T, header="left,right", comments="", delimiter=",")
    assert apply("a" + suffix, "--out", "b" + suffix) == 0
    out = read("b" + suffix)
    assert out.shape == samples.shape
    np.testing.assert_allclose(out, expected(samples.astype(float)), rtol=0, atol=2e-7)
    captured = capsys.readouterr()
    told = f"a{suffix} does not tell its sampling rate: taken as the model's, 8000 Hz"
    assert (told in captured.err) == (suffix != ".wav")
    assert captured.err.count("\n") - captured.err.count("\n  ") <= 2  # compilations apart
    assert f"a{suffix}: 2 channels of 300 samples at 8000 Hz (0.0375 s)" in captured.out
    assert "delay removed: 3 samples (0.375 ms); in 1 block of up to 65536" in captured.out
    if suffix == ".csv":
        assert Path("b.csv").read_text().startswith("left,right\n")
    assert sorted(os.listdir()) == ["a" + suffix, "b" + suffix, "m.safetensors"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_of_any_size_give_one_result(dtype, rng):
    """The state is carried over: the same bits, far below the 1e-6 that single precision allows."""
    save("m.safetensors", dtype=dtype, delay=70)
    samples = noise(rng, length=901)
    np.save("a.npy", samples)
    outputs = []
    for size in (1, 7, 64, 4096):
        assert apply("a.npy", "--out", f"b{size}.npy", "--block", size) == 0
        outputs.append(np.load(f"b{size}.npy"))
    for out in outputs:
        np.testing.assert_allclose(out, expected(samples, 70), rtol=0, atol=3e-7)
        np.testing.assert_array_equal(out, outputs[-1])


def test_stereo_is_two_mono_runs(rng):
    samples = noise(rng).astype(np.float32)
    wav("both.wav", samples)
    assert apply("both.wav", "--out", "out.wav", "--block", 50) == 0
    for channel in range(2):
        wav("one.wav", samples[channel : channel + 1])
        assert apply("one.wav", "--out", "out1.wav", "--block", 64) == 0
        np.testing.assert_array_equal(read("out1.wav")[0], read("out.wav")[channel])


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_recordings_as_short_as_the_delay(length, rng):
    samples = noise(rng, length=length)
    np.save("a.npy", samples[:1])
    assert apply("a.npy", "--out", "b.npy", "--block", 2) == 0
    out = np.load("b.npy")
    np.testing.assert_allclose(out, expected(samples[:1]), rtol=0, atol=1e-7)


def test_a_model_for_each_channel(rng, capsys):
    save("two.safetensors", channels=2)
    samples = noise(rng)
    np.save("a.npy", samples)
    assert apply("a.npy", "--out", "b.npy", model="two.safetensors") == 0
    both, first = np.load("b.npy"), expected(samples)
    np.testing.assert_allclose(both[0], first[0], rtol=0, atol=3e-7)
    direct = OFFSET + D * (samples[1] - OFFSET)  # the second model has twice the gain
    direct = np.append(direct[DELAY:], np.full(DELAY, OFFSET))
    np.testing.assert_allclose(both[1], 2 * first[1] - direct, rtol=0, atol=6e-7)
    np.save("a.npy", samples[0])
    assert apply("a.npy", "--out", "c.npy", model="two.safetensors") == 2
    assert "channels is 1; this filter has a model for each of 2" in capsys.readouterr().err
    assert not os.path.exists("c.npy")


def test_integers_are_rounded_clipped_and_counted(capsys):
    samples = np.full((1, 200), 30000, np.int16)
    samples[0, :50] = 0
    wav("a.wav", samples)
    assert apply("a.wav", "--out", "b.wav", "--json", "b.json") == 0
    rate, out = wavfile.read("b.wav")
    exact = expected(samples / 2.0**15)[0] * 2**15
    wanted = np.clip(np.rint(exact), -(2**15), 2**15 - 1)
    assert (rate, out.dtype) == (8000, np.int16)
    assert np.abs(out - wanted).max() <= 1  # single precision may fall on the other side of a half
    assert np.mean(out == wanted) > 0.9
    clipped = int(np.count_nonzero(exact >= 2**15 - 0.5))
    assert 100 < clipped < 150
    assert f"clipped: {clipped} samples ({100 * clipped / 200:.2g} %)" in capsys.readouterr().out
    assert json.loads(Path("b.json").read_text())["clipped"] == clipped


def test_another_suffix_converts(rng, capsys):
    samples = noise(rng)
    np.save("a.npy", 10 * samples)
    assert apply("a.npy", "--out", "b.wav", "--rate", 8000) == 0
    out = capsys.readouterr().out
    rate, data = wavfile.read("b.wav")
    assert (rate, data.dtype) == (8000, np.float32)
    np.testing.assert_allclose(data.T, expected(10 * samples), rtol=0, atol=3e-6)
    beyond = np.count_nonzero(np.abs(data) > 1)
    assert f"beyond full scale: {beyond} samples, kept as they are" in out
    assert "clipped" not in out
    assert apply("b.wav", "--out", "c.csv") == 0
    lines = Path("c.csv").read_text().splitlines()
    assert lines[0] == "time,channel_0,channel_1"
    assert lines[2].startswith("0.000125,")


def test_json_holds_what_was_printed(rng, capsys):
    samples = noise(rng, channels=3)
    wav("a.wav", samples.astype(np.float32))
    assert apply("a.wav", "--out", "b.wav", "--block", 100, "--json", "b.json") == 0
    out = capsys.readouterr().out
    data = json.loads(Path("b.json").read_text())
    assert (data["model"], data["out"]) == ("m.safetensors", "b.wav")
    assert [data[k] for k in ("channels", "samples", "rate", "delay", "block", "blocks")] == (
        [3, 300, 8000, 3, 100, 3]
    )
    assert data["sample_format"] == {"file": "float32", "out": "float32"}
    np.testing.assert_allclose(data["power"]["before"], samples.var(axis=1), rtol=1e-5)
    np.testing.assert_allclose(data["power"]["after"], read("b.wav").var(axis=1), rtol=1e-5)
    before, after = data["power"]["before"][1], data["power"]["after"][1]
    change = 10 * np.log10(after / before)
    assert f"channel 1: {before:.4g} -> {after:.4g} ({change:+.2f} dB)" in out
    assert data["real_time_factor"] == pytest.approx(300 / 8000 / data["seconds"])
    assert data["resampled"] is False


def test_what_denoise_saves_removes_noise(rng, capsys):
    """The whole way: train on a clean recording, save, filter a noisy one; what was gained."""
    clean = 3 + 0.5 * np.sin(0.05 * np.arange(2000))
    np.save("clean.npy", clean)
    argv = ["denoise", "--signal", "clean.npy", "--quick", "--lookahead", "6", "--no-figure"]
    assert main([*argv, "--save", "tone.safetensors"]) == 0
    np.save("noisy.npy", clean + 0.2 * rng.standard_normal(2000))
    assert apply("noisy.npy", "--out", "b.npy", model="tone.safetensors") == 0
    assert "delay removed: 6 samples" in capsys.readouterr().out
    before, after = (np.load(name)[100:-100] - clean[100:-100] for name in ("noisy.npy", "b.npy"))
    assert 10 * np.log10(np.mean(before**2) / np.mean(after**2)) > 6
    late = np.load("b.npy")[106:-94] - clean[100:-100]
    assert np.mean(after**2) < np.mean(late**2)


# ------------------------------------------------------------------------------------------- rates


@pytest.mark.parametrize(
    ("rate", "argv", "message"),
    [
        (4000, [], "a.wav has 4000 samples per second, and the model was trained at 8000"),
        (4000, ["--resample", "dt"], "discrete poles, which serve no other rate"),
        (8000, ["--rate", "4000"], "--rate is 4000; a.wav itself says 8000 samples per second"),
        (8010, [], "a.wav has 8010 samples per second"),
    ],
)
def test_rates_that_differ(rate, argv, message, rng, capsys):
    wav("a.wav", noise(rng).astype(np.float32), rate)
    assert apply("a.wav", "--out", "b.wav", *argv) == 2
    error = capsys.readouterr().err
    assert message in error
    if "--rate" not in argv:
        assert "resample the recording to 8000 Hz first" in error
    assert sorted(os.listdir()) == ["a.wav", "m.safetensors"]


def test_rates_that_agree(rng, capsys):
    wav("a.wav", noise(rng).astype(np.float32))
    argv = ["--rate", 8001, "--resample", "dt", "--json", "b.json"]
    assert apply("a.wav", "--out", "b.wav", *argv) == 0
    captured = capsys.readouterr()
    assert "--resample dt was not needed" in captured.err
    assert "trained at" not in captured.out
    assert json.loads(Path("b.json").read_text())["resampled"] is False


def test_rates_that_nobody_knows(rng, capsys):
    save("none.safetensors", rate=None)
    np.save("a.npy", noise(rng))
    run = {"model": "none.safetensors"}
    assert apply("a.npy", "--out", "b.npy", **run) == 0
    captured = capsys.readouterr()
    remark = "the model does not tell its sampling rate: taken as the recording's"
    assert remark not in captured.err
    assert "times as fast" not in captured.out
    assert apply("a.npy", "--out", "b.wav", **run) == 2
    error = capsys.readouterr().err
    assert "a .wav file needs a sampling rate" in error
    assert "state it by --rate" in error
    assert apply("a.npy", "--out", "b.wav", "--rate", 500, **run) == 0
    assert remark in capsys.readouterr().err
    with RecordingFile("b.wav") as file:
        assert file.rate == 500
    capsys.readouterr()
    for argv in (["--rate", 500], []):
        assert apply("a.npy", "--out", "c.npy", "--resample", "dt", *argv, **run) == 2
        who = "none.safetensors" if argv else "a.npy"
        assert f"--resample dt: {who} does not tell its sampling rate" in capsys.readouterr().err
    assert apply("a.npy", "--out", "c.npy", "--resample", "dt") == 2
    assert "a.npy does not tell its sampling rate: state it by --rate" in capsys.readouterr().err


def test_resampled_by_dt(capsys):
    """The same tone at half the rate comes out the same: low-pass, and as late as before."""
    save_continuous("c.safetensors")
    for rate in (8000, 4000):
        t = np.arange(rate // 2) / rate
        wav(f"a{rate}.wav", np.sin(2 * np.pi * 40 * t)[np.newaxis], rate)
    assert apply("a8000.wav", "--out", "b8000.wav", model="c.safetensors") == 0
    assert apply("a4000.wav", "--out", "b4000.wav", model="c.safetensors") == 2
    assert "or discretise the model for the recording's rate by --resample dt" in (
        capsys.readouterr().err
    )
    argv = ["a4000.wav", "--out", "b4000.wav", "--resample", "dt", "--json", "j.json"]
    assert apply(*argv, model="c.safetensors") == 0
    data = json.loads(Path("j.json").read_text())
    assert (data["rate"], data["delay"], data["resampled"]) == (4000, 4, True)
    assert "4000 Hz, delay 4), trained at 8000 Hz" in capsys.readouterr().out
    fast, slow = read("b8000.wav")[0, ::2], read("b4000.wav")[0]
    inside = slice(500, -50)
    # half a sample of either rate is where the two inputs' steps lie apart: 2 pi 40 Hz / 16 kHz
    np.testing.assert_allclose(slow[inside], fast[inside], atol=0.02)
    assert np.ptp(fast[inside]) / 2 == pytest.approx(250 / np.hypot(250, 2 * np.pi * 40), rel=0.02)


# ----------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("length", [300, 5000])
def test_a_figure(length, rng, capsys):
    samples = noise(rng, length=length)
    np.save("a.npy", samples)
    assert apply("a.npy", "--out", "b.npy", "--figure", "b.png", "--block", 700) == 0
    assert "figure: b.png (first channel)" in capsys.readouterr().out
    assert Path("b.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("size", [1, 333, 9000])
def test_what_a_figure_shows(size, rng):
    samples = noise(rng, length=9000)
    trace = _apply_report.Trace(2, 9000, drawn=True)
    for start in range(0, 9000, size):
        block = samples[:, start : start + size]
        assert trace.add(block) is block
    row, start = samples[0], trace.excerpt_start
    np.testing.assert_array_equal(trace.excerpt, row[start : start + trace.excerpt.size])
    np.testing.assert_array_equal(trace.lowest, row.reshape(1500, 6).min(axis=1))
    np.testing.assert_array_equal(trace.highest, row.reshape(1500, 6).max(axis=1))
    np.testing.assert_allclose(trace.power, samples.var(axis=1), rtol=1e-12)


def test_power_far_from_zero(rng):
    """A large mean costs no digits but those that the samples themselves lack."""
    samples = 1e6 + noise(rng, length=1000)
    trace = _apply_report.Trace(2, 1000, drawn=False)
    for start in range(0, 1000, 10):
        trace.add(samples[:, start : start + 10])
    np.testing.assert_allclose(trace.power, samples.var(axis=1), rtol=1e-8)


def test_power_beyond_double_precision(folder, capsys):
    """Squares of the samples overflow, the samples do not: everything is written all the same."""
    path = folder / "huge.npy"
    np.save(path, np.array([1e200, -1e200, 1e307, 1e308, 0.0]))
    checkpoint.save(folder / "one.safetensors", RecordingFilter(DiagonalSSM([0.5], 1.0, 0.25)))
    out, numbers = str(folder / "huge_out.npy"), folder / "huge.json"
    argv = ["apply", str(folder / "one.safetensors"), str(path), "--out", out, "--block", "2"]
    assert main([*argv, "--json", str(numbers)]) == 0
    assert "inf -> inf\n" in capsys.readouterr().out
    assert json.loads(numbers.read_text())["power"] == {"before": [None], "after": [None]}
    assert np.isfinite(np.load(out)).all()


def test_the_panel(rng):
    before, after = noise(rng)
    alone = plots.applied(before, after)
    assert [ax.get_xlabel() for ax in alone.axes] == ["time (samples)"]
    assert [line.get_label() for line in alone.axes[0].lines] == ["before", "after"]
    whole = {"before": (before - 1, before + 1), "after": (after, after)}
    both = plots.applied(before, after, 100.0, start=400, length=6000, envelopes=whole)
    assert [ax.get_xlabel() for ax in both.axes] == ["time (s)"] * 2
    np.testing.assert_allclose(both.axes[1].lines[0].get_xdata()[[0, -1]], [4.0, 6.99])
    filled = both.axes[0].collections[0].get_datalim(both.axes[0].transData)
    assert (filled.x0, filled.x1) == pytest.approx((0.1, 59.9))
    both.savefig(io.BytesIO(), format="png")
    with pytest.raises(ValueError, match="length is 699; it must be at least 700"):
        plots.applied(before, after, start=400, length=699)


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a.wav", "--out", "b.mp3"], "--out is 'b.mp3': its name ends in '.mp3'"),
        (["a.ogg", "--out", "b.wav"], "FILE is 'a.ogg': its name ends in '.ogg'"),
        (["none.wav", "--out", "b.wav"], "FILE is 'none.wav'; there is no such file"),
        (["a.wav", "--out", "none/b.wav"], "--out is 'none/b.wav', but there is no folder"),
        (["a.wav", "--out", "folder.wav"], "--out is 'folder.wav', which is a folder"),
        (["a.wav", "--out", "a.wav"], "--out is 'a.wav', the file of FILE"),
        (["a.wav", "--out", "hard.wav"], "--out is 'hard.wav', the file of FILE"),
        (["a.wav", "--out", "soft.wav"], "--out is 'soft.wav', the file of FILE"),
        (["a.wav", "--out", "m.wav"], "--out is 'm.wav', the file of MODEL"),
        (["a.wav", "--out", "b.wav", "--json", "b.wav"], "--json is 'b.wav', the file of --out"),
        (["a.wav", "--out", "b.wav", "--json", "a.wav"], "--json is 'a.wav', the file of FILE"),
        (["a.wav", "--out", "b.wav", "--figure", "m.png"], "--figure is 'm.png', the file of MOD"),
        (["a.wav", "--out", "b.wav", "--figure", "b.txt"], "--figure is 'b.txt'; its name must"),
        (["a.wav", "--out", "b.wav", "--block", "0"], "--block is 0; it must be at least 1"),
        (["a.wav", "--out", "b.wav", "--rate", "0"], "--rate is 0.0; it must be finite and great"),
        (["a.wav", "--out", "b.wav", "--rate", "nan"], "--rate is nan"),
        (["nan.npy", "--out", "b.npy"], "nan.npy: sample 150 of channel 1 is nan; every sample"),
        (["inf.npy", "--out", "b.wav"], "inf.npy: sample 20 of channel 0 is inf"),
        (["cut.wav", "--out", "b.wav"], "cut.wav: is not a readable .wav file (it is truncated"),
    ],
)
def test_bad_input_is_one_line_and_status_2(argv, message, folder, rng, capsys):
    samples = noise(rng)
    wav("a.wav", samples.astype(np.float32))
    for name, at, value in (("nan", (1, 150), np.nan), ("inf", (0, 20), np.inf)):
        bad = samples.copy()
        bad[at] = value
        np.save(name, bad)
    Path("a.ogg").touch()
    Path("cut.wav").write_bytes(Path("a.wav").read_bytes()[:-1])
    (folder / "folder.wav").mkdir()
    os.link("a.wav", "hard.wav")
    os.symlink("a.wav", "soft.wav")
    os.link("m.safetensors", "m.wav")
    os.symlink("m.safetensors", "m.png")
    before = {name: Path(name).read_bytes() for name in os.listdir() if os.path.isfile(name)}
    assert apply("a.wav", "--out", "warm.wav") == 0  # compiled before, so that stderr is the error
    os.unlink("warm.wav")
    capsys.readouterr()
    size = [] if "--block" in argv else ["--block", "32"]
    assert apply(*argv, *size) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    lines = [line for line in captured.err.splitlines() if "does not tell its samp" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("ssm-manual apply: ")
    assert captured.out == ""
    after = {name: Path(name).read_bytes() for name in os.listdir() if os.path.isfile(name)}
    assert after == before


def test_files_that_are_no_filter(rng, capsys):
    wav("a.wav", noise(rng).astype(np.float32))
    checkpoint.save("other.safetensors", DiagonalSSM([0.5], 1.0, 1.0))
    Path("text.safetensors").write_text("this is not a model")
    for name in ("other.safetensors", "text.safetensors", "none.safetensors", "a.wav"):
        assert apply("a.wav", "--out", "b.wav", model=name) == 2
        error = capsys.readouterr().err
        assert name in error
        assert error.count("\n") == 1
    assert not os.path.exists("b.wav")


def test_an_old_output_survives_a_failure(rng, capsys):
    samples = noise(rng)
    samples[1, 299] = np.nan
    np.save("a.npy", samples)
    np.save("b.npy", np.arange(3))
    assert apply("a.npy", "--out", "b.npy", "--block", 10) == 2
    assert "sample 299 of channel 1" in capsys.readouterr().err
    assert np.load("b.npy").tolist() == [0, 1, 2]
    assert sorted(os.listdir()) == ["a.npy", "b.npy", "m.safetensors"]


def test_interrupted(rng, monkeypatch, capsys):
    wav("a.wav", noise(rng).astype(np.float32))
    taken = []

    def add(self, block):
        taken.append(block)
        if len(taken) == 6:
            raise KeyboardInterrupt
        return block

    monkeypatch.setattr(_apply_report.Trace, "add", add)
    assert apply("a.wav", "--out", "b.wav", "--block", 20) == 130
    assert "interrupted" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["a.wav", "m.safetensors"]


# ----------------------------------------------------------------------------------------- the rest


def test_memory_does_not_grow_with_the_recording(folder):
    """24 MB of zeros (a hole in the file) take less than half of that."""
    wav("a.wav", np.zeros((2, 4), np.int16))
    head = bytearray(Path("a.wav").read_bytes()[:44])
    head[40:44] = (24_000_000).to_bytes(4, "little")
    Path("long.wav").write_bytes(head)
    os.truncate("long.wav", 44 + 24_000_000)
    code = f"""
import os, resource
from ssm_manual.cli import main

os.chdir({str(folder)!r})
usage = []
for name in ("a.wav", "long.wav"):
    assert main(["apply", "m.safetensors", name, "--out", "b.wav"]) == 0
    usage.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print("more:", usage[1] - usage[0])
"""
    if sys.platform.startswith("linux"):  # kilobytes there
        assert int(re.search(r"more: (\d+)", run_python(code))[1]) < 12 * 1024
        assert os.path.getsize("b.wav") == 24_000_044


def test_help_teaches(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["apply", "--help"])
    out = capsys.readouterr().out
    for option in ("MODEL", "FILE", "--out", "--block", "--rate", "--resample", "--figure"):
        assert option in out
    assert "examples" in out
    assert max(map(len, out.splitlines())) <= 100


def test_help_does_not_wait_for_slow_imports():
    code = (
        "import sys, ssm_manual.cli.apply\n"
        "slow = {'numba', 'matplotlib', 'scipy', 'tqdm'} & set(sys.modules)\n"
        "sys.exit(f'imported: {slow}' if slow else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
