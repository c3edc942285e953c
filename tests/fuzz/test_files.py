"""Files from strangers: every row of `coverage_files.ROWS`, through every door of its reader."""

import functools
import itertools
import os

import pytest

from ssm_manual.tasks import _idx

from . import damage, doors, forged, image_files, sound_files, store_files, text_files
from .budget import Budget
from .coverage_files import HAZARDS, LEFT_OUT, READERS, ROWS

pytestmark = pytest.mark.fuzz

#: Sound files, from which the hostile ones are made.
SEEDS = {
    "safetensors": forged.files,
    "training state": forged.training_states,
    "regression model": functools.partial(
        forged.files, chosen=("regression", "regression, trained")
    ),
    "wav": sound_files.wavs,
    "npy": sound_files.npys,
    "csv": text_files.recordings,
    "table": text_files.tables,
    "npz": image_files.archives,
    "idx": image_files.plain,
    "idx.gz": image_files.packed,
    "store": store_files.stores,
    "published log": text_files.logs,
}

#: Cases by reader and hazard, ``(good, header, rng) -> (label, bytes)``; by hazard, of any reader.
CASES = {
    "truncated": (damage.truncated, damage.random_truncated),
    "bits": (damage.bits, damage.random_bits),
    "bytes": (damage.others, damage.random_bytes),
    "wav claims": (sound_files.wav_claims,),
    "wav structure": (sound_files.wav_structure,),
    "wav values": (sound_files.wav_values,),
    "npy claims": (sound_files.npy_claims,),
    "npy structure": (sound_files.npy_structure,),
    "npy values": (sound_files.npy_values,),
    "npy pickle": (sound_files.npy_pickles,),
    "npz claims": (image_files.npz_claims,),
    "npz structure": (image_files.npz_structure,),
    "npz values": (image_files.npz_within(sound_files.npy_values),),
    "npz pickle": (image_files.npz_pickles,),
    "npz bomb": (image_files.npz_bombs,),
    "npz names": (image_files.npz_names,),
    "idx claims": (image_files.idx_claims,),
    "idx structure": (image_files.idx_structure,),
    "idx values": (image_files.idx_values,),
    "idx.gz claims": (image_files.gzipped(image_files.idx_claims),),
    "idx.gz structure": (image_files.gz_structure,),
    "idx.gz values": (image_files.gzipped(image_files.idx_values),),
    "idx.gz bomb": (image_files.gz_bombs,),
}
for _hazard in ("structure", "values", "names"):
    CASES[f"store {_hazard}"] = (getattr(store_files, _hazard),)
for _text in ("csv", "table"):
    CASES[f"{_text} claims"] = (text_files.claims,)
    CASES[f"{_text} structure"] = (text_files.structure,)
    CASES[f"{_text} values"] = (text_files.values,)
    CASES[f"{_text} names"] = (text_files.names,)
for _kind in ("safetensors", "training state", "regression model"):
    CASES[f"{_kind} claims"] = (forged.claims,)
    CASES[f"{_kind} structure"] = (forged.structure,)
    CASES[f"{_kind} values"] = (forged.values,)
    CASES[f"{_kind} names"] = (forged.names,)
    CASES[f"{_kind} pickle"] = (forged.pickles,)

#: What may be unpacked here (`_idx.MOST_UNPACKED`), in place of a gigabyte, and what that may take.
UNPACKED = 64 << 20
BOMB = UNPACKED + UNPACKED // 4 + doors.MEMORY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two folders: one where the trap would write, the file under test in another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_idx, "MOST_UNPACKED", UNPACKED)
    (tmp_path / "in").mkdir()
    return tmp_path


def header_of(reader, good):
    """How many bytes of a file are its header."""
    if READERS[reader].header is None:
        return 8 + int.from_bytes(good[:8], "little")
    return min(len(good), READERS[reader].header)


def cases(reader, hazard, folder, rng):
    """``(label, bytes)`` of a row, of one sound file after the other."""
    functions = CASES.get(f"{reader} {hazard}") or CASES[hazard]
    options = {"trap": doors.Trap()} if hazard == "pickle" else {}
    found = []
    for good in SEEDS[reader](folder):
        made = (f(good, header_of(reader, good), rng, **options) for f in functions)
        found.append(forged.alternating(*made))
    while found:  # one of each in turn
        for stream in list(found):
            case = next(stream, None)
            if case is None:
                found.remove(stream)
            else:
                yield case


def doors_for(reader, number):
    """Every case goes through the first door, each fifth through another one in turn."""
    first, *others = READERS[reader].doors
    yield first
    if others and number % 5 == 0:
        yield others[number // 5 % len(others)]


@pytest.mark.parametrize(("reader", "hazard"), [row for row in ROWS if row[1] != "node"])
def test_bytes(reader, hazard, folder, rng, request, capsys):
    budget = Budget(request, "files")
    survey, faults = request.config.getoption("--fuzz-survey"), {}
    limit = BOMB if hazard == "bomb" else None
    for number, (label, data) in enumerate(cases(reader, hazard, folder, rng)):
        path = folder / "in" / f"case{READERS[reader].suffix}"
        for beside in path.parent.glob(f"{path.name}-*"):  # a log of SQLite
            beside.unlink()
        if data is None:  # a case that cannot be made
            continue
        path.write_bytes(data)
        for door in doors_for(reader, number):
            refused = unsound(reader, hazard, door, label)
            fault = doors.judge(door, path, folder, capsys, limit, refused)
            budget.count()
            if fault:
                faults.setdefault((door, fault[0], fault[1][:60]), f"{label}: {fault[1]}")
        if not budget.left() or (faults and not survey):
            break
    assert not faults, listed(faults)


@pytest.mark.parametrize("hazard", ["truncated", "bits"])
@pytest.mark.parametrize("reader", [reader for reader, hazard in ROWS if hazard == "bits"])
def test_every_byte_and_bit(reader, hazard, folder, rng, request, capsys):
    """All cuts and all bits of one sound file's header, whatever the number of cases."""
    seconds = request.config.getoption("--fuzz-seconds")
    budget = Budget(request, "files")
    path = folder / "in" / f"case{READERS[reader].suffix}"
    good = SEEDS[reader](folder)[0]
    damaged = {"truncated": damage.truncated, "bits": damage.bits}[hazard]
    for label, data in damaged(good, header_of(reader, good), rng):
        path.write_bytes(data)
        door = READERS[reader].doors[0]
        refused = unsound(reader, hazard, door, label)
        fault = doors.judge(door, path, folder, capsys, refused=refused)
        budget.count()
        assert not fault, f"{label}: {fault}"
        if seconds and not budget.left():
            break


def unsound(reader, hazard, door, label):
    """Whether a case can only be refused: what is cut, and what no checksum fits."""
    if reader in ("csv", "table", "published log", "store"):
        return False  # part of a text is a text, and of a database perhaps an older one
    bits = hazard == "bits" and reader == "safetensors" and door != "checkpoint.load, mapped"
    return hazard == "truncated" or (bits and door != "apply MODEL")


def listed(faults):
    return "\n".join(f"{door}: {kind}: {text}" for (door, kind, _), text in faults.items())


def nodes(folder, suffix):
    """What may stand in the place of a file."""
    at = folder / "in"
    made = {
        "a folder": lambda path: path.mkdir(),
        "a pipe": os.mkfifo,
        "a link to a pipe": lambda path: (os.mkfifo(at / "pipe"), path.symlink_to(at / "pipe")),
        "a link to a folder": lambda path: path.symlink_to(at),
        "a link to itself": lambda path: path.symlink_to(path),
        "a link to nothing": lambda path: path.symlink_to(at / "nothing"),
        "nothing": lambda path: None,
        "a file without a name": lambda path: path.touch(mode=0),
        "an empty file": lambda path: path.touch(),
    }
    for device in (
        "/dev/null",
        "/dev/zero",
        "/dev/urandom",
        "/dev/tty",
        "/dev/stdin",
        "/proc/self/mem",
    ):
        made[f"a link to {device}"] = lambda path, device=device: path.symlink_to(device)
    for number, (label, make) in enumerate(made.items()):
        path = at / f"node{number}{suffix}"
        make(path)
        yield label, path


@pytest.mark.parametrize("reader", [row[0] for row in ROWS if row[1] == "node"])
def test_nodes(reader, folder, request, capsys):
    if reader == "store":
        pytest.importorskip("ssm_manual.store")
    budget = Budget(request, "files")
    faults = []
    for label, path in nodes(folder, READERS[reader].suffix):
        for door in READERS[reader].doors:
            if door == "Trainer.fit, resume" and label in ("nothing", "a link to nothing"):
                continue  # a run that begins
            fault = doors.judge(door, path, folder, capsys)
            budget.count()
            if fault:
                faults.append(f"{door}: {label}: {fault}")
    assert not faults, "\n".join(faults)


def test_every_pair_is_covered_or_explained():
    for reader, hazard in itertools.product(READERS, HAZARDS):
        assert ((reader, hazard) in ROWS) != ((reader, hazard) in LEFT_OUT)
    for reader, hazard in ROWS:
        assert hazard == "node" or f"{reader} {hazard}" in CASES or hazard in CASES
    assert set(LEFT_OUT) <= set(itertools.product(READERS, HAZARDS))
    assert {door for reader in READERS.values() for door in reader.doors} == set(doors.DOORS)


@pytest.mark.parametrize("reader", READERS)
def test_sound_files_pass(reader, folder, capsys):
    """Else all that follows would be refused for another reason than its damage."""
    passed = 0
    for good in SEEDS[reader](folder):
        path = folder / "in" / f"sound{READERS[reader].suffix}"
        path.write_bytes(good)
        for door in READERS[reader].doors:
            assert doors.judge(door, path, folder, capsys) is None
            path.write_bytes(good)
            try:
                doors.DOORS[door](str(path), folder)
                passed += 1
            except (doors.CommandError, ValueError) as error:
                text = str(error) + capsys.readouterr().err
                assert (
                    "reached" in text or "it must hold a" in text or "has a model for each" in text
                ), text
    assert passed
