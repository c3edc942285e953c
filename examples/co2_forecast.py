"""CO2 in 4, 13 and 52 weeks: a small S4D and an LSTM beside classical methods.

    python examples/co2_forecast.py [--quick] [--seed N] [--figure FILE]

The series is cut into three parts of time. Everything is chosen on the second; the third is read
once. Each forecast is made from the weeks up to its origin, and every week is an origin.
"""

import argparse
import sys

from ssm_manual import plots
from ssm_manual.tasks import co2, training_run
from ssm_manual.tasks.co2_series import HORIZONS


def main(argv=None):
    """Print a table, draw it if asked to; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short epochs")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything")
    parser.add_argument("--figure", metavar="FILE", help="draw the table into FILE")
    options = parser.parse_args(argv)

    task = co2.Co2Forecast(quick=options.quick)
    found = training_run.compare(task, ("s4d", "lstm"), seed=options.seed)
    rows = {run.title: list(run.further.values()) for run in found.runs}
    for name, (forecasts, _) in task.classical().items():
        rows[name] = task.series.rmse(forecasts, "test")
    print(f"{'RMS error, ppm':>16}" + "".join(f"{f'{h} weeks':>10}" for h in HORIZONS))
    for name, errors in rows.items():
        print(f"{name:>16}" + "".join(f"{error:>10.3f}" for error in errors))

    if options.figure:
        ax = plots.figure(7.5, 3.6).add_subplot()
        ax.set_prop_cycle(color=plots.CYCLE)
        task.draw(list(found.runs), ax)
        ax.figure.savefig(options.figure, dpi=110)
        print(f"figure: {options.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
