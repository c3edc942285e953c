"""What ``ssm-manual apply`` gathers on the way, prints, draws and writes."""

from typing import NamedTuple

import numpy as np

from ssm_manual._version import __version__

#: Samples that are drawn one by one.
EXCERPT = 1200

#: Intervals of a long recording that are drawn as their lowest and highest sample.
INTERVALS = 1500

#: Channels that are printed one by one.
CHANNELS_PRINTED = 8


class Trace:
    """Power of every channel about its mean, and what a figure needs of the first one.

    Means and sums of squares of blocks are joined pairwise, which does not cancel whatever the
    mean is. What it holds does not grow with the recording.
    """

    def __init__(self, channels, length, *, drawn):
        self.length, self.drawn, self.count = length, drawn, 0
        self._mean, self._squares = np.zeros(channels), np.zeros(channels)
        self.excerpt_start = max(0, (length - EXCERPT) // 2)
        self.excerpt = np.zeros(min(length, EXCERPT))
        self.lowest = np.full(min(length, INTERVALS), np.inf)
        self.highest = -self.lowest

    def add(self, block):
        """Take the next ``block (channels, n)`` and hand it on."""
        n = block.shape[1]
        if n:
            if self.drawn:
                self._draw(block[0].astype(np.float64))
            with np.errstate(over="ignore", invalid="ignore"):  # `power` sees it
                mean = block.mean(axis=1, dtype=np.float64)
                squares = np.sum((block - mean[:, np.newaxis]) ** 2, axis=1)
                difference, total = mean - self._mean, self.count + n
                self._squares += squares + difference**2 * self.count * (n / total)
                self._mean += difference * (n / total)
            self.count = total
        return block

    def _draw(self, row):
        first, last = self.count, self.count + row.size
        start, stop = self.excerpt_start, self.excerpt_start + self.excerpt.size
        low, high = max(first, start), min(last, stop)
        if low < high:
            self.excerpt[low - start : high - start] = row[low - first : high - first]
        interval = np.arange(first, last) * self.lowest.size // self.length
        edges = np.flatnonzero(np.diff(interval, prepend=-1))
        where = interval[edges]
        self.lowest[where] = np.minimum(self.lowest[where], np.minimum.reduceat(row, edges))
        self.highest[where] = np.maximum(self.highest[where], np.maximum.reduceat(row, edges))

    @property
    def power(self):
        """``(channels,)``: mean square about the mean, in squared units of the recording.

        Infinite where double precision cannot hold it.
        """
        return np.where(np.isfinite(self._squares), self._squares / self.count, np.inf)


class Result(NamedTuple):
    """One run of the command.

    Attributes
    ----------
    args : argparse.Namespace
        Its options.
    trained, model : RecordingFilter
        As it was saved, and as it was applied.
    source : RecordingFile
        The recording.
    rate : float or None
        Samples per second.
    written : ssm_manual.tasks.recordings.Written
        What happened to the samples on their way into the file.
    before, after : Trace
        Of the recording and of the output.
    seconds : float
        Reading, filtering and writing together.
    """

    args: object
    trained: object
    model: object
    source: object
    rate: float | None
    written: object
    before: Trace
    after: Trace
    seconds: float

    @property
    def blocks(self):
        return -(-self.source.length // self.args.block)

    @property
    def resampled(self):
        """Whether the model was discretised for another sampling rate than its own."""
        return self.model is not self.trained

    @property
    def real_time_factor(self):
        """Seconds of the recording that are filtered in a second; None without a rate."""
        return None if self.rate is None else self.source.length / self.rate / self.seconds


def text(result):
    """What is printed."""
    source, written, rate = result.source, result.written, result.rate
    duration = "" if rate is None else f" at {rate:g} Hz ({source.length / rate:.3g} s)"
    delay = result.model.delay
    late = "none" if not delay else f"{delay} samples"
    if delay and rate is not None:
        late += f" ({1000 * delay / rate:.3g} ms)"
    lines = [
        f"{source.path}: {_count(source.channels, 'channel')} of "
        f"{_count(source.length, 'sample')}{duration}, {source.sample_format}",
        f"model: {result.model!r}"
        + (f", trained at {result.trained.rate:g} Hz" if result.resampled else ""),
        f"delay removed: {late}; in {_count(result.blocks, 'block')} of up to {result.args.block}",
    ]
    if not written.sample_format.startswith("float"):
        share = 100 * written.clipped / (source.channels * source.length)
        some = f" ({share:.2g} %)" if written.clipped else ""
        lines.append(f"clipped: {_count(written.clipped, 'sample')}{some}")
    if written.beyond_full_scale:
        lines.append(
            f"beyond full scale: {_count(written.beyond_full_scale, 'sample')}, kept as they are; "
            "players clip them"
        )
    lines.append("power about the mean, in squared units of the recording:")
    rows = list(zip(result.before.power, result.after.power))
    for channel, (before, after) in enumerate(rows[:CHANNELS_PRINTED]):
        name = f"channel {channel}: " if len(rows) > 1 else ""
        lines.append(f"  {name}{_powers(before, after)}")
    if len(rows) > 1:
        lines.append(f"  mean of {len(rows)}: {_powers(*np.mean(rows, axis=0))}")
    speed = result.real_time_factor
    fast = "" if speed is None else f", {speed:.3g} times as fast as real time"
    lines.append(
        f"written: {result.args.out} ({written.sample_format}), in {result.seconds:.3g} s{fast}"
    )
    return "\n".join(lines)


def as_json(result):
    """The same as plain data."""
    source, written, args = result.source, result.written, result.args
    return {
        "version": __version__,
        "model": args.model,
        "file": args.file,
        "out": args.out,
        "channels": source.channels,
        "samples": source.length,
        "rate": result.rate,
        "resampled": result.resampled,
        "sample_format": {"file": source.sample_format, "out": written.sample_format},
        "delay": result.model.delay,
        "block": args.block,
        "blocks": result.blocks,
        "clipped": written.clipped,
        "beyond_full_scale": written.beyond_full_scale,
        "power": {
            name: [power if np.isfinite(power) else None for power in trace.power.tolist()]
            for name, trace in (("before", result.before), ("after", result.after))
        },
        "seconds": result.seconds,
        "real_time_factor": result.real_time_factor,
    }


def draw(result):
    """The first channel before and after: all of it, and an excerpt from its middle."""
    from ssm_manual import plots

    before, after = result.before, result.after
    whole = None
    if result.source.length > EXCERPT:
        whole = {
            "before": (before.lowest, before.highest),
            "after": (after.lowest, after.highest),
        }
    figure = plots.applied(
        before.excerpt,
        after.excerpt,
        result.rate,
        start=before.excerpt_start,
        length=result.source.length,
        envelopes=whole,
    )
    figure.axes[0].set_title(result.source.path.replace("$", r"\$"), loc="left")
    return figure


def _powers(before, after):
    known = 0 < before < np.inf and 0 < after < np.inf
    change = f" ({10 * np.log10(after / before):+.2f} dB)" if known else ""
    return f"{before:.4g} -> {after:.4g}{change}"


def _count(number, what):
    return f"{number} {what}{'' if number == 1 else 's'}"
