"""Check a built site: every link inside it leads somewhere, and no page loads from a network.

python docs/_links.py build/site

What a script loads when it runs is not seen here: open the site with the network off.
"""

import html.parser
import pathlib
import re
import sys
import urllib.parse

#: Attributes that a browser follows by itself, without a click; and every ``src``.
LOADS = {("link", "href"), ("image", "href"), ("use", "href"), ("object", "data")}

#: What a style loads.
STYLE = re.compile(r"(?:url\(|@import )[\s\"']*((?:https?:)?//[^\s\"')]+)")


class Page(html.parser.HTMLParser):
    """The links, the anchors and what is loaded of one page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.loaded = set(), {"", "top"}, set()
        self.styled = False
        self.feed(path.read_text("utf-8"))

    def handle_data(self, data):
        """What stands in a style sheet inside the page."""
        if self.styled:
            self.loaded |= set(STYLE.findall(data))

    def handle_endtag(self, tag):
        """A style sheet ends."""
        self.styled = False

    def handle_starttag(self, tag, attrs):
        """Collect."""
        values = {key: value or "" for key, value in attrs}
        self.anchors |= {values[key] for key in ("id", "name") if key in values}
        for key in ("href", "xlink:href", "src", "data", "poster"):
            if key in values and (key != "data" or tag == "object"):
                loads = key in ("src", "poster") or (tag, key.removeprefix("xlink:")) in LOADS
                (self.loaded if loads else self.links).add(values[key])
        for candidate in values.get("srcset", "").split(", "):
            self.loaded |= set(candidate.split()[:1])
        self.loaded |= set(STYLE.findall(values.get("style", "")))
        self.styled = tag == "style"
        if values.get("rel") in ("canonical", "next", "prev", "search", "index"):
            self.loaded.discard(values.get("href"))
            self.links.add(values.get("href"))


def faults(site):
    """One line for each fault of the site."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: no pages"
    for path, page in pages.items():
        here = path.relative_to(site.resolve())
        for link in sorted(page.links | page.loaded):
            outside = re.match(r"([a-z][a-z0-9+.-]*:|//)", link, re.I)
            if outside:
                if link in page.loaded and not link.startswith("data:"):
                    yield f"{here}: loads {link}"
                continue
            target, _, anchor = link.partition("#")
            target = urllib.parse.unquote(target.partition("?")[0])
            file = (path.parent / target).resolve() if target else path
            if not file.is_file():
                yield f"{here}: {link}: no such file"
            elif file in pages and urllib.parse.unquote(anchor) not in pages[file].anchors:
                yield f"{here}: {link}: no such anchor"
    for path in sorted(site.rglob("*.css")):
        for url in STYLE.findall(path.read_text("utf-8")):
            yield f"{path.relative_to(site)}: loads {url}"


def main():
    """Print all faults; 1 if there are any."""
    found = list(faults(pathlib.Path(sys.argv[1])))
    print("\n".join(found) or "every link leads somewhere; nothing is loaded from a network")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
