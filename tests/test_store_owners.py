"""Who is writing a run: processes that are there, that have gone, that cannot be seen."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ssm_manual.models import DiagonalSSM
from ssm_manual.store import Store, StoreError, _owner

PROC = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")


def test_this_process_is_alive():
    me = _owner.myself()
    assert me["pid"] == os.getpid()
    assert _owner.alive(me)


@PROC
@pytest.mark.parametrize(
    ("change", "alive"),
    [
        ({}, True),
        ({"pid": 2**22 + 1}, False),  # above the largest that Linux gives
        ({"began": 1}, False),  # the number was given again
        ({"began": None}, True),  # not known
        ({"boot": "another"}, False),  # before the machine was restarted
        ({"boot": None}, True),
        ({"boot": "another", "machine": "another"}, True),  # a copy from elsewhere
        ({"machine": "another", "pid": 2**22 + 1}, True),
        ({"group": "another", "pid": 2**22 + 1}, True),  # of another container
        ({"pid": "x"}, True),
        ({"pid": -1}, True),  # which would be everybody
    ],
)
def test_who_is_taken_to_be_alive(change, alive):
    assert _owner.alive(_owner.myself() | change) is alive


@PROC
def test_somebody_elses_process_is_alive(monkeypatch):
    def refused(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    assert _owner.alive(_owner.myself())


@pytest.fixture
def child():
    """A process of ours, as an owner; what is left of it is taken away."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    while _owner._stat(process.pid)[1] is None:
        time.sleep(0.001)
    yield _owner.myself() | {"pid": process.pid, "began": _owner._stat(process.pid)[1]}
    process.kill()
    process.wait()


def become(pid, state):
    """Wait until a process is in a state."""
    while _owner._stat(pid)[0] != state:
        time.sleep(0.001)


@PROC
def test_a_stopped_process_is_alive(child):
    assert _owner.alive(child)
    os.kill(child["pid"], signal.SIGSTOP)
    become(child["pid"], "T")
    assert _owner.alive(child)


@PROC
def test_a_killed_process_that_nobody_has_waited_for(child):
    """A zombie has a number still, and is no longer there."""
    os.kill(child["pid"], signal.SIGKILL)
    become(child["pid"], "Z")
    assert not _owner.alive(child)
    os.waitpid(child["pid"], 0)
    assert not _owner.alive(child)


def test_a_run_that_ends_while_it_is_being_asked_about(path, monkeypatch):
    """Its last word counts, and not that its process has gone since."""
    with Store(path) as writer, Store(path) as reader:
        run = writer.start("a")

        def gone(owner, me=None):
            if run.writable:
                run.finish(snr=1.0)
            return False

        monkeypatch.setattr(_owner, "alive", gone)
        (found,) = reader.runs()
        assert (found.status, found.error, found.scores) == ("finished", "", {"snr": 1.0})


@pytest.mark.parametrize("what", ["machine", "group"])
def test_what_ran_elsewhere_is_deleted_by_force(store, what):
    run = store.start("a")
    run.append("x", np.zeros(3))
    owner = _owner.myself() | {what: "another"}
    store._database.execute("UPDATE run SET owner = ?", (json.dumps(owner),))
    with pytest.raises(StoreError, match="in a process that cannot be seen from here: only force"):
        store.delete(1)
    store.delete(1, run, force=True)
    assert store.runs() == []
    for write in (
        lambda: run.log(0, loss=1.0),
        lambda: run.append("new", np.zeros(3)),
        lambda: run.append("x", np.zeros(9000)),
        lambda: run.save_checkpoint(DiagonalSSM([0.5], 1.0, 0.5)),
        run.finish,
    ):  # who writes it still is told
        with pytest.raises(StoreError, match="run 1 has been deleted"):
            write()
    for table in ("metric", "series", "signal", "chunk", "checkpoint", "part"):
        assert store._database.execute(f"SELECT count(*) FROM {table}") == [(0,)], table
