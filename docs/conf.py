"""The docs site: `make docs` builds it into build/docs.

The pages are the Markdown files beside this one, which also read well without it. What can be made from the code is
made from it: API pages by autodoc, the pages of commands and settings by `_ext/generated_pages.py`.
"""

import os
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(_REPOSITORY), str(Path(__file__).parent / "_ext")]

from unloc_jax import __version__  # noqa: E402  found by the line above

project = "unloc_jax"
author = "The unloc_jax authors"
copyright = "The unloc_jax authors, Apache-2.0"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "generated_pages",
    "docstrings",
]
exclude_patterns = ["_ext"]
templates_path: list[str] = []

# Pages. Headings are link targets, as on GitHub.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
suppress_warnings = [
    "myst.xref_ambiguous",
    "misc.highlighting_failure",  # JSON and CSV with "…" in it
]
smartquotes = False  # options begin with two dashes
highlight_language = "none"  # indented blocks hold commands and what they print

# Notebooks have no outputs in the repository; "force" or "cache" executes them here.
nb_execution_mode = os.environ.get("DOCS_NOTEBOOKS", "off")
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_merge_streams = True

# Docstrings are Google's, with single backquotes around code.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = f"unloc_jax {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search is in the sidebar
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
copybutton_prompt_text = "$ "

# `make docs-links` alone follows links out of the site.
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_ignore = [r"http://localhost.*"]
linkcheck_anchors = False
