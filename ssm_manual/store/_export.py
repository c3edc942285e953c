"""A run as a folder of files."""

import json
import os
import re
import shutil
import tempfile

import numpy as np

from ssm_manual import _files, _validate
from ssm_manual.store import _plain
from ssm_manual.store.run import Run

#: Bytes that are copied at a time.
_PIECE = 1 << 22

#: Names that are devices on Windows, whatever comes after a dot.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)

#: Types that a .wav file holds, as `scipy.io.wavfile` writes them.
_WAV = ("float32", "float64", "int16", "int32", "uint8")


def export(run, folder):
    """See `Store.export`."""
    folder = _path("folder", folder)
    target = os.path.abspath(folder)
    parent = os.path.dirname(target)
    if os.path.lexists(target):
        raise ValueError(f"folder is {folder!r}, which exists; it must be a new one")
    if not os.path.isdir(parent):
        raise ValueError(f"folder is {folder!r}, but there is no folder {parent!r}")
    temporary = tempfile.mkdtemp(dir=parent, prefix=".export.", suffix=".part")
    try:
        _fill(run, temporary)
        for name in os.listdir(temporary):
            _files.flush(os.path.join(temporary, name))
        os.chmod(temporary, 0o777 & ~_files.umask())  # mkdtemp's folders are private
        _files.flush(temporary)
        os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _files.flush(parent)


def _path(argument, value):
    """A path as a text that the system takes; else work would be lost that had been done."""
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str) or not path:
        raise ValueError(f"{argument} is {_validate.show(value)}; it must be a path, not empty")
    try:
        valid = "\0" not in path and os.fsencode(path)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise ValueError(f"{argument} is {_validate.show(value)}; no file can have this name")
    return path


def _fill(run, folder):
    names = _Names(["config.json", "metrics.csv"])
    signals, checkpoints = run.signals, run.checkpoints
    described = {}
    for name, signal in signals.items():
        described[name] = signal._asdict() | {"file": names.new(name, ".npy")}
        path = os.path.join(folder, described[name]["file"])
        _write_npy(run, signal, path)
        if _fits_wav(signal):
            described[name]["wav"] = names.new(name, ".wav")
            _write_wav(path, os.path.join(folder, described[name]["wav"]), int(signal.rate))
    models = {name: names.new(name, ".safetensors") for name in checkpoints}
    for name, file_name in models.items():
        with open(os.path.join(folder, file_name), "wb") as file:
            run.write_checkpoint(name, file)
    with open(os.path.join(folder, "metrics.csv"), "w", encoding="utf-8", newline="") as file:
        file.write("name,step,value\r\n")
        for name, (steps, values) in run.metrics().items():
            name = _quoted(name)
            for step, value in zip(steps.tolist(), values.tolist()):
                file.write(f"{name},{step},{value!r}\r\n")
    about = describe(run) | {"signals": described, "checkpoints": models}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(_plain.strict(about), file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def _quoted(text):
    """A field of a .csv file; Python's own writer refuses NUL before 3.11."""
    if any(mark in text for mark in ',"\r\n') or not text:
        return '"' + text.replace('"', '""') + '"'
    return text


def _fits_wav(signal):
    """Whether the header of a .wav file can say it: 32 bits of bytes a second and in all."""
    if signal.rate is None or not signal.rate.is_integer() or signal.dtype not in _WAV:
        return False
    frame = np.dtype(signal.dtype).itemsize * (signal.channels or 1)
    return frame < 2**16 and frame * max(signal.rate, signal.length + 1) < 2**32 - 1024


def describe(run):
    """All about a run but what it measured, as plain data.

    Parameters
    ----------
    run : Run

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If it is no run.
    """
    if not isinstance(run, Run):
        raise ValueError(f"run is {_validate.show(run)}; it must be a Run")
    names = ("id", "name", "status", "error", "started", "ended", "seed", "tags", "config",
             "scores", "versions")  # fmt: skip
    return {name: getattr(run, name) for name in names}


def _write_npy(run, signal, path):
    """In Fortran's order, as the samples lie in the store: one after the other.

    Not through a mapped file, which ends the process when the disk is full.
    """
    dtype = np.dtype(signal.dtype)
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": signal.channels is not None,
        "shape": (*([] if signal.channels is None else [signal.channels]), signal.length),
    }
    step = max(1, _PIECE // (dtype.itemsize * (signal.channels or 1)))
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, signal.length, step):
            stop = min(start + step, signal.length)
            file.write(run.read(signal.name, start, stop).T.tobytes())


def _write_wav(npy, path, rate):
    from scipy.io import wavfile

    samples = np.load(npy, mmap_mode="r" if os.path.getsize(npy) > _PIECE else None)
    wavfile.write(path, rate, samples.T)


class _Names:
    """File names for any texts: safe everywhere, and no two the same even where case is ignored."""

    def __init__(self, taken):
        self._taken = set(taken)

    def new(self, name, suffix):
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80].strip("._- ") or "unnamed"
        if _DEVICES.match(stem):
            stem = f"_{stem}"
        number, found = 1, stem + suffix
        while found.casefold() in self._taken:
            number += 1
            found = f"{stem}-{number}{suffix}"
        self._taken.add(found.casefold())
        return found
