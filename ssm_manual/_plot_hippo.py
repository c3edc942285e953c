"""Panels about HiPPO; `ssm_manual.plots` gives them out.

That module is imported when a panel is drawn: it imports this one.
"""

import numpy as np

from ssm_manual import _validate, hippo

__all__ = ["initial_kernels", "initialisations", "memory"]

#: What `initialisations` draws.
FOUR = ("legs", "inv", "lin", "fout")

TITLES = {
    "legs": "S4D-LegS",
    "inv": "S4D-Inv",
    "lin": "S4D-Lin",
    "fout": "FouT, diagonal",
    "real": "S4D-Real",
    "inv2": "S4D-Inv, second form",
    "quad": "S4D-Quad",
}


def memory(u, N=32, rate=None, ax=None, *, window=None, measures=hippo.MEASURES):
    """A signal, and what the states of HiPPO after its last sample still know of it.

    Parameters
    ----------
    u : array_like
        (length,), real.
    N : int
        Number of states; even for ``fout``.
    rate : float or None
        Samples per second; None labels the axis in samples.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    window : float or None
        theta of ``legt`` and ``fout`` in samples, at most the length; None is half the length.
    measures : sequence of str
        Which of ``legs``, ``legt`` and ``fout`` to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    u = _validate.array("u", u, real=True)
    _validate.shape("u", u, (-1,), meaning="(length,)")
    step = 1.0 if rate is None else 1 / _validate.real_number("rate", rate, above=0)
    window = u.size / 2 if window is None else window
    window = _validate.real_number("window", window, above=0, maximum=u.size)
    ax = plots._axes(ax, 8.0, 3.2)
    ax.stairs(u, step * np.arange(u.size + 1), baseline=None, color=plots.COLOURS["grey"], label="u")
    age = np.linspace(0, 1, 2001)
    for measure, colour in zip(hippo.MEASURES, plots.CYCLE):
        if measure not in measures:
            continue
        span = u.size if measure == "legs" else window
        theta = None if measure == "legs" else window
        state = hippo.project(measure, u, N, window=theta)[-1]
        past = hippo.basis(measure, N, age).T @ state
        ax.plot(step * (u.size - age * span), past, color=colour, linewidth=1.2, label=measure)
    for measure in measures:
        _validate.one_of("measures", measure, hippo.MEASURES)
    ax.axvline(step * (u.size - window), color=plots.COLOURS["grey"], linestyle=":", linewidth=0.9)
    ax.set(xlabel="time (samples)" if rate is None else "time (s)", ylabel="u (units of the signal)")
    ax.margins(x=0.01)
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    ax.legend(frameon=False, ncols=4, fontsize="small", **place)
    return ax
