"""Copying memory as a task: ten symbols, and the same again after a gap."""

from typing import ClassVar

import numpy as np

from ssm_manual.tasks import memory
from ssm_manual.tasks._drawn import SHOWN, drawn_parts
from ssm_manual.tasks.protocol import Option, Settings, Task
from ssm_manual.training import Batch, accuracy

__all__ = ["CopyingMemory", "recalled"]


def recalled(logits, target):
    """Share of symbols that are answered right; blanks do not count.

    Parameters
    ----------
    logits : ndarray
        (sequences, length, tokens).
    target : ndarray of int
        (sequences, length), of `memory.copying_memory`.

    Returns
    -------
    float
        From 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> target = np.array([[0, 0, 0, 3, 7]])
    >>> recalled(10.0 * np.eye(10)[[[0, 0, 5, 3, 8]]], target)
    0.5
    """
    asked = target != memory.BLANK
    return accuracy(logits[asked], target[asked])


def _holds_dt(name):
    """Whether a parameter is dt: it stays as it begins."""
    return name.rpartition(".")[2] == "log_dt"


class CopyingMemory(Task):
    """`memory.copying_memory`: ten symbols, a gap, and the ten symbols again."""

    name = "copying-memory"
    title = "Copying memory"
    summary = "repeat ten symbols after a long gap"
    description = """\
Ten symbols of eight kinds, then nothing until a marker asks for them; the answer is the ten symbols
in their order, and blank before. How long does a model remember, and how exactly?

Score: share of the symbols; blanks do not count. In the loss, all blanks of a sequence together
weigh as much as its symbols. Parts: 1000 sequences each for validation and test, and fresh ones for
every batch of training, which are never one of those. 32 batches of 32 an epoch, at most 20 epochs;
training ends with the first that recalls every symbol of the validation part.

The answer is the question, 10 + delay samples later, and a delay is a linear system. The poles of
S4D start as the Fourier basis of the sequence, L/2 a channel at dt = 2 / L, in which every delay up
to L = 20 + delay samples is a choice of C. So it is told how long sequences are, but not what is to
be done with them. Poles and dt as published (a few dozen poles, dt 0.001 to 0.1) were compared too.

Guessing gets 1/8. A published NumPy program with dense matrices (dan1oo/Cphy_SSM) reports 0.121,
which is that.
"""
    options: ClassVar[dict] = {
        "delay": Option(100, "samples from the last symbol to the marker", 1, 2000, quick=20)
    }
    metric_label = "symbols recalled (share)"

    @property
    def delay(self):
        """Samples from the last symbol to the marker."""
        return self.chosen["delay"]

    @property
    def symbols(self):
        """How many."""
        return 5 if self.quick else 10

    @property
    def length(self):
        """Samples of a sequence."""
        return 2 * self.symbols + self.delay

    def parts(self, seed):
        """The data."""
        held = 200 if self.quick else 1000
        return drawn_parts(self._drawn, seed, held=held, batches=32, batch_size=32)

    def _drawn(self, rng, items):
        u, target = memory.copying_memory(rng, items, self.symbols, self.delay)
        blank = self.symbols / (self.length - self.symbols)
        return Batch(u, target, None, np.where(target == memory.BLANK, blank, 1).astype("float32"))

    def shape(self):
        """A token in, the logits of all tokens out, at every time."""
        return {
            "d_input": memory.TOKENS,
            "d_output": memory.TOKENS,
            "task": "generation",
            "encoder": "embedding",
        }

    def metrics(self):
        """`recalled`."""
        return {"accuracy": recalled}

    def goal(self):
        """Of the symbols."""
        return {"goal": 0.999 if self.delay <= 100 else 0.99, "chance": 1 / (memory.MARKER - 1)}

    def candidates(self, model):
        """What was compared; the first is used."""
        limits = {"epochs": 3 if self.quick else 20, "enough": 1.0}
        if model not in ("s4d", "s4"):
            # At delay 100 an LSTM is at chance (0.13) after 640 updates with each of these.
            options = {"dropout": 0.0}
            return tuple(Settings(None, 1, options, lr=lr, **limits) for lr in (0.001, 0.003, 0.01))
        # Validation, symbols of an S4D at delay 100: all with each, after 64, 128 and 320 updates;
        # at delay 1000 after 64 and 160 with the first two. A change of log dt by x turns the phase
        # of the fastest pole, at a lag of L, by pi L x: where rates are 0.01, dt is held.
        dt = 2 / self.length
        fourier = {"initial": "lin" if model == "s4d" else "fout", "dt_min": dt, "dt_max": dt}
        basis = {"dropout": 0.0, "modes": self.length // 2, "layer_options": fourier}
        published = {"dropout": 0.0, "modes": 32}
        return (
            Settings(32, 1, basis, lr=0.01, ssm_lr=0.01, frozen=_holds_dt, **limits),
            Settings(32, 1, basis, lr=0.01, **limits),
            Settings(32, 1, published, lr=0.01, **limits),
        )

    def further(self, model, test):
        """Shares of answers without a wrong symbol, and of blanks that are answered as such."""
        whole, blanks, count = 0, 0, 0
        for batch in test(0, np.random.default_rng(0)):
            answers = model.forward(batch.u, cache=False)[0].argmax(axis=-1)
            right, blank = answers == batch.target, batch.target == memory.BLANK
            whole += np.count_nonzero((right | blank).all(axis=1))
            blanks += np.count_nonzero(right & blank)
            count += len(right)
        each = self.length - self.symbols
        return {"whole answers": float(whole / count), "blanks": float(blanks / (each * count))}

    def draw(self, runs, ax):
        """One sequence's symbols and the answers to them; wrong ones are crossed out."""
        u, target, _, _ = self._drawn(np.random.default_rng([runs[0].seed, SHOWN]), 1)
        wanted = target[0, -self.symbols :]
        rows = [("asked for", wanted)]
        for run in runs:
            logits, _, _ = run.model.forward(u, cache=False)
            rows.append((run.title, logits[0, -self.symbols :].argmax(axis=-1)))
        cells = np.array([row for _, row in rows])
        ax.imshow(cells, cmap="viridis", vmin=0, vmax=memory.MARKER, aspect="auto", alpha=0.55)
        ax.hlines(np.arange(1, len(rows)) - 0.5, -0.5, self.symbols - 0.5, "white", linewidth=4)
        for y, x in np.ndindex(cells.shape):
            right = cells[y, x] == wanted[x]
            ax.text(x, y, str(cells[y, x]), ha="center", va="center", weight="bold")
            if not right:
                ax.plot([x - 0.35, x + 0.35], [y + 0.35, y - 0.35], color="black", linewidth=1.2)
        ax.set_xticks(range(self.symbols), range(1, self.symbols + 1))
        ax.set_yticks(range(len(rows)), [name for name, _ in rows])
        later = self.delay + self.symbols
        ax.set_xlabel(f"symbol of the answer, {later} samples after it was shown")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
