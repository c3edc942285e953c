"""What is said when a loss is no number any more."""

import numpy as np

from ssm_manual.training.descent import DivergenceError


class StepDivergenceError(DivergenceError):
    """A loss or a gradient of the training loop was not finite.

    Parameters
    ----------
    run : Run
        Where the run stood.
    batch : int or None
        Number of the batch in its epoch; None in validation.
    loss : float
        The loss; finite where a gradient was to blame.
    parameter : str or None
        With a gradient that is not finite, or the one that moved furthest in the last update; None
        before the first.
    optimizer : object
        For its learning rates.
    path : str or None
        Of the last checkpoint.
    kept : int
        Updates in that.
    """

    def __init__(self, run, batch, loss, parameter, optimizer, path, kept):
        where = "validation" if batch is None else f"batch {batch}"
        what = f"the loss is {loss:g}"
        if np.isfinite(loss):
            what = f"the loss is {loss:g}, but a gradient is not finite"
        culprit = ""
        if parameter is not None:
            lr = optimizer.groups[parameter][1]
            culprit = f" The first to look at is {parameter!r} (learning rate {lr:g})."
        held = f" {path} holds update {kept}." if path is not None else ""
        before = "before the last update" if run.updates else "at the start"
        ArithmeticError.__init__(
            self,
            f"training diverged at update {run.updates} (epoch {run.epoch}, {where}): {what}."
            f"{culprit} Lower the learning rate, clip gradients (max_norm), lengthen the warm-up, "
            f"scale the data, or train in float64. The model holds its parameters {before}.{held}",
        )
        self.epoch, self.loss, self.parameter = run.epoch, loss, parameter
        self.losses = np.array(run.history["loss"])
        self.step, self.batch = run.updates, batch


def moved_furthest(before, now, grads=None):
    """The first parameter that is not finite, itself or in its gradient; else the one with the
    largest change relative to its size; None if there is nothing to compare."""
    for arrays in (now, grads or {}):
        for name, a in arrays.items():
            if not np.isfinite(a).all():
                return name

    def change(name):
        size = float(np.max(np.abs(before[name]), initial=0))
        moved = float(np.max(np.abs(now[name] - before[name]), initial=0))
        return moved / size if size > 0 else moved

    with np.errstate(over="ignore"):
        return max(before, key=change, default=None)
