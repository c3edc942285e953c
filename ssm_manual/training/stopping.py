"""Early stopping: when a run has ceased to improve, and which of its parameters were the best."""

import math
from dataclasses import dataclass

from ssm_manual import _validate

__all__ = ["EarlyStopping"]


@dataclass(frozen=True)
class EarlyStopping:
    """Stop after ``patience`` epochs in a row without a new best.

    Parameters
    ----------
    patience : int
        Epochs, at least 1.
    metric : str
        Which list of the history decides: ``"validation_loss"``, ``"epoch_loss"``, or
        ``"validation_"`` and the name of a metric.
    mode : {"min", "max"}
        Whether small or large values are good.
    min_change : float
        A new best is better than the last one by more than this.
    restore : bool
        Whether the model ends with the parameters of its best epoch rather than those of its last.
    enough : float, optional
        Stop at once when the metric is as good as this, or better. That epoch is the best one,
        whatever ``min_change`` is.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """

    patience: int
    metric: str = "validation_loss"
    mode: str = "min"
    min_change: float = 0.0
    restore: bool = True
    enough: float | None = None

    def __post_init__(self):
        checked = {"patience": _validate.integer("patience", self.patience, minimum=1)}
        if not isinstance(self.metric, str):
            raise ValueError(f"metric is {_validate.show(self.metric)}; it must be a string")
        _validate.one_of("mode", self.mode, ("min", "max"))
        checked["min_change"] = _validate.real_number("min_change", self.min_change, minimum=0)
        checked["restore"] = _validate.flag("restore", self.restore)
        if self.enough is not None:
            checked["enough"] = _validate.real_number("enough", self.enough)
        checked["metric"] = str(self.metric)
        for name, value in checked.items():  # Python's own types, whatever was given
            object.__setattr__(self, name, value)

    def better(self, value, best):
        """Whether ``value`` is a new best; NaN never is.

        Parameters
        ----------
        value : float
            Of this epoch.
        best : float
            The best so far; NaN before the first.

        Returns
        -------
        bool
        """
        if math.isnan(value) or math.isnan(best):
            return not math.isnan(value)
        gain = best - value if self.mode == "min" else value - best
        return gain > self.min_change

    def reached(self, value):
        """Whether ``value`` is as good as ``enough``; never where that is None, and NaN never is.

        Parameters
        ----------
        value : float
            Of this epoch.

        Returns
        -------
        bool
        """
        if self.enough is None:
            return False
        return value <= self.enough if self.mode == "min" else value >= self.enough
