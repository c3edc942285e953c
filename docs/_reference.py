"""Writes the reference pages before Sphinx reads its sources: every public name, every command."""

import argparse
import importlib
import inspect
import pathlib
import pkgutil
import re

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "reference"

#: Order and headings of the pages; a module belongs to the longest name that it begins with.
PAGES = {
    "ssm_manual.ops": "Operators and their gradients",
    "ssm_manual.layers": "Layers",
    "ssm_manual.models": "Models",
    "ssm_manual.training": "Training",
    "ssm_manual.gradcheck": "Gradient checks",
    "ssm_manual.hippo": "HiPPO",
    "ssm_manual.tasks": "Tasks",
    "ssm_manual.checkpoint": "Checkpoints",
    "ssm_manual.store": "Store of runs",
    "ssm_manual.interop": "PyTorch",
    "ssm_manual.vectors": "Test vectors",
    "ssm_manual.plots": "Figures",
    "ssm_manual.reference": "Slow references",
}

#: Need not be installed to read what is written about them.
MOCKED = ["torch"]

#: Without pages of their own: the command line has one.
LEFT_OUT = ("ssm_manual.cli", "ssm_manual.data", "ssm_manual.__main__")


def modules():
    """Public modules with public names, by page."""
    import ssm_manual

    found = {page: [] for page in PAGES}
    for module in pkgutil.walk_packages(ssm_manual.__path__, "ssm_manual."):
        name = module.name
        if any(part.startswith("_") for part in name.split(".")) or name.startswith(LEFT_OUT):
            continue
        page = max((p for p in PAGES if (name + ".").startswith(p + ".")), key=len, default=None)
        if page is None:
            raise RuntimeError(f"{name} has no page in docs/_reference.py")
        found[page].append(name)
    return found


def public(module):
    """Public names of a module: its own, and those of private files that it passes on.

    What another public module defines has its place there.
    """
    names = getattr(module, "__all__", None)
    if names is None:  # as in the slow references: what it defines is public
        names = [n for n, v in vars(module).items() if not n.startswith("_") and callable(v)]
        return [n for n in names if getattr(vars(module)[n], "__module__", "") == module.__name__]
    found = []
    for name in names:
        value = getattr(module, name)
        if inspect.ismodule(value):
            continue
        home = getattr(value, "__module__", module.__name__)
        if home == module.__name__ or "._" in home:
            found.append(name)
    return found


def page(title, names, seen):
    """One page in Markdown; ``seen`` holds what has its place already, and grows."""
    from sphinx.ext.autodoc.mock import mock

    lines = [f"# {title}", ""]
    for name in names:
        with mock(MOCKED):
            module = importlib.import_module(name)
        defined = [n for n in public(module) if id(getattr(module, n)) not in seen]
        seen |= {id(getattr(module, n)) for n in defined if callable(getattr(module, n))}
        lines += [f"## `{name}`", "", "```{eval-rst}", f".. automodule:: {name}"]
        if defined:
            lines.append(f"   :members: {', '.join(defined)}")
        lines += ["```", ""]
    return "\n".join(lines)


def command_line():
    """The help of every command, as it prints it."""
    from ssm_manual.cli import build_parser

    parser = build_parser()
    lines = ["# Command line", "", "```text", parser.format_help().rstrip(), "```", ""]
    action = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in action.choices.items():
        lines += [f"## `ssm-manual {name}`", "", "```text"]
        lines += [command.format_help().rstrip(), "```", ""]
        for inner in command._actions:
            if isinstance(inner, argparse._SubParsersAction):
                for own, task in inner.choices.items():
                    lines += [f"### `ssm-manual {name} {own}`", "", "```text"]
                    lines += [task.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def write(app=None):
    """Write all pages; those that have not changed are left alone."""
    FOLDER.mkdir(exist_ok=True)
    pages, seen = {"command_line.md": command_line()}, set()
    for name, names in modules().items():
        if names:
            pages[name.rpartition(".")[2] + ".md"] = page(PAGES[name], names, seen)
    for name, text in pages.items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def plain(app, what, name, obj, options, lines):
    """Docstrings are read in a terminal too. An indented paragraph is a formula there, whose line
    breaks count; |x| is a modulus, and a heading in a module's docstring a heading.
    """
    found, section, before, formula = [], None, "", False
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if underlines(below):
            section = line.strip()
            if what == "module":
                line = f".. rubric:: {line}"
        elif underlines(line) and what == "module":
            line = ""
        prose = what == "module" or section in (None, "Notes")
        if line.strip() and not line.startswith("    "):
            formula = line.startswith(".. ") or line.rstrip().endswith("::")
        elif prose and line.strip() and not before.strip() and not formula:
            found += ["::", ""]
            formula = True
        found.append(line if formula or section == "Examples" else escaped(line))
        before = line
    lines[:] = found


def underlines(line):
    """Whether a line underlines a heading."""
    return len(line) > 2 and set(line.strip()) == {"-"}


def escaped(line):
    """A line in which a bar is a bar, save in code."""
    pieces = re.split(r"(``.*?``|`.*?`)", line)
    pieces[::2] = [piece.replace("|", "\\|") for piece in pieces[::2]]
    return "".join(pieces)


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before numpydoc
    return {"parallel_read_safe": True}
