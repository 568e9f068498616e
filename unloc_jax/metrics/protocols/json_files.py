"""Readers of JSON and JSON lines of any size: one row at a time, with the line number of every fault."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unloc_jax.errors import UserError
from unloc_jax.foreign_text import TOO_DEEP, parse_json

NUMBER = {int, float}  # types of JSON's numbers; true and false are bool
_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")

# Keys that only one kind of file has → description of that file.
_KINDS = {
    "results": "ActivityNet-style predictions (protocols activitynet, thumos14)",
    "database": "an ActivityNet-style ground truth (protocols activitynet, thumos14)",
    "pred_relevant_windows": "predictions of moments (protocols moment-retrieval, qvhighlights)",
    "pred_saliency_scores": "predictions of highlights (protocols qvhighlights, tvsum, youtube-highlights)",
    "relevant_windows": "a ground truth of moments (protocols moment-retrieval, qvhighlights)",
    "pred": "predictions of frames (protocol segmentation)",
    "gt": "a ground truth of frames (protocol segmentation)",
    "label": "a ground truth of highlights (protocols tvsum, youtube-highlights)",
}


def is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


def shown(value: Any) -> str:
    """Shortens a value for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def hint_of_format(keys: Any, *expected: str) -> str:
    """Returns '; it looks like …' for an object with these keys, or '' if one of the `expected` ones is among them."""
    if not isinstance(keys, dict) or any(key in keys for key in expected):
        return ""
    kinds = [kind for key, kind in _KINDS.items() if key in keys]
    return f"; it looks like {kinds[0]}" if kinds else ""


def read_members(
    path: Path, nested: str | None = None, *, needed: bool = True
) -> Iterator[tuple[str, str | None, Any]]:
    """Yields the members of a JSON object, in the file's order: (name, None, value).

    The members of member `nested`, itself an object, are yielded one by one: (nested, name, value), so that a file
    of millions of rows is never in memory as Python objects.

    Raises:
      UserError: the file is not such JSON, or has no member `nested`, if one is named and `needed`.
    """
    text = _Text(path)
    if text.peek() != "{":
        kind = {"[": "a JSON list", "": "the file is empty"}.get(text.peek(), "no JSON object")
        with_ = f' with "{nested}"' if nested else ""
        raise UserError(f"{path}: {kind}; an object{with_} is needed")
    seen = {}
    for name in text.names():
        seen[name] = True
        if name != nested:
            yield name, None, text.value()
            continue
        if text.peek() != "{":
            raise UserError(f'{path}: "{nested}" must be an object: video → list of rows')
        for inner in text.names():
            yield nested, inner, text.value()
    if nested is not None and needed and nested not in seen:
        raise UserError(f'{path}: there is no "{nested}"{hint_of_format(seen)}')
    if text.peek():
        raise text.error("the JSON object ends here, but the file continues")


def is_database(path: Path) -> bool:
    """Returns whether a file begins with an object that has "database", as ActivityNet's and COIN's files do."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(4096).lstrip()
    return head.startswith("{") and '"database"' in head


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the objects of a JSON lines file, or of one JSON list, each with a description of its place."""
    text = _Text(path)
    if text.peek() == "[":
        rows: Iterator[tuple[str, Any]] = ((f"entry {i}", value) for i, value in enumerate(text.items()))
    else:
        rows = _lines(path)
    empty = True
    for where, row in rows:
        empty = False
        if not isinstance(row, dict):
            raise UserError(f"{path}: {where}: a JSON object is needed, not {shown(row)}")
        yield where, row
    if empty:
        raise UserError(f"{path}: the file is empty")


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in text_lines(path):
        try:
            yield f"line {number}", parse_json(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: line {number}: not JSON ({error.msg}, column {error.colno})") from None
        except ValueError as error:
            raise UserError(f"{path}: line {number}: not such a file ({error})") from None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not empty, with their numbers from 1. Raises UserError if the file is not text."""
    with path.open(encoding="utf-8-sig") as file:
        try:
            yield from ((number, line.strip()) for number, line in enumerate(file, 1) if line.strip())
        except UnicodeDecodeError:
            raise _no_text(path) from None


def read_text(path: Path) -> str:
    """Returns the text of a file. Raises UserError if it is not text."""
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise _no_text(path) from None


def read_json(path: Path) -> Any:
    """Returns the content of a small JSON file. Raises UserError if it is not JSON."""
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None


def _no_text(path: Path) -> UserError:
    return UserError(f"{path}: not a text file (UTF-8)")


class _Text:
    """A window on a JSON file that moves forward."""

    def __init__(self, path: Path):
        self.path = path
        self.file = path.open(encoding="utf-8-sig")
        self.buffer, self.position = "", 0
        self.before, self.line = 0, 1  # characters before the buffer, line where it starts
        self.at_end = False
        self.decoder = json.JSONDecoder()

    def error(self, what: str) -> UserError:
        line = self.line + self.buffer.count("\n", 0, self.position)
        return UserError(f"{self.path}: line {line}, character {self.before + self.position}: {what}")

    def more(self) -> None:
        # Reads at least as much as the buffer holds, so that a huge value is parsed again only a few times.
        try:
            chunk = self.file.read(max(_CHUNK, len(self.buffer) - self.position))
        except UnicodeDecodeError:
            raise _no_text(self.path) from None
        self.at_end = not chunk
        if self.at_end:
            self.file.close()
        self.line += self.buffer.count("\n", 0, self.position)
        self.before += self.position
        self.buffer = self.buffer[self.position :] + chunk
        self.position = 0

    def peek(self) -> str:
        """Returns the next character that is not white space; '' at the end."""
        while True:
            self.position = _SPACE.match(self.buffer, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self.buffer) or self.at_end:
                return self.buffer[self.position : self.position + 1]
            self.more()

    def value(self) -> Any:
        if not self.peek():
            raise self.error("the file ends too early")
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.position)
            except json.JSONDecodeError as error:
                if self.at_end:
                    self.position = error.pos
                    raise self.error(f"not JSON ({error.msg})") from None
            except RecursionError:
                raise self.error(f"not such a file ({TOO_DEEP})") from None
            except ValueError as error:  # a whole number of thousands of digits
                raise self.error(f"not such a file ({error})") from None
            else:
                # A number at the end of the window may continue behind it.
                if end < len(self.buffer) or self.at_end:
                    self.position = end
                    return value
            self.more()

    def names(self) -> Iterator[str]:
        """Yields the names of an object's members; the caller reads the value before the next name."""
        for _ in self._entries("}"):
            name = self.value()
            if not isinstance(name, str) or self.peek() != ":":
                raise self.error("not JSON (a name and a colon are needed)")
            self.position += 1
            yield name

    def items(self) -> Iterator[Any]:
        for _ in self._entries("]"):
            yield self.value()

    def _entries(self, closing: str) -> Iterator[None]:
        self.position += 1  # the opening bracket
        if self.peek() != closing:
            yield
            while self.peek() == ",":
                self.position += 1
                yield
        if self.peek() != closing:
            raise self.error(f"not JSON (a comma or {closing} is needed)")
        self.position += 1
