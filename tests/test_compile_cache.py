"""What is read from a compile cache is whole, current and the right variant, or it is not used.

The kernels are two small ones in a file of the test's own. A fresh interpreter loads them again and
again, as so many runs of a program do, and forks for what has to happen in processes of their own.
"""

import os

import pytest
from conftest import run_python

TOY = """
from ssm_manual._numba import jit
@jit
def twice(x):
    return x * 2
"""

DRIVER = """
import importlib.util, os, resource, signal, sys, time, warnings
from pathlib import Path
import numpy as np
from numba.core import event
from ssm_manual import _kernel_cache
CACHE, SOURCE = Path(os.environ["NUMBA_CACHE_DIR"]), Path(os.environ["SOURCE"])
compiled = []
class Listener(event.Listener):
    def on_start(self, e):
        compiled.append(e.data["dispatcher"].py_func.__name__)
    def on_end(self, e):
        pass
event.register("numba:compile", Listener())

def fresh():
    "The kernel as a new process sees it: decorated anew, with nothing but the files to go by."
    spec = importlib.util.spec_from_file_location("toy", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy"] = module  # the name that cached code is found under
    spec.loader.exec_module(module)
    compiled.clear()
    return module.twice

VALUES = [1, 1.5, 2j]
def right(twice, factor=2, values=VALUES):
    for x in values:
        assert twice(x) == factor * x, (x, twice(x))

def files(end):
    return sorted(CACHE.glob("*/*." + end))

def in_child(act):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.fixture
def run(tmp_path):
    """Run code after DRIVER with a cache folder of its own."""
    source = tmp_path / "toy.py"
    source.write_text(TOY)

    def run(code, **environment):
        environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), **environment}
        return run_python(DRIVER + code, SOURCE=str(source), **environment)

    return run


def test_damaged_files_are_compiled_anew_and_replaced(run):
    """Cut short, overwritten in the middle, empty, of something else."""
    run("""
right(fresh())
assert files("*") == files("nbc") and len(files("nbc")) == len(VALUES)
right(fresh())
assert not compiled, "nothing was kept"
for path in files("nbc")[:2]:
    good = path.read_bytes()
    middle = len(good) // 2
    for name, bad in {
        "empty": b"",
        "cut short": good[:middle],
        "one byte less": good[:-1],
        "zeros at the end": good[:middle] + bytes(len(good) - middle),
        "one bit": good[:middle] + bytes([good[middle] ^ 4]) + good[middle + 1 :],
        "text": b"not a cache\\n",
        "another pickle": b"\\x80\\x04K\\x01.",
    }.items():
        path.write_bytes(bad)
        right(fresh())
        assert compiled, (path, name)
        right(fresh())
        assert not compiled, (path, name, "was not replaced")
""")


def test_code_of_another_variant_or_of_older_sources_is_not_run(run):
    """Were a file named wrongly, or kept over an upgrade."""
    run("""
right(fresh())
one, other = files("nbc")[:2]
kept = one.read_bytes()
one.write_bytes(other.read_bytes())
right(fresh())
assert compiled
one.write_bytes(kept)
text = SOURCE.read_text()
SOURCE.write_text(text.replace("x * 2", "x * 3"))
right(fresh(), 3)
assert len(files("nbc")) == len(VALUES), "older code is replaced"
one.write_bytes(kept)
right(fresh(), 3)
""")


def test_processes_that_fill_one_cache_at_once(run):
    """All are right, and whoever comes after them."""
    run("""
replace = os.replace
def slowly(*paths):  # time for the others to read what is about to be replaced
    time.sleep(0.1)
    replace(*paths)
def fill(order):
    os.replace = slowly
    while time.monotonic() < start:
        pass
    right(fresh(), values=order)
start = time.monotonic() + 0.3
orders = VALUES, VALUES[::-1], VALUES[1:], VALUES[2:]
assert [ended(pid) for pid in [in_child(lambda: fill(order)) for order in orders]] == [0] * 4
right(fresh())
assert not compiled, "something was lost"
""")


def test_a_process_killed_while_it_writes(run):
    """Before the first variant is in place, and before the second."""
    run("""
replace, left = os.replace, 0
def killing(*paths):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    replace(*paths)
def act():
    os.replace = killing
    right(fresh())
for count in range(2):
    for path in files("*"):
        path.unlink()
    left = count
    assert ended(in_child(act)) == -signal.SIGKILL
    assert len(files("nbc")) == count
    right(fresh())
    right(fresh())
    assert not compiled
""")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="no folder is read-only to root"
)
def test_a_read_only_cache_is_used_and_costs_no_result(run, tmp_path):
    """What is there is loaded; what is not is compiled, and one warning says that it is not kept.

    As root see the test below, with a file in the place of the folder.
    """
    run("right(fresh(), values=VALUES[:1])")
    folders = [tmp_path / "cache", *(tmp_path / "cache").iterdir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        out = run("""
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    right(fresh(), values=VALUES[:1])
    kept = list(compiled)
    right(fresh())
print(len(kept), [w.category.__name__ for w in caught])
""")
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert out == "0 ['RuntimeWarning']\n"


def test_a_cache_that_cannot_be_written_costs_no_result(run):
    """The kernel is in memory by then; one warning says that it is not kept."""
    out = run("""
def full_disk():  # no file may grow beyond 100 bytes
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
def folder_is_gone():
    for folder in CACHE.iterdir():
        folder.rmdir()
def folder_became_a_file():
    for folder in CACHE.iterdir():
        folder.rmdir()
        folder.write_text("")
def act(trouble, expected):
    twice = fresh()
    trouble()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        right(twice)
    for one in caught:
        assert one.category is RuntimeWarning and str(CACHE) in str(one.message)
        print(one.message, flush=True)
    assert len(caught) == expected and not list(CACHE.rglob("*.tmp.*"))
assert ended(in_child(lambda: act(full_disk, 1))) == 0
assert ended(in_child(lambda: act(folder_is_gone, 0))) == 0
assert len(files("nbc")) == len(VALUES), "the folder is made again"
for path in files("*"):
    path.unlink()
assert ended(in_child(lambda: act(folder_became_a_file, 1))) == 0
""")
    assert "File too large" in out
    assert "Not a directory" in out or "File exists" in out
