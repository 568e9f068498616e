"""Values of other programs' files of settings, checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unloc_jax.errors import UserError


def group(settings: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    """Returns a group of settings, or {} if it is absent; raises UserError if it is something else."""
    found = settings.get(name) or {}
    if not isinstance(found, dict):
        raise UserError(f"{file}: {name} is {found!r} instead of a group of settings.")
    return found


def positive_int(number: Any, where: str) -> int:
    """Returns a whole number above 0; raises UserError if it is something else."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise UserError(f"{where} is {number!r} instead of a whole number above 0.")
    return number


def side(size: Any, where: str) -> int | None:
    """Returns the length of both sides, given as one number or two equal ones; None = not specified."""
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    return None if size is None else positive_int(size, where)
