"""Panels about HiPPO; `ssm_manual.plots` gives them out.

That module is imported when a panel is drawn: it imports this one.
"""

import numpy as np

from ssm_manual import _validate, hippo

__all__ = ["hippo_memory", "initial_kernels", "initial_spectrum", "initialisations"]

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


def hippo_memory(u, N=32, rate=None, ax=None, *, window=None, measures=hippo.MEASURES):
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
    past = {"color": plots.COLOURS["black"], "linewidth": 2.5, "alpha": 0.35}
    ax.plot(step * (np.arange(u.size) + 0.5), u, label="u", **past)
    age = np.linspace(0, 1, 2001)
    colours = dict(zip(hippo.MEASURES, plots.CYCLE))
    for measure in measures:
        _validate.one_of("measures", measure, hippo.MEASURES)
        span = u.size if measure == "legs" else window
        theta = None if measure == "legs" else window
        state = hippo.project(measure, u, N, window=theta)[-1]
        read = hippo.basis(measure, N, age).T @ state
        ax.plot(
            step * (u.size - age * span), read, color=colours[measure], linewidth=1.2, label=measure
        )
    ax.axvline(step * (u.size - window), color=plots.COLOURS["grey"], linestyle=":", linewidth=0.9)
    ax.set(
        xlabel="time (samples)" if rate is None else "time (s)", ylabel="u (units of the signal)"
    )
    ax.margins(x=0.01)
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    ax.legend(frameon=False, ncols=4, fontsize="small", **place)
    return ax


def initial_kernels(kind, modes=32, ax=None, *, shown=4, until=5.0):
    """``Re(B_n exp(Lambda_n s))`` of an initialisation's slowest modes, real and imaginary part.

    Each mode gives a kernel in phase with its input (drawn full) and one a quarter of a turn late
    (drawn dashed); training mixes them by C. All but the ``shown`` slowest are left out.

    Parameters
    ----------
    kind : {"legs", "lin", "inv", "fout", "real", "inv2", "quad"}
        Which, see `ssm_manual.hippo.diagonal`.
    modes : int
        Stored poles.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    shown : int
        How many modes to draw, at least 1.
    until : float
        Last lag in seconds.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    Lambda, B = hippo.diagonal(kind, modes)
    shown = min(_validate.integer("shown", shown, minimum=1), len(Lambda))
    until = _validate.real_number("until", until, above=0)
    ax = plots._axes(ax)
    s = np.linspace(0, until, 1001)
    slowest = np.argsort(np.abs(Lambda))[:shown]
    ax.axhline(0, color=plots.COLOURS["grey"], linewidth=0.6)
    for n, colour in zip(slowest, plots.CYCLE * shown):
        K = B[n] * np.exp(Lambda[n] * s)
        ax.plot(s, K.real, color=colour, linewidth=1.2)
        if np.any(K.imag):
            ax.plot(s, K.imag, "--", color=colour, linewidth=0.8)
    ax.set(xlabel="lag (s)", ylabel=r"$B_n e^{\Lambda_n s}$ (no unit)", title=TITLES[kind])
    return ax


def initial_spectrum(kinds=FOUR, modes=32, ax=None):
    """Mean power that initial kernels pass, ``sum_n |B_n|^2 / |i omega - Lambda_n|^2``.

    The mean is over C with independent phases and modulus 1, conjugate poles included.

    Parameters
    ----------
    kinds : sequence of str
        Which initialisations, see `ssm_manual.hippo.diagonal`.
    modes : int
        Stored poles.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from ssm_manual import plots

    ax = plots._axes(ax, 8.0, 3.2)
    omega = np.geomspace(0.02, 5000, 3000)
    styles = ["-", "-", "-", "--"] * len(kinds)
    for kind, colour, style in zip(kinds, plots.CYCLE * len(kinds), styles):
        Lambda, B = hippo.diagonal(kind, modes)
        power = sum(
            np.abs(B[:, None]) ** 2 / np.abs(1j * omega - poles[:, None]) ** 2
            for poles in (Lambda, Lambda.conj())
        ).sum(axis=0)
        ax.plot(omega, 10 * np.log10(power), style, color=colour, linewidth=1.1, label=TITLES[kind])
    ax.set(xscale="log", xlabel="angular frequency (1/s)", ylabel="mean power (dB of 1 s²)")
    ax.legend(frameon=False, fontsize="small")
    return ax


def initialisations(modes=32, kinds=FOUR):
    """The kernels of diagonal initialisations, and the frequencies that they cover.

    Parameters
    ----------
    modes : int
        Stored poles.
    kinds : sequence of str
        Which, see `ssm_manual.hippo.diagonal`; each once, at least one.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    kinds = list(kinds)
    if len(set(kinds)) < max(1, len(kinds)):
        raise ValueError(
            f"kinds is {_validate.show(kinds)}; it must be one name or more, each once"
        )
    figure = plots.figure(11.0, 5.6)
    axes = figure.subplot_mosaic([kinds, ["spectrum"] * len(kinds)])
    for kind in kinds:
        initial_kernels(kind, modes, axes[kind]).set_ylim(-1.1, 1.1)
        if kind != kinds[0]:
            axes[kind].set_ylabel("")
    initial_spectrum(kinds, modes, axes["spectrum"])
    return figure
