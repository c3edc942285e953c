"""How far back a model's gradient reaches: the last output's, to the input at every time before.

What has no gradient cannot be learned from. The page docs/long_memory.md says why the curves look
as they do; `at_start` and `after_training` are its two experiments.
"""

import functools
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import LSTM, RNN, S4D
from ssm_manual.models import SequenceModel, look_inside
from ssm_manual.tasks import memory
from ssm_manual.tasks.protocol import Fresh
from ssm_manual.training import AdamW, Batch, Batches, Trainer, accuracy, warmup_cosine

__all__ = [
    "COPYING",
    "Trained",
    "after_training",
    "at_start",
    "gradient_reach",
    "set_forget_bias",
    "spread_memories",
    "train_copying",
]

#: The models of `after_training`: their options, and the learning rate. LSTM and RNN are as wide as
#: makes them nearest to S4D in parameters, 26,762. Rates were chosen at delay 100 by the symbols
#: recalled on validation, seed 1000: the LSTM with spread memories 54 % at 0.01, 43 % at 0.03 and
#: 29 % at 0.003; as drawn it stays at chance, 12 to 14 %, at 0.01 and 0.003, and so does the RNN at
#: 0.003 and 0.001. S4D recalls all after 100 updates at the first rate tried.
COPYING = {
    "s4d": {"d_model": 64, "n_layers": 2, "modes": 16, "lr": 0.01},
    "lstm": {"d_model": 56, "n_layers": 1, "lr": 0.01},
    "rnn": {"d_model": 110, "n_layers": 1, "lr": 0.003},
}

#: Symbols to be copied.
SYMBOLS = 10


def gradient_reach(model, u, *, rng):
    """RMS of dL/du_{L-1-k} over items and features, for L = sum of the last output with signs.

        r_k^2 = 1 / (batch I) sum_b sum_i (sum_o g_bo dy_{b,o,L-1} / du_{b,i,L-1-k})^2

    The signs g are +1 or -1 with equal probability, so that the mean of r_k^2 over them is the mean
    over items of the Jacobian's squared Frobenius norm, divided by the features I of the input.

    Parameters
    ----------
    model : layer or SequenceModel
        A layer that takes and gives (batch, features, length). Of a model, what its encoder gives
        counts as the input, so that ids have a gradient too; of a model with one output for each
        item, that is the last output.
    u : array_like
        What the model takes, at least one item of at least one sample.
    rng : numpy.random.Generator
        Draws the signs.

    Returns
    -------
    ndarray
        (length,), float64, by distance k from the end, in output per input.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    Channels that do not see each other, as in `layers.S4D`, need no mean over signs: there r_k is
    the RMS of the kernel ``K_k``, with D at k = 0, whatever the input is.

    Examples
    --------
    >>> layer = RNN.from_arrays(weight_ih=[[1.0]], weight_hh=[[0.5]], nonlinearity="relu")
    >>> gradient_reach(layer, np.ones((1, 1, 4)), rng=np.random.default_rng(0)).tolist()
    [1.0, 0.5, 0.25, 0.125]
    """
    _validate.generator("rng", rng)
    if not all(hasattr(model, name) for name in ("forward", "backward")):
        raise ValueError(f"model is {_validate.show(model)}; it must be a layer or SequenceModel")
    given = np.asarray(u)
    if given.ndim < 2 or given.size == 0:
        raise ValueError(f"u is {_validate.show(u)}; it must hold at least one item and one sample")

    def signs(y, last):
        g = np.zeros_like(y)
        g[last] = rng.choice((-1, 1), g[last].shape)
        return g

    if isinstance(model, SequenceModel):
        # (batch, length, outputs), or (batch, outputs) of pooled times
        last = np.s_[:, -1] if model.options["task"] != "classification" else np.s_[:]
        grad = look_inside(model, u, lambda y: signs(y, last)).gradients["encoder"]
    else:
        y, _, cache = model.forward(u)
        grad, _, _ = model.backward(signs(y, np.s_[..., -1]), cache)
    # relative to the largest of each time: squares of small numbers would be lost
    size = np.abs(grad[..., ::-1].astype(np.float64))
    peak = size.max(axis=(0, 1))
    return peak * np.sqrt(np.mean((size / np.where(peak > 0, peak, 1)) ** 2, axis=(0, 1)))


def set_forget_bias(layer, bias):
    """Let every forget gate of an LSTM start at ``sigma(bias)``, as far as the bias goes.

    Parameters
    ----------
    layer : LSTM
        Changed in place; it must have a bias.
    bias : float
        1 is what F. A. Gers, J. Schmidhuber, F. Cummins (2000) began the custom of.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    _forget(layer)[:] = _validate.real_number("bias", bias)


def spread_memories(layer, longest, *, rng):
    """Let the cells of an LSTM start with memories from 2 to ``longest`` samples.

    The forget gate's bias is log m, m uniform between 1 and ``longest - 1``, that of the input gate
    -log m: a cell forgets 1 / (1 + m) of itself a sample, and lets as much in.

    Parameters
    ----------
    layer : LSTM
        Changed in place; it must have a bias.
    longest : int
        In samples, at least 3.
    rng : numpy.random.Generator
        Draws m.

    Raises
    ------
    ValueError
        If an argument does not fit.

    References
    ----------
    C. Tallec, Y. Ollivier (2018), "Can recurrent neural networks warp time?", section 2.
    """
    longest = _validate.length("longest", longest, minimum=3)
    _validate.generator("rng", rng)
    forget = _forget(layer)
    forget[:] = np.log(rng.uniform(1, longest - 1, layer.features))
    layer.params["bias"][: layer.features] = -forget


def at_start(length=1000, *, features=64, items=4, seed=0):
    """Reach of layers as they are drawn, in double precision, over white noise.

    Parameters
    ----------
    length : int
        Samples, at least 3.
    features : int
        Of inputs and outputs, at least 1.
    items : int
        Sequences, at least 1.
    seed : int
        Of parameters, inputs and signs.

    Returns
    -------
    dict of ndarray
        `gradient_reach` by a label for plots: S4D with three ranges of dt, an LSTM with three
        biases, and an RNN.
    """
    length = _validate.length("length", length, minimum=3)
    features = _validate.size("features", features)
    items = _validate.length("items", items, minimum=1)
    _validate.room(items=items, features=features, length=length)
    seed = _validate.integer("seed", seed, minimum=0)
    u = np.random.default_rng([seed, 2]).standard_normal((items, features, length))
    fresh = functools.partial(np.random.default_rng, [seed, 1])  # all begin with the same numbers
    layers = {}
    for low, high in [(1e-4, 1e-2), (1e-3, 1e-1), (1e-1, 1.0)]:
        layers[f"S4D, dt {low:g} to {high:g}"] = S4D(
            features, 32, dt_min=low, dt_max=high, dtype="float64", rng=fresh()
        )
    for label in ("as drawn", "forget bias 1", f"memories up to {length}"):
        layer = layers[f"LSTM, {label}"] = LSTM(features, features, dtype="float64", rng=fresh())
        if label == "forget bias 1":
            set_forget_bias(layer, 1.0)
        elif label != "as drawn":
            spread_memories(layer, length, rng=fresh())
    layers["RNN"] = RNN(features, features, dtype="float64", rng=fresh())
    return {
        label: gradient_reach(layer, u, rng=np.random.default_rng([seed, 3]))
        for label, layer in layers.items()
    }


class Trained(NamedTuple):
    """A model before and after training on copying memory.

    Attributes
    ----------
    model : SequenceModel
    parameters : int
        Real numbers.
    history : dict of list
        Of its `Trainer`; ``validation_recalled`` is the share of symbols.
    before, after : ndarray
        `gradient_reach` over the test items, (2 SYMBOLS + delay,).
    recalled : float
        Share of the test items' symbols that it gives back.
    """

    model: SequenceModel
    parameters: int
    history: dict
    before: np.ndarray
    after: np.ndarray
    recalled: float


def train_copying(
    block, *, delay=100, updates=1000, seed=0, memories=False, progress=None, **given
):
    """Train on `memory.copying_memory` with fresh items, and look at the gradient's reach.

    Parameters
    ----------
    block : {"s4d", "lstm", "rnn"}
        Its settings are in `COPYING`.
    delay : int
        Samples from the last symbol to the marker, at least 1.
    updates : int
        Of 32 items each, a multiple of 50.
    seed : int
        Of everything.
    memories : bool
        Whether an LSTM starts with `spread_memories` up to the length of the sequence.
    progress : bool, optional
        As of `Trainer.fit`.
    **given
        In place of settings in `COPYING`.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    chosen = COPYING[_validate.one_of("block", block, tuple(COPYING))]
    for name in given:
        _validate.one_of("a setting", name, tuple(chosen))
    chosen = chosen | given
    delay = _validate.integer("delay", delay, minimum=1)
    updates = _validate.integer("updates", updates, minimum=50)
    if updates % 50:
        raise ValueError(f"updates is {updates}; it must be a multiple of 50, which an epoch has")
    seed = _validate.integer("seed", seed, minimum=0)
    if _validate.flag("memories", memories) and block != "lstm":
        raise ValueError(f"memories is True; a block {block!r} has no forget gate")
    rate = chosen.pop("lr")
    rng = np.random.default_rng([seed, 1])
    model = SequenceModel(
        10, d_output=10, task="generation", block=block, encoder="embedding", dropout=0.0,
        rng=rng, **chosen,
    )  # fmt: skip
    length = 2 * SYMBOLS + delay
    if memories:
        spread_memories(model.layers["blocks.0.lstm"], length, rng=rng)

    def draw(rng, items):
        u, target = memory.copying_memory(rng, items, SYMBOLS, delay)
        weights = np.zeros(target.shape, np.float32)
        weights[:, -SYMBOLS:] = 1  # the blanks before are no question
        return Batch(u, target, weights=weights)

    def recalled(logits, target):
        return accuracy(logits[:, -SYMBOLS:], target[:, -SYMBOLS:])

    validation, test = (
        Batches(u, target, weights=weights, batch_size=64, shuffle=False)
        for u, target, _, weights in (draw(np.random.default_rng([seed, k]), 128) for k in (3, 4))
    )
    shown = test.arrays.u[:32]
    before = gradient_reach(model, shown, rng=np.random.default_rng([seed, 5]))
    trainer = Trainer(
        model,
        "softmax_cross_entropy",
        AdamW(model.params, lr=rate),
        schedule=functools.partial(warmup_cosine, warmup=updates // 10, total=updates),
        max_norm=1.0,
        seed=seed,
        metrics={"recalled": recalled},
    )
    train = Fresh(draw, batches=50, batch_size=32)
    trainer.fit(train, epochs=updates // 50, validation=validation, progress=progress)
    after = gradient_reach(model, shown, rng=np.random.default_rng([seed, 5]))
    score = trainer.evaluate(test)["recalled"]
    return Trained(model, model.count_parameters(), trainer.history, before, after, score)


def after_training(*, delay=100, updates=1000, seed=0, progress=None):
    """`train_copying` for every block, the LSTM once more with spread memories.

    Parameters
    ----------
    delay, updates, seed, progress
        As of `train_copying`.

    Returns
    -------
    dict of Trained
        By a label for plots.
    """
    runs = {
        "S4D": ("s4d", False),
        "LSTM, as drawn": ("lstm", False),
        f"LSTM, memories up to {2 * SYMBOLS + delay}": ("lstm", True),
        "RNN": ("rnn", False),
    }
    return {
        label: train_copying(
            block, delay=delay, updates=updates, seed=seed, memories=spread, progress=progress
        )
        for label, (block, spread) in runs.items()
    }


# --------------------------------------------------------------------------------------- internals


def _forget(layer):
    """The forget gate's bias, a view: rows are those of i, f, g, o."""
    if not isinstance(layer, LSTM) or "bias" not in layer.params:
        raise ValueError(f"layer is {_validate.show(layer)}; it must be an LSTM with a bias")
    return layer.params["bias"][layer.features : 2 * layer.features]
