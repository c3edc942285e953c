"""How kernels are compiled, cached and threaded.

Each test runs a fresh interpreter: caches, threads and the compiler's switches belong to a process.
"""

import re
import shutil

import numpy as np
import pytest
from conftest import PACKAGE, run_python

from ssm_manual._sources import NO_KERNELS, source_hash

SCAN = """
import hashlib
import numpy as np
from ssm_manual.ops import PAIRS, cauchy, convolve, dense_scan, dplr_scan, kernels, lstm, rnn, scan
from ssm_manual.ops import ssm, vandermonde

def digest(*arrays):
    joined = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays if a is not None)
    return hashlib.sha256(joined).hexdigest()

rng = np.random.default_rng(3)
def cn(*shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
"""

THREADED = (
    SCAN
    + """
batch, H, N, L = 5, 3, 7, 1047
A = rng.uniform(0.5, 0.999, (H, N)) * np.exp(2j * np.pi * rng.random((H, N)))
u = rng.standard_normal((batch, H, L))
args = (A, cn(H, N), cn(H, N), rng.standard_normal(H), u, cn(batch, H, N))
assert batch * H * N * L > scan.PARALLEL_FROM
out, kept = scan.scan_fwd(*args)
g = rng.standard_normal(out[0].shape), cn(*out[1].shape)
print("scan", digest(*out))
print("backward", digest(*scan.scan_vjp(kept, g)))
pole = A[0, :3], cn(3), cn(3)
print("log_parallel", digest(kernels.generate(*pole, 5000, method="log_parallel")))
print("hybrid", digest(kernels.generate(*pole, 5000, method="hybrid")))
print("anchored", digest(kernels.generate(*pole, 5000, method="anchored")))
low = [0.1 * cn(H, 1, N) for _ in range(2)]
out, kept = dplr_scan.dplr_scan_fwd(0.9 * A, *low, *args[1:])
print("dplr_scan", digest(*out, *dplr_scan.dplr_scan_vjp(kept, g)))
u = rng.standard_normal((20, 4, 4096))  # enough for the transforms to be shared out
out, kept = convolve.causal_fwd(u, rng.standard_normal((4, 4096)))
print("causal", digest(out, *convolve.causal_vjp(kept, out)))
P, Q = cn(2, 3, 1, 7) / 8
K, kept = cauchy.cauchy_fwd(9j * A.real - 1, P, Q, args[1], args[2], 0.1, 7000)
assert 3 * 7 * 3501 > cauchy._rows.PARALLEL_FROM
print("cauchy", digest(K, *cauchy.cauchy_vjp(kept, K)))
A, C = rng.standard_normal((2, 12, 12)) / 6, np.ones((2, 1, 12))
args = A, np.ones((2, 12, 1)), C, None, rng.standard_normal((11, 2, 1, 700))
assert 11 * 2 * 12 * 12 * 700 >= dense_scan.PARALLEL_FROM
out, kept = dense_scan.scan_fwd(*args)
print("dense_scan", digest(*out, *dense_scan.scan_vjp(kept, out)))
x = rng.standard_normal((5, 24, 1031))
for name, args, options in [
    ("gelu_dropout", (x,), {"rate": 0.3, "seed": 1}),
    ("glu", (x,), {"axis": -2}),
    ("layer_norm", (x, x[0, :, 0], x[0, :, 1]), {"axis": -2}),
    ("rms_norm", (x.reshape(-1, 24), x[0, :, 0]), {"axis": -1}),
    ("linear", (x, rng.standard_normal((20, 24)), None), {"axis": -2}),
    ("linear_glu", (x, rng.standard_normal((20, 24)), None), {"axis": -2}),
    ("embedding", (rng.integers(0, 9, (5, 1031)), x[0, :9, :24].copy()), {"axis": -2}),
]:
    pair = PAIRS[name]
    out, kept = pair.fwd(*args, **options)
    assert out.size >= 10**5 or name in ("glu", "linear_glu")
    print(name, digest(out, *pair.vjp(kept, np.cos(out))))
x = rng.standard_normal((35, 20, 40))
W = [rng.standard_normal((4 * 24, n)) / 5 for n in (20, 24)]
out, kept = rnn.rnn_fwd(x, None, W[0][:24], W[1][:24], None)
print("rnn", digest(*out, *rnn.rnn_vjp(kept, out)))
out, kept = lstm.lstm_fwd(x, None, None, *W, None)
print("lstm", digest(*out, *lstm.lstm_vjp(kept, out)))
"""
)


def table(text):
    return dict(line.split() for line in text.splitlines())


def runs(repeat):
    """What THREADED prints, each time that ``repeat`` calls ``run()``, as dictionaries."""
    code = f"""
import numba, os, sys
def run():
    exec({THREADED!r}, {{}})
    print("end", flush=True)
{repeat}
"""
    printed = run_python(code, NUMBA_NUM_THREADS="3").split("end\n")
    return [table(text) for text in printed[:-1]]


def test_the_same_bits_for_any_number_of_threads():
    one, two, three = runs("""
for threads in (1, 2, 3):
    numba.set_num_threads(threads)
    run()
""")
    assert len(one) == 18
    assert one == two == three


@pytest.mark.slow
def test_the_same_bits_in_a_fork():
    """There every kernel runs on one thread, those that know only many in a serial twin."""
    with_threads, forked = runs("""
run()
pid = os.fork()
run() if pid == 0 else sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""")
    assert len(forked) == 18
    assert forked == with_threads


WITHOUT_COMPILER = (
    SCAN
    + """
import sys
A = rng.uniform(0.5, 0.99, (2, 3)) * np.exp(2j * np.pi * rng.random((2, 3)))
args = (A, cn(2, 3), cn(2, 3), rng.standard_normal(2), rng.standard_normal((2, 2, 70)), cn(2, 2, 3))
found = []
for view in ("scan", "convolution", "chunked"):
    out, kept = ssm.apply_fwd(*args, view=view)
    found += [*out, *ssm.apply_vjp(kept, (out[0], out[1]))]
found += scan.scan_vjp(scan.scan_fwd(*args, horizon=5)[1], out)
for method in kernels.METHODS:
    K, kept = kernels.generate_fwd(*args[:3], 70, method=method, cutoff=1e-6)
    found += [K, *kernels.generate_vjp(kept, K)[:3]]
for real in (True, False):
    low_rank = np.ones((2, 1, 3)) / 4, cn(2, 2, 1, 3)[0] / 4
    K, kept = cauchy.cauchy_fwd(A - 1, *low_rank, *args[1:3], 0.1, 37, real=real)
    found += [K, *cauchy.cauchy_vjp(kept, K)[:-1]]
single = [a.astype(np.result_type(a, np.float32) if a.dtype.kind == "f" else a.dtype) for a in args]
np.savez(sys.argv[1] if len(sys.argv) > 1 else TARGET, *found)
"""
)


def test_without_the_compiler_the_results_are_equal(tmp_path):
    """NUMBA_DISABLE_JIT=1 steps through the same lines in Python."""
    found = {}
    for switch in "01":
        target = tmp_path / f"{switch}.npz"
        run_python(f"TARGET = {str(target)!r}\n" + WITHOUT_COMPILER, NUMBA_DISABLE_JIT=switch)
        with np.load(target) as file:
            found[switch] = [file[key] for key in file]
    assert len(found["0"]) == len(found["1"]) == 72
    for jitted, stepped in zip(found["0"], found["1"]):
        assert jitted.dtype == stepped.dtype
        np.testing.assert_allclose(stepped, jitted, rtol=1e-12, atol=1e-13)


def test_the_main_jobs_run_without_the_compiler(tmp_path):
    """Train, keep, filter, prove gradients: every kernel as the Python that it is written in."""
    code = f"""
import os
import numpy as np
from ssm_manual import cli
os.chdir({str(tmp_path)!r})
np.save("x.npy", np.random.default_rng(0).standard_normal(300, dtype=np.float32))
for job in (
    "denoise --quick --epochs 3 --poles 2 --no-figure --save filter.safetensors",
    "apply filter.safetensors x.npy --out y.npy",
    "gradcheck tustin relu half_mse",
):
    assert cli.main(job.split()) == 0, job
y = np.load("y.npy")
assert y.shape == (300,) and np.isfinite(y).all() and y.any()
"""
    out = run_python(code, NUMBA_DISABLE_JIT="1")
    assert "120 checks of 3 ops: all pass" in out


IMPORT_ALONE = """
import numba
from numba.core import event
events = []
class Listener(event.Listener):
    def on_start(self, e):
        events.append(e.data["dispatcher"].py_func.__qualname__)
    def on_end(self, e):
        pass
event.register("numba:compile", Listener())
import ssm_manual
from ssm_manual import gradcheck, models, ops, training
assert not events, events
{use}
print(len(events))
"""


def test_importing_compiles_nothing_and_the_cache_spares_the_second_run(tmp_path):
    use = "assert ops.kernels.generate(0.5, 1.0, 1.0, 3, method='recursive')[2] == 0.25"
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert int(run_python(IMPORT_ALONE.format(use=""), **cache)) == 0
    assert int(run_python(IMPORT_ALONE.format(use=use), **cache)) > 0  # the listener does listen
    assert int(run_python(IMPORT_ALONE.format(use=use), **cache)) == 0


NO_CACHE = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import ssm_manual
    from ssm_manual import ops
    K = ops.kernels.generate(0.5, 1.0, 2.0, 4, method="recursive")
    L = ops.kernels.generate(0.5, 1.0, 2.0, 4, method="log_parallel")
messages = [str(w.message) for w in caught if "NUMBA_CACHE_DIR" in str(w.message)]
assert len(messages) == 1, [str(w.message) for w in caught]
assert caught[0].category is RuntimeWarning
assert K.tolist() == [2, 1, 0.5, 0.25], K
assert abs(L - K).max() < 1e-15, L
print(ssm_manual.__file__)
"""


def test_a_cache_folder_that_cannot_be_written_is_told_once(tmp_path):
    """Every folder that a cache could go to is a regular file or below one: root fails, too."""
    package = tmp_path / "ssm_manual"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("")
    nowhere = str(package / "__pycache__" / "below")
    folders = dict.fromkeys(("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"), nowhere)
    printed = run_python(NO_CACHE, path=tmp_path, PYTHONDONTWRITEBYTECODE="1", **folders)
    assert printed.strip() == str(package / "__init__.py")  # the copy was used


ONE_VARIANT = (
    SCAN
    + """
A, B, C = (0.5 * cn(1, 3) for _ in range(3))
u, x0 = rng.standard_normal((2, 1, 9)), cn(2, 1, 3)

def frozen(a):
    a = a.copy()
    a.setflags(write=False)
    return a

def unaligned(a):
    out = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out

for A_bar in (A, frozen(A), A[0], A.real, unaligned(A), A.copy(order="F")):
    for data in (u, frozen(u), u[:, :, ::-1], unaligned(u)):
        for view in ("scan", "convolution", "chunked"):
            out, kept = ssm.apply_fwd(A_bar, B, frozen(C), None, data, x0, view=view)
            ssm.apply_vjp(kept, (frozen(out[0]), out[1]))
    _, kept = kernels.generate_fwd(A_bar, B, 1.0, 4, method="recursive")
    P = frozen(A_bar.reshape(-1, 1, 3))
    K, kept = cauchy.cauchy_fwd(A_bar, P, P, B, frozen(C), 0.1, 9)
    cauchy.cauchy_vjp(kept, frozen(K))
from numba.core.registry import CPUDispatcher
import gc
for d in gc.get_objects():
    if isinstance(d, CPUDispatcher) and d.py_func.__module__.startswith("ssm_manual.ops"):
        if d.signatures and d.py_func.__name__ != "<lambda>":
            print(d.py_func.__name__, len(d.signatures))
"""
)


def test_a_kernel_is_compiled_once_whatever_the_layout_of_its_arguments():
    """Read-only and unaligned arrays are types of their own to Numba: variants take seconds."""
    variants = {name: int(n) for name, n in table(run_python(ONE_VARIANT)).items()}
    assert variants["_forward_serial"] == variants["_backward_serial"] == 1
    assert variants["recursive"] == variants["_sum_modes"] == variants["_moments"] == 1
    assert variants["_weighted_sums"] == 1
    assert variants["_cauchy_sums"] == variants["_cauchy_moments"] == 1
    assert variants["_truncate"] == variants["_truncate_vjp"] == 1
    assert variants["_direct"] == variants["_direct_vjp"] == 1
    assert variants["_forward"] == variants["_backward"] == 1


def test_the_tests_know_the_state_of_the_sources(tmp_path):
    """The folder of the compile cache changes with any source file, its name included."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("x = 1\n")
    first = source_hash(package)
    assert source_hash(package) == first
    (package / "a.py").write_text("x = 2\n")
    second = source_hash(package)
    (package / "a.py").rename(package / "b.py")
    third = source_hash(package)
    assert len({first, second, third}) == 3
    (package / "tasks").mkdir()
    (package / "tasks" / "c.py").write_text("x = 1\n")
    assert source_hash(package) == third  # no kernels there


def test_folders_said_to_have_no_kernels_have_none():
    """Nothing there is compiled, and no file that is compiled takes anything from there."""
    folders = "|".join(name.removesuffix(".py") for name in NO_KERNELS)
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        if path.relative_to(PACKAGE).parts[0].startswith(NO_KERNELS):
            assert not re.search(r"_jit|\bjit\b|njit", text), path
        elif "_numba" in text:
            assert not re.search(rf"^(from|import) ssm_manual\.({folders})", text, re.M), path


def test_cached_code_does_not_outlive_a_change_of_a_helper(tmp_path):
    """A failure means that an upgrade would go on running old code."""
    package = tmp_path / "ssm_manual"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "from ssm_manual.ops import kernels\n"
        "print(kernels.generate(0.5, 1.0, 1.0, 99, method='recursive')[65].real * 2**65)\n"
    )

    def run():
        return float(run_python(code, path=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache")))

    assert run() == 1
    assert run() == 1  # from the cache
    helper = package / "_numba.py"
    text = helper.read_text("utf-8")
    changed = text.replace("lambda z: zero if", "lambda z: 2 * z if z.real == 0.5**64 else zero if")
    assert changed != text
    helper.write_text(changed, "utf-8")
    assert run() == 2


@pytest.mark.slow
def test_code_with_bounds_checks_is_kept_apart(tmp_path):
    """In one cache folder, before or after code without; neither takes the other's."""
    code = "from ssm_manual.ops.kernels import power; print(power(0.5, 3))"
    for checked in ("1", "0", "1", "0"):
        run_python(code, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_BOUNDSCHECK=checked)
    checked = list(tmp_path.rglob("power._powers*.checked.*.nbc"))
    plain = [path for path in tmp_path.rglob("power._powers*.nbc") if path not in checked]
    assert len(plain) == len(checked) == 1  # and each was compiled once
    assert plain[0].read_bytes() != checked[0].read_bytes()
