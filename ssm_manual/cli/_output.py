"""Files that a command writes: checked before the work begins, and replaced whole or not at all."""

import json
import os

from ssm_manual._files import check_writable, write_atomically

__all__ = ["check_figure", "check_model", "check_writable", "write_figure", "write_json"]


def write_json(path, data):
    """Write plain data as JSON, atomically; NaN and infinity, which JSON has not, are refused."""
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def check_model(option, path):
    """Raise `ValueError` unless a model could be saved at ``path``, under a fitting name."""
    if not str(path).endswith(".safetensors"):
        raise ValueError(f"{option} is {path!r}; its name must end in .safetensors")
    check_writable(option, path)


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
