"""Recordings in files: read in blocks, written in blocks, malformed ones refused."""

import io
import os
import shutil
import struct
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from conftest import run_python
from scipy.io import wavfile

from ssm_manual.tasks import _wav, recordings, signals
from ssm_manual.tasks._encoding import Encoding
from ssm_manual.tasks.recordings import RecordingFile

GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # of KSDATAFORMAT_SUBTYPE_*


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def riff(data, *, code=1, channels=1, rate=8000, bits=16, before=b"", after=b"", extensible=False):
    """A .wav file by its definition."""
    frame = channels * ((bits + 7) // 8)
    outer = 0xFFFE if extensible else code
    fmt = struct.pack("<HHIIHH", outer, channels, rate, rate * frame, frame, bits)
    if extensible:
        fmt += struct.pack("<HHIH", 22, bits, 0x3, code) + GUID_TAIL
    body = b"WAVE" + before + chunk(b"fmt ", fmt) + chunk(b"data", data) + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def little(values, width):
    return b"".join(int(v).to_bytes(width, "little", signed=True) for v in values)


def put(name, content):
    with open(name, "wb") as file:
        file.write(content)
    return name


def whole(path):
    with RecordingFile(path) as file:
        return file.read()


def copy(source, target, *, size=3, change=lambda block: block, **options):
    """Write ``source`` to ``target`` block by block."""
    with RecordingFile(source) as file:
        return recordings.write(target, map(change, file.blocks(size)), file, **options)


# --------------------------------------------------------------------------------------- .wav, read


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(
    ("code", "bits", "data", "samples"),
    [
        (1, 8, bytes([0, 128, 192, 255]), [-1, 0, 0.5, 127 / 128]),
        (1, 16, little([-(2**15), 0, 2**14, 1], 2), [-1, 0, 0.5, 2.0**-15]),
        (1, 24, little([-(2**23), 0, 2**22, 1], 3), [-1, 0, 0.5, 2.0**-23]),
        (1, 32, little([-(2**31), 0, 2**30, 1], 4), [-1, 0, 0.5, 2.0**-31]),
        (1, 20, little([-(2**23), 0, 2**22, 16], 3), [-1, 0, 0.5, 2.0**-19]),
        (3, 32, struct.pack("<4f", -1.5, 0, 0.5, 3), [-1.5, 0, 0.5, 3]),
        (3, 64, struct.pack("<4d", -1.5, 0, 0.1, 3), [-1.5, 0, 0.1, 3]),
    ],
)
def test_wav_values(code, bits, data, samples, extensible):
    put("a.wav", riff(data, code=code, bits=bits, channels=2, extensible=extensible))
    with RecordingFile("a.wav") as file:
        assert (file.channels, file.length, file.rate) == (2, 2, 8000.0)
        np.testing.assert_array_equal(file.read(), np.reshape(samples, (2, 2)).T)
        np.testing.assert_array_equal(file.read(1, 1), np.reshape(samples, (2, 2)).T[:, 1:])
        assert file.read().flags.c_contiguous


def test_other_chunks_and_odd_sizes():
    before = chunk(b"LIST", b"INFOodd") + chunk(b"junk", b"")
    data = bytes(range(120, 125))  # five bytes: padded
    put("a.wav", riff(data, bits=8, before=before, after=chunk(b"cue ", b"123") + b"trash"))
    np.testing.assert_array_equal(whole("a.wav"), [(np.arange(120, 125) - 128) / 128])


def test_big_endian():
    content = b"RIFX" + struct.pack(">I", 0) + b"WAVEfmt " + struct.pack(">I", 16)
    content += struct.pack(">HHIIHH", 1, 1, 500, 1500, 3, 24)
    content += b"data" + struct.pack(">I", 6) + bytes([0x40, 0, 0, 0x80, 0, 0])
    put("a.wav", content)
    np.testing.assert_array_equal(whole("a.wav"), [[0.5, -1]])
    assert copy("a.wav", "b.wav").sample_format == "int24"
    np.testing.assert_array_equal(whole("b.wav"), [[0.5, -1]])


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_of_the_standard_library(rng, width):
    raw = rng.integers(0, 256, 6 * 2 * width, dtype=np.uint8).tobytes()
    with wave.open("a.wav", "wb") as file:
        file.setparams((2, width, 22050, 0, "NONE", "not compressed"))
        file.writeframes(raw)
    for path in ("a.wav", "b.wav"):
        if path == "b.wav":
            assert copy("a.wav", "b.wav").clipped == 0
        with wave.open(path, "rb") as file:
            assert file.readframes(6) == raw
            assert file.getparams()[:4] == (2, width, 22050, 6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64])
def test_wav_of_scipy(rng, dtype):
    data = rng.normal(0, 0.3, (7, 3))
    if np.dtype(dtype).kind != "f":
        info = np.iinfo(dtype)
        data = rng.integers(info.min, info.max, (7, 3), endpoint=True)
    data = data.astype(dtype)
    if dtype == np.int64:
        data &= ~0x7FF  # what a double can hold
    wavfile.write("a.wav", 44100, data)
    copy("a.wav", "b.wav")
    rate, again = wavfile.read("b.wav")
    assert rate == 44100
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, data)
    scale, shift = {"u": (128, 128), "i": (2.0 ** (8 * data.itemsize - 1), 0), "f": (1, 0)}[
        data.dtype.kind
    ]
    np.testing.assert_array_equal(whole("a.wav"), (data.T.astype(float) - shift) / scale)


@pytest.mark.skipif(shutil.which("sox") is None, reason="sox is not installed")
@pytest.mark.parametrize(
    "options",
    ["-b 8", "-b 16", "-b 24", "-b 32 -e signed-integer", "-b 32 -e float", "-b 64 -e float"],
)
def test_wav_of_sox(options):
    """Sox writes more than 16 bits as extensible, and reads what is written here."""
    run = {"check": True, "capture_output": True, "text": True, "timeout": 20}
    tone = ["synth", "0.01", "sine", "440", "sine", "900", "vol", "0.5"]
    make = ["sox", "-D", "-r", "16000", "-c", "2", "-n", *options.split(), "a.wav", *tone]
    subprocess.run(make, **run)
    with RecordingFile("a.wav") as file:
        assert (file.channels, file.length, file.rate) == (2, 160, 16000.0)
        wanted = 0.5 * np.sin(2 * np.pi * np.outer([440, 900], np.arange(160)) / 16000)
        depth = 8 if options == "-b 8" else 15
        np.testing.assert_allclose(file.read(), wanted, atol=1.01 * 2.0**-depth)
        extensible = file._mask is not None
    copy("a.wav", "b.wav")
    texts = [
        subprocess.run(["sox", "-D", name, "-t", "dat", "-"], **run).stdout
        for name in ("a.wav", "b.wav")
    ]
    assert texts[0].count("\n") > 160
    assert texts[0] == texts[1]
    with RecordingFile("b.wav") as file:
        assert (file._mask is not None) == extensible == ("24" in options or "signed" in options)


def test_more_than_four_gigabytes():
    """RF64, in a file with a hole: the samples at its end are found."""
    head, grid = _wav.header(Encoding(np.dtype("<i2"), 2, True), 2, 2**30 + 1, 48000)
    assert head[:4] == b"RF64"
    with open("a.wav", "wb") as file:
        file.write(head)
        grid.write(file, 2**30, np.array([[0.5], [-0.25]]))
    with RecordingFile("a.wav") as file:
        assert (file.channels, file.length, file.rate) == (2, 2**30 + 1, 48000.0)
        np.testing.assert_array_equal(file.read(2**30 - 1), [[0, 0.5], [0, -0.25]])
        riff_size, data_size, count = struct.unpack("<QQQ", head[20:44])
        assert data_size == 4 * count == 4 * (2**30 + 1)
        assert riff_size == os.path.getsize("a.wav") - 8


# ------------------------------------------------------------------------------- .wav, refused

GOOD = riff(little(range(100), 2), before=chunk(b"LIST", b"INFO"))


def test_truncated_anywhere():
    for cut in [*range(70), *range(70, len(GOOD), 9), len(GOOD) - 1]:
        put("bad.wav", GOOD[:cut])
        with pytest.raises(ValueError, match=r"bad\.wav: is not a readable \.wav file"):
            RecordingFile("bad.wav")
    put("good.wav", GOOD)
    assert whole("good.wav").shape == (1, 100)


def test_no_damage_to_the_header_is_fatal(rng):
    """Whatever the header's bytes are: a recording of the right size, or a `ValueError`."""
    refused = 0
    for _ in range(400):
        bad = bytearray(GOOD)
        bad[rng.integers(56)] = rng.integers(256)
        put("bad.wav", bytes(bad))
        try:
            samples = whole("bad.wav")
        except ValueError:
            refused += 1
        else:
            assert 1 <= samples.size <= 200
    assert refused > 100


def fmt(**changes):
    """`GOOD` with other numbers in its chunk ``fmt``."""
    names = ("code", "channels", "rate", "bytes", "frame", "bits")
    at = GOOD.index(b"fmt ") + 8
    values = dict(zip(names, struct.unpack("<HHIIHH", GOOD[at : at + 16]))) | changes
    return GOOD[:at] + struct.pack("<HHIIHH", *values.values()) + GOOD[at + 16 :]


DATA = GOOD.index(b"data")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin with a RIFF header"),
        (b"FORM" + GOOD[4:], "does not begin with a RIFF header"),
        (fmt(code=2), "its codec is ADPCM"),
        (fmt(code=7), "its codec is mu-law"),
        (fmt(code=0x1234), r"its codec is unknown \(format code 4660\)"),
        (fmt(code=0xFFFE), "chunk 'fmt' has 16 bytes; an extensible one has 40"),
        (fmt(channels=0), "says 0 channels in 2 bytes"),
        (fmt(frame=0), "says 1 channels in 0 bytes"),
        (fmt(channels=2, frame=3), "says 2 channels in 3 bytes"),
        (fmt(frame=5), "integers of 16 bits in 5 bytes"),
        (fmt(bits=0), "integers of 0 bits in 2 bytes"),
        (fmt(bits=17), "integers of 17 bits in 2 bytes"),
        (fmt(bits=8), "integers of 8 bits in 2 bytes"),
        (fmt(rate=0), "says 0 samples per second"),
        (fmt(code=3), "floating point of 16 bits"),
        (fmt(channels=3, frame=6), "200 bytes of samples are no whole number of 3 x 2 bytes"),
        (GOOD[: DATA + 4] + b"\xff" * 4 + GOOD[DATA + 8 :], "promises 4294967295 bytes"),
        (GOOD[:12] + GOOD[DATA:], "come before the chunk 'fmt'"),
        (GOOD[:DATA], "ends before a chunk 'data'"),
        (GOOD[:12] + bytes(100_000), "none of its first 10000 chunks"),
        (riff(b""), "holds no samples"),
        (b"RF64" + GOOD[4 : DATA + 4] + b"\xff" * 4 + GOOD[DATA + 8 :], "without a chunk 'ds64'"),
    ],
)
def test_wav_refused(content, reason):
    put("bad.wav", content)
    with pytest.raises(ValueError, match=reason) as error:
        RecordingFile("bad.wav")
    assert str(error.value).startswith("bad.wav: ")


def test_unknown_subformat():
    good = riff(little(range(4), 2), extensible=True)
    put("bad.wav", good.replace(GUID_TAIL, bytes(14)))
    with pytest.raises(ValueError, match="subformat is none of the known ones"):
        RecordingFile("bad.wav")


def test_a_file_that_shrinks():
    put("a.wav", riff(bytes(200_000)))
    with RecordingFile("a.wav") as file:
        os.truncate("a.wav", 100_000)
        assert file.read(0, 40_000).shape == (1, 40_000)
        with pytest.raises(ValueError, match=r"a\.wav: has become shorter"):
            file.read()


# -------------------------------------------------------------------------------------- any format


def make(kind, rng):
    """A file of two channels and nine samples; its name and what it holds."""
    samples = np.round(rng.uniform(-1, 1, (2, 9)) * 100) / 128
    if kind == "csv":
        lines = [f"{i / 50};{a};{b}" for i, (a, b) in enumerate(samples.T.tolist())]
        put("a.csv", "\n".join(["Time; left; right", *lines, ""]).encode())
        return "a.csv", samples
    if kind == "wav":
        wavfile.write("a.wav", 50, samples.T.astype(np.float32))
        return "a.wav", samples
    array = {
        "npy planar": samples,
        "npy planar, Fortran": np.asfortranarray(samples),
        "npy moments": np.ascontiguousarray(samples.T),
        "npy moments, Fortran": samples.T,
        "npy big-endian": samples.astype(">f4"),
    }[kind]
    np.save("a.npy", array)
    return "a.npy", samples


KINDS = ["csv", "wav"] + [
    f"npy {x}" for x in ("planar", "planar, Fortran", "moments", "moments, Fortran", "big-endian")
]


@pytest.mark.parametrize("size", [1, 4, 9, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_a_copy_in_the_same_format(kind, size, rng):
    path, samples = make(kind, rng)
    with RecordingFile(path) as file:
        blocks = list(file.blocks(size))
        assert [b.shape[1] for b in blocks] == [min(size, 9 - i) for i in range(0, 9, size)]
        assert all(b.dtype == np.float64 and b.flags.c_contiguous for b in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), samples)
        np.testing.assert_array_equal(file.read(2, 3), samples[:, 2:5])
        assert file.rate == (None if "npy" in kind else pytest.approx(50))
        assert path in repr(file)
    np.testing.assert_array_equal(signals.read(path).samples, samples)
    target = "b" + path[1:]
    done = copy(path, target, size=size)
    assert done.clipped == done.beyond_full_scale == 0
    np.testing.assert_array_equal(whole(target), samples)
    with open(path, "rb") as a, open(target, "rb") as b:
        assert a.read().replace(b"; ", b";") == b.read().replace(b"; ", b";")
    assert sorted(os.listdir()) == [path, target]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("target", [".wav", ".npy", ".csv"])
@pytest.mark.parametrize("kind", ["csv", "wav", "npy moments"])
def test_conversions(kind, target, precision, rng):
    path, _ = make(kind, rng)
    if path.endswith(target):
        return
    block = rng.standard_normal((2, 9)).astype(precision)
    with RecordingFile(path) as file:
        done = recordings.write("b" + target, [block], file, rate=50.0, precision=precision)
    assert done.sample_format == precision
    assert (done.beyond_full_scale > 0) == (target == ".wav")
    with RecordingFile("b" + target) as file:
        np.testing.assert_array_equal(file.read().astype(precision), block)
        assert file.rate == (None if target == ".npy" else pytest.approx(50, rel=1e-12))
        assert file.sample_format == ("float64" if target == ".csv" else precision)


def test_csv_keeps_names_times_and_digits():
    put(
        "a.csv", "\ufeff# made by hand\nVolt\tTime (s)\n0.1\t0.00\n1e-300\t0.33\n3\t0.67\n".encode()
    )
    copy("a.csv", "b.csv", change=lambda block: block / 3)
    lines = Path("b.csv").read_text("utf-8").splitlines()
    assert lines[0] == "Volt\tTime (s)"
    assert [line.split("\t")[1] for line in lines[1:]] == ["0.00", "0.33", "0.67"]
    assert [float(line.split("\t")[0]) for line in lines[1:]] == [0.1 / 3, 1e-300 / 3, 1.0]


def test_csv_without_names_stays_without():
    put("a.csv", b"1 2\n3 4\n")
    copy("a.csv", "b.csv")
    assert Path("b.csv").read_text() == "1.0 2.0\n3.0 4.0\n"


def test_a_square_array_has_its_channels_first():
    np.save("a.npy", np.arange(9.0).reshape(3, 3))
    with RecordingFile("a.npy") as file:
        np.testing.assert_array_equal(file.read(0, 1)[:, 0], [0, 3, 6])


@pytest.mark.parametrize(("bits", "data"), [(8, b"abc"), (24, b"abcdef012")])
def test_an_odd_number_of_bytes_is_padded(bits, data):
    """By one byte, which the size of the file counts and that of the samples does not."""
    original = riff(data, bits=bits)
    put("a.wav", original)
    copy("a.wav", "b.wav")
    with open("b.wav", "rb") as file:
        assert file.read() == original


def test_nine_digits_tell_single_precision_numbers_apart():
    put("a.wav", riff(b"\0\0" * 2))
    block = np.float32([[0.11493263393640518, 0.10747722536325455]])  # eight digits do not
    with RecordingFile("a.wav") as file:
        recordings.write("b.csv", [block], file, precision="float32")
    np.testing.assert_array_equal(whole("b.csv").astype(np.float32), block)


def test_one_channel_without_a_rate():
    np.save("a.npy", np.array([1, 2, 3]))
    copy("a.npy", "b.csv")
    assert Path("b.csv").read_text() == "channel_0\n1.0\n2.0\n3.0\n"
    copy("b.csv", "c.npy")
    assert np.load("c.npy").shape == (3,)


# ------------------------------------------------------------------------- rounding and clipping


@pytest.mark.parametrize(("bits", "code"), [(8, 1), (16, 1), (24, 1), (32, 1)])
def test_wav_integers_are_rounded_to_even_and_clipped(bits, code):
    width, full = bits // 8, 2.0 ** (bits - 1)
    put("a.wav", riff(bytes(width * 10), bits=bits, code=code))
    steps = np.array([0.5, 1.5, 2.5, -0.5, -1.5, full - 1, full - 0.5, 5 * full, -full, -full - 1])
    done = copy("a.wav", "b.wav", size=10, change=lambda block: steps[np.newaxis] / full)
    wanted = [0, 2, 2, 0, -2, full - 1, full - 1, full - 1, -full, -full]
    np.testing.assert_array_equal(whole("b.wav")[0] * full, wanted)
    assert done == (("uint8" if bits == 8 else f"int{bits}"), 3, 0)


@pytest.mark.parametrize("dtype", ["i1", "u1", ">i2", "u4", "i8", "u8"])
def test_npy_integers_are_rounded_to_even_and_clipped(dtype):
    info = np.iinfo(dtype)
    np.save("a.npy", np.zeros(7, dtype))
    values = np.array([[0.5, 1.5, 2.5, 1e30, -1e30, float(info.max) * 2, float(info.min) - 1e9]])
    done = copy("a.npy", "b.npy", size=7, change=lambda block: values)
    result = np.load("b.npy")
    assert result.dtype == np.dtype(dtype)
    wanted = [0, 2, 2, info.max, info.min, info.max, info.min]
    assert result.tolist() == wanted
    assert done.clipped == 4


def test_floats_that_the_format_cannot_hold():
    np.save("a.npy", np.zeros((2, 5), np.float32))
    values = np.zeros((2, 5))
    values[1, 3] = 1e39
    for size in (1, 5):
        with RecordingFile("a.npy") as file:
            blocks = [values[:, i : i + size] for i in range(0, 5, size)]
            with pytest.raises(ValueError, match=r"sample 3 of channel 1 is 1e\+39, beyond the ra"):
                recordings.write("b.npy", blocks, file)
    np.save("a.npy", np.zeros((5, 2), np.float16))
    with RecordingFile("a.npy") as file, pytest.raises(ValueError, match="sample 3 of channel 1"):
        recordings.write("b.npy", [values], file)
    assert os.listdir() == ["a.npy"]


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["csv", "wav", "npy planar", "npy moments"])
def test_samples_that_are_not_finite(kind, value, rng):
    _, samples = make("npy planar", rng)
    samples[1, 7] = value
    if kind == "csv":
        path = "x.csv"
        np.savetxt(path, samples.T, delimiter=",")
    elif kind == "wav":
        path = "x.wav"
        wavfile.write(path, 8000, samples.T.astype(np.float32))
    else:
        path = "x.npy"
        np.save(path, samples if "planar" in kind else np.ascontiguousarray(samples.T))
    before = sorted(os.listdir())
    for size in (2, 100):
        with pytest.raises(ValueError, match=rf"{path}: sample 7 of channel 1 is {value}; every"):
            copy(path, "b" + path[1:], size=size)
    assert sorted(os.listdir()) == before


def test_write_refuses(rng):
    path, samples = make("npy planar", rng)
    put("old.npy", b"old")
    bad = samples.copy()
    bad[0, 2] = np.nan
    with RecordingFile(path) as like:
        for blocks, options, message in [
            ([samples[:, :4]], {}, "blocks holds 4 samples; it must hold 9"),
            ([samples, samples], {}, "blocks holds more than 9 samples"),
            ([samples[:1]], {}, r"block has shape \(1, 9\); it must be \(2, any\)"),
            ([bad], {}, "output: sample 2 of channel 0 is nan; every sample must be finite"),
            ([samples], {"precision": "float16"}, "precision is 'float16'"),
            ([samples], {"rate": 0.0}, "rate is 0.0; it must be finite and greater than 0"),
        ]:
            with pytest.raises(ValueError, match=message):
                recordings.write("old.npy", blocks, like, **options)
        with pytest.raises(ValueError, match=r"a \.wav file needs a sampling rate"):
            recordings.write("b.wav", [samples], like)
        with pytest.raises(ValueError, match=r"the rate is 7\.5 samples per second; a \.wav file"):
            recordings.write("b.wav", [samples], like, rate=7.5)
        with pytest.raises(ValueError, match="whole numbers from 1 on"):
            recordings.write("b.wav", [samples], like, rate=0.2)
        with pytest.raises(ValueError, match=r"its name ends in '\.ogg'"):
            recordings.write("b.ogg", [samples], like, rate=8.0)
        with pytest.raises(ValueError, match="the file that is read"):
            recordings.write("./a.npy", [samples], like)
    with pytest.raises(ValueError, match=r"like is 'a\.npy'; it must be a RecordingFile"):
        recordings.write("b.npy", [samples], "a.npy")
    wavfile.write("a.wav", 50, samples.T.astype(np.float32))
    with (
        RecordingFile("a.wav") as like,
        pytest.raises(ValueError, match=r"rate is 60; a\.wav says"),
    ):
        recordings.write("b.wav", [samples], like, rate=60.0)
    assert sorted(os.listdir()) == ["a.npy", "a.wav", "old.npy"]
    assert Path("old.npy").read_text() == "old"


def test_a_failure_in_the_middle_leaves_nothing(rng):
    path, samples = make("wav", rng)

    def blocks():
        yield samples[:, :5]
        raise KeyboardInterrupt

    with RecordingFile(path) as like, pytest.raises(KeyboardInterrupt):
        recordings.write("b.wav", blocks(), like)
    assert os.listdir() == ["a.wav"]


def test_too_much_for_a_wav_header():
    with pytest.raises(ValueError, match="cannot hold 9000 channels of float64"):
        _wav.header(Encoding(np.dtype("<f8"), 8, True), 9000, 1, 8000)
    with pytest.raises(ValueError, match="cannot hold 4000000000 samples per second"):
        _wav.header(Encoding(np.dtype("<f8"), 8, True), 1, 1, 4_000_000_000)


def test_reading_out_of_range(rng):
    path, _ = make("npy planar", rng)
    with RecordingFile(path) as file:
        assert file.read(9).shape == file.read(3, 0).shape == (2, 0)
        with pytest.raises(ValueError, match="start is 10; it must be at most 9"):
            file.read(10)
        with pytest.raises(ValueError, match="count is 8; it must be at most 7"):
            file.read(2, 8)
        with pytest.raises(ValueError, match="size is 0; it must be at least 1"):
            next(file.blocks(0))


def test_signals_read_needs_two_samples():
    np.save("a.npy", np.ones(1))
    with RecordingFile("a.npy") as file:
        assert file.length == 1
    with pytest.raises(ValueError, match=r"a\.npy: holds 1 samples; at least 2 are needed"):
        signals.read("a.npy")


# ------------------------------------------------------------------------------------------- memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads kilobytes")
def test_a_long_file_is_never_in_memory():
    """300 MB of zeros (a hole in the file) are read with less than 20 MB."""
    length = 75_000_000
    wav, _ = _wav.header(Encoding(np.dtype("<i2"), 2, True), 2, length, 48000)
    npy = io.BytesIO()
    shape = {"descr": "<i2", "fortran_order": False, "shape": (2, length)}
    np.lib.format.write_array_header_1_0(npy, shape)
    for path, head in (("a.wav", wav), ("a.npy", npy.getvalue())):
        put(path, head)
        os.truncate(path, len(head) + 4 * length)
    code = f"""
import os, resource
from ssm_manual.tasks.recordings import RecordingFile

os.chdir({os.getcwd()!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in ("a.wav", "a.npy"):
    with RecordingFile(path) as file:
        assert file.length == {length}
        for start in range(0, {length}, 4_000_000):
            file.read(start, 1 << 17)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert int(run_python(code)) < 20 * 1024
