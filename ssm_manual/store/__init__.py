"""Runs kept in one file: configuration, metrics by step, signals in chunks, checkpoints.

The data layer between the engine and the disk: an SQLite database in write-ahead mode, from
Python's own library, without a server. What `Run.append` and `Run.log` have acknowledged is with
the operating system: a process that is killed loses nothing. See ``docs/store.md``.
"""

from ssm_manual.store._export import describe
from ssm_manual.store._plain import strict
from ssm_manual.store.errors import StoreError
from ssm_manual.store.run import STATUSES, Run, Signal
from ssm_manual.store.store import Store

__all__ = ["STATUSES", "Run", "Signal", "Store", "StoreError", "describe", "strict"]
