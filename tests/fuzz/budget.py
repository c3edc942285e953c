"""How many cases each row may run, and how many have been run.

A *row* is one parametrised test: a public function with everything that is tried on it. The whole
number of cases, or of seconds, is divided between the files of `SHARES` and then evenly between the
rows of a file that were selected.
"""

import time

from conftest import FUZZED

#: The share of the cases that a file of tests has.
SHARES = {"arrays": 0.85, "files": 0.15}


class Budget:
    """The cases of one row: ``while budget.left(): ...; budget.count(n)``.

    Parameters
    ----------
    request : pytest.FixtureRequest
        Of the row's test; the options are ``--fuzz-cases`` and ``--fuzz-seconds``.
    share : str
        A key of `SHARES`.
    """

    def __init__(self, request, share):
        config = request.config
        rows = sum(item.path == request.path for item in request.session.items)
        self._counted = config.stash.setdefault(FUZZED, {})
        self._share = share
        part = SHARES[share] / rows
        self.cases = max(1, -int(-config.getoption("--fuzz-cases") * part // 1))
        seconds = config.getoption("--fuzz-seconds")
        self._end = None if seconds is None else time.monotonic() + seconds * part
        self.done = 0

    def left(self):
        """How many cases are still to be run; 0 when the time is up."""
        if self._end is not None and time.monotonic() >= self._end:
            return 0
        return max(0, self.cases - self.done)

    def count(self, cases=1):
        """So many cases have been run."""
        self.done += cases
        self._counted[self._share] = self._counted.get(self._share, 0) + cases
