"""The fuzz tests find what they are for: each fault is planted in a reader, and found.

A fault is a change of the source of one function, whose changed twin takes its place while the
cases of a row run through a door. A fault that no case shows fails the test.
"""

import inspect

import numpy as np
import pytest

from ssm_manual import _files, _tensors, checkpoint, cli
from ssm_manual.tasks import _idx, _npy, _table, _wav, recordings, tables
from ssm_manual.training import state

from . import doors
from .coverage_files import READERS
from .test_files import BOMB, cases, folder, nodes, unsound

__all__ = ["folder"]

pytestmark = pytest.mark.slow

#: Cases after which a fault counts as not found.
MOST = 800

#: What is planted: module, what takes its twin's place, ``old`` -> ``new`` in the source, and the
#: row and the door that find it.
FAULTS = {
    "sizes of arrays are not compared with their shapes": (
        _tensors, "Tensor", "if end - begin != math.prod(shape) * dtype.itemsize or", "if",
        "safetensors", "claims", "checkpoint.load",
    ),
    "shapes are multiplied before they are looked at": (
        _tensors, "Tensor", "type(n) is int and 0 <= n <= MOST_NUMBERS", "type(n) is int",
        "safetensors", "claims", "checkpoint.load",
    ),
    "the arrays' checksum is not compared": (
        checkpoint, "read", 'hexdigest() != header["data_sha256"]', 'hexdigest() == ""',
        "safetensors", "bits", "checkpoint.load",
    ),
    "NaN is accepted in an optimiser's state": (
        state, "TrainingState", "if check:", "if False:",
        "training state", "values", "Trainer.fit, resume",
    ),
    "pickles are loaded": (
        _npy, "parse", "allow_pickle=False", "allow_pickle=True",
        "npy", "pickle", "RecordingFile",
    ),
    "pickles are loaded from archives": (
        _idx, "_npy", ('dtype.kind not in "iuf"', "allow_pickle=False"), ("0", "allow_pickle=1"),
        "npz", "pickle", "labelled_images",
    ),
    "what is compressed unpacks to any size": (
        _idx, "_check_unpacked", "if packed and", "if False and",
        "npz", "bomb", "labelled_images",
    ),
    "an array's header is read as long as it says": (
        _idx, "_npy", "> _npy_header.LONGEST_HEADER", "< 0",
        "npz", "structure", "labelled_images",
    ),
    "truncated sound is accepted": (
        _wav, "parse", "if length > size - position:",
        "length = min(length, (size - position) // 8 * 8)\n    if False:",
        "wav", "truncated", "RecordingFile",
    ),
    "no channels": (
        _wav, "_format", "channels == 0 or frame == 0 or frame % channels", "False",
        "wav", "claims", "RecordingFile",
    ),
    "NaN is accepted in a recording": (
        recordings, "_finite", "not np.isfinite(block).all()", "False",
        "npy", "values", "RecordingFile",
    ),
    "memory by the width of the first line": (
        _table, "parse", "if found != width:", "if not np.empty((len(lines), width)).size:",
        "csv", "claims", "RecordingFile",
    ),
    "a time column that overflows": (
        _table, "_rate", "and np.isfinite(rate)", "",
        "csv", "structure", "RecordingFile",
    ),
    "names are counted one by one": (
        tables, "_check_header", "times[cell] > 1", "header.count(cell) > 1",
        "table", "claims", "tables.read_csv",
    ),
    "messages hold what the file holds": (
        _files, "short", "len(text) <= longest", "True",
        "table", "names", "tables.read_csv",
    ),
    "a pipe is waited on": (
        _files, "opened", "if stat.S_ISREG(mode):", 'return open(path, "rb")\n    if mode:',
        "wav", "node", "RecordingFile",
    ),
    "names reach the terminal": (
        cli, "_one_line", "c if c.isprintable() else repr(c)[1:-1]", "c",
        "safetensors", "names", "control characters",
    ),
}  # fmt: skip


def plant(monkeypatch, module, name, old, new):
    """The twin of a function or a class, of changed source, in its place."""
    source = inspect.getsource(module)
    own = inspect.getsource(getattr(module, name))
    changed = own
    for a, b in zip(*((old, new) if isinstance(old, tuple) else ((old,), (new,)))):
        assert own.count(a) >= 1, f"the source of {name} has no {a!r}"
        changed = changed.replace(a, b)
    namespace = {"__name__": module.__name__, "__file__": module.__file__}
    exec(compile(source.replace(own, changed), module.__file__, "exec"), namespace)
    twin = namespace[name]
    if inspect.isfunction(twin):  # with the globals of the module, whose errors are caught by class
        twin = type(twin)(twin.__code__, vars(module), name, twin.__defaults__, twin.__closure__)
        twin.__kwdefaults__ = namespace[name].__kwdefaults__
        monkeypatch.setattr(module, name, twin)
        return
    for key, value in vars(twin).items():
        inner = getattr(value, "__func__", None)
        if isinstance(value, classmethod) and inner.__closure__ is None:
            fresh = type(inner)(inner.__code__, vars(module), key, inner.__defaults__)
            fresh.__kwdefaults__ = inner.__kwdefaults__
            monkeypatch.setattr(getattr(module, name), key, classmethod(fresh))


def shown_by(reader, hazard, door, folder, rng, capsys):
    """The first fault that the cases of a row show, or None."""
    if door == "control characters":
        return terminal(folder, capsys)
    if hazard == "node":
        for label, path in nodes(folder, READERS[reader].suffix):
            if fault := doors.judge(door, path, folder, capsys):
                return label, fault
        return None
    limit = BOMB if hazard == "bomb" else None
    path = folder / "in" / f"case{READERS[reader].suffix}"
    for number, (label, data) in enumerate(cases(reader, hazard, folder, rng)):
        path.write_bytes(data)
        refused = unsound(reader, hazard, door, label)
        if fault := doors.judge(door, path, folder, capsys, limit, refused):
            return label, fault
        if number > MOST:
            return None
    return None


def terminal(folder, capsys):
    """A file whose name a terminal would obey."""
    path = folder / "in" / "a\x1b[2J.wav"
    path.write_bytes(b"no recording")
    fault = doors.judge("apply FILE", path, folder, capsys)
    return ("an escape in a name", fault) if fault else None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault, folder, rng, capsys, monkeypatch):
    module, name, old, new, reader, hazard, door = FAULTS[fault]
    monkeypatch.setattr(doors, "SECONDS", 10)
    with monkeypatch.context() as planted, np.errstate(all="ignore"):
        plant(planted, module, name, old, new)
        found = shown_by(reader, hazard, door, folder, rng, capsys)
    assert found, "not found"
    print(f"\n{fault}: {found}")


def test_a_traversal_is_found(folder, rng, capsys, monkeypatch):
    """Names of signals taken for names of files."""
    export = pytest.importorskip("ssm_manual.store._export")
    monkeypatch.setattr(export._Names, "new", lambda self, name, suffix: name + suffix)
    found = shown_by("store", "names", "Store.export", folder, rng, capsys)
    assert found, "not found"
    print(f"\n{found}")
