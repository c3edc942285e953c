"""Figures of tasks: what is drawn is what was measured."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ssm_manual import _plot_tasks as panels
from ssm_manual import plots
from ssm_manual.tasks import protocol
from ssm_manual.tasks.training_run import Comparison, Run


class Tones(protocol.Task):
    name, title = "tones", "Which tone is it?"

    def goal(self):
        return {"goal": 0.95, "chance": 0.25}

    def draw(self, runs, ax):
        ax.plot([run.test[self.metric] for run in runs])


class Errors(Tones):
    metric, metric_label = "loss", "mean |e|² (no unit)"
    higher_is_better = percent = False

    def goal(self):
        return {"noise floor": 0.01}


def run(name, values, *, metric="accuracy", seed=0, rate=(10.0, 10.0, 10.0), test=0.5):
    history = {
        "loss": [1.0] * 12,
        "epoch_end": [4, 8, 12],
        "items_per_second": list(rate),
        f"validation_{metric}": list(values),
    }
    trainer = SimpleNamespace(history=history)
    settings = protocol.Settings(8, 1)
    scores = {metric: test}
    return Run(name, seed, settings, None, 1234, trainer, 2, 6.0, scores, scores)


def runs(**options):
    return [
        run("s4d", (0.3, 0.9, 0.8), test=0.96, **options),
        run("lstm", (0.2, 0.3, 0.4), test=0.4, **options),
    ]


def comparison(task=None, **options):
    given = runs(**options)
    rivals = (protocol.Score("nearest tone", 0.7),)
    return Comparison(task or Tones(), 0, tuple(given), rivals, None)


def line(ax, label):
    return next(x for x in ax.lines if x.get_label() == label)


REACHES = {"S4D, slow": [1.0, 0.5, 0.25], "LSTM": [1.0, 1e-3, 0.0], "S4D, fast": [1.0, 0.1, 0.01]}


@pytest.mark.parametrize(
    "draw",
    [
        lambda **ax: panels.task_curves(runs(), task=Tones(), **ax),
        lambda **ax: panels.task_scores(comparison(), **ax),
        lambda **ax: panels.gradient_reach(REACHES, mark=1, **ax),
    ],
)
def test_makes_axes_or_takes_them(draw):
    ax = draw()
    assert isinstance(ax, Axes)
    mine = Figure().add_subplot()
    assert draw(ax=mine) is mine
    for axes in (ax, mine):
        assert "(" in axes.get_xlabel()
        axes.figure.savefig(io.BytesIO(), format="png")


def test_curves_are_in_percent_and_mark_the_epoch_that_was_kept():
    ax = panels.task_curves(runs(), task=Tones())
    updates, values = line(ax, "S4D").get_data()
    np.testing.assert_array_equal(updates, [4, 8, 12])
    np.testing.assert_allclose(values, [30, 90, 80])
    dot = ax.lines[ax.lines.index(line(ax, "S4D")) + 1]
    np.testing.assert_allclose(dot.get_data(), [[8], [90]])
    assert line(ax, "goal").get_ydata()[0] == pytest.approx(95)
    assert line(ax, "goal").get_linestyle() != line(ax, "chance").get_linestyle()
    assert ax.get_ylabel() == "validation: accuracy (% of items)"
    assert ax.get_yscale() == "linear"


def test_curves_of_errors_are_on_a_logarithmic_axis():
    ax = panels.task_curves(runs(metric="loss"), task=Errors())
    np.testing.assert_allclose(line(ax, "LSTM").get_ydata(), [0.2, 0.3, 0.4])
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "validation: mean |e|² (no unit)"
    below = [run("s4d", (0.1, -0.2, 0.1), metric="loss")]
    assert panels.task_curves(below, task=Errors()).get_yscale() == "linear"


def test_seconds_are_shared_out_by_the_speed_of_the_epochs():
    one = run("s4d", (0.1, 0.2, 0.3), rate=(10.0, 5.0, 10.0))
    ax = panels.task_curves(one, task=Tones(), over="seconds")
    np.testing.assert_allclose(line(ax, "S4D").get_xdata(), [1.5, 4.5, 6.0])
    assert ax.get_xlabel() == "training time (s)"


def test_scores_stand_in_their_order():
    ax = panels.task_scores(comparison())
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["S4D\n1,234 parameters", "nearest tone", "LSTM\n1,234 parameters"]
    assert [text.get_text() for text in ax.texts] == ["96.00 %", "70.00 %", "40.00 %"]
    dots = [x for x in ax.lines if x.get_marker() == "o"]
    assert [float(x.get_xdata()[0]) for x in dots] == pytest.approx([96, 70, 40])
    assert [x.get_markerfacecolor() == "none" for x in dots] == [False, True, False]
    low, high = ax.get_ylim()
    assert low > high  # the first row is the highest
    ax = panels.task_scores(comparison(Errors(), metric="loss"))
    assert ax.get_yticklabels()[0].get_text().startswith("LSTM")
    assert ax.get_xscale() == "log"


def test_a_model_has_its_colour_in_every_panel():
    one, two = comparison(), runs()[::-1]
    found = {
        "curves": line(panels.task_curves(two, task=Tones()), "S4D"),
        "scores": next(x for x in panels.task_scores(one).lines if x.get_marker() == "o"),
        "reach": line(panels.gradient_reach(REACHES), "S4D, slow"),
    }
    colours = {to_hex(x.get_color()).upper() for x in found.values()}
    assert colours == {plots.COLOURS[panels.MODEL_COLOURS["s4d"]]}
    assert set(panels.MODEL_COLOURS) == set(protocol.TITLES)
    assert len(set(panels.MODEL_COLOURS.values())) == len(protocol.TITLES)


def test_runs_of_one_model_are_told_apart():
    both = [run("s4d", (0.1, 0.2, 0.3), seed=seed) for seed in (3, 4)]
    ax = panels.task_curves(both, task=Tones())
    a, b = line(ax, "S4D, seed 3"), line(ax, "S4D, seed 4")
    assert a.get_color() == b.get_color()
    assert a.get_linestyle() != b.get_linestyle()


def test_the_figure_of_a_task():
    figure = panels.task(comparison())
    assert [ax.get_title(loc="left") for ax in figure.axes] == [Tones.title, "training", "scores"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [0.96, 0.4])
    figure.savefig(io.BytesIO(), format="png")

    class Titled(Tones):
        def draw(self, runs, ax):
            ax.set_title("its own")

    figure = panels.task(comparison(Titled()), over="seconds")
    assert figure.axes[0].get_title(loc="left") == ""
    assert figure.axes[1].get_xlabel() == "training time (s)"


def test_a_reach_is_drawn_over_the_distance():
    ax = panels.gradient_reach(REACHES, mark=2, floor=1e-6)
    np.testing.assert_array_equal(line(ax, "S4D, slow").get_ydata(), [1, 0.5, 0.25])
    np.testing.assert_array_equal(line(ax, "S4D, slow").get_xdata(), [0, 1, 2])
    assert np.isnan(line(ax, "LSTM").get_ydata()[-1])
    full, paler = (np.array(line(ax, f"S4D, {name}").get_color()) for name in ("slow", "fast"))
    np.testing.assert_allclose(paler, 0.7 * full + 0.3)  # of the same model, nearer to white
    assert ax.get_ylim() == pytest.approx((1e-6, 10))
    assert ax.get_yscale() == "log"
    assert any(list(x.get_xdata()) == [2, 2] for x in ax.lines)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: panels.task_curves([], task=Tones()), r"runs is \[\]; it must be one Run"),
        (lambda: panels.task_curves([3], task=Tones()), r"runs is \[3\]"),
        (lambda: panels.task_curves(runs(), task=Tones(), over="hours"), "over is 'hours'"),
        (lambda: panels.task_scores(runs()), "comparison is .*training_run.compare"),
        (lambda: panels.task("s4d"), "comparison is 's4d'"),
        (lambda: panels.task(Comparison(Tones(), 0, (), (), None)), r"runs is \[\]"),
        (lambda: panels.gradient_reach({}), "reaches is {}"),
        (lambda: panels.gradient_reach({"S4D": [[1.0]]}), r"reaches\['S4D'\] has shape \(1, 1\)"),
        (lambda: panels.gradient_reach({"S4D": [np.nan]}), r"reaches\['S4D'\] holds nan"),
        (lambda: panels.gradient_reach(REACHES, floor=0.0), "floor is 0.0"),
        (lambda: panels.gradient_reach(REACHES, mark=-1), "mark is -1"),
    ],
)
def test_refuses(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
