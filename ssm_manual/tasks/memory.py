"""Tasks that ask for memory: the previous bit, copying after a gap, a delayed signal.

Each draws as many sequences as it is asked for and says what the answer is.
"""

import numpy as np

from ssm_manual import _validate

__all__ = [
    "BLANK",
    "MARKER",
    "TOKENS",
    "copying_memory",
    "delayed",
    "one_hot",
    "previous_bit",
    "previous_bit_floor",
]

#: Tokens of `copying_memory`: nothing, eight symbols 1 to 8, and the one that asks for the answer.
BLANK, MARKER, TOKENS = 0, 9, 10


def previous_bit(rng, sequences, length, *, dtype="float64"):
    """Fair coin tosses u, and the toss before: ``target_t = u_{t-1}``, ``target_0 = u_0``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the bits come from.
    sequences : int
        How many, at least 1.
    length : int
        Samples of each, at least 1.
    dtype : {"float64", "float32"}
        Of both arrays.

    Returns
    -------
    inputs, targets : ndarray
        (sequences, 1, length), each number 0 or 1.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    The first sample follows another rule than all the others. No linear model that starts at rest
    can follow both, with a bias or without, see `previous_bit_floor`.

    Examples
    --------
    >>> import numpy as np
    >>> inputs, targets = previous_bit(np.random.default_rng(1), 1, 8)
    >>> inputs[0, 0].astype(int).tolist(), targets[0, 0].astype(int).tolist()
    ([0, 1, 1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0, 0, 1])
    """
    _validate.generator("rng", rng)
    sequences = _validate.length("sequences", sequences, minimum=1)
    length = _validate.length("length", length, minimum=1)
    _validate.room(sequences=sequences, length=length)
    dtype, _ = _validate.precision(dtype)
    inputs = rng.integers(0, 2, (sequences, 1, length)).astype(dtype)
    return inputs, np.concatenate([inputs[..., :1], inputs[..., :-1]], axis=-1)


def previous_bit_floor(inputs, *, bias=False):
    """The least binary cross-entropy on `previous_bit` of any linear model that starts at rest.

    Without a bias the logit is zero until the first 1, whatever the parameters [FLOOR-2]; with one
    it can be anything there, but the first 1 is answered alike wherever it stands [FLOOR-3].

    Parameters
    ----------
    inputs : array_like
        (sequences, 1, length), each number 0 or 1.
    bias : bool
        Whether the model has a bias at its output. A feedthrough D makes no difference.

    Returns
    -------
    float
        Mean over all samples, in nats. The loss comes as near as you like with three states, and
        is never below.

    Raises
    ------
    ValueError
        If the inputs are no bits, or empty.

    Examples
    --------
    >>> import numpy as np
    >>> u, _ = previous_bit(np.random.default_rng(0), 10_000, 10)
    >>> round(previous_bit_floor(u), 2)  # 2 log 2 / 10 = 0.1386
    0.14
    """
    u = _validate.array("inputs", inputs, real=True)
    _validate.shape("inputs", u, (-1, 1, -1), meaning="(sequences, 1, length)")
    _validate.flag("bias", bias)
    if not np.isin(u, (0, 1)).all():
        raise ValueError("inputs holds other numbers than 0 and 1")
    u = u[:, 0] == 1
    blank = np.where(u.any(axis=1), u.argmax(axis=1), u.shape[1])  # samples before the first 1
    at_once = np.count_nonzero(blank == 0)  # n_1
    later = np.count_nonzero(blank < u.shape[1]) - at_once  # n_0
    total = 0.0 if bias else blank.sum() * np.log(2)
    for n in (at_once, later):
        total += n * np.log((at_once + later) / n) if n else 0
    return float(total / u.size)


def copying_memory(rng, sequences, symbols, gap):
    """Symbols to be repeated after a gap: ``s_1 .. s_n``, blanks, a marker; then ``s_1 .. s_n``.

    ======  ===========  ================  ======  ===========
    tokens  n symbols    gap - 1 blanks    marker  n blanks
    target  n blanks     gap blanks                n symbols
    ======  ===========  ================  ======  ===========

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the symbols come from, uniform in 1 .. 8.
    sequences : int
        How many, at least 1.
    symbols : int
        n, at least 1.
    gap : int
        At least 1: the marker comes ``gap`` samples after the last symbol.

    Returns
    -------
    inputs, targets : ndarray
        (sequences, 2 n + gap), integers from 0 to 9.

    Raises
    ------
    ValueError
        If an argument does not fit.

    References
    ----------
    S. Hochreiter, J. Schmidhuber (1997), "Long short-term memory"; M. Arjovsky, A. Shah, Y. Bengio
    (2016), "Unitary evolution recurrent neural networks", section 4.1, whose marker stands as here.

    Examples
    --------
    >>> import numpy as np
    >>> inputs, targets = copying_memory(np.random.default_rng(0), 1, 3, 4)
    >>> inputs[0].tolist()
    [7, 6, 5, 0, 0, 0, 9, 0, 0, 0]
    >>> targets[0].tolist()
    [0, 0, 0, 0, 0, 0, 0, 7, 6, 5]
    """
    _validate.generator("rng", rng)
    sequences = _validate.length("sequences", sequences, minimum=1)
    n = _validate.size("symbols", symbols)
    gap = _validate.length("gap", gap, minimum=1)
    _validate.room(sequences=sequences, length=2 * n + gap)
    inputs = np.full((sequences, 2 * n + gap), BLANK)
    targets = inputs.copy()
    inputs[:, :n] = targets[:, n + gap :] = rng.integers(1, MARKER, (sequences, n))
    inputs[:, n + gap - 1] = MARKER
    return inputs, targets


def one_hot(tokens, classes=TOKENS, *, dtype="float64"):
    """``1`` where a token is the class and 0 elsewhere, the classes beside each other.

    Parameters
    ----------
    tokens : array_like of int
        (sequences, length), each from 0 to ``classes - 1``.
    classes : int
        At least 1.
    dtype : {"float64", "float32"}
        Of the result.

    Returns
    -------
    ndarray
        (sequences, classes, length): what a layer takes.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> one_hot([[2, 0]], 3)[0]
    array([[0., 1.],
           [0., 0.],
           [1., 0.]])
    """
    classes = _validate.size("classes", classes)
    dtype, _ = _validate.precision(dtype)
    given = _validate.integers("tokens", tokens)
    if given.ndim != 2:
        raise ValueError(
            f"tokens is {_validate.show(tokens)}; it must hold integers (sequences, length)"
        )
    if given.size and not 0 <= given.min() <= given.max() < classes:
        wrong = given.min() if given.min() < 0 else given.max()
        raise ValueError(f"tokens holds {wrong}; every token must be from 0 to {classes - 1}")
    return (given[:, np.newaxis] == np.arange(classes)[:, np.newaxis]).astype(dtype)


def delayed(rng, sequences, length, delay, *, cycles=4, dtype="float64"):
    """A smooth random signal and itself ``delay`` samples ago: ``target_t = u_{t - delay}``.

    The signal is a sum of ``cycles`` sines, one for each whole number of cycles a sequence from 1
    on, with independent normal weights and uniform phases; its variance is 1. Before its beginning
    it goes on as it is (it is periodic), but a model sees nothing of that: the first ``delay``
    targets are not its to know.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the signals come from.
    sequences : int
        How many, at least 1.
    length : int
        Samples of each, at least 1.
    delay : int
        In samples, from 0 to the length.
    cycles : int
        Highest number of cycles a sequence, at least 1.
    dtype : {"float64", "float32"}
        Of both arrays.

    Returns
    -------
    inputs, targets : ndarray
        (sequences, 1, length), without unit.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> inputs, targets = delayed(np.random.default_rng(0), 2, 100, 30)
    >>> bool(np.allclose(targets[..., 30:], inputs[..., :70]))
    True
    """
    _validate.generator("rng", rng)
    sequences = _validate.length("sequences", sequences, minimum=1)
    length = _validate.length("length", length, minimum=1)
    _validate.room(sequences=sequences, length=length)
    delay = _validate.integer("delay", delay, minimum=0, maximum=length)
    cycles = _validate.size("cycles", cycles)
    dtype, _ = _validate.precision(dtype)
    weight = rng.standard_normal((sequences, cycles)) * np.sqrt(2 / cycles)
    phase = rng.uniform(0, 2 * np.pi, (sequences, cycles, 1))
    turns = np.arange(1, cycles + 1)[:, np.newaxis] * np.arange(length) / length

    def at(shift):
        angle = 2 * np.pi * (turns - np.arange(1, cycles + 1)[:, np.newaxis] * shift / length)
        return np.einsum("sk,skt->st", weight, np.sin(angle + phase))[:, np.newaxis].astype(dtype)

    return at(0), at(delay)
