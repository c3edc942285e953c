"""Notebooks that cannot drift: each is a pair of the same cells, run to its end, outputs kept.

A failure here means that a `.py` was edited without running it anew (`notebooks/README.md` has the
command), or that an output tells of the machine on which it was made. Whether the cells still run
is a matter of ``pytest --nbmake``.

Exercises have one form: a heading, code cells with what the reader is to mend and, in the last of
them, ``print(check(...))``, which says *not yet* and why, or *solved*; then the solution, folded
away. As shipped an exercise says *not yet*. Each solution is put in the place of what it mends and
run, together with those statements of the notebook that the exercise needs.
"""

import ast
import contextlib
import io
import itertools
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import jupytext
import matplotlib as mpl
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


#: A solution, folded away, and the programs in it.
FOLDED = re.compile(r"^<details>\n<summary>Solution</summary>\n(.*?)^</details>$", re.S | re.M)
FENCED = re.compile(r"^```python\n(.*?)^```$", re.S | re.M)


class Exercise(NamedTuple):
    """Its title, its place among the cells, its cells, and every solution that is given."""

    title: str
    first: int
    cells: list
    solutions: list


def exercises(cells):
    """Every exercise among the cells of a notebook."""
    headings = [i for i, cell in enumerate(cells) if cell.source.startswith("## ")] + [len(cells)]
    found = []
    for i, end in itertools.pairwise(headings):
        if re.match(r"## Exercise\b", cells[i].source):
            code = [cell for cell in cells[i:end] if cell.cell_type == "code"]
            folded = FOLDED.findall("\n".join(c.source for c in cells[i:end] if c not in code))
            solutions = FENCED.findall("\n".join(folded))
            found.append(Exercise(cells[i].source.splitlines()[0][3:], i, code, solutions))
    return found


SOLUTIONS = [
    pytest.param(stem, i, k, id=f"{stem[:2]}-{i + 1}" + "abc"[k])
    for stem in STEMS
    for i, one in enumerate(exercises(jupytext.read(FOLDER / f"{stem}.py").cells))
    for k in range(len(one.solutions))
]


def printed(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.parametrize("stem", STEMS)
def test_exercises_as_shipped_are_not_solved(stem):
    ours = exercises(notebook(stem).cells)
    assert ours, "a notebook has an exercise"
    for exercise in ours:
        assert exercise.solutions, exercise.title
        assert exercise.cells, exercise.title
        assert re.search(r"^print\(check\(\w+\)\)$", exercise.cells[-1].source, re.M)
        said = "".join(map(printed, exercise.cells))
        assert re.search(r"^not yet: \S", said, re.M), f"{exercise.title}: it said {said!r}"
        assert "solved" not in said


def names_in(node, *kinds):
    return {
        name.id
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, kinds)
    }


def bound(statement):
    """Names that a statement at the top of a cell binds, or whose values it may change."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    names = names_in(statement, ast.Store)
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            names |= names_in(node.value, ast.Load)
        if isinstance(node, ast.For) and any(isinstance(n, ast.AugAssign) for n in ast.walk(node)):
            names |= names_in(node.iter, ast.Load)  # for p in parameters: p += ...
    return names


def program_of(cells, exercise, solution):
    """The statements before the exercise that it needs, and it with its solution put in place."""
    mended = ast.parse(solution).body
    gone = set().union(*map(bound, mended))
    own = [node for cell in exercise.cells for node in ast.parse(cell.source).body]
    places = [i for i, node in enumerate(own) if bound(node) & gone]
    assert places, "a solution mends something of its exercise"
    own = [node for node in own if not bound(node) & gone]
    own[places[0] : places[0]] = mended
    needed = set().union(*(names_in(node, ast.Load) for node in own))
    earlier = [
        node
        for cell in cells[: exercise.first]
        if cell.cell_type == "code"
        for node in ast.parse(cell.source).body
    ]
    taken = []
    for node in earlier[::-1]:
        if bound(node) & needed:
            needed |= names_in(node, ast.Load)
            taken.insert(0, node)
    return taken, own


@pytest.mark.parametrize(("stem", "number", "which"), SOLUTIONS)
def test_solutions_pass_their_own_checks(stem, number, which, monkeypatch):
    cells = jupytext.read(FOLDER / f"{stem}.py").cells
    exercise = exercises(cells)[number]
    before, after = program_of(cells, exercise, exercise.solutions[which])
    names, said = {"__name__": stem}, io.StringIO()
    monkeypatch.chdir(FOLDER)
    with mpl.rc_context(), contextlib.redirect_stdout(said):
        exec(compile(ast.Module(before, []), stem, "exec"), names)
        said.truncate(0)
        exec(compile(ast.Module(after, []), exercise.title, "exec"), names)
    said = said.getvalue()
    assert re.search(r"^solved", said.lstrip("\0"), re.M), f"{exercise.title}: it said {said!r}"
    assert "not yet" not in said
