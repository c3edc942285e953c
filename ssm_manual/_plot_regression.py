"""The figure of a linear regression, and its panels; `ssm_manual.plots` gives it out.

That module is imported when a figure is drawn, for it imports this one.
"""

import numpy as np
from matplotlib import patheffects

from ssm_manual._plot_text import plain

__all__ = ["regression"]


def regression(table, history, learnt, closed, *, standardise=False):
    """A linear regression: its path on the loss surface, or its coefficients, and its losses.

    With one or two features the path is drawn, in the coordinates of the descent; with two the
    surface is cut at the learnt bias. With more, the coefficients stand beside those of least
    squares.

    Parameters
    ----------
    table : ssm_manual.tasks.tables.Table
        What it was trained on.
    history : ssm_manual.training.regression.RegressionHistory
        The run; with its path, if there are one or two features.
    learnt, closed : ssm_manual.models.LinearRegression
        The model after training, and that of least squares.
    standardise : bool
        Whether the descent was in standardised features.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    few = len(table.features) <= 2
    if few and history.path is None:
        raise ValueError("history has no path; fit with path=True, or draw more than two features")
    figure = plots.figure(10.5, max(4.2, 1.5 + 0.25 * len(table.features)))
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    for ax in (plots._axes(left), plots._axes(right)):
        ax.tick_params(labelsize="small")
    if few:
        path(left, table, history, closed, plots.COLOURS, standardise)
    else:
        coefficients(left, table, history, learnt, closed, plots.COLOURS, standardise)
    losses(right, table, history, closed, plots.COLOURS)
    return figure


def coordinates(table, params, standardise):
    """Rows (weights, bias) in the coordinates of the descent, and the features there."""
    from ssm_manual.models._frame import frame_of  # late: it loads the compiler

    frame = frame_of(table.X, standardise)
    rows = np.atleast_2d(np.asarray(params, float))
    if not standardise:
        return rows, np.asarray(table.X, float)
    offset = rows[:, -1] + rows[:, :-1] @ frame.mean  # [REGRESSION-10], read backwards
    rows = np.column_stack([rows[:, :-1] * frame.deviation, offset])
    return rows, frame.wide(table.X)


def path(ax, table, history, closed, colours, standardise):
    """The run on the surface of mean e^2: two weights at the learnt bias, or weight and bias."""
    rows, X = coordinates(table, history.path, standardise)
    best, _ = coordinates(table, np.append(*closed.params.values()), standardise)
    shown = np.vstack([rows[:, :2], best[:, :2]])
    low, high = shown.min(axis=0), shown.max(axis=0)
    reach = np.where(high > low, high - low, 1.0)
    low, high = low - 0.15 * reach, high + 0.15 * reach
    first, second = np.meshgrid(*(np.linspace(a, b, 401) for a, b in zip(low, high)))
    flat = np.column_stack([first.ravel(), second.ravel()])
    if X.shape[1] == 2:
        flat = np.column_stack([flat, np.full(len(flat), rows[-1, 2])])
    # mean e^2 is a quadratic: its second derivative and its slope at the end of the run say it all
    wide = np.column_stack([X, np.ones(len(X))])
    e = wide @ rows[-1] - table.y
    away = flat - rows[-1]
    surface = np.mean(e**2) + 2 * away @ (wide.T @ e) / len(e)
    surface += np.einsum("ij,jk,ik->i", away, wide.T @ wide / len(e), away)
    surface = np.maximum(surface, 0).reshape(first.shape)
    least = max(1.1 * float(surface.min()), 3e-4 * float(surface.max()))
    levels = np.geomspace(max(least, 1e-300), max(float(surface.max()), 1e-299), 13)
    grey = {"colors": colours["grey"], "linewidths": 0.7}
    ax.contour(first, second, surface, levels=np.unique(levels), **grey)
    ax.plot(rows[:, 0], rows[:, 1], color=colours["vermilion"], linewidth=1.2)
    marks = [0, *(10**k for k in range(9) if 10**k < len(rows) - 1), len(rows) - 1]
    ax.plot(*rows[marks, :2].T, "o", color=colours["vermilion"], markersize=3.5)
    _label(ax, rows, marks, high - low)
    ax.plot(*best[0, :2], "x", color="black", markersize=8, label="least squares")
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    unit = "per deviation" if standardise else "target / feature"
    names = [f"weight of {plain(name)} ({unit})" for name in table.features]
    if len(names) == 1:
        names.append(f"bias ({'at the mean' if standardise else 'units of the target'})")
    ax.set(xlabel=names[0], ylabel=names[1])
    ax.set_title("path over mean e², with numbers of epochs", loc="left")
    # above the axes, where it is no point of the plane
    above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    ax.legend(frameon=False, fontsize="small", **above)


def _label(ax, rows, marks, reach):
    """Numbers of the epochs, where they do not stand on one another."""
    placed = []
    halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]  # over path and contours
    style = {"textcoords": "offset points", "fontsize": 8, "path_effects": halo}
    for mark in (marks[0], marks[-1], *marks[1:-1]):
        at = rows[mark, :2] / reach
        if all(np.abs(at - other).max() > 0.07 for other in placed):
            placed.append(at)
            ax.annotate(f"{mark}", rows[mark, :2], (6, 3), **style)


def coefficients(ax, table, history, learnt, closed, colours, standardise):
    """Weights times the deviation of their feature: learnt beside least squares."""
    from ssm_manual.models._frame import frame_of  # late: it loads the compiler

    deviation = frame_of(table.X, True).deviation
    place = np.arange(len(table.features))[::-1]
    pairs = (("learnt", learnt, "o", "vermilion"), ("least squares", closed, "x", "black"))
    ax.axvline(0, color=colours["grey"], linewidth=0.6)
    for label, model, marker, colour in pairs:
        values = np.asarray(model.params["weights"], float) * deviation
        ax.plot(values, place, marker, color=colours[colour], label=label, markersize=7)
    ax.set_yticks(place, [plain(name) for name in table.features])
    ax.set_ylim(-0.5, len(place) - 0.5)
    ax.set_xlabel("weight × deviation of the feature (units of the target)")
    ax.set_title("what each feature contributes", loc="left")
    above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    ax.legend(frameon=False, fontsize="small", ncols=2, **above)


def losses(ax, table, history, closed, colours):
    """mean e^2 over the epochs, with that of least squares as the floor."""
    X, y = np.asarray(table.X, float), np.asarray(table.y, float)
    p = X @ np.asarray(closed.params["weights"], float) + float(closed.params["bias"])
    values = np.asarray(history.losses)
    ax.plot(np.arange(1, values.size + 1), values, color=colours["vermilion"])
    ax.set_xscale("log")
    floor = float(np.mean((p - y) ** 2))
    ax.set(xlabel="epoch", ylabel="mean e² (squared units)")
    ax.set_title("loss", loc="left")
    if (values > 0).all():
        ax.set_yscale("log")
    if floor > 1e-3 * values.min() > 0:  # a perfect fit would leave nothing else to see
        ax.axhline(floor, color="black", linestyle="--", linewidth=0.9, label="least squares")
        ax.legend(frameon=False, fontsize="small")
