"""Parts of a task whose items are drawn: no item is in two parts."""

import numpy as np

from ssm_manual.tasks.protocol import Fresh, Parts, Sealed
from ssm_manual.training import Batch, Batches

__all__ = ["SHOWN", "drawn_parts"]

#: Streams of the random numbers of the fixed parts; training data has the generator of its epoch.
VALIDATION, TEST = 3, 4

#: And of what `Task.draw` shows: items of no part.
SHOWN = 5

#: Items of a batch of validation or test: bounds the memory of an evaluation.
EVALUATED = 100


def drawn_parts(draw, seed, *, held, batches, batch_size):
    """Fixed validation and test parts, and training items drawn anew for every batch.

    Test and validation items are drawn first, each once. A training item that equals one of them
    is drawn again.

    Parameters
    ----------
    draw : callable
        ``draw(rng, items) -> Batch``. It must have at least twice as many different items as are
        held, or it takes forever.
    seed : int
    held : int
        Items of the validation part, and of the test part.
    batches, batch_size : int
        Of a training epoch.

    Returns
    -------
    Parts
    """
    known = set()

    def part(stream):
        found = _unknown(draw, np.random.default_rng([seed, stream]), held, known, distinct=True)
        return Batches(
            found.u,
            found.target,
            batch_size=EVALUATED,
            lengths=found.lengths,
            weights=found.weights,
            shuffle=False,
        )

    test, validation = part(TEST), part(VALIDATION)
    train = Fresh(
        lambda rng, items: _unknown(draw, rng, items, known),
        batches=batches,
        batch_size=batch_size,
    )
    return Parts(train, validation, Sealed(test))


def _unknown(draw, rng, items, known, *, distinct=False):
    """Items that are not known; ``distinct``: they are from then on, so that none comes twice."""
    pieces, count = [], 0
    while count < items:
        batch = draw(rng, items - count)
        rows = []
        for row, item in enumerate(batch.u):
            key = item.tobytes()
            if key not in known:
                rows.append(row)
                if distinct:
                    known.add(key)
        pieces.append(batch if len(rows) == len(batch.u) else _taken(batch, rows))
        count += len(rows)
    return pieces[0] if len(pieces) == 1 else _joined(pieces)


def _taken(batch, rows):
    return Batch(*(None if a is None else a[rows] for a in batch))


def _joined(pieces):
    return Batch(*(None if a[0] is None else np.concatenate(a) for a in zip(*pieces)))
