"""Files of strangers opened without waiting; files of ours replaced whole or not at all.

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


def opened(path):
    """A regular file, open for reading in binary; a `ValueError` names whatever else it is.

    A pipe is not waited on, and a device is not read, which might never end: `open` would do both.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a zero byte, a character that no name can hold
        raise ValueError(f"{path!r}: is no name of a file ({error})") from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if stat.S_ISREG(mode):
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  (the caller closes it)
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # still, when it was opened
            return file
        file.close()
    raise ValueError(f"{path}: is not a file but a pipe or a device")


@contextlib.contextmanager
def reading(path):
    """`opened`, closed at the end; an error of the system on the way names the file."""
    with named(path), opened(path) as file:
        yield file


@contextlib.contextmanager
def named(path):
    """An error of the system names the file: that of a broken disk does not by itself."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def _without_waiting(path, flags):
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def short(value, longest=60):
    """What a file says, for a message: quoted, so that a terminal obeys none of it, and cut."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def listed(values, most=8):
    """Some texts of a file, for a message: the first few, and how many more there are."""
    values = list(values)
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(short, values[:most])) + more


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
        flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    flush(folder)


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
        return 0o666 & ~umask()


def umask():
    """What new files are not permitted; the system tells it only to those who set it."""
    found = os.umask(0)
    os.umask(found)
    return found


def flush(path):
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
