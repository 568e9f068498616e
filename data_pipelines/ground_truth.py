"""Reads `--ground-truth` of `unloc metrics` and `unloc diagnose`: official files, users' own formats, or shards.

Official files are passed to the protocol as they are, because its numbers depend on every digit of them. Users' own
tables and JSON Lines are read by the parsers of `unloc data check` and `build`, shards by the reader of `unloc
evaluate`.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.annotations import parse
from data_pipelines.annotations.activitynet import read_subsets
from data_pipelines.annotations.problems import Problems
from data_pipelines.annotations.split_names import SPLITS, split_of_subset
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.metrics.protocols.action_files import database_members
from unloc_jax.metrics.protocols.annotated import Annotated
from unloc_jax.metrics.protocols.presets import preset_of
from unloc_jax.records import VideoRecord

TABLES = (".csv", ".tsv")
ACTIONS = ("activitynet", "thumos14", "per-frame")
MOMENTS = ("moment-retrieval", "qvhighlights", "gmr", "nextgqa")
_FRAMES = ("segmentation",)
_OFFICIAL_TABLES = ("classification", "per-frame")  # Kinetics' own, and Charades'
_HEAD = 1 << 20  # characters in which the first line of a JSON lines file ends


def read_ground_truth(
    protocol: str, files: Sequence[Path], subset: str | None = None, dataset: str | None = None
) -> tuple[Path | Annotated, str | None]:
    """Detects the kind of a ground truth, and reads it unless the protocol does.

    Args:
      protocol: a name in `unloc_jax.metrics.protocols.PROTOCOLS`, or of a dataset's (`presets`).
      files: one official file or folder; or one's own CSV or JSON Lines (docs/annotations.md); or a folder of
        `unloc data build`; or an ActivityNet file followed by the CSV of its subsets (BMN's).
      subset: the split; None: the protocol's default, or for one's own data the only split.
      dataset: name of an annotation parser, which reads the files; None: they are of one of the kinds above.

    Returns:
      The ground truth for the protocol's functions, and the name of the subset to pass to them, None if there is
      nothing to choose.

    Raises:
      UserError: the file or split does not exist, the protocol does not read the format, or the split is ambiguous.
    """
    first = files[0]
    protocol = preset_of(protocol).protocol
    if dataset is not None:
        protocols = (*ACTIONS, *MOMENTS, *_FRAMES)
        records, has_classes, class_ids = _of_annotations(dataset, files)
        truth, of_truth = _chosen(protocol, files, subset, records, has_classes, protocols)
        return dataclasses.replace(truth, class_ids=class_ids), of_truth
    if is_shard_folder(first):
        return _chosen(protocol, files, subset, *_of_shards(first))
    for name, is_one in (("csv", _is_table), ("jsonl", _is_own_json_lines)):
        if is_one(first) and protocol not in _OFFICIAL_TABLES:
            return _chosen(protocol, files, subset, *_of_annotations(name, files)[:2])
    if len(files) == 1:
        return first, subset
    if protocol == "activitynet" and len(files) == 2 and _is_table(files[1]):
        return _with_subsets(*files), subset
    raise UserError(
        f"--ground-truth={files[1]}: the protocol {protocol} takes one file; only one's own CSV or JSON Lines may be"
        " several, and activitynet's JSON be followed by the CSV of its subsets"
    )


def is_shard_folder(path: Path) -> bool:
    """Returns whether `unloc data build` wrote a folder."""
    return any((path / name).is_file() for name in ("build.json", "dataset_info.json"))


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLES


def _is_own_json_lines(path: Path) -> bool:
    """Returns whether the first object of a file has the fields of users' own data."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(_HEAD).lstrip().removeprefix("[").lstrip()
    try:
        row, _ = json.JSONDecoder().raw_decode(head)
    except (ValueError, RecursionError):
        return False
    own = isinstance(row, dict) and "video" in row
    return own and ("segments" in row or "windows" in row or {"start", "end"} <= row.keys())


def _of_annotations(
    name: str, files: Sequence[Path]
) -> tuple[list[VideoRecord], bool, dict[str, dict[str, str]]]:
    parsed = parse(name, list(files))
    if parsed.problems.counts:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in parsed.problems.counts.most_common())
        names = " ".join(map(str, files))
        show(
            f"unloc: warning: problems of the ground truth: {kinds}; what becomes of them is in docs/annotations.md,"
            f" `unloc data check --dataset {name} --annotations {names}` tells where they are",
            file=sys.stderr,
        )
    return parsed.records, parsed.classes is not None, parsed.class_ids


def _of_shards(folder: Path) -> tuple[list[VideoRecord], bool]:
    from data_pipelines.reading.shards import (
        UnlocShards,  # needs the extra `data`, which official files do not
    )

    shards = UnlocShards(str(folder))
    records = [record for split in shards.splits for record in shards.records(split)]
    return records, bool(shards.metadata.classes)


def _chosen(
    protocol: str,
    files: Sequence[Path],
    subset: str | None,
    records: list[VideoRecord],
    has_classes: bool,
    protocols: Sequence[str] = ACTIONS + MOMENTS,
) -> tuple[Annotated, str | None]:
    """Returns the ground truth of the split that `subset` names, or of the only one."""
    path = files[0]
    if protocol not in protocols:
        raise UserError(
            f"{path}: the protocol {protocol} takes its datasets' own files; tables, JSON Lines and shards are for"
            f" {', '.join(protocols)}"
        )
    splits = [split for split in SPLITS if any(record.split == split for record in records)]
    if not splits:
        raise UserError(f"{path}: there are no usable segments in it")
    if subset is None and len(splits) > 1:
        raise UserError(f"{path}: it has the splits {', '.join(splits)}: choose one with --subset")
    split = splits[0] if subset is None else split_of_subset(subset)
    if split not in splits:
        raise UserError(f'{path}: no videos of split "{subset}"; there are: {", ".join(splits)}')
    if protocol in ACTIONS:  # which distinguish videos of other splits from unknown ones
        return Annotated.of_records(path, records, has_classes=has_classes), split
    of_split = [record for record in records if record.split == split]
    return Annotated.of_records(path, of_split, has_classes=has_classes), None


def _with_subsets(path: Path, table: Path) -> Annotated:
    """Reads an ActivityNet-style file whose subsets are in a table with the columns "video" and "subset"."""
    problems = Problems()
    subsets = read_subsets(table, problems)
    videos = [
        (video, value | {"subset": value.get("subset", subsets.get(video, "in no table"))})
        for _, video, value in database_members(path)
        if video is not None and isinstance(value, dict)
    ]
    without = [video for video, _ in videos if video not in subsets]
    if len(without) == len(videos):
        raise UserError(f"{table}: none of the videos of {path} is in it, such as {without[0]!r}")
    if without:
        show(
            f"unloc: warning: {len(without)} of {len(videos)} videos of {path} are not in {table}: left out; first:"
            f" {without[0]}",
            file=sys.stderr,
        )
    return Annotated(path, videos, None)
