"""ParsedAnnotations: the result of every parser."""

import dataclasses
from pathlib import Path

from data_pipelines.annotations.problems import Problems
from unloc_jax.records import VideoRecord


@dataclasses.dataclass
class ParsedAnnotations:
    """The content of a dataset's annotation files.

    Attributes:
      records: one per usable video, in the order of the files; `fps` and `frames` are empty.
      problems: everything unusable or corrected.
      classes: the class names in alphabetical order; None if texts are per-video queries.
      num_videos: videos in the files, including unusable ones.
      num_segments: segments in the files, including unusable ones.
      num_in_split: [videos, segments] in the files by split, including unusable ones.
      num_merged: segments of the files that repeat another one by design, such as equal answers of several annotators;
        they are not problems.
      class_ids: the dataset's own ids of its classes: {key of a challenge's rows: {id: class}}.
      file_splits: (file, split) for files whose name contains the split.
    """

    records: list[VideoRecord]
    problems: Problems
    classes: list[str] | None
    num_videos: int = 0
    num_segments: int = 0
    num_in_split: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    num_merged: int = 0
    class_ids: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    file_splits: list[tuple[Path, str]] = dataclasses.field(default_factory=list)

    def count(self, split: str, num_segments: int) -> None:
        """Counts one more video of the files and its segments."""
        self.num_videos += 1
        self.num_segments += num_segments
        in_split = self.num_in_split.setdefault(split, [0, 0])
        in_split[0] += 1
        in_split[1] += num_segments
