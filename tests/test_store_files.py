"""Files that are not stores, or no longer: refused in words, and left as they were."""

import os
import sqlite3
import stat

import numpy as np
import pytest

from ssm_manual import checkpoint
from ssm_manual.models import DiagonalSSM
from ssm_manual.store import Store, StoreError, _schema


def fill(path):
    with Store(path) as store, store.start("a", {"b": [1, 2]}, seed=1, tags=["t"]) as run:
        for k in range(3):
            run.append("x", np.arange(900, dtype=np.float32))
            run.log(k, loss=k)
        run.append("y", np.ones((2, 50), np.int16))
        run.save_checkpoint(DiagonalSSM([0.5], 1.0, 0.5))


def use(path):
    """Everything that can be read, something new, and everything deleted."""
    with Store(path) as store:
        for run in store.runs():
            _ = repr(run), run.config, run.scores, run.metrics(), run.ended, run.error
            for name in run.signals:
                run.read(name)
            for name in run.checkpoints:
                run.load_checkpoint(name)
        with store.start("n") as run:
            run.append("z", np.zeros(2000))
            run.log(0, a=1)
        for run in store.runs():
            store.delete(run)


def snapshot(folder):
    return {name: (folder / name).read_bytes() for name in os.listdir(folder)}


def refused(path, message, **options):
    with pytest.raises(StoreError, match=message):
        Store(path, **options)


@pytest.mark.parametrize("value", ["text", 5])
def test_a_checkpoint_that_is_not_made_of_bytes(value, path, tmp_path):
    fill(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE part SET data = ?", (value,))
    connection.close()
    with Store(path) as store, pytest.raises(StoreError, match="is not made of bytes"):
        store.run(1).load_checkpoint("model")


@pytest.mark.parametrize("options", [{}, {"readonly": True}, {"create": False}])
@pytest.mark.parametrize(
    "data", [b"x", b"not a database" * 1000, b"SQLite format 3\0", b"SQLite format 3\0" * 99]
)
def test_what_is_no_database(data, options, tmp_path):
    file = tmp_path / "f"
    file.write_bytes(data)
    refused(file, "f: is (not a store|damaged)", **options)
    assert snapshot(tmp_path) == {"f": data}


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_of_another_application(mode, path, tmp_path):
    """One with a log beside it, which opening and closing it the usual way would write back."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"PRAGMA journal_mode = {mode}")
    other.execute("CREATE TABLE t (x)")
    other.execute("INSERT INTO t VALUES (1)")
    before = snapshot(tmp_path)
    refused(path, "is a database of another application")
    refused(path, "is a database of another application", readonly=True)
    assert snapshot(tmp_path) == before
    other.execute("INSERT INTO t VALUES (2)")
    assert other.execute("SELECT * FROM t").fetchall() == [(1,), (2,)]
    other.close()


def test_another_application_with_our_tables(path, tmp_path):
    fill(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA application_id = 1")
    other.close()
    before = snapshot(tmp_path)
    refused(path, "another application")
    assert snapshot(tmp_path) == before


def test_a_later_version(path, tmp_path):
    fill(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"PRAGMA user_version = {_schema.VERSION + 1}")
    other.close()
    before = snapshot(tmp_path)
    refused(path, f"is a store of version {_schema.VERSION + 1}; .* reads {_schema.VERSION}: upd")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM run; END",
        "ALTER TABLE metric RENAME TO n",
        "ALTER TABLE run ADD COLUMN more",
    ],
)
def test_tables_of_a_strangers_file(sql, path):
    fill(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(sql)
    other.close()
    refused(path, "its tables are not those of a store")


def test_places_where_no_store_can_be(tmp_path):
    refused(tmp_path, "is a folder; it must be a file")
    refused(tmp_path / "no" / "where.db", "there is no folder")
    refused(tmp_path / "none.db", "there is no such store", create=False)
    refused(tmp_path / "none.db", "there is no such store", readonly=True)
    refused(tmp_path / ("x" * 300), "it cannot be a store: .*too long")
    for name in ("a\0b", "", b"a.db", "\ud800"):
        refused(name, "path is .*; it must be the name of a file")
    refused(os.devnull, "is a device or a pipe")
    assert os.listdir(tmp_path) == []


def test_an_empty_file_becomes_a_store(path):
    open(path, "w").close()
    refused(path, "is empty", readonly=True)
    fill(path)
    use(path)


@pytest.mark.parametrize("name", ["a b.db", "a?b=c#d.db", "%41.db", "ä.db", ":memory:"])
def test_any_name_of_a_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(name)
    assert os.listdir(tmp_path) == [name]
    use(name)


def test_a_file_in_use_keeps_its_locks(path):
    """Looking at a file must not drop the locks that this process has on it already."""
    with Store(path) as store:
        run = store.start("a")
        run.append("x", np.zeros(3))
        Store(path).close()
        # another process would write the log back and delete it, were it the last
        child = os.spawnlp(
            os.P_WAIT, "python3", "python3", "-c",
            f"import sqlite3; c = sqlite3.connect({path!r}); c.execute('SELECT * FROM run')"
            ".fetchall(); c.close()",
        )  # fmt: skip
        assert child == 0
        assert os.path.exists(path + "-wal")
        run.append("x", np.ones(3))
        with Store(path, readonly=True) as other:
            assert other.run(1).read("x").tolist() == [0, 0, 0, 1, 1, 1]


def check_truncated(path, step):
    fill(path)
    with open(path, "rb") as file:
        whole = file.read()
    for size in range(1, len(whole), step):
        with open(path, "wb") as file:
            file.write(whole[:size])
        try:
            use(path)
        except StoreError:
            pass
        else:  # nothing but the unused end of the last page is missing
            assert len(whole) - size <= 4096


def test_truncated_at_any_length(path):
    check_truncated(path, 1531)


@pytest.mark.slow
def test_truncated_at_every_64th_byte(path):
    check_truncated(path, 64)


def check_flipped(path, rng, rounds):
    fill(path)
    with open(path, "rb") as file:
        whole = file.read()
    refused = 0
    for _ in range(rounds):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            page = 4096 * int(rng.integers(len(data) // 4096))
            data[page + int(rng.integers(rng.choice([120, 4096])))] ^= 1 << int(rng.integers(8))
        for suffix in ("-wal", "-shm"):
            if os.path.exists(path + suffix):
                os.unlink(path + suffix)
        with open(path, "wb") as file:
            file.write(data)
        try:
            use(path)  # what lies in unused room, or in samples, is nobody's to see
        except (StoreError, checkpoint.CheckpointError):
            refused += 1
    assert refused > rounds / 20


def test_flipped_bits_are_survived(path, rng):
    check_flipped(path, rng, 20)


@pytest.mark.slow
def test_many_flipped_bits_are_survived(path, rng):
    check_flipped(path, rng, 5000)


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # to fork beside threads
def test_what_may_be_read_and_not_written(path, tmp_path):
    """In a child, without a superuser's powers."""
    fill(path)
    before = os.stat(path).st_mode
    for folder in (tmp_path, *tmp_path.parents):
        if not os.stat(folder).st_mode & stat.S_IXOTH and os.getuid() == 0:
            break
    else:
        folder = None
    moved = path
    if os.getuid() == 0:  # where nobody else may look
        import shutil
        import tempfile

        moved = os.path.join(tempfile.mkdtemp(), "runs.db")
        shutil.copy(path, moved)
        os.chmod(os.path.dirname(moved), 0o755)
    os.chmod(moved, 0o444)
    if os.getuid() != 0:
        os.chmod(tmp_path, 0o555)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            with Store(moved, readonly=True) as store:
                assert store.run(1).read("y").shape == (2, 50)
                assert store.runs()[0].status == "finished"
                with pytest.raises(StoreError, match="open for reading alone"):
                    store.start("b")
                with pytest.raises(StoreError, match="open for reading alone"):
                    store.delete(1)
            refused(moved, "read-only")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    os.chmod(tmp_path, 0o755)
    os.chmod(moved, stat.S_IMODE(before))
    assert os.listdir(os.path.dirname(moved)) == ["runs.db"]
    if moved != path:
        shutil.rmtree(os.path.dirname(moved))
