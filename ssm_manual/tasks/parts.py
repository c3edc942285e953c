"""The data of a task in three parts: one to fit, one to choose by, and one that opens once."""

from typing import Any, NamedTuple

from ssm_manual import _validate

__all__ = ["Fresh", "Parts", "Sealed"]


class Sealed:
    """A test part: it can be opened once.

    Parameters
    ----------
    data : Batches, callable or iterable
        See `ssm_manual.training.batches`.

    Examples
    --------
    >>> sealed = Sealed([1, 2])
    >>> sealed.open()
    [1, 2]
    >>> sealed.open()
    Traceback (most recent call last):
    RuntimeError: the test part has been opened before; what it told then may have been used
    """

    def __init__(self, data):
        self._data, self._opened = data, False

    def open(self):
        """The data.

        Returns
        -------
        Batches, callable or iterable

        Raises
        ------
        RuntimeError
            If it has been opened before.
        """
        if self._opened:
            raise RuntimeError(
                "the test part has been opened before; what it told then may have been used"
            )
        self._opened = True
        return self._data


class Fresh:
    """Training data without end: every epoch draws its own items.

    Parameters
    ----------
    draw : callable
        ``draw(rng, batch_size) -> (u, target)``, with lengths and weights behind them if there are
        any, see `training.Batch`.
    batches : int
        Batches of an epoch.
    batch_size : int
        Items of a batch.

    Examples
    --------
    >>> import numpy as np
    >>> tosses = Fresh(lambda rng, n: (rng.integers(0, 2, n), np.zeros(n)), batches=3, batch_size=2)
    >>> [u.tolist() for u, _ in tosses(0, np.random.default_rng(0))]
    [[1, 1], [1, 0], [0, 0]]
    """

    def __init__(self, draw, *, batches, batch_size):
        self.draw = draw
        self.batches = _validate.length("batches", batches, minimum=1)
        self.batch_size = _validate.integer("batch_size", batch_size, minimum=1)

    def __len__(self):
        return self.batches

    @property
    def items(self):
        """Items of an epoch."""
        return self.batches * self.batch_size

    def __call__(self, epoch, rng):
        """The batches of an epoch; see `ssm_manual.training.batches`."""
        for _ in range(self.batches):
            yield self.draw(rng, self.batch_size)


class Parts(NamedTuple):
    """The data of one seed.

    Attributes
    ----------
    train : Batches or Fresh
        Both have as many batches in every epoch.
    validation : Batches
        Looked at after every epoch.
    test : Sealed
        Looked at once.
    """

    train: Any
    validation: Any
    test: Sealed
