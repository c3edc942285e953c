"""The header of a .npy file, read and written: where the samples are and in which order."""

import io
from typing import NamedTuple

import numpy as np

from ssm_manual import _files
from ssm_manual.tasks._encoding import Encoding, Grid

#: Most bytes of a header that are looked at; NumPy's own limit is 10,000 characters.
LONGEST_HEADER = 1 << 16


class Npy(NamedTuple):
    """What the header says.

    Attributes
    ----------
    grid : Grid
        Where the samples are.
    shape : tuple of int
        Of the array: ``(length,)``, ``(channels, length)`` or ``(length, channels)``.
    fortran : bool
        Whether its first axis is the contiguous one.
    """

    grid: Grid
    shape: tuple
    fortran: bool


def parse(path):
    """The `Npy` of a file; a `ValueError` names the file and says what is wrong."""
    with _files.opened(path) as file:
        start = file.read(12)
    if start[:2] == b"PK":  # NumPy would leave a damaged one open
        raise ValueError(f"{path}: is an archive; it must hold a single array")
    # NumPy asks for as much memory as the header says it has, before it looks at its own limit
    if start[6:7] > b"\1" and int.from_bytes(start[8:12], "little") > LONGEST_HEADER:
        raise ValueError(f"{path}: is not a readable .npy file (its header is too long)")
    try:
        # mapped for its header: one that promises more than the file holds is found out here
        with np.errstate(over="ignore"):
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # malformed headers raise half a dozen kinds
        reason = _files.short(str(error), 200)
        raise ValueError(f"{path}: is not a readable .npy file ({reason})") from None
    dtype, shape = mapped.dtype, mapped.shape
    if dtype.kind not in "iuf":
        raise ValueError(f"{path}: has dtype {dtype}; it must hold real numbers")
    if len(shape) not in (1, 2):
        raise ValueError(f"{path}: has shape {shape}; it must be (length,) or (channels, length)")
    rows, columns = (1, *shape)[-2:]
    time_first = rows > columns > 0 and len(shape) == 2
    channels, length = (columns, rows) if time_first else (rows, columns)
    fortran = not mapped.flags.c_contiguous
    planar = time_first == fortran  # what is contiguous: a channel, or a moment
    grid = Grid(mapped.offset, channels, length, planar, Encoding(dtype, dtype.itemsize, False))
    return Npy(grid, shape, fortran)


def plain(channels, length, dtype):
    """The `Npy` of a recording that was none: ``(length,)`` or ``(channels, length)``."""
    grid = Grid(0, channels, length, True, Encoding(dtype, dtype.itemsize, False))
    return Npy(grid, (length,) if channels == 1 else (channels, length), False)


def header(npy):
    """The bytes before the samples of a new file, and the `Grid` that follows them."""
    file = io.BytesIO()
    about = {
        "descr": np.lib.format.dtype_to_descr(npy.grid.encoding.dtype),
        "fortran_order": npy.fortran,
        "shape": npy.shape,
    }
    np.lib.format.write_array_header_1_0(file, about)
    head = file.getvalue()
    return head, npy.grid._replace(offset=len(head))
