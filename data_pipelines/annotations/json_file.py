"""Reads JSON and JSON Lines annotation files so that every fault of the file itself is named."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.annotations.problems import Problems
from data_pipelines.annotations.text_file import read_lines, read_text
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

# What lists of videos call the id of a video.
_ID_KEYS = ("video_id", "video", "vid", "id", "video_name", "name")


def read_json(path: Path, problems: Problems, layout: str) -> Any:
    """Parses a UTF-8 JSON file.

    A key that occurs twice in one object is reported as "duplicate id"; the first value is kept (Python's
    json keeps the last and says nothing).

    Args:
      path: the file.
      problems: where findings go.
      layout: a sentence that says what the file should look like, for messages.

    Raises:
      UserError: no such file, not UTF-8, or not JSON (with line and column).
    """
    try:
        return _load(read_text(path), path.name, problems, "duplicate id")
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}. "
            f"Is the file complete? {layout}."
        ) from error
    except _OtherFaultError as error:
        raise UserError(f"{path}: not an annotation file: {error}. {layout}.") from error


def read_json_lines(path: Path, problems: Problems, layout: str) -> list[tuple[str, dict[str, Any]]]:
    """Parses a UTF-8 file with one JSON object per line, or with one list of such objects.

    Returns:
      ("FILE:LINE", object) for each.

    Raises:
      UserError: no such file, not UTF-8, empty, or a line that is not a JSON object (with its number).
    """
    lines = read_lines(path)
    if lines and lines[0][1].lstrip().startswith("["):
        whole = read_json(path, problems, layout)
        found = [(f"{path.name}: entry {number}", item) for number, item in enumerate(whole, 1)]
    else:
        found = [
            (f"{path.name}:{number}", _line(path, number, line, problems, layout)) for number, line in lines
        ]
    for where, item in found:
        if not isinstance(item, dict):
            raise UserError(f"{path.parent / where}: {layout}; this is a {type(item).__name__}.")
    if not found:
        raise UserError(f"{path}: the file is empty. {layout}.")
    return found


def entries(path: Path, content: Any, layout: str) -> Iterator[tuple[str, Any]]:
    """(video id, its entry) of an object {id: entry} or of a list of entries that hold their id.

    Raises:
      UserError: it is neither.
    """
    if isinstance(content, dict):
        yield from content.items()
        return
    if not isinstance(content, list):
        raise UserError(f"{path}: {layout}; this is a {type(content).__name__}.")
    for number, entry in enumerate(content, 1):
        keys = [key for key in _ID_KEYS if key in entry] if isinstance(entry, dict) else []
        if not keys:
            raise UserError(f"{path}: {layout}; this is a list, and its entry {number} has no video id.")
        yield as_text(entry[keys[0]]), entry


def sha256(path: Path) -> str:
    """Hex digest of a file, to tell whether annotations have changed since a build."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _OtherFaultError(Exception):
    """JSON by its grammar, but nothing that Python or this package can hold."""


def _line(path: Path, number: int, line: str, problems: Problems, layout: str) -> Any:
    try:
        return _load(line, f"{path.name}:{number}", problems, "duplicate key")
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{number}: not valid JSON at column {error.colno}: {error.msg}. "
            f"Is the file complete? {layout}."
        ) from error
    except _OtherFaultError as error:
        raise UserError(f"{path}:{number}: not an annotation: {error}. {layout}.") from error


def _load(text: str, where: str, problems: Problems, duplicate: str) -> Any:
    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                problems.add(duplicate, f"{where}: {key}", "the key occurs twice; the first is used")
            else:
                result[key] = value
        return result

    try:
        content = json.loads(text, object_pairs_hook=unique_keys)
        if "\\ud" in text.lower():  # escapes of surrogates: in pairs they make a character, alone they do not
            json.dumps(content, ensure_ascii=False).encode()
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise _OtherFaultError("its JSON is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise _OtherFaultError("an escape such as \\ud83d is half a character") from error
    except ValueError as error:
        raise _OtherFaultError(f"{error}") from error
    return content
