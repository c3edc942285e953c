"""``ssm-manual apply --stream``, and streams that are taken up again.

SciPy filters the same signals, and a recording of the same samples goes through ``apply`` itself.
"""

import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import PACKAGE
from scipy.io import wavfile
from scipy.signal import lfilter

from ssm_manual import checkpoint
from ssm_manual.cli import _apply_store, _apply_stream, _raw, _stream_report, main
from ssm_manual.cli._apply_store import Recorder
from ssm_manual.cli._apply_stream import Session
from ssm_manual.models import DiagonalSSM, RecordingFilter, SequenceModel
from ssm_manual.models.stream import Stream
from ssm_manual.store import Run, Store, StoreError

#: One real pole: ``y_t = sum_k 0.3 0.9^k u_{t-k} + 0.1 u_t``.
POLE, GAIN, D = 0.9, 0.3, 0.1
OFFSET, SCALE, DELAY = 0.02, 0.25, 3


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save()
    return tmp_path


def save(path="m.safetensors", *, offset=OFFSET, scale=SCALE, delay=DELAY, rate=8000.0):
    model = DiagonalSSM(np.array([POLE], np.complex64), 1.0, GAIN / 2, D)
    filter = RecordingFilter(model, offset=offset, scale=scale, delay=delay, rate=rate)
    checkpoint.save(path, filter)
    return filter


def save_deep(both):
    """As small as the deep filters of the other tests."""
    options = {"modes": 2, "norm": "none", "dropout": 0.0, "task": "regression"}
    options["layer_options"] = {"bidirectional": both}
    model = SequenceModel(1, 4, 1, 1, rng=np.random.default_rng(0), **options)
    filter = RecordingFilter(model, delay=0 if both else 3, rate=8.0)
    checkpoint.save("m.safetensors", filter)
    return filter


def expected(samples, delay=DELAY):
    """Each row followed by silence, filtered by SciPy and moved back by the delay."""
    u = (samples - OFFSET) / SCALE
    u = np.concatenate([u, np.zeros((u.shape[0], delay))], axis=1)
    y = lfilter([GAIN], [1, -POLE], u, axis=1) + D * u
    return OFFSET + SCALE * y[:, delay:]


class standard:
    """Context manager: descriptors 0 and 1 lead elsewhere."""

    def __init__(self, source, sink):
        self._new = source, sink

    def __enter__(self):
        self._kept = [os.dup(fd) for fd in (0, 1)]
        for fd, new in enumerate(self._new):
            os.dup2(new, fd)

    def __exit__(self, *raised):
        for fd, kept in enumerate(self._kept):
            os.dup2(kept, fd)
            os.close(kept)


def apply(*argv):
    return main(["apply", "m.safetensors", *map(str, argv)])


def stream(data, *argv, dtype="<f4"):
    """Status and output of ``apply --stream`` for these bytes."""
    Path("in.raw").write_bytes(data)
    fds = [
        os.open("in.raw", os.O_RDONLY),
        os.open("out.raw", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ]
    with standard(*fds):
        status = apply("--stream", *argv)
    for fd in fds:
        os.close(fd)
    return status, np.fromfile("out.raw", dtype)


def raw(samples, dtype="<f4"):
    return samples.T.astype(dtype).tobytes()


def noise(rng, channels=1, length=300):
    return rng.uniform(-0.3, 0.3, (channels, length)).astype(np.float32)


# ---------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("block", [1, 7, 64, 100, 1000, None])
def test_it_is_the_filter(block, rng, capsys):
    samples = noise(rng)
    options = [] if block is None else ["--block", block]
    status, out = stream(raw(samples), *options)
    assert status == 0
    np.testing.assert_allclose(out, expected(samples)[0], rtol=0, atol=2e-7)
    whole = checkpoint.load("m.safetensors")(samples)
    assert out.tobytes() == whole.astype("<f4").tobytes()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"reading float32, 1 channel, in blocks of {block or 64} sample" in captured.err
    assert "read: 300 samples of 1 channel (37.5 ms); written: 300" in captured.err


def test_a_block_longer_than_any_memory(rng):
    samples = noise(rng)
    status, out = stream(raw(samples), "--block", 10**15)
    assert status == 0
    np.testing.assert_allclose(out, expected(samples)[0], rtol=0, atol=2e-7)


def test_the_header_of_a_wav_file_is_told_and_goes_through(rng, capsys):
    data = b"RIFF" + raw(noise(rng) * 2**15, "<i2")
    status, out = stream(data, "--format", "int16", dtype="<i2")
    assert (status, len(out)) == (0, 302)
    assert capsys.readouterr().err.count("begins with the header of a .wav file") == 1
    stream(data[4:] + data, "--format", "int16")
    assert "header" not in capsys.readouterr().err


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 64, 67, 128])
def test_it_is_as_long_as_the_input(length, rng):
    samples = noise(rng, length=length)
    status, out = stream(raw(samples))
    assert status == 0
    np.testing.assert_allclose(out, expected(samples)[0], rtol=0, atol=2e-7)


@pytest.mark.parametrize("format", ["float32", "int16"])
def test_channels_are_interleaved(format, rng):
    samples = noise(rng, channels=3)
    scale, dtype = (1, "<f4") if format == "float32" else (2**15, "<i2")
    data = raw(samples * scale, dtype)
    status, out = stream(data, "--channels", 3, "--format", format, "--block", 50, dtype=dtype)
    assert status == 0
    taken = np.frombuffer(data, dtype).reshape(-1, 3).T / scale
    atol = 2e-7 if format == "float32" else 0.51 / scale
    np.testing.assert_allclose(out.reshape(-1, 3).T / scale, expected(taken), rtol=0, atol=atol)


def test_int16_is_as_in_a_wav_file(rng, capsys):
    """Fractions of full scale, rounded to the nearest, clipped at both ends and counted."""
    samples = rng.integers(-(2**15), 2**15, 400).astype("<i2")
    samples[100:150], samples[200:250] = 2**15 - 1, -(2**15)
    status, out = stream(samples.tobytes(), "--format", "int16", "--json", "a.json", dtype="<i2")
    assert status == 0
    wavfile.write("a.wav", 8000, samples)
    assert apply("a.wav", "--out", "b.wav") == 0
    np.testing.assert_array_equal(out, wavfile.read("b.wav")[1])
    exact = expected(samples[np.newaxis] / 2**15)[0] * 2**15
    clipped = np.count_nonzero((np.rint(exact) > 2**15 - 1) | (np.rint(exact) < -(2**15)))
    assert min(np.count_nonzero(out == 2**15 - 1), np.count_nonzero(out == -(2**15))) > 20
    assert json.loads(Path("a.json").read_text())["clipped"] == clipped > 40
    assert f"clipped: {clipped} samples" in capsys.readouterr().err


def test_another_rate(rng, capsys):
    model = DiagonalSSM([-250.0], 250.0, 0.5, parameters="continuous", dt=1 / 8000)
    filter = RecordingFilter(model, delay=8, rate=8000.0)
    checkpoint.save("m.safetensors", filter)
    samples = noise(rng)
    assert stream(raw(samples), "--rate", 4000)[0] == 2
    assert "standard input has 4000 samples per second" in capsys.readouterr().err
    status, out = stream(raw(samples), "--rate", 4000, "--resample", "dt")
    assert status == 0
    np.testing.assert_array_equal(out, filter.resampled(4000)(samples)[0].astype(np.float32))


def test_a_causal_deep_filter_to_rounding(rng):
    filter = save_deep(False)
    samples = noise(rng, length=50)
    status, out = stream(raw(samples), "--block", 20)
    assert status == 0
    np.testing.assert_allclose(out, filter(samples)[0], rtol=0, atol=1e-5)


def test_a_filter_in_both_directions_is_refused(rng, capsys):
    save_deep(True)
    status, out = stream(raw(noise(rng)))
    assert (status, out.size) == (2, 0)
    assert "reads in both directions" in capsys.readouterr().err


# ----------------------------------------------------------------------------------- what arrives


class Running:
    """The command in this process, fed and read by another thread through pipes."""

    def __init__(self, act, *argv):
        self._in, self.feed = os.pipe()
        self.output, self._out = os.pipe()
        self.status, self._act, self._argv, self.problem = None, act, argv, None

    def run(self):
        thread = threading.Thread(target=self._other)
        thread.start()
        try:
            with standard(self._in, self._out):
                self.status = apply("--stream", *self._argv)
        finally:
            os.close(self._in)
            os.close(self._out)
            thread.join(30)
        if self.problem:
            raise self.problem
        return self.status

    def _other(self):
        try:
            self._act(self)
        except BaseException as error:
            self.problem = error
        finally:
            for fd in (self.feed, self.output):
                if fd is not None:
                    os.close(fd)

    def write(self, data):
        os.write(self.feed, data)

    def close_input(self):
        os.close(self.feed)
        self.feed = None

    def close_output(self):
        os.close(self.output)
        self.output = None

    def read(self, count):
        """So many samples, which must come."""
        data = b""
        while len(data) < 4 * count:
            assert select.select([self.output], [], [], 20)[0], f"{len(data) // 4} of {count}"
            piece = os.read(self.output, 4 * count - len(data))
            assert piece, "the output has ended"
            data += piece
        return np.frombuffer(data, "<f4")

    def silent(self):
        return not select.select([self.output], [], [], 0.05)[0]

    def rest(self):
        return np.frombuffer(b"".join(iter(lambda: os.read(self.output, 65536), b"")), "<f4")


def test_a_block_comes_out_when_its_last_byte_is_there_and_not_before(rng):
    samples = noise(rng, length=40)
    data, out = raw(samples), []

    def act(running):
        for at in range(0, 96, 5):  # across the borders of samples and of blocks
            running.write(data[at : min(at + 5, 63)] if at < 63 else b"")
        assert running.silent()  # 15 samples and three bytes of the sixteenth
        running.write(data[63:64])
        out.append(running.read(16 - DELAY))
        assert running.silent()
        running.write(data[64:130])
        out.append(running.read(16))
        running.write(data[130:])
        assert running.silent()
        running.close_input()
        out.append(running.read(8 + DELAY))

    assert Running(act, "--block", 16).run() == 0
    np.testing.assert_allclose(np.concatenate(out), expected(samples)[0], rtol=0, atol=2e-7)


def test_a_pipe_that_takes_a_few_bytes_at_a_time(rng, monkeypatch):
    few = SimpleNamespace(**{name: getattr(os, name) for name in ("read", "pipe", "close")})
    few.set_blocking, few.write = os.set_blocking, lambda fd, data: os.write(fd, data[:7])
    monkeypatch.setattr(_raw, "os", few)
    samples = noise(rng)
    status, out = stream(raw(samples))
    assert status == 0
    np.testing.assert_allclose(out, expected(samples)[0], rtol=0, atol=2e-7)


def test_who_is_woken_by_signals_is_as_before(rng):
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    former = signal.set_wakeup_fd(waker)
    try:
        assert stream(raw(noise(rng)))[0] == 0
        assert signal.set_wakeup_fd(waker) == waker
    finally:
        signal.set_wakeup_fd(former)
        os.close(woken)
        os.close(waker)


@pytest.fixture
def heard():
    """Signals as in a program of the foreground: in the background a shell has them ignored."""
    numbers = signal.SIGINT, signal.SIGTERM
    handlers = signal.default_int_handler, signal.SIG_DFL
    before = [signal.signal(*pair) for pair in zip(numbers, handlers)]
    yield
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_what_was_read_is_written(number, status, rng, capsys, heard):
    samples = noise(rng, length=150)
    before, out = signal.getsignal(number), []

    def act(running):
        running.write(raw(samples) + b"xyz")
        out.append(running.read(128 - DELAY))
        while select.select([running._in], [], [], 0)[0]:
            time.sleep(0.01)  # the last 22 samples have been read, too
        os.kill(os.getpid(), number)
        out.append(running.read(22 + DELAY))

    assert Running(act, "--json", "a.json").run() == status
    np.testing.assert_allclose(np.concatenate(out), expected(samples)[0], rtol=0, atol=2e-7)
    assert "interrupted; the output is complete up to sample 150" in capsys.readouterr().err
    assert json.loads(Path("a.json").read_text())["status"] == "interrupted"
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_ignored(rng, heard):
    """As nohup and a shell's "&" ask for."""
    samples, out = noise(rng, length=200), []
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def act(running):
        running.write(raw(samples[:, :100]))
        running.read(64 - DELAY)
        os.kill(os.getpid(), signal.SIGINT)
        running.write(raw(samples[:, 100:]))
        running.close_input()
        out.append(running.rest())

    assert Running(act).run() == 0
    assert out[0].size == 136 + DELAY


def test_a_signal_that_means_nothing_here(rng, heard):
    """It wakes who waits; the next Ctrl-C is heard at once all the same."""
    samples, out = noise(rng, length=64), []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)

    def act(running):
        running.write(raw(samples))
        out.append(running.read(64 - DELAY))
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        out.append(running.read(DELAY))

    try:
        assert Running(act).run() == 130
    finally:
        signal.signal(signal.SIGUSR1, before)
    np.testing.assert_allclose(np.concatenate(out), expected(samples)[0], rtol=0, atol=2e-7)


def test_a_second_signal_does_not_wait_for_a_reader(rng, capsys, heard):
    """Nobody reads, the pipe is full, and the first Ctrl-C cannot end the write."""
    data = raw(noise(rng, length=1 << 16))

    def act(running):
        for at in range(0, len(data), 4096):
            if not select.select([], [running.feed], [], 0.5)[1]:
                break
            running.write(data[at : at + 4096])
        for _ in range(2):
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)

    assert Running(act).run() == 130
    assert capsys.readouterr().err.endswith("ssm-manual apply: interrupted\n")


def test_a_reader_that_leaves(rng, capsys):
    def act(running):
        running.write(raw(noise(rng, length=640)))
        running.read(64)
        running.close_output()
        running.write(raw(noise(rng, length=640)))
        running.close_input()

    # our own copy of the reading end must be gone as well
    assert Running(act).run() == 141
    err = capsys.readouterr().err
    assert "reading float32" in err
    assert "read:" not in err


def test_as_a_program_in_a_pipe(rng):
    """Bytes on one side, bytes on the other, words on the third; and a reader that leaves."""
    samples = noise(rng, length=20_000)
    command = [sys.executable, "-W", "error", "-m", "ssm_manual", "apply", "m.safetensors"]
    program = subprocess.Popen(
        [*command, "--stream"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    program.stdin.write(raw(samples[:, :10_000]))
    program.stdin.flush()
    out = program.stdout.read(4 * 5000)
    program.stdout.close()
    _, err = program.communicate(raw(samples[:, 10_000:]), timeout=60)
    assert program.returncode == 141, err
    assert b"Traceback" not in err
    np.testing.assert_allclose(
        np.frombuffer(out, "<f4"), expected(samples)[0, :5000], rtol=0, atol=2e-7
    )


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("length", [0, 63, 64, 100])
def test_an_end_in_the_middle_of_a_sample(length, rng, capsys):
    samples = noise(rng, channels=2, length=length)
    status, out = stream(raw(samples) + b"12345", "--channels", 2, "--json", "a.json")
    assert status == 2
    np.testing.assert_allclose(out.reshape(-1, 2).T, expected(samples), rtol=0, atol=2e-7)
    assert (
        f"standard input ended in the middle of sample {length}, after 5 of its 8 bytes (float32, "
        "2 channels)" in capsys.readouterr().err
    )
    report = json.loads(Path("a.json").read_text())
    assert (report["status"], report["written"]) == ("failed", length)


QUIET_NAN = np.array([0x7FC00000], "<u4").view("<f4")[0]
SIGNALLING = np.array([0x7F800001], "<u4")


@pytest.mark.parametrize("at", [0, 1, 63, 64, 70, 127])
def test_nan_is_named_and_what_came_before_is_written(at, rng, capsys):
    samples = noise(rng, channels=2, length=200)
    samples[1, at] = QUIET_NAN
    status, out = stream(raw(samples), "--channels", 2)
    assert status == 2
    np.testing.assert_allclose(out.reshape(-1, 2).T, expected(samples[:, :at]), rtol=0, atol=2e-7)
    assert f"sample {at} of channel 1 in standard input is nan" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bits", [0x7F800001, 0x7F800000, 0xFF800000, 0x7F7FFFFF])
def test_infinity_signalling_nan_and_what_the_model_cannot_hold(bits, rng, capsys):
    """The last one is the largest float32, beyond it in the model's units of 0.25."""
    samples = noise(rng, length=100)
    data = bytearray(raw(samples))
    data[4 * 80 : 4 * 81] = np.array([bits], "<u4").tobytes()
    status, out = stream(bytes(data))
    assert (status, out.size) == (2, 80)
    assert "sample 80 of channel 0 in standard input is" in capsys.readouterr().err


def test_output_beyond_the_format(capsys):
    """A model in double precision whose gain takes the largest numbers beyond single precision."""
    filter = RecordingFilter(DiagonalSSM([POLE], 1.0, 1.0), delay=3)
    checkpoint.save("m.safetensors", filter)
    samples = np.zeros((1, 200), np.float32)
    samples[0, 100] = 3e38
    status, out = stream(raw(samples))
    assert (status, out.size) == (2, 97)
    assert "restored sample 97 of channel 0 is 6e+38, beyond the range" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--stream", "a.wav"], "FILE is 'a.wav'; it does not go with --stream"),
        (["--stream", "--out", "a.wav"], "--out is 'a.wav'; it does not go with --stream"),
        (["--stream", "--figure", "a.png"], "--figure is 'a.png'; it does not go with --stream"),
        (["--stream", "--channels", "0"], "--channels is 0; it must be at least 1"),
        (["--stream", "--block", "0"], "--block is 0; it must be at least 1"),
        (["--stream", "--rate", "0"], "--rate is 0"),
        (["--stream", "--json", "m.safetensors"], "the file of MODEL"),
        (["--stream", "--resample", "dt"], "standard input does not tell its sampling rate"),
        (["--stream", "--rate", "44100"], "standard input has 44100 samples per second"),
        ([], "FILE is missing"),
        (["--out", "b.wav"], "FILE is missing"),
        (["--out", "b.wav", "a.wav"], "a.wav: is not a readable .wav file"),
        (["a.wav"], "--out is missing"),
        (["a.wav", "--out", "b.wav", "--format", "int16"], "--format is 'int16'; it goes with"),
        (["a.wav", "--out", "b.wav", "--channels", "2"], "--channels is 2; it goes with --stream"),
    ],
)
def test_options_that_do_not_fit(argv, message, capsys):
    Path("a.wav").write_bytes(b"")
    with open(os.devnull, "r+b") as null, standard(null.fileno(), null.fileno()):
        assert apply(*argv) == 2
    assert message in capsys.readouterr().err


def test_a_model_for_other_channels(capsys):
    model = DiagonalSSM([POLE], 1.0, 1.0)
    checkpoint.save("m.safetensors", RecordingFilter([model, model]))
    assert stream(b"")[0] == 2
    assert "has a model for each of 2 channels" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk(rng, capsys):
    Path("in.raw").write_bytes(raw(noise(rng)))
    fds = [os.open("in.raw", os.O_RDONLY), os.open("/dev/full", os.O_WRONLY)]
    with standard(*fds):
        status = apply("--stream", "--json", "a.json", "--store", "runs.db")
    for fd in fds:
        os.close(fd)
    assert status == 2
    assert "No space left on device" in capsys.readouterr().err
    report = json.loads(Path("a.json").read_text())
    assert (report["status"], report["written"]) == ("failed", 0)
    assert "No space left on device" in report["error"]
    _, state, error, _, _, _ = only_run()
    assert state == "failed"
    assert "No space left on device" in error


def test_everything_is_compiled_before_the_first_sample_is_read(rng, monkeypatch):
    calls = []

    def told(cls, name):
        method = getattr(cls, name)
        monkeypatch.setattr(cls, name, lambda *args: calls.append(name) or method(*args))

    told(Stream, "push")
    told(_raw.Source, "read")
    assert stream(raw(noise(rng, length=64)))[0] == 0
    assert calls.index("read") >= 3
    assert calls.count("read") == 2


@pytest.mark.parametrize("end", ["input", "output"])
def test_a_terminal_is_refused(end, capsys):
    pty = pytest.importorskip("pty")
    master, terminal = pty.openpty()
    with open(os.devnull, "r+b") as null:
        fds = (terminal, null.fileno()) if end == "input" else (null.fileno(), terminal)
        with standard(*fds):
            status = apply("--stream")
    os.close(master)
    os.close(terminal)
    assert status == 2
    err = capsys.readouterr().err
    assert f"standard {end} is a terminal" in err
    assert ("> restored.raw" if end == "output" else "< samples.raw") in err


def test_a_closed_output(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert apply("--stream") == 2
    assert "standard output is closed" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------- report


def test_the_report(rng):
    status, _ = stream(
        raw(noise(rng, channels=2, length=1000)), "--channels", 2, "--json", "a.json"
    )
    assert status == 0
    report = json.loads(Path("a.json").read_text())
    assert (report["samples"], report["written"], report["blocks"]) == (1000, 1000, 16)
    assert (report["status"], report["error"], report["rate"]) == ("finished", None, 8000.0)
    latency, inside = report["latency"], report["filtering"]
    assert 0 < latency["median"] <= latency["p99"] <= latency["maximum"]
    assert inside["median"] <= latency["median"]
    assert report["busy_seconds"] <= report["seconds"]
    fast = 1000 / 8000 / report["busy_seconds"]
    assert abs(report["real_time_factor"] / fast - 1) < 1e-12


def test_what_is_latency_and_what_is_filtering(rng, monkeypatch):
    """By a clock that stands still but while a block is filtered, 2 s, or written, 5 s."""
    now = [0.0]

    def lasting(seconds, function):
        def call(*args):
            now[0] += seconds
            return function(*args)

        return call

    monkeypatch.setattr(_apply_stream, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(Session, "compile", lambda self: None)
    monkeypatch.setattr(Stream, "push", lasting(2.0, Stream.push))
    monkeypatch.setattr(_raw, "write", lasting(5.0, _raw.write))
    assert stream(raw(noise(rng, length=640)), "--json", "a.json")[0] == 0
    report = json.loads(Path("a.json").read_text())
    assert set(report["filtering"].values()) == {2.0}
    assert set(report["latency"].values()) == {7.0}
    assert report["busy_seconds"] == 70.0
    assert report["seconds"] == 70.0 + 4.0 + 5.0  # and the end: two pushes, one write


def test_no_rate_no_real_time(rng, capsys):
    save(rate=None)
    assert stream(raw(noise(rng)), "--json", "a.json")[0] == 0
    assert json.loads(Path("a.json").read_text())["real_time_factor"] is None
    assert "real time" not in capsys.readouterr().err


def test_latencies_in_bounded_memory(rng):
    latency = _stream_report.Latency()
    size = len(latency._counts)
    assert latency.quantile(0.5) is None
    times = np.exp(rng.uniform(np.log(1e-6), np.log(1.0), 5001))
    for seconds in times:
        latency.add(seconds)
    for share in (0.01, 0.5, 0.99):
        exact = np.quantile(times, share, method="inverted_cdf")
        assert exact <= latency.quantile(share) * (1 + 1e-12)
        assert latency.quantile(share) <= exact * 1.0101
    assert latency.quantile(1.0) == latency.longest == times.max()
    assert abs(latency.total / times.sum() - 1) < 1e-12
    for seconds in (0.0, 1e-9, 1e9):
        latency.add(seconds)
    assert len(latency._counts) == size < 3000
    assert latency.longest == 1e9


def test_the_garbage_collector_is_as_before(rng):
    stream(raw(noise(rng)))
    assert gc.get_freeze_count() == 0
    assert gc.isenabled()


# ------------------------------------------------------------------------------------------ store


def only_run():
    with Store("runs.db", readonly=True) as store:
        (run,) = store.runs()
        signals = {name: run.read(name) for name in run.signals}
        return run, run.status, run.error, run.scores, signals, run.signals["restored"].rate


def stored_so_far():
    """Samples of the input that another process would see while the stream is running."""
    with Store("runs.db", readonly=True) as store:
        return store.runs()[0].signals["input"].length


@pytest.mark.parametrize("format", ["float32", "int16"])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_store_has_the_same_bits_as_both_pipes(format, channels, rng, capsys):
    dtype, scale = ("<f4", 1) if format == "float32" else ("<i2", 2**15)
    samples = noise(rng, channels=channels, length=3000)
    data = raw(samples * scale, dtype)
    options = ["--format", format, "--channels", channels, "--store", "runs.db", "--json", "a.json"]
    status, out = stream(data, *options, dtype=dtype)
    assert status == 0
    run, state, error, scores, signals, rate = only_run()
    assert (run.name, state, error, rate) == ("apply --stream", "finished", "", 8000.0)
    assert (run.config["format"], run.config["block"]) == (format, 64)
    for name, expected_data in (("input", data), ("restored", out.tobytes())):
        assert signals[name].dtype == np.dtype(dtype)
        assert signals[name].shape == ((3000,) if channels == 1 else (2, 3000))
        assert signals[name].T.tobytes() == expected_data
    report = json.loads(Path("a.json").read_text())
    assert scores["samples"] == 3000
    assert scores["latency_p99"] == report["latency"]["p99"]
    assert (report["store"], report["run"]) == ("runs.db", run.id)
    assert f"stored: run {run.id} of runs.db" in capsys.readouterr().err


def test_the_store_of_a_stream_that_failed(rng):
    samples = noise(rng, length=200)
    samples[0, 150] = np.nan
    status, out = stream(raw(samples), "--store", "runs.db")
    assert status == 2
    _, state, error, _, signals, _ = only_run()
    assert (state, out.size) == ("failed", 150)
    assert "sample 150 of channel 0" in error
    assert signals["input"].tobytes() == raw(samples[:, :150])
    assert signals["restored"].tobytes() == out.tobytes()


def test_the_store_of_a_stream_that_was_broken_off(rng, heard):
    samples, out = noise(rng, length=100), []

    def act(running):
        running.write(raw(samples))
        out.append(running.read(64 - DELAY))
        while select.select([running._in], [], [], 0)[0]:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        out.append(running.read(36 + DELAY))

    assert Running(act, "--store", "runs.db").run() == 130
    _, state, error, _, signals, _ = only_run()
    assert (state, error) == ("interrupted", "SIGINT")
    assert signals["input"].tobytes() == raw(samples)
    assert signals["restored"].tobytes() == np.concatenate(out).tobytes()


def test_the_store_of_a_stream_whose_reader_left(rng):
    def act(running):
        running.close_output()
        running.write(raw(noise(rng, length=640)))
        running.close_input()

    assert Running(act, "--store", "runs.db").run() == 141
    _, state, error, _, _, _ = only_run()
    assert (state, error) == ("interrupted", "the reader of the output has left")


def test_what_is_slow_is_stored_after_a_second(rng, monkeypatch):
    """Few samples, but old ones."""
    monkeypatch.setattr(_apply_store, "SECONDS", 0.05)
    found = []

    def act(running):
        for _ in range(3):
            running.write(raw(noise(rng, length=64)))
            time.sleep(0.1)
        found.append(stored_so_far())
        running.close_input()
        running.rest()

    assert Running(act, "--store", "runs.db").run() == 0
    assert found[0] >= 64


def test_what_is_much_is_stored_at_once(rng, monkeypatch):
    """However young it is."""
    monkeypatch.setattr(_apply_store, "SECONDS", 1e9)
    monkeypatch.setattr(_apply_store, "SAMPLES", 128)
    found = []

    def act(running):
        running.write(raw(noise(rng, length=192)))
        running.read(192 - DELAY)
        running.write(raw(noise(rng, length=64)))  # it is answered when the last is stored
        running.read(64)
        found.append(stored_so_far())
        running.close_input()
        running.rest()

    assert Running(act, "--store", "runs.db").run() == 0
    assert found[0] in (128, 192)


def test_input_and_output_are_stored_together_or_not_at_all(monkeypatch):
    def append(self, name, block):
        if name == "restored":
            raise StoreError("the disk is full")
        return appended(self, name, block)

    appended = Run.append
    with Recorder("runs.db", "a", {}) as record:
        for name in ("input", "restored"):
            record.signal(name, "float32", 1, None)
            record.add(name, np.ones((1, 5), np.float32))
        with monkeypatch.context() as full:
            full.setattr(Run, "append", append)
            with pytest.raises(StoreError, match="full"):
                record.flush()
    _, _, _, _, signals, _ = only_run()
    assert signals["input"].size == signals["restored"].size == 5  # at the end, once each


def test_a_recording_is_stored_too(rng, capsys):
    samples = noise(rng, channels=2)
    np.save("a.npy", samples)
    assert apply("a.npy", "--out", "b.npy", "--block", 70, "--store", "runs.db") == 0
    run, state, _, scores, signals, _ = only_run()
    assert (state, scores["samples"], run.config["file"]) == ("finished", 300, "a.npy")
    np.testing.assert_array_equal(signals["input"], samples)
    np.testing.assert_array_equal(signals["restored"], np.load("b.npy"))
    assert f"stored: run {run.id} of runs.db" in capsys.readouterr().out


def test_a_store_that_is_none(rng, capsys):
    Path("runs.db").write_bytes(b"no database at all" * 100)
    status, out = stream(raw(noise(rng)), "--store", "runs.db")
    assert (status, out.size) == (2, 0)
    assert "--store: runs.db: " in capsys.readouterr().err


# -------------------------------------------------------------------------------- streams in Python


def in_blocks(filter, x, size):
    stream = filter.stream(len(x))
    parts = [stream.push(x[:, at : at + size]) for at in range(0, x.shape[1], size)]
    return np.concatenate([*parts, stream.finish()], axis=1)


@pytest.mark.parametrize("size", [1, 3, 7, 63, 64, 65, 100, 130])
def test_subnormal_output_is_the_same_for_any_cutting(size):
    """The recurrence sets subnormal states to zero at fixed samples, wherever blocks begin."""
    poles = np.array([0.5, 0.4 + 0.3j], np.complex64)
    filter = RecordingFilter(DiagonalSSM(poles, 1.0, [0.5, 0.1]))
    x = np.zeros((2, 700), np.float32)
    x[:, 0], x[1, 10], x[0, 333] = 1, -3, 1e-30
    whole = filter(x)
    assert np.any((np.abs(whole) < np.finfo(np.float32).tiny) & (whole != 0))
    assert in_blocks(filter, x, size).tobytes() == whole.tobytes()


def test_a_block_of_many_pieces_is_cut_where_short_ones_are():
    """Subnormal states, which become zero at fixed samples, wherever a piece of 2^16 ends."""
    rows = 20
    filter = RecordingFilter(DiagonalSSM(np.array([0.5], np.complex64), 1.0, 0.5))
    x = np.zeros((rows, 2**16 + 200), np.float32)
    x[np.arange(rows), 2**16 - 150 + 7 * np.arange(rows)] = 1
    whole = filter.stream(rows).push(x)
    assert np.any((np.abs(whole) < np.finfo(np.float32).tiny) & (whole != 0))
    head = 2**16 - 640
    stream = filter.stream(rows)
    parts = [stream.push(x[:, :head])]
    parts += [stream.push(x[:, at : at + 64]) for at in range(head, x.shape[1], 64)]
    assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()


def test_a_delay_longer_than_a_block_of_silence(rng, monkeypatch):
    monkeypatch.setattr("ssm_manual.models.stream._SILENCE", 10)
    x = rng.standard_normal((1, 100)).astype(np.float32)
    found = in_blocks(save(delay=25), x, 64)
    np.testing.assert_allclose(found, expected(x, delay=25), rtol=0, atol=3e-7)


@pytest.mark.parametrize("order", ["C", "F"])
def test_layout_and_bytes_of_a_block_do_not_matter(order, rng):
    filter = checkpoint.load("m.safetensors")
    x = rng.standard_normal((2, 200)).astype(np.float32)
    whole = filter(x).tobytes()
    assert filter(np.asarray(x, order=order)).tobytes() == whole
    assert filter(x.astype(">f4", order=order)).tobytes() == whole
    assert filter(x[:, ::-1].copy()[:, ::-1]).tobytes() == whole
    assert filter(x.astype(float)).tobytes() == whole


def models(kind):
    if kind == "deep":
        return save_deep(False)
    if kind == "both ways":
        return save_deep(True)
    count = 2 if kind == "two models" else 1
    parts = [
        DiagonalSSM(np.array([POLE, 0.5 + 0.4j * i], np.complex64), 1.0, GAIN, D)
        for i in range(count)
    ]
    return RecordingFilter(parts, offset=OFFSET, scale=SCALE, delay=70)


@pytest.mark.parametrize("kind", ["one model", "two models", "deep", "both ways"])
@pytest.mark.parametrize("cut", [0, 1, 64, 90, 149])
def test_a_stream_goes_on_from_its_state(kind, cut, rng, tmp_path):
    """In another process: through a file, into a stream of a filter from a file."""
    filter = models(kind)
    checkpoint.save("f.safetensors", filter)
    channels = 1 if "deep" in kind or "ways" in kind else 2
    x = rng.standard_normal((channels, 150)).astype(np.float32)
    stream = filter.stream(channels)
    head = stream.push(x[:, :cut])
    np.savez("state.npz", **stream.state())
    rest = [stream.push(x[:, cut:]), stream.finish()]  # which does not touch the copy
    with np.load("state.npz") as state:
        again = checkpoint.load("f.safetensors").stream(channels, state=state)
    new = [again.push(x[:, cut:]), again.finish()]
    for old_part, new_part in zip(rest, new):
        assert old_part.tobytes() == new_part.tobytes()
    if kind in ("one model", "two models"):
        assert np.concatenate([head, *new], axis=1).tobytes() == filter(x).tobytes()


def test_a_state_in_any_order(rng):
    """As a file, or a message, may hand it back."""
    filter = models("one model")
    x = rng.standard_normal((2, 150)).astype(np.float32)
    stream = filter.stream(2)
    head = stream.push(x[:, :90])
    state = dict(reversed(stream.state().items()))
    again = filter.stream(2, state=state)
    run = np.concatenate([head, again.push(x[:, 90:]), again.finish()], axis=1)
    assert run.tobytes() == filter(x).tobytes()


def test_one_state_begins_many_streams(rng):
    filter = models("one model")
    x = rng.standard_normal((1, 200)).astype(np.float32)
    stream = filter.stream()
    head = stream.push(x[:, :90])
    state = stream.state()
    stream.push(x[:, 90:])  # leaves the copy alone, and so do the others
    for _ in range(2):
        again = filter.stream(state=state)
        run = np.concatenate([head, again.push(x[:, 90:]), again.finish()], axis=1)
        assert run.tobytes() == filter(x).tobytes()


@pytest.mark.parametrize("cut", [131, 140, 150, 191])
def test_a_state_that_is_subnormal(cut):
    """The samples since the last border belong to it: they are run again."""
    filter = RecordingFilter(DiagonalSSM(np.array([0.5], np.complex64), 1.0, 0.5))
    x = np.zeros((1, 300), np.float32)
    x[0, 130] = 1e-37
    whole = filter(x)
    assert 0 < whole[0, 140] < np.finfo(np.float32).tiny
    stream = filter.stream()
    head = stream.push(x[:, :cut])
    again = filter.stream(state=stream.state())
    rest = [again.push(x[:, at : at + 3]) for at in range(cut, 300, 3)]
    assert np.concatenate([head, *rest], axis=1).tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: 3, "state is 3"),
        (lambda s: {}, "state has"),
        (lambda s: s | {"more": np.zeros(1)}, "state has"),
        (lambda s: s | {1: np.zeros(1)}, "state has"),
        (lambda s: s | {"held": np.zeros((2, 3))}, "state has"),
        (lambda s: {k: v for k, v in s.items() if k != "models.0.x"}, "for models.0; it must have"),
        (lambda s: s | {"channels": np.array(3)}, "state has 3 channels; this stream has 2"),
        (lambda s: s | {"skip": np.array(71)}, r"state\['skip'\] is 71; it must be at most 70"),
        (lambda s: s | {"skip": np.array(0.5)}, r"state\['skip'\]"),
        (lambda s: s | {"models.0.x": s["models.0.x"].astype(complex)}, r"x'\] has dtype"),
        (lambda s: s | {"models.0.x": s["models.0.x"][:, :1]}, r"x'\] has shape"),
        (lambda s: s | {"models.0.x": s["models.0.x"] * np.float32(np.nan)}, "finite"),
        (lambda s: s | {"models.0.since": np.zeros((2, 64), np.float32)}, "fewer than 64"),
    ],
)
def test_a_state_that_does_not_fit(change, message, rng):
    filter = models("one model")
    stream = filter.stream(2)
    stream.push(rng.standard_normal((2, 90)))
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
        filter.stream(2, state=change(stream.state()))


def test_a_finished_stream_has_no_state():
    stream = models("one model").stream()
    stream.finish()
    with pytest.raises(ValueError, match="the stream was finished"):
        stream.state()


# ----------------------------------------------------------------------------------------- memory


@pytest.mark.slow
def test_ten_million_samples_in_constant_memory(rng):
    """The same bits as all at once, and what 10^7 samples take more than 10^5: nothing."""
    poles = DiagonalSSM.initial(64, rng=rng)
    filter = RecordingFilter(poles, offset=0.01, scale=0.25, delay=8, rate=48000.0)
    checkpoint.save("m.safetensors", filter)
    launcher = (  # small: the system counts the memory of whoever starts a program as that one's
        "import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:]); r = os.wait4(p.pid, 0);"
        "print(r[2].ru_maxrss, file=sys.stderr); sys.exit(os.waitstatus_to_exitcode(r[1]))"
    )
    command = [sys.executable, "-m", "ssm_manual", "apply", "m.safetensors", "--stream"]
    peaks = {}
    for length in (10**5, 10**7):
        samples = rng.standard_normal((1, length), dtype=np.float32)
        Path("in.raw").write_bytes(raw(samples))
        with open("in.raw", "rb") as source, open("out.raw", "wb") as sink:
            done = subprocess.run(
                [sys.executable, "-c", launcher, *command],
                stdin=source,
                stdout=sink,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
            )
        assert done.returncode == 0, done.stderr
        peaks[length] = int(done.stderr.split()[-1])
    assert peaks[10**7] < peaks[10**5] + 4096  # kilobytes
    out = np.fromfile("out.raw", "<f4")
    assert out.tobytes() == filter(samples).astype("<f4").tobytes()
