"""Lists the settings that are paths, and expands what people write there."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unloc_jax.config.schema import Config
from unloc_jax.config.towers import ENCODERS
from unloc_jax.errors import UserError
from unloc_jax.paths import path_of, with_home

# Those of `data` count in every entry of `tasks` too.
PATH_KEYS = (
    "init_from",
    "data.dir",
    "data.mediasequence.train",
    "data.mediasequence.validation",
    "data.mediasequence.test",
    "data.mediasequence.classes_file",
    "model.text.embeddings_file",
    "model.text.sentencepiece",
)


def with_paths(values: Mapping[str, Any], *, typed: bool, where: str = "config") -> dict[str, Any]:
    """Expands `~` in nested settings; leaves what is not text, or not a group, for others to refuse.

    Args:
      values: settings.
      typed: somebody has typed them here; a checkpoint's were good where it was made.
      where: what the keys are below, for messages.

    Raises:
      UserError: see `unloc_jax.paths.path_of`, or `with_home` if nobody typed it; the message begins with the key.
    """
    changed = dict(values)
    for key in PATH_KEYS:
        _change(changed, key.split("."), path_of if typed else with_home, f"{where}.{key}")
    tasks = changed.get("tasks")
    if isinstance(tasks, Mapping):
        changed["tasks"] = {
            name: with_paths(task, typed=typed, where=f"{where}.tasks.{name}")
            if isinstance(task, Mapping)
            else task
            for name, task in tasks.items()
        }
    return changed


def _change(values: dict[str, Any], key: list[str], read: Callable[[str], str], where: str) -> None:
    value = values.get(key[0])
    if len(key) > 1:
        if isinstance(value, Mapping):
            values[key[0]] = group = dict(value)
            _change(group, key[1:], read, where)
    elif isinstance(value, str):
        try:
            values[key[0]] = read(value)
        except UserError as error:
            raise UserError(f"{where} = {error}") from None


def with_absolute_paths(config: Config) -> Config:
    """Makes the paths that a checkpoint remembers independent of the working directory."""
    absolute = lambda path: str(Path(path).resolve()) if path else ""
    shards = lambda group: dataclasses.replace(group, classes_file=absolute(group.classes_file))
    place = lambda group: dataclasses.replace(
        group,
        data=dataclasses.replace(
            group.data, dir=absolute(group.data.dir), mediasequence=shards(group.data.mediasequence)
        ),
    )
    text = config.model.text
    text = dataclasses.replace(
        text, embeddings_file=absolute(text.embeddings_file), sentencepiece=absolute(text.sentencepiece)
    )
    return dataclasses.replace(
        place(config),
        tasks={name: place(task) for name, task in config.tasks.items()},
        model=dataclasses.replace(config.model, text=text),
        init_from=_absolute_source(config.init_from),
    )


def _absolute_source(text: str) -> str:
    """Makes SRC of "KIND:SRC", another program's weights, absolute, unless it is an id of a hub."""
    kind, separator, source = text.partition(":")
    if separator and (kind.endswith("-clip") or kind in ENCODERS):
        return f"{kind}:{Path(source).resolve() if Path(source).exists() else source}"
    return str(Path(text).resolve()) if text else ""
