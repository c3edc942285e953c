"""The figure of the experiments on the HiPPO matrix; `ssm_manual.plots` gives it out.

That module is imported when a panel is drawn: it imports this one.
"""

import numpy as np

from ssm_manual import _validate

__all__ = ["hippo_experiment", "hippo_experiments"]

_LABELS = {
    "previous_bit": "loss above the floor (nats)",
    "delay": "error relative to the signal (no unit)",
}

_TITLES = {
    "previous_bit": "Previous bit, all matrices trained",
    "delay": "Delay of T/4, read out of the states",
}


def hippo_experiment(results, task, ax=None):
    """One number a seed, for every matrix in its row and every length in its colour.

    Seeds that were lost stand as crosses at the right edge.

    Parameters
    ----------
    results : ssm_manual.tasks.hippo_matrices.Survey
        What to draw.
    task : {"previous_bit", "delay"}
        Which of its tasks.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots
    from ssm_manual.tasks import hippo_matrices

    _validate.one_of("task", task, hippo_matrices.TASKS)
    ax = plots._axes(ax, 6.4, 5.0)
    kinds, lengths = hippo_matrices.KINDS, results.lengths
    found = [np.array(results.values[task, k, T]) for k in kinds for T in lengths]
    sound = np.concatenate(found)
    edge = 3 * np.max(sound, where=np.isfinite(sound), initial=0.0) or 1.0
    for i, length in enumerate(lengths):
        colour = plots.CYCLE[i % len(plots.CYCLE)]
        shift = 0.16 * (i - (len(lengths) - 1) / 2)
        for row, kind in enumerate(kinds):
            values = np.array(results.values[task, kind, length])
            lost = ~np.isfinite(values)
            shown, height = values[~lost], row + shift
            if shown.size:
                ends = [shown.min(), shown.max()]
                ax.plot(ends, [height, height], color=colour, linewidth=1.2, alpha=0.6)
            ax.plot(
                shown, np.full(shown.size, height), "o", color=colour, markersize=4,
                label=f"T = {length:,}" if row == 0 else None,
            )  # fmt: skip
            if lost.any():
                ax.plot([edge], [height], "x", color=colour, markersize=5)
                if lost.sum() < lost.size:
                    ax.annotate(
                        f"{lost.sum()} of {lost.size}", (edge, height), xytext=(6, 0),
                        textcoords="offset points", va="center", fontsize="x-small", color=colour,
                    )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yticks(range(len(kinds)), kinds)
    ax.set_ylim(len(kinds) - 0.5, -0.5)
    for row in range(1, len(kinds)):
        ax.axhline(row - 0.5, color=plots.COLOURS["grey"], linewidth=0.4)
    ax.set(xlabel=_LABELS[task], ylabel="matrix (see text)", title=_TITLES[task])
    return ax


def hippo_experiments(results):
    """Both tasks of the experiments side by side.

    Parameters
    ----------
    results : ssm_manual.tasks.hippo_matrices.Survey
        What to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    new = plots.figure(11.0, 5.4)
    left, right = new.subplots(1, 2, sharey=True)
    hippo_experiment(results, "previous_bit", left)
    hippo_experiment(results, "delay", right)
    right.set_ylabel("")
    handles, labels = left.get_legend_handles_labels()
    new.legend(handles, labels, frameon=False, ncols=len(labels), loc="outside lower center")
    return new
