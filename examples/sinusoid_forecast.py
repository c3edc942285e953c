"""What is the next sample of a noisy sum of sinusoids, and what are the next fifty?

    python examples/sinusoid_forecast.py [--quick] [--seed N] [--figure FILE]

An S4D, an LSTM of the same size and an autoregression read the same sequences. All are fitted to
the training part and chosen on the validation part; the test part is read once, at the end. In the
free run after each test sequence every forecast is fed back as the sample that it is for.
"""

import argparse
import sys

from ssm_manual import plots
from ssm_manual.tasks import sinusoids, training_run


def main(argv=None):
    """Print a table, draw a free run if asked to; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short sequences, three epochs")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything")
    parser.add_argument("--figure", metavar="FILE", help="draw a free run into FILE")
    options = parser.parse_args(argv)

    task = sinusoids.SinusoidForecast(quick=options.quick)
    found = training_run.compare(task, ("s4d", "lstm"), seed=options.seed)
    print(f"{'test part':>16}{'next sample':>13}   free run of {task.steps}, to the clean sequence")
    for run in found.runs:
        free = next(iter(run.further.values()))
        print(f"{run.title:>16}{run.test['loss']:>13.5f}   {free:.3f}")
    for rival in found.rivals:
        print(f"{rival.name:>16}{rival.value:>13.5f}   {rival.note}")
    for label, level in task.goal().items():
        print(f"{label:>16}{level:>13.5f}")

    if options.figure:
        ax = plots.figure(7.5, 3.6).add_subplot()
        ax.set_prop_cycle(color=plots.CYCLE)
        task.draw(list(found.runs), ax)
        ax.figure.savefig(options.figure, dpi=110)
        print(f"figure: {options.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
