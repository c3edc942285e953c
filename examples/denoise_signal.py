"""Train a filter to remove noise from a recording, and look at what it has become.

    python examples/denoise_signal.py [--quick] [--figure FILE]

What `ssm-manual denoise` does, taken apart: the task, the training with fresh noise in every
epoch, and the trained model used as a streaming filter, one sample at a time.
"""

import argparse
import sys

import numpy as np

from ssm_manual import plots
from ssm_manual.tasks import denoising, signals, trained_filter

SEED = 0
LOOKAHEAD = 8  # samples that the filter may wait


def main(argv=None):
    """Run the example; returns 0 if the filter improves the signal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--figure", metavar="FILE", help="write a figure of the poles")
    args = parser.parse_args(argv)

    # The first channel of ten seconds of EEG, 80 samples a second. Mean and scale come from the
    # first 70 %; the noise is 5 dB below the signal there.
    recording = signals.eeg()
    task = denoising.prepare(recording.samples[0], noise_snr=5.0, lookahead=LOOKAHEAD)
    print(f"{recording.name}: train on {task.start} of {task.clean.size} samples")

    # Plain gradient descent on A_bar, B_bar, C and D.
    rng = np.random.default_rng(SEED)
    trained = trained_filter.train(task, epochs=1000 if args.quick else 5000, rng=rng)
    first, last = trained.losses[0], trained.losses[-100:].mean()
    print(f"loss, relative to the signal's power: {first:.3f} -> {last:.3f}")

    # The same model as a stream: one noisy sample in, one restored sample of 8 steps ago out.
    model, state = trained.model, None
    noisy = task.clean + task.sigma * rng.standard_normal(task.clean.size)
    restored = np.empty_like(noisy)
    for t, u_t in enumerate((trained.gain * noisy).astype(model.dtype)):
        y_t, state = model.step(u_t, state)
        restored[t] = y_t / trained.gain

    # Compare on the held-out part, the delay removed.
    late = restored[task.start + LOOKAHEAD :]
    clean = task.clean[task.start : task.clean.size - LOOKAHEAD]
    before = denoising.snr(clean, noisy[task.start : task.clean.size - LOOKAHEAD] - clean)
    after = denoising.snr(clean, late - clean)
    print(f"SNR on the held-out part: {before:.1f} dB -> {after:.1f} dB")
    slowest = np.abs(model.A_bar).max()
    print(f"slowest pole: |A_bar| = {slowest:.4f}, it remembers {-1 / np.log(slowest):.0f} samples")

    if args.figure:
        ax = plots.poles(model.A_bar, initial=trained.initial_A_bar, conjugates=True)
        ax.figure.savefig(args.figure)
        print(f"figure: {args.figure}")
    return 0 if after > before else 1


if __name__ == "__main__":
    sys.exit(main())
