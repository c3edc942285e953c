"""One run of a store: what it was told, what it has measured, what has come out of it."""

import contextlib
import time

from ssm_manual.store import _checkpoints, _owner, _plain
from ssm_manual.store._chunks import Signal
from ssm_manual.store._metrics import Metrics
from ssm_manual.store._signals import Signals
from ssm_manual.store.errors import StoreError

__all__ = ["STATUSES", "Run", "Signal"]

#: What a run can be. "interrupted": its process ended, or let go of it, without saying how it went.
STATUSES = ("running", "finished", "failed", "interrupted")

_RUN = "SELECT name, config, seed, tags, versions, started FROM run WHERE id = ?"


class Run:
    """A run in a `Store`, made by `Store.start`, `Store.run` and `Store.runs`.

    What `Store.start` returns can be written to, by its process alone, until it is finished. All
    others read. A run is a context manager: at the end of the block it is finished; an exception
    makes it failed, with what the exception says, and an interrupt (Ctrl-C) interrupted.

    Parameters
    ----------
    store : Store
    number : int
        Its ``id``.
    writable : bool
        Whether it can be written to; `Store.start` alone says so.

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
        self._store, self.database, self.id = store, store._database, number
        found = self.database.execute(_RUN, (number,))
        if not found:
            raise StoreError(f"{store.path}: there is no run {number}")
        self.name, config, seed, tags, versions, self.started = found[0]
        self.config, self.versions = self._told(config, dict), self._told(versions, dict)
        self.seed, self.tags = self._told(seed), self._told(tags, list)
        if not _plain.sound(self.name, self.started, self.tags):
            raise self._damaged("its description")
        self.writable = writable
        self._signals, self._metrics = Signals(self), Metrics(self)

    def __repr__(self):
        return f"<Run {self.id} {self.name!r}, {self.status}, in {self.database.path}>"

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
        self._metrics.log(step, values)

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
        self._signals.declare(name, dtype, rate, channels)

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
        return self._signals.append(name, block)

    @contextlib.contextmanager
    def together(self):
        """What is written in the block is written at once, at its end: many small things, fast.

        What `log` and `append` acknowledge within, of this run and of others of the same `Store`,
        counts from the end of the block. If it raises, nothing of it has been written. Other
        threads, and other processes that write, wait.
        """
        self.check_writable()
        with self._store._together():
            yield

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
        self.check_writable()
        with self.database.lock:
            self._check_present()
            _checkpoints.save(self.database, self.id, name, model, metadata)

    def finish(self, /, **scores):
        """The run has ended well.

        Parameters
        ----------
        **scores : float
            What came out of it; NaN and infinity are kept.
        """
        floats = _plain.numbers("scores", scores)
        self.check_writable()
        self._end("finished", "", floats)

    def fail(self, error):
        """The run has ended badly.

        Parameters
        ----------
        error : Exception or str
            What went wrong.
        """
        self.check_writable()
        self._end("failed", _plain.words(error))

    def interrupt(self, reason="interrupted"):
        """The run was broken off.

        Parameters
        ----------
        reason : str
        """
        self.check_writable()
        self._end("interrupted", _plain.words(reason))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not self.writable or not self.database.usable:  # ended already; or in a forked child
            return
        if error is None:
            self._end("finished", "")
        elif isinstance(error, Exception):
            self._end("failed", _plain.words(error))
        else:  # KeyboardInterrupt, SystemExit
            self._end("interrupted", _plain.words(error))

    # ------------------------------------------------------------------------------------- reading

    @property
    def status(self):
        """One of `STATUSES`, as it is now."""
        status, owner = self._now("status", "owner")
        if status not in STATUSES:
            raise self._damaged("its status")
        if status == "running" and not _owner.alive(self._told(owner, dict)):
            return "interrupted"  # not written down yet, or where nothing can be written
        return status

    @property
    def error(self):
        """What went wrong, in words; empty if nothing did, or if nobody was there to say it."""
        return str(self._now("error")[0])

    @property
    def scores(self):
        """What `finish` was given."""
        return _plain.scores(self._told(self._now("scores")[0], dict), self._damaged)

    @property
    def ended(self):
        """Seconds since 1970; None: it is running, or it was killed and nobody knows when."""
        return _plain.ended(self._now("ended")[0], self._damaged)

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
        return self._metrics.read(name)

    @property
    def signals(self):
        """All signals by name, a dict of `Signal`."""
        return self._signals.described()

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
        return self._signals.read(name, start, stop)

    @property
    def checkpoints(self):
        """Names of the models that are kept, in order."""
        return _checkpoints.names(self.database, self.id)

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
        _plain.known("name", name, self.checkpoints)
        return _checkpoints.load(self.database, self.id, name, expected)

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
            If there is no such checkpoint, or ``file`` is none.
        """
        _plain.known("name", name, self.checkpoints)
        _checkpoints.read(self.database, self.id, name, file)

    def _forget(self, writable):
        """What was known of the file may be so no longer: a transaction was undone."""
        self._signals.forget()
        self._metrics.forget()
        self.writable = writable

    def _now(self, *columns):
        sql = f"SELECT {', '.join(columns)} FROM run WHERE id = ?"
        found = self.database.execute(sql, (self.id,))
        if not found:
            raise StoreError(f"{self.database.path}: run {self.id} has been deleted")
        return found[0]

    def _elsewhere(self):
        """Whether the process that writes it cannot be seen from here."""
        return _owner.elsewhere(self._told(self._now("owner")[0], dict), self._store._me)

    def _told(self, text, kind=object):
        """Plain data from a column."""
        try:
            return _plain.from_text(text, kind)
        except ValueError:
            raise self._damaged("its description") from None

    def _damaged(self, what):
        where = self.database.path
        return StoreError(f"{where}: is damaged: {what} of run {self.id} makes no sense")

    def check_writable(self):
        """Raise `StoreError` unless something could be added to the run now."""
        self.database.check_writable()
        if not self.writable:
            raise StoreError(
                f"{self.database.path}: run {self.id} is {self.status}, or of another process: "
                "nothing can be added to it"
            )

    def _check_present(self):
        """Raise `StoreError` if the run has been deleted."""
        self._now("id")

    def _end(self, status, error, scores=None):
        self.database.execute(
            "UPDATE run SET status = ?, error = ?, scores = ?, ended = ? WHERE id = ?",
            (status, error, _plain.dumps("scores", scores or {}), time.time(), self.id),
        )
        self.writable = False
        self._check_present()
