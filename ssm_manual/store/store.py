"""The file that holds runs."""

import contextlib
import os
import platform
import time

from ssm_manual import _validate
from ssm_manual._version import __version__
from ssm_manual.store import _checkpoints, _export, _owner, _plain, _schema
from ssm_manual.store._database import Database
from ssm_manual.store.errors import StoreError
from ssm_manual.store.run import STATUSES, Run

__all__ = ["Store"]

#: Whose versions are kept with a run, where they are installed.
LIBRARIES = ("numpy", "numba", "scipy")


class Store:
    """Runs in one file: what they were told, what they measured, what came out of them.

    An SQLite database, without a server. Any number of processes read and write it at once; each
    run is written by the process that started it. Threads may share a `Store`; a forked child opens
    its own.

    Parameters
    ----------
    path : path_like
        The file, on a local disk; by custom its name ends in ``.db``. While it is in use two files
        stand beside it, ``-wal`` and ``-shm``, which belong to it.
    create : bool
        Whether a file is made where there is none, or an empty one.
    readonly : bool
        True: nothing is written, and nothing need be writable.
    durable : bool
        False: what is acknowledged outlives the process, however that ends; when the power goes, or
        the system itself stops, the last seconds may be lost, and the file stays sound. True: every
        write waits for the disk, and outlives that too.
    timeout : float
        Seconds to wait for another process that is writing.

    Raises
    ------
    StoreError
        If the file is not a store, of a later version, damaged, or cannot be opened. It is left as
        it was.

    Attributes
    ----------
    path : str

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder, Store(os.path.join(folder, "a.db")) as store:
    ...     with store.start("denoise", {"poles": 4}, seed=0) as run:
    ...         run.log(0, loss=0.5)
    ...         length = run.append("restored", np.zeros(1024, np.float32))
    ...         run.finish(snr=12.5)
    ...     print(run.status, run.read("restored", 1000, 1010).shape)
    finished (10,)
    """

    def __init__(self, path, *, create=True, readonly=False, durable=False, timeout=60.0):
        try:
            self.path = os.fspath(path)
        except TypeError:
            raise ValueError(f"path is {_validate.show(path)}; it must be a path") from None
        if not _is_name(self.path):
            raise StoreError(f"path is {_validate.show(path)}; it must be the name of a file")
        self._database = Database(
            self.path,
            create=_validate.flag("create", create),
            readonly=_validate.flag("readonly", readonly),
            durable=_validate.flag("durable", durable),
            timeout=_validate.real_number("timeout", timeout, minimum=0),
        )
        self._me = _owner.myself()
        self._started = []
        try:
            self._mark_interrupted()
        except BaseException:
            self._database.close()
            raise

    def __repr__(self):
        return f"Store({self.path!r})"

    def __getstate__(self):
        raise TypeError("a Store cannot be pickled: open it by its path in the other process")

    def start(self, name, config=None, *, seed=None, tags=(), versions=None):
        """Begin a run.

        Parameters
        ----------
        name : str
            What it is a run of, such as a command and its task.
        config : dict, optional
            All that it was told, as plain data; NumPy's numbers and arrays, and paths, will do.
        seed : int or list of int, optional
            Of its random numbers.
        tags : sequence of str
            To find it by.
        versions : dict of str, optional
            Beside those of Python, this package, NumPy, Numba and SciPy, which are kept anyway.

        Returns
        -------
        Run
            To be written to.

        Raises
        ------
        ValueError
            If an argument does not fit; the configuration must fit into JSON.
        StoreError
            If the file cannot be written.
        """
        for argument, value in (("config", config), ("versions", versions)):
            if not isinstance(value, (dict, type(None))):
                raise ValueError(f"{argument} is {_validate.show(value)}; it must be a dict")
        row = (
            _plain.name("name", name),
            _plain.dumps("config", config or {}),
            _plain.dumps("seed", _plain.seed(seed)),
            _plain.dumps("tags", _plain.tags(tags)),
            _plain.dumps("versions", _versions() | _plain.texts("versions", versions)),
            _plain.dumps("owner", self._me),
            time.time(),
        )
        self._database.check_writable()
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO run (name, config, seed, tags, versions, owner, status, error, scores,"
                " started) VALUES (?, ?, ?, ?, ?, ?, 'running', '', '{}', ?)",
                row,
            )
            number = self._database.execute("SELECT last_insert_rowid()")[0][0]
        run = Run(self, number, writable=True)
        self._started.append(run)
        return run

    def run(self, number):
        """A run by its number, to be read.

        Parameters
        ----------
        number : int

        Returns
        -------
        Run

        Raises
        ------
        StoreError
            If there is none.
        """
        return Run(self, _validate.integer("number", number, minimum=1, maximum=2**63 - 1))

    def runs(self, *, name=None, status=None, tag=None, since=None):
        """Runs in the order in which they began, to be read.

        Parameters
        ----------
        name : str, optional
            Those of this name.
        status : str, optional
            Those that are "running", "finished", "failed" or "interrupted".
        tag : str, optional
            Those that have it.
        since : float, optional
            Those that began then or later, in seconds since 1970.

        Returns
        -------
        list of Run

        Raises
        ------
        ValueError
            If an argument does not fit.
        """
        if status is not None:
            _validate.one_of("status", status, STATUSES)
        if since is not None:
            since = _validate.real_number("since", since)
        self._mark_interrupted()
        name = None if name is None else _plain.name("name", name)
        tag = None if tag is None else _plain.name("tag", tag)
        found = self._database.execute(
            "SELECT id FROM run WHERE (? IS NULL OR name = ?) AND (? IS NULL OR started >= ?)"
            " ORDER BY id",
            (name, name, since, since),
        )
        runs = [Run(self, number) for (number,) in found]
        return [
            run
            for run in runs
            if (tag is None or tag in run.tags) and (status is None or run.status == status)
        ]

    def export(self, run, folder):
        """Write a run as files that need no store.

        ``config.json`` (all about the run, and which file is what), ``metrics.csv`` (name, step,
        value), each signal as ``.npy`` of shape ``(n,)`` or ``(channels, n)``, and as ``.wav`` too
        where it has a whole rate and a type that such a file can hold; each checkpoint as
        ``.safetensors``. Names of files are made safe, and no two are the same.

        Parameters
        ----------
        run : Run or int
        folder : path_like
            A new one. It is there whole, or not at all.

        Raises
        ------
        ValueError
            If the folder is there already, or its parent is not.
        OSError
            If it cannot be written.
        """
        _export.export(self._mine(run), folder)

    def delete(self, *runs, force=False):
        """Forget runs: all that belongs to them is deleted, or nothing is.

        The file does not get shorter; what comes next takes the room.

        Parameters
        ----------
        *runs : Run or int
        force : bool
            Whether to delete also a run that is marked as running in a process that cannot be seen
            from here: of another machine that the file was copied from, or another container. That
            nobody is writing it any more is then for the caller to know: what it appended would be
            acknowledged and lost.

        Raises
        ------
        ValueError
            If a run is of another store.
        StoreError
            If one is running or there is none of its number, or the file cannot be written.
        """
        runs = [self._mine(run) for run in runs]
        force = _validate.flag("force", force)
        self._database.check_writable()
        with self._database.transaction():
            for run in runs:
                if run.status == "running" and not (force and run._elsewhere()):
                    unseen = ", in a process that cannot be seen from here: only force deletes it"
                    why = unseen if run._elsewhere() else ": it cannot be deleted"
                    raise StoreError(f"{self.path}: run {run.id} is running{why}")
            for run in {run.id: run for run in runs}.values():
                self._delete(run.id)

    def _delete(self, number):
        database = self._database
        for (signal,) in database.execute("SELECT id FROM signal WHERE run = ?", (number,)):
            first = signal << _schema.POSITION_BITS
            last = first + _schema.LONGEST - 1
            database.execute("DELETE FROM chunk WHERE id BETWEEN ? AND ?", (first, last))
        for (checkpoint,) in database.execute("SELECT id FROM checkpoint WHERE run = ?", (number,)):
            _checkpoints.remove(database, checkpoint)
        database.execute(
            "DELETE FROM metric WHERE series IN (SELECT id FROM series WHERE run = ?)", (number,)
        )
        for table, column in (("signal", "run"), ("series", "run"), ("run", "id")):
            database.execute(f"DELETE FROM {table} WHERE {column} = ?", (number,))

    def close(self):
        """Let go of the file; runs that were started here and not ended are interrupted."""
        self._close("the store was closed before the run had ended")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            for run in self._started:
                if error is not None:
                    run.__exit__(kind, error, trace)
        finally:
            self.close()

    # ----------------------------------------------------------------------------------- internals

    def _close(self, reason):
        if not self._database.usable:
            return
        try:
            for run in self._started:
                if run.writable:
                    run.interrupt(reason)
        finally:
            self._database.close()

    @contextlib.contextmanager
    def _together(self):
        """See `Run.together`: afterwards no run believes in what has been undone."""
        with self._database.lock:
            writable = [run for run in self._started if run.writable]
            try:
                with self._database.transaction():
                    yield
            except BaseException:
                for run in self._started:
                    run._forget(run in writable)
                raise

    def _mine(self, run):
        if isinstance(run, Run):
            if run._store is not self:
                raise ValueError(f"run is {run!r}; it must be of this store, {self.path}")
            return run
        return self.run(run)

    def _mark_interrupted(self):
        """Write down which runs have lost their process, where that is certain."""
        if self._database.readonly:
            return  # `Run.status` tells
        running = self._database.execute("SELECT id, owner FROM run WHERE status = 'running'")
        for number, text in running:
            try:
                owner = _plain.from_text(text, dict)
            except ValueError:  # damaged: `Run` tells
                continue
            if not _owner.alive(owner, self._me):
                self._database.execute(
                    "UPDATE run SET status = 'interrupted', error = ? "
                    "WHERE id = ? AND status = 'running'",
                    (f"process {owner.get('pid')} ended without a word", number),
                )


def _is_name(path):
    """Whether the system could have a file of this name."""
    try:
        return isinstance(path, str) and b"\0" not in os.fsencode(path) and path != ""
    except UnicodeEncodeError:
        return False


def _versions():
    import importlib.metadata

    found = {"ssm_manual": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"platform": platform.platform()}
