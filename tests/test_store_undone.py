"""The run store where something is undone: transactions, interrupts, a full disk, old logs."""

import contextlib
import os
import shutil
import time

import numpy as np
import pytest

from ssm_manual.models import DiagonalSSM
from ssm_manual.store import Store, StoreError, _database, _export


def test_what_is_undone_is_undone_for_every_run_of_the_store(store):
    """A run goes on where it stood, and no name is taken for another's."""
    first, second = store.start("a"), store.start("b")
    second.append("x", np.arange(3.0))
    started = []

    def broken_off():
        with first.together():
            second.append("x", np.zeros(5))
            second.append("y", np.zeros(5))
            second.log(0, loss=1.0)
            second.finish(score=1)
            started.append(store.start("c"))
            1 / 0  # noqa: B018

    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert second.status == "running"
    first.log(0, other=5.0)  # takes the number that `loss` had
    first.append("z", np.ones(2))  # and that of `y`
    second.log(1, loss=7.0)
    second.append("x", np.arange(3.0, 5.0))
    second.append("y", np.arange(2))  # of another type
    assert second.read("x").tolist() == [0, 1, 2, 3, 4]
    assert second.read("y").tolist() == [0, 1]
    assert first.metrics("other")[1].tolist() == [5.0]
    assert {name: v.tolist() for name, (_, v) in second.metrics().items()} == {"loss": [7.0]}
    assert first.read("z").tolist() == [1, 1]
    with pytest.raises(StoreError, match=r"nothing can be added|has been deleted"):
        started[0].append("x", np.zeros(3))


@pytest.mark.parametrize("inner", [False, True])
def test_an_interrupt_when_a_transaction_has_just_begun(inner, path, monkeypatch):
    """What is acknowledged afterwards is kept, and others can write."""
    execute = _database.Database.execute

    def interrupted(self, sql, values=()):
        rows = execute(self, sql, values)
        if sql.startswith("SAVEPOINT" if inner else "BEGIN"):
            raise KeyboardInterrupt
        return rows

    with Store(path) as store, Store(path, timeout=0.01) as other:
        run = store.start("a")
        for call in (
            lambda: run.log(0, loss=1.0),
            lambda: run.append("x", np.zeros(9000)),
            lambda: run.save_checkpoint(DiagonalSSM([0.5], 1.0, 0.5)),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(_database.Database, "execute", interrupted)
                around = run.together() if inner else contextlib.nullcontext()
                with pytest.raises(KeyboardInterrupt), around:
                    call()
            run.append("y", np.zeros(3))
            other.start("b")
        run.finish()
    with Store(path) as store:
        run = store.run(1)
        assert (run.status, run.signals["y"].length) == ("finished", 9)
        assert (run.metrics(), run.checkpoints, list(run.signals)) == ({}, [], ["y"])


def full(run):
    """As if there were no room on the disk for another page."""
    pages = run.database.execute("PRAGMA page_count")[0][0]
    run.database.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk(store):
    run = store.start("a")
    run.append("x", np.arange(3.0))
    full(run)
    for call in (
        lambda: run.append("x", np.zeros(2000)),  # a row
        lambda: run.append("x", np.zeros(9000)),  # several
        lambda: run.save_checkpoint(DiagonalSSM(np.full(2000, 0.5), 1.0, 0.5)),
    ):
        with pytest.raises(StoreError, match="the disk is full"):
            call()
    run.database.execute("PRAGMA max_page_count = 100000")
    assert run.append("x", np.arange(3.0, 5.0)) == 5
    assert run.read("x").tolist() == [0, 1, 2, 3, 4]
    assert run.checkpoints == []


def test_after_a_full_disk_nothing_is_written_together(store):
    """SQLite undoes all of it at once: what comes later must not stand alone."""
    run = store.start("a")
    run.append("x", np.arange(3.0))

    def half():
        with run.together():
            run.log(0, loss=1.0)
            full(run)
            with pytest.raises(StoreError, match="the disk is full"):
                run.append("x", np.zeros(9000))
            run.database._connection.execute("PRAGMA max_page_count = 100000")
            for call in (lambda: run.append("x", np.zeros(2)), lambda: run.log(1, loss=2.0)):
                with pytest.raises(StoreError, match="has undone all"):
                    call()

    with pytest.raises(StoreError, match="has undone all"):
        half()
    assert run.metrics() == {}
    assert run.append("x", np.arange(3.0, 5.0)) == 5
    assert run.read("x").tolist() == [0, 1, 2, 3, 4]


def test_what_is_read_together(store, tmp_path):
    run = store.start("a")
    with run.together():
        run.append("x", np.ones((2, 3)))
        run.save_checkpoint(DiagonalSSM([0.5], 1.0, 0.5))
        assert run.load_checkpoint().params["A"] == 0.5
        store.export(run, tmp_path / "out")
        assert [other.id for other in store.runs()] == [1]
    assert run.checkpoints == ["model"]
    assert np.load(tmp_path / "out" / "x.npy").tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_log_that_cannot_be_read_is_not_ignored(store, path, tmp_path, monkeypatch):
    """Copied without its index into a folder where none can be made."""
    run = store.start("a")
    run.append("x", np.arange(3.0))
    (tmp_path / "there").mkdir()
    for end in ("", "-wal"):
        shutil.copy(path + end, tmp_path / "there" / f"runs.db{end}")
    copy = str(tmp_path / "there" / "runs.db")
    with monkeypatch.context() as patch:
        patch.setattr(_database.Database, "_could_share", lambda self: False)
        with pytest.raises(StoreError, match="has left a log beside it"):
            Store(copy, readonly=True)
    assert sorted(os.listdir(tmp_path / "there")) == ["runs.db", "runs.db-wal"]
    with Store(copy, readonly=True) as other:
        assert other.run(1).read("x").tolist() == [0, 1, 2]


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_an_export_in_pieces(channels, store, tmp_path, monkeypatch):
    from scipy.io import wavfile

    monkeypatch.setattr(_export, "_PIECE", 1000)
    with store.start("a") as run:
        for dtype in ("int16", "complex64"):
            run.signal(dtype, dtype=dtype, rate=8000, channels=channels)
            for length in (500, 1999, 1):
                shape = (length,) if channels is None else (channels, length)
                block = np.arange(np.prod(shape)).reshape(shape)
                run.append(dtype, block.astype(dtype))
    store.export(run, tmp_path / "out")
    for dtype in ("int16", "complex64"):
        found = np.load(tmp_path / "out" / f"{dtype}.npy")
        assert found.dtype == dtype
        assert np.array_equal(found, run.read(dtype))
    rate, samples = wavfile.read(tmp_path / "out" / "int16.wav")
    assert rate == 8000
    assert np.array_equal(np.atleast_2d(samples.T), np.atleast_2d(run.read("int16")))


def test_rows_where_none_should_be(store):
    """Of a stranger's file: told, and no error of SQLite's own."""
    run = store.start("a")
    database = run.database
    database.execute("INSERT INTO metric VALUES (1, 0, 0, 1.0)")
    with pytest.raises(StoreError, match="is damaged: there is a row"):
        run.log(0, loss=1.0)
    database.execute("INSERT INTO chunk VALUES (?, x'')", (1 << 42,))
    with pytest.raises(StoreError, match="is damaged: there is a row"):
        run.append("x", np.zeros(3))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE run SET name = x'00'", "its description"),
        ("UPDATE run SET started = 'x'", "its description"),
        ("UPDATE run SET tags = '[3]'", "its description"),
        ("UPDATE run SET ended = 'x'", "its end"),
        ("UPDATE run SET status = 'done'", "its status"),
        ('UPDATE run SET scores = \'{"a": "b"}\'', "a score"),
        ("UPDATE series SET name = x'00'", "a metric"),
        ("UPDATE checkpoint SET name = x'00'", "no text"),
        ("UPDATE checkpoint SET size = 'x'", "has no size"),
        ("UPDATE signal SET channels = 0", "signal 1"),
    ],
)
def test_cells_that_make_no_sense(sql, message, store):
    from ssm_manual.cli import _runs_report

    with store.start("a") as run:
        run.log(0, loss=1.0)
        run.append("x", np.zeros(3))
        run.save_checkpoint(DiagonalSSM([0.5], 1.0, 0.5))
        run.finish(score=1.0)
    run.database.execute("PRAGMA ignore_check_constraints = ON")
    run.database.execute(sql)

    def tell():
        for found in store.runs():
            _runs_report.listing([found])
            _runs_report.details(found)
            found.load_checkpoint()

    with pytest.raises(StoreError, match=message):
        tell()


def test_a_metric_that_has_lost_its_values_is_damage(store):
    """A name is entered together with its first value."""
    with store.start("a") as run:
        run.log(0, loss=1.0)
    run.database.execute("DELETE FROM metric")
    for name in (None, "loss"):
        with pytest.raises(StoreError, match="a metric of run 1 makes no sense"):
            run.metrics(name)


def test_each_write_waits_for_the_disk_if_asked_to(path, tmp_path):
    for durable, level in ((False, 1), (True, 2)):
        with Store(path, durable=durable) as store:
            assert store._database.execute("PRAGMA synchronous") == [(level,)]
            assert store._database.execute("PRAGMA trusted_schema") == [(0,)]


def test_numbers_at_their_limits(store):
    run = store.start("a")
    run.append("x", np.arange(3.0))
    assert run.read("x", 0, 0).size == 0
    run.log(2**63 - 1, loss=1.0)
    assert run.metrics("loss")[0].tolist() == [2**63 - 1]


def test_every_run_left_open_is_marked_and_when(path):
    before = time.time()
    with Store(path) as store:
        for name in ("a", "b"):
            store.start(name)
        first = time.time()
        time.sleep(0.01)
    with Store(path, readonly=True) as store:
        for run in store.runs():
            assert "was closed before" in run.error
            assert before <= run.started <= first < run.ended <= time.time()
