"""Sphinx extension: reads our docstrings as they are meant, before Napoleon and reStructuredText do."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_BEFORE_NAPOLEON = 400  # its handler has Sphinx's usual priority, 500
_HEADED = re.compile(r"(?:Returns|Yields):$")
# `"mAP@0.50", …  float, percent`: a key of a returned mapping, two spaces, its meaning.
_KEYED = re.compile(r"""\s*"[^"]+"(?:, (?:"[^"]+"|…))*  \S""")


def setup(app: "Sphinx") -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _change, priority=_BEFORE_NAPOLEON)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _change(app: "Sphinx", what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """Changes the lines in place."""
    changed = [""]
    for i, line in enumerate(lines):
        if i and _HEADED.match(lines[i - 1].strip()) and not _KEYED.match(line):
            # Types are annotations here: what precedes the first colon is not a type.
            line = re.sub(r"^(\s*)(?=\S)", r"\1: ", line)
        if _KEYED.match(line):
            line = re.sub(r"^(\s*)(.*?)  (?=\S)", r"\1* \2 – ", line)
            before = changed[-1].strip()
            if not before.startswith("*") and before[-1:] != ":" and _indent(changed[-1]) <= _indent(line):
                changed.append("")  # a list begins
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`[^`]*`)", line)
            line = "".join(part if part.startswith("`") else _prose(part) for part in parts)
        changed.append(line)
    lines[:] = changed[1:]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _prose(text: str) -> str:
    """Escapes what reStructuredText would read as an address (R1@0.5) or a substitution (|x|)."""
    return re.sub(r"(?<=\w)@(?=\w)", r"\\@", text).replace("|", "\\|")
