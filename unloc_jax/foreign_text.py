"""Parses JSON and TOML that may be damaged or hostile: every fault is a ValueError."""

import json
import tomllib
from collections.abc import Callable
from typing import Any

TOO_DEEP = "brackets within brackets within …, nested too deeply"
_MOST_DOTS = 1000  # in a line: for a key of n parts, Python's parser takes n² of time and memory


def parse_json(
    text: str | bytes, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """Does what `json.loads` does.

    Raises:
      ValueError: not JSON (json.JSONDecodeError), nested more deeply than Python's parser can follow, not UTF-8, or a
        whole number of thousands of digits.
    """
    try:
        return json.loads(text, object_pairs_hook=object_pairs_hook)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error


def parse_toml(text: str) -> dict[str, Any]:
    """Does what `tomllib.loads` does.

    Raises:
      ValueError: not TOML (tomllib.TOMLDecodeError), or nested more deeply than Python's parser can follow.
    """
    if any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
        raise ValueError(f"a line with over {_MOST_DOTS} dots; no setting has such a name or value")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
