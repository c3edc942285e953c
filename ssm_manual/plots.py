"""Figures. A panel is a function that takes ``ax=None`` and returns it; none is ever shown.

`denoising` puts panels together into a whole figure. `STYLE` is the look of the notebooks.

Built on Matplotlib's objects alone, without pyplot: nothing here opens a window, keeps figures
alive, or depends on a display. A figure made here is saved by ``axes.figure.savefig(...)``; in a
notebook it shows as the value of a cell.
"""

import numpy as np
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssm_manual import _validate
from ssm_manual._plot_deep import rules
from ssm_manual._plot_dense import hippo_experiment, hippo_experiments
from ssm_manual._plot_hippo import (
    hippo_memory,
    initial_kernels,
    initial_spectrum,
    initialisations,
)
from ssm_manual._plot_inside import (
    inside,
    inside_activations,
    inside_gradients,
    inside_norms,
    layer_kernels,
    layer_poles,
)
from ssm_manual._plot_kernels import kernel_methods
from ssm_manual._plot_recordings import applied, denoising
from ssm_manual._plot_regression import regression
from ssm_manual._plot_tasks import (
    MODEL_COLOURS,
    gradient_reach,
    model_colour,
    task,
    task_curves,
    task_scores,
)
from ssm_manual._plot_training import (
    training,
    training_gradients,
    training_losses,
    training_rates,
)
from ssm_manual._plot_xor import (
    xor_accuracies,
    xor_answers,
    xor_lengths,
    xor_signal,
    xor_training,
)

__all__ = [
    "COLOURS",
    "CYCLE",
    "MODEL_COLOURS",
    "STYLE",
    "applied",
    "denoising",
    "figure",
    "frequency_response",
    "gradient_reach",
    "hippo_experiment",
    "hippo_experiments",
    "hippo_memory",
    "initial_kernels",
    "initial_spectrum",
    "initialisations",
    "inside",
    "inside_activations",
    "inside_gradients",
    "inside_norms",
    "kernel",
    "kernel_methods",
    "layer_kernels",
    "layer_poles",
    "loss_curve",
    "model_colour",
    "poles",
    "regression",
    "rules",
    "signals",
    "task",
    "task_curves",
    "task_scores",
    "training",
    "training_gradients",
    "training_losses",
    "training_rates",
    "xor_accuracies",
    "xor_answers",
    "xor_lengths",
    "xor_signal",
    "xor_training",
]

#: Okabe and Ito's colours, told apart by all common kinds of colour vision; black comes first for
#: what is true.
COLOURS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#999999",
}

#: The order in which lines take them.
CYCLE = tuple(COLOURS[name] for name in ("blue", "vermilion", "green", "purple", "orange", "sky"))

#: For ``matplotlib.pyplot.rcParams.update``.
STYLE = {
    "figure.dpi": 96,
    "figure.constrained_layout.use": True,
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def figure(width=6.4, height=4.0):
    """An empty figure with constrained layout, in inches, that draws in memory.

    Parameters
    ----------
    width, height : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    new = Figure(figsize=(width, height), layout="constrained", dpi=120)
    FigureCanvasAgg(new)
    return new


def _axes(ax, width=6.4, height=4.0):
    if ax is None:
        ax = figure(width, height).add_subplot()
    ax.set_prop_cycle(color=CYCLE)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def poles(A_bar, ax=None, *, initial=None, conjugates=False):
    """Discrete poles in the complex plane with the unit circle; stable ones lie inside.

    Parameters
    ----------
    A_bar : array_like
        ``(N,)``, complex, without unit.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    initial : array_like or None
        ``(N,)``: where the poles were before training, drawn in grey with a line to where they are.
    conjugates : bool
        Whether to draw the conjugate poles too, which a model of real output implies.

    Returns
    -------
    matplotlib.axes.Axes
    """
    A_bar = np.atleast_1d(_validate.array("A_bar", A_bar))
    conjugates = _validate.flag("conjugates", conjugates)
    ax = _axes(ax, 4.6, 4.6)
    angle = np.linspace(0, 2 * np.pi, 361)
    style = {"color": COLOURS["grey"]}
    ax.plot(np.cos(angle), np.sin(angle), **style, linewidth=0.8)
    if initial is not None:
        initial = np.atleast_1d(_validate.array("initial", initial))
        _validate.shape("initial", initial, A_bar.shape, meaning="A_bar's")
        ends = np.stack([initial, A_bar])
        ax.plot(ends.real, ends.imag, **style, linewidth=0.7)
        ax.plot(initial.real, initial.imag, "o", **style, markersize=3, label="initial")
    ax.plot(A_bar.real, A_bar.imag, "x", color=COLOURS["vermilion"], markersize=6, label="trained")
    if conjugates:
        ax.plot(A_bar.real, -A_bar.imag, "x", **style, markersize=4, label="conjugate")
    if conjugates or initial is not None:
        ax.legend(frameon=False, loc="center", fontsize="small")
    reach = 1.1 * max(1.0, np.abs(A_bar).max(initial=0.0))
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set(xlabel=r"Re $\bar A$ (no unit)", ylabel=r"Im $\bar A$ (no unit)")
    return ax


def kernel(K, dt=None, ax=None, **line):
    """A convolution kernel over its lag; real and imaginary part if it is complex.

    Parameters
    ----------
    K : array_like
        ``(length,)``, real or complex, in units of output over input.
    dt : float or None
        Seconds per sample; None labels the axis in samples.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    **line
        Passed on to ``Axes.plot``.

    Returns
    -------
    matplotlib.axes.Axes
    """
    K = _validate.shape("K", _validate.array("K", K), (-1,), meaning="(length,)")
    unit = 1.0 if dt is None else _validate.real_number("dt", dt, above=0)
    ax = _axes(ax)
    lag = unit * np.arange(K.size)
    ax.axhline(0, color=COLOURS["grey"], linewidth=0.6)
    if np.iscomplexobj(K):
        ax.plot(lag, K.real, **{"label": "real part", **line})
        ax.plot(lag, K.imag, **{"label": "imaginary part", **line})
        ax.legend(frameon=False, fontsize="small")
    else:
        ax.plot(lag, K, **line)
    ax.set(xlabel="lag (samples)" if dt is None else "lag (s)", ylabel="K (output / input)")
    return ax


def frequency_response(frequencies, response, rate=None, ax=None, **line):
    """Magnitude of a frequency response in dB.

    Parameters
    ----------
    frequencies : array_like
        ``(n,)``, cycles per sample.
    response : array_like
        ``(n,)``, complex, output over input.
    rate : float or None
        Samples per second; None labels the axis in cycles per sample.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    **line
        Passed on to ``Axes.plot``.

    Returns
    -------
    matplotlib.axes.Axes
    """
    frequencies = _validate.array("frequencies", frequencies, real=True)
    frequencies = _validate.shape("frequencies", frequencies, (-1,), meaning="(n,)")
    response = _validate.array("response", response)
    _validate.shape("response", response, frequencies.shape, meaning="that of frequencies")
    unit = 1.0 if rate is None else _validate.real_number("rate", rate, above=0)
    ax = _axes(ax)
    magnitude = np.maximum(np.abs(response), 1e-15)  # -300 dB stands for zero
    with np.errstate(over="ignore"):  # infinitely far to the right: not in the figure
        ax.plot(unit * frequencies, 20 * np.log10(magnitude), **line)
    ax.set_xlabel("frequency (cycles/sample)" if rate is None else "frequency (Hz)")
    ax.set_ylabel("magnitude (dB)")
    return ax


def loss_curve(losses, ax=None, *, label="mean |e|² (squared units)", **line):
    """Losses over epochs on a logarithmic axis, with their running mean where they are noisy.

    Parameters
    ----------
    losses : array_like
        ``(epochs,)``, positive.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    label : str
        What the losses are and in which unit.
    **line
        Passed on to ``Axes.plot``.

    Returns
    -------
    matplotlib.axes.Axes
    """
    losses = _validate.array("losses", losses, real=True)
    losses = _validate.shape("losses", losses, (-1,), meaning="(epochs,)")
    ax = _axes(ax)
    epochs = np.arange(1, losses.size + 1)  # from 1: the axis may be made logarithmic
    width = max(1, losses.size // 100)
    faint = {"linewidth": 0.5, "alpha": 0.45} if width > 1 else {}
    (drawn,) = ax.plot(epochs, losses, **{**faint, **line})
    if width > 1:
        mean = np.convolve(losses, np.full(width, 1 / width), mode="valid")
        ax.plot(epochs[width // 2 :][: mean.size], mean, color=drawn.get_color(), linewidth=1.4)
    if (losses > 0).all():
        ax.set_yscale("log")
    ax.set(xlabel="epoch", ylabel=label)
    return ax


def signals(traces, rate=None, ax=None, *, start=0, unit="units of the recording", gaps=False):
    """Several signals over one time axis.

    Parameters
    ----------
    traces : dict
        ``{label: (length,) array}``, all of one length; ``"noisy"``, ``"before"`` and ``"input"``
        are drawn faintly, ``"clean"`` in black.
    rate : float or None
        Samples per second; None labels the axis in samples.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    start : int
        Number of the first sample.
    unit : str
        Unit of the samples.
    gaps : bool
        Whether NaN is a gap in the line; else it is refused, as infinity is.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a signal is not real and finite (but for gaps), or their lengths differ.
    """
    gaps = _validate.flag("gaps", gaps)
    step = 1.0 if rate is None else 1 / _validate.real_number("rate", rate, above=0)
    start = _validate.length("start", start)
    ax = _axes(ax, 8.0, 3.0)
    styles = {
        "noisy": {"color": COLOURS["sky"], "linewidth": 0.7, "alpha": 0.8},
        "clean": {"color": COLOURS["black"], "linewidth": 1.0},
        "restored": {"color": COLOURS["vermilion"], "linewidth": 1.3},
        "before": {"color": COLOURS["sky"], "linewidth": 0.8},
        "input": {"color": COLOURS["sky"], "linewidth": 0.8},
        "after": {"color": COLOURS["vermilion"], "linewidth": 1.2},
    }
    length = None
    for label, trace in traces.items():
        name = f"traces[{label!r}]"
        trace = _validate.array(name, trace, real=True, finite=not gaps)
        if np.isinf(trace).any():
            raise ValueError(f"{name} holds infinity; it must not")
        _validate.shape(name, trace, (length,), meaning="(length,)")
        length = trace.size
        ax.plot(step * (start + np.arange(length)), trace, label=label, **styles.get(label, {}))
    ax.set(xlabel="time (samples)" if rate is None else "time (s)", ylabel=f"signal ({unit})")
    ax.margins(x=0.01)
    # above the axes, where no trace can run through it
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    ax.legend(frameon=False, ncols=max(1, len(traces)), fontsize="small", **place)
    return ax
