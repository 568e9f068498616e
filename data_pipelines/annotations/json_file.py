"""Reads JSON and JSON Lines annotation files; errors name every fault of the file itself."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.annotations.problems import Problems
from data_pipelines.annotations.text_file import read_lines, read_text
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import TOO_DEEP, parse_json
from unloc_jax.names import as_text

# Keys that lists of videos use for a video's id.
_ID_KEYS = ("video_id", "video", "vid", "id", "video_name", "name")


def read_json(path: Path, problems: Problems, layout: str) -> Any:
    """Parses a UTF-8 JSON file.

    A key that occurs twice in one object is reported as "duplicate id"; the first value is kept (Python's json silently
    keeps the last).

    Args:
      path: the file.
      problems: receives the findings.
      layout: a clause that describes the expected content, for messages.

    Raises:
      UserError: the file does not exist, is not UTF-8, or is not JSON (with line and column).
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
      ("FILE:LINE", object) for each object.

    Raises:
      UserError: the file does not exist, is not UTF-8, is empty, or has a line that is not a JSON object.
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
    """Yields (video id, entry) for an object {id: entry} or for a list of entries that contain their id.

    Raises:
      UserError: `content` is neither.
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
    """Returns the SHA-256 hex digest of a file, to detect annotations that changed since a build."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _OtherFaultError(Exception):
    """Grammatical JSON that neither Python nor this package can represent."""


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
        content = parse_json(text, object_pairs_hook=unique_keys)
        if "\\ud" in text.lower():  # escaped surrogates: a pair is a character, a lone one is not valid
            json.dumps(content, ensure_ascii=False).encode()
    except json.JSONDecodeError:
        raise
    except RecursionError as error:  # of json.dumps
        raise _OtherFaultError(TOO_DEEP) from error
    except UnicodeEncodeError as error:
        raise _OtherFaultError("an escape such as \\ud83d is half a character") from error
    except ValueError as error:
        raise _OtherFaultError(f"{error}") from error
    return content
