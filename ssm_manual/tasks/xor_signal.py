"""What the labels of delayed XOR say to a model, beside the noise of a batch."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.tasks.xor import BATCH, delayed_xor

__all__ = ["label_signal"]


def label_signal(model, rng, length, batches):
    """How much of a batch's gradient comes from the labels, and how much from chance.

    The cotangent is that of a model that says 1/2 whatever it sees, so that the labels alone give
    a direction. The signal is the mean over all items, estimated from items in fours that differ
    in the marked bits alone: what does not depend on both of them cancels within a four. The noise
    is the deviation of a batch of independent items.

    Parameters
    ----------
    model : SequenceModel
        Of three inputs and two classes. Not changed.
    rng : numpy.random.Generator
        Draws the items.
    length : int
        Samples of each item, at least 3.
    batches : int
        At least 2.

    Returns
    -------
    float
        The squared norm of the mean gradient over the variance of a batch's (no unit), for batches
        of `BATCH` items. The estimate of the squared norm has no bias: where there is no signal, it
        lies about zero, on either side.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    batches = _validate.length("batches", batches, minimum=2)
    fours, singles = [], []
    for _ in range(batches):
        inputs, labels = delayed_xor(rng, BATCH, length, dtype=model.dtype.name)
        singles.append(_pull(model, inputs, labels))
        inputs = np.tile(inputs[: BATCH // 4], (4, 1, 1))
        bits = np.repeat([[-1, -1], [-1, 1], [1, -1], [1, 1]], BATCH // 4, axis=0)
        item = np.arange(len(inputs))
        for k in (0, 1):
            inputs[item, np.argmax(inputs[..., k + 1], axis=1), 0] = bits[:, k]
        fours.append(_pull(model, inputs, (bits[:, 0] != bits[:, 1]).astype(int)))
    mean = np.mean(fours, axis=0)
    signal = mean @ mean - np.sum(np.var(fours, axis=0, ddof=1)) / batches
    return float(signal / np.sum(np.var(singles, axis=0, ddof=1)))


def _pull(model, inputs, labels):
    """Gradient to all parameters of a model whose every answer is 1/2, as one vector."""
    _, _, cache = model.forward(inputs)
    cotangent = (0.5 - np.eye(2)[labels]) / len(labels)
    grads = model.backward(cotangent.astype(model.dtype), cache)[2]
    return np.concatenate([g.ravel().view(model.dtype).astype(float) for g in grads.values()])
