"""A sentinel among many tokens: was it there? And does training a layer help to tell?"""

import dataclasses
from typing import ClassVar

import numpy as np

from ssm_manual import _validate
from ssm_manual.tasks._drawn import SHOWN, drawn_parts
from ssm_manual.tasks.protocol import MODELS, Option, Settings, Task
from ssm_manual.training import Batch, accuracy

__all__ = ["Sentinel", "sentinel"]

#: Size of the vocabulary; the last token is the sentinel.
VOCABULARY = 100


def sentinel(rng, sequences, length, vocabulary=VOCABULARY):
    """Tokens drawn from all but the last one, which takes one place of every second sequence.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the tokens come from: uniform in 0 .. V - 2. With probability 1/2, one place, uniform
        in 0 .. length - 1, becomes V - 1.
    sequences : int
        How many, at least 1.
    length : int
        Tokens of each, at least 1.
    vocabulary : int
        V, at least 2.

    Returns
    -------
    tokens : ndarray of int
        (sequences, length).
    present : ndarray of int
        (sequences,): 1 where the token V - 1 is in the sequence, else 0.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> tokens, present = sentinel(np.random.default_rng(2), 3, 6, vocabulary=5)
    >>> tokens
    array([[3, 1, 0, 1, 1, 3],
           [1, 4, 1, 2, 3, 2],
           [3, 0, 3, 0, 2, 1]])
    >>> present
    array([0, 1, 0])
    """
    _validate.generator("rng", rng)
    sequences = _validate.length("sequences", sequences, minimum=1)
    length = _validate.length("length", length, minimum=1)
    _validate.room(sequences=sequences, length=length)
    last = _validate.size("vocabulary", vocabulary, minimum=2) - 1
    tokens = rng.integers(0, last, (sequences, length))
    present = rng.integers(0, 2, sequences)
    place = rng.integers(0, length, sequences)
    rows = np.flatnonzero(present)
    tokens[rows, place[rows]] = last
    return tokens, present


def _body(name):
    """Whether a parameter is of a block: neither of the embedding nor of the head."""
    return not name.startswith(("encoder.", "head."))


class Sentinel(Task):
    """`sentinel`: is one token anywhere in the sequence?

    ``s4d-frozen`` is the control: the same model, of which embedding and head alone are trained.
    """

    name = "sentinel"
    title = "Sentinel"
    summary = "say whether one token was anywhere in a long sequence"
    description = """\
Tokens are drawn from 99 kinds; in every second sequence a hundredth, the sentinel, takes one place.
Was it there? The answer is read from the mean over time, to which one place of 500 adds little.

Score: share of sequences. Parts: 1000 each for validation and test, and fresh ones for every batch
of training, which are never one of those. 39 batches of 128 an epoch (4992 sequences), at most 30
epochs; training ends with the first whose validation part is answered right in 99.8 %. Width 64.

There is no norm within: it would hold the sentinel at the size of any other token, and what one
place adds to the mean at 1/500 of that.

The control, s4d-frozen, is the same model with everything but embedding and head left as drawn.
It learns too, only more slowly: on validation data of the seed that settings were chosen with,
97.5 % after 13 epochs, where the full model has all right after 8. The mean over time carries a
token past any layer. So the score cannot tell whether a layer has been trained well; the updates
can.
"""
    options: ClassVar[dict] = {"length": Option(500, "tokens of a sequence", 10, 10_000, quick=30)}
    models = (*MODELS, "s4d-frozen")
    beside = ("lstm", "s4d-frozen")
    metric_label = "sequences answered right (share)"

    @property
    def length(self):
        """Tokens of a sequence."""
        return self.chosen["length"]

    def parts(self, seed):
        """The data."""
        held, batches, size = (200, 32, 32) if self.quick else (1000, 39, 128)
        return drawn_parts(self._drawn, seed, held=held, batches=batches, batch_size=size)

    def _drawn(self, rng, items):
        return Batch(*sentinel(rng, items, self.length))

    def shape(self):
        """A token in; two logits for the whole sequence out, of a mean over time."""
        return {
            "d_input": VOCABULARY,
            "d_output": 2,
            "task": "classification",
            "encoder": "embedding",
            "pooling": "mean",
        }

    def metrics(self):
        """Share of sequences."""
        return {"accuracy": accuracy}

    def goal(self):
        """Of the sequences."""
        return {"goal": 0.9 if self.quick else 0.99, "chance": 0.5}

    def candidates(self, model):
        """What was compared; the first is used."""
        limits = {"epochs": 3 if self.quick else 30, "warmup": 0.05, "enough": 0.998}
        # Validation of an S4D, without and with a norm: 99.9 % after 3 epochs and 92.6 % after 8 at
        # length 100. At length 500 without: all right after 8.
        width, options = None, {"dropout": 0.0, "norm": "none"}
        if model in ("s4d", "s4", "s4d-frozen"):
            width, options = 64, options | {"modes": 16}
        chosen = Settings(width, 1, options, lr=0.01, **limits)
        if model == "s4d-frozen":  # the control: nothing of its own
            options = options | {"block": "s4d"}
            return (dataclasses.replace(chosen, options=options, frozen=_body),)
        if model in ("s4d", "s4"):
            other = dataclasses.replace(chosen, options=options | {"norm": "layer"})
        else:
            other = dataclasses.replace(chosen, lr=0.003)
        return chosen, other

    def draw(self, runs, ax):
        """What models hold likely, for sequences with the sentinel at all places and without."""
        from ssm_manual.plots import model_colour

        rng = np.random.default_rng([runs[0].seed, SHOWN])
        tokens, present = sentinel(rng, 200, self.length)
        with_it = present == 1
        place = (tokens[with_it] == VOCABULARY - 1).argmax(axis=1)
        # those without stand to the right, in a strip of their own
        aside = self.length * (1.05 + 0.15 * rng.random(np.count_nonzero(~with_it)))
        for run, marker in zip(runs, "ovs^D"):
            logits, _, _ = run.model.forward(tokens, cache=False)
            difference = (logits[:, 1] - logits[:, 0]).astype(float)
            likely = 0.5 * (1 + np.tanh(difference / 2))
            (points,) = ax.plot(
                place,
                likely[with_it],
                marker,
                markersize=4,
                label=run.title,
                color=model_colour(run.name),
            )
            ax.plot(
                aside, likely[~with_it], marker, markersize=4, color=points.get_color(), mfc="none"
            )
        ax.axhline(0.5, color="0.6", linewidth=0.8)
        ax.axvline(1.025 * self.length, color="0.6", linewidth=0.8)
        ax.set_ylim(-0.05, 1.05)
        ticks = [0, self.length // 2, self.length]
        ax.set_xticks([*ticks, 1.125 * self.length], [*map(str, ticks), "none"])
        ax.set_xlabel("place of the sentinel (samples)")
        ax.set_ylabel("probability that it was there")
        ax.legend(loc="lower left", fontsize="small")
