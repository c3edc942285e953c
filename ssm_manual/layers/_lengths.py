"""Items of different lengths in one batch."""

import numpy as np

from ssm_manual import _validate


def groups(lengths, batch, longest):
    """``[(items, length), ...]``: which items of the batch have which length.

    Items of one length go through a layer together; each ends where it ends, so that its last state
    and every gradient are those of the item alone. ``items`` is a slice where all are alike.
    """
    if lengths is None:
        return [(slice(None), longest)]
    try:
        given = np.asarray(lengths)
    except ValueError:
        given = np.empty(0, object)
    if given.shape != (batch,) or given.dtype.kind not in "iu":
        raise ValueError(
            f"lengths is {_validate.show(lengths)}; it must hold {batch} integers, one for each "
            "item of the batch"
        )
    if given.min() < 0 or given.max() > longest:
        wrong = given[(given < 0) | (given > longest)][0]
        raise ValueError(f"lengths holds {wrong}; it must be from 0 to {longest}, the length of u")
    distinct = np.unique(given).tolist()
    if len(distinct) == 1:
        return [(slice(None), distinct[0])]
    return [(np.flatnonzero(given == length), length) for length in distinct]
