"""``ssm-manual apply --stream``: speed, latency of a block and memory, beside SciPy's filters.

A filter of 64 modes (128 poles) for 48 kHz, single precision, blocks of 64 samples.

* Inside one process: `Stream.push` beside `scipy.signal.sosfilt` and `scipy.signal.lfilter`, which
  carry the state of the same transfer function from block to block, in double precision. They only
  filter; a push also checks its block and takes the recording's units off and puts them on again.
* The command itself: 10^5, 10^6 and 10^7 samples from a file to a file, its own report, its peak
  memory; the same with ``--store``; and blocks sent and awaited one by one through two pipes.

Verified first: SciPy's output against ours, and what the command writes against the filter applied
to the whole signal at once, of which it must have every bit.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import signal

from ssm_manual import checkpoint
from ssm_manual.models import DiagonalSSM, RecordingFilter

MODES, RATE, BLOCK, DELAY = 64, 48000.0, 64, 8

#: Starts a command and prints its peak memory in kilobytes. A process of its own, and a small one:
#: the system counts the memory of whoever starts a program among that program's.
LAUNCHER = """
import os, subprocess, sys
program = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(program.pid, 0)
print(usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1), file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def make(rng):
    """The filter, and the same as SciPy takes it: sections, and a fraction."""
    model = DiagonalSSM.initial(MODES, rng=rng)
    model.params["D"][...] = 0.5
    a, b, c = (model.params[name].astype(complex) for name in "ABC")
    # y = D u + sum of 2 Re(c b / (1 - a/z)): poles a and conj(a); zeros of the system whose input
    # and output change places
    d = float(model.params["D"]) + 2 * np.sum(b * c).real
    A = np.zeros((2 * MODES, 2 * MODES))
    B, C = np.zeros((2, 2 * MODES))
    for n in range(MODES):
        i = slice(2 * n, 2 * n + 2)
        A[i, i] = [[a[n].real, -a[n].imag], [a[n].imag, a[n].real]]
        B[i] = b[n].real, b[n].imag
        C[i] = 2 * (c[n] * a[n]).real, -2 * (c[n] * a[n]).imag
    zeros = np.linalg.eigvals(A - np.outer(B, C) / d)
    poles = np.concatenate([a, a.conj()])
    sections = signal.zpk2sos(zeros, poles, d)
    fraction = signal.zpk2tf(zeros, poles, d)
    return (
        RecordingFilter(model, offset=0.01, scale=0.25, delay=DELAY, rate=RATE),
        sections,
        fraction,
    )


def contestants(filter, sections, fraction):
    """``{name: (begin, push)}``: what begins a stream, and what takes a block of it."""
    numerator, denominator = (np.real(a) for a in fraction)

    def ours():
        stream = filter.stream()
        return lambda block: stream.push(block)

    def sosfilt():
        state = np.zeros((len(sections), 2))

        def push(block):
            nonlocal state
            y, state = signal.sosfilt(sections, block[0], zi=state)
            return y

        return push

    def lfilter():
        state = np.zeros(len(denominator) - 1)

        def push(block):
            nonlocal state
            y, state = signal.lfilter(numerator, denominator, block[0], zi=state)
            return y

        return push

    return {"Stream.push": ours, "sosfilt": sosfilt, "lfilter": lfilter}


def errors(filter, begins, x):
    """Largest difference of each from ours in double precision, relative to its largest value."""
    u = (x.astype(float) - filter.offset) / filter.scale
    model = filter.models[0]
    wide = {name: model.params[name].astype(complex) for name in "ABC"}
    exact = DiagonalSSM(**wide, D=float(model.params["D"])).forward(u, view="scan")[0][0]
    found = {}
    for name, begin in begins.items():
        push = begin()
        with np.errstate(all="ignore"):  # one of them diverges
            if name == "Stream.push":
                y = np.concatenate([push(b) for b in blocks(x)], axis=1)[0]
                y, reference = (y - 0.01) / 0.25, exact[DELAY:]
            else:
                y, reference = np.concatenate([push(b) for b in blocks(u)]), exact
            error = np.abs(y - reference).max() / np.abs(exact).max()
        found[name] = float(error) if np.isfinite(error) else None
    return found


def blocks(x):
    return [x[:, at : at + BLOCK] for at in range(0, x.shape[1], BLOCK)]


def quantiles(seconds):
    median, p99 = np.quantile(seconds, [0.5, 0.99])
    return {"median": float(median), "p99": float(p99), "maximum": float(np.max(seconds))}


def inside(rng, rounds):
    """Times of a block for each contestant, taking turns in stretches of 500 blocks."""
    filter, *scipy = make(rng)
    begins = contestants(filter, *scipy)
    x = rng.standard_normal((1, 500 * BLOCK), dtype=np.float32) * np.float32(0.25)
    wrong = errors(filter, begins, x)
    if not max(wrong["Stream.push"], wrong["sosfilt"]) < 1e-5:
        raise SystemExit(f"the filters differ: {wrong}")
    pieces = blocks(x)
    pushes = {name: begin() for name, begin in begins.items()}
    times = {name: [] for name in pushes}
    with np.errstate(all="ignore"):
        for _ in range(rounds):
            for name, push in pushes.items():
                for block in pieces:
                    start = time.perf_counter()
                    push(block)
                    times[name].append(time.perf_counter() - start)
    return {name: quantiles(t) | {"error": wrong[name]} for name, t in times.items()}


def command(folder, *options):
    program = [sys.executable, "-m", "ssm_manual", "apply", str(folder / "m.safetensors")]
    return [*program, "--stream", "--block", str(BLOCK), *options]


def from_file_to_file(folder, filter, rng, length, *options):
    """The command's own report and its peak memory, after comparing all bits of its output."""
    x = rng.standard_normal((1, length), dtype=np.float32) * np.float32(0.25)
    x.tofile(folder / "in.raw")
    report = folder / "report.json"
    with open(folder / "in.raw", "rb") as source, open(folder / "out.raw", "wb") as sink:
        done = subprocess.run(
            [sys.executable, "-c", LAUNCHER, *command(folder, "--json", str(report), *options)],
            stdin=source,
            stdout=sink,
            stderr=subprocess.PIPE,
            text=True,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    y = np.fromfile(folder / "out.raw", "<f4")
    whole = filter(x)[0].astype("<f4")
    if y.tobytes() != whole.tobytes():
        error = np.abs(y - whole).max() if y.shape == whole.shape else np.inf
        raise SystemExit(f"the stream of {length} samples differs from the whole by {error:.1e}")
    found = json.loads(report.read_text("utf-8"))
    keys = ("samples", "latency", "filtering", "real_time_factor", "seconds", "busy_seconds")
    own = {key: found[key] for key in keys}
    # the clock of the whole loop, reading included: the input is always there
    own["real_time_factor_of_all"] = length / RATE / found["seconds"]
    return own | {"peak_mb": int(done.stderr.split()[-1]) / 1024}


def there_and_back(folder, filter, rng, count):
    """Times from sending a block to having its output, through two pipes, one block at a time."""
    x = rng.standard_normal((1, count * BLOCK), dtype=np.float32) * np.float32(0.25)
    program = subprocess.Popen(
        command(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    times, out, due = [], [], BLOCK - DELAY
    for block in blocks(x):
        data = block.tobytes()
        start = time.perf_counter()
        program.stdin.write(data)
        want, due = 4 * due, BLOCK
        while want:
            piece = os.read(program.stdout.fileno(), want)
            if not piece:
                raise SystemExit("the stream has ended too early")
            out.append(piece)
            want -= len(piece)
        times.append(time.perf_counter() - start)
    program.stdin.close()
    out.append(program.stdout.read())
    program.stdout.close()
    if program.wait() or b"".join(out) != filter(x).astype("<f4").tobytes():
        raise SystemExit("what came through the pipes differs from the whole")
    return quantiles(times[1:])  # before the first one the program starts


def line(name, q, more=""):
    ratio = q["p99"] / q["median"]
    return (
        f"  {name:22} {q['median'] * 1e6:8.1f} {q['p99'] * 1e6:8.1f} {ratio:6.2f} "
        f"{q['maximum'] * 1e6:9.0f}  {more}"
    )


def main():
    """Verify, time, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short streams, few rounds")
    parser.add_argument("--length", type=int, default=10**7, help="of the longest (default 10^7)")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    lengths = [5000] if args.quick else [args.length // 100, args.length // 10, args.length]

    header = f"  {'microseconds':22} {'median':>8} {'p99':>8} {'ratio':>6} {'longest':>9}"
    found = {"inside": inside(rng, 1 if args.quick else 40), "command": {}}
    print(f"blocks of {BLOCK} samples, {MODES} modes, in one process (verified)")
    print(header)
    for name, q in found["inside"].items():
        error = "diverges" if q["error"] is None else f"error {q['error']:.0e}"
        print(line(name, q, error))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        filter = make(rng)[0]
        checkpoint.save(folder / "m.safetensors", filter)
        print("\nssm-manual apply --stream (every bit verified)")
        print(header)
        runs = [(length, ()) for length in lengths]
        runs.append((lengths[len(lengths) // 2], ("--store", str(folder / "runs.db"))))
        for length, options in runs:
            name = f"{length} samples{', stored' if options else ''}"
            run = from_file_to_file(folder, filter, rng, length, *options)
            found["command"][name] = run
            real = (
                f"{run['real_time_factor']:.0f} times real time at {RATE:g} Hz "
                f"({run['real_time_factor_of_all']:.0f} with reading), {run['peak_mb']:.1f} MB"
            )
            print(line(name, run["latency"], real))
        found["pipes"] = there_and_back(folder, filter, rng, 100 if args.quick else 20_000)
        print(line("there and back", found["pipes"], "through two pipes"))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
