"""Numbers of a recording as bytes: integers and floating point, side by side or channel by channel.

Two conventions for integers. In a .wav file they are fractions of full scale: ``b`` bits hold
``x 2^(b-1)``, 8 bits and fewer ``128 + 128 x``. In a .npy file they are the numbers themselves.
"""

from typing import NamedTuple

import numpy as np


class Encoding(NamedTuple):
    """How one sample is written.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the numbers, with its byte order; int32 for 24 bits.
    width : int
        Bytes that a sample takes: 3 for 24 bits.
    scaled : bool
        Whether integers are fractions of full scale.
    """

    dtype: np.dtype
    width: int
    scaled: bool

    @property
    def name(self):
        """Such as ``"int24"``."""
        return "int24" if self.width == 3 else self.dtype.name

    def decode(self, raw):
        """Samples of the bytes ``raw``, in order: float64."""
        if self.width == 3:  # into the upper bytes of 32: their scale is that of 32 bits
            wide = np.zeros((len(raw) // 3, 4), np.uint8)
            upper = slice(0, 3) if self.dtype.str[0] == ">" else slice(1, 4)
            wide[:, upper] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
            numbers = wide.view(self.dtype)[:, 0]
        else:
            numbers = np.frombuffer(raw, self.dtype)
        # extended precision, a signalling NaN: what is not finite is reported by the reader
        with np.errstate(over="ignore", invalid="ignore"):
            samples = numbers.astype(np.float64)
        if self.scaled and self.dtype.kind == "u":
            samples = (samples - 128) / 128
        elif self.scaled and self.dtype.kind == "i":
            samples /= 2.0 ** (8 * self.dtype.itemsize - 1)
        return samples

    def encode(self, samples):
        """The bytes of real, finite ``samples`` in order, and how many integers were clipped.

        Integers are rounded to the nearest, halves to even. Floating point that overflows becomes
        infinite here: the caller looks.
        """
        if self.dtype.kind == "f":
            with np.errstate(over="ignore"):
                return samples.astype(self.dtype), 0
        bits = 8 * self.width
        numbers = samples.astype(np.float64)
        if self.scaled:
            numbers = numbers * 2.0 ** (bits - 1)
        numbers = np.rint(numbers)
        if self.scaled and self.dtype.kind == "u":
            numbers += 128
        signed = self.dtype.kind == "i"
        lowest = -(2.0 ** (bits - 1)) if signed else 0.0
        beyond = 2.0 ** (bits - 1) if signed else 2.0**bits  # exact, unlike the largest int64
        low, high = numbers < lowest, numbers >= beyond
        numbers[low | high] = 0
        integers = numbers.astype(self.dtype)
        integers[low], integers[high] = int(lowest), int(beyond) - 1
        if self.width == 3:
            integers = integers.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
        return np.ascontiguousarray(integers), int(np.count_nonzero(low | high))


class Grid(NamedTuple):
    """Samples in a file: ``channels`` by ``length`` numbers from byte ``offset`` on.

    ``planar`` files hold one channel after another, others one moment after another.
    """

    offset: int
    channels: int
    length: int
    planar: bool
    encoding: Encoding

    @property
    def bytes(self):
        """That all samples take."""
        return self.channels * self.length * self.encoding.width

    def read(self, file, start, count):
        """``(channels, count)``, float64, from sample ``start``; None if the file ends before."""
        width = self.encoding.width
        if self.planar:
            rows = [
                self._piece(file, (channel * self.length + start) * width, count * width)
                for channel in range(self.channels)
            ]
            if None in rows:
                return None
            return self.encoding.decode(b"".join(rows)).reshape(self.channels, count)
        frame = self.channels * width
        raw = self._piece(file, start * frame, count * frame)
        if raw is None:
            return None
        return np.ascontiguousarray(self.encoding.decode(raw).reshape(count, self.channels).T)

    def _piece(self, file, at, size):
        file.seek(self.offset + at)
        raw = file.read(size)
        return raw if len(raw) == size else None

    def write(self, file, start, block):
        """Put ``block (channels, count)`` at sample ``start``; returns the samples it had to clip.

        A value beyond the range of the floating-point format is a `ValueError`.
        """
        count = block.shape[1]
        flat = np.ascontiguousarray(block if self.planar else block.T).reshape(-1)
        numbers, clipped = self.encoding.encode(flat)
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            first = int(np.flatnonzero(~np.isfinite(numbers))[0])
            channel, sample = (
                divmod(first, count) if self.planar else divmod(first, self.channels)[::-1]
            )
            raise ValueError(
                f"sample {start + sample} of channel {channel} is {flat[first]:g}, beyond the "
                f"range of {self.encoding.name}"
            )
        raw = memoryview(numbers.reshape(-1).view(np.uint8))
        size = count * self.encoding.width
        if self.planar:
            for channel in range(self.channels):
                file.seek(
                    self.offset
                    + channel * self.length * self.encoding.width
                    + start * self.encoding.width
                )
                file.write(raw[channel * size : (channel + 1) * size])
        else:
            file.seek(self.offset + start * self.channels * self.encoding.width)
            file.write(raw)
        return clipped
