"""One run of a store: what it was told, what it has measured, what has come out of it."""

import contextlib
import itertools
import numbers
import os
import sqlite3
import tempfile
import time

import numpy as np

from ssm_manual import _validate
from ssm_manual.store import _checkpoints, _chunks, _owner, _plain, _schema
from ssm_manual.store._chunks import Signal
from ssm_manual.store.errors import StoreError

__all__ = ["STATUSES", "Run", "Signal"]

#: What a run can be. "interrupted": its process ended, or let go of it, without saying how it went.
STATUSES = ("running", "finished", "failed", "interrupted")

_RUN = "SELECT name, config, seed, tags, versions, started FROM run WHERE id = ?"


class Run:
    """A run in a `Store`; made by `Store.start`, `Store.run` and `Store.runs`.

    What `Store.start` returns can be written to, by its process alone, until it is finished. All
    others read. A run is a context manager: at the end of the block it is finished; an exception
    makes it failed, with what the exception says, and an interrupt (Ctrl-C) interrupted.

    Attributes
    ----------
    id : int
        Counted from 1 in its store; never given twice.
    name : str
        What it is a run of.
    config : dict
    seed
        As it was given.
    tags : list of str
    versions : dict of str
        Of Python and the libraries that it ran on.
    started : float
        Seconds since 1970.
    """

    def __init__(self, store, number, *, writable=False):
        self._store, self._database, self.id = store, store._database, number
        found = self._database.execute(_RUN, (number,))
        if not found:
            raise StoreError(f"{store.path}: there is no run {number}")
        self.name, config, seed, tags, versions, self.started = found[0]
        self.config, self.versions = self._told(config, dict), self._told(versions, dict)
        self.seed, self.tags = self._told(seed), self._told(tags, list)
        self._writable = writable
        self._layouts, self._series = {}, {}
        self._entries = itertools.count()

    def __repr__(self):
        return f"<Run {self.id} {self.name!r}, {self.status}, in {self._store.path}>"

    # ------------------------------------------------------------------------------------- writing

    def log(self, step, /, **values):
        """Keep some numbers of one step.

        When it returns, all of them are with the operating system; if it raises, none is.

        Parameters
        ----------
        step : int
            At least 0. A step may be logged more than once: nothing is replaced.
        **values : float
            By name. NaN and infinity are kept: a loss that diverged is worth knowing. The sign of
            zero is not.

        Raises
        ------
        ValueError
            If a value is no real number.
        StoreError
            If the run has ended, or the file cannot be written.
        """
        step = _validate.integer("step", step, minimum=0, maximum=2**63 - 1)
        floats = {_plain.name("a name", key): _number(key, v) for key, v in values.items()}
        database = self._database
        with database.lock:
            self._check_writable()
            entry = next(self._entries)
            with database.transaction():
                rows = [(self._series_of(key), step, entry, v) for key, v in floats.items()]
                for row in rows:
                    database.execute("INSERT INTO metric VALUES (?, ?, ?, ?)", row)
            for key, row in zip(floats, rows):
                self._series[key] = row[0]

    def signal(self, name, *, dtype="float32", rate=None, channels=None):
        """Say what a signal is before its first block; without this the first block says it.

        Parameters
        ----------
        name : str
            Any text.
        dtype : str or dtype
            float32, float64, complex64, complex128 or an integer type.
        rate : float, optional
            Samples per second; None: not known.
        channels : int, optional
            Blocks have shape ``(channels, n)``. None: ``(n,)``.

        Raises
        ------
        ValueError
            If an argument does not fit, or the run has a signal of this name already.
        StoreError
            If the run has ended, or the file cannot be written.
        """
        self._declare(name, dtype, rate, channels)

    def append(self, name, block):
        """Add samples at the end of a signal.

        When it returns, they are with the operating system: a process killed afterwards loses
        nothing. If it raises, none of them has been added.

        Parameters
        ----------
        name : str
            Of the signal. The first block of a new one fixes its dtype, and whether it has
            channels.
        block : ndarray
            ``(n,)`` or ``(channels, n)``, of any layout in memory. Any values, NaN included.

        Returns
        -------
        int
            Samples of a channel that the signal holds now.

        Raises
        ------
        ValueError
            If the block has another dtype or other channels than the signal.
        StoreError
            If the run has ended, or the file cannot be written.
        """
        layout = self._layouts.get(name) if type(name) is str else None
        database = self._database
        with database.lock:
            if layout is None or not self._writable or not database.usable:
                self._check_writable()
                layout = self._layout_for(name, block)
            count, data = layout.bytes_of(block)
            at = layout.end
            if 0 < count <= layout.most:  # one statement, which commits by itself
                try:
                    database.insert(_chunks.INSERT, (layout.base + at, data))
                except sqlite3.IntegrityError:
                    # an interrupt has come between an earlier block and its being counted
                    at = layout.length(database)
                    database.insert(_chunks.INSERT, (layout.base + at, data))
            elif count:
                with database.transaction():
                    at = layout.length(database)
                    for row in layout.rows(data, at):
                        database.insert(_chunks.INSERT, row)
            layout.end = at + count
            return at + count

    @contextlib.contextmanager
    def together(self):
        """What is written in the block is written at once, at its end: many small things, fast.

        What `log` and `append` acknowledge within counts from the end of the block. If it raises,
        nothing of it has been written. Other threads, and other processes that write, wait.

        Raises
        ------
        StoreError
            If the run has ended, or the file cannot be written.
        """
        self._check_writable()
        with self._database.lock:
            try:
                with self._database.transaction():
                    yield
            except BaseException:
                self._layouts, self._series = {}, {}  # as the file has them, when next asked for
                raise

    def save_checkpoint(self, model, name="model", *, metadata=None):
        """Keep a model, as the bytes of the file that `checkpoint.save` writes.

        Parameters
        ----------
        model : object
            One of `checkpoint.MODELS`.
        name : str
            Any text. An earlier checkpoint of this name is replaced, whole or not at all.
        metadata : dict, optional
            As of `checkpoint.save`.

        Raises
        ------
        ValueError
            As of `checkpoint.save`.
        StoreError
            If the run has ended, or the file cannot be written.
        """
        name = _plain.name("name", name)
        self._check_writable()
        from ssm_manual import checkpoint

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.safetensors")
            checkpoint.save(path, model, metadata=metadata)
            with open(path, "rb") as file, self._database.transaction():
                _checkpoints.write(self._database, self.id, name, file)

    def finish(self, /, **scores):
        """The run has ended well.

        Parameters
        ----------
        **scores : float
            What came out of it, by name. NaN and infinity are kept.
        """
        floats = {_plain.name("a name", key): _number(key, v) for key, v in scores.items()}
        self._check_writable()
        self._end("finished", "", floats)

    def fail(self, error):
        """The run has ended badly.

        Parameters
        ----------
        error : Exception or str
            What went wrong.
        """
        self._check_writable()
        self._end("failed", _words(error))

    def interrupt(self, reason="interrupted"):
        """The run was broken off.

        Parameters
        ----------
        reason : str
        """
        self._check_writable()
        self._end("interrupted", _words(reason))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not self._writable or not self._database.usable:  # ended already; or in a forked child
            return
        if error is None:
            self._end("finished", "")
        elif isinstance(error, Exception):
            self._end("failed", _words(error))
        else:  # KeyboardInterrupt, SystemExit
            self._end("interrupted", _words(error))

    # ------------------------------------------------------------------------------------- reading

    @property
    def status(self):
        """One of `STATUSES`, as it is now."""
        status, owner = self._now("status", "owner")
        if status == "running" and not _owner.alive(self._told(owner, dict)):
            return "interrupted"  # not written down yet, or where nothing can be written
        return status

    @property
    def error(self):
        """What went wrong, in words; empty if nothing did, or if nobody was there to say it."""
        return self._now("error")[0]

    @property
    def scores(self):
        """What `finish` was given."""
        return self._told(self._now("scores")[0], dict)

    @property
    def ended(self):
        """Seconds since 1970; None: it is running, or it was killed and nobody knows when."""
        return self._now("ended")[0]

    def metrics(self, name=None):
        """What has been logged.

        Parameters
        ----------
        name : str, optional
            One of the names; None: all.

        Returns
        -------
        tuple of ndarray, or dict of them
            Steps (int64) and values (float64), in the order of the steps; what was logged for one
            step, in the order in which it was.

        Raises
        ------
        ValueError
            If nothing was logged under the name.
        """
        series = dict(
            self._database.execute(
                "SELECT name, id FROM series WHERE run = ? ORDER BY id", (self.id,)
            )
        )
        if name is None:
            return {key: self._values(number) for key, number in series.items()}
        _known("name", name, series)
        return self._values(series[name])

    @property
    def signals(self):
        """All signals by name, a dict of `Signal`."""
        return {key: a.described(self._database) for key, a in self._all_layouts().items()}

    def read(self, name, start=0, stop=None):
        """Samples of a signal; the others are not read from the disk.

        Parameters
        ----------
        name : str
        start, stop : int
            From sample ``start`` up to, without, ``stop``; None: up to the last that there is.

        Returns
        -------
        ndarray
            ``(stop - start,)`` or ``(channels, stop - start)``, of the signal's dtype; yours to
            change.

        Raises
        ------
        ValueError
            If there is no such signal, or it does not hold these samples.
        StoreError
            If samples are missing from the file, which is damaged then.
        """
        layout = self._layouts.get(name) if type(name) is str else None
        if layout is None:
            layout = self._all_layouts()
            _known("name", name, layout)
            layout = self._layouts[name] = layout[name]
            layout.end = layout.length(self._database)
        start = _validate.integer("start", start, minimum=0)
        stop = stop if stop is None else _validate.integer("stop", stop, minimum=0)
        if stop is None or max(start, stop) > layout.end:
            length = layout.length(self._database)
            if not self._writable:  # the writer's is counted by `append` alone
                layout.end = length
            stop = length if stop is None else stop
            for argument, value in (("start", start), ("stop", stop)):
                if value > length:
                    raise ValueError(
                        f"{argument} is {value}; signal {name!r} holds {length} samples"
                    )
        if start > stop:
            raise ValueError(f"start is {start}; it must be at most stop, {stop}")
        return layout.read(self._database, start, stop)

    @property
    def checkpoints(self):
        """Names of the models that are kept, in order."""
        return _checkpoints.names(self._database, self.id)

    def load_checkpoint(self, name="model", *, expected=None):
        """A model that was kept.

        Parameters
        ----------
        name : str
        expected : type or tuple of type, optional
            As of `checkpoint.load`.

        Returns
        -------
        object
            The model.

        Raises
        ------
        ValueError
            If there is no such checkpoint.
        CheckpointError
            If it is not sound, or holds another class.
        """
        from ssm_manual import checkpoint

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.safetensors")
            with open(path, "wb") as file:
                self.write_checkpoint(name, file)
            try:
                return checkpoint.load(path, expected=expected)
            except checkpoint.CheckpointError as error:
                where = f"{self._store.path}, checkpoint {name!r} of run {self.id}"
                raise checkpoint.CheckpointError(str(error).replace(path, where)) from None

    def write_checkpoint(self, name, file):
        """Write a checkpoint's bytes, those of a ``.safetensors`` file.

        Parameters
        ----------
        name : str
        file : binary file
            Open for writing.

        Raises
        ------
        ValueError
            If there is no such checkpoint.
        """
        _known("name", name, self.checkpoints)
        _checkpoints.read(self._database, self.id, name, file)

    # ----------------------------------------------------------------------------------- internals

    def _now(self, *columns):
        found = self._database.execute(
            f"SELECT {', '.join(columns)} FROM run WHERE id = ?", (self.id,)
        )
        if not found:
            raise StoreError(f"{self._store.path}: run {self.id} has been deleted")
        return found[0]

    def _told(self, text, kind=object):
        """Plain data from a column."""
        try:
            return _plain.from_text(text, kind)
        except ValueError:
            raise self._damaged("its description") from None

    def _damaged(self, what):
        return StoreError(f"{self._store.path}: is damaged: {what} of run {self.id} makes no sense")

    def _check_writable(self):
        self._database.check_writable()
        if not self._writable:
            raise StoreError(
                f"{self._store.path}: run {self.id} is {self.status}, or of another process: "
                "nothing can be added to it"
            )

    def _end(self, status, error, scores=None):
        self._database.execute(
            "UPDATE run SET status = ?, error = ?, scores = ?, ended = ? WHERE id = ?",
            (status, error, _plain.dumps("scores", scores or {}), time.time(), self.id),
        )
        self._writable = False

    def _series_of(self, name):
        """The number of a series of values, which is entered if it is new."""
        if name in self._series:
            return self._series[name]
        key = (self.id, name)
        found = self._database.execute("SELECT id FROM series WHERE run = ? AND name = ?", key)
        if not found:
            self._database.execute("INSERT INTO series (run, name) VALUES (?, ?)", key)
            found = self._database.execute("SELECT last_insert_rowid()")
        return found[0][0]

    def _values(self, series):
        found = self._database.execute(
            "SELECT step, value FROM metric WHERE series = ? ORDER BY step, entry", (series,)
        )
        try:
            steps = np.array([step for step, _ in found], np.int64)
            # SQLite has no NaN and keeps NULL in its place; nothing else is ever NULL here
            values = np.array([np.nan if v is None else v for _, v in found], np.float64)
        except (TypeError, ValueError, OverflowError):
            raise self._damaged("a metric") from None
        return steps, values

    def _all_layouts(self):
        found = self._database.execute(
            "SELECT id, name, dtype, channels, rate FROM signal WHERE run = ? ORDER BY id",
            (self.id,),
        )
        for number, name, dtype, channels, rate in found:
            if (
                not isinstance(name, str)
                or dtype not in _chunks.DTYPES
                or type(channels) not in (int, type(None))
                or type(rate) not in (float, type(None))
                or not 1 <= (channels or 1) <= _chunks.MOST_CHANNELS
            ):
                raise self._damaged(f"signal {number}")
        return {row[1]: _chunks.Layout(*row) for row in found}

    def _layout_for(self, name, block):
        """The layout of a signal that is appended to; of a new one, as its first block has it."""
        name = _plain.name("name", name)
        if name in self._layouts:
            return self._layouts[name]
        known = self._all_layouts()
        if name in known:  # declared, and an interrupt came before it was noted here
            layout = known[name]
            layout.end = layout.length(self._database)
            self._layouts[name] = layout
            return layout
        if not isinstance(block, np.ndarray) or block.ndim not in (1, 2):
            raise ValueError(
                f"block is {_validate.show(block)}; it must be an array of shape (n,) or "
                "(channels, n)"
            )
        channels = block.shape[0] if block.ndim == 2 else None
        return self._declare(name, block.dtype.newbyteorder("="), None, channels)

    def _declare(self, name, dtype, rate, channels):
        name = _plain.name("name", name)
        dtype = _dtype(dtype)
        if rate is not None:
            rate = _validate.real_number("rate", rate, above=0)
        if channels is not None:
            channels = _validate.integer(
                "channels", channels, minimum=1, maximum=_chunks.MOST_CHANNELS
            )
        with self._database.lock:
            self._check_writable()
            with self._database.transaction():
                if name in self._all_layouts():
                    raise ValueError(f"name is {name!r}; run {self.id} has such a signal already")
                self._database.execute(
                    "INSERT INTO signal (run, name, dtype, channels, rate) VALUES (?, ?, ?, ?, ?)",
                    (self.id, name, dtype, channels, rate),
                )
                number = self._database.execute("SELECT last_insert_rowid()")[0][0]
                if number > _schema.MOST_SIGNALS:
                    raise StoreError(
                        f"{self._store.path}: has had {_schema.MOST_SIGNALS} signals, which are "
                        "the most; begin another store"
                    )
            layout = self._layouts[name] = _chunks.Layout(number, name, dtype, channels, rate)
            return layout


def _number(name, value):
    """A real number as a float; NaN and infinity too."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (numbers.Real, np.floating, np.integer)
    ):
        raise ValueError(f"{name} is {_validate.show(value)}; it must be a real number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is {_validate.show(value)}; it is beyond float64") from None


def _known(argument, value, names):
    if value not in names if isinstance(value, str) else True:
        known = ", ".join(map(repr, names)) or "there is none"
        raise ValueError(f"{argument} is {_validate.show(value)}; it must be one of: {known}")


def _dtype(dtype):
    try:
        name = np.dtype(dtype).name if dtype is not None else None
    except TypeError:
        name = dtype
    if not isinstance(name, str) or name not in _chunks.DTYPES:
        allowed = ", ".join(_chunks.DTYPES)
        raise ValueError(f"dtype is {_validate.show(name)}; it must be one of {allowed}")
    return name


def _words(error):
    """An error as a text that can be kept."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return text.rstrip(": ").encode(errors="replace").decode()
