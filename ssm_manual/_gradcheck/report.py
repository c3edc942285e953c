"""What a check returns: rows, and a table that is true if and only if every row passes."""

from typing import NamedTuple

PASS = "pass"


class ArgumentCheck(NamedTuple):
    """The verdict on one argument; of several directions the worst.

    ``error`` is ``|numeric - analytic| / max(|numeric|, |analytic|)`` [CHECK-6]; ``numeric`` and
    ``analytic`` are the two values of ``<g, J d>``; ``step`` is the relative step of the
    difference, None where there was none; ``verdict`` is ``"pass"`` or says what is wrong.
    """

    argument: str
    shape: tuple[int, ...]
    dtype: str
    error: float
    step: float | None
    verdict: str
    numeric: float | None
    analytic: float | None

    @property
    def passed(self):
        """Whether the verdict is ``"pass"``."""
        return self.verdict == PASS


class RegistryCheck(NamedTuple):
    """One check of one registered op.

    ``against`` is ``"differences"``, ``"adjoint"`` or ``"reference"``; ``example`` is the example's
    note. The other fields are those of `ArgumentCheck`.
    """

    op: str
    argument: str
    shape: tuple[int, ...]
    dtype: str
    against: str
    error: float
    tolerance: float
    verdict: str
    example: str
    cotangent: str | None
    step: float | None
    numeric: float | None
    analytic: float | None

    @property
    def passed(self):
        """Whether the verdict is ``"pass"``."""
        return self.verdict == PASS


class Report(tuple):
    """Rows of a check; true if and only if all of them pass, a readable table when printed.

    ``assert check_vjp(...)`` is therefore a whole test. The first line of the text says what failed
    and where, because pytest shortens long texts.
    """

    __slots__ = ()
    columns = ("argument", "shape", "dtype", "error", "step", "numeric", "analytic", "verdict")

    def __bool__(self):
        return all(row.passed for row in self)

    @property
    def failures(self):
        """The rows that do not pass."""
        return tuple(row for row in self if not row.passed)

    @property
    def headline(self):
        """One line: how many rows pass, and the first that does not."""
        if not self:
            first = self.failures[0]
            return (
                f"{len(self.failures)} of {len(self)} failed: {self._where(first)}: "
                f"{first.verdict} (relative error {first.error:.1e})"
            )
        largest = max((row.error for row in self), default=None)
        end = "" if largest is None else f", largest relative error {largest:.1e}"
        return f"{len(self)} of {len(self)} passed{end}"

    def _where(self, row):
        return row.argument

    def table(self, rows=None, columns=None):
        """The rows as aligned text.

        Parameters
        ----------
        rows : sequence, optional
            Which rows; all of them by default.
        columns : sequence of str, optional
            Names of fields; by default those of ``columns``.

        Returns
        -------
        str
        """
        columns = columns or self.columns
        cells = [columns]
        for row in self if rows is None else rows:
            cells.append(tuple(_cell(name, getattr(row, name)) for name in columns))
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = ("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells)
        return "\n".join(lines)

    def __repr__(self):
        return f"{self.headline}\n{self.table()}"

    __str__ = __repr__


class RegistryReport(Report):
    """A `Report` over registered ops, with rows `RegistryCheck`."""

    __slots__ = ()
    columns = ("op", "argument", "shape", "dtype", "against", "error", "verdict")

    def _where(self, row):
        return f"{row.op}, {row.argument} against {row.against}"

    def worst(self):
        """One row per op, argument and kind of check: one that fails, or the largest error."""
        chosen = {}
        for row in self:
            key = (row.op, row.argument, row.against)
            if key not in chosen or severity(row) > severity(chosen[key]):
                chosen[key] = row
        return tuple(chosen.values())


def severity(row):
    """Sorts rows: those that fail above those that pass, then by error."""
    return (not row.passed, row.error)


def _cell(name, value):
    if value is None:
        return "-"
    if name in ("error", "step", "tolerance"):
        return f"{value:.1e}"
    return f"{value:.8e}" if isinstance(value, float) else str(value)
