"""Raw samples through file descriptors: formats, blocks as they arrive, signals in between."""

import os
import select
import signal
import threading
import time

import numpy as np

from ssm_manual.tasks._encoding import Encoding

#: Samples as bytes, little-endian whatever the machine is; integers are fractions of full scale.
ENCODINGS = {
    "float32": Encoding(np.dtype("<f4"), 4, True),
    "int16": Encoding(np.dtype("<i2"), 2, True),
}

#: Bytes that are asked for at a time: room for all of them is made before they are there.
MOST = 1 << 20

#: Seconds until a descriptor that is not ready is tried again, where the system cannot say when.
PAUSE = 0.001


class Format:
    """Samples of all channels, moment after moment: ``float32`` or ``int16``."""

    def __init__(self, name, channels):
        self.name, self.channels, self.encoding = name, channels, ENCODINGS[name]
        self.frame = channels * self.encoding.width  # bytes of one moment

    def numbers(self, raw):
        """``(channels, n)`` as they are; the bytes of n moments."""
        return np.frombuffer(raw, self.encoding.dtype).reshape(-1, self.channels).T

    def decode(self, raw):
        """``(channels, n)`` in the recording's units."""
        if self.encoding.dtype.kind == "f":  # the stream converts, and finds NaN
            return self.numbers(raw)
        return self.encoding.decode(raw).reshape(-1, self.channels).T

    def encode(self, block):
        """The bytes of ``block (channels, n)``, and how many integers were clipped.

        A value beyond the range of the floating-point format becomes infinite.
        """
        with np.errstate(invalid="ignore"):  # NaN as an integer is any number: the caller looks
            return self.encoding.encode(np.ascontiguousarray(block.T))


class Interrupts:
    """Context manager: SIGINT and SIGTERM end a `Source` between two reads, at no other place.

    A handler that raises could do so between the arrival of samples and the line that keeps them,
    and they would be lost. So the handler only takes a note; the system's own note, a byte in a
    pipe, wakes whoever waits for samples. The second signal raises, should the work be stuck.
    """

    def __init__(self):
        self.signal = None  # number of the first one
        self._poll = self._fds = None
        self._former = {}

    def __enter__(self):
        if threading.current_thread() is not threading.main_thread():
            return self  # no other thread may have handlers
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and "&" leave it
                self._former[number] = signal.signal(number, self._note)
        if hasattr(select, "poll"):
            self._fds = os.pipe()
            for fd in self._fds:
                os.set_blocking(fd, False)
            self._former_fd = signal.set_wakeup_fd(self._fds[1], warn_on_full_buffer=False)
            self._poll = select.poll()
            self._poll.register(self._fds[0], select.POLLIN)
        return self

    def __exit__(self, *raised):
        if self._fds:
            signal.set_wakeup_fd(self._former_fd)
            for fd in self._fds:
                os.close(fd)
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def watch(self, fd):
        """Let `wait` wait for this descriptor."""
        if self._poll:
            self._poll.register(fd, select.POLLIN)

    def wait(self):
        """Wait until there is something to read; whether it should be read."""
        ready = not self._poll
        while not ready and self.signal is None:
            for fd, _ in self._poll.poll():
                if fd != self._fds[0]:
                    ready = True
                    continue
                number = os.read(fd, 1)[0]  # the handler itself may be yet to run
                if number in self._former:  # and not one that means nothing here
                    self.signal = self.signal or number
        return self.signal is None


class Source:
    """Blocks of bytes from a descriptor."""

    def __init__(self, fd, interrupts):
        self._fd, self._interrupts = fd, interrupts
        interrupts.watch(fd)

    def read(self, size):
        """``size`` bytes as soon as so many are there; fewer at the end, or after a signal."""
        pieces, have = [], 0
        while have < size and self._interrupts.wait():
            try:
                piece = os.read(self._fd, min(size - have, MOST))
            except BlockingIOError:
                time.sleep(PAUSE)
                continue
            if not piece:
                break
            pieces.append(piece)
            have += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def write(fd, numbers):
    """All bytes of an array into a descriptor, without a buffer of our own in between."""
    rest = memoryview(numbers.reshape(-1).view(np.uint8))
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            if hasattr(select, "poll"):
                select.select([], [fd], [])
            else:
                time.sleep(PAUSE)
