"""Parameter groups: which learning rate and which decay each parameter has, by its name.

The published practice for state-space layers (state-spaces/s4, ``example.py``) is two groups: the
parameters of the dynamics learn at 1e-3 or slower and do not decay, everything else takes the
optimiser's own settings. Biases and the scales of norms are in the second group there, and decay;
so they do here. A third group takes them out: see `Group`.
"""

from collections.abc import Callable
from typing import NamedTuple

from ssm_manual import _validate

__all__ = ["SSM_PARAMETERS", "SSM_RATE", "Group", "assign", "is_ssm", "ssm_groups"]

#: Last parts of the names of the parameters of a state-space model's dynamics and readout. D is a
#: gain beside the model, and belongs to the rest.
SSM_PARAMETERS = frozenset({"log_dt", "log_A_real", "A_imag", "A", "P", "B", "C", "C_reverse"})

#: Their largest learning rate.
SSM_RATE = 1e-3


class Group(NamedTuple):
    """Parameters with settings of their own.

    Attributes
    ----------
    name : str
        For messages and tables.
    select : callable
        ``select(name) -> bool``: whether the parameter of that name belongs to the group.
    lr : float or None
        Learning rate; 0 freezes the group, None is the optimiser's.
    weight_decay : float or None
        None is the optimiser's.

    Examples
    --------
    >>> vectors = ("bias", "scale", "shift")
    >>> plain = Group("vectors", lambda name: name.endswith(vectors), weight_decay=0.0)
    >>> groups = [*ssm_groups(0.01), plain]
    >>> [group.name for group in groups]
    ['ssm', 'vectors']
    """

    name: str
    select: Callable[[str], bool]
    lr: float | None = None
    weight_decay: float | None = None


def is_ssm(name):
    """Whether a parameter, by the last part of its name, is one of `SSM_PARAMETERS`.

    Parameters
    ----------
    name : str
        Such as ``"blocks.0.ssm.C"``.

    Returns
    -------
    bool
    """
    return name.rpartition(".")[2] in SSM_PARAMETERS


def ssm_groups(lr):
    """The published groups: one for state-space parameters, at ``min(lr, 1e-3)``, without decay.

    Parameters
    ----------
    lr : float
        The optimiser's learning rate.

    Returns
    -------
    list of Group
        What belongs to none of them is the rest.
    """
    lr = _validate.real_number("lr", lr, minimum=0)
    return [Group("ssm", is_ssm, lr=min(lr, SSM_RATE), weight_decay=0.0)]


def assign(names, lr, weight_decay, groups):
    """Group, learning rate and decay of every parameter; the first group that takes it has it.

    Parameters
    ----------
    names : iterable of str
        Parameters.
    lr, weight_decay : float
        What the rest have, and a group that does not say.
    groups : "ssm", None or sequence of Group
        ``"ssm"``: `ssm_groups`. None: all are the rest.

    Returns
    -------
    dict
        ``{name: (group, lr, weight_decay)}``.

    Raises
    ------
    ValueError
        If a setting does not fit, or one of the given groups takes no parameter.
    """
    given = groups is not None and not isinstance(groups, str)
    if not given:
        _validate.one_of("groups", groups, ("ssm", None))
        groups = ssm_groups(lr) if groups == "ssm" else []
    groups = [_checked(group) for group in groups]
    found, names = {}, list(names)
    for name in names:
        group = next((g for g in groups if g.select(name)), Group("rest", None))
        found[name] = (
            group.name,
            lr if group.lr is None else group.lr,
            weight_decay if group.weight_decay is None else group.weight_decay,
        )
    empty = [g.name for g in groups if g.name not in {name for name, _, _ in found.values()}]
    if given and empty:
        raise ValueError(
            f"groups: {empty[0]!r} takes no parameter; the names are {', '.join(names)}"
        )
    return found


def _checked(group):
    if not isinstance(group, Group) or not callable(group.select):
        raise ValueError(f"groups holds {_validate.show(group)}; it must hold Group objects")
    for field in ("lr", "weight_decay"):
        value = getattr(group, field)
        if value is not None:
            _validate.real_number(f"{field} of group {group.name!r}", value, minimum=0)
    return group
