"""One file format for every model: safetensors, with a checksum, written whole or not at all.

The file is a plain safetensors file, which other tools read too:

* the arrays by name, a complex array as real pairs along a last axis of 2;
* one entry of metadata, ``ssm_manual``, a JSON object: ``format_version``, the model's ``class``
  and ``hyperparameters``, ``complex`` (the names of the arrays that are pairs), the version of the
  ``library`` that wrote it, the caller's own ``metadata``, and two SHA-256 sums.

``data_sha256`` is taken over the arrays' bytes, ``header_sha256`` over everything before them, with
its own 64 digits as zeros. The header is checked at every load. The arrays are checked at a normal
load, and at a mapped one on request, since that reads them all.

Nothing in a file is ever executed: there is no pickle, and a class is looked up in `MODELS`. The
sums find damage, not forgery. The same model gives the same bytes.
"""

import contextlib
import hashlib
import importlib
import json
import os
from typing import NamedTuple

import numpy as np

from ssm_manual import _files, _tensors, _validate
from ssm_manual._version import __version__

__all__ = ["FORMAT_VERSION", "MODELS", "Checkpoint", "CheckpointError", "load", "read", "save"]

#: Version of the layout described above; a file of a later one is refused.
FORMAT_VERSION = 1

#: Where the class of a file is found.
MODELS = {
    "DenseSSM": "ssm_manual.layers",
    "DiagonalSSM": "ssm_manual.models",
    "GatedBlock": "ssm_manual.layers",
    "LinearRegression": "ssm_manual.models",
    "RecordingFilter": "ssm_manual.models",
    "S4": "ssm_manual.layers",
    "S4D": "ssm_manual.layers",
    "S4DBlock": "ssm_manual.layers",
    "SequenceModel": "ssm_manual.models",
    "TrainingState": "ssm_manual.training",
}

_KEY = "ssm_manual"
_BLANK = b"0" * 64

#: Longest header that is looked at, the limit of the safetensors library.
_LONGEST_HEADER = 100_000_000

#: What building a model raises where a header says something else than it should.
_UNSOUND = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


class CheckpointError(ValueError):
    """A file that is not a sound checkpoint, or holds something else than was asked for."""


class Checkpoint(NamedTuple):
    """What a file holds, before it becomes a model.

    Attributes
    ----------
    model : str
        Name of the class.
    hyperparameters : dict
        What the model needs beside its arrays.
    arrays : dict of ndarray
        Parameters by name. Writeable; writing never changes the file.
    metadata : dict
        What the caller gave to `save`.
    library : str
        Version of ssm_manual that wrote it.
    """

    model: str
    hyperparameters: dict
    arrays: dict
    metadata: dict
    library: str


def save(path, model, *, metadata=None):
    """Write a model to a file, which is replaced whole or not at all.

    The arrays go to a temporary file in the same folder, which is flushed to the disk and renamed.
    A process that is killed on the way leaves the old file as it was, and a hidden unfinished one.

    Parameters
    ----------
    path : path_like
        The file; by custom its name ends in ``.safetensors``.
    model : object
        One of the models of `MODELS`: it has ``to_checkpoint() -> (hyperparameters, arrays)``.
    metadata : dict, optional
        Anything of yours that JSON can hold; `read` gives it back.

    Raises
    ------
    ValueError
        If the model cannot be saved, an array has a dtype that the format has not, or the metadata
        does not fit into JSON.
    OSError
        If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = _path(path)
    name = type(model).__name__
    if name not in MODELS or not isinstance(model, _class(name)):
        known = ", ".join(MODELS)
        raise ValueError(f"model is {_validate.show(model)}; it must be one of {known}")
    if not isinstance(metadata, (dict, type(None))):
        raise ValueError(f"metadata is {_validate.show(metadata)}; it must be a dict, or None")
    hyperparameters, arrays = model.to_checkpoint()
    arrays = {key: np.asarray(a, order="C") for key, a in arrays.items()}
    pairs = {key: _as_pairs(key, a) for key, a in arrays.items()}
    header = {
        "class": name,
        "complex": sorted(key for key, a in arrays.items() if a.dtype.kind == "c"),
        "data_sha256": _BLANK.decode(),
        "format_version": FORMAT_VERSION,
        "header_sha256": _BLANK.decode(),
        "hyperparameters": hyperparameters,
        "library": __version__,
        "metadata": metadata or {},
    }
    try:
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata does not fit into JSON: {error}") from None
    with _files.replacement(path) as temporary:
        try:
            save_file(pairs, temporary, metadata={_KEY: text})
        except SafetensorError as error:  # a full disk too
            raise OSError(f"{os.fspath(path)}: cannot be written: {error}") from None
        _write_sums(temporary)


def load(path, *, expected=None, mmap=False, verify=None):
    """Read a model from a file.

    Parameters
    ----------
    path : path_like
        The file.
    expected : type or tuple of type, optional
        The class that the model must have; None takes any.
    mmap : bool
        True: the arrays stay on the disk until they are used, so that a load costs the same for
        any size. The model may be trained; what it changes is its own copy, never the file. The
        file may be replaced (by `save`) while it is mapped, but not shortened in place.
    verify : bool, optional
        Whether the arrays' checksum and values are checked, which reads all of them. None: at a
        normal load yes, at a mapped one no.

    Returns
    -------
    object
        The model.

    Raises
    ------
    CheckpointError
        If the file is truncated, damaged, not a checkpoint of this package, of a later format, or
        holds another class.
    OSError
        If it cannot be read.
    """
    wanted = expected if isinstance(expected, tuple) else (expected,)
    if expected is not None and not all(isinstance(cls, type) for cls in wanted):
        raise ValueError(
            f"expected is {_validate.show(expected)}; it must be a class, several of them, or None"
        )
    found = read(path, mmap=mmap, verify=verify)
    if expected is not None and found.model not in {cls.__name__ for cls in wanted}:
        names = " or ".join(f"a {cls.__name__}" for cls in wanted)
        held = found.model if found.model in MODELS else _files.short(found.model)
        raise CheckpointError(f"{path}: holds a {held}; it must hold {names}")
    try:
        cls = _class(found.model)
        check = not mmap if verify is None else verify
        return cls.from_checkpoint(found.hyperparameters, found.arrays, check=check)
    except _UNSOUND as error:
        what = found.model if found.model in MODELS else _files.short(found.model)
        text = str(error)
        text = text if len(text) <= 500 and text.isprintable() else _files.short(text, 500)
        raise CheckpointError(f"{path}: does not hold a sound {what}: {text}") from None


def read(path, *, mmap=False, verify=None):
    """Read what a file holds, without making a model of it; for arguments and errors see `load`.

    Parameters
    ----------
    path : path_like
        The file.
    mmap, verify : bool, optional
        See `load`.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        See `load`.
    """
    path = _path(path)
    _validate.flag("mmap", mmap)
    verify = not mmap if verify is None else _validate.flag("verify", verify)
    with _reading(path) as file:
        size = os.fstat(file.fileno()).st_size
        raw = _raw_header(path, file, size)
        header, tensors, expected = _parsed(path, raw)
        start = len(raw)
        if size - start != expected:
            what = "truncated" if size - start < expected else "longer than it says"
            raise CheckpointError(
                f"{path}: is {what}: it holds {size - start} bytes of arrays, its header says "
                f"{expected}"
            )
        if mmap:
            data = np.memmap(file, np.uint8, "c", offset=0, shape=(size,))[start:]
        else:
            data = np.empty(expected, np.uint8)
            if file.readinto(memoryview(data)) != expected:
                raise CheckpointError(f"{path}: is truncated")
    if verify and hashlib.sha256(memoryview(data)).hexdigest() != header["data_sha256"]:
        raise CheckpointError(f"{path}: is damaged: its arrays do not match their checksum")
    arrays = {key: entry.view(data) for key, entry in tensors.items()}
    for key in header["complex"]:
        arrays[key] = arrays[key].view(_tensors.COMPLEX[arrays[key].dtype])[..., 0]
    return Checkpoint(
        header["class"], header["hyperparameters"], arrays, header["metadata"], header["library"]
    )


# --------------------------------------------------------------------------------------- internals


def _path(path):
    try:
        return os.fspath(path)
    except TypeError:
        raise ValueError(f"path is {_validate.show(path)}; it must be a path") from None


@contextlib.contextmanager
def _reading(path):
    """A folder, a pipe or a device is an error of ours, and not of the system."""
    try:
        with _files.reading(path) as file:
            yield file
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is not a file but a folder") from None
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def _class(name):
    if name not in MODELS:
        known = ", ".join(MODELS)
        raise ValueError(f"{_files.short(name)} is not a model of this package ({known})")
    return getattr(importlib.import_module(MODELS[name]), name)


def _as_pairs(key, a):
    if a.dtype.kind == "c" and a.dtype.itemsize <= 16:
        a = a.astype(a.dtype.newbyteorder("="), copy=False)
        return a[..., np.newaxis].view(a.real.dtype)
    if a.dtype.newbyteorder("=") not in [np.dtype(dtype) for dtype in _tensors.DTYPES.values()]:
        raise ValueError(f"{key} has dtype {a.dtype}, which a checkpoint cannot hold")
    return a


def _place_of(field, raw):
    """Where a sum's digits stand in the header, whose JSON is a string inside JSON.

    No entry that sorts before the two sums can hold this pattern, so the first is the one.
    """
    pattern = f'\\"{field}\\":\\"'.encode()
    at = raw.find(pattern)
    return slice(at + len(pattern), at + len(pattern) + len(_BLANK)) if at >= 0 else None


def _header_sum(raw):
    blank = bytearray(raw)
    blank[_place_of("header_sha256", raw)] = _BLANK
    return hashlib.sha256(blank).hexdigest().encode()


def _write_sums(path):
    """Fill in both sums of a file that was written with zeros in their places."""
    with open(path, "r+b") as file:
        raw = bytearray(_raw_header(path, file, os.path.getsize(path)))
        sums = hashlib.sha256()
        while block := file.read(1 << 22):
            sums.update(block)
        raw[_place_of("data_sha256", raw)] = sums.hexdigest().encode()
        raw[_place_of("header_sha256", raw)] = _header_sum(raw)
        file.seek(0)
        file.write(raw)


def _raw_header(path, file, size):
    """Everything before the arrays: eight bytes that say how long the JSON is, and the JSON."""
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > _LONGEST_HEADER or length > size - 8:
        raise CheckpointError(f"{path}: is truncated, or not a safetensors file")
    text = file.read(length)
    if len(text) < length:
        raise CheckpointError(f"{path}: is truncated")
    return prefix + text


def _parsed(path, raw):
    """Our entry of the metadata, ``{name: Tensor}``, and the bytes of all arrays."""
    try:
        tensors = _tensors.strict_json(raw[8:])
        metadata = tensors.pop("__metadata__", {})
    except (ValueError, RecursionError, AttributeError, TypeError):
        raise CheckpointError(f"{path}: is damaged, or not a safetensors file") from None
    try:
        header = _tensors.strict_json(metadata[_KEY])
        version = header["format_version"]
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{path}: is a safetensors file, but not a model of ssm_manual"
        ) from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: is damaged: its metadata cannot be read") from None
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        library = _files.short(header.get("library", "unknown"))
        raise CheckpointError(
            f"{path}: has format version {_validate.show(version)} (written by ssm_manual "
            f"{library}); this version ({__version__}) reads up to {FORMAT_VERSION}: update it"
        )
    place = _place_of("header_sha256", raw)
    if place is None or raw[place] != _header_sum(raw):
        raise CheckpointError(f"{path}: is damaged: its header does not match its checksum")
    try:
        entries = {key: _tensors.Tensor.of(**value) for key, value in tensors.items()}
        size = _tensors.size_of_all(entries.values())
        well_formed = (
            isinstance(header["class"], str)
            and isinstance(header["data_sha256"], str)
            and isinstance(header["library"], str)
            and isinstance(header["hyperparameters"], dict)
            and isinstance(header["metadata"], dict)
            and isinstance(header["complex"], list)
            and all(entries[key].is_pairs for key in header["complex"])
            and len(set(header["complex"])) == len(header["complex"])
        )
    except (KeyError, TypeError, ValueError):
        well_formed = False
    if not well_formed:
        raise CheckpointError(f"{path}: has a header that makes no sense")
    return header, entries, size
