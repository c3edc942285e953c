"""A store through some hours of its life: calls in random order, and what a plain dict would say.

Reading, and reading by another connection, must always tell what was acknowledged; a call that is
refused, or broken off, must have changed nothing.
"""

import contextlib
import os
import tempfile

import numpy as np

from fuzz.engine import Fault
from ssm_manual.store import Store, StoreError

#: Calls of a session.
CALLS = 25

NAMES = ("a", "A", "a ", "'; DROP TABLE run; --", "\0", "é" * 300, "../up", "%s", "sqlite_master")

DTYPES = ("float32", "float64", "complex64", "int8", "uint16", "int64", "uint64", "complex128")

STEPS = (0, 1, 7, 2**31, 2**53 + 1, 2**63 - 1)

VALUES = (0.5, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"), 2.0**60, 7, -(2**62))


class BrokenOff(Exception):
    """In the middle of a block."""


class Session:
    """A store, and what it must hold: ``{run: {"status", "metrics", "signals"}}``."""

    def __init__(self, path, rng):
        self.path, self.rng = path, rng
        self.store, self.known, self.writers = Store(path), {}, {}

    def pick(self, values):
        """One of them."""
        return values[int(self.rng.integers(len(values)))]

    def start(self):
        """A run more."""
        run = self.store.start(self.pick(NAMES), {self.pick(NAMES): self.pick(STEPS)})
        self.known[run.id] = {"status": "running", "metrics": {}, "signals": {}}
        self.writers[run.id] = run

    def writer(self):
        """A run that can be written to, and what is known of it."""
        if not self.writers:
            self.start()
        number = self.pick(sorted(self.writers))
        return self.writers[number], self.known[number]

    def log(self):
        """Several numbers of a step."""
        run, known = self.writer()
        step = self.pick(STEPS)
        values = {self.pick(NAMES): self.pick(VALUES) for _ in range(3)}
        run.log(step, **values)
        for name, value in values.items():
            known["metrics"].setdefault(name, []).append((step, float(value)))

    def refused(self):
        """What must be refused, of an otherwise sound call."""
        run, known = self.writer()
        name = self.pick(sorted(known["signals"]) or ["new"])
        wrong = self.pick(
            [
                lambda: run.log(-1, a=1.0),
                lambda: run.log(2**63, a=1.0),
                lambda: run.log(0, a=1.0, b="x"),
                lambda: run.log(0, **{"a": 1.0, "": 2.0}),
                lambda: run.append(name, np.zeros((2, 3, 4))),
                lambda: run.append(name, np.zeros(3, "datetime64[s]")),
                lambda: run.append(name, np.zeros((0, 3))),
                lambda: run.append("\ud800", np.zeros(3)),
                lambda: run.signal(name, channels=0),
                lambda: run.signal(name, channels=2**16),
                lambda: run.signal(name, rate=-1.0),
                lambda: run.read(name, -1),
                lambda: run.read(name, 0, 2**62),
                lambda: run.read("no such"),
                lambda: run.save_checkpoint(object()),
                lambda: run.finish(a="x"),
                lambda: self.store.delete(run),
                lambda: self.store.run(2**63 - 1),
            ]
        )
        try:
            wrong()
        except (ValueError, TypeError):
            return
        raise Fault("what must be refused is accepted")

    def block(self, known, name):
        """A block that fits the signal, or a first one."""
        count = self.pick([0, 1, 3, 17, 4096, 5000])
        if name in known["signals"]:
            like = known["signals"][name]
            shape, dtype = (*like.shape[:-1], count), like.dtype
        else:
            shape = self.pick([(count,), (1, count), (3, count)])
            dtype = np.dtype(self.pick(DTYPES))
        raw = self.rng.integers(0, 256, int(np.prod(shape)) * dtype.itemsize, np.uint8)
        block = raw.view(dtype).reshape(shape)
        layouts = [
            lambda a: a,
            np.asfortranarray,
            lambda a: a[..., ::-1],
            lambda a: a.astype(a.dtype.newbyteorder(">")),
            lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        ]
        return self.pick(layouts)(block)

    def append(self):
        """A block, of any bits."""
        run, known = self.writer()
        name = self.pick(NAMES)
        self._append(run, known["signals"], name, self.block(known, name))

    @staticmethod
    def _append(run, signals, name, block):
        native = np.asarray(block).astype(block.dtype.newbyteorder("="))
        old = signals.get(name)
        new = native if old is None else np.concatenate([old, native], axis=-1)
        length = run.append(name, block)
        if length != new.shape[-1]:
            raise Fault(f"append says {length}, and {new.shape[-1]} samples were given")
        signals[name] = new

    def together(self):
        """Several things at once, at times broken off."""
        run, known = self.writer()
        name, broken = self.pick(NAMES), bool(self.rng.integers(2))
        signals = dict(known["signals"])
        with contextlib.suppress(BrokenOff), run.together():
            self._append(run, signals, name, self.block(known, name))
            run.log(3, together=1.0)
            if broken:
                raise BrokenOff
        if not broken:
            known["signals"] = signals
            known["metrics"].setdefault("together", []).append((3, 1.0))

    def end(self):
        """One of the three ends."""
        run, known = self.writer()
        how = self.pick(["finish", "fail", "interrupt"])
        getattr(run, how)(*(["x"] if how != "finish" else []))
        known["status"] = {"finish": "finished", "fail": "failed"}.get(how, "interrupted")
        del self.writers[run.id]

    def delete(self):
        """What has ended."""
        ended = [n for n in sorted(self.known) if n not in self.writers]
        if ended:
            number = self.pick(ended)
            self.store.delete(number)
            del self.known[number]

    def reopen(self):
        """What was running is interrupted."""
        self.store.close()
        for number in self.writers:
            self.known[number]["status"] = "interrupted"
        self.writers = {}
        self.store = Store(self.path)

    def check(self, opened):
        """All is as it is known."""
        found = {run.id: run for run in opened.runs()}
        if set(found) != set(self.known):
            raise Fault(f"runs {sorted(found)}, expected {sorted(self.known)}")
        for number, known in self.known.items():
            run = found[number]
            if run.status != known["status"]:
                raise Fault(f"run {number} is {run.status}, expected {known['status']}")
            self._check_metrics(run.metrics(), known["metrics"])
            self._check_signals(run, known["signals"])

    def _check_metrics(self, found, known):
        if set(found) != set(known):
            raise Fault(f"metrics {sorted(found)}, expected {sorted(known)}")
        for name, pairs in known.items():
            steps, values = zip(*sorted(pairs, key=lambda pair: pair[0]))
            same = found[name][0].tolist() == list(steps)
            if not same or not np.array_equal(found[name][1], values, equal_nan=True):
                raise Fault(f"metric {name!r} is {found[name]}, expected {pairs}")

    def _check_signals(self, run, known):
        if set(run.signals) != set(known):
            raise Fault(f"signals {sorted(run.signals)}, expected {sorted(known)}")
        for name, samples in known.items():
            length = samples.shape[-1]
            start = int(self.rng.integers(length + 1))
            stop = int(self.rng.integers(start, length + 1))
            for a, b in ((0, None), (start, stop), (length, None)):
                found, expected = run.read(name, a, b), samples[..., a:b]
                same = found.dtype == expected.dtype and found.shape == expected.shape
                if not same or found.tobytes() != expected.tobytes():
                    raise Fault(f"samples {a} to {b} of {name!r} are not those that were given")


def session(seed):
    """Some calls, and a look at everything by this connection and by another."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="session.") as folder:
        own = Session(os.path.join(folder, "a.db"), rng)
        calls = [own.start, own.end, own.delete, own.reopen]
        calls += 2 * [own.refused, own.together] + 4 * [own.log, own.append]
        try:
            for _ in range(CALLS):
                own.pick(calls)()
            own.check(own.store)
            with Store(own.path, readonly=True) as other:
                own.check(other)
        except StoreError as error:
            raise Fault(f"{error!r}") from error
        finally:
            own.store.close()
