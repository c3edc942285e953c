"""The run store beside what else one could write: appending while training, and reading at random.

Before every append an S4D layer makes one step of training (forward, backward, AdamW) in the same
process, so that every writer finds the processor's caches as they are at work. What is appended is
the layer's output, 1024 float32 samples; the writers take turns, in an order that is drawn anew
every time. The rivals:

* a flat file, written without a buffer. It makes the same promise: the block is with the operating
  system when the call returns.
* an SQLite table with a row for every sample, in the same mode as the store, where every sample is
  acknowledged as it comes, as one logs a value; and the same with one transaction a block, which
  takes about 50 times as long as the flat file itself.

Then blocks of 4096 samples at random places of a signal of 10^7, which was appended 1024 at a time,
beside a mapped flat file of the same samples; each gives a copy.

Verified: every writer's samples are read back and compared, and so are reads at random.
"""

import argparse
import contextlib
import json
import os
import sqlite3
import tempfile
import time

import numpy as np

from ssm_manual.layers import S4D
from ssm_manual.store import Store
from ssm_manual.training import AdamW

BLOCK, READ = 1024, 4096


class Flat:
    """A flat binary file."""

    name = "flat file"

    def __init__(self, folder):
        self.path = os.path.join(folder, "flat.f32")
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT)

    def append(self, block):
        os.write(self.file, block)

    def close(self):
        os.close(self.file)

    def samples(self):
        return np.fromfile(self.path, np.float32)


class Rows:
    """A table with a row for every sample, one transaction a block."""

    name = "rows, committed by block"

    def __init__(self, folder):
        path = os.path.join(folder, f"{type(self).__name__}.db")
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.execute("CREATE TABLE sample (id INTEGER PRIMARY KEY, value REAL)")
        self.end = 0

    def rows(self, block):
        self.end += block.size
        return zip(range(self.end - block.size, self.end), block.tolist())

    def append(self, block):
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO sample VALUES (?, ?)", self.rows(block))
        self.connection.execute("COMMIT")

    def close(self):
        pass

    def samples(self):
        found = self.connection.execute("SELECT value FROM sample ORDER BY id").fetchall()
        self.connection.close()
        return np.array(found, np.float32)[:, 0]


class Samples(Rows):
    """A table with a row for every sample, each committed by itself."""

    name = "rows, committed by sample"

    def append(self, block):
        cursor = self.connection.cursor()
        for row in self.rows(block):
            cursor.execute("INSERT INTO sample VALUES (?, ?)", row)


class Ours:
    """The store."""

    name = "store"

    def __init__(self, folder):
        self.path = os.path.join(folder, "store.db")
        self.store = Store(self.path)
        self.run = self.store.start("benchmark")

    def append(self, block):
        self.run.append("restored", block)

    def close(self):
        self.run.finish()
        self.store.close()

    def samples(self):
        with Store(self.path) as store:
            return store.run(1).read("restored")


def appending(folder, rounds):
    """Seconds of every append by every writer, after verification."""
    rng = np.random.default_rng(0)
    layer = S4D(features=1, modes=16, rng=rng)
    optimizer = AdamW(layer.params, lr=1e-3)
    u = rng.standard_normal((4, 1, BLOCK), dtype=np.float32)
    writers = [Flat(folder), Ours(folder), Rows(folder), Samples(folder)]
    times = {writer.name: [] for writer in writers}
    written = {writer.name: [] for writer in writers}
    for k in range(rounds + 20):
        for i in rng.permutation(len(writers)).tolist():
            writer = writers[i]
            if isinstance(writer, Samples) and k % 20:
                continue  # it takes long
            y, _, cache = layer.forward(u)
            optimizer.step(layer.backward(2 * (y - u) / y.size, cache)[2])
            block = y[0, 0].copy()
            written[writer.name].append(block)
            start = time.perf_counter()
            writer.append(block)
            seconds = time.perf_counter() - start
            if k >= 20:  # statements are prepared and files have their first pages
                times[writer.name].append(seconds)
    for writer in writers:
        writer.close()
        if not np.array_equal(writer.samples(), np.concatenate(written[writer.name])):
            raise SystemExit(f"{writer.name}: what was read is not what was written")
    return times


def reading(folder, length, rounds):
    """Seconds of every read, after verification."""
    rng = np.random.default_rng(1)
    samples = rng.standard_normal(length, dtype=np.float32)
    flat, path = os.path.join(folder, "long.f32"), os.path.join(folder, "long.db")
    samples.tofile(flat)
    with Store(path) as store, store.start("benchmark") as run:
        for start in range(0, length, BLOCK):  # as they would have come
            run.append("signal", samples[start : start + BLOCK])
    mapped = np.memmap(flat, np.float32, "r")
    with Store(path) as store:
        run = store.run(1)
        calls = {
            "mapped file": lambda start: np.array(mapped[start : start + READ]),
            "store": lambda start: run.read("signal", start, start + READ),
        }
        places = rng.integers(0, length - READ + 1, rounds).tolist()
        for start in [0, length - READ, *places[:200]]:
            for name, call in calls.items():
                if not np.array_equal(call(start), samples[start : start + READ]):
                    raise SystemExit(f"{name}: what was read is not what was written")
        if not np.array_equal(run.read("signal"), samples):
            raise SystemExit("store: the whole is not what was written")
        times = {name: [] for name in calls}
        for start in places:
            for name, call in calls.items():
                begin = time.perf_counter()
                call(start)
                times[name].append(time.perf_counter() - begin)
    return times


def report(title, times, base):
    """Print quantiles in microseconds, and the ratio of medians to one of them."""
    print(title)
    print(f"  {'':24} {'median':>10} {'mean':>10} {'99 %':>10}   beside {base}")
    found = {}
    for name, seconds in times.items():
        seconds = np.array(seconds)
        median, high = np.quantile(seconds, (0.5, 0.99))
        ratio = median / np.median(times[base])
        found[name] = {
            "median": float(median), "mean": float(seconds.mean()), "p99": float(high),
            "ratio": float(ratio),
        }  # fmt: skip
        print(f"  {name:24} {median * 1e6:7.1f} us {seconds.mean() * 1e6:7.1f} us "
              f"{high * 1e6:7.1f} us   {ratio:.2f}")  # fmt: skip
    return found


def main():
    """Verify, time, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few blocks, a short signal")
    parser.add_argument("--folder", metavar="DIR", help="where the files go (default: temporary)")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=args.folder))
        appends = appending(folder, 40 if args.quick else 2000)
        title = f"appending {BLOCK} float32 samples between steps of training (verified)"
        results = {"append": report(title, appends, "flat file")}
        for rival in (Rows, Samples):
            ratio = float(np.median(appends[rival.name]) / np.median(appends[Ours.name]))
            print(f"  {rival.name}, beside the store: {ratio:.0f}")
            results["append"][rival.name]["beside_store"] = ratio
        print()
        length = 200_000 if args.quick else 10**7
        reads = reading(folder, length, 200 if args.quick else 4000)
        title = f"reading {READ} of {length} float32 samples at random (verified)"
        results["read"] = report(title, reads, "mapped file")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
