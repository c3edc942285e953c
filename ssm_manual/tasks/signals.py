"""Clean signals: sums of sinusoids, two recordings that ship with other packages, and files.

Everything comes back as a `Recording`: ``samples (channels, length)`` in double precision. Whoever
uses a recording chooses its scale; only audio files have one of their own (full scale is 1).
"""

import os
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.tasks.recordings import SUFFIXES, RecordingFile

__all__ = ["SUFFIXES", "Recording", "ecg", "eeg", "read", "sinusoids"]


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
    length = _validate.length("length", length, minimum=1)
    components = _validate.size("components", components)
    lowest = _validate.real_number("lowest", lowest, above=0, maximum=0.5)
    highest = _validate.real_number("highest", highest, minimum=lowest, maximum=0.5)
    if rate is not None:
        rate = _validate.real_number("rate", rate, above=0)
    _validate.generator("rng", rng)
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

    `ssm_manual.tasks.recordings.RecordingFile` says what these may hold. Integers of a .wav file
    are scaled to [-1, 1); everything else is taken as it stands.

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
    with RecordingFile(path) as file:
        if file.length < 2:
            raise ValueError(f"{file.path}: holds {file.length} samples; at least 2 are needed")
        return Recording(file.read(), file.rate, os.path.basename(file.path))
