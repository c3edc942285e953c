"""The denoiser beside least-squares FIR filters on real recordings, and beside a bound on them.

For each recording and lookahead: the mean over seeds of the restored SNR on the held-out part, of
the trained model, of the 64-tap FIR and of one whose length is chosen on the training part; and two
bounds. The *oracle* FIRs are fitted on the held-out part itself, with the noise's exact statistics
in place of draws: no FIR of that length and lookahead does better there, in expectation over the
noise.
"""

import argparse
import json

import numpy as np

from ssm_manual.tasks import denoising, signals

NOISE_SNR = 5.0
LOOKAHEADS = (0, 8)
ORACLE_TAPS = (64, 256)


def oracle_snr(task, taps):
    """Held-out SNR of the best causal FIR for that very part, in expectation over the noise.

    Solves ``(R + n sigma^2 I) w = r``, R and r from the n held-out samples and their own past.
    """
    delay, clean = task.lookahead, task.clean
    rows = np.arange(task.start, clean.size - delay)
    index = rows[:, None] + delay - np.arange(taps)
    past = np.where(index >= 0, clean[np.maximum(index, 0)], 0.0)
    target = clean[rows]
    R = past.T @ past + len(rows) * task.sigma**2 * np.eye(taps)
    w = np.linalg.solve(R, past.T @ target)
    error = np.sum((past @ w - target) ** 2) + len(rows) * task.sigma**2 * np.sum(w**2)
    return 10 * np.log10(np.sum(target**2) / error)


def verify():
    """The bound for one tap must equal its closed form, with the weight P / (P + sigma^2)."""
    recording = signals.sinusoids(500, rng=np.random.default_rng(0))
    task = denoising.prepare(recording.samples[0], noise_snr=NOISE_SNR)
    bound = oracle_snr(task, 1)
    part = task.clean[task.start :]
    power = np.mean(part**2)
    weight = power / (power + task.sigma**2)
    expected = (1 - weight) ** 2 * power + weight**2 * task.sigma**2
    by_hand = 10 * np.log10(power / expected)
    if abs(bound - by_hand) > 1e-9:
        raise SystemExit(f"the bound is {bound} dB for one tap, by hand {by_hand} dB")


def main():
    """Verify, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many (default 5)")
    parser.add_argument("--quick", action="store_true", help="one seed, few epochs, ECG only")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    args = parser.parse_args()
    seeds = 1 if args.quick else args.seeds
    epochs = 300 if args.quick else 5000
    recordings = (
        {"ecg": signals.ecg()} if args.quick else {"ecg": signals.ecg(), "eeg": signals.eeg()}
    )
    verify()
    print("verified: the bound for one tap equals its closed form\n")
    oracles = "  ".join(f"oracle {taps} taps" for taps in ORACLE_TAPS)
    print(f"mean of {seeds} seeds, dB")
    print(f"recording  lookahead   model  FIR 64  FIR chosen  model - FIR 64  {oracles}")
    results = []
    for name, recording in recordings.items():
        for channel, samples in enumerate(recording.samples):
            label = name if len(recording.samples) == 1 else f"{name} {channel}"
            for lookahead in LOOKAHEADS:
                row = compare(label, samples, lookahead, range(seeds), epochs)
                bounds = "  ".join(f"{row['oracle_dB'][taps]:14.2f}" for taps in ORACLE_TAPS)
                print(
                    f"{label:9s}  {lookahead:9d}  {row['model_dB']:6.2f}  {row['fir_dB']:6.2f}  "
                    f"{row['chosen_fir_dB']:10.2f}  {row['model_dB'] - row['fir_dB']:+14.2f}  "
                    f"{bounds}"
                )
                results.append(row)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


def compare(label, samples, lookahead, seeds, epochs):
    """Means over seeds, and the bounds."""
    scores = {"model_dB": [], "fir_dB": [], "chosen_fir_dB": []}
    for seed in seeds:
        result = denoising.compare(
            samples, noise_snr=NOISE_SNR, lookahead=lookahead, epochs=epochs, seed=seed
        )
        scores["model_dB"].append(result.score().snr)
        scores["fir_dB"].append(result.score("least-squares FIR").snr)
        scores["chosen_fir_dB"].append(result.score("least-squares FIR, chosen").snr)
    task = denoising.prepare(samples, noise_snr=NOISE_SNR, lookahead=lookahead)
    means = {key: float(np.mean(values)) for key, values in scores.items()}
    oracle = {taps: float(oracle_snr(task, taps)) for taps in ORACLE_TAPS}
    return {"recording": label, "lookahead": lookahead, **means, "oracle_dB": oracle}


if __name__ == "__main__":
    main()
