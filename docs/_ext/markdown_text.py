"""Pieces of Markdown."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table whose cells are Markdown (see `cell`); on a narrow screen they stand below each other."""
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"```{{table}}\n:class: stacked\n\n{text}\n```"


def cell(text: str) -> str:
    """Returns a text on one line for a cell of a table: pages that it names are links, code stays code."""
    text = " ".join(text.split()).replace("|", "\\|")
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _prose(part) for part in parts)


def _prose(text: str) -> str:
    text = re.sub(r"([*<>\[\]_])", r"\\\1", text)
    return re.sub(r"docs/([\w\\]+)\.md", _link, text)


def _link(found: re.Match[str]) -> str:
    page = found[1].replace("\\", "")
    return f"[{page}](../{page}.md)"
