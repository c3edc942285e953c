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


TASKS = {}


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
