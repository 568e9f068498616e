"""Reads a JSON annotation file so that every fault of the file itself is named."""

import hashlib
import json
from pathlib import Path
from typing import Any

from data_pipelines.annotations.problems import Problems
from unloc_jax.errors import UserError


def read_json(path: Path, problems: Problems) -> Any:
    """Parses a UTF-8 JSON file.

    A key that occurs twice in one object is reported as "duplicate id"; the first value is kept (Python's
    json keeps the last and says nothing).

    Raises:
      UserError: no such file, not UTF-8, or not JSON (with line and column).
    """

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                problems.add("duplicate id", f"{path.name}: {key}", "the key occurs twice; the first is used")
            else:
                result[key] = value
        return result

    try:
        return json.loads(read_text(path), object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}. "
            "Is the file complete?"
        ) from error
    except RecursionError as error:
        raise UserError(f"{path}: not an annotation file: its JSON is nested too deeply.") from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
      UserError: no such file, no permission, or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such annotation file.") from error
    except OSError as error:
        raise UserError(f"{path}: this annotation file cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}). Convert the file to UTF-8.") from error


def sha256(path: Path) -> str:
    """Hex digest of a file, to tell whether annotations have changed since a build."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
