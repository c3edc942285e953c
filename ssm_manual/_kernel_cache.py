"""Machine code on disk is run only if it is whole and belongs to the kernel as it is now.

Numba keeps numbered files of code for every kernel, and an index that says which variant (types of
arguments, processor) is in which. Two processes that compile two variants at once both read the old
index: one variant's entry is lost, or both take one number and the index names one while the file
holds the other. A process that is killed between the two files leaves older code under a new index.
Nothing that is read is checked, so half a file is an error out of a kernel, or a crash.

Here every variant has a file of its own, named after it and replaced as a whole; in it are the
state of the sources, the variant, the code and a checksum. What does not match is compiled anew and
replaced.
"""

import hashlib
import os
import pickle
import warnings

_warned = False


def guard(kernel, sources, kind=""):
    """Let cached code of ``kernel`` run only where it is whole, its own and of these ``sources``.

    Numba compares the kernel's own file alone, so after an upgrade a helper's old code would go on
    running inside a kernel of an unchanged file. Nor does its key tell code with bounds checks from
    code without: code of another ``kind`` has files of another name.
    """
    try:
        cache = kernel._cache
        file, save = cache._cache_file, cache.save_overload
        file._source_stamp = (file._source_stamp, sources)
        cache._cache_file = _Files(file, kind)
    except AttributeError:  # no cache (the compiler is off), or another Numba: its own rule stands
        return

    def save_or_warn(signature, compiled):
        try:
            save(signature, compiled)
        except OSError as error:  # the code is in memory: the result does not depend on the disk
            warn(
                f"ssm_manual cannot keep compiled kernels in {cache.cache_path!r} ({error}), so "
                "they are compiled anew in every process"
            )

    cache.save_overload = save_or_warn


def warn(message):
    """A RuntimeWarning, the first time in a process."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(message, RuntimeWarning, stacklevel=4)


class _Files:
    """What Numba asks of a kernel's cache file, of one file for each variant."""

    def __init__(self, file, kind):
        self._file, self._kind = file, kind

    def _path(self, variant):
        name = hashlib.sha256(repr(variant).encode()).hexdigest()[:16]
        base = self._file._index_name.removesuffix(".nbi") + self._kind
        return os.path.join(self._file._cache_path, f"{base}.{name}.nbc")

    def load(self, variant):
        try:
            with open(self._path(variant), "rb") as file:
                checksum, entry = file.read(32), file.read()
            if hashlib.sha256(entry).digest() != checksum:
                return None
            stamp, key, code = pickle.loads(entry)
        except Exception:  # nothing there; of other versions, unpickling may raise anything
            return None
        return code if (stamp, key) == (self._file._source_stamp, variant) else None

    def save(self, variant, code):
        entry = self._file._dump((self._file._source_stamp, variant, code))
        with self._file._open_for_write(self._path(variant)) as file:
            file.write(hashlib.sha256(entry).digest() + entry)
