"""A name for the state of the sources that kernels are compiled from.

A cached kernel notices edits in its own file, not in the files that it imports from. This file
imports nothing of the package, so that it can be used before the compiler is loaded.
"""

import hashlib
import pathlib

__all__ = ["NO_KERNELS", "source_hash"]

#: Folders and files of the package without a kernel, and without anything that one is made of.
NO_KERNELS = (
    *("cli", "interop", "store", "tasks", "gradcheck.py", "_gradcheck", "plots.py", "_plot_"),
    *("vectors.py", "checkpoint.py", "_tensors.py", "_files.py"),
)


def source_hash(folder=None):
    """A hash of the package's files and their names, those of `NO_KERNELS` left out.

    Parameters
    ----------
    folder : path_like, optional
        The package; None is the one that this file belongs to.

    Returns
    -------
    str
    """
    folder = pathlib.Path(folder or pathlib.Path(__file__).parent)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if not name.parts[0].startswith(NO_KERNELS):
            digest.update(str(name).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
