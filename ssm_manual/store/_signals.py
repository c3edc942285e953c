"""The signals of a run: which there are, and how they grow."""

import sqlite3
import warnings

import numpy as np

from ssm_manual import _validate
from ssm_manual.store import _chunks, _plain, _schema
from ssm_manual.store._chunks import Layout
from ssm_manual.store.errors import StoreError


class Signals:
    """Of one run, which hands on its calls."""

    def __init__(self, run):
        self._run, self._layouts = run, {}

    def forget(self):
        """What was known of the file may be so no longer."""
        self._layouts = {}

    def append(self, name, block):
        """See `Run.append`."""
        layout = self._layouts.get(name) if type(name) is str else None
        database = self._run.database
        with database.lock:
            if layout is None or not self._run.writable or not database.usable:
                self._run.check_writable()
                layout = self._for(name, block)
            count, data = layout.bytes_of(block)
            at = layout.end
            if 0 < count <= layout.most:  # one statement, which commits by itself
                try:
                    database.insert(_chunks.INSERT, (layout.base + at, data))
                except sqlite3.IntegrityError:
                    # an interrupt has come between an earlier block and its being counted
                    at = layout.length(database)
                    database.execute(_chunks.INSERT, (layout.base + at, data))
            elif count:
                with database.transaction():
                    self._run._check_present()
                    at = layout.length(database)
                    for row in layout.rows(data, at):
                        database.execute(_chunks.INSERT, row)
            layout.end = at + count
            return at + count

    def read(self, name, start, stop):
        """See `Run.read`."""
        layout = self._layouts.get(name) if type(name) is str else None
        if layout is None:
            layout = self._all()
            _plain.known("name", name, layout)
            layout = self._layouts[name] = layout[name]
            layout.end = layout.length(self._run.database)
        start = _validate.integer("start", start, minimum=0)
        stop = stop if stop is None else _validate.integer("stop", stop, minimum=0)
        if stop is None or max(start, stop) > layout.end:
            length = layout.length(self._run.database)
            if not self._run.writable:  # the writer's is counted by `append` alone
                layout.end = length
            stop = length if stop is None else stop
            for argument, value in (("start", start), ("stop", stop)):
                if value > length:
                    raise ValueError(
                        f"{argument} is {value}; signal {name!r} holds {length} samples"
                    )
        if start > stop:
            raise ValueError(f"start is {start}; it must be at most stop, {stop}")
        return layout.read(self._run.database, start, stop)

    def described(self):
        """See `Run.signals`."""
        return {key: layout.described(self._run.database) for key, layout in self._all().items()}

    def _all(self):
        found = self._run.database.execute(
            "SELECT id, name, dtype, channels, rate FROM signal WHERE run = ? ORDER BY id",
            (self._run.id,),
        )
        for number, name, dtype, channels, rate in found:
            if (
                not isinstance(name, str)
                or dtype not in _chunks.DTYPES
                or type(channels) not in (int, type(None))
                or type(rate) not in (float, type(None))
                or not 1 <= (1 if channels is None else channels) <= _chunks.MOST_CHANNELS
            ):
                raise self._run._damaged(f"signal {number}")
        return {row[1]: Layout(*row) for row in found}

    def _for(self, name, block):
        """The layout of a signal that is appended to; of a new one, as its first block has it."""
        name = _plain.name("name", name)
        if name in self._layouts:
            return self._layouts[name]
        known = self._all()
        if name in known:  # declared, and an interrupt came before it was noted here
            layout = known[name]
            layout.end = layout.length(self._run.database)
            self._layouts[name] = layout
            return layout
        if not isinstance(block, np.ndarray) or block.ndim not in (1, 2):
            raise ValueError(
                f"block is {_validate.show(block)}; it must be an array of shape (n,) or "
                "(channels, n)"
            )
        if isinstance(block, np.ma.MaskedArray):  # before there is a signal, not after
            raise ValueError("block is a masked array; the mask would be ignored, so fill it first")
        channels = block.shape[0] if block.ndim == 2 else None
        most = _chunks.MOST_CHANNELS
        if channels is not None and not 1 <= channels <= most:
            raise ValueError(f"block has {channels} channels; it must have 1 to {most}")
        dtype = block.dtype.newbyteorder("=")
        if dtype.name not in _chunks.DTYPES:
            allowed = ", ".join(_chunks.DTYPES)
            raise ValueError(f"block has dtype {dtype.name}; it must be one of {allowed}")
        return self.declare(name, dtype, None, channels)

    def declare(self, name, dtype, rate, channels):
        """See `Run.signal`; returns the layout."""
        name, dtype = _plain.name("name", name), _dtype(dtype)
        if rate is not None:
            rate = _validate.real_number("rate", rate, above=0)
        if channels is not None:
            most = _chunks.MOST_CHANNELS
            channels = _validate.integer("channels", channels, minimum=1, maximum=most)
        run, database = self._run, self._run.database
        with database.lock:
            run.check_writable()
            with database.transaction():
                run._check_present()
                if name in self._all():
                    raise ValueError(f"name is {name!r}; run {run.id} has such a signal already")
                database.execute(
                    "INSERT INTO signal (run, name, dtype, channels, rate) VALUES (?, ?, ?, ?, ?)",
                    (run.id, name, dtype, channels, rate),
                )
                number = database.execute("SELECT last_insert_rowid()")[0][0]
                if number > _schema.MOST_SIGNALS:
                    raise StoreError(
                        f"{database.path}: has had {_schema.MOST_SIGNALS} signals, which are the "
                        "most: begin another store"
                    )
            layout = self._layouts[name] = Layout(number, name, dtype, channels, rate)
            return layout


def _dtype(dtype):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of spellings that NumPy will give up
            name = np.dtype(dtype).name if dtype is not None else None
    except (TypeError, ValueError):
        name = dtype
    if not isinstance(name, str) or name not in _chunks.DTYPES:
        allowed = ", ".join(_chunks.DTYPES)
        raise ValueError(f"dtype is {_validate.show(name)}; it must be one of {allowed}")
    return name
