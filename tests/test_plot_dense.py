"""The figure of the experiments draws every number where it belongs, and the lost ones apart."""

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssm_manual import plots
from ssm_manual.tasks.hippo_matrices import KINDS, TASKS, Survey


def results():
    values = {
        (task, kind, T): [0.1 * (i + 1), 0.02 * T, 0.3]
        for task in TASKS
        for i, kind in enumerate(KINDS)
        for T in (10, 100)
    }
    values["delay", "random", 10] = [0.5, np.nan, np.nan]
    values["delay", "LegS", 10] = [np.nan] * 3
    return Survey((10, 100), (0, 1, 2), values)


@pytest.mark.parametrize("task", TASKS)
def test_every_number_is_drawn(task):
    ax = plots.hippo_experiment(results(), task)
    assert isinstance(ax, Axes)
    found = results()
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    for line, (T, kind) in zip(dots, [(T, kind) for T in (10, 100) for kind in KINDS], strict=True):
        expected = np.array(found.values[task, kind, T])
        np.testing.assert_array_equal(line.get_xdata(), expected[np.isfinite(expected)])
        assert np.all(np.round(line.get_ydata()) == KINDS.index(kind))
    lost = [line for line in ax.lines if line.get_marker() == "x"]
    assert len(lost) == (2 if task == "delay" else 0)
    assert [text.get_text() for text in ax.texts] == (["2 of 3"] if task == "delay" else [])
    mine = Figure().add_subplot()
    assert plots.hippo_experiment(found, task, mine) is mine
    with pytest.raises(ValueError, match="task is 'bits'"):
        plots.hippo_experiment(found, "bits")


def test_the_whole_figure_and_the_tables():
    figure = plots.hippo_experiments(results())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["T = 10", "T = 100"]
    figure.savefig(io.BytesIO(), format="png")
    found = results()
    assert found.spread("delay", "random", 10) == "0.5 (0), 2 lost"
    assert found.spread("delay", "LegS", 10) == "all lost"
    assert found.spread("delay", "random", 100) == "0.83 (0.9)"
    records = found.records()
    assert len(records) == 2 * 8 * 2 * 3
    assert sum(record["value"] is None for record in records) == 5
