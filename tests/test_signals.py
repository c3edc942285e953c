"""Signals that are made, shipped or read, and what is said of files that hold none."""

import io
import struct
import sys

import numpy as np
import pytest
from scipy.io import wavfile

from ssm_manual.tasks import signals


def test_sinusoids_are_sums_of_the_asked_number_within_the_band(rng):
    length = 4000
    recording = signals.sinusoids(length, components=3, rng=rng, lowest=0.01, highest=0.1, rate=50)
    assert recording.samples.shape == (1, length)
    assert recording.rate == 50
    power = np.abs(np.fft.rfft(recording.samples[0] * np.hanning(length))) ** 2
    inside = slice(int(0.009 * length), int(0.101 * length))
    assert power[inside].sum() > 0.999 * power.sum()
    # three sinusoids obey a linear recurrence of order six, and of no lower order
    windows = np.lib.stride_tricks.sliding_window_view(recording.samples[0], 8)
    singular = np.linalg.svd(windows, compute_uv=False)
    assert singular[6] < 1e-8 * singular[0] < singular[5]


def test_sinusoids_depend_on_the_generator_alone():
    one, same, other = (
        signals.sinusoids(50, rng=np.random.default_rng(seed)).samples for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length is 0; it must be at least 1"),
        ({"components": 0}, "components is 0"),
        ({"lowest": 0.0}, "lowest is 0"),
        ({"lowest": 0.2, "highest": 0.1}, "highest is 0.1; it must be finite and at least 0.2"),
        ({"highest": 0.6}, "highest is 0.6"),
        ({"rate": -1.0}, "rate is -1"),
        ({"rng": 3}, "rng is 3; it must be a numpy.random.Generator"),
    ],
)
def test_sinusoids_refuse(options, message, rng):
    options = {"length": 10, "rng": rng, **options}
    with pytest.raises(ValueError, match=message):
        signals.sinusoids(options.pop("length"), **options)


def test_ecg_is_the_recording_of_pywavelets():
    data = pytest.importorskip("pywt.data")
    recording = signals.ecg()
    assert recording.samples.shape == (1, 1024)
    assert recording.samples.dtype == np.float64
    assert np.array_equal(recording.samples[0], data.ecg())


def test_ecg_without_pywavelets_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pywt", None)
    monkeypatch.setitem(sys.modules, "pywt.data", None)
    with pytest.raises(ValueError, match=r"pip install 'ssm_manual\[examples\]'"):
        signals.ecg()


def test_eeg_has_four_standardised_channels():
    recording = signals.eeg()
    assert recording.samples.shape == (4, 800)
    assert recording.rate == 80
    np.testing.assert_allclose(recording.samples.mean(axis=1), 0, atol=0.01)
    np.testing.assert_allclose(recording.samples.std(axis=1), 1, atol=0.01)
    # neighbouring samples of a channel are alike; were the axes confused they would not be
    for channel in recording.samples:
        assert np.corrcoef(channel[1:], channel[:-1])[0, 1] > 0.6


@pytest.mark.parametrize(
    ("answer", "message"),
    [(b"\0" * 24, "has 24 bytes; it must have 25600"), (None, "without its sample file")],
)
def test_eeg_from_another_matplotlib(monkeypatch, answer, message):
    from matplotlib import cbook

    def get_sample_data(name, asfileobj):
        if answer is None:
            raise FileNotFoundError(name)
        return io.BytesIO(answer)

    monkeypatch.setattr(cbook, "get_sample_data", get_sample_data)
    with pytest.raises(ValueError, match=message):
        signals.eeg()


# ------------------------------------------------------------------------------------------- .csv


@pytest.mark.parametrize(
    ("text", "samples", "rate"),
    [
        ("1\n2\n3\n", [[1, 2, 3]], None),
        ("1,4\n2,5\n3,6e0\n", [[1, 2, 3], [4, 5, 6]], None),
        ("left;right\n1;4\n2;5\n", [[1, 2], [4, 5]], None),
        ("# a comment\n\n1\t4\n-2\t.5\n", [[1, -2], [4, 0.5]], None),
        ("1 4\n2   5\n", [[1, 2], [4, 5]], None),
        ("\ufefftime,volt\n0,1\n0.5,2\n1.0,3\n", [[1, 2, 3]], 2.0),
        ('"Time (s)","a","b"\n0,1,4\n0.33,2,5\n0.67,3,6\n', [[1, 2, 3], [4, 5, 6]], 2 / 0.67),
        ("t\n1\n2\n", [[1, 2]], None),  # a lone column is the signal, whatever its name
    ],
)
def test_csv(tmp_path, text, samples, rate):
    path = tmp_path / "signal.CSV"
    path.write_text(text, encoding="utf-8")
    recording = signals.read(path)
    assert recording.samples.dtype == np.float64
    assert recording.samples.flags.c_contiguous
    np.testing.assert_array_equal(recording.samples, samples)
    assert recording.rate == (None if rate is None else pytest.approx(rate))
    assert recording.name == "signal.CSV"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "a line of names and no samples"),
        ("1,2\n3\n", "line 2 has 1 fields; the first has 2"),
        ("1,2\n3,x\n", "line 2 holds 'x', which is not a number"),
        ("1,a\n3,4\n", "line 1 holds 'a'"),
        ("1,2\n3,\n", "line 2 holds ''"),
        ("1\n1_000\n", "line 2 holds '1_000'"),
        ("1,5;2,5\n3,5;4,5\n", "line 2 holds '3,5'"),
        ("1\nnan\n", "sample 1 of channel 0 is nan; every sample must be finite"),
        ("1,2\n3,inf\n", "sample 1 of channel 1 is inf"),
        ("1\n", "holds 1 samples; at least 2 are needed"),
        ("time,a\n0,1\n1,2\n5,3\n", "time column is not equally spaced"),
        ("time,a\n1,1\n0,2\n", "time column is not equally spaced and increasing"),
        ("time,a\n0,1\nnan,2\n", "time column holds NaN"),
    ],
)
def test_csv_refuses(tmp_path, text, reason):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as error:
        signals.read(path)
    assert "bad.csv" in str(error.value)


def test_csv_that_is_no_text(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(ValueError, match=r"bad\.csv: is not a text file"):
        signals.read(path)


# ------------------------------------------------------------------------------------------- .npy


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "i2", "u1", "f2"])
@pytest.mark.parametrize("shape", [(5,), (2, 5), (5, 2)])
def test_npy(tmp_path, dtype, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    recording = signals.read(tmp_path / "a.npy")
    wanted = np.atleast_2d(array if shape != (5, 2) else array.T).astype(float)
    np.testing.assert_array_equal(recording.samples, wanted)
    assert recording.samples.dtype == np.float64
    assert recording.rate is None


class Trap:
    """Would be called by an unpickler."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([Trap(), 2], dtype=object), "not a readable .npy file"),
        (np.ones(4, complex), "has dtype complex128; it must hold real numbers"),
        (np.ones(4, bool), "has dtype bool"),
        (np.array(["1", "2"]), "has dtype <U1"),
        (np.ones((2, 3, 4)), r"has shape \(2, 3, 4\)"),
        (np.float64(3), r"has shape \(\)"),
        (np.ones(0), "holds no samples|not a readable"),
        (np.ones((3, 0)), "holds no samples|not a readable"),
        (np.ones(1), "holds 1 samples; at least 2 are needed"),
        (np.array([1.0, np.nan]), "sample 1 of channel 0 is nan"),
    ],
)
def test_npy_refuses(tmp_path, array, reason):
    np.save(tmp_path / "bad.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=reason) as error:
        signals.read(tmp_path / "bad.npy")
    assert "bad.npy" in str(error.value)


def huge_header():
    """The header of 8 TB of doubles, and nothing else."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    )
    return file.getvalue()


@pytest.mark.parametrize("kind", ["empty", "short", "cut", "text", "huge", "archive"])
def test_npy_malformed(tmp_path, kind):
    file = io.BytesIO()
    np.save(file, np.arange(100.0))
    whole = file.getvalue()
    archive = io.BytesIO()
    np.savez(archive, a=np.ones(3))
    content = {
        "empty": b"",
        "short": whole[:20],
        "cut": whole[:-8],
        "text": b"1,2,3\n4,5,6\n",
        "huge": huge_header(),
        "archive": archive.getvalue(),
    }[kind]
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.npy: is (not a readable .npy file|an archive)"):
        signals.read(path)


# ------------------------------------------------------------------------------------------- .wav


def riff(code, channels, rate, bits, data):
    """A .wav file by its definition, for formats that SciPy does not write."""
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", code, channels, rate, rate * block, block, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("dtype", "written", "read"),
    [
        (np.int16, [-32768, 0, 16384], [-1, 0, 0.5]),
        (np.int32, [-(2**31), 0, 2**30], [-1, 0, 0.5]),
        (np.uint8, [0, 128, 192], [-1, 0, 0.5]),
        (np.float32, [-1.5, 0, 0.25], [-1.5, 0, 0.25]),
        (np.float64, [-1.5, 0, 0.1], [-1.5, 0, 0.1]),
    ],
)
def test_wav_scales(tmp_path, dtype, written, read):
    wavfile.write(tmp_path / "a.wav", 8000, np.array(written, dtype))
    recording = signals.read(tmp_path / "a.wav")
    np.testing.assert_array_equal(recording.samples, [read])
    assert recording.rate == 8000
    assert isinstance(recording.rate, float)


def test_wav_24_bits(tmp_path):
    values = [-(2**23), 0, 2**22, 1]
    data = b"".join(v.to_bytes(3, "little", signed=True) for v in values)
    (tmp_path / "a.wav").write_bytes(riff(1, 1, 96000, 24, data))
    recording = signals.read(tmp_path / "a.wav")
    np.testing.assert_array_equal(recording.samples, [[-1, 0, 0.5, 2.0**-23]])


def test_wav_channels_are_rows(tmp_path):
    wavfile.write(tmp_path / "a.wav", 8000, np.array([[1, 4], [2, 5], [3, 6]], np.float32))
    np.testing.assert_array_equal(signals.read(tmp_path / "a.wav").samples, [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("kind", ["empty", "text", "header", "cut", "cut in a sample", "channels"])
def test_wav_malformed(tmp_path, kind):
    whole = riff(1, 1, 8000, 16, np.arange(100, dtype="<i2").tobytes())
    content = {
        "empty": b"",
        "text": b"this is certainly not a sound, whatever its name says",
        "header": whole[:30],
        "cut": whole[:120],
        "cut in a sample": whole[:121],
        "channels": whole[:22] + b"\0\0" + whole[24:],
    }[kind]
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.wav: is (not a readable .wav file|truncated)"):
        signals.read(path)


def test_wav_without_samples(tmp_path):
    (tmp_path / "a.wav").write_bytes(riff(1, 1, 8000, 16, b""))
    with pytest.raises(ValueError, match=r"holds no samples|not a readable"):
        signals.read(tmp_path / "a.wav")


def test_wav_with_an_extra_chunk(tmp_path):
    whole = riff(1, 1, 8000, 16, np.arange(4, dtype="<i2").tobytes())
    whole += b"note" + struct.pack("<I", 4) + b"abcd"
    whole = whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]
    (tmp_path / "a.wav").write_bytes(whole)
    assert signals.read(tmp_path / "a.wav").samples.shape == (1, 4)


# -------------------------------------------------------------------------------- whatever format


def test_another_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"ends in '\.mp3'; it must end in .csv, .npy or .wav"):
        signals.read(tmp_path / "a.mp3")


@pytest.mark.parametrize("suffix", signals.SUFFIXES)
def test_a_missing_file_and_a_folder_are_the_systems_errors(tmp_path, suffix):
    with pytest.raises(FileNotFoundError):
        signals.read(tmp_path / f"none{suffix}")
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    with pytest.raises(OSError, match="folder"):
        signals.read(folder)
