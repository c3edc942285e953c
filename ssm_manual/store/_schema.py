"""The tables of a store, and how its file is told from others.

Two choices decide how fast a signal is written and read:

* A row of ``chunk`` is some samples of one signal, and its number is ``signal * 2^42 + first
  sample``. So a row is found by its number alone, the samples of a signal lie side by side, and
  where a signal ends is the number of its last row: an append writes this table and nothing else.
* Nothing else is indexed that an append or a logged value would have to touch.
"""

#: In the header of the file, ``SSMM``: a file without it belongs to another application.
APPLICATION_ID = 0x53534D4D

#: Of the tables below, in the header too. A store of a later version is refused.
VERSION = 1

#: Bits of a chunk's number that say where it begins: three years at 48 kHz.
POSITION_BITS = 42

#: Samples of a signal, and signals of a store, that the number of a chunk can tell apart.
LONGEST, MOST_SIGNALS = 2**POSITION_BITS, 2 ** (63 - POSITION_BITS) - 1

#: Bits of a part's number that say which of its checkpoint it is.
PART_BITS = 20

TABLES = (
    # AUTOINCREMENT: what has been deleted leaves its number unused, so that nothing that was
    # written for one run can be taken for another's.
    """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        config TEXT NOT NULL,
        seed TEXT NOT NULL,
        tags TEXT NOT NULL,
        versions TEXT NOT NULL,
        owner TEXT NOT NULL,
        status TEXT NOT NULL
            CHECK (status IN ('running', 'finished', 'failed', 'interrupted')),
        error TEXT NOT NULL,
        scores TEXT NOT NULL,
        started REAL NOT NULL,
        ended REAL
    )
    """,
    """
    CREATE TABLE series (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL REFERENCES run (id),
        name TEXT NOT NULL,
        UNIQUE (run, name)
    )
    """,
    # Without a row number: the key is the table. `value` is NULL where NaN was logged.
    """
    CREATE TABLE metric (
        series INTEGER NOT NULL,
        step INTEGER NOT NULL,
        entry INTEGER NOT NULL,
        value REAL,
        PRIMARY KEY (series, step, entry)
    ) WITHOUT ROWID
    """,
    # `channels` is NULL for a signal of shape (n,).
    """
    CREATE TABLE signal (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL REFERENCES run (id),
        name TEXT NOT NULL,
        dtype TEXT NOT NULL,
        channels INTEGER,
        rate REAL,
        UNIQUE (run, name)
    )
    """,
    "CREATE TABLE chunk (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    """
    CREATE TABLE checkpoint (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL REFERENCES run (id),
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        UNIQUE (run, name)
    )
    """,
    "CREATE TABLE part (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
)
