"""Makes colab/*.ipynb of colab/*.py: `python -m tests.notebooks.convert`, which is `make notebooks`.

The repository's address is in one place, `tool.unloc.repository` of pyproject.toml; the sources have OWNER/unloc_jax.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
COLAB = REPOSITORY / "colab"
PLACEHOLDER = "OWNER/unloc_jax"


def sources() -> list[Path]:
    return sorted(COLAB.glob("*.py"))


def notebook_of(source: Path) -> Any:
    """Returns the notebook, without outputs, the same each time: cells are numbered."""
    import jupytext

    address = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["unloc"]["repository"]
    notebook = jupytext.reads(source.read_text("utf-8").replace(PLACEHOLDER, address), fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    notebook.metadata.pop("jupytext", None)
    notebook.nbformat_minor = 5
    return notebook


def text_of(notebook: Any) -> str:
    import nbformat

    nbformat.validate(notebook)
    return json.dumps(json.loads(nbformat.writes(notebook)), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    for source in sources():
        target = source.with_suffix(".ipynb")
        target.write_text(text_of(notebook_of(source)), "utf-8")
        print(target.relative_to(REPOSITORY))


if __name__ == "__main__":
    main()
