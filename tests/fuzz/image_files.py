"""Labelled images: .npz archives and pairs of IDX files, plain and packed."""

import gzip
import io
import itertools
import pickle
import struct
import zipfile
import zlib

import numpy as np

from . import sound_files
from .forged import NAMES

ITEMS = 60


def images():
    return np.random.default_rng(0).integers(0, 256, (ITEMS, 4, 4)).astype(np.uint8)


def labels():
    return (np.arange(ITEMS) % 3).astype(np.uint8)


def idx(array, code=8, axes=None, sizes=None):
    sizes = array.shape if sizes is None else sizes
    head = bytes([0, 0, code, len(sizes) if axes is None else axes])
    return head + struct.pack(f">{len(sizes)}I", *sizes) + array.tobytes()


LABELS = idx(labels())


def plain(folder=None):
    """Files of images; of labels there is a sound one beside them."""
    floats = images().astype(">f4")
    return [idx(images()), idx(floats, 0x0D)]


def packed(folder=None):
    return [gzip.compress(data, mtime=0) for data in plain()]


def idx_claims(good, header, rng):
    limits = (0, 1, 59, 61, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
    for code in (0, 8, 9, 10, 0x0B, 0x0C, 0x0D, 0x0E, 0xFF):
        for axes in (0, 1, 2, 3, 4, 255):
            yield f"type {code}, {axes} axes", idx(images(), code, axes)
    for sizes in itertools.product(limits, repeat=3):
        yield f"sizes {sizes}", idx(images(), sizes=sizes)


def idx_values(good, header, rng):
    for value in (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45):
        for every in (False, True):
            a = images().astype(">f4")
            a[(slice(None) if every else 5), 1, 1] = value
            yield f"{value}, every {every}", idx(a, 0x0D)
            b = a.astype(">f8")
            b[b == b.max()] = 1.7e308
            yield f"{value} and 1.7e308, every {every}", idx(b, 0x0E)
    for code, dtype in ((9, "i1"), (0x0B, ">i2"), (0x0C, ">i4")):
        for value in (0, -1, 100):
            yield f"{dtype} all {value}", idx(np.full((ITEMS, 4, 4), value, dtype), code)


def idx_structure(good, header, rng):
    one = images()[:1]
    for shape in (
        (ITEMS, 1, 1),
        (ITEMS, 16, 1),
        (ITEMS, 1, 0),
        (1, 4, 4),
        (0, 4, 4),
        (ITEMS, 2, 3),
    ):
        yield f"shape {shape}", idx(np.resize(one, shape).astype(np.uint8))
    yield "labels in the place of images", LABELS
    yield "labels of another length", idx(labels()[:-1])
    yield "an empty file", b""


def gzipped(function):
    """The same hazards under gzip."""

    def inside(good, header, rng):
        for label, data in function(good, header, rng):
            yield f"{label}, packed", gzip.compress(data, 1, mtime=0)

    return inside


def gz_structure(good, header, rng):
    data = gzip.decompress(good)
    yield "two members", gzip.compress(data[:100]) + gzip.compress(data[100:])
    yield "an empty member", gzip.compress(b"") + good
    yield "20,000 empty members", gzip.compress(b"", 1) * 20_000 + good
    yield "twice packed", gzip.compress(good)
    yield "zeros after it", good + bytes(100)
    yield "noise after it", good + b"\x1f\x8b" + rng.bytes(50)
    yield "a wrong sum", good[:-8] + bytes(4) + good[-4:]
    yield "a wrong length", good[:-4] + b"\xff" * 4
    yield "a method that is none", good[:2] + b"\x07" + good[3:]
    for flags in range(256):
        yield f"flags {flags:#x}", good[:3] + bytes([flags]) + good[4:]
    yield from gzipped(idx_structure)(good, header, rng)


def gz_bombs(good, header, rng):
    """A small file that unpacks to 150 MiB, with a header that says less, as much, or more."""
    for shape in ((ITEMS, 4, 4), (150, 2**10, 2**10), (2**22, 2**4, 2**5), (2**31, 1, 1)):
        yield f"zeros behind {shape}", bomb_of(idx(np.zeros(0, np.uint8), sizes=shape))
    yield "zeros", bomb_of(b"")


def bomb_of(head, megabytes=150):
    squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    return (
        squeeze.compress(head)
        + b"".join(squeeze.compress(zeros) for _ in range(megabytes))
        + squeeze.flush()
    )


# --------------------------------------------------------------------------------------------- .npz


def archives(folder=None):
    stored, small = io.BytesIO(), io.BytesIO()
    np.savez(stored, x=images(), y=labels())
    np.savez_compressed(small, x_train=images().astype(float), y_train=labels(), other=labels())
    return [stored.getvalue(), small.getvalue()]


def archive(*members, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as target:
        for name, data in members:
            target.writestr(name, data)
    return file.getvalue()


def members(x=None, y=None):
    x = sound_files.saved(images()) if x is None else x
    return ("x.npy", x), ("y.npy", sound_files.saved(labels()) if y is None else y)


def npz_within(function):
    """The hazards of a .npy file, in the place of the images or the labels."""

    def inside(good, header, rng):
        for number, (label, data) in enumerate(function(sound_files.npys()[0], 128, rng)):
            how = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            pair = members(x=data) if number % 3 else members(y=data)
            yield f"{label}, within, {number % 3}", archive(*pair, compression=how)

    return inside


def npz_claims(good, header, rng):
    yield from directory(good, rng)
    yield from npz_within(sound_files.npy_claims)(good, header, rng)


def directory(good, rng):
    """Every field of the directory and of the members' heads overwritten by limits."""
    places = [i for i in range(len(good) - 4) if good[i : i + 2] == b"PK"]
    cases = list(itertools.product(places, range(4, 46), (0, 1, 0x7F, 0xFF)))
    for i in rng.permutation(len(cases)).tolist():
        place, offset, value = cases[i]
        for width in (1, 2, 4):
            at = place + offset
            bad = good[:at] + bytes([value]) * width + good[at + width :]
            yield f"{width} x {value:#x} at {place} + {offset}", bad


def npz_structure(good, header, rng):
    x, y = members()
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"method {method}", archive(x, y, compression=method)
    yield "x alone", archive(x)
    yield "x without a suffix too", archive(x, ("x", b"no"), y)
    yield "nothing", archive()
    yield "an archive within", archive(("x.npy", archive(x, y)), y)
    yield "10,000 members", archive(*((f"m{i}.npy", b"") for i in range(10_000)))
    yield "10,000 members and ours", archive(*((f"m{i}.npy", b"") for i in range(10_000)), x, y)
    huge = b"\x93NUMPY\x02\0" + struct.pack("<I", 2**26)
    yield "a header of 64 MB", archive(("x.npy", huge + bytes(2**26)), y, compression=8)
    yield from npz_within(sound_files.npy_structure)(good, header, rng)


def npz_pickles(good, header, rng, trap):
    objects = np.array([trap] * 3, dtype=object)
    yield "objects", sound_files.npz_of(x=objects, y=labels())
    yield "objects for labels", sound_files.npz_of(x=images(), y=objects)
    yield "pickles for arrays", archive(*members(pickle.dumps(trap), pickle.dumps(trap)))
    yield "a member more", archive(*members(), ("z.npy", sound_files.saved(objects)))
    for label, data in sound_files.npy_pickles(good, header, rng, trap):
        yield f"{label}, within", archive(*members(x=data))


def npz_bombs(good, header, rng):
    """Zeros by the megabyte: as images, as labels, behind a header that says less."""
    zeros = bytes(1 << 20)
    for shape in ("(150, 1024, 1024)", "(60, 4, 4)", "(157286400,)", "(9999, 9999, 9999)"):
        head = sound_files.npy("'|u1'", shape=shape, data=b"")
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
            with target.open("x.npy", "w", force_zip64=True) as member:
                member.write(head)
                for _ in range(150):
                    member.write(zeros)
            target.writestr(*members()[1])
        yield f"zeros behind {shape}", file.getvalue()


def npz_names(good, header, rng):
    for name in NAMES:
        name = name.encode("utf-8", "replace").decode()[:5000].replace("\0", "") or "_"
        yield f"{name[:30]!r}", archive((name, b""), *members())
        yield f"{name[:30]!r} alone", archive((name, b""))
        yield f"{name[:30]!r}/x", archive((f"{name}/x.npy", members()[0][1]), members()[1])
    for name in ("../x.npy", "/x.npy", "x.npy/", "x", "X.npy", "x.npy.npy", "x .npy"):
        yield f"{name!r} for x", archive((name, members()[0][1]), members()[1])
