"""``ssm-manual apply --store``: what went in and what came out, as signals of a run."""

import os
import time

import numpy as np

from ssm_manual.cli import _store

#: Samples that are gathered before they are stored: a commit each takes as long as a block of 64.
SAMPLES = 1024

#: Seconds after which fewer are stored, so that of a slow signal no more is at stake.
SECONDS = 1.0


class Recorder:
    """A context manager around a run; without a path it does nothing.

    Parameters
    ----------
    path : str or None
        Of the store.
    name : str
        Of the run: the command, and what it works on.
    config : dict
        Of the run.
    """

    def __init__(self, path, name, config):
        self.path, self._store, self._run = path, None, None
        self._gathered, self._count, self._last = {}, 0, time.monotonic()
        if path is not None:
            self._store = _store.opened(path)
            try:
                self._run = self._store.start(name, config)
            except BaseException:
                self._store.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        """What is gathered is stored, whatever happened, unless the store itself has failed."""
        if self._run is None:
            return
        from ssm_manual.store import StoreError

        with self._store:
            if kind is None or not issubclass(kind, StoreError):
                self.flush()
            self._run.__exit__(kind, error, trace)  # finished, failed or interrupted

    @property
    def number(self):
        """Of the run; None without a store."""
        return None if self._run is None else self._run.id

    def signal(self, name, dtype, channels, rate):
        """Say what a signal is; of one channel it has no axis for them."""
        if self._run is not None:
            channels = None if channels == 1 else channels
            self._run.signal(name, dtype=dtype, rate=rate, channels=channels)
            self._gathered[name] = []

    def add(self, name, block):
        """Take ``block (channels, n)`` of a signal, in its dtype, and hand it on."""
        if self._run is not None and block.shape[1]:
            self._gathered[name].append(block[0] if len(block) == 1 else block)
            self._count += block.shape[1]
        return block

    def moment(self):
        """Store what is gathered if it is much or old."""
        # of input and output, hence twice
        if self._count >= 2 * SAMPLES or (self._count and time.monotonic() - self._last >= SECONDS):
            self.flush()

    def flush(self):
        """Store what is gathered, of all signals or of none: they stay beside each other."""
        if not self._count:
            return
        with self._run.together():
            for name, blocks in self._gathered.items():
                if blocks:
                    self._run.append(name, np.concatenate(blocks, axis=-1))
        for blocks in self._gathered.values():
            blocks.clear()
        self._count, self._last = 0, time.monotonic()

    def finish(self, **scores):
        """The run has ended well; those that are None are left out."""
        if self._run is not None:
            self.flush()
            self._run.finish(**{key: x for key, x in scores.items() if x is not None})

    def fail(self, error):
        """It has not."""
        if self._run is not None:
            self.flush()
            self._run.fail(error)

    def interrupt(self, reason):
        """It was broken off."""
        if self._run is not None:
            self.flush()
            self._run.interrupt(reason)


def recorder(args, model, source, rate):
    """A `Recorder` for a recording, with input and output in precisions that lose nothing."""
    names = ("model", "file", "out", "block", "resample")
    config = {name: getattr(args, name) for name in names}
    config |= {"filter": repr(model), "delay": model.delay, "rate": rate}
    record = Recorder(args.store, f"apply {os.path.basename(args.file)}", config)
    record.signal("input", dtype_of(source), source.channels, rate)
    record.signal("restored", model.dtype, source.channels, rate)
    return record


def dtype_of(source):
    """What holds a recording's samples, as they are read, without loss."""
    exact = ("uint8", "int8", "int16", "int24", "float16", "float32")
    return "float32" if source.sample_format in exact else "float64"
