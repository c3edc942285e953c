"""The header of a .wav file, read and written.

A RIFF file is a list of chunks, each a name, a size and so many bytes, padded to an even number.
``fmt `` says how samples are written, ``data`` holds them; all others are passed over. RF64 (EBU
Tech 3306) is the same with 64 bit sizes in a chunk ``ds64``; RIFX has the other byte order.

SciPy reads such a file as a whole and writes no 24 bits; the standard library knows no floating
point. Blocks need nothing but the place of the samples, which is what is found here.
"""

import struct
from typing import NamedTuple

import numpy as np

from ssm_manual.tasks._encoding import Encoding, Grid

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE

#: Codecs that one meets, for the message.
CODECS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x31: "GSM", 0x50: "MPEG"}
CODECS |= {0x55: "MP3", 0xFF: "AAC", 0x161: "WMA", 0xF1AC: "FLAC"}

#: Bytes 2 to 15 of a subformat that stands for a plain format code.
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")

#: A 32 bit size that does not tell: RF64's, and that of a file written to a pipe.
UNKNOWN = 0xFFFFFFFF


#: No file has so many chunks before its samples; megabytes of zeros look like it.
MOST_CHUNKS = 10_000


class Wav(NamedTuple):
    """What the header says.

    Attributes
    ----------
    grid : Grid
        Where the samples are.
    rate : int
        Samples per second.
    mask : int or None
        Loudspeaker positions of an extensible file, 0 where it names none; None for a plain one.
    """

    grid: Grid
    rate: int
    mask: int | None


def parse(file):
    """The `Wav` of an open binary file; a `ValueError` says what is wrong, without the name."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:] != b"WAVE":
        raise ValueError("it does not begin with a RIFF header")
    order = ">" if head[:4] == b"RIFX" else "<"
    fmt, long_size, position = None, None, 12
    for _ in range(MOST_CHUNKS):
        file.seek(position)
        head_of_chunk = file.read(8)
        if len(head_of_chunk) < 8:
            missing = "data" if fmt else "fmt"
            raise ValueError(f"it ends before a chunk {missing!r}")
        name, length = struct.unpack(f"{order}4sI", head_of_chunk)
        position += 8
        if name == b"data":
            break
        if name in (b"fmt ", b"ds64"):
            body = file.read(length) if length <= 1 << 16 else b""
            if len(body) < length or length < 16:
                raise ValueError(
                    f"its chunk {name.decode().strip()!r} of {length} bytes is cut off"
                )
            if name == b"fmt ":
                fmt = body
            else:
                long_size = struct.unpack(f"{order}Q", body[8:16])[0]
        position += length + length % 2
    else:
        raise ValueError(f"none of its first {MOST_CHUNKS} chunks is called 'data'")
    if fmt is None:
        raise ValueError("its samples come before the chunk 'fmt' that explains them")
    if length == UNKNOWN and head[:4] == b"RF64":
        if long_size is None:
            raise ValueError("it is an RF64 file without a chunk 'ds64'")
        length = long_size
    encoding, channels, rate, mask = _format(fmt, order)
    if length > size - position:
        raise ValueError(
            f"it is truncated: its header promises {length} bytes of samples, {size - position} "
            "are there (or it was written to a pipe, which leaves the length open: rewrite it, "
            "for example with sox --ignore-length)"
        )
    frames, rest = divmod(length, channels * encoding.width)
    if rest:
        raise ValueError(
            f"its {length} bytes of samples are no whole number of {channels} x "
            f"{encoding.width} bytes"
        )
    return Wav(Grid(position, channels, frames, False, encoding), rate, mask)


def _format(fmt, order):
    """Encoding, channels, rate and mask of the chunk ``fmt``."""
    code, channels, rate, _, frame, bits = struct.unpack(f"{order}HHIIHH", fmt[:16])
    mask = None
    if code == EXTENSIBLE:
        if len(fmt) < 40:
            raise ValueError(f"its chunk 'fmt' has {len(fmt)} bytes; an extensible one has 40")
        mask = struct.unpack(f"{order}I", fmt[20:24])[0]
        code = struct.unpack(f"{order}H", fmt[24:26])[0]
        if fmt[26:40] != GUID_TAIL and order == "<":
            raise ValueError("its subformat is none of the known ones")
    if code not in (PCM, FLOAT):
        codec = CODECS.get(code, "unknown")
        raise ValueError(
            f"its codec is {codec} (format code {code}); it must be linear PCM or floating point: "
            "convert it first, for example with sox or ffmpeg"
        )
    if channels == 0 or frame == 0 or frame % channels:
        raise ValueError(f"it says {channels} channels in {frame} bytes")
    if rate == 0:
        raise ValueError("it says 0 samples per second")
    width = frame // channels
    if code == FLOAT:
        if (width, bits) not in ((4, 32), (8, 64)):
            raise ValueError(f"it says floating point of {bits} bits in {width} bytes")
        return Encoding(np.dtype(f"{order}f{width}"), width, True), channels, rate, mask
    # fewer bits than the bytes hold stand at their upper end: the scale is that of the bytes
    if width not in (1, 2, 3, 4, 8) or not 1 <= bits <= 8 * width or (bits <= 8) != (width == 1):
        raise ValueError(f"it says integers of {bits} bits in {width} bytes")
    dtype = "u1" if width == 1 else f"{order}i{4 if width == 3 else width}"
    return Encoding(np.dtype(dtype), width, True), channels, rate, mask


def header(encoding, channels, length, rate, mask=None):
    """The bytes before the samples of a new file, and the `Grid` that follows them.

    Little-endian; RF64 where the sizes of RIFF do not suffice (4 GiB). The samples are to be
    followed by a zero byte if their number of bytes is odd.
    """
    frame = channels * encoding.width
    if frame > 0xFFFF:
        raise ValueError(f"a .wav file cannot hold {channels} channels of {encoding.name}")
    if rate * frame > UNKNOWN:
        raise ValueError(f"a .wav file cannot hold {rate} samples per second of {frame} bytes")
    code = FLOAT if encoding.dtype.kind == "f" else PCM
    bits = 8 * encoding.width
    fmt = struct.pack(
        "<HHIIHH", code if mask is None else EXTENSIBLE, channels, rate, rate * frame, frame, bits
    )
    if mask is not None:
        fmt += struct.pack("<HHIH", 22, bits, mask, code) + GUID_TAIL
    elif code != PCM:
        fmt += struct.pack("<H", 0)
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt
    if code != PCM:  # the number of moments, which all but plain PCM must state
        chunks += b"fact" + struct.pack("<II", 4, min(length, UNKNOWN))
    size = length * frame
    total = 4 + len(chunks) + 8 + size + size % 2
    if total <= UNKNOWN - 1:
        head = b"RIFF" + struct.pack("<I", total) + b"WAVE" + chunks
        head += b"data" + struct.pack("<I", size)
    else:
        long = struct.pack("<QQQI", total + 36, size, length, 0)
        head = b"RF64" + struct.pack("<I", UNKNOWN) + b"WAVEds64" + struct.pack("<I", len(long))
        head += long + chunks + b"data" + struct.pack("<I", UNKNOWN)
    little = encoding._replace(dtype=encoding.dtype.newbyteorder("<"))
    return head, Grid(len(head), channels, length, False, little)
