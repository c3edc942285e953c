"""Checkpoints: the bytes of files, in rows that SQLite can hold whatever the size of the file."""

import os
import tempfile

from ssm_manual import _validate
from ssm_manual.store import _schema
from ssm_manual.store.errors import StoreError

#: Bytes of a row; 2^20 rows of them are 16 TiB.
PART = 1 << 24


def names(database, run):
    """Names of a run's checkpoints, in order."""
    rows = database.execute("SELECT name FROM checkpoint WHERE run = ? ORDER BY id", (run,))
    if not all(type(row[0]) is str for row in rows):
        raise StoreError(f"{database.path}: is damaged: a checkpoint's name is no text")
    return [row[0] for row in rows]


def save(database, run, name, model, metadata):
    """Enter a model, by way of the file that `checkpoint.save` writes."""
    from ssm_manual import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.safetensors")
        checkpoint.save(path, model, metadata=metadata)
        with open(path, "rb") as file, database.transaction():
            write(database, run, name, file)


def load(database, run, name, expected):
    """The model that `save` entered; an error names its place in the store, not the file's."""
    from ssm_manual import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.safetensors")
        with open(path, "wb") as file:
            read(database, run, name, file)
        try:
            return checkpoint.load(path, expected=expected)
        except checkpoint.CheckpointError as error:
            where = f"{database.path}, checkpoint {name!r} of run {run}"
            raise checkpoint.CheckpointError(str(error).replace(path, where)) from None


def write(database, run, name, file):
    """Enter a file, in place of what stood under the name; within a transaction."""
    for (old,) in database.execute(
        "SELECT id FROM checkpoint WHERE run = ? AND name = ?", (run, name)
    ):
        remove(database, old)
    database.execute("INSERT INTO checkpoint (run, name, size) VALUES (?, ?, 0)", (run, name))
    number = database.execute("SELECT last_insert_rowid()")[0][0]
    size, part = 0, 0
    while data := file.read(PART):
        row = ((number << _schema.PART_BITS) + part, data)
        database.execute("INSERT INTO part VALUES (?, ?)", row)
        size, part = size + len(data), part + 1
    database.execute("UPDATE checkpoint SET size = ? WHERE id = ?", (size, number))


def read(database, run, name, file):
    """Write the bytes of a checkpoint to a file; one state of it, also if it is replaced."""
    if not callable(getattr(file, "write", None)):
        raise ValueError(f"file is {_validate.show(file)}; it must be a file, open for writing")
    with database.snapshot():
        found = database.execute(
            "SELECT id, size FROM checkpoint WHERE run = ? AND name = ?", (run, name)
        )
        if not found:  # since its name was looked up
            raise StoreError(f"{database.path}: checkpoint {name!r} has been deleted")
        number, size = found[0]
        if type(size) is not int:
            raise StoreError(f"{database.path}: is damaged: checkpoint {name!r} has no size")
        ids = database.execute(
            "SELECT id FROM part WHERE id BETWEEN ? AND ? ORDER BY id", _range(number)
        )
        written = 0
        for (key,) in ids:
            data = database.execute("SELECT data FROM part WHERE id = ?", (key,))[0][0]
            if type(data) is not bytes:
                raise StoreError(f"{database.path}: checkpoint {name!r} is not made of bytes")
            file.write(data)
            written += len(data)
    if size != written:
        raise StoreError(f"{database.path}: checkpoint {name!r} is not complete")


def remove(database, number):
    """Delete one; within a transaction."""
    database.execute("DELETE FROM part WHERE id BETWEEN ? AND ?", _range(number))
    database.execute("DELETE FROM checkpoint WHERE id = ?", (number,))


def _range(number):
    first = number << _schema.PART_BITS
    return first, first + (1 << _schema.PART_BITS) - 1
