"""The file that describes a sweep."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unloc_jax import config as config_lib
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_toml
from unloc_jax.paths import path_of
from unloc_jax.programs import overrides_of

_SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      name: as shown.
      levels: the chosen level of each factor; {} for a row that is listed.
      config: config file, as `--config` takes it.
      settings: changes to it by key.
    """

    name: str
    levels: Mapping[str, str]
    config: str
    settings: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Returns the name of the row's folder: its name without characters that shells and file systems mind."""
        return re.sub(r"[^A-Za-z0-9._+-]+", "_", self.name).strip("_.") or "row"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep runs.

    Attributes:
      rows: at least one; their folders differ.
      seeds: of every row: 0, 1, …
      metrics: columns of the table: paths into metrics.json, such as "recall/model/R1@0.5".
      split: that is evaluated.
    """

    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    split: str


def read_sweep(file: Path, seeds: Sequence[int] | None = None) -> Sweep:
    """Reads a TOML file; `seeds` take the place of its own:

        config = "configs/quickstart.py"
        metrics = ["recall/model/R1@0.5", "recall/model/mIoU"]
        seeds = 3                              # 0, 1 and 2; or a list
        split = "test"

        [settings]                             # of all rows
        "data.dir" = "quickstart/activitynet_captions"

        [rows.baseline]                        # each changes settings, or nothing
        [rows."one level"]
        "model.pyramid.num_levels" = 1

    Instead of rows, or to multiply them, factors: one row for each combination of their levels.

        [factors.fusion.early]
        [factors.fusion.late]
        "model.fusion.type" = "late"

    A row or level may also have its own `config`. Every row's config is loaded, which finds its mistakes.

    Raises:
      UserError: the file is not there or not TOML, a key is unknown or missing, two rows have the same folder, or a
        config is not valid.
    """
    try:
        content = parse_toml(config_lib.find_file(file).read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file}: not a TOML file: {error}") from error
    known = {"config", "metrics", "seeds", "split", "settings", "rows", "factors"}
    if unknown := content.keys() - known:
        raise UserError(f"{file}: unknown key {min(unknown)!r}; the keys are {', '.join(sorted(known))}.")
    sweep = Sweep(
        tuple(_rows(file, content)),
        _seeds(file, content.get("seeds", 3) if seeds is None else list(seeds)),
        _metrics(file, content.get("metrics")),
        content.get("split", "test"),
    )
    if sweep.split not in _SPLITS:
        raise UserError(f"{file}: split is one of {', '.join(_SPLITS)}, got {sweep.split!r}.")
    folders: dict[str, str] = {}
    for row in sweep.rows:
        if row.folder in folders:
            raise UserError(
                f"{file}: the rows {folders[row.folder]!r} and {row.name!r} need names that differ."
            )
        folders[row.folder] = row.name
        try:
            config_lib.load(row.config, overrides_of(row.settings))
        except UserError as error:
            raise UserError(f"{file}: row {row.name!r}: {error}") from error
    return sweep


def _rows(file: Path, content: dict[str, Any]) -> list[Row]:
    shared = {"config": content.get("config"), **_table(file, content, "settings")}
    listed = list(_tables(file, content, "rows").items())
    factors = _table(file, content, "factors")
    choices = [
        [(factor, level, changes) for level, changes in _tables(file, factors, factor).items()]
        for factor in factors
    ]
    rows = []
    for (name, changes), combination in itertools.product(listed or [("", {})], itertools.product(*choices)):
        levels = {factor: level for factor, level, _ in combination}
        merged = {**shared, **changes}
        for _, _, of_level in combination:
            merged |= of_level
        names = [name] if name else []
        names += [f"{factor} {level}" for factor, level in levels.items()]
        config = merged.pop("config")
        if not isinstance(config, str):
            raise UserError(f'{file}: config must name a config file, such as "configs/quickstart.py".')
        if "seed" in merged:
            raise UserError(f"{file}: seed is not a setting of a row: seeds = [{merged['seed']}].")
        rows.append(Row(", ".join(names) or "all", levels, path_of(config), merged))
    return rows


def _table(file: Path, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise UserError(f"{file}: {key} must be a table, got {value!r}.")
    return value


def _tables(file: Path, content: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    tables = _table(file, content, key)
    for name, changes in tables.items():
        if not isinstance(changes, dict):
            raise UserError(f"{file}: {key}.{name} must be a table of settings, got {changes!r}.")
        for setting, value in changes.items():
            if isinstance(value, dict):
                raise UserError(
                    f'{file}: {key}.{name}.{setting}: quote keys with dots: "model.fusion.type" = …'
                )
    return tables


def _seeds(file: Path, value: Any) -> tuple[int, ...]:
    seeds = tuple(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value
    is_list = isinstance(seeds, list | tuple) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not is_list or not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"{file}: seeds must be a number of seeds or a list of them, got {value!r}.")
    return tuple(seeds)


def _metrics(file: Path, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise UserError(
            f'{file}: metrics must list paths into metrics.json, such as ["recall/model/R1@0.5", "mAP/mAP@0.50"].'
        )
    return tuple(value)
