"""Checkpoints: what is saved comes back bit for bit, and nothing unsound comes back at all."""

import hashlib
import json
import os
import stat
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ssm_manual import _files, checkpoint
from ssm_manual.checkpoint import CheckpointError
from ssm_manual.models import DiagonalSSM, RecordingFilter


def diagonal(rng, *, dtype="float64", real=True, parameters="discrete", skip=True, poles=5):
    dt = 0.004 if parameters == "continuous" else None
    model = DiagonalSSM.initial(
        poles, rng=rng, real=real, parameters=parameters, dt=dt, skip=skip, dtype=dtype
    )
    if skip:
        model.params["D"][...] = 0.25
    return model


MODELS = [
    {"dtype": dtype, "real": real, "parameters": parameters, "skip": skip}
    for dtype in ("float32", "float64")
    for real in (True, False)
    for parameters in ("discrete", "continuous")
    for skip in (True, False)
]


def same(a, b):
    assert type(a) is type(b)
    hyper_a, arrays_a = a.to_checkpoint()
    hyper_b, arrays_b = b.to_checkpoint()
    assert hyper_a == hyper_b
    assert arrays_a.keys() == arrays_b.keys()
    for name, value in arrays_a.items():
        assert value.dtype == arrays_b[name].dtype
        assert value.shape == arrays_b[name].shape
        assert value.tobytes() == arrays_b[name].tobytes()


@pytest.fixture
def saved(tmp_path, rng):
    """A small model in a file, and the file's bytes."""
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, diagonal(rng), metadata={"note": "first"})
    return path, path.read_bytes()


# ------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("options", MODELS, ids=lambda o: "-".join(map(str, o.values())))
def test_a_diagonal_model_comes_back_bit_for_bit(options, mmap, tmp_path, rng):
    model = diagonal(rng, **options)
    checkpoint.save(tmp_path / "m", model)
    again = checkpoint.load(tmp_path / "m", expected=DiagonalSSM, mmap=mmap)
    same(model, again)
    u = rng.standard_normal(40).astype(options["dtype"])
    assert model.forward(u)[0].tobytes() == again.forward(u)[0].tobytes()
    history = again.fit(u, u, epochs=3, rates={"A": 1e-6})  # it can go on learning
    assert history.epochs == 3


def test_the_input_scale_is_kept(tmp_path):
    model = DiagonalSSM(
        [-1 + 2j], 1.0, 0.5, dt=0.01, parameters="continuous", input_scale="sqrt_dt"
    )
    checkpoint.save(tmp_path / "m", model)
    assert checkpoint.load(tmp_path / "m").input_scale == "sqrt_dt"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rate", [None, 16000.0])
def test_a_recording_filter_comes_back_bit_for_bit(channels, rate, tmp_path, rng):
    models = [diagonal(rng, dtype="float32", parameters="continuous") for _ in range(channels)]
    filter = RecordingFilter(models, offset=0.125, scale=3.0, delay=4, rate=rate)
    checkpoint.save(tmp_path / "m", filter)
    again = checkpoint.load(tmp_path / "m", expected=(DiagonalSSM, RecordingFilter))
    same(filter, again)
    assert repr(filter) == repr(again)
    x = rng.standard_normal((channels, 50))
    assert filter(x).tobytes() == again(x).tobytes()


def test_metadata_comes_back(saved):
    found = checkpoint.read(saved[0])
    assert found.metadata == {"note": "first"}
    assert found.model == "DiagonalSSM"
    assert found.hyperparameters["parameters"] == "discrete"


def test_the_same_model_gives_the_same_bytes(saved, tmp_path):
    again = tmp_path / "again"
    checkpoint.save(again, checkpoint.load(saved[0]), metadata={"note": "first"})
    assert again.read_bytes() == saved[1]


def test_other_tools_read_the_arrays(saved):
    arrays = load_file(saved[0])
    model = checkpoint.load(saved[0])
    assert set(arrays) == {"A", "B", "C", "D"}
    assert arrays["A"].shape == (5, 2)
    assert np.array_equal(arrays["A"][:, 0] + 1j * arrays["A"][:, 1], model.params["A"])
    assert arrays["D"] == 0.25


def test_a_model_is_saved_whatever_the_layout_of_its_arrays(tmp_path, rng):
    model = diagonal(rng)
    expected = {name: value.copy() for name, value in model.params.items()}
    model.params["A"] = np.repeat(model.params["A"], 2)[::2]
    model.params["B"] = model.params["B"].astype(">c16")
    model.params["C"].setflags(write=False)
    checkpoint.save(tmp_path / "m", model)
    again = checkpoint.load(tmp_path / "m")
    for name, value in expected.items():
        assert np.array_equal(again.params[name], value)
        assert again.params[name].flags.writeable


# ---------------------------------------------------------------------------------- damaged files


def refused(path, data, message, **options):
    path.write_bytes(data)
    for read in (checkpoint.read, checkpoint.load):
        with pytest.raises(CheckpointError, match=message) as caught:
            read(path, **options)
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 600
    assert path.read_bytes() == data


@pytest.mark.parametrize("mmap", [False, True])
def test_every_truncation_is_refused(saved, rng, mmap):
    path, data = saved
    lengths = {0, 1, 7, 8, 9, len(data) - 1, *rng.choice(len(data), 200, replace=False).tolist()}
    for length in lengths:
        refused(path, data[:length], "truncated|safetensors", mmap=mmap)


def test_every_flipped_byte_is_refused(saved, rng):
    path, data = saved
    for at in {*range(16), *rng.choice(len(data), 200, replace=False).tolist()}:
        damaged = bytearray(data)
        damaged[at] ^= int(rng.integers(1, 256))
        refused(path, bytes(damaged), "damaged|truncated|not a|no sense|format version")


def test_a_flip_in_the_header_is_found_even_where_the_arrays_are_not_read(saved, rng):
    path, data = saved
    header = 8 + int.from_bytes(data[:8], "little")
    for at in rng.choice(header, 100, replace=False):
        damaged = bytearray(data)
        damaged[at] ^= 4
        refused(path, bytes(damaged), "damaged|truncated|not a|format version", mmap=True)
    damaged = bytearray(data)
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    checkpoint.read(path, mmap=True)
    with pytest.raises(CheckpointError, match="do not match their checksum"):
        checkpoint.read(path, mmap=True, verify=True)


def test_bytes_after_the_end_are_refused(saved):
    refused(saved[0], saved[1] + b"\0" * 8, "longer than it says")


@pytest.mark.parametrize(
    "data",
    [
        b"\x93NUMPY\x01\x00v\x00" + b" " * 118,
        b"PK\x03\x04" + b"\0" * 100,
        b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 100,
        b"\0" * 100,
        b"\xff" * 100,
        (60).to_bytes(8, "little") + b"[" * 60,
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
    ],
)
def test_other_files_are_refused(tmp_path, data):
    refused(tmp_path / "m", data, "not a safetensors file")


def test_another_tools_safetensors_file_is_refused(tmp_path):
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "m", metadata=metadata)
        refused(tmp_path / "m", (tmp_path / "m").read_bytes(), "not a model of ssm_manual")


def forged(data, change, arrays=None):
    """The file with its header changed by ``change(tensors, ours)``, under a valid checksum."""
    length = int.from_bytes(data[:8], "little")
    tensors = json.loads(data[8 : 8 + length])
    ours = json.loads(tensors["__metadata__"]["ssm_manual"])
    change(tensors, ours)
    ours["header_sha256"] = "0" * 64
    tensors["__metadata__"]["ssm_manual"] = json.dumps(ours, sort_keys=True, separators=(",", ":"))
    text = json.dumps(tensors, separators=(",", ":")).encode()
    raw = len(text).to_bytes(8, "little") + text
    at = raw.index(b'header_sha256\\":\\"') + len(b'header_sha256\\":\\"')
    raw = raw[:at] + hashlib.sha256(raw).hexdigest().encode() + raw[at + 64 :]
    return raw + data[8 + length :]


def test_forging_the_header_without_change_passes(saved):
    saved[0].write_bytes(forged(saved[1], lambda tensors, ours: None))
    checkpoint.load(saved[0])


CHANGES = {
    "newer": (lambda t, o: o.update(format_version=2, library="9.9"), r"9\.9.*update it"),
    "version of a wrong type": (lambda t, o: o.update(format_version="1"), "format version"),
    "gap": (lambda t, o: t["D"].update(data_offsets=[8, 16]), "no sense"),
    "negative": (lambda t, o: t["D"].update(data_offsets=[-8, 0]), "no sense"),
    "dtype": (lambda t, o: t["D"].update(dtype="F8_E4M3"), "no sense"),
    "shape": (lambda t, o: t["A"].update(shape=[5, 3]), "no sense"),
    "huge": (lambda t, o: t["A"].update(shape=[2**62, 2**62]), "no sense"),
    "float shape": (lambda t, o: t["A"].update(shape=[5.0, 2]), "no sense"),
    "extra key": (lambda t, o: t["A"].update(more=1), "no sense"),
    "missing class": (lambda t, o: o.pop("class"), "no sense"),
    "no pairs": (lambda t, o: o["complex"].append("D"), "no sense"),
    "unknown pairs": (lambda t, o: o["complex"].append("E"), "no sense"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_header_that_makes_no_sense_is_refused(saved, change):
    refused(saved[0], forged(saved[1], CHANGES[change][0]), CHANGES[change][1])


MODEL_CHANGES = {
    "unknown class": (lambda t, o: o.update({"class": "os.system"}), "not a model of this package"),
    "other class": (lambda t, o: o.update({"class": "RecordingFilter"}), "sound RecordingFilter"),
    "hyperparameter": (lambda t, o: o["hyperparameters"].update(parameters="x"), "parameters"),
    "hyperparameters": (lambda t, o: o["hyperparameters"].pop("real"), "'real'"),
    "name": (lambda t, o: t.update(E=t.pop("D")), "it has the arrays"),
    "real poles": (lambda t, o: o["complex"].remove("A"), "A has shape"),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("change", MODEL_CHANGES)
def test_a_file_without_a_sound_model_is_refused(saved, change, mmap):
    path, data = saved
    path.write_bytes(forged(data, MODEL_CHANGES[change][0]))
    with pytest.raises(CheckpointError, match=MODEL_CHANGES[change][1]):
        checkpoint.load(path, mmap=mmap)


@pytest.mark.parametrize(("value", "message"), [(1.5, "unit circle"), (np.nan, "finite")])
def test_unsound_values_are_refused_where_they_are_read(tmp_path, rng, value, message):
    model = diagonal(rng)
    model.params["A"][2] = value
    checkpoint.save(tmp_path / "m", model)  # to look at what went wrong, `read` still reads it
    assert checkpoint.read(tmp_path / "m").arrays["A"].size == 5
    for options in ({}, {"mmap": True, "verify": True}):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(tmp_path / "m", **options)
    checkpoint.load(tmp_path / "m", mmap=True)  # unread


def test_a_file_with_another_model_is_refused(saved):
    with pytest.raises(CheckpointError, match="holds a DiagonalSSM; it must hold a RecordingF"):
        checkpoint.load(saved[0], expected=RecordingFilter)


@pytest.mark.parametrize("expected", ["DiagonalSSM", (DiagonalSSM, "RecordingFilter")])
def test_expected_must_be_classes(saved, expected):
    with pytest.raises(ValueError, match=r"expected is .*; it must be a class"):
        checkpoint.load(saved[0], expected=expected)


@pytest.mark.parametrize("path", [None, True, 1, ["m"]])
def test_a_path_must_be_a_path(path):
    with pytest.raises(ValueError, match="path is"):
        checkpoint.load(path)
    with pytest.raises(ValueError, match="path is"):
        checkpoint.save(path, DiagonalSSM([0.5], 1.0, 1.0))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_not_waited_on(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(CheckpointError, match="not a file"):
            checkpoint.load(tmp_path / name)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        checkpoint.load(tmp_path / "nothing.safetensors")


# ------------------------------------------------------------------------------------------ saving


class Unsaveable(DiagonalSSM):
    pass


@pytest.mark.parametrize("model", [None, 1, {"A": 1}, Unsaveable([0.5], 1.0, 1.0)])
def test_what_is_no_model_is_refused(tmp_path, model):
    with pytest.raises(ValueError, match="model is"):
        checkpoint.save(tmp_path / "m", model)
    assert os.listdir(tmp_path) == []


DEEP = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "metadata", [{"x": float("nan")}, {"x": b"bytes"}, {"x": DEEP}, [1], "text"]
)
def test_metadata_that_is_no_json_is_refused_and_the_old_file_stays(saved, metadata):
    path, data = saved
    with pytest.raises(ValueError, match="metadata"):
        checkpoint.save(path, checkpoint.load(path), metadata=metadata)
    assert path.read_bytes() == data
    assert os.listdir(path.parent) == [path.name]


def test_an_error_on_the_way_leaves_the_old_file(saved, monkeypatch):
    path, data = saved
    monkeypatch.setattr(checkpoint, "_write_sums", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checkpoint.save(path, checkpoint.load(path))
    assert path.read_bytes() == data
    assert os.listdir(path.parent) == [path.name]


FULL = """
    import resource, sys
    from ssm_manual import checkpoint
    model = checkpoint.load(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
    try:
        checkpoint.save(sys.argv[1], model)
    except OSError as error:
        print(error)
"""


def test_a_full_disk_is_an_os_error_and_leaves_the_old_file(saved):
    path, data = saved
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith(f"{path}: cannot be written: ")
    assert path.read_bytes() == data
    assert os.listdir(path.parent) == [path.name]


def test_a_name_as_long_as_names_may_be(saved, tmp_path):
    path = tmp_path / ("n" * 243 + ".safetensors")  # 255 bytes
    checkpoint.save(path, checkpoint.load(saved[0]))
    assert checkpoint.load(path).dtype == checkpoint.load(saved[0]).dtype


def test_a_pipe_is_not_replaced(saved, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="a device or a pipe cannot be replaced"):
        checkpoint.save(pipe, checkpoint.load(saved[0]))
    assert pipe.is_fifo()


def test_what_can_be_written_is_known_before(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere/file")
    for path, message in {
        tmp_path / "pipe": "--save is .*, a device or a pipe; it must be a file",
        tmp_path / "loop": "nothing can be written there: Too many",
        tmp_path / "dangling": "but there is no folder '.*nowhere'",
        tmp_path / ("n" * 256): "nothing can be written there: File name too long",
        tmp_path / "a" / "b": "but there is no folder '.*a'",
        "": "is '', which is a folder",
    }.items():
        with pytest.raises(ValueError, match=message):
            _files.check_writable("--save", path)


def test_an_interruption_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), _files.replacement(tmp_path / "m"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_new_file_has_the_usual_permissions(saved, tmp_path):
    old = os.umask(0o027)
    try:
        checkpoint.save(tmp_path / "new", checkpoint.load(saved[0]))
    finally:
        os.umask(old)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_the_disk_has_the_file_before_its_name_and_then_the_name(tmp_path, monkeypatch):
    done = []
    flush, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: (done.append(stat.S_ISDIR(os.fstat(handle).st_mode)), flush(handle)),
    )
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), replace(*names)))
    _files.write_atomically(tmp_path / "m", lambda file: file.write(b"1"))
    assert done == [False, "rename", True]


def test_a_symbolic_link_and_permissions_stay(saved, tmp_path):
    path, _ = saved
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    checkpoint.save(link, checkpoint.load(path))
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640


KILLED = """
    import os, signal, sys, time
    import numpy as np
    from ssm_manual import checkpoint
    from ssm_manual.models import DiagonalSSM

    path = sys.argv[1]
    models = [DiagonalSSM(np.full(20000, a), 1.0, a) for a in (0.25, 0.5, 0.75)]
    checkpoint.save(path, models[0])
    seen = set()
    for kill in range(50):
        child = os.fork()
        if child == 0:
            while True:
                for model in models:
                    checkpoint.save(path, model)
        time.sleep(0.002 + 0.0007 * kill)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        A = checkpoint.load(path).params["A"]
        assert A.size == 20000 and np.all(A == A[0]) and A[0] in (0.25, 0.5, 0.75), A
        seen.add(complex(A[0]))
    assert len(seen) > 1, "no save was ever finished"
    print("whole every time")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_save_leaves_the_old_file_or_the_new_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "m")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "whole every time", done.stderr
    assert all(name == "m" or name.startswith(".") for name in os.listdir(tmp_path))


# ------------------------------------------------------------------------------------------ mapping


def test_training_a_mapped_model_does_not_change_the_file(saved, rng):
    path, data = saved
    model = checkpoint.load(path, mmap=True)
    before = model.params["C"].copy()
    u = rng.standard_normal(50)
    model.fit(u, u, epochs=2)
    assert not np.array_equal(model.params["C"], before)
    assert path.read_bytes() == data


def test_a_mapped_model_outlives_its_files_name(saved, rng):
    path, _ = saved
    model = checkpoint.load(path, mmap=True)
    expected = checkpoint.load(path).params["A"]
    checkpoint.save(path, diagonal(rng, poles=50))
    path.unlink()
    assert np.array_equal(model.params["A"], expected)


MAPPED = """
    import sys
    import numpy as np
    from ssm_manual import checkpoint
    from ssm_manual.models import DiagonalSSM

    def resident():
        with open("/proc/self/status") as file:
            return next(int(l.split()[1]) for l in file if l.startswith("VmRSS")) / 1024

    DiagonalSSM([0.5], 1.0, 1.0)
    before = resident()
    model = checkpoint.load(sys.argv[1], mmap=True)
    print(resident() - before, model.params["A"].nbytes * 3 / 2**20)
    assert np.all(model.params["A"][:10] == 0.25)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_a_mapped_model_takes_no_memory_until_it_is_used(tmp_path):
    checkpoint.save(tmp_path / "m", DiagonalSSM(np.full(4_000_000, 0.25, "c8"), 1.0, 1.0))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MAPPED), str(tmp_path / "m")],
        capture_output=True,
        text=True,
        check=True,
    )
    added, size = map(float, done.stdout.split())
    assert size > 90
    assert added < 20
