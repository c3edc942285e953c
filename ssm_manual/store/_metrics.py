"""Numbers by step, as a run logs them and as they are read."""

import itertools

import numpy as np

from ssm_manual import _validate
from ssm_manual.store import _plain


class Metrics:
    """Of one run, which hands on its calls."""

    def __init__(self, run):
        self._run, self._series, self._entries = run, {}, itertools.count()

    def forget(self):
        """What was known of the file may be so no longer."""
        self._series = {}

    def log(self, step, values):
        """See `Run.log`."""
        step = _validate.integer("step", step, minimum=0, maximum=2**63 - 1)
        floats = _plain.numbers("values", values)
        database = self._run.database
        with database.lock:
            self._run.check_writable()
            entry = next(self._entries)
            with database.transaction():
                self._run._check_present()
                rows = [(self._series_of(key), step, entry, v) for key, v in floats.items()]
                for row in rows:
                    database.execute("INSERT INTO metric VALUES (?, ?, ?, ?)", row)
            for key, row in zip(floats, rows):
                self._series[key] = row[0]

    def read(self, name):
        """See `Run.metrics`."""
        series = dict(
            self._run.database.execute(
                "SELECT name, id FROM series WHERE run = ? ORDER BY id", (self._run.id,)
            )
        )
        if not all(type(key) is str for key in series):
            raise self._run._damaged("a metric")
        if name is None:
            return {key: self._values(number) for key, number in series.items()}
        _plain.known("name", name, series)
        return self._values(series[name])

    def _series_of(self, name):
        """The number of a series of values, which is entered if it is new."""
        if name in self._series:
            return self._series[name]
        key = (self._run.id, name)
        found = self._run.database.execute("SELECT id FROM series WHERE run = ? AND name = ?", key)
        if not found:
            self._run.database.execute("INSERT INTO series (run, name) VALUES (?, ?)", key)
            found = self._run.database.execute("SELECT last_insert_rowid()")
        return found[0][0]

    def _values(self, series):
        found = self._run.database.execute(
            "SELECT step, value FROM metric WHERE series = ? ORDER BY step, entry", (series,)
        )
        if not found:  # a name is entered with its first value
            raise self._run._damaged("a metric")
        try:
            steps = np.array([step for step, _ in found], np.int64)
            # SQLite has no NaN and keeps NULL in its place; nothing else is ever NULL here
            values = np.array([np.nan if v is None else v for _, v in found], np.float64)
        except (TypeError, ValueError, OverflowError):
            raise self._run._damaged("a metric") from None
        return steps, values
