"""The tables that EPIC-Kitchens-100 and EPIC-Sounds share: segments with times of day, and the videos' lengths."""

from collections.abc import Callable
from pathlib import Path

from data_pipelines.annotations.clock import segment_in_seconds
from data_pipelines.annotations.collector import VideoCollector, by_video
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import Problems
from data_pipelines.annotations.table_file import read_table
from unloc_jax.errors import UserError
from unloc_jax.names import normal_id

# (where, column → cell)
Row = tuple[str, dict[str, str]]


def read_epic_tables(files: list[Path], problems: Problems, layout: str) -> dict[Path, list[Row]]:
    """Returns the rows of every table.

    Raises:
      UserError: a file is missing, or is not a table with rows.
    """
    return {path: read_table(path, (), problems, layout) for path in files}


def has_columns(rows: list[Row], *columns: str) -> bool:
    return bool(rows) and set(columns) <= rows[0][1].keys()


def parse_epic_segments(
    collector: VideoCollector,
    tables: dict[Path, list[Row]],
    layout: str,
    *,
    label_column: str,
    label_of: Callable[[str, dict[str, str]], str],
) -> ParsedAnnotations:
    """Adds the videos of all tables, whose names contain their split; the texts are class names.

    A table without `label_column` is of a hidden split: its videos are kept without segments.

    Args:
      collector: receives the records and the problems.
      tables: as `read_epic_tables` returns them, those of lengths (video_id, duration, …) included.
      layout: a clause that describes the expected content, for messages.
      label_column: is in all tables that have labels.
      label_of: (where, row) → class name.

    Raises:
      UserError: no table has segments, or its name does not identify one split.
    """
    lengths: dict[str, str] = {}
    of_split: dict[Path, list[Row]] = {}
    for path, rows in tables.items():
        if has_columns(rows, "video_id", "duration"):
            lengths |= {normal_id(row["video_id"]): row["duration"] for _, row in rows}
        elif not rows or has_columns(rows, "video_id"):
            of_split[path] = rows
        else:
            raise UserError(f"{path}: {layout}; this file has no column 'video_id'.")
    if not of_split:
        raise UserError(f"{next(iter(tables))}: {layout}; no table of segments is given.")
    for path, rows in of_split.items():
        split = collector.split_of(path)
        hidden = not has_columns(rows, label_column)
        if not hidden and not has_columns(rows, "start_timestamp", "stop_timestamp"):
            raise UserError(
                f"{path}: {layout}; this file has no columns 'start_timestamp', 'stop_timestamp'."
            )
        for video_id, of_video in by_video((row["video_id"], (where, row)) for where, row in rows).items():
            if not collector.is_new(path, video_id, split, 0 if hidden else len(of_video)):
                continue
            length = lengths.get(normal_id(video_id))
            # The official evaluation counts each duplicate.
            maker = collector.maker(path, video_id, split, length, text_name="label", keep_duplicates=True)
            if hidden:
                collector.keep(maker.finish_hidden())
                continue
            for where, row in of_video:
                segment = segment_in_seconds((row["start_timestamp"], row["stop_timestamp"]))
                maker.add(segment, label_of(where, row), where=where)
            collector.keep(maker.finish())
    return collector.with_classes()
