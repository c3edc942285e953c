"""The previous bit as a task: the coin toss before this one, at every time."""

from typing import ClassVar

import numpy as np

from ssm_manual import _validate
from ssm_manual.tasks import memory
from ssm_manual.tasks._drawn import SHOWN, drawn_parts
from ssm_manual.tasks.protocol import Option, Settings, Task
from ssm_manual.training import Batch

__all__ = ["PreviousBit", "bits_right"]


def bits_right(logits, bits):
    """Share of bits whose logit has the right sign.

    Parameters
    ----------
    logits : ndarray
        Of any shape; above 0 means 1.
    bits : ndarray
        Of the same shape, each 0 or 1.

    Returns
    -------
    float
        From 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> bits_right(np.array([0.3, -2.0, 0.1, 5.0]), np.array([1, 0, 0, 1]))
    0.75
    """
    logits = _validate.array("logits", logits, real=True)
    try:
        found = np.asarray(bits)
        if found.dtype.kind not in "biuf" or isinstance(bits, np.ma.MaskedArray):
            raise ValueError
    except ValueError:  # also of a ragged list, or one too deep
        what = f"bits is {_validate.show(bits)}"
        raise ValueError(f"{what}; it must be an array of real numbers, not masked") from None
    _validate.shape("bits", found, logits.shape, meaning="that of logits")
    return float(np.mean((logits > 0) == (found == 1)))


class PreviousBit(Task):
    """`memory.previous_bit`: the coin toss before this one; the first is its own answer."""

    name = "previous-bit"
    title = "Previous bit"
    summary = "say at every time which bit came before"
    description = """\
Coin tosses, one at a time; the answer at each is the toss before. Before the first there is none,
and its answer is itself. The second rule is the harder one: no linear model that starts at rest can
follow both, and one that follows the first alone is right in 1 - 1/(2 length) of all bits, 95 % at
length 10. A deep model can tell where the beginning is: its first map adds constants, and an SSM
sees them set in.

Score: share of all bits of all sequences. Parts: 1000 sequences each for validation and test, or a
quarter each of all that there are (256 at length 10), and fresh ones for every batch of training,
which are never one of those. 32 batches of 32 an epoch, at most 20 epochs; training ends with the
first whose validation bits are all right.
"""
    options: ClassVar[dict] = {"length": Option(10, "bits of a sequence", 8, 100_000)}
    loss = "binary_cross_entropy"
    metric_label = "bits answered right (share)"

    @property
    def length(self):
        """Bits of a sequence."""
        return self.chosen["length"]

    def parts(self, seed):
        """The data."""
        most = 200 if self.quick else 1000
        # two quarters of all sequences there are: as many are left for training
        held = min(most, 2 ** min(self.length, 12) // 4)
        return drawn_parts(self._drawn, seed, held=held, batches=32, batch_size=32)

    def _drawn(self, rng, items):
        u, target = memory.previous_bit(rng, items, self.length, dtype="float32")
        return Batch(u.reshape(items, -1, 1), target.reshape(items, -1, 1))

    def shape(self):
        """One bit in, one logit out, at every time."""
        return {"d_input": 1, "d_output": 1, "task": "generation"}

    def metrics(self):
        """`bits_right`."""
        return {"accuracy": bits_right}

    def goal(self):
        """All bits; and what the rule of all bits but the first brings."""
        return {"goal": 1.0, "wrong at the first alone": 1 - 0.5 / self.length, "chance": 0.5}

    def candidates(self, model):
        """What was compared; the first is used."""
        limits = {"epochs": 3 if self.quick else 20, "enough": 1.0}
        if model not in ("s4d", "s4"):
            options = {"dropout": 0.0}
            return tuple(Settings(None, 1, options, lr=lr, **limits) for lr in (0.01, 0.003))
        found = []
        # Fast poles forget within a few samples, which is what is asked for. Validation at length
        # 1000: all bits right after 96 updates, with the published range after 320; all are right
        # at both lengths with any of these settings.
        for dt_min, dt_max in ((0.1, 1.0), (0.001, 0.1)):
            layer = {"dt_min": dt_min, "dt_max": dt_max}
            options = {"dropout": 0.0, "modes": 4, "layer_options": layer}
            found.append(Settings(16, 2, options, lr=0.01, ssm_lr=0.01, **limits))
        return tuple(found)

    def draw(self, runs, ax):
        """The first 30 bits of one sequence: what is asked for, and what models hold likely."""
        from ssm_manual.plots import model_colour

        u, target, _, _ = self._drawn(np.random.default_rng([runs[0].seed, SHOWN]), 1)
        shown = min(30, self.length)
        t = np.arange(shown)
        ax.bar(t, target[0, :shown, 0], width=0.9, color="0.85", label="asked for")
        for i, run in enumerate(runs):
            logits, _, _ = run.model.forward(u, cache=False)
            likely = 0.5 * (1 + np.tanh(logits[0, :shown, 0] / 2))  # exp would overflow
            ax.plot(
                t,
                likely,
                "ovs^"[i % 4],
                markersize=9 - 3 * min(i, 2),
                label=run.title,
                color=model_colour(run.name),
            )
        ax.set_ylim(-0.08, 1.3)
        ax.set_yticks([0, 0.5, 1])
        ax.set_xlabel("time (samples)")
        ax.set_ylabel("probability of a 1")
        ax.legend(loc="upper center", ncols=1 + len(runs), fontsize="small")
