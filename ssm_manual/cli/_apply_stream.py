"""``ssm-manual apply --stream``: samples from standard input to standard output as they come."""

import gc
import os
import signal
import sys
import time

import numpy as np

from ssm_manual import _validate
from ssm_manual.cli import _apply_store, _output, _raw, _stream_report

#: Samples a block, if nothing is said.
BLOCK = 64

#: Most samples that are filtered before the first block so that nothing is compiled later.
WARM_UP = 65536

STDIN, STDOUT = 0, 1

#: What is said of a .wav file on standard input; it might be samples after all, so it goes through.
HEADER = (
    "standard input begins with the header of a .wav file, which is taken for samples; "
    "sox FILE.wav -t raw -e float -b 32 -L - writes samples alone"
)

#: How a stream ended whose output nobody reads any more.
READER_LEFT = "reader left"


def check(args):
    """Raise `ValueError` unless the options go together and both ends are open, and no terminal."""
    alien = {"FILE": args.file, "--out": args.out, "--figure": args.figure}
    for option, value in alien.items():
        if value is not None:
            raise ValueError(
                f"{option} is {value!r}; it does not go with --stream, which reads standard input "
                "and writes standard output (apply FILE --out FILE is for recordings)"
            )
    _validate.integer("--channels", args.channels, minimum=1)
    _output.check_exists("MODEL", args.model)
    _output.check_outputs({"MODEL": args.model}, json=args.json, store=args.store)
    for name, fd, stream in (("input", STDIN, sys.stdin), ("output", STDOUT, sys.stdout)):
        if stream is None:  # so Python found it at its start; the number may be another file's now
            raise ValueError(f"--stream: standard {name} is closed")
        if os.isatty(fd):
            hint = "< samples.raw" if name == "input" else "> restored.raw, or | the next program"
            raise ValueError(
                f"--stream: standard {name} is a terminal, and samples are bytes that it cannot "
                f"{'type' if name == 'input' else 'show'}: add {hint}"
            )


def run(args, trained, model, rate):
    """Filter what comes; returns the exit status."""
    if not model.causal:
        raise ValueError(
            f"--stream: {args.model} reads in both directions, so that its first output needs the "
            "last input; filter a recording (without --stream), or train a model that looks only "
            "so far ahead by denoise --model deep --lookahead N"
        )
    with _apply_store.Recorder(args.store, "apply --stream", _config(args, model, rate)) as record:
        session = Session(args, trained, model, rate, record)
        session.compile()
        say(_stream_report.opening(session))
        try:
            session.run()
        finally:  # also of a full disk, and of what nobody thought of
            if session.status != READER_LEFT:
                say(_stream_report.text(session))
                if args.json:
                    _output.write_json(args.json, _stream_report.as_json(session))
        session.end_record()
    if session.status == READER_LEFT:
        return 128 + 13  # SIGPIPE, as other filters end
    if session.error:
        raise ValueError(session.error)
    if session.interrupted:
        say(f"interrupted; the output is complete up to sample {session.taken}")
        return 128 + session.interrupted
    return 0


def _config(args, model, rate):
    names = ("model", "stream", "format", "channels", "block", "resample")
    given = {name: getattr(args, name) for name in names}
    return given | {"filter": repr(model), "delay": model.delay, "rate": rate}


def say(text):
    """Lines on standard error: standard output is for samples."""
    for line in text.splitlines():
        print(f"ssm-manual apply: {line}", file=sys.stderr, flush=True)


class Session:
    """One stream: what goes through, and what is counted on the way."""

    def __init__(self, args, trained, model, rate, record):
        self.record = record
        for name in ("input", "restored"):
            record.signal(name, args.format, args.channels, rate)
        self.path, self.model, self.rate = args.model, model, rate
        self.block, self.resampled = args.block, model is not trained
        self.format = _raw.Format(args.format, args.channels)
        self.stream = model.stream(args.channels)
        self.latency, self.filtering = _stream_report.Latency(), _stream_report.Latency()
        self.taken = self.given = self.clipped = 0
        self.busy = self.seconds = 0.0
        self.interrupted = None
        self.status, self.error = "failed", None  # until it has ended otherwise
        self._overflowed = False

    @property
    def real_time_factor(self):
        """Seconds of the signal that are filtered in a second; None without a rate or samples."""
        if self.rate is None or not self.busy:
            return None
        return self.taken / self.rate / self.busy

    def compile(self):
        """Run silence through a trial of its own, so that no sample waits for the compiler."""
        from ssm_manual._numba import announce_compilation

        channels = self.format.channels
        with announce_compilation(say):
            for count in (1, min(self.block, WARM_UP)):
                trial = self.model.stream(channels)
                for _ in range(2):  # from no state, and from one
                    trial.push(np.broadcast_to(self.model.offset, (channels, count)))
                trial.finish()

    def run(self):
        """Until the input ends, a signal comes, or the reader of the output has left."""
        # A full collection looks at every object that the imports have left, some hundred thousand,
        # and takes longer than many blocks. They live until the end anyway: set them apart.
        gc.freeze()
        began = time.perf_counter()
        try:
            with _raw.Interrupts() as interrupts:
                self._blocks(_raw.Source(STDIN, interrupts), interrupts)
                if not self._overflowed:
                    self._give(self.stream.finish())
                self.interrupted = interrupts.signal
            self.status = "failed" if self.error else "finished"
            if self.interrupted and not self.error:
                self.status = "interrupted"
        except BrokenPipeError:
            self.status = READER_LEFT
        except (OSError, ValueError) as error:
            self.error = str(error)
            raise
        except KeyboardInterrupt:
            self.status = "interrupted"
            raise
        finally:
            self.seconds = time.perf_counter() - began
            gc.unfreeze()

    def _blocks(self, source, interrupts):
        """Take every block; ``error`` says why the input ended too early, if it did."""
        size = self.block * self.format.frame
        beyond = 0
        while not beyond and not self.error:
            raw = source.read(size)
            start = time.perf_counter()
            if raw.startswith((b"RIFF", b"RF64")) and not self.taken:
                say(HEADER)
            beyond = len(raw) % self.format.frame
            if len(raw) > beyond:
                self._take(raw[: len(raw) - beyond], start)
            if len(raw) < size:
                break
        if beyond and not self.error and interrupts.signal is None:
            self.error = (
                f"standard input ended in the middle of sample {self.taken}, after {beyond} of its "
                f"{self.format.frame} bytes ({self.format.name}, {self.format.channels} "
                f"channel{'s' * (self.format.channels > 1)}); all before it was written"
            )

    def _take(self, raw, start):
        """One block through the filter and out."""
        block = self.format.decode(raw)
        try:
            restored = self.stream.push(block)
        except ValueError as error:
            block = self._sound_part(block, error)
            restored = self.stream.push(block)
        filtered = time.perf_counter()
        self.taken += block.shape[1]
        self._give(restored)
        written = time.perf_counter()
        self.latency.add(written - start)
        self.filtering.add(filtered - start)
        self.record.add("input", self.format.numbers(raw)[:, : block.shape[1]])
        self.record.moment()
        self.busy += time.perf_counter() - start

    def _sound_part(self, block, error):
        """What comes before the first value that the filter refuses; sets ``error``."""
        with np.errstate(over="ignore", invalid="ignore"):
            u = (block.astype(float) - self.model.offset) / self.model.scale
            refused = np.argwhere(~np.isfinite(u.astype(self.model.dtype)).T)
        if not len(refused):
            raise error
        at, channel = (int(i) for i in refused[0])
        self.error = (
            f"sample {self.taken + at} of channel {channel} in standard input is "
            f"{block[channel, at]:g}; every value must be finite and within the range of the "
            f"model's {self.model.dtype}; all before it was written (samples count from 0)"
        )
        return block[:, :at]

    def _give(self, restored):
        """Write restored samples, at once."""
        numbers, clipped = self.format.encode(restored)
        finite = np.isfinite(numbers if numbers.dtype.kind == "f" else restored.T)
        if not finite.all():
            at, channel = (int(i) for i in np.argwhere(~finite)[0])
            numbers, self._overflowed = numbers[:at], True
            self.error = (
                f"restored sample {self.given + at} of channel {channel} is "
                f"{restored[channel, at]:g}, beyond the range of {self.format.name}; all before it "
                "was written (samples count from 0)"
            )
        _raw.write(STDOUT, numbers)
        self.clipped += clipped
        self.given += len(numbers)
        self.record.add("restored", numbers.T)

    def end_record(self):
        """Say in the store how it ended."""
        if self.status == "finished":
            self.record.finish(
                samples=self.taken,
                clipped=self.clipped,
                real_time_factor=self.real_time_factor,
                **{f"latency_{key}": x for key, x in (self.latency.as_json() or {}).items()},
            )
        elif self.status == "failed":
            self.record.fail(self.error)
        else:
            interrupted = self.interrupted and signal.Signals(self.interrupted).name
            self.record.interrupt(interrupted or "the reader of the output has left")
