"""Documentation that cannot drift: labels, docstrings, links and snippets are checked.

A failure here means that the text and the program say different things; either may be the one
to mend.
"""

import collections
import doctest
import importlib
import importlib.util
import inspect
import itertools
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ssm_manual
from ssm_manual.tasks.protocol import Task

#: Modules whose library is not installed: nothing of them can be read here.
OPTIONAL = () if importlib.util.find_spec("torch") else ("ssm_manual.interop.torch",)

ROOT = Path(__file__).resolve().parent.parent
DERIVATIONS = sorted((ROOT / "docs" / "derivations").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("benchmarks", "examples", "notebooks", "tests")
READMES = sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))

# ------------------------------------------------------------------------------------------ labels

DEFINITION = re.compile(r"\*\*\[([A-Z][A-Z0-9]{2,}-\d+)\]\*\*")
CITATION = re.compile(r"\[([A-Z][A-Z0-9]{2,}-\d[^\[\]]*)\]")
CITED_ITEM = re.compile(
    r"(?P<separator>, | and | or | to |^)(?:(?P<family>[A-Z][A-Z0-9]{2,})-)?(?P<number>\d+)"
)


def cited_labels(text):
    """Every label that ``text`` cites, as ``[SCAN-4]``, ``[SCAN-1, 2]`` or ``[SCAN-5 to 10]``."""
    labels = []
    for inner in CITATION.findall(text):
        position, family, last = 0, None, 0
        while position < len(inner):
            item = CITED_ITEM.match(inner, position)
            if item is None:
                raise AssertionError(f"[{inner}] is not a list of labels such as [SCAN-1, 2]")
            family = item["family"] or family
            number = int(item["number"])
            first = last + 1 if item["separator"] == " to " else number
            labels += [f"{family}-{n}" for n in range(first, number + 1)]
            position, last = item.end(), number
    return labels


def sources():
    """Every text that may cite a label."""
    this = Path(__file__).resolve()
    for folder, pattern in [
        ("ssm_manual", "*.py"),
        ("tests", "*.py"),
        ("benchmarks", "*.py"),
        ("examples", "*.py"),
        ("notebooks", "*.py"),
        ("docs", "*.md"),
        ("docs", "*.py"),
        ("examples", "*.c"),
    ]:
        yield from (path for path in sorted((ROOT / folder).rglob(pattern)) if path != this)
    yield from (page for page in sorted(ROOT.glob("*.md")) if page.name != "CONTRIBUTING.md")
    yield from READMES


def definitions():
    """Label -> the pages that define it."""
    where = collections.defaultdict(list)
    for page in DERIVATIONS:
        for label in DEFINITION.findall(page.read_text("utf-8")):
            where[label].append(page.name)
    return where


def test_every_label_is_defined_exactly_once():
    where = definitions()
    assert len(where) >= 72
    assert {label: pages for label, pages in where.items() if len(pages) > 1} == {}


def test_labels_are_numbered_without_gaps():
    families = collections.defaultdict(set)
    for label in definitions():
        family, number = label.split("-")
        families[family].add(int(number))
    for family, numbers in families.items():
        assert numbers == set(range(1, len(numbers) + 1)), family


def test_every_cited_label_is_defined():
    known, undefined = definitions(), []
    for path in sources():
        try:
            cited = cited_labels(path.read_text("utf-8"))
        except AssertionError as error:
            undefined.append(f"{path.relative_to(ROOT)}: {error}")
            continue
        undefined += [
            f"{path.relative_to(ROOT)}: [{label}]" for label in sorted(set(cited) - set(known))
        ]
    assert undefined == [], "\n".join(undefined)


def test_the_index_lists_every_label():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    listed = cited_labels("".join(re.findall(r"^\| (\[.*?\]) \|", index, re.M)))
    assert collections.Counter(listed) == dict.fromkeys(definitions(), 1)


@pytest.mark.parametrize("page", DERIVATIONS, ids=lambda page: page.stem)
def test_a_label_stands_above_its_equation(page):
    page = page.read_text("utf-8")
    pieces = DEFINITION.split(page)
    for label, text in zip(pieces[1::2], pieces[2::2]):
        assert "\n$$\n" in text, f"{label} has no displayed equation below it"
    for line in page.splitlines():
        assert line.strip() == "$$" or "$$" not in line, f"$$ stands on a line of its own: {line}"
    assert len(re.findall(r"^\$\$$", page, re.M)) % 2 == 0


def test_citations_are_read():
    assert cited_labels("x = a[N-1]  # [SCAN-4]; not [a link](SCAN-5)") == ["SCAN-4"]
    assert cited_labels("[SCAN-1, 2] and [KERNEL-4, TRUNC-1]") == (
        ["SCAN-1", "SCAN-2", "KERNEL-4", "TRUNC-1"]
    )
    assert cited_labels("[SCAN-5 to SCAN-7]") == ["SCAN-5", "SCAN-6", "SCAN-7"]
    assert cited_labels("[SCAN-5 to 7, 9]") == ["SCAN-5", "SCAN-6", "SCAN-7", "SCAN-9"]
    with pytest.raises(AssertionError, match="not a list of labels"):
        cited_labels("[SCAN-4 perhaps]")


# -------------------------------------------------------------------------------------- docstrings


def public_modules():
    """Every module of the package no part of whose name is private."""
    yield ssm_manual
    for found in pkgutil.walk_packages(ssm_manual.__path__, "ssm_manual."):
        private = any(part.startswith("_") for part in found.name.split("."))
        if not private and found.name not in OPTIONAL:
            yield importlib.import_module(found.name)


def public_objects():
    """(qualified name, object) of every public function, class and method, each once."""
    seen = set()
    for module in public_modules():
        for name in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
            value = getattr(module, name)
            if not (inspect.isfunction(value) or inspect.isclass(value)) or id(value) in seen:
                continue
            if not value.__module__.startswith("ssm_manual"):
                continue
            seen.add(id(value))
            yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                for key, member in vars(value).items():
                    if isinstance(member, (staticmethod, classmethod)):
                        member = member.__func__
                    if not key.startswith("_") and inspect.isfunction(member):
                        yield f"{module.__name__}.{name}.{key}", member


def documented(docstring, *sections):
    """The names that the given numpydoc sections list, or None if there is no such section."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    heads = [
        i
        for i, (line, below) in enumerate(itertools.pairwise(lines))
        if re.fullmatch(r"-{3,}", below) and re.match(r"\S", line)
    ]
    names = None
    for start, end in itertools.pairwise([*heads, len(lines)]):
        if lines[start] in sections:
            names = names or []
            for line in lines[start + 2 : end]:
                if line.strip() and not line.startswith(" "):
                    names += [part.strip() for part in line.split(" : ")[0].split(",")]
    return names


def accepted(function):
    """The names in a signature as numpydoc writes them: ``a``, ``*args``, ``**options``."""
    names = []
    for parameter in inspect.signature(function).parameters.values():
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        names.append(stars + parameter.name)
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def disagreement(name, value):
    """How an object's docstring differs from its signature; None if it does not."""
    if not value.__doc__:
        return f"{name}: no docstring"
    if inspect.isclass(value):
        if issubclass(value, tuple) or hasattr(value, "__dataclass_fields__"):
            listed = documented(value.__doc__, "Parameters", "Attributes")
            fields = list(getattr(value, "_fields", getattr(value, "__dataclass_fields__", ())))
            # Fields may be explained by a comment beside each of them instead.
            return None if listed in (None, fields) else f"{name}: documents {listed}, has {fields}"
        if "__init__" not in vars(value):
            return None
        value, text = value.__init__, value.__doc__
    else:
        text = value.__doc__
    listed, taken = documented(text, "Parameters", "Other Parameters"), accepted(value)
    if listed is None and (not taken or points_elsewhere(name)):
        return None
    return None if listed == taken else f"{name}: documents {listed}, takes {taken}"


def points_elsewhere(name):
    """Whether a function's arguments are documented in one other place.

    ``op_fwd`` takes the arguments of ``op``, and ``op_vjp`` its residuals and a cotangent; the
    functions of ``reference`` mirror those of ``ops``; a subcommand's two functions are called by
    the command line alone; what a task overrides is documented in `protocol.Task`.
    """
    place, _, member = name.rpartition(".")
    return (
        (place.startswith("ssm_manual.tasks.") and member in vars(Task))
        or name.endswith(("_fwd", "_vjp"))
        or name.startswith(("ssm_manual.reference.", "ssm_manual.cli."))
        or name == "ssm_manual.ops.registry.register"
    )


def test_docstrings_agree_with_signatures():
    found = [disagreement(name, value) for name, value in public_objects()]
    assert len(found) >= 20
    wrong = [text for text in found if text]
    assert wrong == [], "\n".join(wrong)


def test_disagreements_are_found():
    def wrong(a, b, *rest, c=1, **options):
        """One line.

        Parameters
        ----------
        a, b : int
            Two numbers.
        *rest
            More.
        d : int
            A name that does not exist.
        **options
            And others.

        Returns
        -------
        e : int
        """

    assert documented(wrong.__doc__, "Parameters") == ["a", "b", "*rest", "d", "**options"]
    assert accepted(wrong) == ["a", "b", "*rest", "c", "**options"]
    assert "documents" in disagreement("wrong", wrong)
    wrong.__doc__ = wrong.__doc__.replace("d : int", "c : int")
    assert disagreement("wrong", wrong) is None
    wrong.__doc__ = "One line."
    assert "documents None" in disagreement("wrong", wrong)
    wrong.__doc__ = None
    assert "no docstring" in disagreement("wrong", wrong)

    class Wrong:
        """A class.

        Parameters
        ----------
        size : int
            Its size.
        """

        def __init__(self, length):
            self.length = length

    assert "documents ['size'], takes ['length']" in disagreement("Wrong", Wrong)


@pytest.mark.parametrize("module", list(public_modules()), ids=lambda module: module.__name__)
def test_docstring_examples_run(module):
    outcome = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0


# ------------------------------------------------------------------------------ links and snippets

FENCE = re.compile(r"^(`{3,})(\w*)[^\n]*\n(.*?)^\1\s*$", re.S | re.M)
LINK = re.compile(r"\]\(\s*<?([^()\s<>]+)>?(?:\s+\"[^\"]*\")?\s*\)|(?:src|href)=\"([^\"]+)\"")


def prose(text):
    """The text without code and mathematics, in which brackets are no links."""
    for pattern in (FENCE, re.compile(r"^\$\$$.*?^\$\$$", re.S | re.M), re.compile(r"`[^`\n]*`")):
        text = pattern.sub(" ", text)
    return re.sub(r"\$[^$\n]+\$", " ", text)


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*?) *$", FENCE.sub(" ", text), re.M)
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in headings}


def broken_links(page):
    for match in LINK.finditer(prose(page.read_text("utf-8"))):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"{link}: no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text("utf-8")):
            yield f"{link}: no such heading"


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page):
    assert list(broken_links(page)) == []


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title: here\n[a](missing.md) [b](#a-title-here) [c](#elsewhere) [d](https://example.org)\n"
        "`[e](code.md)` $f_t](math.md)$ ![g](picture.png)\n```\n[h](fenced.md)\n```\n"
    )
    assert list(broken_links(page)) == [
        "missing.md: no such file",
        "#elsewhere: no such heading",
        "picture.png: no such file",
    ]


def snippets(page):
    """The runnable blocks of a page: ``python`` is executed, ``pycon`` compared with its output."""
    return [
        (match[2], match[3])
        for match in FENCE.finditer(page.read_text("utf-8"))
        if match[2] in ("python", "pycon")
    ]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if snippets(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_snippets_run(page, tmp_path, monkeypatch):
    """The blocks of a page run one after another in one namespace, as a reader pastes them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    if any(re.search("^import torch", code, re.M) for _, code in snippets(page)):
        pytest.importorskip("torch")
    namespace = {"__name__": "__main__"}
    for language, code in snippets(page):
        if language == "python":
            exec(compile(code, str(page), "exec"), namespace)
        else:
            test = doctest.DocTestParser().get_doctest(code, namespace, page.name, str(page), 0)
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
            runner.run(test, clear_globs=False)
            namespace.update(test.globs)
            assert runner.summarize(verbose=False).failed == 0


def test_the_house_is_drawn_as_it_stands():
    """Every file and folder in the tree of docs/architecture.md exists."""
    tree = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    tree = next(body for _, _, body in FENCE.findall(tree) if body.startswith("ssm_manual/"))
    drawn = re.findall(
        r"[\w/]+(?:\.py|/)(?= |$)", "\n".join(l[:32] for l in tree.splitlines()), re.M
    )
    assert len(drawn) >= 20
    places = [ROOT, ROOT / "ssm_manual", ROOT / "ssm_manual" / "ops"]
    assert [d for d in drawn if not any((place / d).exists() for place in places)] == []


def test_faults_of_a_site_are_found(tmp_path):
    """docs/_links.py, which the gate runs over the built site."""
    spec = importlib.util.spec_from_file_location("_links", ROOT / "docs" / "_links.py")
    links = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(links)
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1><a href="#here">1</a><a href="b.html#there">2</a>'
        '<a href="https://example.org">3</a><script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<img src="c.png"><a href="a.html#elsewhere">4</a>')
    (tmp_path / "d.css").write_text("@import '//example.org/font.css';")
    far = "https://example.org"
    (tmp_path / "e.html").write_text(
        f'<style>@import "{far}/1";</style><p style="background: url({far}/2)">url(//text)</p>'
        f'<video src="{far}/3" poster="{far}/4"></video><object data="{far}/5"></object>'
        f'<img srcset="a.html 1x, {far}/6 2x"><svg><image xlink:href="{far}/7"/></svg>'
        f'<link rel="preconnect" href="{far}/8"><link rel="canonical" href="{far}/page">'
    )
    assert list(links.faults(tmp_path)) == [
        "a.html: b.html#there: no such anchor",
        "a.html: loads https://example.org/x.js",
        "b.html: a.html#elsewhere: no such anchor",
        "b.html: c.png: no such file",
        *(f"e.html: loads {far}/{i}" for i in range(1, 9)),
        "d.css: loads //example.org/font.css",
    ]


def test_every_public_name_has_its_place_in_the_reference():
    """docs/_reference.py: also what comes from private files, and modules without ``__all__``."""
    spec = importlib.util.spec_from_file_location("_reference", ROOT / "docs" / "_reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    listed = set()
    for names in reference.modules().values():
        for name in set(names) - set(OPTIONAL):
            module = importlib.import_module(name)
            listed |= {id(getattr(module, own)) for own in reference.public(module)}
    missing = [
        name
        for name, value in public_objects()
        if not name.startswith(reference.LEFT_OUT)
        and name.rpartition(".")[0] in sys.modules  # methods stand with their class
        and id(value) not in listed
    ]
    assert missing == []
    assert len(listed) > 200


def named_tests(text):
    """(file, function) of every test that a text names, file first on its line."""
    for line in text.splitlines():
        file = None
        for name in re.findall(r"`(test_\w+(?:\.py)?)`", line):
            if name.endswith(".py"):
                file = name
            else:
                yield file, name


def test_the_tests_that_the_errata_name_exist():
    named = list(named_tests((ROOT / "docs" / "errata.md").read_text("utf-8")))
    assert len(named) >= 30
    for file, function in named:
        assert file, f"{function} stands without its file"
        text = (ROOT / "tests" / file).read_text("utf-8")
        assert f"def {function}(" in text, f"{file} has no {function}"


# ---------------------------------------------------------------------------------------- importing

IMPORT_EVERYTHING = """
import sys
import ssm_manual

heavy = sorted({"numba", "scipy", "matplotlib"} & set(sys.modules))
assert heavy == [], f"import ssm_manual alone has imported {heavy}"

import gc, importlib, pkgutil
from numba.core import event
from numba.core.dispatcher import Dispatcher

with event.install_recorder("numba:compile") as recorder:
    for found in pkgutil.walk_packages(ssm_manual.__path__, "ssm_manual."):
        if not found.name.endswith("__main__") and not found.name.startswith("ssm_manual.interop."):
            importlib.import_module(found.name)
    names = [record.data["dispatcher"].py_func.__qualname__ for _, record in recorder.buffer]
assert names == [], f"importing has compiled {names}"

kernels = [
    d for d in gc.get_objects()
    if isinstance(d, Dispatcher) and d.py_func.__module__.startswith("ssm_manual")
]
assert kernels, "no kernels were found"
compiled = [d.py_func.__qualname__ for d in kernels if d.signatures]
assert compiled == [], f"importing has loaded machine code of {compiled}"
"""


def test_importing_compiles_nothing():
    """Every module may be imported, in a fresh process, without compiling or loading a kernel."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
