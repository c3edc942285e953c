"""Panels about tasks and how far gradients reach; `ssm_manual.plots` gives them out.

That module is imported when a panel is drawn: it imports this one.
"""

import itertools
import textwrap

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.ticker import LogLocator

from ssm_manual import _validate

__all__ = [
    "MODEL_COLOURS",
    "gradient_reach",
    "model_colour",
    "task",
    "task_curves",
    "task_scores",
]

#: The colour that a model has in every figure, by name in `plots.COLOURS`.
MODEL_COLOURS = {
    "s4d": "vermilion",
    "s4": "orange",
    "lstm": "blue",
    "rnn": "green",
    "s4d-frozen": "purple",
}

#: What an axis can count.
OVER = ("updates", "seconds")


def model_colour(name):
    """The colour that a model has in every figure.

    Parameters
    ----------
    name : str
        Such as ``"s4d"``; grey for one that is not in `MODEL_COLOURS`.

    Returns
    -------
    str
        As Matplotlib takes it.

    Examples
    --------
    >>> model_colour("lstm")
    '#0072B2'
    """
    from ssm_manual import plots

    return plots.COLOURS[MODEL_COLOURS.get(name, "grey")]


def task_curves(runs, ax=None, *, task, over="updates"):
    """The task's metric on validation after every epoch, and the levels that it is measured by.

    A dot marks the epoch whose parameters were kept.

    Parameters
    ----------
    runs : sequence of Run
        See `ssm_manual.tasks.training_run`.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    task : Task
        What they were trained on.
    over : {"updates", "seconds"}
        What the axis counts. The seconds of the whole training are shared out among its epochs as
        ``items_per_second`` says.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    runs, ax = _runs(runs), plots._axes(ax)
    _validate.one_of("over", over, OVER)
    scale, drawn, looks = _scale(task), [], _looks(runs)
    for place, (run, look) in enumerate(zip(runs, looks)):
        values = scale * np.asarray(run.history[f"validation_{task.metric}"], float)
        ends = np.asarray(run.history["epoch_end"], float)
        if over == "seconds":
            ends = _seconds(run, ends)
        ax.plot(ends, values, linewidth=1.4, **look)
        kept = run.best_epoch - 1
        # later ones are smaller: two at one place are both seen
        size = 8 - 1.5 * min(place, 2)
        ax.plot(ends[kept], values[kept], "o", color=look["color"], markersize=size, zorder=3)
        drawn.append(values)
    levels = {label: scale * value for label, value in task.goal().items()}
    _levels(ax.axhline, levels)
    if not task.percent and min(map(np.min, [*drawn, *levels.values()])) > 0:
        _log(ax, "y")
    ax.set(xlabel="update (number)" if over == "updates" else "training time (s)")
    ax.set(ylabel=textwrap.fill(f"validation: {_label(task)}", 40), xlim=(0, None))
    ax.legend(frameon=False, fontsize="small")
    return ax


def task_scores(comparison, ax=None):
    """Scores on the test part, best first: a filled dot for a model with its number of parameters.

    An open dot stands for what needed no training of ours.

    Parameters
    ----------
    comparison : ssm_manual.tasks.training_run.Comparison
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    task_, runs, ax = _comparison(comparison).task, comparison.runs, plots._axes(ax)
    scale = _scale(task_)
    rows = [
        (scale * run.test[task_.metric], f"{look['label']}\n{run.parameters:,} parameters", look)
        for run, look in zip(runs, _looks(runs))
    ]
    open_dot = {"color": "0.4", "markerfacecolor": "none"}  # dark enough for the number beside it
    rows += [(scale * rival.value, rival.name, open_dot) for rival in comparison.rivals]
    rows.sort(key=lambda row: row[0], reverse=task_.higher_is_better)
    goal = {label: scale * value for label, value in task_.goal().items()}
    values = np.array([row[0] for row in rows])
    if not task_.percent and min([*values, *goal.values()]) > 0:
        _log(ax, "x")
    for place, (value, _, look) in enumerate(rows):
        look = {key: a for key, a in look.items() if key not in ("label", "linestyle")}
        ax.plot(value, place, "o", markersize=8, **look)
        ax.annotate(
            _number(task_, value), (value, place), (0, 7), textcoords="offset points",
            ha="center", va="bottom", fontsize="small", color=look["color"],
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    _levels(ax.axvline, goal)
    ax.set_yticks(range(len(rows)), [row[1] for row in rows], fontsize="small")
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.margins(x=0.12)
    ax.grid(axis="y", color=plots.COLOURS["grey"], alpha=0.3, linewidth=0.6)
    ax.set_xlabel(f"test: {_label(task_)}")
    if goal:
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
        ax.legend(frameon=False, fontsize="small", ncols=len(goal), **place)
    return ax


def task(comparison, *, over="updates"):
    """A task in one figure: what it looks like, the curves of training, and the scores.

    Parameters
    ----------
    comparison : ssm_manual.tasks.training_run.Comparison
    over : {"updates", "seconds"}
        As of `task_curves`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    of, runs = _comparison(comparison).task, list(comparison.runs)
    figure = plots.figure(11.5, 7.0)
    rows = len(runs) + len(comparison.rivals)
    axes = figure.subplot_mosaic(
        [["task", "task"], ["curves", "scores"]], height_ratios=(1, 1 + 0.07 * max(0, rows - 4))
    )
    of.draw(runs, plots._axes(axes["task"]))
    if not any(axes["task"].get_title(loc=loc) for loc in ("left", "center", "right")):
        axes["task"].set_title(of.title, loc="left")
    task_curves(runs, axes["curves"], task=of, over=over)
    axes["curves"].set_title("training", loc="left")
    task_scores(comparison, axes["scores"]).set_title("scores", loc="left")
    return figure


def gradient_reach(reaches, ax=None, *, mark=None, floor=1e-20):
    """Gradient of the last output to the input, over the distance between them.

    Parameters
    ----------
    reaches : dict
        ``{label: (length,) array}`` from `ssm_manual.tasks.gradient_reach`. A label that begins
        with the name of a model gets its colour, the next of the same model a lighter one.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    mark : float, optional
        A distance to be marked, such as that of the answer.
    floor : float
        What lies below is cut off, above 0: there nothing is left to learn from.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    if not isinstance(reaches, dict) or not reaches:
        raise ValueError(f"reaches is {_validate.show(reaches)}; it must be a dict of arrays")
    floor, ax = _validate.real_number("floor", floor, above=0), plots._axes(ax)
    names = [label.lower().split(",")[0].split(" ")[0] for label in reaches]
    highest = floor
    for place, ((label, reach), look) in enumerate(zip(reaches.items(), _styles(names))):
        reach = _validate.array(f"reaches[{label!r}]", reach, real=True)
        reach = _validate.shape(f"reaches[{label!r}]", reach, (-1,), meaning="(length,)")
        # solid lines: these are too rough for dashes
        paler = 1 - 0.7 ** names[:place].count(names[place])
        colour = (1 - paler) * np.array(to_rgb(look["color"])) + paler
        # exact zeros are no points of a logarithmic axis
        ax.plot(np.where(reach > 0, reach, np.nan), linewidth=1.4, label=label, color=colour)
        highest = max(highest, reach.max(initial=floor))
    if mark is not None:
        mark = _validate.real_number("mark", mark, minimum=0)
        ax.axvline(mark, color="black", linestyle="--", linewidth=0.9, zorder=0)
    ax.set_yscale("log")
    ax.set_ylim(floor, 10 * highest)
    ax.set(xlabel="distance (samples)", ylabel="RMS of d(last output) / d(input)")
    ax.margins(x=0.01)
    ax.legend(frameon=False, fontsize="small")
    return ax


# --------------------------------------------------------------------------------------- internals


def _styles(names):
    """Colour and line style for each: the model's, and a style of its own if it occurs again."""
    from ssm_manual import plots

    spare = itertools.cycle(("sky", "yellow", "grey"))
    colours, seen, found = dict(MODEL_COLOURS), {}, []
    for name in names:
        if name not in colours:
            colours[name] = next(spare)
        again = seen[name] = seen.get(name, -1) + 1
        style = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))[again % 4]
        found.append({"color": plots.COLOURS[colours[name]], "linestyle": style})
    return found


def _looks(runs):
    """Keywords of a run's line; the seed is named where several runs have the same model."""
    names = [run.name for run in runs]
    return [
        style | {"label": run.title + (f", seed {run.seed}" if names.count(run.name) > 1 else "")}
        for run, style in zip(runs, _styles(names))
    ]


def _levels(line, levels):
    """Dashed lines with a label, one style each."""
    styles = itertools.cycle(("--", ":", "-."))
    for (label, value), style in zip(levels.items(), styles):
        line(value, color="black", linestyle=style, linewidth=0.9, label=label, zorder=0)


def _log(ax, which):
    """A logarithmic axis with plain numbers, at 2 and 5 too."""
    getattr(ax, f"set_{which}scale")("log")
    axis = getattr(ax, f"{which}axis")
    axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("{x:g}")


def _seconds(run, ends):
    """When each epoch ended, validation included."""
    lasted = np.diff(ends, prepend=0) / np.asarray(run.history["items_per_second"], float)
    return run.seconds * np.cumsum(lasted) / np.sum(lasted)


def _scale(task):
    return 100.0 if task.percent else 1.0


def _label(task):
    """The metric with its unit; a share is shown in percent."""
    if not task.percent:
        return task.metric_label
    return task.metric_label.replace("share of", "% of").replace("(share)", "(%)")


def _number(task, value):
    return f"{value:.2f} %" if task.percent else f"{value:.4g}"


def _runs(runs):
    from ssm_manual.tasks.training_run import Run

    runs = [runs] if isinstance(runs, Run) else list(runs)
    if not runs or not all(isinstance(run, Run) for run in runs):
        raise ValueError(f"runs is {_validate.show(runs)}; it must be one Run or several")
    return runs


def _comparison(comparison):
    from ssm_manual.tasks.training_run import Comparison

    if not isinstance(comparison, Comparison):
        raise ValueError(
            f"comparison is {_validate.show(comparison)}; it must be from training_run.compare"
        )
    _runs(comparison.runs)
    return comparison
