"""Converts nested mappings to dataclasses, whose types define what each value must be."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from unloc_jax.errors import UserError
from unloc_jax.old_names import SETTINGS

# The largest float32; integers beyond it are infinite.
LARGEST_FLOAT = 3.4e38


def build(schema: type, values: Any, where: str, default: Any = None) -> Any:
    """Returns an instance of `schema`; what `values` lacks is as in `default`, or else as in the schema."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is a group of settings, got {values!r}.")
    hints = typing.get_type_hints(schema)  # without bounds, which `checks` reads
    fields = {field.name: field for field in dataclasses.fields(schema)}
    for key in values:
        if key not in fields:
            if where == "config" and key in SETTINGS:
                raise UserError(renamed(key))
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"Did you mean {where}.{near[0]}?" if near else f"Known are: {', '.join(fields)}."
            raise UserError(f"{where}.{key} is not a setting. {hint}")
    default = schema() if default is None else default
    given = {
        key: _convert(hints[key], value, f"{where}.{key}", getattr(default, key))
        for key, value in values.items()
    }
    return dataclasses.replace(default, **given)


def renamed(key: str) -> str:
    """Returns the message about a key of an older version's config."""
    return f"config.{key} is called config.{SETTINGS[key]} now: rename it in the config file or flag."


def _convert(hint: Any, value: Any, where: str, default: Any = None) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        hint = str
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where, default)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is a group of settings, got {value!r}.")
        return {str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} must be a tuple, got {value!r}.")
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(arguments):
            raise UserError(f"{where} must have {len(arguments)} entries, got {value!r}.")
        return tuple(_convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(arguments, value)))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > LARGEST_FLOAT:
            return math.inf if value > 0 else -math.inf
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(
            f"{where} must be of type {hint.__name__}, got {value!r:.200} ({type(value).__name__})."
        )
    return value
