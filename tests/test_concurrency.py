"""Threads, forks and signals: right results or a clear error, never an abort or a hang.

Each test runs a fresh interpreter under a time limit, that of `run_python`: what it checks belongs
to a process.
"""

import importlib.util

import pytest
from conftest import run_python

WORK = """
import hashlib, multiprocessing, os, signal, sys, threading, time
import numba
import numpy as np
import scipy.linalg.cython_blas
import threadpoolctl
from ssm_manual import _blas, _numba
from ssm_manual.layers import S4D
from ssm_manual.models import DiagonalSSM
from ssm_manual.ops import _vandermonde_rows, kernels, scan

def digest(*arrays):
    joined = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays if a is not None)
    return hashlib.sha256(joined).hexdigest()

rng = np.random.default_rng(3)
def cn(*shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

A = rng.uniform(0.5, 0.99, (2, 8)) * np.exp(2j * np.pi * rng.random((2, 8)))
B, C = cn(2, 8), cn(2, 8)
inputs = [rng.standard_normal((4, 2, 2000)) for _ in range(8)]
assert inputs[0].size * 8 > scan.PARALLEL_FROM

def operators(u):
    out, kept = scan.scan_fwd(A, B, C, None, u)
    K = kernels.generate(A, B, C, 3000, method="log_parallel")
    return digest(*out, *scan.scan_vjp(kept, out), K)

def layer(u):
    own = S4D(2, 8, rng=np.random.default_rng(0), dtype="float64", view="chunked")
    y, _, cache = own.forward(u)
    grad_u, _, grads = own.backward(np.cos(y), cache)
    return digest(y, grad_u, *grads.values())

def trained(u):
    model = DiagonalSSM([0.5, 0.9j], 1.0, 1.0)
    history = model.fit(u[0, 0, :300], u[0, 1, :300], epochs=20, rates=dict.fromkeys("ABC", 1e-5))
    return digest(*model.params.values())

def work(u):
    return operators(u), layer(u), trained(u)

def blas():
    found = threadpoolctl.threadpool_info()
    return sorted((i["filepath"], i["num_threads"]) for i in found if i["user_api"] == "blas")

def in_child(act):
    "The exit status of a fork in which act() is called; minus a signal's number."
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(250)  # a child that hangs is ended
            act()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def check(name, right):
    assert right, name
"""

#: From Python 3.12 on a fork beside threads is a warning.
FORKING = {"PYTHONWARNINGS": "error,ignore:This process:DeprecationWarning"}


def layers():
    installed = ["omp", "workqueue"] + ["tbb"] * bool(importlib.util.find_spec("tbb"))
    return pytest.mark.parametrize("layer", installed)


# ----------------------------------------------------------------------------------------- threads


@layers()
def test_eight_python_threads_at_once(layer):
    """Ops, a layer and training; the workqueue layer aborts where calls do not take turns."""
    code = """
before, errors = blas(), np.geterr()
alone = [work(u) for u in inputs]
found = [[] for _ in inputs]
start = threading.Barrier(8)
def repeat(i):
    start.wait()
    for _ in range(3):
        found[i].append(work(inputs[i]))
threads = [threading.Thread(target=repeat, args=(i,)) for i in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert found == [[a] * 3 for a in alone], "calls from several threads differ from calls alone"
assert blas() == before and np.geterr() == errors, "the state of the process has changed"
print(numba.threading_layer())
"""
    settings = {"NUMBA_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "3"}
    out = run_python(WORK + code, NUMBA_THREADING_LAYER=layer, **settings)
    assert out == layer + "\n"


def test_blas_is_put_back_by_the_last_of_overlapping_blocks():
    """Each of two threads that saved and restored by itself would leave the other's one thread."""
    code = """
assert _vandermonde_rows.single_threaded is _blas.single_threaded
before = blas()
assert {number for _, number in before} == {2}, before
def numbers():
    return {number for _, number in blas()}
entered, leave = threading.Event(), threading.Event()
def other():
    with _blas.single_threaded():
        entered.set()
        leave.wait()
thread = threading.Thread(target=other)
with _blas.single_threaded():
    thread.start()
    entered.wait()
assert numbers() == {1}, "the other block is still open"
leave.set()
thread.join()
assert blas() == before
seen = []
def alone():  # a thread that is not the first to ask
    with _blas.single_threaded():
        seen.append(numbers())
thread = threading.Thread(target=alone)
thread.start()
thread.join()
assert seen == [{1}], "the limit does not hold in every thread"
assert blas() == before
try:
    with _blas.single_threaded(), _blas.single_threaded():
        raise KeyError
except KeyError:
    assert blas() == before
"""
    run_python(WORK + code, OPENBLAS_NUM_THREADS="2")


# ----------------------------------------------------------------------------------------- forking


@layers()
def test_a_fork_computes_the_same_bits(layer):
    """GNU OpenMP would end the child, and leave its grandchild waiting for ever."""
    code = """
expected = operators(inputs[0]), layer(inputs[0])
def same():
    return (operators(inputs[0]), layer(inputs[0])) == expected
def child():
    assert _numba.threads() == 1
    assert same()
assert in_child(child) == 0
assert in_child(lambda: check("grandchild", in_child(child) == 0)) == 0
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(operators, inputs[:1] * 3) == [expected[0]] * 3
assert _numba.threads() == 2 and same(), "the parent goes on as before"
print("fine")
"""
    settings = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2", **FORKING}
    assert run_python(WORK + code, **settings) == "fine\n"


def test_a_fork_before_the_first_parallel_kernel_has_threads_of_its_own():
    code = """
with _blas.single_threaded():
    pass
def child():
    assert operators(inputs[0])
    assert _numba.threads() == 2 and not _numba._orphaned
    assert in_child(lambda: check("its child", _numba.threads() == 1)) == 0
assert in_child(child) == 0
"""
    run_python(WORK + code, NUMBA_NUM_THREADS="2", **FORKING)


def test_a_fork_while_other_threads_hold_every_lock():
    """The child starts with no lock held and BLAS on as many threads as before."""
    code = """
before = blas()
expected = layer(inputs[0])
stop = threading.Event()
def kernels_in_turn():
    while not stop.is_set():
        layer(inputs[1])
def in_a_block():
    with _blas.single_threaded():
        stop.wait()
def blas_blocks():
    while not stop.is_set():
        with _blas._lock:  # held most of the time
            time.sleep(0.002)
threads = [threading.Thread(target=f) for f in (kernels_in_turn, in_a_block, blas_blocks)]
for t in threads:
    t.start()
time.sleep(0.1)
def child():
    assert blas() == before
    assert layer(inputs[0]) == expected
    assert blas() == before
codes = [in_child(child) for _ in range(8)]
stop.set()
for t in threads:
    t.join()
assert codes == [0] * 8, codes
assert blas() == before and layer(inputs[0]) == expected

# Compiling: the child of a thread that waits for the compiler's end can compile, too.
locked, go = threading.Event(), threading.Event()
def compiling():
    with _numba._compiler_lock:
        locked.set()
        go.wait()
thread = threading.Thread(target=compiling)
thread.start()
locked.wait()
threading.Timer(0.3, go.set).start()
def compiles():
    assert numba.njit(lambda x: x + 1)(1) == 2
assert in_child(compiles) == 0
thread.join()
"""
    run_python(WORK + code, OPENBLAS_NUM_THREADS="2", NUMBA_NUM_THREADS="2", **FORKING)


# ----------------------------------------------------------------------------------------- signals


def test_an_interrupted_kernel_ends_and_leaves_everything_in_order():
    """KeyboardInterrupt comes when the kernel returns; the next call finds no lock held."""
    code = """
expected, before = layer(inputs[0]), blas()
long = rng.standard_normal((4, 2, 200_000))
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell ignores it
def interrupt():
    while not _blas._inside:  # until the kernel is about to run
        time.sleep(0)
    time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
for _ in range(3):
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        while True:
            layer(long)
    except KeyboardInterrupt:
        pass
    thread.join()
    assert blas() == before
    other = []  # the lock is re-entrant: ask in another thread
    thread = threading.Thread(target=lambda: other.append(layer(inputs[0])))
    thread.start()
    thread.join(60)
    assert other == [expected]
"""
    run_python(WORK + code, OPENBLAS_NUM_THREADS="2", NUMBA_NUM_THREADS="2")


def test_an_interrupted_training_leaves_the_old_file(tmp_path):
    """Ctrl-C in the middle of `ssm-manual denoise`: one line, status 130, no half-written file."""
    target = tmp_path / "filter.safetensors"
    target.write_bytes(b"as it was")
    code = f"""
import contextlib, io, os, signal, sys, threading, time
from ssm_manual import cli
quick = ["denoise", "--quick", "--no-figure", "--epochs"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    assert cli.main([*quick, "2"]) == 0  # all is compiled now
main = threading.main_thread().ident
def training():
    frame = sys._current_frames()[main]
    while frame:
        if frame.f_code.co_filename.endswith("descent.py"):
            return True
        frame = frame.f_back
    return False
def interrupt():
    while not training():
        time.sleep(0.005)
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell ignores it
threading.Thread(target=interrupt, daemon=True).start()
sys.stderr = sys.stdout
print(cli.main([*quick, "10000000", "--save", {str(target)!r}]))
"""
    out = run_python(code)
    assert out.endswith("ssm-manual denoise: interrupted\n130\n")
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == b"as it was"
