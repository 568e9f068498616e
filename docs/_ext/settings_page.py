"""Every setting of a config with its type, default and meaning, as Markdown, from the schema itself."""

import ast
import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Iterator
from typing import Any

from markdown_text import cell, table

from unloc_jax.config.bounds import Bounds


def settings_page(schema: type) -> str:
    """Returns a page with a section for every group of settings of a dataclass."""
    parts = [
        "# Settings",
        "Every key of a config with its default, made from the schema. A config file changes what it wants to; on the "
        "command line it is `--config.KEY=VALUE`, such as `--config.train.steps=3000`. Unknown keys, wrong types and "
        "impossible values are refused before anything starts. Numbers are finite and at least 0 unless the table says "
        "otherwise. What the variants of the model need: [models](../models.md); the data: [data](../data.md).",
    ]
    for key, group in _groups(schema(), "config"):
        notes = _notes(type(group))
        hints = typing.get_type_hints(type(group), include_extras=True)
        rows = []
        for field in dataclasses.fields(group):
            value, hint, note = getattr(group, field.name), hints[field.name], notes.get(field.name, "")
            if not dataclasses.is_dataclass(value):
                rows.append([f"`{field.name}`", cell(_type(hint)), _default(value), cell(note)])
            elif key.endswith("NAME"):
                rows.append([f"`{field.name}`", "settings", "", f"as `config.{field.name}`"])
        parts += [f"## {key}", cell(inspect.getdoc(group) or "")]
        parts += [table(["key", "type", "default", "meaning"], rows)] if rows else []
    return "\n\n".join(parts) + "\n"


def _groups(group: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yields a group of settings with their defaults and those below it, each with its key."""
    yield key, group
    hints = typing.get_type_hints(type(group), include_extras=True)
    for name, hint in hints.items():
        if dataclasses.is_dataclass(hint):
            yield from _groups(getattr(group, name), f"{key}.{name}")
        elif _is_mapping(hint) and dataclasses.is_dataclass(of := typing.get_args(hint)[1]):
            yield f"{key}.{name}.NAME", of()


def _is_mapping(hint: Any) -> bool:
    return typing.get_origin(hint) is dict


def _notes(group: type) -> dict[str, str]:
    """Returns the string below each field, where there is one."""
    (body,) = ast.parse(inspect.getsource(group)).body
    assert isinstance(body, ast.ClassDef)
    notes = {}
    for field, after in zip(body.body, body.body[1:]):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
        ):
            notes[field.target.id] = ast.literal_eval(after.value).strip()
    return notes


def _type(hint: Any) -> str:
    """Describes a type: choices and bounds, or its name."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return "settings"
    if origin is typing.Annotated:
        bounds = arguments[1]
        return (
            f"{_type(arguments[0])}{_bounds(bounds)}" if isinstance(bounds, Bounds) else _type(arguments[0])
        )
    if origin is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("None" if one is type(None) else _type(one) for one in arguments)
    if origin is tuple:
        each = _type(arguments[0])
        if arguments[-1] is Ellipsis:
            return f"tuple of {each}"
        return "(" + ", ".join(map(_type, arguments)) + ")"
    if origin is dict:
        return f"{{name: {_type(arguments[1])}}}"
    return {int: "int", float: "float", str: "text", bool: "True or False"}[hint]


def _bounds(bounds: Bounds) -> str:
    least = f" ≥ {bounds.at_least:g}" if bounds.at_least not in (0, -math.inf) else ""
    most = f" ≤ {bounds.at_most:g}" if bounds.at_most < math.inf else ""
    below = f" < {bounds.below:g}" if bounds.below < math.inf else ""
    signed = ", any sign" if bounds.at_least == -math.inf else ""
    return least + most + below + signed + (", may be inf" if bounds.open_end else "")


def _default(value: Any) -> str:
    if isinstance(value, dict) and any(map(dataclasses.is_dataclass, value.values())):
        value = {name: {} for name in value}  # their defaults have a table
    return cell(f"`{value!r}`")
