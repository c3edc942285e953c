"""Files from strangers: one test for each fault that `tests/fuzz` has found, small and fast."""

import contextlib
import io
import os
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_checkpoint import forged

from ssm_manual import _files, checkpoint
from ssm_manual.cli import main
from ssm_manual.models import DiagonalSSM, LinearRegression, RecordingFilter
from ssm_manual.tasks import _idx, published, recordings, signals, tables
from ssm_manual.tasks.mnist import labelled_images

POLE = np.array([0.9 + 0.1j, 0.5], np.complex64)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(name, content):
    Path(name).write_bytes(content)
    return name


def saved(model, name="m.safetensors", change=None, **options):
    checkpoint.save(name, model, **options)
    if change:
        put(name, forged(Path(name).read_bytes(), change))
    return name


def filters(**options):
    return RecordingFilter([DiagonalSSM(POLE, 1.0, 0.3, 0.1)] * 2, **options)


# ------------------------------------------------------------------------------ what is not a file


@contextlib.contextmanager
def in_time(seconds=20):
    """The process is ended, with all stacks, if a test waits for a pipe."""
    import faulthandler

    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


READERS = {
    "a.safetensors": checkpoint.load,
    "a.wav": recordings.RecordingFile,
    "a.npy": signals.read,
    "a.csv": signals.read,
    "b.csv": lambda path: tables.read_csv(path, "y"),
    "a.npz": labelled_images,
    "a-idx": lambda path: labelled_images([path, path]),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_without_a_writer_is_not_waited_on(name):
    os.mkfifo(name)
    with in_time(), pytest.raises(ValueError, match=f"{name}: is not a file but a pipe"):
        READERS[name](name)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs devices")
@pytest.mark.parametrize("name", READERS)
def test_a_device_is_not_read(name):
    os.symlink("/dev/zero", name)
    with in_time(), pytest.raises(ValueError, match=f"{name}: is not a file but a pipe or a dev"):
        READERS[name](name)


@pytest.mark.parametrize("name", READERS)
def test_a_name_that_no_file_can_have(name):
    with pytest.raises(ValueError, match="is no name of a file"):
        READERS[name]("a\0" + name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_that_takes_the_place_of_a_file(monkeypatch):
    """Between the question and the opening: it is opened without waiting, and looked at again."""
    put("a.wav", b"")
    before = os.stat("a.wav")
    os.unlink("a.wav")
    os.mkfifo("a.wav")
    monkeypatch.setattr(_files.os, "stat", lambda path: before)
    with in_time(), pytest.raises(ValueError, match="is not a file but a pipe"):
        _files.opened("a.wav")


def test_metadata_of_another_kind(capsys):
    """--resume compares the columns' names, which may be no list of names."""
    Path("t.csv").write_text("a,b,y\n1,2,1\n3,1,2\n0,1,0.5\n")
    model = LinearRegression(np.array([0.5, 0.2]), np.zeros(()))
    for features in ([1, 2], 7, [["a"]]):
        path = saved(model, metadata={"features": features})
        argv = ["regress", "--data", "t.csv", "--target", "y", "--resume", path, "--no-figure"]
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert "a model of" in error
        assert error.count("\n") == 1


# ------------------------------------------------------------------------------------------- text


def test_a_long_first_line_asks_for_no_memory(monkeypatch):
    """100,000 columns and 100,000 lines would be 80 GB."""
    put("a.csv", b"1," * 99_999 + b"1\n" + b"1\n" * 100_000)
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("memory was asked for"))
    with pytest.raises(ValueError, match=r"a\.csv: line 2 has 1 fields; the first has 100000"):
        signals.read("a.csv")


def test_many_columns_take_no_hours():
    """Names were counted, and looked for, each among all."""
    names = ",".join(f"c{i}" for i in range(50_000))
    put("a.csv", f"{names},y\n{'1,' * 50_000}2\n".encode())
    with in_time():
        assert tables.read_csv("a.csv", "y", ["c7", "c49999"]).X.tolist() == [[1, 1]]
        with pytest.raises(ValueError, match="and 49993 more") as caught:
            tables.read_csv("a.csv", "z")
    assert len(str(caught.value)) < 500


def test_a_row_of_many_features_asks_for_no_matrix(capsys):
    """The closed form of 30,000 features takes 7 GB, for a file of 200 kB."""
    names = ",".join(f"c{i}" for i in range(6000))
    put("a.csv", f"{names},y\n{'1,' * 6000}2\n{'2,' * 6000}3\n".encode())
    assert main(["regress", "--data", "a.csv", "--target", "y", "--no-figure"]) == 2
    assert "with 6000 features" in capsys.readouterr().err


def test_messages_about_text_are_short():
    put("a.csv", b"a,y\n" + b"1" * 100_000 + b"x,2\n")
    put("b.csv", b"1,2\n1," + b"x" * 100_000 + b"\n")
    for read in (lambda: tables.read_csv("a.csv", "y"), lambda: signals.read("b.csv")):
        with pytest.raises(ValueError, match=r"line 2") as caught:
            read()
        assert len(str(caught.value)) < 300


def test_a_name_of_a_column_that_a_terminal_would_obey():
    put("a.csv", b"\x1b[31mred,y\n1,2\n")
    with pytest.raises(ValueError, match=r"'\\x1b\[31mred' holds a control character"):
        tables.read_csv("a.csv", "y")


@pytest.mark.parametrize("times", ["0,5e-324", "-1e308,1e308", "0,1e-310", "0,1e308,inf"])
def test_times_that_overflow(times):
    rows = "".join(f"{t},{i}\n" for i, t in enumerate(times.split(",")))
    put("a.csv", f"t,u\n{rows}".encode())
    with pytest.raises(ValueError, match=r"a\.csv: its time column"):
        signals.read("a.csv")


# ------------------------------------------------------------------------------------------ arrays


def test_a_header_of_gigabytes():
    """NumPy asks for that much memory before it looks at its own limit, 10,000 characters."""
    path = put("a.npy", b"\x93NUMPY\x02\0" + struct.pack("<I", 2**30) + bytes(1000))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.npy: is not a readable .* header is too long"):
        signals.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_a_signalling_nan():
    """NumPy warns when it is widened, before it is found."""
    a = np.zeros(5, np.uint32)
    a[3] = 0x7F800001
    np.save("a.npy", a.view(np.float32))
    with pytest.raises(ValueError, match=r"a\.npy: sample 3 of channel 0 is nan"):
        signals.read("a.npy")


def test_an_error_of_the_disk_names_the_file(monkeypatch):
    def broken(self, file, start, count):
        raise OSError(5, "Input/output error")

    np.save("a.npy", np.zeros(5))
    monkeypatch.setattr("ssm_manual.tasks._encoding.Grid.read", broken)
    with pytest.raises(OSError, match=r"Input/output error: 'a\.npy'"):
        signals.read("a.npy")


# ----------------------------------------------------------------------------------------- images


def npz(x, compression=zipfile.ZIP_DEFLATED, name="x.npy"):
    labels = io.BytesIO()
    np.save(labels, np.zeros(3, np.uint8))
    with zipfile.ZipFile("a.npz", "w", compression) as archive:
        archive.writestr(name, x)
        archive.writestr("y.npy", labels.getvalue())
    return "a.npz"


def test_a_compressed_header_that_says_gigabytes():
    """NumPy reads as much as it says before it looks at its own limit."""
    head = b"\x93NUMPY\x02\0" + struct.pack("<I", 2**25)
    path = npz(head + bytes(2**25))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.npz, x: is no readable array"):
        labelled_images(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_a_bomb(monkeypatch):
    """What is packed unpacks to so much and no more; what is not has the size of its file."""
    images = io.BytesIO()
    np.save(images, np.zeros((3, 100, 100), np.uint8))
    monkeypatch.setattr(_idx, "MOST_UNPACKED", 20_000)
    assert labelled_images(npz(images.getvalue(), zipfile.ZIP_STORED))[0].shape == (3, 100, 100)
    with pytest.raises(ValueError, match=r"a\.npz, x: unpacks to 30000 bytes, more than 20000"):
        labelled_images(npz(images.getvalue()))
    import gzip

    head = bytes([0, 0, 8, 3]) + struct.pack(">III", 3, 100, 100)
    put("x", gzip.compress(head + bytes(30_000)))
    with pytest.raises(ValueError, match="x: unpacks to 30000 bytes, more than 20000"):
        _idx.read_idx("x")


def test_names_within_an_archive_are_quoted_and_cut():
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.writestr("\x1b[2J", b"")
        for i in range(500):
            archive.writestr(f"member{i}" * 9, b"")
    with pytest.raises(ValueError, match="and 493 more") as caught:
        labelled_images("a.npz")
    assert str(caught.value).isprintable()


# ---------------------------------------------------------------------------- names, other things


def test_the_name_of_a_file_does_not_reach_the_terminal(capsys):
    name = "a\x1b[2J\nb.wav"
    put(name, b"no recording")
    saved(filters())
    assert main(["apply", "m.safetensors", name, "--out", "b.wav"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error[:-1].isprintable()
    assert r"a\x1b[2J\nb.wav" in error


def test_dollars_in_names_are_no_formulas(capsys):
    """Matplotlib raises for a formula that it cannot read, when the training is done."""
    name = r"$\frac{$ and $x$"
    Path("t.csv").write_text(f"{name},b,y\n1,2,1\n3,1,2\n0,1,0.5\n")
    argv = ["regress", "--data", "t.csv", "--target", "y", "--epochs", "2", "--figure", "a.png"]
    assert main(argv) == 0, capsys.readouterr().err
    assert Path("a.png").stat().st_size > 1000


def test_a_damaged_log_is_named(monkeypatch):
    class Resources:
        @staticmethod
        def files(package):
            return Path()

    monkeypatch.setattr(published, "resources", Resources)
    for content in (b"", b"{}", b"[", b"\xff", b"7"):
        put("published_log.json", content)
        with pytest.raises(ValueError, match=r"published_log\.json: is damaged"):
            published.published_figures()


def test_the_tests_that_hold_the_promises_exist():
    root = Path(__file__).resolve().parents[1]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (root / "SECURITY.md").read_text())
    assert len(named) > 15
    for file, name in named:
        assert f"def {name}(" in (root / file).read_text(), name
