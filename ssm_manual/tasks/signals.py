"""Clean signals: sums of sinusoids, two recordings that ship with other packages, and files.

Everything comes back as a `Recording`: ``samples (channels, length)`` in double precision. Whoever
uses a recording chooses its scale; only audio files have one of their own (full scale is 1).
"""

import os
import warnings
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate

__all__ = ["SUFFIXES", "Recording", "ecg", "eeg", "read", "sinusoids"]

#: Files that `read` understands.
SUFFIXES = (".csv", ".npy", ".wav")

#: Names of a column of a .csv file that holds the time in seconds and no signal.
TIME_COLUMNS = ("t", "time", "seconds", "t (s)", "time (s)", "t [s]", "time [s]")


class Recording(NamedTuple):
    """One or several channels of a signal, sampled together.

    Attributes
    ----------
    samples : ndarray
        ``(channels, length)``, float64, finite.
    rate : float or None
        Samples per second; None where it is not known.
    name : str
        What tables and figures call it.
    """

    samples: np.ndarray
    rate: float | None
    name: str


def sinusoids(length, *, components=3, rng, lowest=0.002, highest=0.05, rate=None):
    """``u_t = sum_i a_i sin(2 pi f_i t + phi_i)`` with random frequencies, phases and amplitudes.

    Frequencies are uniform on a logarithmic scale between ``lowest`` and ``highest``, phases
    uniform on the circle and amplitudes uniform in [0.5, 1.5).

    Parameters
    ----------
    length : int
        Number of samples, at least 1.
    components : int
        Number of sinusoids, at least 1.
    rng : numpy.random.Generator
        Where the random numbers come from.
    lowest, highest : float
        Range of the frequencies in cycles per sample, ``0 < lowest <= highest <= 0.5``.
    rate : float or None
        Samples per second, passed on to the recording.

    Returns
    -------
    Recording
        One channel.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from ssm_manual.tasks import signals
    >>> signals.sinusoids(1000, components=2, rng=np.random.default_rng(0)).samples.shape
    (1, 1000)
    """
    length = _validate.integer("length", length, minimum=1)
    components = _validate.integer("components", components, minimum=1)
    lowest = _validate.real_number("lowest", lowest, above=0, maximum=0.5)
    highest = _validate.real_number("highest", highest, minimum=lowest, maximum=0.5)
    if rate is not None:
        rate = _validate.real_number("rate", rate, above=0)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng is {_validate.show(rng)}; it must be a numpy.random.Generator")
    frequency = np.exp(rng.uniform(np.log(lowest), np.log(highest), (components, 1)))
    phase = rng.uniform(0, 2 * np.pi, (components, 1))
    amplitude = rng.uniform(0.5, 1.5, (components, 1))
    angle = 2 * np.pi * frequency * np.arange(length) + phase
    samples = np.sum(amplitude * np.sin(angle), axis=0, keepdims=True)
    return Recording(samples, rate, "sinusoids")


def ecg():
    """An electrocardiogram from PyWavelets: 1024 samples, three heart beats, raw units.

    PyWavelets documents no sampling rate, so there is none here.

    Returns
    -------
    Recording
        One channel.

    Raises
    ------
    ValueError
        If PyWavelets is not installed.
    """
    try:
        import pywt.data
    except ImportError:
        raise ValueError(
            "the ECG recording comes with PyWavelets, which is not installed: "
            "pip install 'ssm_manual[examples]'"
        ) from None
    return Recording(np.asarray(pywt.data.ecg(), dtype=np.float64)[np.newaxis], None, "ecg")


def eeg():
    """Ten seconds of an electroencephalogram from Matplotlib's samples: four channels of 800.

    The file holds little-endian doubles, the four channels of a sample side by side (electrodes
    PG3, PG5, PG7, PG9 in Matplotlib's example "MRI with EEG"), each with mean zero and deviation
    one over the ten seconds.

    Returns
    -------
    Recording
        Four channels, 80 samples per second.

    Raises
    ------
    ValueError
        If this Matplotlib does not hold the file, or holds another one.
    """
    from matplotlib import cbook

    try:
        with cbook.get_sample_data("eeg.dat", asfileobj=True) as file:
            raw = file.read()
    except OSError:
        raise ValueError("this Matplotlib was installed without its sample file eeg.dat") from None
    if len(raw) != 800 * 4 * 8:
        raise ValueError(
            f"Matplotlib's sample file eeg.dat has {len(raw)} bytes; it must have 25600"
        )
    samples = np.frombuffer(raw, dtype="<f8").reshape(800, 4).T
    return Recording(np.ascontiguousarray(samples, dtype=np.float64), 80.0, "eeg")


def read(path):
    """A recording from a .csv, .npy or .wav file.

    * ``.csv``: one sample a line, one channel a column, separated by commas, semicolons, tabs or
      spaces; one line of column names may come first. A column named ``time`` or ``t`` (in seconds)
      gives the rate and is no channel.
    * ``.npy``: real numbers of shape ``(length,)``, ``(channels, length)`` or ``(length,
      channels)``: the longer axis is time. Pickled objects are refused, never loaded.
    * ``.wav``: 8, 16, 24, 32 or 64 bit integers, scaled to [-1, 1), or floating point as it is.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    Recording

    Raises
    ------
    ValueError
        If the suffix is another one, or the file is malformed, truncated, empty, not numeric or not
        finite; the message names the file and the reason.
    OSError
        If the file cannot be opened.
    """
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: its name ends in {suffix!r}; it must end in .csv, .npy or .wav")
    samples, rate = _READERS[suffix](path)
    if samples.size == 0:
        raise ValueError(f"{path}: holds no samples")
    if samples.shape[-1] < 2:
        raise ValueError(f"{path}: holds {samples.shape[-1]} samples; at least 2 are needed")
    if not np.isfinite(samples).all():
        channel, sample = np.argwhere(~np.isfinite(samples))[0]
        raise ValueError(
            f"{path}: sample {sample} of channel {channel} is {samples[channel, sample]}; "
            "every sample must be finite"
        )
    return Recording(np.ascontiguousarray(samples), rate, os.path.basename(path))


def _read_csv(path):
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [(number, line.strip()) for number, line in enumerate(file, 1)]
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not a text file") from None
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{path}: is empty")
    separator = next((s for s in ";\t," if s in lines[0][1]), None)
    split = [(number, [field.strip() for field in line.split(separator)]) for number, line in lines]
    header = None
    if not any(_is_number(field) for field in split[0][1]):
        header = [field.strip("\"'").lower() for field in split.pop(0)[1]]
    if not split:
        raise ValueError(f"{path}: holds a line of names and no samples")
    width = len(split[0][1])
    rows = np.empty((len(split), width))
    for row, (number, fields) in zip(rows, split):
        if len(fields) != width:
            raise ValueError(
                f"{path}: line {number} has {len(fields)} fields; the first has {width}"
            )
        for column, field in enumerate(fields):
            if not _is_number(field):
                raise ValueError(f"{path}: line {number} holds {field!r}, which is not a number")
            row[column] = float(field)
    columns = rows.T
    if header is None or len(header) != width:
        return columns, None
    times = [i for i, name in enumerate(header) if name in TIME_COLUMNS]
    if not times or width == 1:
        return columns, None
    return np.delete(columns, times[0], axis=0), _rate(path, columns[times[0]])


def _is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field  # float("1_000") is Python's notation, not a file's


def _rate(path, times):
    """Samples per second of equally spaced times, which may be rounded by less than half a step."""
    if len(times) < 2:
        return None  # reported by the caller
    if not np.isfinite(times).all():
        raise ValueError(f"{path}: its time column holds NaN or infinity")
    step = (times[-1] - times[0]) / (len(times) - 1)
    if not (step > 0 and np.abs(times - times[0] - step * np.arange(len(times))).max() < step / 2):
        raise ValueError(f"{path}: its time column is not equally spaced and increasing")
    return float(1 / step)


def _read_npy(path):
    try:
        # mapped: a header that promises more than the file holds is found out, not allocated
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # malformed headers raise half a dozen kinds
        raise ValueError(f"{path}: is not a readable .npy file ({error})") from None
    if not isinstance(mapped, np.ndarray):  # an archive of several arrays under the wrong name
        mapped.close()
        raise ValueError(f"{path}: is an archive; it must hold a single array")
    if mapped.dtype.kind not in "iuf":
        raise ValueError(f"{path}: has dtype {mapped.dtype}; it must hold real numbers")
    if mapped.ndim not in (1, 2):
        raise ValueError(
            f"{path}: has shape {mapped.shape}; it must be (length,) or (channels, length)"
        )
    with np.errstate(over="ignore"):  # extended precision may overflow; the caller reports infinity
        samples = np.atleast_2d(np.array(mapped, dtype=np.float64))
    return (samples.T if samples.shape[0] > samples.shape[1] > 0 else samples), None


def _read_wav(path):
    from scipy.io import wavfile

    with open(path, "rb") as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            rate, data = wavfile.read(file)
        except Exception as error:  # struct.error, ValueError, ZeroDivisionError, ...
            raise ValueError(f"{path}: is not a readable .wav file ({error})") from None
    for warning in caught:  # extra chunks are harmless; an early end is not
        if "EOF" in str(warning.message):
            raise ValueError(f"{path}: is truncated ({warning.message})")
    if rate <= 0:
        raise ValueError(f"{path}: says {rate} samples per second; it must be positive")
    samples = np.atleast_2d(data.T).astype(np.float64)
    if data.dtype == np.uint8:
        samples = (samples - 128) / 128
    elif data.dtype.kind == "i":  # 24 bits arrive in the upper bytes of 32
        samples /= 2.0 ** (8 * data.dtype.itemsize - 1)
    return samples, float(rate)


_READERS = dict(zip(SUFFIXES, (_read_csv, _read_npy, _read_wav)))
