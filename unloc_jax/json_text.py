"""Parses JSON that may be damaged or hostile: every fault of it is a ValueError."""

import json
from collections.abc import Callable
from typing import Any

TOO_DEEP = "brackets within brackets within …, nested too deeply"


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
