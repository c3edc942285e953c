"""Text: .csv files of recordings and tables, and the published log."""

from importlib import resources

import numpy as np

from .forged import NAMES

#: Fields where a number is expected.
FIELDS = (
    "", " ", "x", "nan", "NaN", "-nan", "inf", "-Infinity", "1e400", "1e-400", "1_000",
    "0x10", "1,5",
    "1.2.3", "--1", "1e", "+", "１２", "٣", "1\0", "\0", '"', '"1"', "'1'", '"1', '1"', '""1""',
    "1" * 5000,
    "TRUE", "None", "=1+1", "@cmd", "1;2", "1\t2", "5e-324", "1.7e308", "-1.7e308", "\u2212" + "1",
    "½",
    "\x1b[31m1", "\ufeff1", "1\r", "1\x0b2", "1\x852", "1\u20282", "1 2", "j", "1+2j", "1e+",
    "x" * 90_000,
)  # fmt: skip


def recordings(folder=None):
    t = np.arange(60) / 100
    timed = "time,a,b\n" + "".join(f"{x:.2f},{np.sin(x):.6f},{x * x:.6f}\n" for x in t)
    return [
        timed.encode(),
        "".join(f"{np.sin(x):.5f}\n" for x in t).encode(),
        b"\xef\xbb\xbf# remark\nleft;right\n" + b"1.5;2\n-3;4e-1\n" * 20,
        b"1 2 3\n" * 10,
    ]


def tables(folder=None):
    rows = "".join(f"{i},{i * i},{2 * i + 1}\n" for i in range(30))
    return [
        ("a,b,y\n" + rows).encode(),
        ('"a";"b";y\n' + rows.replace(",", ";")).encode(),
        ("\ufeffb\ta\ty\n" + rows.replace(",", "\t")).encode(),
    ]


def claims(good, header, rng):
    """Widths and lengths that do not go together: a product that is asked for, and not there."""
    for columns in (1000, 30_000, 100_000):
        for end in ("\n", ""):
            first = ",".join(["1"] * columns)
            yield (
                f"{columns} columns, {columns} short lines",
                (first + "\n" + "1\n" * columns + end).encode(),
            )
            yield f"{columns} columns, one line", (first + end).encode()
            names = ",".join(f"c{i}" for i in range(columns - 1)) + ",y\n"
            yield f"{columns} names, a row", (names + first + end).encode()
            yield f"{columns} names, short rows", (names + "1\n" * 50).encode()
            yield f"{columns} names, wrong cells", (names + ("x," * columns)[:-1] + "\n").encode()
            same = ",".join(["y"] * columns) + "\n"
            yield f"{columns} equal names", (same + first + end).encode()
            yield f"{columns} empty cells", ("," * columns + "\n" + first).encode()
    yield "a long line", b"1" * 3_000_000
    yield "a long name", b"x" * 1_000_000 + b",y\n1,2\n2,3\n"
    yield "a quoted cell of megabytes", b'a,y\n"' + b"1" * 2_000_000 + b'",2\n'
    yield "an open quote", b'a,y\n"' + b"1,2\n" * 100_000
    yield "many empty lines", b"\n" * 1_000_000 + b"a,y\n1,2\n2,4\n"
    yield "many remarks", b"# x\n" * 200_000 + b"a,y\n1,2\n2,4\n"
    yield "carriage returns", b"a,y\r1,2\r2,3\r"
    yield "only names", b"a,b,y\n"
    yield "one row", b"a,b,y\n1,2,3\n"
    yield "one field", b"1"


def structure(good, header, rng):
    """Other separators, quotes, encodings, ends of lines."""
    text = good.decode("utf-8-sig")
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7"):
        yield encoding, text.encode(encoding)
    accents = text.replace("a", "é", 1).replace("left", "ç", 1)
    for encoding in ("latin1", "cp1252", "cp437", "utf-8"):
        yield f"accents in {encoding}", accents.encode(encoding)
    for end in (
        "\r\n",
        "\r",
        "\n\n",
        "\n\r",
        "\x0b",
        "\x0c",
        "\x85",
        "\u2028",
        "\0\n",
        " \n",
        ",\n",
    ):
        yield f"lines end in {end!r}", text.replace("\n", end).encode()
    for separator in (",", ";", "\t", " ", "|", ":", ", ", ",,", "\0", "\xa0", "\u3000", "'", '"'):
        bad = text.replace(",", separator).replace(";", separator).replace("\t", separator)
        yield f"separated by {separator!r}", bad.encode()
        yield f"decimal commas, {separator!r}", bad.replace(".", ",").encode()
    quoted = "\n".join(
        separator.join(f'"{field}"' for field in line.split(separator))
        for separator in [next((s for s in ";\t," if s in text), ",")]
        for line in text.splitlines()
    )
    yield "all quoted", quoted.encode()
    yield "quoted in part", text.replace("1", '"1"', 3).encode()
    for remark in (
        "#",
        "# ",
        "//",
        "%",
        "sep=,",
        "\ufeff",
        "\ufeff\ufeff",
        "'''",
        "=cmd|' /C calc'!A0",
    ):
        yield f"{remark!r} first", (remark + "\n" + text).encode()
    times = ("0,1", "0,5e-324", "0,0", "1,0", "-1e308,1e308", "0,1e308", "nan,nan", "0,inf",
             "0,1e-310",
             "0,1e300,2e300", "1e308,1.1e308", "0,1,1", "5,5,5")  # fmt: skip
    for values in times:
        rows = "".join(f"{t},{i},{i}\n" for i, t in enumerate(values.split(",")))
        yield f"times {values}", ("t,a,y\n" + rows).encode()
        yield (
            f"a column t of {values}, and one more",
            ("t,y\n" + rows.replace(",0\n", "\n")).encode(),
        )


def values(good, header, rng):
    """One field, one name or one line replaced, for ever."""
    lines = good.decode("utf-8-sig").splitlines()
    separator = next((s for s in ";\t, " if s in lines[-1]), ",")
    while True:
        bad = list(lines)
        at = int(rng.integers(len(bad)))
        fields = bad[at].split(separator)
        place = int(rng.integers(len(fields)))
        new = FIELDS[rng.integers(len(FIELDS))]
        what = int(rng.integers(6))
        if what == 0:
            fields = fields[:place] + fields[place + 1 :]
        elif what == 1:
            fields.insert(place, new)
        else:
            fields[place] = new
        bad[at] = separator.join(fields)
        yield f"line {at}, {place}: {what} {new[:20]!r}", "\n".join(bad).encode("utf-8", "replace")


def names(good, header, rng):
    text = good.decode("utf-8-sig")
    first, _, rest = text.partition("\n")
    separator = next((s for s in ";\t," if s in first), ",")
    fields = first.split(separator)
    for new in (
        *NAMES,
        "$x$",
        "_x",
        "a_b^c",
        "{}",
        "\\",
        "%",
        "\u202e",
        "日本",
        "y",
        "time",
        "t",
        "#",
    ):
        for place in range(len(fields)):
            bad = [new if i == place else field for i, field in enumerate(fields)]
            line = separator.join(bad)
            yield f"{new[:30]!r} at {place}", f"{line}\n{rest}".encode("utf-8", "surrogatepass")


def logs(folder=None):
    name = resources.files("ssm_manual.data").joinpath("published_log.json")
    return [name.read_bytes()]
