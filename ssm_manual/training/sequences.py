"""Plain gradient descent of a layer on sequences: ``theta <- theta - rate clip(grad)``.

One update a batch, in the order given or shuffled. For layers of `ssm_manual.layers`, whose
``backward`` gives a dict of gradients by the names of ``params``.
"""

import numpy as np

from ssm_manual import _validate
from ssm_manual.ops import binary_cross_entropy, loss, softmax_cross_entropy
from ssm_manual.training.clip import clip_elementwise
from ssm_manual.training.descent import DivergenceError

__all__ = ["LOSSES", "evaluate", "train"]

#: Losses by name: forward, vjp, options. The classes of a layer's output are its second axis.
LOSSES = {
    "binary_cross_entropy": (
        binary_cross_entropy.binary_cross_entropy_fwd,
        binary_cross_entropy.binary_cross_entropy_vjp,
        {},
    ),
    "softmax_cross_entropy": (
        softmax_cross_entropy.softmax_cross_entropy_fwd,
        softmax_cross_entropy.softmax_cross_entropy_vjp,
        {"axis": 1},
    ),
    "half_mse": (loss.half_mse_fwd, loss.half_mse_vjp, {}),
    "mse": (loss.mse_fwd, loss.mse_vjp, {}),
}

#: Losses that take weights of their positions.
_WEIGHTED = ("binary_cross_entropy", "softmax_cross_entropy")


def evaluate(layer, inputs, targets, loss, *, weights=None, backward=True):
    """A loss of a layer's output and its gradients to the parameters.

    Parameters
    ----------
    layer : DenseSSM or S4D
        Left as it is.
    inputs : array_like
        (batch, inputs, L), in the layer's precision.
    targets : array_like
        Of the output's shape and precision; for ``softmax_cross_entropy`` labels (batch, L).
    loss : {"binary_cross_entropy", "softmax_cross_entropy", "half_mse", "mse"}
        A mean over the batch, the time and, but for the softmax, the outputs.
    weights : array_like, optional
        Of the positions, for the cross-entropies alone; see there.
    backward : bool
        False: no gradients.

    Returns
    -------
    value : float
        The loss.
    grads : dict of ndarray or None
        By parameter.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    _validate.one_of("loss", loss, LOSSES)
    fwd, vjp, options = LOSSES[loss]
    if weights is not None:
        if loss not in _WEIGHTED:
            raise ValueError(f"weights is given; {loss} takes none")
        options = options | {"weights": weights}
    y, _, cache = layer.forward(inputs)
    value, residuals = fwd(y, targets, **options)
    if not backward:
        return float(value), None
    grad_y = vjp(residuals, 1.0)[0]
    return float(value), layer.backward(grad_y, cache)[2]


def train(
    layer,
    inputs,
    targets,
    loss,
    *,
    rate,
    epochs,
    batch=1,
    limit=None,
    radius=None,
    weights=None,
    rng=None,
):
    """``theta <- theta - rate clip(grad)``, once a batch, in place [MIMO-5].

    Parameters
    ----------
    layer : DenseSSM or S4D
        Trained in place.
    inputs, targets
        As in `evaluate`, (sequences, ...) in front.
    loss : str
        One of `LOSSES`.
    rate : float or dict of float
        Learning rate, greater than 0; by parameter, where those left out are not trained.
    epochs : int
        Passes through the sequences, at least 0.
    batch : int
        Sequences an update, at least 1; the last batch of an epoch may be smaller.
    limit : float, optional
        Of each number of a gradient, see `ssm_manual.training.clip`; None clips nothing.
    radius : float, optional
        After each update a `DenseSSM` is brought back to this spectral radius, see there. None: it
        may become unstable.
    weights : array_like, optional
        As in `evaluate`, (sequences, ...).
    rng : numpy.random.Generator, optional
        Shuffles the sequences in every epoch; None keeps their order.

    Returns
    -------
    ndarray
        (epochs,): the mean of the losses of an epoch's sequences, each before its update.

    Raises
    ------
    ValueError
        If an argument does not fit.
    DivergenceError
        If a loss or a parameter is no longer finite; the layer holds its parameters before that
        update.
    """
    epochs = _validate.integer("epochs", epochs, minimum=0)
    batch = _validate.integer("batch", batch, minimum=1)
    rates = _rates(layer, rate)
    if limit is not None:
        limit = _validate.real_number("limit", limit, above=0)
    if radius is not None:
        radius = _validate.real_number("radius", radius, above=0, maximum=1)
        if not hasattr(layer, "clamp"):
            kind = type(layer).__name__
            raise ValueError(f"radius is {radius}; a {kind} is not clamped: give None")
    if rng is not None:
        _validate.generator("rng", rng)
    sequences = len(inputs)
    for name, given in (("targets", targets), ("weights", weights)):
        if given is not None and len(given) != sequences:
            raise ValueError(f"{name} has {len(given)} sequences; it must have {sequences}")
    losses = np.zeros(epochs)
    for epoch in range(epochs):
        order = np.arange(sequences) if rng is None else rng.permutation(sequences)
        for start in range(0, sequences, batch):
            some = order[start : start + batch]
            part = (_items(given, some) for given in (inputs, targets, weights))
            value = _update(layer, *part, loss, rates, limit, epoch)
            if radius is not None:
                layer.clamp(radius)
            losses[epoch] += value * some.size / sequences
    return losses


def _items(given, some):
    """Some sequences; of lists as lists, whose numbers take the precision beside them."""
    if given is None or isinstance(given, np.ndarray):
        return None if given is None else given[some]
    return [given[i] for i in some]


def _rates(layer, rate):
    if not isinstance(rate, dict):
        rate = dict.fromkeys(layer.params, rate)
    for name, value in rate.items():
        _validate.one_of("rate", name, tuple(layer.params))
        _validate.real_number(f"rate[{name!r}]", value, above=0)
    return rate


def _update(layer, inputs, targets, weights, loss, rates, limit, epoch):
    """One update; the loss before it."""
    try:
        value, grads = evaluate(layer, inputs, targets, loss, weights=weights)
    except _validate.NonFiniteError:  # of arguments that were finite at the start: an overflow
        _validate.array("inputs", inputs)
        raise _diverged(layer, epoch, np.nan) from None
    grads = {name: grads[name] for name in rates}
    if limit is not None:
        clip_elementwise(grads, limit)
    steps = {name: layer.params[name].dtype.type(rates[name]) * g for name, g in grads.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        after = {name: layer.params[name] - step for name, step in steps.items()}
    if not np.isfinite(value) or not all(np.isfinite(a).all() for a in after.values()):
        raise _diverged(layer, epoch, value)
    for name, a in after.items():
        layer.params[name][...] = a
    return value


def _diverged(layer, epoch, value):
    size = {name: np.abs(a).max(initial=0) for name, a in layer.params.items()}
    return DivergenceError(epoch, value, max(size, key=size.get), np.array([value]))
