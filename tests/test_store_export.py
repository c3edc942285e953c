"""Runs as folders of plain files, and runs that are forgotten."""

import json
import math
import os

import numpy as np
import pytest

from ssm_manual import checkpoint
from ssm_manual.models import DiagonalSSM
from ssm_manual.store import Run, StoreError

#: Names that mean something to a shell, a path, SQL or Windows.
TRICKS = [
    "../../etc/passwd", "/absolute", "..", ".", "a/b", "a\\b", "a:b", "con", "NUL.txt", "a\0b",
    "x'; DROP TABLE run; --", '"', "a b", "A B", "ä", "-rf", "~", "*", "x" * 300, "config",
    "metrics", "\n", "%s", "?1", " ", "𝄞",
]  # fmt: skip


def test_tricks_in_names_are_names(store, tmp_path):
    run = store.start("'; DROP TABLE run; --", {"../x": "'"}, tags=TRICKS)
    for k, name in enumerate(TRICKS):
        run.append(name, np.full(3, k, np.float32))
        run.log(k, **{name: k})
        if k % 5 == 0:  # each waits for the disk
            run.save_checkpoint(DiagonalSSM([0.5], 1.0, 0.5), name)
    reader = store.runs(name="'; DROP TABLE run; --", tag=TRICKS[0])[0]
    assert list(reader.metrics()) == list(reader.signals) == TRICKS
    assert reader.checkpoints == TRICKS[::5]
    for k, name in enumerate(TRICKS):
        assert reader.read(name).tolist() == [k] * 3
        assert reader.metrics(name)[0].tolist() == [k]
    before = sorted(os.listdir(tmp_path))
    store.export(run, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "out"])
    files = os.listdir(tmp_path / "out")
    assert len({name.casefold() for name in files}) == len(files)
    assert len(files) == 2 + len(TRICKS) + len(TRICKS[::5])
    assert all(name.isascii() and not name.startswith((".", "-")) for name in files)
    about = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    for k, name in enumerate(TRICKS):
        found = np.load(tmp_path / "out" / about["signals"][name]["file"])
        assert found.tolist() == [k] * 3
    for name in TRICKS[::5]:
        checkpoint.load(tmp_path / "out" / about["checkpoints"][name])


def test_what_no_wav_file_can_say_is_not_exported_as_one(store, tmp_path):
    """Bytes of a frame are 16 bits of its header, bytes of a second 32."""
    with store.start("a") as run:
        run.signal("wide", rate=8000, channels=20000, dtype="float32")
        run.signal("fast", rate=2.0**31, dtype="float32")
        run.signal("slow", rate=0.5, dtype="float32")
        run.append("wide", np.zeros((20000, 2), np.float32))
    store.export(1, tmp_path / "out")
    names = os.listdir(tmp_path / "out")
    assert sorted(names) == ["config.json", "fast.npy", "metrics.csv", "slow.npy", "wide.npy"]


def test_what_is_exported_is_what_was_kept(store, tmp_path):
    from scipy.io import wavfile

    run = store.start("a", {"b": [1, None]}, seed=3, tags=["t"])
    run.signal("stereo", dtype="int16", rate=8000, channels=2)
    stereo = np.arange(2000, dtype=np.int16).reshape(2, 1000)
    run.append("stereo", stereo)
    run.append("raw", np.arange(3) * 1j)
    run.signal("empty", channels=3)
    run.signal("fast", rate=96000)
    run.append("fast", np.ones(9, np.float32))
    run.log(0, loss=1 / 3)
    run.log(1, loss=math.nan)
    run.finish(snr=math.inf)
    store.export(1, tmp_path / "out")
    folder = tmp_path / "out"
    assert sorted(os.listdir(folder)) == [
        "config.json", "empty.npy", "fast.npy", "fast.wav", "metrics.csv", "raw.npy", "stereo.npy",
        "stereo.wav",
    ]  # fmt: skip
    assert np.array_equal(np.load(folder / "stereo.npy"), stereo)
    assert np.array_equal(np.load(folder / "raw.npy"), np.arange(3) * 1j)
    assert np.load(folder / "empty.npy").shape == (3, 0)
    rate, samples = wavfile.read(folder / "stereo.wav")
    assert rate == 8000
    assert wavfile.read(folder / "fast.wav")[0] == 96000
    assert np.array_equal(samples.T, stereo)
    assert (folder / "metrics.csv").read_text().splitlines() == [
        "name,step,value", f"loss,0,{1 / 3!r}", "loss,1,nan"
    ]  # fmt: skip
    about = json.loads((folder / "config.json").read_text("utf-8"))
    assert about["config"] == {"b": [1, None]}
    assert about["scores"] == {"snr": "Infinity"}
    assert (about["status"], about["seed"], about["tags"]) == ("finished", 3, ["t"])
    assert about["signals"]["stereo"]["rate"] == 8000
    assert os.stat(folder).st_mode & 0o777 == os.stat(tmp_path).st_mode & 0o777 | 0o055


def test_an_export_is_there_whole_or_not_at_all(store, tmp_path, monkeypatch):
    run = store.start("a")
    run.append("x", np.zeros(3))
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match=r"folder is .*, which exists"):
        store.export(run, tmp_path / "there")
    with pytest.raises(ValueError, match="there is no folder"):
        store.export(run, tmp_path / "no" / "where")
    before = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(Run, "metrics", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.export(run, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == before


def test_delete_leaves_nothing_and_takes_nothing_else(store):
    runs = []
    for k in range(3):
        run = store.start(f"run {k}")
        run.log(0, loss=k)
        run.append("x", np.full(20_000, k, np.float32))
        run.append("y", np.full(5, k, np.int16))
        run.save_checkpoint(DiagonalSSM([0.5], 1.0, 0.5))
        run.finish()
        runs.append(run)
    tables = ["run", "series", "metric", "signal", "chunk", "checkpoint", "part"]

    def counts():
        return [store._database.execute(f"SELECT count(*) FROM {t}")[0][0] for t in tables]

    before = counts()
    store.delete(runs[1])
    assert counts() == [2 * n // 3 for n in before]
    assert [run.name for run in store.runs()] == ["run 0", "run 2"]
    for k in (0, 2):
        assert store.run(k + 1).read("x").tolist() == [k] * 20_000
        assert store.run(k + 1).metrics("loss")[1].tolist() == [k]
        store.run(k + 1).load_checkpoint()
    with pytest.raises(StoreError, match="run 2 has been deleted"):
        assert runs[1].status
    with pytest.raises(StoreError, match="there is no run 2"):
        store.delete(2)
    store.delete(3)
    assert store.start("next").id == 4  # numbers are never given twice
    with pytest.raises(StoreError, match="run 4 is running: it cannot be deleted"):
        store.delete(1, 4, force=True)  # its process is here
    assert [run.id for run in store.runs()] == [1, 4]  # all or none
