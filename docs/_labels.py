"""Labels of equations as links: ``[SCAN-4]`` leads to where it is defined, from every page."""

import pathlib
import re

from docutils import nodes

DERIVATIONS = pathlib.Path(__file__).parent / "derivations"
DEFINED = re.compile(r"\*\*\[([A-Z][A-Z0-9]{2,}-\d+)\]\*\*")
CITED = re.compile(r"\[([A-Z][A-Z0-9]{2,}-\d+)[^\[\]]*\]")  # [SCAN-1, 2] leads to the first


def anchor(label):
    """The id of a label's definition."""
    return "eq-" + label.lower()


def define(app, doctree):
    """Give every definition, a label in bold, its anchor."""
    if "derivations" in app.env.docname:
        for strong in doctree.findall(nodes.strong):
            found = CITED.fullmatch(strong.astext())
            if found:
                strong["ids"].append(anchor(found[1]))


def link(app, doctree, docname):
    """Make every citation a link."""
    pages = app.env.equation_pages
    for text in list(doctree.findall(nodes.Text)):
        parent = text.parent
        if isinstance(parent, (nodes.literal, nodes.literal_block, nodes.reference, nodes.math)):
            continue
        if "[" not in text or isinstance(parent, (nodes.math_block, nodes.raw, nodes.comment)):
            continue
        if isinstance(parent, nodes.strong) and parent["ids"]:
            continue
        pieces, last = [], 0
        for cited in CITED.finditer(text):
            if cited[1] not in pages:
                continue
            uri = app.builder.get_relative_uri(docname, pages[cited[1]]) + "#" + anchor(cited[1])
            pieces += [nodes.Text(text[last : cited.start()])]
            link_to = nodes.reference("", cited[0], internal=True, refuri=uri, classes=["label"])
            pieces += [link_to]
            last = cited.end()
        if pieces:
            parent.replace(text, [*pieces, nodes.Text(text[last:])])


def find(app):
    """Where the labels are defined."""
    app.env.equation_pages = {
        label: f"docs/derivations/{page.stem}"
        for page in sorted(DERIVATIONS.glob("*.md"))
        for label in DEFINED.findall(page.read_text("utf-8"))
    }


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", find)
    app.connect("doctree-read", define)
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
