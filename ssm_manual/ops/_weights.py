"""Weights of the positions of a loss: a mask, or how much each position counts."""

import numpy as np

from ssm_manual import _validate

__all__ = ["weights_of"]


def weights_of(weights, shape, dtype):
    """``(weights, their sum)``; ``(None, number of positions)`` where all count alike.

    Raises
    ------
    ValueError
        If the shape or the precision differs, a weight is negative or not finite, or none is above
        zero.
    """
    if weights is None:
        return None, float(np.prod(shape))
    given = np.asarray(_validate.array("weights", weights, real=True))
    if not isinstance(weights, np.ndarray):
        given = given.astype(dtype)  # a list of numbers takes the precision beside it
    if given.dtype != dtype:
        raise ValueError(f"weights has dtype {given.dtype}; it must be {dtype}, as the logits are")
    _validate.shape("weights", given, shape, meaning="one for each position")
    if given.min() < 0:
        raise ValueError(f"weights holds {given.min()}; every weight must be at least 0")
    # In double precision: a sum of many ones in float32 stops growing at 2^24.
    total = float(np.sum(given, dtype=float))
    if total == 0:
        raise ValueError("weights are all zero; at least one must be greater")
    return given, total
