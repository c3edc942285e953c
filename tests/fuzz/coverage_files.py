"""What is tried on files and names from strangers: every reader x every hazard, as data.

``READERS`` says which files the package reads and by which doors they come in, ``HAZARDS`` what is
done to them, ``ROWS`` which goes with which. A hazard that is left out for a reader has its reason
in ``LEFT_OUT``; `test_files.test_every_pair_is_covered_or_explained` fails on a pair that is in
neither.

The rule for every case: it works, with finite numbers no more than the file can hold, or it raises
the documented error (`ValueError` or `OSError`, at the command line exit status 2 and one line)
that names the file. No crash, no hang, no other exception, no warning, no memory beyond a bound
that the size of the file sets; nothing in a file is executed; old outputs stay as they were.
"""

from typing import NamedTuple


class Reader(NamedTuple):
    """Files of one kind.

    Attributes
    ----------
    suffix : str
        What their names end in here.
    doors : tuple of str
        How they come in: names in `doors.DOORS`.
    header : int or None
        Bytes of its header, of which every one and every bit is damaged; None where the file says.
    """

    suffix: str
    doors: tuple
    header: int | None = None


READERS = {
    "safetensors": Reader(
        ".safetensors",
        ("checkpoint.load", "checkpoint.load, mapped", "checkpoint.read", "apply MODEL"),
    ),
    "training state": Reader(".safetensors", ("Trainer.fit, resume",)),
    "regression model": Reader(".safetensors", ("regress --resume",)),
    "wav": Reader(".wav", ("RecordingFile", "signals.read", "apply FILE", "denoise --signal"), 44),
    "npy": Reader(".npy", ("RecordingFile", "signals.read", "apply FILE", "denoise --signal"), 128),
    "csv": Reader(".csv", ("RecordingFile", "signals.read", "apply FILE", "denoise --signal"), 40),
    "table": Reader(".csv", ("tables.read_csv", "regress --data"), 40),
    "npz": Reader(".npz", ("labelled_images", "train mnist --data"), 64),
    "idx": Reader("", ("labelled_images, two", "train mnist --data, two"), 16),
    "idx.gz": Reader(".gz", ("labelled_images, two", "train mnist --data, two"), 24),
    "store": Reader(
        ".db",
        (
            "Store",
            "Store.export",
            "runs list",
            "runs show",
            "runs compare",
            "runs plot",
            "runs export",
            "runs delete",
        ),
        100,
    ),
    "published log": Reader(".json", ("published_figures",), 64),
}

HAZARDS = {
    "truncated": "cut at every 64th byte, at every byte of the header and at random",
    "bits": "every bit of the header turned over, and random ones elsewhere",
    "bytes": "pieces removed, repeated, moved, overwritten by numbers at a limit; other files",
    "claims": "sizes and shapes that are negative, absurd, overflow, or exceed the file",
    "structure": "what the format allows to say and nobody means: keys twice, depth, odd orders",
    "values": "NaN, infinities, denormals, the largest numbers, wrong dtypes, in a sound file",
    "pickle": "pickled code that would create a file",
    "bomb": "a small compressed file that unpacks to a huge one",
    "node": "a folder, a pipe without a writer, devices, links to them, to itself, to nothing",
    "names": "texts with control characters, markup, paths, quotes, NUL, not UTF-8",
}

LEFT_OUT = {
    ("wav", "pickle"): "the format has no objects",
    ("wav", "bomb"): "not compressed",
    ("wav", "names"): "texts of a .wav file are passed over unread",
    ("npy", "bomb"): "not compressed",
    ("npy", "names"): "an array has no names; a dtype with fields is among the values",
    ("csv", "pickle"): "text",
    ("csv", "bomb"): "not compressed",
    ("table", "pickle"): "text",
    ("table", "bomb"): "not compressed",
    ("idx", "pickle"): "the format has no objects",
    ("idx", "bomb"): "not compressed; see idx.gz",
    ("idx", "names"): "no texts",
    ("idx.gz", "pickle"): "the format has no objects",
    ("idx.gz", "names"): "the name within is not read",
    ("safetensors", "bomb"): "not compressed",
    ("training state", "bomb"): "not compressed",
    ("regression model", "bomb"): "not compressed",
    ("training state", "truncated"): "refused by the reader of safetensors, before it is a state",
    ("training state", "bits"): "the same",
    ("training state", "bytes"): "the same",
    ("regression model", "truncated"): "the same",
    ("regression model", "bits"): "the same",
    ("regression model", "bytes"): "the same",
    ("store", "claims"): "see values: the sizes of SQLite's own format are SQLite's to check",
    ("store", "pickle"): "SQLite has no objects",
    ("store", "bomb"): "not compressed",
    ("published log", "claims"): "JSON has no sizes",
    (
        "published log",
        "values",
    ): "ships with the package: damage is told, forgery is not looked for",
    ("published log", "pickle"): "text",
    ("published log", "bomb"): "not compressed",
    ("published log", "node"): "a file of the installed package",
    ("published log", "names"): "no texts",
    ("published log", "structure"): "ships with the package",
}

ROWS = [
    (reader, hazard) for reader in READERS for hazard in HAZARDS if (reader, hazard) not in LEFT_OUT
]
