"""What ``ssm-manual apply --stream`` measures on the way, prints and writes."""

import math

from ssm_manual._version import __version__


class Latency:
    """Durations in bounded memory: counted in steps of one per cent from 0.1 us to 1000 s.

    Quantiles are the upper edge of a step, so up to one per cent too long; the longest is exact.
    """

    SHORTEST, STEP = 1e-7, math.log(1.01)
    STEPS = math.ceil(math.log(1e10) / STEP)

    def __init__(self):
        self._counts = [0] * (self.STEPS + 1)
        self.count, self.total, self.longest = 0, 0.0, 0.0

    def add(self, seconds):
        """Take one duration."""
        step = 0
        if seconds > self.SHORTEST:
            step = math.ceil(math.log(seconds / self.SHORTEST) / self.STEP)
        self._counts[min(step, self.STEPS)] += 1
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    def quantile(self, share):
        """The shortest duration that at least this share of all does not exceed; None of none."""
        rank, seen = max(1, math.ceil(share * self.count)), 0
        for step, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(self.longest, self.SHORTEST * math.exp(step * self.STEP))
        return None

    def as_json(self):
        """In seconds."""
        if not self.count:
            return None
        return {
            "median": self.quantile(0.5),
            "p99": self.quantile(0.99),
            "maximum": self.longest,
        }

    def __str__(self):
        times = (self.quantile(0.5), self.quantile(0.99), self.longest)
        return "median {}, p99 {}, at most {}".format(*map(duration, times))


def duration(seconds):
    """A duration with three digits, in the unit that fits."""
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us" if seconds else "0 s"


def opening(session):
    """What is printed before the first sample is read."""
    s = session
    block = f"{s.block} sample{'' if s.block == 1 else 's'}"
    late = f"{s.model.delay} samples"
    if s.rate is not None:
        block += f" ({duration(s.block / s.rate)} at {s.rate:g} Hz)"
        late += f" ({duration(s.model.delay / s.rate)})"
    late = f"; the model answers {late} late" if s.model.delay else ""
    channels = f"{s.format.channels} channel{'' if s.format.channels == 1 else 's'}"
    return f"reading {s.format.name}, {channels}, in blocks of {block}{late}"


def text(session):
    """What is printed at the end."""
    s = session
    seconds = "" if s.rate is None else f" ({duration(s.taken / s.rate)})"
    lines = [
        f"read: {s.taken} samples of {s.format.channels} channel"
        f"{'' if s.format.channels == 1 else 's'}{seconds}; written: {s.given}"
    ]
    if s.format.name == "int16":
        lines.append(f"clipped: {s.clipped} samples")
    if s.latency.count:
        lines.append(f"from a block being read to its output written: {s.latency}")
        lines.append(f"  of which in the filter: {s.filtering}")
    if s.real_time_factor is not None:
        lines.append(
            f"{s.real_time_factor:.3g} times as fast as real time (waiting for input not counted)"
        )
    if s.record.path is not None:
        lines.append(f"stored: run {s.record.number} of {s.record.path}")
    return "\n".join(lines)


def as_json(session):
    """The same as plain data."""
    s = session
    return {
        "version": __version__,
        "model": s.path,
        "status": s.status,
        "error": s.error,
        "format": s.format.name,
        "channels": s.format.channels,
        "rate": s.rate,
        "resampled": s.resampled,
        "delay": s.model.delay,
        "block": s.block,
        "blocks": s.latency.count,
        "samples": s.taken,
        "written": s.given,
        "clipped": s.clipped,
        "latency": s.latency.as_json(),
        "filtering": s.filtering.as_json(),
        "busy_seconds": s.busy,
        "seconds": s.seconds,
        "real_time_factor": s.real_time_factor,
        "store": s.record.path,
        "run": s.record.number,
    }
