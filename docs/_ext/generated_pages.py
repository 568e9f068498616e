"""Sphinx extension: writes the pages that are made from the code, and copies the notebooks, to docs/generated.

That folder is not in the repository. Files are written only if they change, so that a second build is quick.
"""

import re
from pathlib import Path

from commands_page import commands_page
from settings_page import settings_page
from sphinx.application import Sphinx

from unloc_jax.cli import _parser
from unloc_jax.config.schema import Config

_FOLDER = "generated"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", lambda app, _: _write_pages(Path(app.srcdir)))
    app.connect("source-read", _without_missing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _without_missing(app: Sphinx, docname: str, source: list[str]) -> None:
    """Drops from the index the pattern of a page that this checkout lacks: Sphinx would warn of it."""
    if docname == "index":
        lines = source[0].split("\n")
        there = lambda line: not line.endswith("*") or any(Path(app.srcdir).glob(f"{line}.md"))
        source[0] = "\n".join(line for line in lines if re.search(r"\s", line) or there(line))


def _write_pages(docs: Path) -> None:
    pages = {
        "commands.md": commands_page(_parser()),
        "settings.md": settings_page(Config),
        "changelog.md": "```{include} ../../CHANGELOG.md\n```\n",
        "contributing.md": "```{include} ../../CONTRIBUTING.md\n:relative-docs: docs/\n```\n",
    }
    notebooks = sorted((docs.parent / "colab").glob("*.ipynb"))
    pages |= {f"colab/{notebook.name}": _notebook(notebook) for notebook in notebooks}
    pages["notebooks.md"] = _list_of(notebooks)
    folder = docs / _FOLDER
    if (folder / "colab").is_dir():
        for old in (folder / "colab").glob("*.ipynb"):
            if f"colab/{old.name}" not in pages:
                old.unlink()
    for name, text in pages.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_file() or place.read_text("utf-8") != text:
            place.write_text(text, "utf-8")


def _notebook(file: Path) -> str:
    """Returns a notebook whose links to files of the repository hold in the folder of the copies."""
    return file.read_text("utf-8").replace("](../docs/", "](../../").replace("](../", "](../../../")


def _list_of(notebooks: list[Path]) -> str:
    """Returns the page that names the notebooks; without any, such as in a partial checkout, it says so."""
    head = "# Notebooks\n\nFor Colab or any Jupyter; their sources are in the folder `colab` of the repository.\n\n"
    if not notebooks:
        return head + "There are none in this checkout.\n"
    names = "\n".join(f"colab/{notebook.stem}" for notebook in notebooks)
    return f"{head}```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n"
