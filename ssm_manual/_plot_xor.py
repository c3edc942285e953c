"""Figures of delayed XOR; `ssm_manual.plots` gives them out.

That module is imported when a panel is drawn: it imports this one.
"""

import numpy as np

from ssm_manual import _validate

__all__ = ["xor_accuracies", "xor_answers", "xor_lengths", "xor_signal", "xor_training"]


def xor_answers(inputs, models, ax=None):
    """What models say after every sample, to a sequence and to it with one bit flipped.

    The bit is that of the first mark, so that one of the two labels is 1 and the other 0.

    Parameters
    ----------
    inputs : ndarray
        (length, 3), one sequence of `ssm_manual.tasks.xor.delayed_xor`.
    models : dict
        ``{label: SequenceModel}``.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    ax = plots._axes(ax, 7.0, 3.6)
    first, last = np.argmax(inputs[:, 1]), np.argmax(inputs[:, 2])
    flipped = inputs.copy()
    flipped[first, 0] *= -1
    both = np.stack([inputs, flipped])
    labels = both[:, first, 0] != both[:, last, 0]
    time = np.arange(len(inputs))
    grey = plots.COLOURS["grey"]
    for place, name in [(first, "first mark"), (last, "second mark")]:
        ax.axvline(place, color=grey, linewidth=0.9, linestyle=":")
        ax.annotate(
            name, (place, 1.06), xytext=(3, 0), textcoords="offset points", fontsize="small"
        )
    up = inputs[:, 0] > 0
    ax.vlines(time, -0.2, np.where(up, -0.12, -0.2), color=grey, linewidth=0.8)
    for place in (first, last):
        ax.plot(place, -0.16, "o", color="black", markerfacecolor="none", markersize=9)
    for (label, model), colour in zip(models.items(), _colours()):
        says, state = [], None
        for u_t in both.swapaxes(0, 1):
            logits, state = model.step(u_t, state)
            says.append(0.5 * (1 + np.tanh(0.5 * (logits[:, 1] - logits[:, 0]))))
        for says_one, differ in zip(np.transpose(says), labels):
            ax.plot(
                time, says_one, color=colour, linewidth=1.5, linestyle="-" if differ else "--",
                label=f"{label}, {'they differ' if differ else 'the same'}",
            )  # fmt: skip
    ax.set_yticks([-0.16, 0, 0.5, 1], ["bits", "0", "0.5", "1"])
    ax.set(ylim=(-0.5, 1.16), xlabel="sample (number)", ylabel="said: they differ (probability)")
    ax.legend(frameon=False, fontsize="small", loc="lower center", ncols=4)
    return ax


def xor_lengths(histories, ax=None):
    """Length of the training sequences over updates.

    Parameters
    ----------
    histories : dict
        ``{label: histories of trainers}``, one for each seed, of runs on
        `ssm_manual.tasks.xor.DelayedXOR`.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _curves(histories, "length", ax, drawstyle="steps-pre")
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:.0f}")
    ax.set(xlabel="update (number)", ylabel="length trained on (samples)")
    return ax


def xor_accuracies(histories, ax=None):
    """Right answers to validation sequences, which have the full length, over updates.

    Parameters
    ----------
    histories : dict
        As of `xor_lengths`.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _curves(histories, "validation_accuracy", ax, scale=100.0)
    ax.axhline(50, color="black", linewidth=0.8, linestyle=":")
    ax.set(xlabel="update (number)", ylabel="right at the full length (%)", ylim=(0, 102))
    return ax


def xor_training(histories):
    """Lengths and right answers of runs, side by side.

    Parameters
    ----------
    histories : dict
        As of `xor_lengths`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    new = plots.figure(10.0, 3.8)
    left, right = new.subplots(1, 2)
    xor_lengths(histories, left)
    xor_accuracies(histories, right)
    handles, labels = left.get_legend_handles_labels()
    new.legend(handles, labels, frameon=False, ncols=len(labels), loc="outside lower center")
    return new


def xor_signal(ratios, ax=None):
    """How many batches must be averaged until the labels' direction equals chance, over length.

    Parameters
    ----------
    ratios : dict
        ``{label: {length: values}}``, for each seed one value of
        `ssm_manual.tasks.xor_signal.label_signal`, above zero.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a value is not above zero: more batches must be drawn to see it.
    """
    from ssm_manual import plots

    ax = plots._axes(ax, 6.0, 3.8)
    for (label, given), colour in zip(ratios.items(), _colours()):
        for length, values in given.items():
            for value in values:
                _validate.real_number(f"ratios[{label!r}][{length}]", value, above=0)
            ax.plot([length] * len(values), 1 / np.asarray(values), ".", color=colour)
        means = [1 / np.exp(np.mean(np.log(values))) for values in given.values()]
        ax.plot(list(given), means, color=colour, linewidth=1.3, label=label)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.set(xlabel="length (samples)", ylabel="batches until the signal equals chance (number)")
    ax.legend(frameon=False)
    return ax


def _curves(histories, key, ax, *, scale=1.0, **line):
    from ssm_manual import plots

    ax = plots._axes(ax, 5.4, 3.6)
    for (label, runs), colour in zip(histories.items(), _colours()):
        for i, history in enumerate(runs):
            ax.plot(
                history["epoch_end"], scale * np.asarray(history[key]), color=colour,
                linewidth=1.3, alpha=0.8, label=None if i else label, **line,
            )  # fmt: skip
    return ax


def _colours():
    """S4D and the LSTM as in every figure; what comes third is green."""
    from ssm_manual import plots

    return [plots.model_colour("s4d"), plots.model_colour("lstm"), plots.COLOURS["green"]]
