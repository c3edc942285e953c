"""Every benchmark runs, verifies its contestants and writes its results; no time is judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PACKAGE

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


def run(script, *options):
    return subprocess.run(
        [sys.executable, "-W", "error", str(script), *options],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )


def leaves(data):
    if isinstance(data, (dict, list)):
        for value in data.values() if isinstance(data, dict) else data:
            yield from leaves(value)
    else:
        yield data


def test_there_are_benchmarks():
    assert {"training_loop.py"} <= {script.name for script in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_benchmark_runs(script, tmp_path):
    target = tmp_path / "results.json"
    done = run(script, "--quick", "--json", str(target))
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout
    numbers = [x for x in leaves(json.loads(target.read_text("utf-8"))) if isinstance(x, float)]
    assert numbers
    assert np.all(np.isfinite(numbers))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_benchmark_is_in_the_table(script):
    text = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    assert f"`{script.name}`" in text
