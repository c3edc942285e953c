"""Sphinx: the whole repository is the source folder, so that links work here as they do in a
browser of the repository. Build with ``sphinx-build -W --keep-going -b html -c docs . build/site``.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
os.environ["COLUMNS"] = "90"  # of the help of commands

import _reference  # noqa: E402

from ssm_manual._version import __version__  # noqa: E402

project = "ssm_manual"
author = "the ssm_manual authors"
copyright = "the ssm_manual authors, MIT licence"
version = release = __version__

root_doc = "docs/index"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx-mathjax-offline",
    "_labels",
    "_reference",
]
include_patterns = [
    "docs/**",
    "notebooks/*.ipynb",
    "notebooks/README.md",
    "examples/README.md",
    "examples/port/README.md",
    "benchmarks/README.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
exclude_patterns = ["build/**", ".venv/**", "**/.ipynb_checkpoints"]

# notebooks are run by the test suite; here their stored outputs are shown
nb_execution_mode = "off"
nb_merge_streams = True  # what a cell prints is one box, however it arrived
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

autodoc_member_order = "bysource"
numpydoc_show_class_members = False
default_role = "py:obj"  # a link where the name has a page
highlight_language = "text"  # of formulas in docstrings
smartquotes = False  # "tustin" is a value
mathjax3_config = {"chtml": {"scale": 0.92}}  # letters as tall as those of the text beside them

html_theme = "furo"
html_title = "ssm_manual"
html_static_path = ["_static"]
html_css_files = ["site.css"]
autodoc_mock_imports = _reference.MOCKED
