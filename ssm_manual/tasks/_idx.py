"""Labelled images in files: a pair of IDX files, plain or compressed by gzip, or an .npz archive.

An IDX file (http://yann.lecun.com/exdb/mnist) is two zero bytes, the type of a number, the number
of axes, the length of each axis as 32 bits, and the numbers, the last axis fastest; all of it
big-endian.

What a header promises is compared with what the file can hold before any memory is asked for. A
deflated stream grows by less than 1032 when it is unpacked, so that this can be told of compressed
files too. Pickled objects are refused, never loaded. A `ValueError` names the file.
"""

import gzip
import io
import math
import os
import struct
import zipfile
import zlib

import numpy as np

from ssm_manual import _files, _validate
from ssm_manual.tasks import _npy as _npy_header

#: Third byte of an IDX file.
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

#: Most bytes that deflate makes of one.
RATIO = 1032

#: What an .npz archive may call images and labels.
NAMES = (("x", "y"), ("x_train", "y_train"))

#: More classes than this are no classes: pixels taken for labels, say.
MOST_CLASSES = 1000

#: What `zipfile` raises of archives that are none, damaged, encrypted or compressed otherwise; an
#: `OSError` where a damaged one sends it to a place before the beginning.
MALFORMED = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    UnicodeDecodeError,
    zlib.error,
)

#: Most bytes that an array may have once it is unpacked: a megabyte can hold a gigabyte of zeros.
MOST_UNPACKED = 1 << 30

_BLOCK = 1 << 20


def read(data):
    """What one .npz archive or two IDX files hold.

    Parameters
    ----------
    data : str, os.PathLike, or a sequence of one or two of them
        Two: images and labels, in any order.

    Returns
    -------
    images : ndarray
        (items, rows, columns), integers or floating point.
    labels : ndarray
        (items,), int64.

    Raises
    ------
    ValueError
        If a file is malformed, or does not hold labelled images.
    OSError
        If it cannot be opened.
    """
    paths = _paths(data)
    if len(paths) == 1:
        if not _begins(paths[0], b"PK"):
            raise ValueError(
                f"{paths[0]}: is no .npz archive; a single file must be one. IDX files come in "
                "pairs: give the one of the images and the one of the labels"
            )
        return read_npz(paths[0])
    for path in paths:
        if _begins(path, b"PK"):
            raise ValueError(f"{path}: is an archive; give it alone, it has images and labels")
    arrays = sorted(zip(map(read_idx, paths), paths), key=lambda pair: -pair[0].ndim)
    return _checked(*arrays[0], *arrays[1])


def read_idx(path):
    """The array of one IDX file; native byte order."""
    path = os.fspath(path)
    with _files.reading(path) as file:
        room = file.seek(0, 2)
        file.seek(0)
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return _idx(path, file, room)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _idx(path, unpacked, RATIO * room, packed=True)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: is no complete gzip file ({error})") from None


def _idx(path, file, room, packed=False):
    """The array of an open file that holds at most ``room`` bytes."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise ValueError(f"{path}: is no IDX file: it begins with {head!r}, not with two zeros")
    if head[2] not in TYPES:
        raise ValueError(f"{path}: is no IDX file: 0x{head[2]:02x} stands for no type of number")
    axes = head[3]
    if axes not in (1, 3):
        raise ValueError(
            f"{path}: has {axes} axes; it must have 3 (images, rows, columns) or 1 (labels)"
        )
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise ValueError(f"{path}: is truncated: it ends within its header")
    shape = struct.unpack(f">{axes}I", sizes)
    dtype = np.dtype(TYPES[head[2]])
    wanted = math.prod(shape) * dtype.itemsize  # Python's integers: no overflow
    if wanted > room:
        raise ValueError(
            f"{path}: is truncated: its header promises {wanted} bytes of shape {shape}, more than "
            "the file can hold"
        )
    _check_unpacked(path, wanted, packed)
    numbers = bytearray()
    while len(numbers) < wanted:
        block = file.read(min(_BLOCK, wanted - len(numbers)))
        if not block:
            raise ValueError(
                f"{path}: is truncated: its header promises {wanted} bytes of shape {shape}, "
                f"{len(numbers)} are there"
            )
        numbers += block
    if file.read(1):
        raise ValueError(f"{path}: goes on after the {wanted} bytes of shape {shape} of its header")
    if not wanted:  # the other axes may be longer than an array's can be
        raise ValueError(f"{path}: has shape {shape}; it holds no number")
    return np.frombuffer(numbers, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def read_npz(path):
    """Images and labels of an .npz archive, as `read` gives them."""
    path = os.fspath(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = {os.path.splitext(name)[0]: name for name in archive.namelist()}
            pair = next((pair for pair in NAMES if set(pair) <= set(names)), None)
            if pair is None:
                raise ValueError(
                    f"{path}: holds {_files.listed(sorted(names)) or 'nothing'}; it must hold x "
                    "and y, or x_train and y_train"
                )
            x, y = (_npy(path, archive, archive.getinfo(names[key])) for key in pair)
    except MALFORMED as error:
        reason = _files.short(str(error), 200)
        raise ValueError(f"{path}: is no readable .npz archive ({reason})") from None
    return _checked(x, f"{path}, {pair[0]}", y, f"{path}, {pair[1]}")


def _npy(path, archive, member):
    """One array of an archive."""
    name = f"{path}, {os.path.splitext(member.filename)[0]}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name}: is compressed in a way that NumPy does not use")
    with archive.open(member) as file:
        try:
            version = np.lib.format.read_magic(file)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            # NumPy reads as much as the header says it has, before it looks at its own limit
            size = file.read(2 if version == (1, 0) else 4)
            if int.from_bytes(size, "little") > _npy_header.LONGEST_HEADER:
                raise ValueError("its header is too long")
            text = file.read(int.from_bytes(size, "little"))
            shape, _, dtype = header(io.BytesIO(size + text))
        except Exception as error:  # malformed headers raise half a dozen kinds
            reason = _files.short(str(error), 200)
            raise ValueError(f"{name}: is no readable array ({reason})") from None
    if dtype.kind not in "iuf":
        what = "pickled objects, which are not loaded" if dtype.hasobject else f"dtype {dtype}"
        raise ValueError(f"{name}: holds {what}; it must hold real numbers")
    if any(type(n) is not int or n < 0 for n in shape):  # NumPy lets True pass
        raise ValueError(f"{name}: is no readable array (its shape is {shape})")
    wanted = math.prod(shape) * dtype.itemsize
    if not wanted:  # the other axes may be longer than an array's can be
        raise ValueError(f"{name}: has shape {shape}; it holds no number")
    ratio = 1 if member.compress_type == zipfile.ZIP_STORED else RATIO
    room = min(member.file_size, ratio * os.path.getsize(path))
    if wanted > room:
        raise ValueError(
            f"{name}: is truncated: its header promises {wanted} bytes of shape {shape}, more than "
            "the file can hold"
        )
    _check_unpacked(name, wanted, ratio > 1)
    with archive.open(member) as file:
        try:
            a = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{name}: is truncated ({error})") from None
        if file.read(1):
            raise ValueError(f"{name}: goes on after its {wanted} bytes of shape {shape}")
    return a.astype(a.dtype.newbyteorder("="), copy=False)


def _check_unpacked(name, wanted, packed):
    if packed and wanted > MOST_UNPACKED:
        raise ValueError(
            f"{name}: unpacks to {wanted} bytes, more than {MOST_UNPACKED}; a larger array must be "
            "in a file that is not compressed"
        )


def _checked(images, images_name, labels, labels_name):
    """Images (items, rows, columns) and int64 labels (items,), or a `ValueError`."""
    if images.ndim == 2 and math.isqrt(images.shape[1]) ** 2 == images.shape[1]:
        side = math.isqrt(images.shape[1])
        images = images.reshape(len(images), side, side)
    if images.ndim != 3:
        raise ValueError(
            f"{images_name}: has shape {images.shape}; images must be (items, rows, columns), or "
            "(items, pixels) of squares"
        )
    if images.size == 0:
        raise ValueError(f"{images_name}: has shape {images.shape}; it holds no pixel")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise ValueError(f"{images_name}: holds NaN or infinity")
    if labels.ndim != 1:
        raise ValueError(f"{labels_name}: has shape {labels.shape}; labels must be (items,)")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{labels_name}: has dtype {labels.dtype}; labels must be integers")
    if len(labels) != len(images):
        raise ValueError(
            f"{labels_name}: has {len(labels)} labels; {images_name} has {len(images)} images"
        )
    if not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
        raise ValueError(
            f"{labels_name}: holds labels from {labels.min()} to {labels.max()}; they must be "
            f"from 0 to at most {MOST_CLASSES - 1}"
        )
    return images, labels.astype(np.int64)


def _paths(data):
    """One or two paths as strings."""
    given = [data] if isinstance(data, (str, os.PathLike)) else data
    fits = isinstance(given, (list, tuple)) and len(given) in (1, 2)
    if not fits or not all(isinstance(path, (str, os.PathLike)) for path in given):
        raise ValueError(
            f"data is {_validate.show(data)}; it must be an .npz archive, or two IDX files, images "
            "and labels"
        )
    return [os.fspath(path) for path in given]


def _begins(path, with_what):
    with _files.reading(path) as file:
        return file.read(len(with_what)) == with_what
