"""Plain gradient descent against AdamW, on a linear denoiser and on a deep one.

    python examples/descent_against_adamw.py [--quick] [--choose] [--seed N] [--figure FILE]

The electrocardiogram with noise 5 dB below it. Both rules start from the same parameters and see
the same noise. Each has the learning rate that served best within the training part (`--choose`
repeats that choice); the held-out part is looked at once, at the end.
"""

import argparse
import sys

from ssm_manual import plots
from ssm_manual.tasks import denoising, rules, signals


def main(argv=None):
    """Print a table, draw a figure if asked to; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the updates")
    parser.add_argument("--choose", action="store_true", help="first compare learning rates")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything")
    parser.add_argument("--figure", metavar="FILE", help="draw losses over updates and seconds")
    args = parser.parse_args(argv)

    samples = signals.ecg().samples[0]
    task = denoising.prepare(samples, noise_snr=5.0)
    pairs = [(model, rule) for model in rules.MODELS for rule in rules.RULES]
    updates = {m: n // 5 if args.quick else n for m, n in rules.UPDATES.items()}
    if args.choose:
        print("SNR within the training part, dB")
        for model, rule in pairs:
            for lr, snr in rules.validation(samples, model, rule, updates=updates[model]):
                print(f"  {model:9s} {rule:8s} lr {lr:<6g} {snr:6.2f}")

    runs = []
    print("model      rule      lr      updates  seconds  kept beside  loss at end  held-out SNR")
    for model, rule in pairs:
        run = rules.train(task, model, rule, updates=updates[model], seed=args.seed)
        runs.append(run)
        print(
            f"{model:9s}  {rule:8s}  {run.lr:<6g}  {run.losses.size:7d}  {run.seconds[-1]:7.1f}  "
            f"{run.memory:5d} numbers  {run.losses[-50:].mean():11.4f}  {run.snr:9.2f} dB",
            flush=True,
        )
    if args.figure:
        plots.rules(runs).savefig(args.figure, dpi=110)
        print(f"figure: {args.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
