"""Recordings as text: one sample a line, one channel a column."""

import io
from typing import NamedTuple

import numpy as np

from ssm_manual import _files

#: Names of a column of a .csv file that holds the time in seconds and no signal.
TIME_COLUMNS = ("t", "time", "seconds", "t (s)", "time (s)", "t [s]", "time [s]")


class Table(NamedTuple):
    """A .csv file, and what it takes to write another one like it.

    Attributes
    ----------
    samples : ndarray
        ``(channels, length)``, float64.
    rate : float or None
        Samples per second, from the column of times.
    separator : str or None
        Between fields; None is any white space.
    header : str or None
        The line of names as it stands.
    time : int or None
        Which column holds the time.
    times : list of str
        Its fields as they stand; empty without one.
    """

    samples: np.ndarray
    rate: float | None
    separator: str | None = ","
    header: str | None = None
    time: int | None = None
    times: list = []  # noqa: RUF012  (never written to)


def parse(path):
    """The `Table` in a file; a `ValueError` names the file, the line and the reason."""
    try:
        with _files.reading(path) as binary, io.TextIOWrapper(binary, "utf-8-sig") as file:
            lines = [(number, line.strip()) for number, line in enumerate(file, 1)]
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not a text file") from None
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{path}: is empty")
    separator = next((s for s in ";\t," if s in lines[0][1]), None)
    header = None
    if not any(_is_number(field) for field in _fields(lines[0][1], separator)):
        header = lines.pop(0)[1]
    if not lines:
        raise ValueError(f"{path}: holds a line of names and no samples")
    width = len(_fields(lines[0][1], separator))
    time = _time_column(header, separator, width)
    for number, line in lines:  # before memory is asked for: the first line may be a long one
        found = len(_fields(line, separator))
        if found != width:
            raise ValueError(f"{path}: line {number} has {found} fields; the first has {width}")
    rows, times = np.empty((len(lines), width)), []
    for row, (number, line) in zip(rows, lines):
        fields = _fields(line, separator)
        for column, field in enumerate(fields):
            if not _is_number(field):
                field = _files.short(field)
                raise ValueError(f"{path}: line {number} holds {field}, which is not a number")
            row[column] = float(field)
        if time is not None:
            times.append(fields[time])
    if time is None:
        return Table(np.ascontiguousarray(rows.T), None, separator, header)
    samples = np.ascontiguousarray(np.delete(rows.T, time, axis=0))
    return Table(samples, _rate(path, rows[:, time]), separator, header, time, times)


def like(channels, rate, length):
    """A `Table` without samples: names of columns, and times if there is a rate."""
    names = [f"channel_{channel}" for channel in range(channels)]
    if rate is None:
        return Table(None, None, header=",".join(names))
    return Table(None, rate, header=",".join(["time", *names]), time=0, times=_Times(rate, length))


class _Times:
    """``i / rate``, made when asked for."""

    def __init__(self, rate, length):
        self.rate, self.length = rate, length

    def __getitem__(self, part):
        return [repr(i / self.rate) for i in range(*part.indices(self.length))]


def lines(table, start, block, single):
    """The text of ``block (channels, n)``, whose first sample has the number ``start``.

    As many digits as it takes to read the same number back, in single or double precision.
    """
    separator = table.separator or " "
    digits = "{:.9g}".format if single else repr
    columns = [map(digits, row.tolist()) for row in block]
    if table.time is not None:
        columns.insert(table.time, table.times[start : start + block.shape[1]])
    return "".join(separator.join(fields) + "\n" for fields in zip(*columns))


def _fields(line, separator):
    return [field.strip() for field in line.split(separator)]


def _is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field  # float("1_000") is Python's notation, not a file's


def _time_column(header, separator, width):
    """Which column the header calls the time; a lone column is the signal, whatever its name."""
    if header is None:
        return None
    names = [field.strip("\"'").lower() for field in _fields(header, separator)]
    if len(names) != width or width == 1:
        return None
    return next((i for i, name in enumerate(names) if name in TIME_COLUMNS), None)


def _rate(path, times):
    """Samples per second of equally spaced times, which may be rounded by less than half a step."""
    if len(times) < 2:
        return None  # one sample has no step
    if not np.isfinite(times).all():
        raise ValueError(f"{path}: its time column holds NaN or infinity")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        step = (times[-1] - times[0]) / (len(times) - 1)
        off = np.abs(times - times[0] - step * np.arange(len(times))).max()
        rate = 1 / step if step > 0 else np.inf
    if not (off < step / 2 and np.isfinite(rate)):
        raise ValueError(f"{path}: its time column is not equally spaced and increasing")
    return float(rate)
