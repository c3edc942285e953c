"""Files of a command: checked before the work begins; outputs are replaced whole or not at all."""

import json
import os

from ssm_manual._files import check_writable, write_atomically

__all__ = [
    "check_exists",
    "check_figure",
    "check_model",
    "check_outputs",
    "check_writable",
    "columns",
    "write_figure",
    "write_json",
]


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


def check_exists(option, path):
    """Raise `ValueError` unless there is something to read at ``path``."""
    if not os.path.exists(path):
        raise ValueError(f"{option} is {path!r}; there is no such file")


def check_outputs(inputs, **outputs):
    """Raise `ValueError` unless every output can be written, over no input and no other output.

    ``inputs`` is ``{option: path}``; outputs are named as their options are, without the dashes.
    A path of None is an option that was not given.
    """
    checks = {"figure": check_figure, "save": check_model}
    named = {option: path for option, path in inputs.items() if path is not None}
    for name, path in outputs.items():
        if path is None:
            continue
        option = f"--{name}"
        checks.get(name, check_writable)(option, path)
        for other, taken in named.items():
            if _same_file(path, taken):
                raise ValueError(f"{option} is {path!r}, the file of {other}; choose another name")
        named[option] = path


def _same_file(path, other):
    """Whether two names lead to one file, links of both kinds included."""
    if os.path.exists(path) and os.path.exists(other):
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)


def write_figure(path, figure):
    """Save a Matplotlib figure, atomically, in the format that the name ends in."""
    suffix = os.path.splitext(path)[1].lower().lstrip(".")
    write_atomically(path, lambda file: figure.savefig(file, format=suffix))


def columns(rows, right):
    """Rows of text as lines in columns; those numbered in ``right`` are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
