"""What is counted on validation data beside the loss: functions of prediction and target."""

import numpy as np

from ssm_manual import _validate

__all__ = ["accuracy"]


def accuracy(logits, labels, *, axis=-1):
    """Share of positions whose largest logit is that of the label.

    Parameters
    ----------
    logits : array_like
        Real, with the classes along ``axis``.
    labels : array_like of int
        Of that shape without the axis.
    axis : int
        The axis of the classes.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there is no position or no class.

    Examples
    --------
    >>> accuracy([[0.1, 0.9], [0.6, 0.4]], [1, 1])
    0.5
    """
    logits = _validate.array("logits", logits, real=True)
    axis = _validate.integer("axis", axis, minimum=-logits.ndim, maximum=logits.ndim - 1)
    if logits.size == 0:
        raise ValueError(f"logits has shape {logits.shape}; it must not be empty")
    found, labels = np.argmax(logits, axis=axis), _validate.integers("labels", labels)
    _validate.shape("labels", labels, found.shape, meaning="the logits' without the classes")
    return float(np.mean(found == labels))
