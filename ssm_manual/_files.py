"""Files that the package writes: replaced whole or not at all, also when the power goes.

A new file is filled beside the old one, flushed to the disk and renamed over it; then the folder
itself is flushed, because a rename lives there. A reader sees the old file or the new one, never
half of one. A process that is killed may leave its unfinished file behind, whose name begins with a
dot and ends in ``.part``.
"""

import contextlib
import errno
import os
import stat
import tempfile


def check_writable(name, path):
    """Raise `ValueError` naming the argument unless a file could be written at ``path`` now."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if os.path.isdir(target):
        raise ValueError(f"{name} is {str(path)!r}, which is a folder; it must be a file")
    if _is_special(target):
        raise ValueError(f"{name} is {str(path)!r}, a device or a pipe; it must be a file")
    if not os.path.isdir(folder):
        raise ValueError(f"{name} is {str(path)!r}, but there is no folder {folder!r}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        with contextlib.suppress(FileNotFoundError):
            os.stat(target)  # a name too long, a link to itself
    except OSError as error:
        raise ValueError(
            f"{name} is {str(path)!r}, but nothing can be written there: {error.strerror}"
        ) from None


@contextlib.contextmanager
def replacement(path):
    """The name of a file beside ``path``, to fill by name; at the end it takes ``path``'s place.

    A symbolic link stays one: what it points to is replaced. Permissions of an old file are kept.
    If the block raises, nothing has changed and nothing is left behind.
    """
    path = os.path.realpath(path)
    if _is_special(path):  # a rename would put a file in its place
        raise OSError(errno.EINVAL, "a device or a pipe cannot be replaced", path)
    folder, name = os.path.split(path)
    # cut, for 255 bytes are the most: a name may have so many itself
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name[:40]}.", suffix=".part")
    os.close(handle)
    try:
        yield temporary
        os.chmod(temporary, _permissions(path))  # mkstemp's files are private
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _flush(folder)


def write_atomically(path, write):
    """Let ``write(binary_file)`` fill the file that takes ``path``'s place."""
    with replacement(path) as temporary, open(temporary, "wb") as file:
        write(file)


def _is_special(path):
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def _permissions(path):
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def _flush(path):
    """Have the system put a file, or a folder's list of names, on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written but not read; Windows has no such call
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # a file system that cannot
            raise
    finally:
        os.close(handle)
