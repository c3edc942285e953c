"""Panels that look inside a deep model; `ssm_manual.plots` gives them out.

That module is imported when a panel is drawn: it imports this one.
"""

import numpy as np

from ssm_manual import _validate

__all__ = [
    "inside",
    "inside_activations",
    "inside_gradients",
    "inside_norms",
    "layer_kernels",
    "layer_poles",
]


def inside_activations(seen, ax=None):
    """The signal after every part: its RMS, and where half and nine tenths of the numbers lie.

    Parameters
    ----------
    seen : ssm_manual.models.Inside
        From `ssm_manual.models.look_inside`.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    signals, ax = _seen(seen, "activations"), plots._axes(ax)
    counted = _counted(seen, next(iter(signals.values())))
    for place, x in enumerate(signals.values()):
        values = np.moveaxis(x, 1, -1)[counted].astype(float)
        a, b, c, d = np.quantile(values, (0.05, 0.25, 0.75, 0.95))
        ax.plot([place, place], [a, d], color=plots.COLOURS["sky"], linewidth=2, zorder=1)
        ax.plot([place, place], [b, c], color=plots.COLOURS["blue"], linewidth=7, zorder=2)
        rms = np.sqrt(np.mean(values**2))
        ax.plot(place, rms, "o", color=plots.COLOURS["vermilion"], zorder=3)
    handles = [ax.lines[i] for i in (2, 1, 0)]
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    names = ["RMS", "middle 50 %", "middle 90 %"]
    ax.legend(handles, names, frameon=False, fontsize="small", ncols=3, **place)
    ax.axhline(0, color=plots.COLOURS["grey"], linewidth=0.6, zorder=0)
    ax.set_xticks(range(len(signals)), signals, rotation=30, ha="right", fontsize="small")
    ax.set_ylabel("signal after the part (no unit)")
    ax.margins(x=0.1)
    return ax


def inside_gradients(seen, ax=None):
    """RMS over items and features of dL/d(output of a part), over time; a line for each part.

    Parameters
    ----------
    seen : ssm_manual.models.Inside
        From `ssm_manual.models.look_inside`, with gradients.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    gradients, ax = _seen(seen, "gradients"), plots._axes(ax)
    counted = _counted(seen, next(iter(gradients.values())))
    items = np.maximum(counted.sum(axis=0), 1)
    for name, g in gradients.items():
        rms = np.sqrt(np.sum(np.mean(g.astype(float) ** 2, axis=1), axis=0) / items)
        # exact zeros are no points of a logarithmic axis
        ax.plot(np.where(rms > 0, rms, np.nan), linewidth=1.3, label=name)
    ax.set_yscale("log")
    ax.legend(frameon=False, fontsize="small")
    ax.set(xlabel="time (samples)", ylabel="RMS of dL/d output (loss per unit)")
    return ax


def inside_norms(seen, ax=None):
    """Norm of the gradient of every layer: the square root of the sum over its parameters.

    Parameters
    ----------
    seen : ssm_manual.models.Inside
        From `ssm_manual.models.look_inside`, with gradients.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    squares, ax = {}, plots._axes(ax)
    for name, g in _seen(seen, "grads").items():
        layer = name.rpartition(".")[0]
        squares[layer] = squares.get(layer, 0.0) + float(np.sum(np.abs(g.astype(complex)) ** 2))
    norms = np.sqrt(list(squares.values()))
    ax.plot(norms, range(len(norms)), "o", color=plots.COLOURS["vermilion"])
    ax.set_yticks(range(len(norms)), squares, fontsize="small")
    ax.invert_yaxis()
    if (norms > 0).all():  # whole decades, with a name at each
        ax.set_xscale("log")
        low, high = np.floor(np.log10(norms.min())), np.ceil(np.log10(norms.max()))
        ax.set_xlim(10.0**low, 10.0 ** max(high, low + 1))
        ax.tick_params(axis="x", which="minor", labelbottom=False)
    ax.grid(axis="y", color=plots.COLOURS["grey"], alpha=0.3, linewidth=0.6)
    ax.set_xlabel("norm of dL/d parameters (loss per unit)")
    return ax


def layer_kernels(layer, length, ax=None, *, before=None, channels=3):
    """Kernels of a few channels of an SSM, and in grey what they were before.

    Parameters
    ----------
    layer : layer
        With ``kernel(length)``, such as `ssm_manual.layers.S4D`.
    length : int
        Samples to draw, at least 1.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    before : layer, optional
        The same layer before training, such as a deep copy.
    channels : int
        How many, from 1 to 6; spread over all of them.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    length = _validate.length("length", length, minimum=1)
    most = min(len(plots.CYCLE), _with("layer", layer, "kernel").features)
    count = _validate.size("channels", channels)
    count, ax = min(count, most), plots._axes(ax)
    ax.axhline(0, color=plots.COLOURS["grey"], linewidth=0.6)
    now, K = layer.kernel(length), None
    if before is not None:
        K = _with("before", before, "kernel").kernel(length)
        _validate.shape("before.kernel(length)", K, now.shape, meaning="that of layer's")
    for place, h in enumerate(np.linspace(0, len(now) - 1, count).astype(int)):
        if K is not None:
            grey = {"color": plots.COLOURS["grey"], "linewidth": 0.9}
            ax.plot(K[h], **grey, label=None if place else "before")
        ax.plot(now[h], linewidth=1.4, color=plots.CYCLE[place], label=f"channel {h}")
    ax.legend(frameon=False, fontsize="small")
    ax.set(xlabel="lag (samples)", ylabel="K (output / input)")
    return ax


def layer_poles(layer, ax=None, *, before=None):
    """Poles of all channels: frequency over memory, in samples, and where they were before.

    Parameters
    ----------
    layer : layer
        With ``A`` and ``dt``, such as `ssm_manual.layers.S4D`.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    before : layer, optional
        The same layer before training, such as a deep copy.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    A mode ``exp(t dt A)`` falls to 1/e in ``-1 / Re dt A`` samples and turns ``Im dt A / 2 pi``
    times a sample.
    """
    from ssm_manual import plots

    ends = [_places("layer", layer)]
    ax = plots._axes(ax)
    if before is not None:
        ends.append(_places("before", before))
        _validate.shape("before.A", ends[1][0], ends[0][0].shape, meaning="that of layer.A")
        grey = {"color": plots.COLOURS["grey"], "linewidth": 0.7}
        ax.plot(*np.stack(ends, axis=1), **grey, zorder=1)
        ax.plot(*ends[1], "o", color=plots.COLOURS["grey"], markersize=3, zorder=2)
        ax.lines[-1].set_label("before")
    (drawn,) = ax.plot(*ends[0], "x", color=plots.COLOURS["vermilion"], markersize=4, zorder=3)
    drawn.set_label("now")
    ax.axhline(0.5, color="black", linestyle="--", linewidth=0.9, label="half the sampling rate")
    ax.legend(frameon=False, fontsize="small")
    ax.set_xscale("log")
    ax.set(xlabel="memory (samples)", ylabel="frequency (cycles/sample)")
    return ax


def inside(seen, layer=None, *, before=None, length=100):
    """The inside of a model in one figure: activations, gradients, and one layer's poles.

    Parameters
    ----------
    seen : ssm_manual.models.Inside
        From `ssm_manual.models.look_inside`, with gradients.
    layer : layer, optional
        An SSM with ``kernel``, ``A`` and ``dt``, for a second row of kernels and poles.
    before : layer, optional
        That layer before training.
    length : int
        Samples of the kernels.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    rows = 1 if layer is None else 2
    figure = plots.figure(11.5, 3.6 * rows)
    grid = figure.add_gridspec(rows, 6)
    inside_activations(seen, figure.add_subplot(grid[0, :2]))
    inside_gradients(seen, figure.add_subplot(grid[0, 2:4]))
    inside_norms(seen, figure.add_subplot(grid[0, 4:]))
    if layer is not None:
        layer_kernels(layer, length, figure.add_subplot(grid[1, :3]), before=before)
        layer_poles(layer, figure.add_subplot(grid[1, 3:]), before=before)
    return figure


def _seen(seen, name):
    found = getattr(seen, name, None)
    if not found:
        needed = "" if name == "activations" else ", with to_output"
        raise ValueError(f"seen is {_validate.show(seen)}; it must come from look_inside{needed}")
    return found


def _counted(seen, signal):
    """(batch, L): whether a sample is none of padding."""
    batch, _, L = signal.shape
    lengths = np.full(batch, L) if seen.lengths is None else seen.lengths
    return np.arange(L) < lengths[:, np.newaxis]


def _with(name, layer, *needed):
    if not all(hasattr(layer, one) for one in ("features", *needed)):
        raise ValueError(
            f"{name} is {_validate.show(layer)}; it must be an SSM layer with {', '.join(needed)}"
        )
    return layer


def _places(name, layer):
    """Memory and frequency of every pole, by their samples, one after the other."""
    A, dt = _with(name, layer, "A", "dt").A, layer.dt
    z = (np.reshape(dt, (-1, 1)) * A).ravel()
    return -1 / z.real, z.imag / (2 * np.pi)
