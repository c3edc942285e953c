"""The run store under several processes: killed ones, forked ones, many at once."""

import os
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import PACKAGE, run_python

from ssm_manual.store import Store, StoreError

#: Appends and logs for ever; after each, the number of it on standard output.
WRITER = """
import os, sys, struct
import numpy as np
from ssm_manual.store import Store
store = Store(sys.argv[1])
run = store.start("killed")
rng = np.random.default_rng(int(sys.argv[2]))
k = total = 0
while True:
    n = int(rng.choice([1, 64, 1024, 9000]))  # of one row, and of several
    run.append("x", np.arange(total, total + n, dtype=np.int32))
    total += n
    run.log(k, loss=k / 7, **{f"other {k % 3}": k})
    k += 1
    os.write(1, struct.pack("<qq", k, total))
"""


def start(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONWARNINGS": "error"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, env=environment
    )


def integrity(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall()
    finally:
        connection.close()


def check_killed(path, seed, seconds):
    """Kill a writer some time after its first acknowledgement; what it acknowledged is there."""
    with start(WRITER, path, seed) as writer:
        first = writer.stdout.read(16)
        assert len(first) == 16
        with Store(path, readonly=True) as store:
            assert store.runs()[-1].status == "running"  # from another process, which it is
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        said = first + writer.stdout.read()
    # of a number that was cut in two nothing was acknowledged
    said = said[: len(said) // 16 * 16]
    count, total = struct.unpack("<qq", said[-16:])
    with Store(path) as store:
        run = store.runs()[-1]
        assert (run.status, run.ended) == ("interrupted", None)
        assert f"process {writer.pid} ended" in run.error
        samples = run.read("x")
        assert samples.size >= total
        assert np.array_equal(samples, np.arange(samples.size))
        steps, values = run.metrics("loss")
        assert steps.size >= count
        assert np.array_equal(steps, np.arange(steps.size))
        assert np.array_equal(values, steps / 7)
        found = [run.metrics(name)[0] for name in run.metrics() if name != "loss"]
        assert np.array_equal(np.sort(np.concatenate(found)), steps)
    assert integrity(path) == [("ok",)]
    return count


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path, rng):
    path = tmp_path / "runs.db"  # one file for all: the log of the last is found by the next
    counts = [check_killed(path, seed, rng.uniform(0, 0.15)) for seed in range(5)]
    with Store(path) as store:
        assert [run.status for run in store.runs()] == ["interrupted"] * 5
    assert max(counts) > 10


@pytest.mark.slow
def test_killed_at_a_hundred_moments(tmp_path, rng):
    path = tmp_path / "runs.db"
    for seed in range(100):
        check_killed(path, seed, rng.uniform(0, 0.5))
        if seed % 20 == 19:
            path = tmp_path / f"runs {seed}.db"


MANY = """
import sys
import numpy as np
from ssm_manual.store import Store
with Store(sys.argv[1]) as store, store.start(sys.argv[2]) as run:
    for k in range(int(sys.argv[3])):
        run.log(k, loss=k)
        run.append("x", np.full(3, k, np.int32))
"""


def check_many(path, processes, count):
    with Store(path, readonly=False) as store:  # a reader all the while
        writers = [start(MANY, path, f"writer {k}", count) for k in range(processes)]
        while any(writer.poll() is None for writer in writers):
            for run in store.runs():
                assert run.status in ("running", "finished")
                if "x" in run.signals:
                    x = run.read("x")
                    assert np.array_equal(x, np.repeat(np.arange(x.size // 3), 3))
            time.sleep(0.02)
        for writer in writers:
            writer.stdout.close()
            assert writer.wait() == 0
        assert len(store.runs()) == processes
        for run in store.runs():
            assert run.status == "finished"
            assert np.array_equal(run.metrics("loss")[0], np.arange(count))
            assert np.array_equal(run.read("x"), np.repeat(np.arange(count), 3))
    assert integrity(path) == [("ok",)]


def test_two_processes_writing_at_once(tmp_path):
    check_many(tmp_path / "runs.db", 2, 500)


@pytest.mark.slow
def test_two_processes_writing_ten_thousand_rows_each(tmp_path):
    check_many(tmp_path / "runs.db", 2, 10_000)


def test_many_processes_may_create_it_at_once(tmp_path):
    path = tmp_path / "runs.db"
    writers = [start(MANY, path, f"writer {k}", 3) for k in range(4)]
    for writer in writers:
        writer.stdout.close()
        assert writer.wait() == 0
    with Store(path) as store:
        assert [run.status for run in store.runs()] == ["finished"] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_cannot_use_its_parents_store(tmp_path):
    """The child is told; it opens its own; its end does nothing to the parent's run."""
    out = run_python(f"""
import os, sys, threading, warnings
import numpy as np
from ssm_manual.store import Store, StoreError
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons advise against what is tried
path = {str(tmp_path / "runs.db")!r}
store = Store(path)
run = store.start("parent")
run.append("x", np.arange(3))
stop = threading.Event()
def work():  # another thread is inside SQLite most of the time
    k = 0
    while not stop.is_set():
        run.log(k, loss=k)
        k += 1
thread = threading.Thread(target=work)
thread.start()
for _ in range(3):
    child = os.fork()
    if child == 0:
        for call in (store.runs, lambda: run.append("x", np.arange(3)), lambda: run.status,
                     lambda: run.log(0, loss=1.0), lambda: store.start("no"), lambda: run.finish()):
            try:
                call()
            except StoreError as error:
                assert "was opened before a fork; open it anew" in str(error)
            else:
                os._exit(3)
        with run:
            pass
        store.close()
        with Store(path) as own, own.start("child") as mine:
            mine.append("x", np.arange(4))
            assert own.run(1).read("x").tolist() == [0, 1, 2]
            assert own.run(1).status == "running"
        sys.exit(0)  # through the interpreter's end, where connections would be closed
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
run.append("x", np.arange(3, 5))
run.finish()
store.close()
with Store(path) as store:
    print([r.status for r in store.runs()], store.run(1).read("x").tolist())
    steps = store.run(1).metrics("loss")[0]
    assert np.array_equal(steps, np.arange(steps.size)), steps
""")
    assert out.strip() == f"{['finished'] * 4} [0, 1, 2, 3, 4]"


def test_another_process_that_holds_the_file_is_waited_for(tmp_path):
    path = str(tmp_path / "runs.db")
    with Store(path, timeout=0.4) as store:
        run = store.start("a")
        run.append("x", np.zeros(3))
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        for write in (
            lambda: run.append("x", np.zeros(3)),  # of one row, and of several
            lambda: run.append("x", np.zeros(9000)),
            lambda: run.log(0, loss=1.0),
        ):
            clock = time.monotonic()
            with pytest.raises(
                StoreError, match=r"locked by another process, for more than 0\.4 s"
            ):
                write()
            assert time.monotonic() - clock >= 0.4
        other.execute("ROLLBACK")
        assert run.append("x", np.ones(3)) == 6  # nothing of what failed is there
        assert run.read("x").tolist() == [0, 0, 0, 1, 1, 1]
        assert run.metrics() == {}
    with Store(path, timeout=30) as store:
        run = store.start("b")
        run.append("x", np.zeros(3))
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.4, lambda: other.execute("ROLLBACK"))
        release.start()
        assert run.append("x", np.ones(3)) == 6
        release.join()
        assert run.read("x").tolist() == [0, 0, 0, 1, 1, 1]
        other.close()
