"""Hostile arrays and values at every public door; see README.md of this folder."""

import traceback
import zlib

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings

from fuzz import engine
from fuzz.budget import Budget
from fuzz.coverage import ROWS
from fuzz.strategies import cases

#: Cases between two looks at the clock.
BATCH = 25


@pytest.mark.fuzz
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.removeprefix("ssm_manual."))
def test_arrays(row, request):
    config = request.config
    budget = Budget(request, "arrays")
    faults = {} if config.getoption("--fuzz-survey") else None
    seed = zlib.crc32(f"{config.getoption('--seed')} {row.name}".encode())
    while budget.left():
        number = min(BATCH, budget.left())
        _batch(row, number, seed + budget.done, faults)
        budget.count(number)
    if faults:
        pytest.fail("\n".join(faults.values()), pytrace=False)


def _batch(row, number, seed, faults):
    @hypothesis.seed(seed)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate] if faults is not None else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(cases(row))
    def attempt(case):
        try:
            engine.run(row, case)
        except engine.Fault as fault:
            if faults is None:
                raise
            what = str(fault).splitlines()[0].partition(": ")[2]
            faults.setdefault(what[:60], str(fault))
        except Exception as error:
            if faults is None:
                raise
            text = "".join(traceback.format_exception(error)[-3:])
            faults.setdefault(f"{error!r}", f"{row.name}: HARNESS {error!r} {case} {text}")

    attempt()
