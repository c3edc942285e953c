"""Damage that needs no knowledge of a format: bytes in, ``(label, bytes)`` out.

Every function yields its systematic cases first, in an order that the seed shuffles, and returns;
those called ``random_...`` go on for ever.
"""

import itertools
import struct

#: Numbers at a limit, and how they are written into a header.
LIMITS = (0, 1, -1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)
WIDTHS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")


def truncated(good, header, rng):
    """Every byte of the header, every 64th elsewhere, the last few."""
    cuts = {*range(header), *range(0, len(good), 64), *range(max(0, len(good) - 9), len(good))}
    for cut in rng.permutation(sorted(cuts)).tolist():
        yield f"cut at {cut} of {len(good)}", good[:cut]


def random_truncated(good, header, rng):
    while True:
        cut = int(rng.integers(len(good)))
        yield f"cut at {cut} of {len(good)}", good[:cut]


def bits(good, header, rng):
    """Every bit of the header."""
    for bit in rng.permutation(8 * header).tolist():
        yield f"bit {bit} of the header", flipped(good, bit)


def random_bits(good, header, rng):
    while True:
        chosen = sorted(set(rng.integers(8 * len(good), size=int(rng.integers(1, 4))).tolist()))
        bad = good
        for bit in chosen:
            bad = flipped(bad, bit)
        yield f"bits {chosen}", bad


def flipped(data, bit):
    bad = bytearray(data)
    bad[bit // 8] ^= 1 << bit % 8
    return bytes(bad)


def others(good, header, rng):
    """Other files, and the file with something before or after it."""
    for name, data in OTHERS.items():
        yield name, data
        yield f"{name} before it", data + good
        yield f"{name} after it", good + data
    yield "twice", good + good
    for fill in (0, 0xFF, 0x20, 0x5B, 0x28):
        yield f"all {fill:#x}", bytes([fill]) * len(good)
        yield f"header all {fill:#x}", bytes([fill]) * header + good[header:]
        yield f"rest all {fill:#x}", good[:header] + bytes([fill]) * (len(good) - header)


def random_bytes(good, header, rng):
    """Overwritten by limits at any place of the header, cut out, repeated, moved, noise."""
    for number in itertools.count():
        at = int(rng.integers(max(1, min(header, len(good)))))
        other = int(rng.integers(len(good)))
        size = int(rng.integers(1, 20))
        what = number % 5
        if what < 2:
            width = WIDTHS[rng.integers(len(WIDTHS))]
            count = struct.calcsize(width)
            value = LIMITS[rng.integers(len(LIMITS))] % 2 ** (8 * count)
            bad = good[:at] + struct.pack(width, value) + good[at + count :]
            yield f"{width} {value} at {at}", bad
        elif what == 2:
            yield f"{size} bytes cut out at {at}", good[:at] + good[at + size :]
        elif what == 3:
            piece = good[other : other + size]
            yield f"{size} bytes of {other} put in at {at}", good[:at] + piece + good[at:]
        else:
            noise = rng.bytes(size)
            yield f"noise {noise.hex()} at {at}", good[:at] + noise + good[at + size :]


OTHERS = {
    "nothing": b"",
    "a zero": b"\0",
    "a line break": b"\n",
    "an ELF file": b"\x7fELF\x02\x01\x01" + bytes(200),
    "a PNG file": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a gzip header": b"\x1f\x8b\x08\x1c" + b"A" * 300,
    "an empty archive": b"PK\x05\x06" + bytes(18),
    "the beginning of an archive": b"PK\x03\x04" + bytes(60),
    "a pickle": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94.",
    "a database": b"SQLite format 3\0" + bytes(200),
    "a byte order mark": b"\xef\xbb\xbf",
    "UTF-16": "a,b\n1,2\n".encode("utf-16"),
    "zeros": bytes(5000),
    "brackets": b"[" * 5000,
    "braces": b'{"a":' * 2000,
    "quotes": b'"' * 3001,
    "commas": b"," * 3000,
    "no line break": b"1," * 20_000 + b"1",
}
