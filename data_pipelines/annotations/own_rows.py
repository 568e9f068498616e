"""Rows of the two formats for users' own data, CSV and JSON Lines: one row per segment.

A row has "video", "start" and "end" (seconds) and either "text", a sentence, or "label", a class name; "split" and
"duration" (seconds) are optional. A "text" whose "start" is the word "absent" has no answer in its video (in JSON
Lines: "windows": []). See docs/annotations.md.
"""

import dataclasses
from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.segments import as_number
from data_pipelines.annotations.split_names import split_in_name, split_of_subset
from unloc_jax.errors import UserError
from unloc_jax.names import as_text, id_of_record, normal_id

ABSENT = "absent"


@dataclasses.dataclass(frozen=True)
class Row:
    """One segment.

    Attributes:
      where: file and line.
      values: "video", "start", "end", "text" or "label", "split", "duration", as in the file.
      attributes: of the text; see VideoRecord.
    """

    where: str
    values: dict[str, Any]
    attributes: Any = None


def parse_rows(
    collector: VideoCollector, files: list[tuple[Path, list[Row]]], layout: str
) -> ParsedAnnotations:
    """Converts the rows of all files to records; the texts are class names if the rows have labels.

    Raises:
      UserError: some rows have labels and others texts; neither rows nor file name contain the split; or two files
        differ only in their extension.
    """
    with_labels = {"label" in row.values for _, rows in files for row in rows}
    if len(with_labels) == 2:
        raise UserError(
            f"{files[0][0]}: some rows have a label, others a text. Labels are class names, which every video is "
            f"searched for; texts belong to their video: give one kind only. {layout}."
        )
    for path, rows in files:
        videos = _by_video(path, rows)
        if all(_is_blank(row.values.get("split")) for row in rows):
            collector.split_of(path)
        for video_id, of_video in videos.items():
            split = _split(collector, path, of_video)
            if collector.is_new(path, video_id, split, sum(not _is_absent(row) for row in of_video)):
                _add_video(collector, path, video_id, split, of_video)
    return collector.with_classes() if with_labels == {True} else collector.parsed


def _by_video(path: Path, rows: list[Row]) -> dict[str | int, list[Row]]:
    """Groups rows by video: ids that are equal by `normal_id` are one video, which has the id of its first row.

    Raises:
      UserError: two files have the same id.
    """
    videos: dict[str | int, list[Row]] = {}
    spelled: dict[str, str | int] = {}
    named: dict[str, tuple[str, str]] = {}
    for row in rows:
        video: Any = row.values.get("video")
        name = as_text(video).strip()
        same = normal_id(name)
        videos.setdefault(spelled.setdefault(same, video if name else ""), []).append(row)
        video_id = id_of_record(name)
        ending = name[len(video_id) :].lower()
        if ending.strip(".") and (other := named.setdefault(same, (ending, name))) and other[0] != ending:
            raise UserError(
                f"{path}: {other[1]} and {name} (in {row.where}) would be one video, {video_id}: videos are known by "
                "their names without ending. Rename one of the files."
            )
    return videos


def _add_video(
    collector: VideoCollector, path: Path, video_id: str | int, split: str, rows: list[Row]
) -> None:
    durations = _different(rows, "duration")
    if len(durations) > 1:
        detail = f"duration {', '.join(map(shown, durations[:5]))}; the first is used"
        collector.problems.add("several durations of one video", rows[0].where, detail)
    duration = durations[0] if durations else None
    text_name = "label" if "label" in rows[0].values else "text"
    maker = collector.maker(path, video_id, split, duration, text_name=text_name, duration_expected=False)
    for row in rows:
        text = row.values.get("label", row.values.get("text"))
        if _is_absent(row):
            maker.add_absent(text, row.attributes, row.where)
            continue
        maker.add([row.values.get("start"), row.values.get("end")], text, row.attributes, row.where)
    collector.keep(maker.finish())


def _is_absent(row: Row) -> bool:
    return "text" in row.values and row.values.get("start") == ABSENT


def _split(collector: VideoCollector, path: Path, rows: list[Row]) -> str:
    told = _different(rows, "split")
    if len(told) > 1:
        detail = f"split {', '.join(map(shown, told[:5]))}; the first is used"
        collector.problems.add("several splits of one video", rows[0].where, detail)
    split = split_of_subset(told[0]) if told else split_in_name(path)
    if split is None:
        detail = f"split {shown(told[0]) if told else 'is empty'}; put into train"
        collector.problems.add("unknown subset", rows[0].where, detail)
    return split or "train"


def _different(rows: list[Row], name: str) -> list[Any]:
    """Returns the distinct non-empty values of a field, in the order of the rows."""
    found: dict[float | str, Any] = {}
    for row in rows:
        value = row.values.get(name)
        if not _is_blank(value):
            number = as_number(value)
            found.setdefault(shown(value) if number is None else number, value)
    return list(found.values())


def _is_blank(value: Any) -> bool:
    return value is None or value == ""
