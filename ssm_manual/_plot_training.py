"""Panels about a training run; `ssm_manual.plots` gives them out.

That module is imported when a panel is drawn: it imports this one.
"""

import numpy as np

from ssm_manual import _validate

__all__ = ["training", "training_gradients", "training_losses", "training_rates"]


def training_losses(history, ax=None):
    """Loss of every update, and mean losses of every epoch, over updates.

    Parameters
    ----------
    history : dict of list
        Of `ssm_manual.training.Trainer`.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    losses, ax = _series(history, "loss"), _axes(ax)
    ax.plot(*_steps(losses), linewidth=0.6, alpha=0.45, label="a batch")
    ends = history.get("epoch_end", ())
    for name, label in [("epoch_loss", "training, an epoch"), ("validation_loss", "validation")]:
        values = np.asarray(history.get(name, ()), float)
        if values.size:
            ax.plot(ends[: values.size], values, marker=".", linewidth=1.4, label=label)
    if (losses > 0).all():
        ax.set_yscale("log")
    ax.set(xlabel="update (number)", ylabel="loss (its own unit)")
    ax.legend(frameon=False, fontsize="small")
    return ax


def training_gradients(history, ax=None, *, max_norm=None):
    """Global norm of the gradients before clipping, over updates, with the limit.

    Parameters
    ----------
    history : dict of list
        Of `ssm_manual.training.Trainer`.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.
    max_norm : float, optional
        The limit of the run.

    Returns
    -------
    matplotlib.axes.Axes
    """
    norms, ax = _series(history, "grad_norm"), _axes(ax)
    ax.plot(*_steps(norms), linewidth=0.9, label="before clipping")
    if max_norm is not None:
        max_norm = _validate.real_number("max_norm", max_norm, above=0)
        ax.axhline(max_norm, color="black", linestyle="--", linewidth=0.9, label="limit")
        ax.legend(frameon=False, fontsize="small")
    if (norms > 0).all():
        ax.set_yscale("log")
    ax.set(xlabel="update (number)", ylabel="gradient norm (per unit)")
    return ax


def training_rates(history, ax=None):
    """The learning rate over updates, before groups.

    Parameters
    ----------
    history : dict of list
        Of `ssm_manual.training.Trainer`.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    rates, ax = _series(history, "lr"), _axes(ax)
    ax.plot(*_steps(rates), linewidth=1.3)
    ax.set(xlabel="update (number)", ylabel="learning rate (no unit)")
    ax.set_ylim(bottom=0)
    return ax


def training(history, *, max_norm=None):
    """The curves of a run: losses, gradient norms, learning rate.

    Parameters
    ----------
    history : dict of list
        Of `ssm_manual.training.Trainer`.
    max_norm : float, optional
        The limit of the run's gradients, to be drawn beside them.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from ssm_manual import plots

    figure = plots.figure(11.0, 3.6)
    losses, norms, rates = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
    training_losses(history, losses).set_title("loss", loc="left")
    training_gradients(history, norms, max_norm=max_norm).set_title("gradients", loc="left")
    training_rates(history, rates).set_title("learning rate", loc="left")
    return figure


def _series(history, name):
    if not isinstance(history, dict) or name not in history:
        raise ValueError(
            f"history is {_validate.show(history)}; it must be a Trainer's, with {name!r}"
        )
    return _validate.shape(f"history[{name!r}]", np.asarray(history[name], float), (-1,))


def _steps(values):
    return np.arange(1, values.size + 1), values


def _axes(ax):
    from ssm_manual import plots

    return plots._axes(ax)
