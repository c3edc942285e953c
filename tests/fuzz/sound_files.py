"""Recordings: .wav, .npy and .csv files, and what may be wrong within them."""

import io
import pickle
import struct
import warnings

import numpy as np

TAIL = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name, body, size=None, pad=True):
    size = len(body) if size is None else size
    return name + struct.pack("<I", size) + body + b"\0" * (pad and len(body) % 2)


def fmt(code=1, channels=1, rate=8000, frame=None, bits=16, extra=b"", rate_of_bytes=0):
    frame = channels * ((bits + 7) // 8) if frame is None else frame
    return struct.pack(
        "<HHIIHH", code, channels, rate, rate_of_bytes, frame % 2**16, bits
    ) + extra  # fmt: skip


def riff(*chunks, magic=b"RIFF", size=None):
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if size is None else size) + body


def wavs(folder=None):
    rng = np.random.default_rng(0)
    data = rng.integers(-3000, 3000, 120).astype("<i2").tobytes()
    plain = riff(chunk(b"fmt ", fmt()), chunk(b"data", data))
    extensible = struct.pack("<HHIH", 22, 24, 3, 1) + TAIL
    wide = riff(
        chunk(b"fmt ", fmt(0xFFFE, 2, 44100, bits=24, extra=extensible)),
        chunk(b"LIST", b"INFO odd"),
        chunk(b"data", data),
    )
    real = rng.standard_normal(50).astype("<f4").tobytes()
    floating = riff(chunk(b"fmt ", fmt(3, 1, 8000, bits=32)), chunk(b"data", real))
    long = riff(
        chunk(b"ds64", struct.pack("<QQQI", 0, len(data), 60, 0)),
        chunk(b"fmt ", fmt()),
        chunk(b"data", data, 2**32 - 1),
        magic=b"RF64",
        size=2**32 - 1,
    )
    return [plain, wide, floating, long]


def wav_claims(good, header, rng):
    """Channels, rates, widths and sizes at their limits, in sound surroundings."""
    data = bytes(range(240))
    sizes = (0, 1, 239, 241, 2**31, 2**32 - 2, 2**32 - 1)
    rates = (0, 1, 8000, 2**31, 2**32 - 1)
    for channels in (0, 1, 2, 3, 240, 255, 32767, 65535):
        for bits in (0, 1, 7, 8, 9, 12, 16, 24, 32, 33, 64, 65535):
            for frame in (None, 0, 1, channels, 65535):
                for code in (1, 3):
                    head = fmt(code, channels, int(rng.choice(rates)), frame, bits)
                    yield (
                        f"{code} {channels} x {bits} in {frame}",
                        riff(chunk(b"fmt ", head), chunk(b"data", data)),
                    )
    for size in sizes:
        yield f"data of {size}", riff(chunk(b"fmt ", fmt()), chunk(b"data", data, size))
        yield f"fmt of {size}", riff(chunk(b"fmt ", fmt(), size), chunk(b"data", data))
        yield f"RIFF of {size}", riff(chunk(b"fmt ", fmt()), chunk(b"data", data), size=size)
        for long in (0, 1, 240, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
            ds64 = chunk(b"ds64", struct.pack("<QQQI", long, long, long, 2**32 - 1))
            parts = ds64, chunk(b"fmt ", fmt()), chunk(b"data", data, 2**32 - 1)
            yield f"ds64 of {long}", riff(*parts, magic=b"RF64")
            parts = chunk(b"LIST", b"", size), *parts
            yield f"LIST of {size}, ds64 of {long}", riff(*parts, magic=b"RF64")
    for rate in rates:
        yield f"rate {rate}", riff(chunk(b"fmt ", fmt(rate=rate)), chunk(b"data", data))


def wav_structure(good, header, rng):
    """Chunks in other orders, twice, none, odd and not padded, thousands of them."""
    data, head = bytes(range(240)), fmt()

    def more(code=1, tail=TAIL):
        return struct.pack("<HHIH", 22, 16, 0, code) + tail

    known = {
        "fmt": chunk(b"fmt ", head),
        "data": chunk(b"data", data),
        "odd": chunk(b"odd ", b"abc"),
        "not padded": chunk(b"odd ", b"abc", pad=False),
        "ds64": chunk(b"ds64", struct.pack("<QQQI", 0, 240, 120, 0)),
        "short fmt": chunk(b"fmt ", head[:14]),
        "other fmt": chunk(b"fmt ", fmt(3, 2, bits=32)),
        "extensible": chunk(b"fmt ", fmt(0xFFFE, extra=more())),
        "recursive": chunk(b"fmt ", fmt(0xFFFE, extra=more(0xFFFE))),
        "no tail": chunk(b"fmt ", fmt(0xFFFE, extra=more(tail=bytes(14)))),
        "empty": chunk(b"    ", b""),
        "empty data": chunk(b"data", b""),
        "name of zeros": chunk(bytes(4), b"12"),
    }  # fmt: skip
    yield "20,000 empty chunks", riff(known["empty"] * 20_000, known["fmt"], known["data"])
    yield "9,000 empty chunks", riff(known["empty"] * 9_000, known["fmt"], known["data"])
    yield "5,000 chunks fmt", riff(known["fmt"] * 5_000, known["data"])
    names = list(known)
    while True:
        chosen = [names[i] for i in rng.integers(len(names), size=int(rng.integers(1, 6)))]
        magic = (b"RIFF", b"RIFX", b"RF64")[rng.integers(3)]
        yield f"{magic} {chosen}", riff(*(known[name] for name in chosen), magic=magic)


def wav_values(good, header, rng):
    for width in (4, 8):
        for value in (np.nan, np.inf, -np.inf, 5e-324, 1e38, -1.0):
            for at in (0, 7, 19):
                a = np.zeros(20, f"<f{width}")
                a[at] = value
                head = fmt(3, 2, bits=8 * width)
                yield f"{value} at {at}", riff(chunk(b"fmt ", head), chunk(b"data", a.tobytes()))


# --------------------------------------------------------------------------------------------- .npy


def npy(descr="'<f8'", fortran="False", shape="(20,)", data=None, version=(1, 0), header=None):
    if header is None:
        header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    header = header.encode("latin1", "replace") if isinstance(header, str) else header
    form = "<H" if version == (1, 0) else "<I"
    space = -(10 + len(header) + 1) % 64
    header += b" " * space + b"\n"
    size = struct.pack(form, len(header) % (2**16 if form == "<H" else 2**32))
    data = np.linspace(-1, 1, 20).tobytes() if data is None else data
    return b"\x93NUMPY" + bytes(version) + size + header + data


def npys(folder=None):
    pair = np.linspace(-1, 1, 40).reshape(2, 20)
    return [
        saved(np.linspace(-1, 1, 300)),
        saved(pair.astype("<f4")),
        saved(np.asfortranarray(pair)),
        saved((pair.T * 100).astype(">i2")),
    ]


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


SHAPES = (
    "()", "(0,)", "(-1,)", "(-20,)", "(20, 1)", "(1, 20)", "(2, 10)", "(1, 1, 20)", "(21,)",
    "(2**63,)", "(9223372036854775807,)", "(9223372036854775808,)", "(4294967296, 4294967296)",
    "(4611686018427387904, 4)", "(2305843009213693952, 1)", "(2305843009213693953,)", "(0, 2**62)",
    "(0, 4611686018427387904)", "(18446744073709551616,)", "(True,)", "(20.0,)", "('20',)", "None",
    "20", "[20]", "(20, None)", "(1" + "0" * 400 + ",)", "(" + "1, " * 40 + ")", "((20,),)", "{}",
)  # fmt: skip


def npy_claims(good, header, rng):
    for shape in SHAPES:
        for fortran in ("False", "True"):
            for descr in ("'<f8'", "'|u1'", "'<f2'"):
                for version in ((1, 0), (2, 0), (3, 0)):
                    bad = npy(descr, fortran, shape, version=version)
                    yield f"shape {shape[:40]} {descr} {version}", bad
    for size in (0, 1, 2**15, 2**31, 2**32 - 1):
        for version in ((1, 0), (2, 0), (3, 0), (0, 0), (9, 9), (255, 255)):
            form = "<H" if version == (1, 0) else "<I"
            head = struct.pack(form, size % (2**16 if form == "<H" else 2**32))
            yield f"header of {size}, {version}", b"\x93NUMPY" + bytes(version) + head + good[10:]


def npy_structure(good, header, rng):
    deep = ("(" * 3000 + ")" * 3000, "[" * 90 + "]" * 90, "-" * 3000 + "1", "{" * 300, "(" * 9000)
    texts = (
        "", "{", "{}", "[]", "None", "()", "1", "'x'", "open('pwned', 'w')", "__import__('os')",
        "{'descr': '<f8', 'shape': (20,)}", "{'descr': '<f8', 'fortran_order': 0, 'shape': (20,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (20,), 'more': 1}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (20,), 'shape': (10,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (20L,), }",
        "{b'descr': '<f8', b'fortran_order': False, b'shape': (20,), }",
        "\0" * 50, "{'descr': 1/0}",
    )  # fmt: skip
    for text in (*texts, *deep, *(f"{{'shape': {d}}}" for d in deep)):
        for version in ((1, 0), (2, 0), (3, 0)):
            yield f"header {text[:50]!r} {version}", npy(header=text, version=version)


def npy_values(good, header, rng):
    descrs = (
        "'|O'", "'O'", "'<U5'", "'|S8'", "'<c16'", "'<c8'", "'|b1'", "'<M8[ns]'", "'<m8'",
        "'|V8'",
        "'<f2'", "'<f16'", "'>f16'", "'<i8'", "'<u8'", "'>f8'", "'=f8'", "'f8'", "'<f8, <f8'",
        "[('a', '<f8')]", "[('a', '<f8'), ('b', '|O')]", "'(2,)<f8'", "('<f8', (2,))", "'<f3'",
        "''",
        "None", "5", "[('', '<f8'), ('', '<f8')]", "[('a', '<f8', (10**18,))]", "'|S0'", "'<U0'",
        "'|V0'", "'|S999999999999'", "[]", "'<i3'", "'float64'", "'double'", "'object'",
        "('O', {})",
    )  # fmt: skip
    for descr in descrs:
        for shape in ("(20,)", "(2, 10)", "()", "(0,)"):
            yield f"dtype {descr} {shape}", npy(descr, shape=shape)
    for dtype in ("<f2", "<f4", "<f8", ">f8", "<f16"):
        for value in (np.nan, np.inf, -np.inf, 5e-324, 1e308, -1e308, 6e4):
            for at in (0, 7, 19):
                with np.errstate(over="ignore"):
                    a = np.zeros((2, 10), dtype)
                    a.flat[at] = value
                yield f"{dtype} {value} at {at}", saved(a)


def npy_pickles(good, header, rng, trap):
    objects = np.array([trap, 1], dtype=object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield "an array of objects", saved(objects)
    yield "a pickle", pickle.dumps(trap)
    code = pickle.dumps(trap)
    for descr in ("'|O'", "[('a', '|O')]", "'<f8'", "[('a', '|O', (2,))]"):
        for shape in ("(20,)", "()", "(1,)"):
            yield f"pickled {descr} {shape}", npy(descr, shape=shape, data=code)
    yield "an archive of objects", npz_of(x=objects, y=objects)


def npz_of(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
