"""Figures of deep denoisers; `ssm_manual.plots` gives them out.

That module is imported when a figure is drawn: it imports this one.
"""

import numpy as np

from ssm_manual._plot_text import plain

__all__ = ["deep_denoising", "rules", "sensitivity"]

#: Samples on either side of the one that is restored.
AROUND = 30


def deep_denoising(result, held_out):
    """The signal, what the model weighs where, the scores of all methods and the losses.

    Parameters
    ----------
    result : ssm_manual.tasks.denoising.Comparison
        Of a deep model.
    held_out : slice
        The samples to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    figure = plots.figure(11.0, 6.4)
    axes = figure.subplot_mosaic(
        [["signal"] * 3, ["weights", "scores", "loss"]],
        height_ratios=(1.1, 1.0),
        width_ratios=(1.1, 1.2, 1),
    )
    traces = {name: getattr(result, name)[held_out] for name in ("noisy", "clean", "restored")}
    plots.signals(traces, result.rate, axes["signal"], start=held_out.start)
    sight = f"{result.lookahead} samples late" if result.score().causal else "both directions"
    axes["signal"].set_title(
        f"{plain(result.name)}, held-out part: SNR {result.snr_in:.1f} dB before, "
        f"{result.score().snr:.1f} dB after (deep SSM, {sight})",
        loc="left",
    )
    _weights(result, held_out, axes["weights"], plots.COLOURS)
    _scores(result, axes["scores"], plots.COLOURS)
    plots.loss_curve(result.losses, axes["loss"], label="mean e² / clean power (no unit)")
    axes["loss"].set(xscale="log", xlabel="update", title="training loss")
    return figure


def sensitivity(model, u, t):
    """d output(t) / d input(s) for all s, by the model's own backward pass.

    Parameters
    ----------
    model : SequenceModel
        Of one input and one output.
    u : ndarray
        ``(length,)``.
    t : int
        Which output.

    Returns
    -------
    ndarray
        ``(length,)``.
    """
    y, _, cache = model.forward(np.asarray(u, model.dtype)[np.newaxis, :, np.newaxis])
    one = np.zeros_like(y)
    one[0, t] = 1
    return model.backward(one, cache)[0][0, :, 0]


def _weights(result, held_out, ax, colours):
    """A linear filter would weigh its input alike everywhere."""
    clean, late = result.clean, result.lookahead
    # at the strongest sample, and where the signal about it changes least
    inside = np.arange(held_out.start + AROUND, held_out.stop - AROUND)
    if not inside.size:
        inside = np.arange(held_out.start, held_out.stop)
    peak = inside[np.argmax(np.abs(clean[inside] - result.offset))]
    spread = [np.ptp(clean[max(0, t - AROUND) : t + AROUND + 1]) for t in inside]
    flat = inside[np.argmin(spread)]
    u = (result.noisy - result.offset) / result.scale
    for t, label, colour in [(peak, "peak", "vermilion"), (flat, "flat stretch", "blue")]:
        weights = sensitivity(result.model, u, t + late)
        first, last = max(0, t - AROUND), min(clean.size, t + AROUND + 1)
        label = f"{label}, t = {t}"
        style = {"color": colours[colour], "linewidth": 1, "markersize": 3}
        ax.plot(np.arange(first, last) - t, weights[first:last], ".-", label=label, **style)
    ax.axvline(0, color=colours["black"], linewidth=0.6)
    ax.set(xlabel="s - t (samples)", ylabel="d restored(t) / d noisy(s) (no unit)")
    ax.set_title("what it weighs")
    bottom, top = ax.get_ylim()
    ax.set_ylim(top=top + 0.3 * (top - bottom))  # room for the legend above the peak
    ax.legend(framealpha=1, edgecolor="none", fontsize="small", loc="upper center")


def _scores(result, ax, colours):
    scores = result.scores[::-1]
    own = [score.method == result.method for score in scores]
    bars = ax.barh(
        [score.method for score in scores],
        [score.snr for score in scores],
        color=[colours["vermilion"] if mine else colours["sky"] for mine in own],
    )
    ax.bar_label(bars, fmt="%.1f", padding=2, fontsize="small")
    ax.axvline(result.snr_in, color=colours["black"], linestyle="--", linewidth=0.9)
    ax.tick_params(axis="y", labelsize="small")
    values = [0.0, result.snr_in, *(score.snr for score in scores if np.isfinite(score.snr))]
    room = 0.15 * np.ptp(values)  # for the numbers at the ends of the bars
    ax.set_xlim(min(values) - room * (min(values) < 0), max(values) + room * (max(values) > 0))
    ax.set(xlabel="SNR (dB); dashed: noisy", title="all methods, held-out part")


def rules(runs):
    """Training losses of two rules over updates and over seconds, and their held-out SNR.

    Parameters
    ----------
    runs : list of ssm_manual.tasks.rules.Run
        Of one or two models.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots
    from ssm_manual._plot_tasks import _log

    models = list(dict.fromkeys(run.model for run in runs))
    figure = plots.figure(11.0, 0.6 + 2.9 * len(models))
    rows = figure.subplots(len(models), 3, width_ratios=(1, 1, 0.6), squeeze=False)
    names = {"adamw": "AdamW", "descent": "plain descent"}
    colours = {"adamw": plots.COLOURS["vermilion"], "descent": plots.COLOURS["blue"]}
    for model, (over_updates, over_seconds, score) in zip(models, rows):
        own = [run for run in runs if run.model == model]
        for run in own:
            line = {"color": colours[run.rule], "linewidth": 1.2}
            width = max(1, run.losses.size // 100)
            mean = np.convolve(run.losses, np.full(width, 1 / width), mode="valid")
            at = np.arange(width, run.losses.size + 1)  # the mean of the `width` updates before
            label = f"{names[run.rule]}, rate {run.lr:g}"
            over_updates.plot(at, mean, label=label, **line)
            over_seconds.plot(np.interp(at, run.steps, run.seconds), mean, label=label, **line)
        over_updates.set(xlabel="update (number)", ylabel="mean e² / clean power (no unit)")
        over_seconds.set(xlabel="processor time (s)")
        over_updates.set_title(f"{model}: training loss, running mean", loc="left")
        over_updates.legend(frameon=False, fontsize="small")
        for ax in (over_updates, over_seconds):
            ax.set(xscale="log")
            _log(ax, "y")
        bars = score.bar(
            [names[run.rule] for run in own],
            [run.snr for run in own],
            color=[colours[run.rule] for run in own],
        )
        score.bar_label(bars, fmt="%.1f dB", fontsize="small")
        score.margins(y=0.12)
        score.set(ylabel="SNR (dB)", title="held-out part")
    return figure
