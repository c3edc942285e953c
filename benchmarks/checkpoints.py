"""Saving and loading a large model: times, and the memory that a mapped load adds.

The file is read back and compared before anything is timed. Times depend on the disk and on what
of the file is still in memory; the ratio of the two loads is what to look at.
"""

import argparse
import json
import os
import tempfile
import time

import numpy as np

from ssm_manual import checkpoint
from ssm_manual.models import DiagonalSSM

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--megabytes", type=int, default=1024, help="size of the model (default 1024)")
parser.add_argument("--quick", action="store_true", help="24 megabytes")
parser.add_argument("--json", metavar="FILE", help="write the results")
args = parser.parse_args()
megabytes = 24 if args.quick else args.megabytes


def resident():
    """Resident memory of this process in megabytes, or None where the system does not tell."""
    if not os.path.exists("/proc/self/status"):
        return None
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def timed(action):
    start = time.perf_counter()
    result = action()
    return result, time.perf_counter() - start


poles = megabytes * 2**20 // (3 * 8)
A = np.linspace(0.1, 0.9, poles, dtype=np.float32).astype(np.complex64)
model = DiagonalSSM(A, 1.0, 0.5)

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.safetensors")
    _, saving = timed(lambda: checkpoint.save(path, model))
    model = None
    before = resident()
    mapped, mapping = timed(lambda: checkpoint.load(path, mmap=True))
    added = None if before is None else resident() - before
    loaded, loading = timed(lambda: checkpoint.load(path))
    assert np.array_equal(mapped.params["A"], A)
    assert np.array_equal(loaded.params["A"], A)
    print(f"a model of {os.path.getsize(path) / 2**20:.0f} MB (verified)")
    print(f"  save, checksum and flush to the disk  {saving * 1e3:9.1f} ms")
    print(f"  load, checksum and values checked     {loading * 1e3:9.1f} ms")
    print(f"  mapped load                           {mapping * 1e3:9.1f} ms", end="")
    print(f"   ({loading / mapping:.0f} times faster)")
    if added is not None:
        print(f"  memory that the mapped load added     {added:9.1f} MB")
    if args.json:
        seconds = {"save": saving, "load": loading, "map": mapping}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"megabytes": megabytes, "seconds": seconds, "added_mb": added}, file)
    del mapped, loaded
