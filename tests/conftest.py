"""The seed, the compile cache and the helpers that all tests share.

Nothing above `set_environment` may import numba, which reads its environment when it is imported.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"

#: The package under test, of this checkout or installed; found without importing it.
PACKAGE = Path(importlib.util.find_spec("ssm_manual").origin).parent


def _source_hash():
    """`ssm_manual._sources.source_hash`, loaded without its package, which imports numba."""
    spec = importlib.util.spec_from_file_location("_sources", PACKAGE / "_sources.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.source_hash()


def set_environment():
    """Machine code goes to a folder of this state of the sources; figures need no screen."""
    os.environ["MPLBACKEND"] = "Agg"
    # Two processes of two threads each on two cores: a thread that waits must leave its core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    home = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    home = Path(home) if home else Path.home() / ".cache"
    name = Path("ssm_manual-tests", _source_hash()[:16])
    if home.parts[-2:] == name.parts:
        return  # the process that started this one has chosen
    try:
        folder = home / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.touch()
        for other in folder.parent.iterdir():  # what no run has used for two days
            if other.stat().st_mtime < time.time() - 2 * 86400:
                shutil.rmtree(other, ignore_errors=True)
    except OSError:
        folder = tempfile.mkdtemp(prefix="ssm_manual-tests-")
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


if "numba" in sys.modules:
    raise RuntimeError("numba was imported before tests/conftest.py could choose the compile cache")
set_environment()

import numpy as np  # noqa: E402
import pytest  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=0, help="seed of every random test (default 0)")
    fuzz = parser.getgroup("fuzz", "hostile input (pytest -m fuzz), see tests/fuzz/README.md")
    fuzz.addoption("--fuzz-cases", type=int, default=200_000, help="cases in all (default 200,000)")
    fuzz.addoption("--fuzz-seconds", type=float, help="stop after so many seconds in all")
    fuzz.addoption(
        "--fuzz-survey",
        action="store_true",
        help="list every distinct fault instead of stopping at the first of a row",
    )


def pytest_report_header(config):
    return [
        f"seed: {config.getoption('--seed')} (repeat or change with --seed N)",
        f"compile cache: {os.environ['NUMBA_CACHE_DIR']}",
    ]


# ---------------------------------------------------------------- the count of tests/fuzz/budget.py

FUZZED = pytest.StashKey[dict]()


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["fuzz"] = session.config.stash.get(FUZZED, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    counted = node.config.stash.setdefault(FUZZED, {})
    for share, cases in getattr(node, "workeroutput", {}).get("fuzz", {}).items():
        counted[share] = counted.get(share, 0) + cases


def pytest_terminal_summary(terminalreporter):
    counted = terminalreporter.config.stash.get(FUZZED, {})
    if counted:
        parts = ", ".join(f"{cases:,} of {share}" for share, cases in sorted(counted.items()))
        terminalreporter.write_sep("=", f"fuzz: {sum(counted.values()):,} cases ({parts})")


@pytest.fixture
def rng(request):
    """Of the run's seed and the test's name: a test draws the same numbers alone and in company."""
    return np.random.default_rng(
        [request.config.getoption("--seed"), zlib.crc32(request.node.nodeid.encode())]
    )


@pytest.fixture
def path(tmp_path):
    """Of a store, which is not there yet."""
    return str(tmp_path / "runs.db")


@pytest.fixture
def store(path):
    from ssm_manual.store import Store

    with Store(path) as store:
        yield store


# ------------------------------------------------------------------------------------ random data


def complex_normal(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def discrete_poles(rng, *shape, low=0.5, high=1.0):
    return rng.uniform(low, high, shape) * np.exp(2j * np.pi * rng.random(shape))


def system(rng, batch, H, N, L, *, real=True, x0=True, D=True, dtype=np.float64, low=0.5):
    """Arguments ``(A_bar, B_bar, C, D, u, x0)`` of the operator; low: the smallest modulus."""
    signal = (
        rng.standard_normal if real else lambda shape: complex_normal(rng, *np.atleast_1d(shape))
    )
    # Moduli up to 1 - 1/256: the largest one that float32 gradients see through 1047 samples.
    args = (
        discrete_poles(rng, H, N, low=low, high=1 - 2**-8),
        complex_normal(rng, H, N),
        complex_normal(rng, H, N),
        signal(H) if D else None,
        signal((batch, H, L)),
        complex_normal(rng, batch, H, N) if x0 else None,
    )
    return tuple(None if a is None else cast(a, dtype) for a in args)


def cotangents(rng, out):
    """Random cotangents of the shapes and dtypes of an array or a tuple of them."""
    if isinstance(out, tuple):
        return tuple(cotangents(rng, o) for o in out)
    draw = (
        complex_normal(rng, *out.shape) if out.dtype.kind == "c" else rng.standard_normal(out.shape)
    )
    return np.asarray(draw, out.dtype)


def cast(a, dtype):
    """``a`` in the precision of ``dtype``, real or complex as it was."""
    precision = np.result_type(dtype, np.complex64) if np.iscomplexobj(a) else np.dtype(dtype)
    return np.asarray(a, precision)


def double(args):
    """The same values in double precision."""
    return tuple(a if a is None else cast(a, np.float64) for a in args)


# ------------------------------------------------------------------------------- memory layouts


def _unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    out = raw[1:].view(a.dtype).reshape(a.shape) if a.size else a.copy()
    out[...] = a
    return out


def _negative(a):
    back = (slice(None, None, -1),) * a.ndim
    return a[back].copy()[back]


def _read_only(a):
    out = a.copy()
    out.setflags(write=False)
    return out


#: Ways to hold the same values in memory, by name; each function copies.
LAYOUTS = {
    "negative strides": _negative,
    "Fortran order": lambda a: a.copy(order="F"),
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a.copy(),
    "read-only": _read_only,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "unaligned": _unaligned,
}


# ---------------------------------------------------------------------------------- comparisons


def error(actual, expected, scale=None):
    """Largest difference, relative to the largest of ``scale`` (default: the expected values)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    difference = np.max(np.abs(actual - expected), initial=0)
    scale = np.max(np.abs(expected if scale is None else scale), initial=0)
    return float(difference / scale) if difference else 0.0


def assert_close(actual, expected, rtol, *, scale=None, names=None):
    """Arrays, or tuples of arrays and None, equal to ``rtol`` of the largest value of each.

    ``scale`` replaces that value (or is an array that has it); of tuples, a tuple.
    """
    if isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for i, (a, e) in enumerate(zip(actual, expected)):
            of = scale[i] if isinstance(scale, tuple) else scale
            assert_close(a, e, rtol, scale=of, names=names[i] if names else i)
    elif expected is None:
        assert actual is None, names
    else:
        found = error(actual, expected, scale)
        assert found <= rtol, f"{names}: relative error {found:.3g}, allowed {rtol:.3g}"


def load(name):
    """Arrays of tests/data by key."""
    with np.load(DATA / name, allow_pickle=False) as file:
        return {key: file[key] for key in file}


def run_python(code, *, path=PACKAGE.parent, timeout=300, **environment):
    """Run ``code`` in a fresh interpreter and return what it printed; fails with its traceback.

    ``path`` is the folder that holds the package; warnings are errors.
    """
    environment = {"PYTHONPATH": str(path), "PYTHONWARNINGS": "error", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=DATA,  # the working directory comes first on the path: no package lies there
        timeout=timeout,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
