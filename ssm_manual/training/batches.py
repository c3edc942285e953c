"""Mini-batches: of arrays in memory, or whatever a callable gives.

Data of the training loop is a callable ``data(epoch, rng)`` that gives the batches of one epoch,
or an iterable of batches that can be gone through again and again. ``rng`` is a generator of the
run's seed and the epoch: it is all that shuffling needs, so that an epoch can be begun again at any
batch. A batch is ``(u, target)``, ``(u, target, lengths)`` or a `Batch`.
"""

import itertools
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate

__all__ = ["Batch", "Batches", "batches_of", "count"]


class Batch(NamedTuple):
    """What goes into one forward and backward pass.

    Attributes
    ----------
    u : ndarray
        Input, (batch, ...), as the model takes it.
    target : ndarray
        As the loss takes it.
    lengths : ndarray or None
        Samples of each item, for the model's ``forward``.
    weights : ndarray or None
        Of each position, for a loss with an option of that name (the two cross-entropies).
    """

    u: np.ndarray
    target: np.ndarray
    lengths: np.ndarray | None = None
    weights: np.ndarray | None = None

    @property
    def size(self):
        """What the batch counts in a mean over batches: its items, or the sum of its weights."""
        if self.weights is None:
            return float(len(self.u))
        return float(np.sum(self.weights, dtype=np.float64))


class Batches:
    """Mini-batches of arrays, in an order of their own in every epoch.

    Parameters
    ----------
    u, target : ndarray
        (items, ...); also mapped into memory: a batch is what is read.
    batch_size : int
        Items a batch; the last one may have fewer.
    lengths : ndarray, optional
        (items,), samples of each item.
    weights : ndarray, optional
        (items, ...), see `Batch`.
    shuffle : bool
        False: items come as they stand.
    drop_last : bool
        Whether a last batch with fewer items is left out.

    Raises
    ------
    ValueError
        If an argument is no array, has another number of items, or there is no batch.

    Examples
    --------
    >>> data = Batches(np.arange(5.0), np.zeros(5), batch_size=2, shuffle=False)
    >>> [batch.u.tolist() for batch in data(0, np.random.default_rng(0))]
    [[0.0, 1.0], [2.0, 3.0], [4.0]]
    """

    def __init__(
        self, u, target, *, batch_size, lengths=None, weights=None, shuffle=True, drop_last=False
    ):
        self.arrays = Batch(u, target, lengths, weights)
        for name, a in self.arrays._asdict().items():
            if a is None and name in ("lengths", "weights"):
                continue
            if not isinstance(a, np.ndarray) or a.ndim == 0:
                raise ValueError(f"{name} is {_validate.show(a)}; it must be an array (items, ...)")
            if len(a) != len(u):
                raise ValueError(f"{name} has {len(a)} items; u has {len(u)}")
        self.batch_size = _validate.integer("batch_size", batch_size, minimum=1)
        self.shuffle = _validate.flag("shuffle", shuffle)
        self.drop_last = _validate.flag("drop_last", drop_last)
        if len(self) == 0:
            least = self.batch_size if drop_last else 1
            raise ValueError(f"u has {len(u)} items; there must be at least {least} for a batch")

    def __len__(self):
        items = len(self.arrays.u)
        return items // self.batch_size if self.drop_last else -(-items // self.batch_size)

    def __call__(self, epoch, rng):
        """The batches of an epoch; see the head of `ssm_manual.training.batches`."""
        items = len(self.arrays.u)
        order = rng.permutation(items) if self.shuffle else np.arange(items)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            rows = order[start : start + self.batch_size]
            yield Batch(*(None if a is None else a[rows] for a in self.arrays))

    @property
    def items(self):
        """Items of an epoch."""
        return min(len(self.arrays.u), len(self) * self.batch_size)

    def settings(self):
        """What a checkpoint compares: sizes, and a sum over the first and the last item.

        Returns
        -------
        dict
        """
        arrays = {
            name: None
            if a is None
            else [list(a.shape), a.dtype.str, zlib.crc32(a[0].tobytes() + a[-1].tobytes())]
            for name, a in self.arrays._asdict().items()
        }
        options = ("batch_size", "shuffle", "drop_last")
        return {**arrays, **{name: getattr(self, name) for name in options}}


def batches_of(name, data, epoch, rng, start=0):
    """The batches of one epoch as `Batch`, from number ``start`` on.

    Parameters
    ----------
    name : str
        What the data is called in messages.
    data : callable or iterable
        See the head of this module.
    epoch : int
        Counted from 0.
    rng : numpy.random.Generator
        For a callable.
    start : int
        Batches to leave out; they are drawn and dropped.

    Yields
    ------
    Batch

    Raises
    ------
    ValueError
        If the data is of another kind, or a batch is.
    """
    check(name, data)
    given = data(epoch, rng) if callable(data) else data
    if not isinstance(given, Iterable):
        raise ValueError(f"{name}({epoch}, rng) is {_validate.show(given)}; it must be iterable")
    for batch in itertools.islice(given, start, None):
        if not isinstance(batch, (tuple, list)) or not 2 <= len(batch) <= 4:
            raise ValueError(
                f"{name} gives {_validate.show(batch)}; a batch must be (u, target), "
                "(u, target, lengths) or a Batch"
            )
        yield Batch(*batch)


def check(name, data):
    """Raise `ValueError` unless ``data`` can be gone through once an epoch."""
    if isinstance(data, Iterator):
        raise ValueError(
            f"{name} is {_validate.show(data)}, which can be gone through once; it must be a "
            f"callable {name}(epoch, rng), Batches, or a list of batches"
        )
    if not callable(data) and not isinstance(data, Iterable):
        raise ValueError(
            f"{name} is {_validate.show(data)}; it must be a callable {name}(epoch, rng), Batches, "
            "or a list of batches"
        )


def count(data):
    """Batches and items of an epoch, each None where it is not known.

    Parameters
    ----------
    data : callable or iterable
        See the head of this module.

    Returns
    -------
    tuple
    """
    batches = len(data) if hasattr(data, "__len__") else None
    items = getattr(data, "items", None)
    return batches, items if isinstance(items, int) else None
