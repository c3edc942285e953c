"""Items of different lengths in one batch."""

import numpy as np

from ssm_manual import _validate


def groups(lengths, batch, longest):
    """``[(items, length), ...]``: which items of the batch have which length.

    Items of one length go through a layer together; each ends where it ends, so that its last state
    and every gradient are those of the item alone. ``items`` is a slice where all are alike.
    """
    given = checked(lengths, batch, longest)
    if given is None:
        return [(slice(None), longest)]
    distinct = np.unique(given).tolist()
    if len(distinct) == 1:
        return [(slice(None), distinct[0])]
    return [(np.flatnonzero(given == length), length) for length in distinct]


def checked(lengths, batch, longest):
    """``lengths`` as an array of (batch,) integers from 0 to ``longest``; None stays None."""
    if lengths is None:
        return None
    given = _validate.integers("lengths", lengths)
    if given.shape != (batch,):
        raise ValueError(
            f"lengths is {_validate.show(lengths)}; it must hold {batch} integers, one for each "
            "item of the batch"
        )
    if given.min() < 0 or given.max() > longest:
        wrong = given[(given < 0) | (given > longest)][0]
        raise ValueError(f"lengths holds {wrong}; it must be from 0 to {longest}, the length of u")
    return given.astype(np.int64)


def clear(a, lengths):
    """Set what lies beyond each item's length in ``a`` (batch, H, L) to zero, in place."""
    for item, length in zip(a, lengths):
        item[:, length:] = 0


def cleared(a, lengths):
    """``a`` with zeros beyond each item's length: itself where it has them, else a copy."""
    if any(np.any(item[:, length:]) for item, length in zip(a, lengths)):
        a = np.array(a)
        clear(a, lengths)
    return a
