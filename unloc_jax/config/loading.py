"""Configs from files, mappings, overrides of the command line and JSON."""

import ast
import copy
import dataclasses
import importlib.util
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from unloc_jax import siblings
from unloc_jax.config.checks import check
from unloc_jax.config.conversion import build, renamed
from unloc_jax.config.paths import with_paths
from unloc_jax.config.schema import Config, TaskConfig
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json
from unloc_jax.old_names import SETTINGS, renamed_config
from unloc_jax.paths import path_of


def load(path: str, overrides: Iterable[str] = ()) -> Config:
    """Reads `path/to/config.py` or `path/to/config.py:argument` and applies overrides.

    Args:
      path: file with `get_config()` or `get_config(argument)`. A file that is not in the working directory is
        looked for among the configs that come with the installation. While the file runs, `from configs import …`
        means those too, after the file's own folder if that is called configs.
      overrides: strings such as "train.steps=200"; values are Python literals, or plain strings.

    Raises:
      UserError: see `from_mapping`; also a file that is missing or fails.
    """
    file, _, argument = path_of(path).partition(":")
    source = find_file(Path(file))
    if not source.exists():
        raise UserError(f"--config: there is no file {file}. The project's own are in configs/.")
    spec = importlib.util.spec_from_file_location(f"config_{source.stem}", source)
    if spec is None or spec.loader is None or not source.is_file():
        raise UserError(f"--config={path}: must be a Python file with a function get_config().")
    module = importlib.util.module_from_spec(spec)
    try:
        with siblings.ours("configs", first=_own_configs(source)):
            spec.loader.exec_module(module)
            values = module.get_config(argument) if argument else module.get_config()
        values = ml_collections.ConfigDict(values).to_dict()
    except UserError:
        raise
    except Exception as error:
        hint = "".join(f" {renamed(old)}" for old in SETTINGS if old in str(error))
        raise UserError(f"{file}: get_config() failed with {type(error).__name__}: {error}{hint}") from error
    try:
        return from_mapping(with_paths(_overridden(values, overrides), typed=True))
    except RecursionError as error:
        raise UserError(f"{file}: its values are nested too deeply.") from error


def find_file(file: Path) -> Path:
    """Returns a file of the working directory or, if there is none, of the configs that come with the installation."""
    if not file.exists() and file.parts[:1] == ("configs",):
        return siblings.folder("configs").joinpath(*file.parts[1:])
    return file


def _own_configs(source: Path) -> Path | None:
    """The user's own folder `configs` around their file, whose other files it may import; None: it is in no such."""
    place = source.resolve().parent
    return place if place.name == "configs" and place != siblings.folder("configs") else None


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> Config:
    """Applies "KEY=VALUE" strings to nested values, then `from_mapping`, whose UserErrors it raises."""
    return from_mapping(_overridden(values, overrides))


def _overridden(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    changed = copy.deepcopy(dict(values))
    for override in overrides:
        _set(changed, override)
    return changed


def from_mapping(values: Mapping[str, Any]) -> Config:
    """Checks a nested mapping against the schema; keys that are not given take the schema's defaults.

    In paths (`unloc_jax.config.paths.PATH_KEYS`) `~` is the home folder.

    Raises:
      UserError: unknown key (names the nearest known one), wrong type, impossible value.
    """
    config = build(
        Config, _with_inherited_settings(_with_named_remat(with_paths(values, typed=False))), "config"
    )
    check(config)
    return config


def _with_named_remat(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Converts True and False, which checkpoints hold from before remat had names."""
    model = values.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("remat"), bool):
        return values
    return {**values, "model": {**model, "remat": "full" if model["remat"] else "none"}}


def _with_inherited_settings(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fills what an entry of `tasks` lacks from the top of the config."""
    tasks = values.get("tasks")
    if not isinstance(tasks, Mapping) or not all(isinstance(task, Mapping) for task in tasks.values()):
        return values
    keys = {field.name for field in dataclasses.fields(TaskConfig)} & values.keys()
    shared = {key: values[key] for key in keys}
    return {**values, "tasks": {name: _merged(shared, task) for name, task in tasks.items()}}


def _merged(base: Any, changes: Any) -> Any:
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}


def to_json(config: Config) -> str:
    """Returns the config with all defaults, as JSON that `from_json` reads back."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """Inverts `to_json`; also reads what older versions wrote (see `unloc_jax.old_names`)."""
    return from_mapping(renamed_config(parse_json(text)))


def _set(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"--config.{override}: write --config.KEY=VALUE.")
    value = _literal(text)
    *parents, name = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"--config.{key}: {parent} is a value, not a group of settings.")
    values[name] = value


class _Infinity(ast.NodeTransformer):
    """Accepts inf and INFINITY as values, for which Python has no literals."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(math.inf) if node.id in ("inf", "INFINITY") else node


def _literal(text: str) -> Any:
    """Returns the value of a Python literal, which may hold inf; any other text unchanged."""
    try:
        return ast.literal_eval(_Infinity().visit(ast.parse(text.strip(), mode="eval")))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: deeply nested
        return text
