"""Signals as rows of samples: what a block must be, how it is cut, how it is put together again."""

from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.store import _schema
from ssm_manual.store.errors import StoreError

#: Bytes of a row at most. A read fetches at most two rows more than it needs; smaller blocks stay
#: as they come.
CHUNK = 16384

MOST_CHANNELS = 65535

#: Bytes that a long read fetches at a time, beside the array that it fills; few, since each sample
#: may be a row.
_PIECE = 1 << 20

INSERT = "INSERT INTO chunk VALUES (?, ?)"

#: The row that holds the first sample asked for, and those after it.
_SELECT = """
    SELECT id, data FROM chunk
    WHERE id >= coalesce((SELECT max(id) FROM chunk WHERE id BETWEEN ? AND ?), ?) AND id < ?
    ORDER BY id
"""

_LAST = """
    SELECT id, length(data) FROM chunk WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1
"""

DTYPES = (
    "float32", "float64", "complex64", "complex128",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip


class Signal(NamedTuple):
    """What a signal is.

    Attributes
    ----------
    name : str
    dtype : str
        Such as ``"float32"``.
    channels : int or None
        None: blocks of shape ``(n,)``; otherwise ``(channels, n)``.
    rate : float or None
        Samples per second.
    length : int
        Samples of a channel.
    """

    name: str
    dtype: str
    channels: int | None
    rate: float | None
    length: int


class Layout:
    """Where the samples of one signal lie, and what they are.

    In a row, and from row to row, time goes slowest: all channels of a sample lie side by side.
    """

    def __init__(self, number, name, dtype, channels, rate):
        self.number, self.name, self.channels, self.rate = number, name, channels, rate
        self.dtype = np.dtype(dtype)  # native: what a block is compared with
        self.stored = self.dtype.newbyteorder("<")
        self.base = number << _schema.POSITION_BITS
        self.frame = self.dtype.itemsize * (channels or 1)
        self.most = max(1, CHUNK // self.frame)  # samples of a row
        self.plain = channels is None and self.stored.isnative
        self.end = 0  # samples stored; kept by the one that writes

    def bytes_of(self, block):
        """Samples of a block, and their bytes in the order of the rows."""
        if type(block) is not np.ndarray or block.dtype != self.dtype:
            block = self._converted(block)
        if block.ndim != (1 if self.channels is None else 2) or (
            self.channels is not None and block.shape[0] != self.channels
        ):
            wanted = "(n,)" if self.channels is None else f"({self.channels}, n)"
            raise ValueError(
                f"block has shape {block.shape}; signal {self.name!r} has blocks of shape {wanted}"
            )
        count = block.shape[-1]
        if self.end + count > _schema.LONGEST:
            raise ValueError(
                f"block has {count} samples, and signal {self.name!r} holds {self.end}: "
                f"{_schema.LONGEST} are the most"
            )
        if not self.plain:
            block = block.T.astype(self.stored, copy=False)
        return count, block.tobytes()

    def _converted(self, block):
        """Another byte order is taken, another type is not: the caller knows what may be lost."""
        if isinstance(block, np.ma.MaskedArray):
            raise ValueError("block is a masked array; the mask would be ignored, so fill it first")
        found = block
        if not isinstance(found, np.ndarray):
            raise ValueError(f"block is {_validate.show(block)}; it must be an array")
        if found.dtype.newbyteorder("=") != self.dtype:
            raise ValueError(
                f"block has dtype {found.dtype}; signal {self.name!r} has {self.dtype}"
            )
        return np.asarray(found).astype(self.dtype, copy=False)

    def rows(self, data, at):
        """``(id, bytes)`` of the rows of a block that begins at sample ``at``."""
        step = self.most * self.frame
        for i in range(0, len(data), step):
            yield self.base + at + i // self.frame, data[i : i + step]

    def described(self, database):
        """What callers are told."""
        length = self.length(database)
        return Signal(self.name, self.dtype.name, self.channels, self.rate, length)

    def length(self, database):
        """Samples in the file."""
        last = self.base + _schema.LONGEST - 1
        found = database.execute(_LAST, (self.base, last))
        return found[0][0] - self.base + found[0][1] // self.frame if found else 0

    def read(self, database, start, stop):
        """Samples ``start`` to ``stop``, as they were appended."""
        count = max(0, stop - start)
        shape = (count,) if self.channels is None else (count, self.channels)
        step = max(1, _PIECE // self.frame)
        if count <= step:
            flat = np.frombuffer(self._piece(database, start, stop), self.stored)
            out = flat.astype(self.dtype).reshape(shape)  # a copy, so that it may be written to
        else:
            if count * self.frame > database.size():  # a damaged row, not memory to be asked for
                raise self._missing(database, start, stop)
            out = np.empty(shape, self.dtype)
            for at in range(start, stop, step):
                end = min(stop, at + step)
                piece = np.frombuffer(self._piece(database, at, end), self.stored)
                out[at - start : end - start] = piece.reshape(end - at, *shape[1:])
        return out if self.channels is None else out.T

    def _piece(self, database, start, stop):
        """Bytes of some samples."""
        if start >= stop:
            return b""
        base = self.base
        rows = database.execute(_SELECT, (base, base + start, base + start, base + stop))
        try:
            data = b"".join([row[1] for row in rows])
        except TypeError:
            raise self._missing(database, start, stop) from None
        skipped = (base + start - rows[0][0]) * self.frame if rows else 0
        wanted = (stop - start) * self.frame
        piece = memoryview(data)[skipped : skipped + wanted]
        # one gap or one row cut short moves all that follows, so that the last row tells
        if len(piece) < wanted or rows[-1][0] + len(rows[-1][1]) // self.frame != (
            rows[0][0] + len(data) // self.frame
        ):
            raise self._missing(database, start, stop)
        return piece

    def _missing(self, database, start, stop):
        return StoreError(
            f"{database.path}: samples {start} to {stop} of signal {self.name!r} are missing"
        )
