"""Figures of docs/errata.md on published training directions, measured anew.

The directions are those of examples/truncated_directions.py, at the start of the longer published
demonstration and at larger time steps.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location(
        "truncated_directions", ROOT / "examples" / "truncated_directions.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


#: dt, then for each direction the distances and the cosines for A, B and C.
MEASURED = [
    (
        1e-3,
        [[1.00, 0.83, 0.83], [0.007, 0.004, 0], [0.99, 1.00, 0]],
        [[0.50, 0.65, 0.65], [1.00, 1.00, 1], [0.92, 0.72, 1]],
    ),
    (
        1e-2,
        [[2.16, 1.69, 1.69], [0.027, 0.039, 0], [1.00, 0.98, 0]],
        [[-0.53, 0.35, 0.35], [1.00, 1.00, 1], [0.51, 0.50, 1]],
    ),
    (
        0.09,
        [[2.08, 1.96, 1.96], [0.25, 0.25, 0], [0.97, 0.92, 0]],
        [[-0.69, -0.27, -0.27], [0.97, 0.97, 1], [0.54, 0.39, 1]],
    ),
    (
        0.1,
        [[1.24, 1.18, 1.18], [1.71, 1.58, 0], [0.98, 1.00, 0]],
        [[-0.36, -0.12, -0.12], [-0.46, -0.24, 1], [0.70, 0.05, 1]],
    ),
]


@pytest.mark.parametrize(("dt", "distances", "cosines"), MEASURED)
def test_published_directions_are_as_far_off_as_we_say(
    example, monkeypatch, dt, distances, cosines
):
    monkeypatch.setattr(example, "DT", dt)
    model, *_ = example.start()
    t = dt * np.arange(500)
    u, target = np.sin(2 * t) + np.sin(20 * t), np.sin(2 * t) + 0j
    _, found = example.directions(*(model.params[name] for name in "ABC"), u, target)
    for name, far, angles in zip(example.PUBLISHED, distances, cosines, strict=True):
        pairs = list(zip(found[name], found[example.GRADIENT], strict=True))
        assert [example.distance(a, b) for a, b in pairs] == pytest.approx(far, abs=6e-3), name
        assert [example.cosine(a, b) for a, b in pairs] == pytest.approx(angles, abs=6e-3), name
