"""Schedules: pure functions of the number of updates made, whose value multiplies learning rates.

A schedule has no memory, so that a resumed run needs the number alone. Options are bound with
`functools.partial`; any callable ``schedule(step) -> factor`` will do.
"""

import math

from ssm_manual import _validate

__all__ = ["constant", "warmup_cosine"]

#: Updates that can be counted.
LARGEST = 2**63 - 1


def constant(step):
    """1 at every step.

    Parameters
    ----------
    step : int
        Updates made so far.

    Returns
    -------
    float
    """
    _validate.integer("step", step, minimum=0, maximum=LARGEST)
    return 1.0


def warmup_cosine(step, *, warmup, total, floor=0.0):
    """Up in a straight line, down in half a cosine [OPTIM-9].

    Parameters
    ----------
    step : int
        Updates made so far.
    warmup : int
        Updates until the factor is 1; the first has ``1 / warmup``. 0: it begins with 1.
    total : int
        Updates of the whole run, more than ``warmup``; from there on it is ``floor``.
    floor : float
        The last factor, in [0, 1].

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> from functools import partial
    >>> schedule = partial(warmup_cosine, warmup=2, total=6)
    >>> [round(schedule(step), 3) for step in range(8)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    step = _validate.integer("step", step, minimum=0, maximum=LARGEST)
    warmup = _validate.integer("warmup", warmup, minimum=0, maximum=LARGEST)
    total = _validate.integer("total", total, minimum=warmup + 1, maximum=LARGEST + 1)
    floor = _validate.real_number("floor", floor, minimum=0, maximum=1)
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / (total - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))  # [OPTIM-9]
