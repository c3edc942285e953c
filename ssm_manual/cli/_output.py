"""Files that a command writes: checked before the work begins, and replaced whole or not at all."""

import json
import os
import tempfile


def check_writable(option, path):
    """Raise `ValueError` naming the option unless a file could be written at ``path`` now."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise ValueError(f"{option} is {path!r}, which is a folder; it must be a file")
    if not os.path.isdir(folder):
        raise ValueError(f"{option} is {path!r}, but there is no folder {folder!r}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{option} is {path!r}, but nothing can be written there: {error.strerror}"
        ) from None


def write_atomically(path, write):
    """Let ``write(binary_file)`` fill a file beside ``path``, then move it into place in one step.

    A reader sees the old file or the new one, never half of one.
    """
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path, data):
    """Write plain data as JSON, atomically; NaN and infinity, which JSON has not, are refused."""
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def check_figure(option, path):
    """Raise `ValueError` unless a figure could be written at ``path``, in a known format."""
    from ssm_manual import plots

    known = plots.figure(1, 1).canvas.get_supported_filetypes()
    suffix = os.path.splitext(path)[1].lower().lstrip(".")
    if suffix not in known:
        raise ValueError(
            f"{option} is {path!r}; its name must end in one of .{', .'.join(sorted(known))}"
        )
    check_writable(option, path)


def write_figure(path, figure):
    """Save a Matplotlib figure, atomically, in the format that the name ends in."""
    suffix = os.path.splitext(path)[1].lower().lstrip(".")
    write_atomically(path, lambda file: figure.savefig(file, format=suffix))
