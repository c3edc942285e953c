"""The figure of all ways to make a kernel, and its panels; `ssm_manual.plots` gives it out.

That module is imported when a figure is drawn, for it imports this one.
"""

import numpy as np

__all__ = ["kernel_methods"]

#: Distance of two names at the end of their lines, as a share of the axis.
NAME = 0.075


def kernel_methods(found):
    """Time and error of all methods of `ssm_manual.ops.kernels`, in both precisions.

    Parameters
    ----------
    found : ssm_manual.tasks.kernel_survey.Survey
        What was measured.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    looks = {"fill": {"color": plots.COLOURS["grey"], "label": "writing the array"}}
    names = ("anchored", "recursive", "log_parallel", "log", "naive", "hybrid")
    colours = ("vermilion", "blue", "green", "purple", "orange", "black")
    for name, colour in zip(names, colours):
        looks[name] = {"color": plots.COLOURS[colour], "label": name, "linewidth": 1.3}
    # the fast and precise one, and the slow and imprecise; the former is seen beneath others too
    looks["anchored"]["linewidth"], looks["log"]["linewidth"] = 4.0, 2.6
    looks["hybrid"] |= {"linestyle": (0, (2, 2)), "linewidth": 1.0}
    figure = plots.figure(12.5, 7.0)
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    figure.suptitle(
        "Every way to make K_t = C A_bar^t B_bar: lower is better"
        f" ({threads} for log_parallel and hybrid)"
    )
    axes = figure.subplots(len(found.seconds), 2)
    for (left, right), dtype in zip(axes, found.seconds):
        seconds(plots._axes(left), found, dtype, looks)
        errors(plots._axes(right), found, dtype, looks)
    return figure


def seconds(ax, found, dtype, looks):
    """Time a sample over the length; writing the array is the floor."""
    lengths = np.array(found.lengths)
    rates = {
        method: 1e9 * np.array(times) / lengths for method, times in found.seconds[dtype].items()
    }
    every = np.concatenate(list(rates.values()))
    ax.set_ylim(0.6 * every.min(), 1.5 * every.max())
    for method, rate in rates.items():
        if method == "fill":
            ax.fill_between(lengths, ax.get_ylim()[0], rate, alpha=0.35, **looks[method])
        else:
            ax.plot(lengths, rate, marker=".", **looks[method])  # there may be one length alone
    ax.set_xscale("log", base=2)
    ax.set(yscale="log", xlabel="length (samples)", ylabel="time of a call (ns per sample)")
    ax.set_title(f"{dtype}: time", loc="left")
    _names(ax, rates, looks)


def errors(ax, found, dtype, looks):
    """Error in units over t, on a scale that shows both a half and a billion."""
    t = np.array(found.t) + 1  # the first sample too has its place on a logarithmic axis
    worst = {
        # an error of zero would have none
        method: np.maximum.accumulate(np.maximum(values, 0.3))
        for method, values in found.errors[dtype].items()
    }
    for method, values in worst.items():
        ax.plot(t, values, **looks[method])
    bits = {"complex64": 24, "complex128": 53}[dtype]
    ax.set(xscale="log", yscale="log", xlabel="t (samples)")
    ax.set_ylabel(f"error / |K_t| (units of $2^{{-{bits}}}$)")
    ax.set_title(f"{dtype}: largest error up to t", loc="left")
    ax.axhline(1, color="black", linewidth=0.5, linestyle=":")
    _names(ax, worst, looks)


def _names(ax, lines, looks):
    """Names and last values at the right of the axes, pushed apart where lines end together."""
    axis = ax.transAxes.inverted()
    end = {
        name: axis.transform(ax.transData.transform((ax.get_xlim()[1], values[-1])))[1]
        for name, values in lines.items()
        if np.isfinite(values[-1])
    }
    order = sorted(end, key=end.get)
    places = [end[name] for name in order]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + NAME)
    for i, place in reversed(list(enumerate(places))):
        above = places[i + 1] if i + 1 < len(places) else 1 + NAME
        places[i] = min(place, above - NAME)
    for name, place in zip(order, places):
        value = lines[name][-1]
        text = f"{looks[name]['label']}  {value:,.{0 if value >= 100 else 1}f}"
        look = {"color": looks[name]["color"], "size": "small", "va": "center"}
        ax.text(1.02, place, text, transform=ax.transAxes, **look)
