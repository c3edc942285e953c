"""Figures of recordings: before and after a filter, and a whole comparison of denoisers.

`ssm_manual.plots` gives them out; it is imported when a figure is drawn, for it imports this file.
"""

import numpy as np

from ssm_manual import _validate
from ssm_manual._plot_deep import deep_denoising
from ssm_manual._plot_text import plain

__all__ = ["applied", "denoising"]


def applied(before, after, rate=None, *, start=0, length=None, envelopes=None):
    """A recording before and after a filter: an excerpt, and above it the whole where it is longer.

    Parameters
    ----------
    before, after : array_like
        ``(n,)``: the excerpt.
    rate : float or None
        Samples per second; None labels the axis in samples.
    start : int
        Number of the excerpt's first sample.
    length : int or None
        Samples of the whole recording; None is where the excerpt ends.
    envelopes : dict or None
        ``{"before": (lowest, highest), "after": (lowest, highest)}``, arrays of one length: the
        whole recording in as many equal intervals. None draws the excerpt alone.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    excerpt = {"before": before, "after": after}
    start = _validate.integer("start", start, minimum=0)
    end = start + np.size(before)
    length = end if length is None else _validate.length("length", length, minimum=end)
    rows = 1 if envelopes is None else 2
    figure_ = plots.figure(10.0, 2.9 * rows)
    axes = figure_.subplots(rows, squeeze=False)[:, 0]
    plots.signals(excerpt, rate, axes[-1], start=start)
    if envelopes is not None:
        axes[-1].set_title("an excerpt, shaded above", loc="left")
        step = 1.0 if rate is None else 1 / rate
        for line in axes[-1].lines:
            name = line.get_label()
            lowest, highest = envelopes[name]
            time = step * length * (np.arange(np.size(lowest)) + 0.5) / np.size(lowest)
            axes[0].fill_between(
                time, lowest, highest, color=line.get_color(), linewidth=0.3, label=name
            )
        shade = {"color": plots.COLOURS["grey"], "alpha": 0.35, "linewidth": 0, "zorder": 0}
        axes[0].axvspan(step * start, step * end, **shade)
        axes[0].spines[["top", "right"]].set_visible(False)
        axes[0].margins(x=0.01)
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
        axes[0].legend(frameon=False, ncols=2, fontsize="small", **place)
        axes[0].set(xlabel=axes[-1].get_xlabel(), ylabel="range (units of the recording)")
    return figure_


def denoising(result, longest=2000):
    """The signal, poles, kernel, frequency response and losses of one comparison.

    Of a deep model: the signal, what it weighs at a peak and on a flat stretch, scores and losses.

    Parameters
    ----------
    result : ssm_manual.tasks.denoising.Comparison
        What `ssm_manual.tasks.denoising.compare` returned.
    longest : int
        Most held-out samples to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    held_out = slice(result.start, result.clean.size - result.lookahead)
    held_out = slice(held_out.start, min(held_out.stop, held_out.start + longest))
    if result.initial_A_bar is None:
        return deep_denoising(result, held_out)
    figure_ = plots.figure(11.0, 6.4)
    axes = figure_.subplot_mosaic(
        [["signal"] * 4, ["poles", "kernel", "response", "loss"]],
        height_ratios=(1.1, 1.0),
        width_ratios=(1.15, 1, 1, 1),
    )
    traces = {name: getattr(result, name)[held_out] for name in ("noisy", "clean", "restored")}
    plots.signals(traces, result.rate, axes["signal"], start=result.start)
    score = result.score()
    wait = f", {result.lookahead} samples late" if result.lookahead else ""
    axes["signal"].set_title(
        f"{plain(result.name)}, held-out part: SNR {result.snr_in:.1f} dB before, "
        f"{score.snr:.1f} dB after ({result.model.A_bar.size} poles{wait})",
        loc="left",
    )
    A_bar, initial = result.model.A_bar, result.initial_A_bar
    plots.poles(A_bar, axes["poles"], initial=initial, conjugates=True)
    axes["poles"].set_title("poles")
    K = np.array(result.model.kernel(_support(result.model, result.lookahead)))
    K[0] += result.model.params["D"]
    dt = None if result.rate is None else 1 / result.rate
    plots.kernel(K, dt, axes["kernel"])
    axes["kernel"].set_title("kernel, D at lag 0")
    frequencies = np.geomspace(1e-3, 0.5, 513)  # what passes lies low: most of it below 0.05
    response = result.model.frequency_response(frequencies)
    plots.frequency_response(frequencies, response, result.rate, axes["response"])
    axes["response"].set(xscale="log", title="frequency response")
    plots.loss_curve(result.losses, axes["loss"], label="mean e² / clean power (no unit)")
    axes["loss"].set(xscale="log")
    axes["loss"].set_title("training loss")
    return figure_


def _support(model, lookahead, longest=2000):
    """Lags worth drawing: up to where 99.9 % of the kernel's energy lies."""
    energy = np.cumsum(np.abs(model.kernel(longest).astype(np.complex128)) ** 2)
    return int(max(16, 1.3 * lookahead, 1.3 * np.searchsorted(energy, 0.999 * energy[-1])))
