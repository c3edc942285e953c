"""Tables for linear regression: a published example, and a user's own .csv file."""

import collections
import csv
import difflib
import io
import itertools
import unicodedata
from typing import NamedTuple

import numpy as np

from ssm_manual import _files

__all__ = ["FISH", "Table", "read_csv"]


#: Columns that a message names.
MOST_NAMED = 5


class Table(NamedTuple):
    """Features and a target with their names.

    Attributes
    ----------
    name : str
        What it is.
    features : tuple of str
        Names of X's columns.
    target : str
        Name of y.
    X : ndarray
        (n, F).
    y : ndarray
        (n,).
    """

    name: str
    features: tuple
    target: str
    X: np.ndarray
    y: np.ndarray

    def astype(self, dtype):
        """The same table in another precision.

        Parameters
        ----------
        dtype : dtype_like
            float32 or float64.

        Returns
        -------
        Table

        Raises
        ------
        ValueError
            If a value lies beyond the range of the precision; the message names its column.
        """
        largest = np.finfo(dtype).max
        for name, column in (*zip(self.features, self.X.T), (self.target, self.y)):
            if np.max(np.abs(column)) > largest:
                raise ValueError(
                    f"{self.name}: column {name!r} holds a value beyond {np.dtype(dtype)}; "
                    "choose float64 or another unit"
                )
        return self._replace(X=self.X.astype(dtype), y=self.y.astype(dtype))


def _fish():
    X = np.array([[10.5, 3.2], [20.0, 5.5], [15.2, 4.0]], np.float32)
    half, fifth = np.float32(0.5), np.float32(0.2)
    y = half * X[:, 0] + fifth * X[:, 1]
    return Table("fish", ("length", "width"), "weight", X, y)


#: The published example: three fish, weight = 0.5 length + 0.2 width, in float32.
FISH = _fish()


def read_csv(path, target, features=None):
    """Columns of a .csv file by the names in its first line.

    Comma, semicolon or tab between the cells, quotes as usual, UTF-8. Every chosen cell must be a
    finite number; nothing is guessed, filled in or left out.

    Parameters
    ----------
    path : path-like
        The file.
    target : str
        Name of the column to predict.
    features : sequence of str, optional
        Names of the columns to predict it from; None takes all others.

    Returns
    -------
    Table
        In float64.

    Raises
    ------
    ValueError
        If the file is not such a table; the message names line and column.
    OSError
        If it cannot be read.
    """
    name = str(path)
    try:
        with (
            _files.reading(path) as binary,
            io.TextIOWrapper(binary, "utf-8-sig", newline="") as file,
        ):
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            lines = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not a text in UTF-8: {error.reason}") from None
    except csv.Error as error:
        raise ValueError(f"{name}: line {reader.line_num}: {error}") from None
    if not lines:
        raise ValueError(f"{name} is empty; it must have a line of names and a line for each row")
    header = [cell.strip() for cell in lines[0][1]]
    _check_header(name, header, lines)
    chosen = _choose(name, header, target, features)
    places = {column: place for place, column in enumerate(header)}
    values = {column: [] for column in chosen}
    wrong = {}
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise ValueError(
                f"{name}: line {number} has {len(row)} cells, the line of names has {len(header)}"
            )
        for column in chosen:
            cell = row[places[column]].strip()
            try:
                value = float(cell.replace("_", "?"))  # 1_000 is Python's notation
            except ValueError:
                value = np.nan
            if not np.isfinite(value):
                wrong.setdefault(column, (number, cell))
            values[column].append(value)
    if wrong:
        found = [
            f"column {_files.short(column)} holds {_files.short(cell)} at line {number}"
            for column, (number, cell) in itertools.islice(wrong.items(), MOST_NAMED)
        ]
        if len(wrong) > len(found):
            found.append(f"{len(wrong) - len(found)} more columns like these")
        raise ValueError(f"{name}: {'; '.join(found)}; every chosen cell must be a finite number")
    features = tuple(column for column in chosen if column != target)
    X = np.column_stack([values[column] for column in features])
    return Table(name, features, target, X, np.array(values[target]))


def _check_header(name, header, lines):
    """A first line of distinct names, and a row below it."""

    def is_number(cell):
        try:
            float(cell)
        except ValueError:
            return False
        return True

    if all(map(is_number, header)):
        raise ValueError(f"{name}: the first line holds numbers; it must hold the columns' names")
    times = collections.Counter(header)
    for cell in header:
        if not cell or times[cell] > 1:
            raise ValueError(
                f"{name}: the column name {_files.short(cell)} is "
                f"{'given twice' if cell else 'empty'}; names must be distinct and not empty"
            )
        if any(unicodedata.category(c) == "Cc" for c in cell):  # a terminal would obey it
            raise ValueError(
                f"{name}: the column name {_files.short(cell)} holds a control character; names "
                "must be plain text"
            )
    if len(lines) < 2:
        raise ValueError(f"{name} has a line of names but no row below it")


def _choose(name, header, target, features):
    """Names of the columns to read, the target last."""
    if features is None:
        features = [column for column in header if column != target]
    known = set(header)
    for column in (*features, target):
        if column not in known:
            near = difflib.get_close_matches(column, header[:1000], n=1)
            hint = f" (did you mean {_files.short(near[0])}?)" if near else ""
            raise ValueError(
                f"{name} has no column {_files.short(column)}{hint}; it has {_files.listed(header)}"
            )
    if target in features:
        raise ValueError(f"the target {target!r} is among the features; it must not be")
    if len(set(features)) < len(features):
        raise ValueError(f"features is {list(features)}; each name must be given once")
    if not features:
        raise ValueError(f"{name} has no column but the target {target!r}")
    return [*features, target]
