"""The header of a safetensors file: JSON as it is defined, and where each array is.

Nothing is believed that the rest of the file does not bear out. A `ValueError`, `TypeError` or
`KeyError` without a message says that the header makes no sense.
"""

import json
import math
from typing import NamedTuple

import numpy as np

DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F32": np.float32,
    "F64": np.float64,
}

COMPLEX = {np.dtype(np.float32): np.complex64, np.dtype(np.float64): np.complex128}

#: Most axes of an array, and most numbers that its shape may multiply to where it holds none.
MOST_AXES, MOST_NUMBERS = 32, 2**48


class Tensor(NamedTuple):
    """Dtype and shape of an array, and its first byte and the one after its last."""

    dtype: np.dtype
    shape: tuple
    begin: int
    end: int

    @classmethod
    def of(cls, dtype, shape, data_offsets):
        """From the entry of a header."""
        begin, end = data_offsets
        dtype = np.dtype(DTYPES[dtype])
        # bounded before they are multiplied: thousands of long integers would take hours
        if not all(type(n) is int and 0 <= n <= MOST_NUMBERS for n in (*shape, begin, end)):
            raise ValueError
        if len(shape) > MOST_AXES or math.prod(max(n, 1) for n in shape) > MOST_NUMBERS:
            raise ValueError
        if end - begin != math.prod(shape) * dtype.itemsize or begin % dtype.itemsize:
            raise ValueError
        return cls(dtype, tuple(shape), begin, end)

    @property
    def is_pairs(self):
        """Whether it can be a complex array, as real pairs along the last axis."""
        return self.dtype in COMPLEX and self.shape[-1:] == (2,)

    def view(self, data):
        """The array within the bytes of all."""
        # a mapped array as a plain one: both are the same memory
        return np.asarray(data[self.begin : self.end]).view(self.dtype).reshape(self.shape)


def size_of_all(tensors):
    """Bytes of all arrays, which must follow each other without gap or overlap."""
    at = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != at:
            raise ValueError
        at = tensor.end
    return at


def strict_json(text):
    """JSON as it is defined: each key once, numbers that are finite."""
    return json.loads(
        text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite
    )


def _object(pairs):
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key is given twice")
    return result


def _no_number(text):
    raise ValueError(f"{text} is no number of JSON")


def _finite(text):
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)
