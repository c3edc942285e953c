"""Recordings in files, block by block: .wav, .npy and .csv.

A `RecordingFile` knows what it holds and reads any part of it, so that hours of sound are never in
memory as a whole; `write` puts blocks into a new file, which appears when it is complete.

Samples are float64 in the units of `ssm_manual.tasks.signals.read`: integers of a .wav file are
fractions of full scale, everything else is taken as it stands. Only .csv files are read whole.
"""

import os
from typing import NamedTuple

import numpy as np

from ssm_manual import _files, _validate
from ssm_manual.tasks import _npy, _table, _wav
from ssm_manual.tasks._encoding import Encoding

__all__ = ["RATE_TOLERANCE", "SUFFIXES", "RecordingFile", "Written", "check_suffix", "write"]

#: Files that are understood.
SUFFIXES = (".csv", ".npy", ".wav")

#: Relative difference up to which two sampling rates are one: rounded times in a .csv file differ
#: by less, 44.1 kHz and its television twin 44.056 kHz by more.
RATE_TOLERANCE = 5e-4


def check_suffix(name, path):
    """The suffix of a path in lower case.

    Parameters
    ----------
    name : str
        What the message begins with.
    path : str or os.PathLike
        The path.

    Returns
    -------
    str
        One of `SUFFIXES`.

    Raises
    ------
    ValueError
        If it is another one.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{name}: its name ends in {suffix!r}; it must end in .csv, .npy or .wav")
    return suffix


class RecordingFile:
    """A recording in a file: what it holds is known at once, samples are read on demand.

    * ``.wav``: integers of 8, 16, 24, 32 or 64 bits or floating point of 32 or 64 bits, plain or
      extensible; RF64 above 4 GiB. Compressed sound is refused. Chunks with titles, marks and the
      like are passed over.
    * ``.npy``: real numbers of shape ``(length,)``, ``(channels, length)`` or ``(length,
      channels)``: the longer axis is time. Pickled objects are refused, never loaded.
    * ``.csv``: one sample a line, one channel a column, separated by commas, semicolons, tabs or
      spaces; one line of column names may come first. A column named ``time`` or ``t`` (in seconds)
      gives the rate and is no channel.

    Use it in a ``with`` statement, or close it. Reading n samples of c channels takes time and
    memory proportional to c n, wherever in the file they are.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Attributes
    ----------
    path, suffix : str
        Its name as given, and how that ends, in lower case.
    channels, length : int
        Number of channels, and of samples in each; both at least 1.
    rate : float or None
        Samples per second; None where the file does not tell.
    sample_format : str
        Such as ``"int24"`` or ``"float32"``; that of a .csv file is ``"float64"``.

    Raises
    ------
    ValueError
        If the suffix is another one, or the file is malformed, truncated, compressed, empty or not
        numeric; the message names the file and the reason.
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from ssm_manual.tasks.recordings import RecordingFile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "two.npy")
    ...     np.save(path, np.arange(10.0).reshape(2, 5))
    ...     with RecordingFile(path) as file:
    ...         print(file.channels, file.length, file.sample_format)
    ...         print([block.shape for block in file.blocks(2)])
    2 5 float64
    [(2, 2), (2, 2), (2, 1)]
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        self.suffix = check_suffix(self.path, self.path)
        self.rate = self._file = self._grid = self._table = self._npy = self._mask = None
        if self.suffix == ".csv":
            self._table = _table.parse(self.path)
            self.rate, self.sample_format = self._table.rate, "float64"
            self.channels, self.length = self._table.samples.shape
        else:
            self._file = _files.opened(self.path)  # closed by close
            try:
                with _files.named(self.path):
                    if self.suffix == ".wav":
                        self._open_wav()
                    else:
                        self._npy = _npy.parse(self.path)
                        self._grid = self._npy.grid
            except BaseException:
                self._file.close()
                raise
            self.sample_format = self._grid.encoding.name
            self.channels, self.length = self._grid.channels, self._grid.length
        if self.channels == 0 or self.length == 0:
            self.close()
            raise ValueError(f"{self.path}: holds no samples")

    def _open_wav(self):
        try:
            self._grid, rate, self._mask = _wav.parse(self._file)
        except ValueError as error:
            raise ValueError(f"{self.path}: is not a readable .wav file ({error})") from None
        self.rate = float(rate)

    def __repr__(self):
        rate = "unknown rate" if self.rate is None else f"{self.rate:g} Hz"
        return (
            f"RecordingFile({self.path!r}: {self.channels} x {self.length} {self.sample_format}, "
            f"{rate})"
        )

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.close()

    def close(self):
        """Let go of the file; what was read stays."""
        if self._file is not None:
            self._file.close()

    def read(self, start=0, count=None):
        """Some of the samples, or all.

        Parameters
        ----------
        start : int
            Number of the first sample, from 0 to ``length``.
        count : int or None
            How many; None is all that follow. More than there are is an error.

        Returns
        -------
        ndarray
            ``(channels, count)``, float64, contiguous, finite.

        Raises
        ------
        ValueError
            If the range does not fit, a sample is NaN or infinite (the message says which), or
            the file has become shorter.
        """
        start = _validate.integer("start", start, minimum=0, maximum=self.length)
        if count is None:
            count = self.length - start
        count = _validate.integer("count", count, minimum=0, maximum=self.length - start)
        if self._table is not None:
            block = self._table.samples[:, start : start + count].copy()
        else:
            with _files.named(self.path):
                block = self._grid.read(self._file, start, count)
        if block is None:
            raise ValueError(f"{self.path}: has become shorter while it was read")
        _finite(f"{self.path}: ", block, start)
        return block

    def blocks(self, size):
        """The recording from beginning to end, piece by piece.

        Parameters
        ----------
        size : int
            Samples in a block, at least 1; the last one may be shorter.

        Yields
        ------
        ndarray
            ``(channels, n)``, as `read` returns them.

        Raises
        ------
        ValueError
            As `read`.
        """
        size = _validate.integer("size", size, minimum=1)
        for start in range(0, self.length, size):
            yield self.read(start, min(size, self.length - start))


class Written(NamedTuple):
    """What `write` has done.

    Attributes
    ----------
    sample_format : str
        Of the file, such as ``"int24"``.
    clipped : int
        Samples that integers could not hold and that were set to the nearest one.
    beyond_full_scale : int
        Samples of a floating-point .wav file outside [-1, 1]: kept, but players clip them.
    """

    sample_format: str
    clipped: int
    beyond_full_scale: int


def write(path, blocks, like, *, rate=None, precision="float64"):
    """Write a recording block by block; the file appears when it is complete, or not at all.

    If ``path`` ends as the name of ``like`` does, the file is written as that one is: sample
    format, order of axes, column of times. Otherwise floating point in ``precision``: in a .wav
    file as it stands (full scale is 1), in a .npy file of shape ``(length,)`` or ``(channels,
    length)``, in a .csv file below column names, with a column of times where the rate is known.

    Integers are rounded to the nearest, halves to even, and clipped to their range; in a .wav file
    of b bits after multiplication by 2^(b-1).

    Parameters
    ----------
    path : str or os.PathLike
        The file to write; an old one is replaced. It must not be that of ``like``.
    blocks : iterable of ndarray
        ``(channels, n)``, real and finite, with ``like.length`` samples in all.
    like : RecordingFile
        Gives the number of channels, the length and the rate.
    rate : float, optional
        Samples per second, for a ``like`` that does not know them. A .wav file cannot do without,
        and holds whole numbers.
    precision : str
        ``"float32"`` or ``"float64"``, where the format of ``like`` is not kept.

    Returns
    -------
    Written

    Raises
    ------
    ValueError
        If an argument does not fit, the blocks are not as long as ``like``, or a value is not
        finite or beyond the range of the format. Whatever stood at ``path`` is then still there.
    OSError
        If the file cannot be written.
    """
    path = os.fspath(path)
    suffix = check_suffix(path, path)
    if not isinstance(like, RecordingFile):
        raise ValueError(f"like is {_validate.show(like)}; it must be a RecordingFile")
    if os.path.exists(path) and os.path.samefile(path, like.path):
        raise ValueError(f"path is {path!r}, the file that is read; choose another name")
    _validate.one_of("precision", precision, ("float32", "float64"))
    if rate is not None:
        rate = _validate.real_number("rate", rate, above=0)
        if like.rate is not None and abs(rate / like.rate - 1) > RATE_TOLERANCE:
            raise ValueError(f"rate is {rate:g}; {like.path} says {like.rate:g}")
    rate = like.rate if like.rate is not None else rate
    open_writer = {".wav": _wav_writer, ".npy": _npy_writer, ".csv": _csv_writer}[suffix]
    head, put, tail, sample_format = open_writer(like, suffix == like.suffix, rate, precision)
    counts = {"clipped": 0, "beyond": 0}

    def fill(file):
        file.write(head)
        done = 0
        for block in blocks:
            block = _validate.shape("block", np.asarray(block), (like.channels, None))
            _finite("output: ", block, done)
            if done + block.shape[1] > like.length:
                raise ValueError(f"blocks holds more than {like.length} samples")
            counts["clipped"] += put(file, done, block)
            if suffix == ".wav" and sample_format.startswith("float"):
                counts["beyond"] += int(np.count_nonzero(np.abs(block) > 1))
            done += block.shape[1]
        if done < like.length:
            raise ValueError(f"blocks holds {done} samples; it must hold {like.length}")
        file.seek(0, os.SEEK_END)
        file.write(tail)

    _files.write_atomically(path, fill)
    return Written(sample_format, counts["clipped"], counts["beyond"])


def _finite(where, block, start):
    if not np.isfinite(block).all():
        sample, channel = np.argwhere(~np.isfinite(block.T))[0]
        raise ValueError(
            f"{where}sample {start + sample} of channel {channel} is {block[channel, sample]}; "
            "every sample must be finite"
        )


# A writer is what precedes the samples, a function (file, start, block) -> clipped that puts a
# block in its place, what follows the samples, and the name of the sample format.


def _wav_writer(like, same, rate, precision):
    if rate is None:
        raise ValueError("a .wav file needs a sampling rate, and there is none; state it")
    whole = round(rate)
    if not 1 <= whole <= 0xFFFFFFFF or abs(rate / whole - 1) > RATE_TOLERANCE:
        raise ValueError(
            f"the rate is {rate:g} samples per second; a .wav file holds whole numbers from 1 on"
        )
    dtype = np.dtype(precision)
    encoding = like._grid.encoding if same else Encoding(dtype, dtype.itemsize, True)
    mask = like._mask if same else None
    head, grid = _wav.header(encoding, like.channels, like.length, whole, mask)
    return head, grid.write, b"\0" * (grid.bytes % 2), encoding.name


def _npy_writer(like, same, rate, precision):
    npy = like._npy if same else _npy.plain(like.channels, like.length, np.dtype(precision))
    head, grid = _npy.header(npy)
    return head, grid.write, b"", grid.encoding.name


def _csv_writer(like, same, rate, precision):
    table = like._table if same else _table.like(like.channels, rate, like.length)
    single = not same and precision == "float32"

    def put(file, start, block):
        file.write(_table.lines(table, start, block, single).encode())
        return 0

    head = b"" if table.header is None else f"{table.header}\n".encode()
    return head, put, b"", "float32" if single else "float64"
