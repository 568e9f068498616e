"""Finds the TFRecord files of each split when there is no dataset_info.json."""

import collections
import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path

from data_pipelines.annotations.split_names import SPLITS, split_in_name
from unloc_jax.errors import UserError

# "train.tfrecord-00003-of-00010": prefix, number, count, suffix.
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(.*)")
# Scenic's "train@10" or "train@10.tfrecord" for ten files train-00000-of-00010….
_SHARD_SPEC = re.compile(r"(.*)@(\d+)(\.[^/]+)?")
_OPTIONS = "config.data.mediasequence"


def find_shards(location: str, files: Mapping[str, str]) -> dict[str, list[Path]]:
    """Returns the shards of every split that has some, in order.

    Args:
      location: a folder, in which all files named `*.tfrecord*` or `*-00000-of-00010*` are found recursively; or a
        file, a pattern (`*`, `?`, `[…]`, `**`), or Scenic's `name@10`. The split is the one in a file's name (train,
        val, validation, test, … as a word of it), else in the name of a folder above it.
      files: by split, a file, pattern, `name@10` or folder, relative to `location`; "" = no files. If one is given,
        only the given ones are used, and names need not contain the split.

    Raises:
      UserError: there are no files, the split of one is unknown, or shards are missing from a numbered set.
    """
    if not location:
        raise UserError("config.data.dir is empty: give the folder of the shards.")
    given = {split: pattern for split, pattern in files.items() if pattern}
    if not given:
        found = _expand("", location, "config.data.dir")
        return _by_split(found, Path(location) if Path(location).is_dir() else None)
    return {split: _expand(location, pattern, f"{_OPTIONS}.{split}") for split, pattern in given.items()}


def _expand(folder: str, pattern: str, option: str) -> list[Path]:
    path = Path(folder, pattern)
    spec = _SHARD_SPEC.fullmatch(str(path))
    if path.is_dir():
        found = [file for file in path.rglob("*") if _is_shard(file)]
        _check_complete(found)
    elif path.is_file():
        found = [path]
    elif spec:
        found = _numbered(spec, option)
    else:
        matching = glob.glob(pattern, root_dir=folder or None, recursive=True)
        found = [file for name in matching if (file := Path(folder, name)).is_file()]
    if not found:
        raise UserError(f"{option}: no TFRecord file at {os.path.abspath(path)}.")
    return sorted(found)


def _numbered(spec: re.Match[str], option: str) -> list[Path]:
    base, count, suffix = spec[1], int(spec[2]), spec[3] or ""
    found = [Path(f"{base}-{number:05d}-of-{count:05d}{suffix}") for number in range(count)]
    for path in found:
        if not path.is_file():
            raise UserError(
                f"{option}: the shard {path} is missing; {spec[0]!r} names {count} files like it."
            )
    return found


def _is_shard(path: Path) -> bool:
    named = ".tfrecord" in path.name or _SHARD.fullmatch(path.name) is not None
    return named and not path.name.startswith(".") and path.is_file()


def _check_complete(found: list[Path]) -> None:
    """Raises UserError if a numbered set of shards is incomplete, for example after an interrupted copy."""
    sets: dict[tuple[str, str, str], set[int]] = collections.defaultdict(set)
    for path in found:
        if shard := _SHARD.fullmatch(str(path)):
            sets[shard[1], shard[3], shard[4]].add(int(shard[2]))
    for (base, count, suffix), numbers in sets.items():
        missing = next((number for number in range(int(count)) if number not in numbers), None)
        if missing is not None:
            raise UserError(
                f"{base}-{missing:0{len(count)}d}-of-{count}{suffix}: this shard is missing, {len(numbers)} of "
                f"{int(count)} are there. Copy it, or name the files to read: --{_OPTIONS}.train=…."
            )


def _by_split(found: list[Path], folder: Path | None) -> dict[str, list[Path]]:
    shards: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for path in found:
        relative = path.relative_to(folder) if folder else Path(path.name)
        # `split_in_name` ignores an extension; one is added because "anet.train-00000-of-00010" has none.
        names = [Path(f"{part}.tfrecord") for part in reversed(relative.parts)]
        split = next((split for name in names if (split := split_in_name(name))), None)
        if split is None:
            raise UserError(
                f"{path}: its name does not contain the split. Name the files of each split: "
                f"--{_OPTIONS}.train='FILE or PATTERN', and .validation, .test."
            )
        shards[split].append(path)
    return {split: paths for split, paths in shards.items() if paths}
