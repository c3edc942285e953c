"""Notebooks that cannot drift: each is a pair of the same cells, run to its end, outputs kept.

A failure here means that a `.py` was edited without running it anew (`notebooks/README.md` has the
command), or that an output tells of the machine on which it was made. Whether the cells still run
is a matter of ``pytest --nbmake``.
"""

import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
STEMS = sorted({path.stem for path in FOLDER.glob("[0-9]*.*")})

#: An absolute path of two parts or more; a slash in a formula, a link or a closing tag is none.
ABSOLUTE = re.compile(r"(?<![\w.:/$\\<})\])*-])/[A-Za-z][\w.-]*/[\w.-]+|\b[A-Z]:\\\w+")

#: Bytes; a repository keeps every version of them.
LARGEST = 700_000


def notebook(stem):
    return nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4)


def code_cells(stem):
    return [cell for cell in notebook(stem).cells if cell.cell_type == "code"]


def texts(cell):
    """The source of a cell and everything that it printed, without pictures."""
    yield cell.source
    for output in cell.get("outputs", ()):
        yield output.get("text", "")
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield str(data)


def machine_paths(text):
    """What in ``text`` names a place on a machine."""
    here = [str(Path.home()), sys.prefix, sys.base_prefix, tempfile.gettempdir(), str(ROOT)]
    return [place for place in here if place in text and place != "/"] + ABSOLUTE.findall(text)


def test_there_are_notebooks():
    assert len(STEMS) >= 3


@pytest.mark.parametrize("stem", STEMS)
def test_both_halves_have_the_same_cells(stem):
    text, run = jupytext.read(FOLDER / f"{stem}.py"), notebook(stem)
    nbformat.validate(run)
    for half in (text, run):
        assert half.metadata["jupytext"]["formats"] == "ipynb,py:percent"
        assert half.metadata["kernelspec"]["name"] == "python3"
    assert [cell.cell_type for cell in text.cells] == [cell.cell_type for cell in run.cells]
    for number, (ours, theirs) in enumerate(zip(text.cells, run.cells)):
        assert ours.source == theirs.source, f"cell {number} differs; run the notebook anew"


@pytest.mark.parametrize("stem", STEMS)
def test_it_was_run_to_the_end(stem):
    cells = code_cells(stem)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any(output.output_type == "stream" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", f"a warning was kept: {output.text}"


@pytest.mark.parametrize("stem", STEMS)
def test_nothing_tells_of_the_machine(stem):
    run = notebook(stem)
    found = [place for cell in run.cells for text in texts(cell) for place in machine_paths(text)]
    assert found == []
    assert machine_paths(str(run.metadata)) == []
    assert (FOLDER / f"{stem}.ipynb").stat().st_size < LARGEST


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("File /usr/lib/python3/numpy.py:12", True),
        ('"/home/ada/notebooks/a.ipynb"', True),
        (r"C:\Users\ada", True),
        (str(ROOT), True),
        ("m/s/kg and $k/m$, a/b/c", False),
        ("see https://example.org/docs/page and docs/derivations/scan.md", False),
        ("</details>", False),
        (r"$\frac{a}{b}/c/d$, error /cosine", False),
    ],
)
def test_paths_are_told_from_formulas(text, is_one):
    assert bool(machine_paths(text)) == is_one


def test_the_list_is_complete():
    readme = (FOLDER / "README.md").read_text("utf-8")
    linked = re.findall(r"\]\((\d\d_\w+)\.ipynb\)", readme)
    assert sorted(linked) == STEMS
