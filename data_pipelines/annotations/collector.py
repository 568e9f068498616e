"""VideoCollector: collects the videos of several annotation files for the parsers."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import Problems, shown
from data_pipelines.annotations.segments import RecordMaker
from data_pipelines.annotations.split_names import split_of_file
from unloc_jax.names import id_of_record, normal_id
from unloc_jax.queries import not_shown
from unloc_jax.records import VideoRecord
from unloc_jax.video_names import leaves_folder

Row = TypeVar("Row")

# No file system allows longer names; an id is a file's name without its extension.
_LONGEST_ID_BYTES = 200


class VideoCollector:
    """Counts the videos of all files and collects the usable ones.

    Attributes:
      parsed: the annotations found so far.
    """

    def __init__(self) -> None:
        self.parsed = ParsedAnnotations(records=[], problems=Problems(), classes=None)
        self._seen: dict[str, str] = {}

    @property
    def problems(self) -> Problems:
        return self.parsed.problems

    def is_new(self, path: Path, video_id: str | int, split: str, num_segments: int) -> bool:
        """Counts a video and its segments; returns False, and reports it, if the video cannot be used.

        Unusable videos have the id of an earlier one, or one that cannot be the name of a file in a folder.
        """
        self.parsed.count(split, num_segments)
        where = f"{path.name}: {shown(video_id)}"
        if not _can_be_a_name(id_of_record(video_id)):
            self.problems.add(
                "unusable video id", where, "the name of a file in the video folder was expected"
            )
            return False
        name = normal_id(video_id)
        if name in self._seen:
            self.problems.add(
                "duplicate id",
                f"{path.name}: {video_id}",
                f"also in {self._seen[name]}; the first is used",
            )
            return False
        self._seen[name] = path.name
        return True

    def split_of(self, path: Path) -> str:
        """Returns the split that the name of a file contains, for a format that has none.

        Raises:
          UserError: the name does not identify one split.
        """
        split = split_of_file(path)
        self.parsed.file_splits.append((path, split))
        return split

    def maker(
        self, path: Path, video_id: str | int, split: str, duration: Any, **options: Any
    ) -> RecordMaker:
        """Starts the record of a video that `is_new`; for duration and options see `RecordMaker`."""
        return RecordMaker(video_id, duration, split, f"{path.name}: {video_id}", self.problems, **options)

    def keep(self, record: VideoRecord | None) -> None:
        if record is not None:
            self.parsed.records.append(record)

    def with_classes(self) -> ParsedAnnotations:
        """Returns the annotations with all texts as class names."""
        records = self.parsed.records
        shown = {text for record in records for text in record.texts}
        self.parsed.classes = sorted(shown | {of.text for record in records for of in not_shown(record)})
        return self.parsed


def by_video(rows: Iterable[tuple[str | int, Row]]) -> dict[str | int, list[Row]]:
    """Groups rows by video: ids that are equal by `normal_id` are one video, which has the id of its first row."""
    ids: dict[str, str | int] = {}
    videos: dict[str | int, list[Row]] = {}
    for video_id, row in rows:
        videos.setdefault(ids.setdefault(normal_id(video_id), video_id), []).append(row)
    return videos


def _can_be_a_name(video_id: str) -> bool:
    return (
        bool(video_id)
        and not leaves_folder(video_id)
        and len(video_id.encode()) <= _LONGEST_ID_BYTES
        and not any(unicodedata.category(character) == "Cc" for character in video_id)
    )
