"""The run store: what is written is read back, exactly; what cannot be is refused in words."""

import io
import itertools
import math
import sqlite3
import threading

import numpy as np
import pytest

from ssm_manual import checkpoint
from ssm_manual.models import DiagonalSSM
from ssm_manual.store import Store, StoreError, _checkpoints, _chunks, _schema

# --------------------------------------------------------------------------------------- runs


def test_a_run_comes_back_as_it_was_told(path):
    config = {"poles": np.int64(4), "rates": (0.1, np.float32(0.5)), "name": "ö", "A": np.eye(2)}
    with Store(path) as store:
        run = store.start("denoise", config, seed=[3, 1], tags=("b", "a", "b"), versions={"x": "1"})
        assert run.status == "running"
        assert run.ended is None
        run.finish(snr=12.5, worst=-math.inf, unknown=math.nan)
    with Store(path) as store:
        again = store.run(run.id)
        assert (again.id, again.name, again.seed, again.tags) == (1, "denoise", [3, 1], ["a", "b"])
        assert again.config == {
            "poles": 4, "rates": [0.1, 0.5], "name": "ö", "A": [[1.0, 0.0], [0.0, 1.0]]
        }  # fmt: skip
        assert again.status == "finished"
        assert again.error == ""
        assert again.started <= again.ended
        assert again.scores["snr"] == 12.5
        assert again.scores["worst"] == -math.inf
        assert math.isnan(again.scores["unknown"])
        assert again.versions["x"] == "1"
        assert {"python", "numpy", "ssm_manual"} <= set(again.versions)


def test_runs_are_found_by_name_status_tag_and_time(store):
    first = store.start("a", tags=["x"])
    second = store.start("b", tags=["x", "y"])
    third = store.start("a")
    first.finish()
    second.fail("no")

    def ids(**filters):
        return [run.id for run in store.runs(**filters)]

    assert ids() == [1, 2, 3]
    assert ids(name="a") == [1, 3]
    assert ids(tag="x") == [1, 2]
    assert ids(status="failed") == [2]
    assert ids(status="running") == [3]
    assert ids(name="a", status="finished", tag="x") == [1]
    assert ids(name="c") == []
    assert ids(since=third.started + 1) == []
    assert ids(since=first.started) == [1, 2, 3]
    with pytest.raises(ValueError, match="status is 'done'; it must be one of"):
        store.runs(status="done")


def test_a_block_says_how_it_went(store):
    with store.start("well") as run:
        pass
    assert run.status == "finished"
    with pytest.raises(ZeroDivisionError), store.start("badly") as run:
        1 / 0  # noqa: B018
    assert (run.status, run.error) == ("failed", "ZeroDivisionError: division by zero")
    with pytest.raises(KeyboardInterrupt), store.start("stopped") as run:
        raise KeyboardInterrupt
    assert (run.status, run.error) == ("interrupted", "KeyboardInterrupt")
    with store.start("said so") as run:
        run.fail("a reason")
    assert (run.status, run.error) == ("failed", "a reason")


def test_what_the_store_is_closed_on_is_interrupted_or_failed(path):
    with Store(path) as store:
        store.start("left open")
    with pytest.raises(ZeroDivisionError), Store(path) as store:
        store.start("torn down").log(0, loss=1 / 0)
    with Store(path) as store:
        first, second = store.runs()
        assert first.status == "interrupted"
        assert "was closed before" in first.error
        assert (second.status, second.error) == ("failed", "ZeroDivisionError: division by zero")


def test_only_what_start_returned_writes_and_only_until_the_end(store):
    run = store.start("a")
    run.append("x", np.zeros(3))
    other = store.run(run.id)
    writes = [
        lambda run: run.log(0, loss=1.0),
        lambda run: run.append("x", np.zeros(3)),
        lambda run: run.append("new", np.zeros(3)),
        lambda run: run.signal("y"),
        lambda run: run.save_checkpoint(DiagonalSSM([0.5], 1.0, 0.5)),
        lambda run: run.finish(),
        lambda run: run.fail("x"),
        lambda run: run.interrupt(),
    ]
    for write in writes:
        with pytest.raises(StoreError, match="nothing can be added"):
            write(other)
    run.finish()
    for write in writes:
        with pytest.raises(StoreError, match="run 1 is finished"):
            write(run)
    assert run.signals["x"].length == 3
    assert run.metrics() == {}


def test_a_run_that_is_not_there(store):
    for number in (1, 2**62):
        with pytest.raises(StoreError, match=f"there is no run {number}"):
            store.run(number)


# ------------------------------------------------------------------------------------- metrics


def test_metrics_come_back_by_step(store, path):
    run = store.start("a")
    steps = [0, 5, 2, 2**53 + 1]
    for k, step in enumerate(steps):
        run.log(step, loss=k / 3, **{"learning rate; --": np.float32(k)})
    run.log(1, self=1, step=2)
    with Store(path, readonly=True) as other:
        for r in (run, store.run(1), other.run(1)):
            found, values = r.metrics("loss")
            assert found.dtype == np.int64
            assert found.tolist() == [0, 2, 5, 2**53 + 1]
            assert values.tolist() == [0, 2 / 3, 1 / 3, 1.0]
            assert list(r.metrics()) == ["loss", "learning rate; --", "self", "step"]
    with pytest.raises(ValueError, match="name is 'lost'; it must be one of: 'loss'"):
        run.metrics("lost")


def test_what_diverged_is_kept(store):
    run = store.start("a")
    values = [1.0, math.nan, math.inf, -math.inf, 5e-324, 1 / 3, 1e308]
    for value in values:
        run.log(3, loss=value)  # in the order in which they came
    found = store.run(1).metrics("loss")[1]
    assert found.tobytes() == np.array(values).tobytes()


def test_what_is_logged_is_logged_whole_or_not_at_all(store, monkeypatch):
    run = store.start("a")
    for bad in ("1", None, True, 1j, [1.0], 10**400):
        with pytest.raises(ValueError, match=r"values\['acc'\] is .*; it (must|is beyond)"):
            run.log(0, loss=1.0, acc=bad)
    with pytest.raises(ValueError, match="step is -1"):
        run.log(-1, loss=1.0)
    with pytest.raises(ValueError, match=r"step is 0\.5"):
        run.log(0.5, loss=1.0)
    execute = run.database.execute

    def failing(sql, values=()):
        if sql.startswith("INSERT INTO metric") and values[-1] == 2.0:
            raise MemoryError
        return execute(sql, values)

    with monkeypatch.context() as patch:
        patch.setattr(run.database, "execute", failing)
        with pytest.raises(MemoryError):
            run.log(0, loss=1.0, acc=2.0)
    assert run.metrics() == {}
    run.log(0, loss=3.0, acc=4.0)
    assert run.metrics("loss")[1].tolist() == [3.0]
    assert run.metrics("acc")[1].tolist() == [4.0]


# ------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_a_signal_comes_back_to_the_bit(channels, store, rng):
    run = store.start("a")
    for dtype in _chunks.DTYPES:
        blocks = []
        for n in (1, 7, 0, 20_011, 64):
            shape = (n,) if channels is None else (channels, n)
            raw = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
            blocks.append(raw.view(dtype)[..., 0])  # any bits, NaN with all its payloads included
        total = 0
        for block in blocks:
            total += block.shape[-1]
            assert run.append(dtype, block) == total
        whole = np.concatenate(blocks, axis=-1)
        found = store.run(1).read(dtype)
        assert found.dtype == whole.dtype
        assert found.shape == whole.shape
        assert found.tobytes() == whole.tobytes()
        assert store.run(1).signals[dtype] == (dtype, dtype, channels, None, total)


def test_every_border_is_read_exactly(store):
    """Around each border of a row, with rows of any length between 1 and the most."""
    run = store.start("a")
    whole = np.arange(20_000, dtype=np.float32)
    # 8192 of them are two rows, 4097 one and a row of a single sample
    cuts = [0, 1, 2, 4096, 8192, 12_289, 12_290, 20_000]
    for first, last in itertools.pairwise(cuts):
        run.append("x", whole[first:last])
    rows = run.database.execute("SELECT id FROM chunk ORDER BY id")
    borders = sorted({row[0] - (1 << _schema.POSITION_BITS) for row in rows} | {20_000})
    assert len(borders) > len(cuts)
    near = sorted({b + d for b in borders for d in (-1, 0, 1) if 0 <= b + d <= 20_000})
    reader = store.run(1)
    for start in near:
        for stop in near:
            if start <= stop:
                for r in (run, reader):
                    assert np.array_equal(r.read("x", start, stop), whole[start:stop])


def test_a_long_read_is_put_together_of_pieces(store, monkeypatch):
    monkeypatch.setattr(_chunks, "_PIECE", 1000)
    run = store.start("a")
    whole = np.arange(30_000, dtype=np.int16).reshape(3, 10_000)
    run.append("x", whole)
    assert np.array_equal(run.read("x"), whole)
    assert np.array_equal(run.read("x", 17, 9_999), whole[:, 17:9_999])


def test_a_read_fetches_what_it_needs(store):
    run = store.start("a")
    run.append("x", np.zeros(10**6, np.float32))
    layout, fetched = run._signals._layouts["x"], []
    execute = run.database.execute

    def counting(sql, values=()):
        rows = execute(sql, values)
        fetched.extend(len(row[1]) for row in rows if isinstance(row[-1], bytes))
        return rows

    run.database.execute = counting
    run.read("x", 500_000, 500_001)
    assert fetched == [_chunks.CHUNK]
    fetched.clear()
    run.read("x", layout.most, 2 * layout.most)
    assert fetched == [_chunks.CHUNK]


@pytest.mark.parametrize("layout", ["negative", "every other", "read-only", "big-endian", "F"])
def test_any_layout_in_memory(layout, store):
    block = np.arange(24.0).reshape(2, 12)
    change = {
        "negative": lambda a: a[::-1, ::-1],
        "every other": lambda a: a[:, ::2],
        "read-only": lambda a: np.broadcast_to(a[:1], (2, 12)),
        "big-endian": lambda a: a.astype(">f8"),
        "F": np.asfortranarray,
    }[layout]
    run = store.start("a")
    run.append("x", change(block))
    run.append("y", change(block)[0])
    assert np.array_equal(run.read("x"), change(block))
    assert np.array_equal(run.read("y"), change(block)[0])
    found = run.read("x")
    found[...] = 0  # the caller's own
    assert np.array_equal(run.read("x"), change(block))


def test_a_block_that_does_not_fit_is_refused(store):
    run = store.start("a")
    run.append("x", np.zeros(3, np.float32))
    run.signal("y", dtype="int16", rate=8000, channels=2)
    bad = [
        ("x", np.zeros(3), "block has dtype float64; signal 'x' has float32"),
        ("x", np.zeros((1, 3), np.float32), r"block has shape \(1, 3\); .* blocks of shape \(n,\)"),
        ("x", np.float32(1), "block is .*; it must be an array"),
        ("x", [0.0, 1.0], "block is .*; it must be an array"),
        ("x", np.ma.zeros(3, np.float32), "masked"),
        ("y", np.zeros((3, 2), np.int16), r"blocks of shape \(2, n\)"),
        ("y", np.zeros(2, np.int16), r"blocks of shape \(2, n\)"),
        ("new", np.zeros(3, bool), "block has dtype bool; it must be one of float32"),
        ("new", np.zeros(3, object), "block has dtype object"),
        ("new", np.zeros((1, 1, 1)), r"block is .*; it must be an array of shape"),
        ("", np.zeros(3), "name is ''; it must be a text"),
        (3, np.zeros(3), "name is 3; it must be a text"),
        ("\ud800", np.zeros(3), "UTF-8"),
    ]
    for name, block, message in bad:
        with pytest.raises(ValueError, match=message):
            run.append(name, block)
    with pytest.raises(ValueError, match="has such a signal already"):
        run.signal("x")
    for option, message in [
        ({"rate": 0}, "rate is 0"),
        ({"rate": math.nan}, "rate is nan"),
        ({"channels": 0}, "channels is 0"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"dtype": None}, "dtype is None"),
    ]:
        with pytest.raises(ValueError, match=message):
            run.signal("z", **option)
    assert set(run.signals) == {"x", "y"}
    assert run.signals["x"].length == 3
    assert run.signals["y"] == ("y", "int16", 2, 8000.0, 0)


def test_reading_what_is_not_there(store):
    run = store.start("a")
    run.append("x", np.zeros(10))
    for arguments, message in [
        (("y",), "name is 'y'; it must be one of: 'x'"),
        (("x", 0, 11), "stop is 11; signal 'x' holds 10 samples"),
        (("x", 11), "start is 11; signal 'x' holds 10"),
        (("x", 5, 4), "start is 5; it must be at most stop, 4"),
        (("x", -1), "start is -1"),
        (("x", 0, 2.0), "stop is 2.0; it must be an integer"),
    ]:
        for r in (run, store.run(1)):
            with pytest.raises(ValueError, match=message):
                r.read(*arguments)
    assert run.read("x", 10).size == 0
    assert run.read("x", 3, 3).size == 0


def test_a_reader_sees_what_a_writer_adds(path):
    with Store(path) as store, Store(path, readonly=True) as other:
        run = store.start("a")
        run.append("x", np.arange(3.0))
        reader = other.run(1)
        assert reader.read("x").tolist() == [0, 1, 2]
        run.append("x", np.arange(3.0, 5.0))
        run.log(0, loss=1.0)
        assert reader.read("x", 1, 5).tolist() == [1, 2, 3, 4]
        assert reader.read("x").tolist() == [0, 1, 2, 3, 4]
        assert reader.metrics("loss")[1].tolist() == [1.0]
        assert reader.status == "running"


def test_missing_samples_are_told(store):
    run = store.start("a")
    run.append("x", np.zeros(20_000, np.float32))
    run.database.execute("DELETE FROM chunk WHERE id = ?", ((1 << 42) + 4096,))
    assert run.read("x", 0, 4096).size == 4096
    for start, stop in [(0, 5000), (4096, 5000), (0, 20_000)]:
        with pytest.raises(StoreError, match="are missing"):
            run.read("x", start, stop)


def test_an_interrupt_between_a_block_and_its_being_counted(store):
    run = store.start("a")
    run.append("x", np.arange(3.0))
    run._signals._layouts["x"].end = 0  # as if the third line of `append` had not run
    assert run.append("x", np.arange(3.0, 5.0)) == 5
    run._signals._layouts["x"].end = 0
    assert run.append("x", np.arange(5.0, 5005.0)) == 5005
    assert np.array_equal(run.read("x"), np.arange(5005.0))


def test_what_is_written_together(store, path):
    run = store.start("a")
    run.append("x", np.arange(3.0))
    with Store(path, readonly=True) as other, run.together():
        for k in range(3):
            run.log(k, loss=k)
            run.append("x", np.full(5000, k + 3.0))
        run.save_checkpoint(DiagonalSSM([0.5], 1.0, 0.5))
        assert other.run(1).metrics() == {}
        assert other.run(1).signals["x"].length == 3
    assert run.metrics("loss")[0].tolist() == [0, 1, 2]

    def broken_off():
        with run.together():
            run.log(3, loss=3, new=1)
            run.append("x", np.zeros(5000))
            run.append("y", np.zeros(3))
            run.log(4, loss=1 / 0)

    with pytest.raises(ZeroDivisionError):
        broken_off()
    with run.together():
        with pytest.raises(ValueError, match=r"values\['acc'\] is 'x'"):
            run.log(5, loss=5, acc="x")
        run.append("x", np.zeros(1))
        run.log(5, new=5)
    assert run.metrics("loss")[0].tolist() == [0, 1, 2]
    assert run.metrics("new")[0].tolist() == [5]
    assert list(run.signals) == ["x"]
    assert store.run(1).read("x").tolist() == [0, 1, 2] + [3] * 5000 + [4] * 5000 + [5] * 5000 + [0]


# --------------------------------------------------------------------------------- checkpoints


def test_models_are_kept_and_replaced(store):
    run = store.start("a")
    first, second = DiagonalSSM([0.5, 0.25], 1.0, 0.5), DiagonalSSM([0.75], 1.0, 0.5)
    run.save_checkpoint(first, metadata={"epoch": 1})
    run.save_checkpoint(second, "other; DROP TABLE run")
    assert run.checkpoints == ["model", "other; DROP TABLE run"]
    reader = store.run(1)
    assert np.array_equal(reader.load_checkpoint().params["A"], first.params["A"])
    run.save_checkpoint(second)
    assert sorted(run.checkpoints) == ["model", "other; DROP TABLE run"]
    assert np.array_equal(reader.load_checkpoint().params["A"], second.params["A"])
    assert run.database.execute("SELECT count(*) FROM part") == [(2,)]
    with pytest.raises(checkpoint.CheckpointError, match="holds a DiagonalSSM"):
        reader.load_checkpoint(expected=dict)
    with pytest.raises(ValueError, match="name is 'x'; it must be one of: "):
        reader.load_checkpoint("x")


def test_a_checkpoint_of_several_parts(store, tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoints, "PART", 100)
    run = store.start("a")
    model = DiagonalSSM([0.5, 0.25], 1.0, 0.5)
    run.save_checkpoint(model)
    checkpoint.save(tmp_path / "m.safetensors", model)
    with open(tmp_path / "n.safetensors", "wb") as file:
        run.write_checkpoint("model", file)
    assert (tmp_path / "n.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()
    run.database.execute("DELETE FROM part WHERE id IN (SELECT max(id) FROM part)")
    with pytest.raises(StoreError, match="not complete"):
        run.load_checkpoint()


def test_a_checkpoint_that_is_replaced_while_it_is_read(store, path, tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoints, "PART", 100)
    run, model = store.start("a"), DiagonalSSM([0.5, 0.25], 1.0, 0.5)
    run.save_checkpoint(model)
    checkpoint.save(tmp_path / "m.safetensors", model)

    class File(io.BytesIO):
        def write(self, data):
            if not self.tell():  # after the first part
                run.save_checkpoint(DiagonalSSM([0.75], 1.0, 0.5))
            return super().write(data)

    with Store(path) as reader, File() as file:
        reader.run(1).write_checkpoint("model", file)
        assert file.getvalue() == (tmp_path / "m.safetensors").read_bytes()
        assert reader.run(1).load_checkpoint().params["A"] == 0.75


# ------------------------------------------------------------------------------------ arguments


def test_arguments_are_checked(path, store, tmp_path):
    with pytest.raises(ValueError, match="path is None"):
        Store(None)
    with pytest.raises(ValueError, match="path is b'x'"):
        Store(b"x")
    with pytest.raises(ValueError, match="timeout is -1"):
        Store(path, timeout=-1)
    with pytest.raises(ValueError, match="readonly is 'yes'"):
        Store(path, readonly="yes")
    with pytest.raises(ValueError, match=r"config does not fit into JSON: .* neither"):
        store.start("a", {"x": object()})
    with pytest.raises(ValueError, match="config is 3; it must be a dict"):
        store.start("a", 3)
    with pytest.raises(ValueError, match="tags is 'x'; it must be a list"):
        store.start("a", tags="x")
    with Store(str(tmp_path / "other.db")) as other:
        run = other.start("a")
        with pytest.raises(ValueError, match="it must be of this store"):
            store.delete(run)
    assert store.runs() == []


def test_a_store_that_is_closed(path):
    store = Store(path)
    run = store.start("a")
    run.append("x", np.zeros(3))
    store.close()
    store.close()
    for call in (
        store.runs, lambda: store.start("b"), lambda: run.append("x", np.zeros(3)),
        lambda: run.log(0, a=1), lambda: run.read("x"), lambda: run.status,
    ):  # fmt: skip
        with pytest.raises(StoreError, match="is closed"):
            call()


def test_threads_share_a_store(store):
    """Eight threads, each with a run of its own, and all on one more."""
    shared = store.start("shared")
    runs = [store.start(f"thread {k}") for k in range(8)]
    failed = []

    def work(k):
        try:
            for i in range(25):
                runs[k].append("x", np.full(10, i, np.int32))
                runs[k].log(i, loss=k)
                shared.append("x", np.full(10, k, np.int32))
                shared.log(i, **{f"loss {k}": i})
                assert runs[k].read("x", 10 * i, 10 * i + 10).tolist() == [i] * 10
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for k, run in enumerate(runs):
        assert np.array_equal(run.read("x"), np.repeat(np.arange(25), 10))
        assert shared.metrics(f"loss {k}")[0].tolist() == list(range(25))
    blocks = shared.read("x").reshape(200, 10)
    assert np.all(blocks == blocks[:, :1])  # no block within another
    assert np.bincount(blocks[:, 0]).tolist() == [25] * 8


def test_other_tools_can_read_it(path):
    with Store(path) as store, store.start("a") as run:
        run.log(0, loss=0.5)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name, status FROM run").fetchall() == [("a", "finished")]
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
