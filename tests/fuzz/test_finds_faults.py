"""The fuzz finds faults: each is planted in a copy of the package, and a few hundred cases find it.

Every copy compiles its own kernels, those of the rows that are run.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import PACKAGE

TESTS = Path(__file__).resolve().parents[1]


class Plant(NamedTuple):
    """A fault: in ``file``, ``old`` becomes ``new``; rows that match ``rows`` say ``found``."""

    file: str
    old: str
    new: str
    rows: str
    found: str
    bounds: bool = False  # with the compiler's bounds checks


PLANTS = {
    "finite values are not looked at": Plant(
        "_validate.py",
        "    if finite:\n        finite_values(name, result)",
        "    pass",
        "binary_cross_entropy_fwd",
        r"\['\w+'\] is accepted|names none of",
    ),
    "NaN out of finite numbers is let through": Plant(
        "_validate.py",
        "    return bool(np.isnan(a.min()))",
        "    return False",
        "causal_fwd",
        "of the result holds NaN",
    ),
    "a dtype is swallowed": Plant(
        "ops/binary_cross_entropy.py",
        "loss = z.dtype.type(np.sum",
        "loss = np.float64(np.sum",
        "binary_cross_entropy_fwd",
        "of the result is float64|dtype float64",
    ),
    "an argument is changed in place": Plant(
        "ops/binary_cross_entropy.py",
        "decay = np.exp(-np.abs(z))",
        "decay = np.exp(-np.abs(z, out=z if z.flags.writeable else None))",
        "binary_cross_entropy_fwd",
        "changes its argument|differs from",
    ),
    "a message without the argument's name": Plant(
        "_validate.py",
        'raise ValueError(f"{name} is None; it must be an array or a number")',
        'raise ValueError("it must be an array or a number")',
        "binary_cross_entropy_fwd",
        "the error names none of",
    ),
    "a layout is ignored": Plant(
        "_validate.py",
        '    return np.require(a, None, ("C_CONTIGUOUS", "ALIGNED", "WRITEABLE"))',
        '    return a.ravel(order="K").copy().reshape(a.shape)',
        "terminal_state.terminal_state_fwd",
        "differs from a clean call",
    ),
    "a sum ends one too early": Plant(
        "ops/scan.py",
        "            for n in range(N):\n                block_B[n]",
        "            for n in range(N - 1):\n                block_B[n]",
        "ops.scan.scan_fwd",
        "by differences",
    ),
    "a shape is not checked": Plant(
        "ops/_operands.py",
        '        _validate.shape("x0", x0, (batch, H, N), meaning="(batch, H, N)")',
        "        pass",
        "ops.scan.scan_fwd",
        "IndexError|raises|names none",
        bounds=True,
    ),
    "a kernel reads past the end": Plant(
        "ops/scan.py",
        "        y[t] = project(out, y) + D * u[t]  # [SCAN-2]",
        "        y[t] = project(out, y) + D * u[t] + 0 * u[t + 1]",
        "ops.scan.scan_fwd",
        "IndexError",
        bounds=True,
    ),
}


def fuzz(folder, plant=None, rows="binary_cross_entropy_fwd", cases=700, bounds=False):
    """Fuzz a copy of the package in which a fault has been planted; what pytest printed."""
    shutil.copytree(PACKAGE, folder / "ssm_manual", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TESTS, folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "data"))
    shutil.copy(TESTS.parent / "setup.cfg", folder)
    if plant:
        path = folder / "ssm_manual" / plant.file
        text = path.read_text()
        assert text.count(plant.old) == 1, f"{plant.old!r} is not once in {plant.file}"
        path.write_text(text.replace(plant.old, plant.new))
        rows, bounds = plant.rows, plant.bounds
    environment = {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")}
    if bounds:
        environment["NUMBA_BOUNDSCHECK"] = "1"
    where = ["-p", "no:cacheprovider", "-n", "0", "-m", "fuzz", "-k", rows, "-q"]
    amount = ["--fuzz-cases", str(cases)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *where, *amount, "tests/fuzz/test_arrays.py"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("fault", PLANTS)
def test_a_planted_fault_is_found(fault, tmp_path):
    code, said = fuzz(tmp_path, PLANTS[fault])
    assert code == 1, said[-3000:]
    assert re.search(PLANTS[fault].found, said), said[-3000:]


@pytest.mark.slow
def test_without_a_fault_nothing_is_found(tmp_path):
    code, said = fuzz(tmp_path)
    assert code == 0, said[-3000:]
    assert re.search(r"fuzz: [\d,]+ cases", said)
