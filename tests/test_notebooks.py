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
import dis
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import jupytext
import matplotlib as mpl
import matplotlib.pyplot as plt
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


DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


class Exercise(NamedTuple):
    """Its title, its place among the cells, its cells, and every solution that is given."""

    title: str
    first: int
    cells: list
    solutions: list


def exercises(cells):
    """Every exercise among the cells of a notebook: from its heading to the next."""
    found, ours = [], None
    for i, cell in enumerate(cells):
        if cell.cell_type == "code":
            if ours:
                ours.cells.append(cell)
            continue
        for part in re.split(r"^(?=## )", cell.source, flags=re.M):
            if part.startswith("## "):
                title = part.splitlines()[0][3:]
                ours = Exercise(title, i, [], []) if part.startswith("## Exercise") else None
                found += [ours] if ours else []
            if ours:
                for solution in FOLDED.findall(part):
                    ours.solutions.extend(FENCED.findall(solution))
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
        assert re.search(r"^print\(check\(.+\)\)$", exercise.cells[-1].source, re.M)
        said = "".join(map(printed, exercise.cells))
        assert re.search(r"^not yet: \S", said, re.M), f"{exercise.title}: it said {said!r}"
        assert "solved" not in said


def top_level(cells):
    """The statements of code cells."""
    return [n for cell in cells if cell.cell_type == "code" for n in ast.parse(cell.source).body]


def reads(statement):
    """Global names that a statement reads, in functions that it defines too."""
    found, codes = set(), [compile(ast.Module([statement], []), "", "exec")]
    for code in codes:
        codes += [item for item in code.co_consts if hasattr(item, "co_code")]
        steps = dis.get_instructions(code)
        found |= {one.argval for one in steps if one.opname in ("LOAD_NAME", "LOAD_GLOBAL")}
    return found


def binds(statement):
    """Global names that a statement binds."""
    code = compile(ast.Module([statement], []), "", "exec")
    return {one.argval for one in dis.get_instructions(code) if one.opname == "STORE_NAME"}


def changes(statement):
    """Global names whose values a statement may change in place."""
    if isinstance(statement, DEFINITIONS):
        return set()
    places = [
        node.value
        for node in ast.walk(statement)
        if (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store))
        or (isinstance(node, ast.Attribute) and node.attr in ("append", "extend", "update"))
    ]
    return {node.id for node in places if isinstance(node, ast.Name)}


def with_called(names, statements):
    """``names``, and what is read by the functions among them, and by those, and so on."""
    functions = {node.name: node for node in statements if isinstance(node, DEFINITIONS)}
    names, queue = set(names), list(names)
    for name in queue:
        if name in functions:
            queue += reads(functions[name]) - names
            names |= set(queue)
    return names


def needed_before(statements, mended):
    """Of the earlier ``statements``, those that the ``mended`` exercise needs."""
    needed = with_called(set().union(*map(reads, mended)), statements)
    taken = []
    for i in reversed(range(len(statements))):
        node = statements[i]
        if (binds(node) | changes(node)) & needed:
            if not isinstance(node, (ast.For, ast.With, ast.If, ast.AugAssign)):
                needed -= binds(node)
            needed |= with_called(reads(node), statements[:i])
            taken.append(node)
    return taken[::-1]


def mend(statements, solution):
    """The statements of an exercise with a solution in the place of what it binds."""
    theirs = ast.parse(solution).body
    names = set().union(*map(binds, theirs))
    kept = [node for node in statements if not binds(node) & names]
    assert len(kept) < len(statements), "a solution binds what its exercise binds"
    first = next(i for i, node in enumerate(statements) if binds(node) & names)
    return kept[:first] + theirs + kept[first:]


@pytest.mark.parametrize(("stem", "number", "which"), SOLUTIONS)
def test_solutions_pass_their_own_checks(stem, number, which, monkeypatch):
    cells = jupytext.read(FOLDER / f"{stem}.py").cells
    exercise = exercises(cells)[number]
    mended = mend(top_level(exercise.cells), exercise.solutions[which])
    before = needed_before(top_level(cells[: exercise.first]), mended)
    names, said = {"__name__": stem}, io.StringIO()
    monkeypatch.chdir(FOLDER)
    try:
        with mpl.rc_context(), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(ast.Module(before, []), stem, "exec"), names)
            with contextlib.redirect_stdout(said):
                exec(compile(ast.Module(mended, []), exercise.title, "exec"), names)
    finally:
        plt.close("all")
    said = said.getvalue()
    assert re.search(r"^solved", said, re.M), f"{exercise.title}: it said {said!r}"
    assert "not yet" not in said
