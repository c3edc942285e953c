"""One connection to the file of a store: opened with care, shared by threads, closed to children.

Measured: 4096 bytes appended and committed, median in microseconds, on a busy machine (ext4, SQLite
3.40), where an unbuffered write to a flat file took 1.7 in a tight loop and 20 between two steps of
training:

* pages of 4096 bytes 9.2, of 8192 13.6, of 16384 10.5, of 32768 14.4, of 65536 22.4; between steps
  of training 50, 58, 65 and 73. A page is copied and summed whole for every row that it takes. Rows
  of 4096 bytes fill 89 % of small pages, 75 % of those of 16384.
* the statement that commits by itself; BEGIN IMMEDIATE, INSERT and COMMIT cost 1 to 2 more. Both
  lock and wait in the same way, since the statement begins with writing.
* `bytes`, which are bound as they are: an array is offered to adapters first, which costs 1.7 more,
  for 0.2 of a copy saved. One cursor for all: a new one for every call costs 0.2.
* a log that is written back every 1000 pages, SQLite's default. With 200 the median stays and the
  mean is three times as long; with 10,000 the log is a file of 40 MB, whose growth costs 1 more.
* cache, memory map and secure_delete change next to nothing here. A memory map would shorten reads
  from 12 to 8; but a file cut short by somebody else would then end the process.
* rows made beforehand and overwritten were not tried: they save one page of three, write everything
  twice, and need another page for where the signal ends.
"""

import contextlib
import os
import sqlite3
import stat
import threading
import time
import weakref
from pathlib import Path

from ssm_manual import _validate
from ssm_manual.store import _schema
from ssm_manual.store.errors import StoreError

#: Seconds that SQLite waits for a lock at a time: between two waits an interrupt is noticed.
_WAIT = 0.25

_OTHER = "is a database of another application, not a store of runs"

#: Bytes of the smallest page: SQLite takes what is much shorter for an empty file.
_SMALLEST = 512

_OPEN = weakref.WeakSet()

#: Guards the set above, and lets one thread fork at a time.
_FORKING = threading.RLock()


class Database:
    """A connection, its lock, and errors in words.

    Parameters
    ----------
    path : str
    create : bool
        Whether a file is made where there is none.
    readonly, durable : bool
    timeout : float
        Seconds to wait for another process.
    """

    def __init__(self, path, *, create, readonly, durable, timeout):
        self.path, self.readonly, self.timeout = path, readonly, timeout
        # reentrant: a signal handler may fork while this thread is inside
        self.lock = threading.RLock()
        self.usable = False
        self._level = 0  # of transactions within transactions
        self._why = "is closed"
        _check_place(path, create=create and not readonly)
        new = not os.path.exists(path) or os.path.getsize(path) == 0
        if not new:
            self._look()
        elif readonly:
            raise StoreError(f"{path}: is empty, not a store of runs")
        try:
            self._connect(new, durable)
        except BaseException:
            self.close()
            raise
        with _FORKING:
            _OPEN.add(self)

    # ------------------------------------------------------------------------------------- opening

    def _look(self):
        """Refuse a file that is not ours without changing a byte of it, or of what lies beside it.

        ``immutable`` reads the file alone and takes no lock. Through SQLite and not by `open`:
        closing any descriptor of a file drops all locks that the process has on it.
        """
        if os.path.getsize(self.path) < _SMALLEST:
            raise StoreError(f"{self.path}: is not a store of runs")
        uri = _uri(self.path, "mode=ro&immutable=1")
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as probe:
                ours = self._check_header(probe)
        except sqlite3.DatabaseError as error:
            if "malformed" in str(error):
                return  # the rest may stand in the log beside it: opening it will tell
            raise self._error(error) from None
        # ours has its tables in the file before it ever has a log
        if not ours and self.size() > os.path.getsize(self.path):
            raise StoreError(f"{self.path}: {_OTHER}")

    def _check_header(self, connection):
        """Whether there are tables of ours; `StoreError` if there is something else."""
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if found == _schema.APPLICATION_ID:
            if version != _schema.VERSION:
                raise StoreError(
                    f"{self.path}: is a store of version {version}; this version of ssm_manual "
                    f"reads {_schema.VERSION}: update it"
                )
            return True
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if found or version or tables:
            raise StoreError(f"{self.path}: {_OTHER}")
        return False

    def _connect(self, new, durable):
        mode = "mode=ro" if self.readonly else "mode=rwc" if new else "mode=rw"
        if self.readonly and not self._could_share():
            if self.size() > os.path.getsize(self.path):
                raise StoreError(
                    f"{self.path}: its last writer has left a log beside it, which cannot be read "
                    "in a folder that is read-only: copy both to another one"
                )
            mode += "&immutable=1"
        try:
            self._connection = sqlite3.connect(
                _uri(self.path, mode),
                uri=True,
                timeout=min(_WAIT, self.timeout),
                isolation_level=None,  # no statement begins a transaction unasked
                check_same_thread=False,  # `lock` sees to that
            )
            self._cursor = self._connection.cursor()
            self.usable = True
            # what a stranger's file may ask for: nothing beyond its tables, and cells within pages
            self.execute("PRAGMA trusted_schema = OFF")
            self.execute("PRAGMA cell_size_check = ON")
            if not self.readonly:
                # FULL: a commit waits for the disk. NORMAL: only the log's way back into the file.
                self.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self.execute("PRAGMA page_size = 4096")  # heeded by an empty file alone
                self._create()
                if self.execute("PRAGMA journal_mode = WAL") != [("wal",)]:
                    raise StoreError(
                        f"{self.path}: cannot be shared there: a write-ahead log needs a local disk"
                    )
            if not self._check_header(self._connection):
                raise StoreError(f"{self.path}: is empty, not a store of runs")
            self._check_tables()
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _check_tables(self):
        """Our tables, no view in place of one, and nothing that acts by itself."""
        found = self.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")
        found = {str(sql).strip() for (sql,) in found}
        missing = {table.strip() for table in _schema.TABLES} - found
        acting = self.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        if missing or acting:
            raise StoreError(f"{self.path}: is damaged: its tables are not those of a store")

    def _could_share(self):
        """Whether readers can join in; else nobody can be writing, for the same reason."""
        folder = os.path.dirname(os.path.realpath(self.path))
        return os.access(folder, os.W_OK) or os.path.exists(self.path + "-shm")

    def _create(self):
        """Tables and header in one transaction, unless they are there."""
        if self._check_header(self._connection):
            return
        with self.transaction():
            if self._check_header(self._connection):  # another process was faster
                return
            for table in _schema.TABLES:
                self.execute(table)
            self.execute(f"PRAGMA application_id = {_schema.APPLICATION_ID}")
            self.execute(f"PRAGMA user_version = {_schema.VERSION}")

    # ------------------------------------------------------------------------------------- at work

    def execute(self, sql, values=()):
        """All rows of one statement, which commits by itself unless a transaction is open."""
        with self.lock:
            if not self.usable:
                raise StoreError(f"{self.path}: {self._why}")
            try:
                # all rows: an open statement would hold on to an old state of the file
                self._check_level()
                return self._cursor.execute(sql, values).fetchall()
            except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
                if not _is_busy(error):
                    raise self._error(error) from None
            return self._again(sql, values)

    def insert(self, sql, values):
        """A statement without rows, by the holder of the lock, who knows that it is usable.

        It lets through SQLite's `IntegrityError`: there is such a row already.
        """
        self._check_level()
        try:
            self._cursor.execute(sql, values)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            if not _is_busy(error):
                raise self._error(error) from None
            self._again(sql, values)

    def _again(self, sql, values):
        """What another process kept from happening, until it happens or time is up."""
        until = time.monotonic() + self.timeout - _WAIT
        while True:
            time.sleep(0.001)  # not every refusal has waited for the lock
            try:
                return self._cursor.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                if not _is_busy(error) or time.monotonic() > until:
                    raise self._error(error) from None

    @contextlib.contextmanager
    def transaction(self):
        """All that is written within is written, or none of it; also within another transaction."""
        with self.lock:
            level = self._level
            try:
                # within: an interrupt may come when it has just begun
                self.execute(f"SAVEPOINT level{level}" if level else "BEGIN IMMEDIATE")
                self._level = level + 1
                yield
                self.execute(f"RELEASE level{level}" if level else "COMMIT")
            except BaseException:
                if self.usable and self._connection.in_transaction:
                    if not level:
                        self._connection.rollback()
                    else:
                        with contextlib.suppress(sqlite3.OperationalError):  # it never began
                            self._connection.execute(f"ROLLBACK TO level{level}")
                            self._connection.execute(f"RELEASE level{level}")
                raise
            finally:
                self._level = level

    def _check_level(self):
        """After a full disk SQLite undoes all levels: what is left of them must not be written."""
        if self._level and not self._connection.in_transaction:
            raise StoreError(f"{self.path}: an earlier error has undone all of this transaction")

    @contextlib.contextmanager
    def snapshot(self):
        """All that is read within is of one moment."""
        with self.lock:
            if self._level:
                yield
                return
            try:
                self.execute("BEGIN")
                yield
            finally:
                if self.usable and self._connection.in_transaction:
                    self._connection.rollback()

    def size(self):
        """Bytes of the file and its log."""
        found = 0
        for path in (self.path, self.path + "-wal"):
            with contextlib.suppress(OSError):
                found += os.stat(path).st_size
        return found

    def check_writable(self):
        """Raise `StoreError` if nothing can be written."""
        if not self.usable:
            raise StoreError(f"{self.path}: {self._why}")
        if self.readonly:
            raise StoreError(f"{self.path}: is open for reading alone")

    def close(self):
        """Close the connection; a second time does nothing."""
        with self.lock:
            if self.usable:
                self.usable = False
                self._connection.close()

    def _error(self, error):
        """An error of SQLite as one of ours."""
        text = str(error)
        if isinstance(error, UnicodeDecodeError) or "decode" in text:
            text = "is damaged: it holds a text that is none"
        elif _is_busy(error):
            text = f"is locked by another process, for more than {self.timeout:g} s"
        elif isinstance(error, sqlite3.IntegrityError):
            text = "is damaged: there is a row where none should be"
        elif "not a database" in text:
            text = "is not a store of runs"
        elif "malformed" in text:
            text = "is damaged or truncated"
        elif "readonly" in text:
            text = "cannot be written to: the file or its folder is read-only"
        elif "unable to open" in text:
            text = "cannot be opened: look at the permissions of the file and its folder"
        elif "full" in text:
            text = "cannot be written to: the disk is full"
        return StoreError(f"{self.path}: {text}")

    # --------------------------------------------------------------------------------------- forks

    def _forked(self):
        """In a child, the connection is somebody else's: neither used nor closed, ever.

        Closing it would drop locks and might write back the parent's log, so that the reference is
        never given up, not even when the interpreter ends.
        """
        if self.usable:
            self.usable = False
            self._why = "was opened before a fork; open it anew in this process"
            _keep_for_ever(self._connection)


def _is_busy(error):
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _uri(path, options):
    return f"{Path(os.path.abspath(path)).as_uri()}?{options}"


def _check_place(path, *, create):
    """Raise unless a store can be, or already is, at ``path``."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        if not create:
            raise StoreError(f"{path}: there is no such store") from None
        folder = os.path.dirname(os.path.realpath(path))
        if not os.path.isdir(folder):
            raise StoreError(f"{path}: there is no folder {folder!r}") from None
        return
    except OSError as error:  # a name too long
        why = f"path is {_validate.show(path)}; it cannot be a store: {error.strerror}"
        raise StoreError(why) from None
    if stat.S_ISDIR(kind):
        raise StoreError(f"{path}: is a folder; it must be a file")
    if not stat.S_ISREG(kind):
        raise StoreError(f"{path}: is a device or a pipe; it must be a file")


def _keep_for_ever(value):
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def _before_fork():
    """No thread is inside SQLite while the process is copied: its own locks would stay locked."""
    _FORKING.acquire()
    _HELD.extend(_OPEN)
    for database in _HELD:
        database.lock.acquire()


def _after_fork(child):
    for database in _HELD:
        if child:
            database._forked()
        database.lock.release()
    _HELD.clear()
    _FORKING.release()


#: Databases whose locks the thread that is forking holds.
_HELD = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(False),
        after_in_child=lambda: _after_fork(True),
    )
