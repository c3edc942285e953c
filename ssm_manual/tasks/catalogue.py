"""Which tasks there are, by name. Nothing is imported before a task is asked for."""

import importlib
from typing import NamedTuple

from ssm_manual import _validate

__all__ = ["TASKS", "Entry", "task_class"]


class Entry(NamedTuple):
    """Where a task is.

    Attributes
    ----------
    module, name : str
        Of its class, in `ssm_manual.tasks`.
    summary : str
        One line.
    """

    module: str
    name: str
    summary: str


TASKS = {
    "previous-bit": Entry("previous_bit", "PreviousBit", "say at every time which bit came before"),
    "copying-memory": Entry("copying", "CopyingMemory", "repeat ten symbols after a long gap"),
    "sentinel": Entry(
        "sentinel", "Sentinel", "say whether one token was anywhere in a long sequence"
    ),
    "delayed-xor": Entry("xor", "DelayedXOR", "do two marked bits, far apart, differ?"),
    "sinusoids": Entry(
        "sinusoids",
        "SinusoidForecast",
        "the next sample of three noisy sums of sinusoids, and a free run of fifty",
    ),
    "co2": Entry(
        "co2",
        "Co2Forecast",
        "weekly CO2 at Mauna Loa, 4, 13 and 52 weeks ahead, beside classical forecasts",
    ),
    "digits": Entry("digits", "SequentialDigits", "scikit-learn's 8 x 8 digits, pixel by pixel"),
    "mnist": Entry("mnist", "SequentialMNIST", "MNIST from your own file, 784 pixels one by one"),
}


def task_class(name):
    """The class of a task.

    Parameters
    ----------
    name : str
        A key of ``TASKS``.

    Returns
    -------
    type
        A subclass of `protocol.Task`.

    Raises
    ------
    ValueError
        If there is no such task.
    """
    entry = TASKS[_validate.one_of("task", name, tuple(TASKS))]
    return getattr(importlib.import_module(f"ssm_manual.tasks.{entry.module}"), entry.name)
