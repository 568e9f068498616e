"""Ground truth that was already parsed from a format that no evaluator defines: own tables, shards, ….

`data_pipelines.ground_truth` creates it. It offers the protocols the rows of ActivityNet's file or of
QVHighlights' JSON lines, so that the same checks and definitions apply.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from unloc_jax.decimals import shortest
from unloc_jax.errors import UserError
from unloc_jax.metrics.highlights import CLIP_S
from unloc_jax.queries import as_annotated, file_id, not_shown_classes, queries_of
from unloc_jax.records import VideoRecord

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Annotated:
    """Annotated videos: actions with classes, or queries.

    Attributes:
      path: their file or folder, for messages.
      videos: (id, {"subset", "duration", "annotations": [{"segment": [start_s, end_s], "label"}, …]}), as in
        ActivityNet's database; None for queries.
      queries: (place in the file, {"vid", "query", "duration", "relevant_windows": [[start_s, end_s], …]} and, where
        known, "qid", "relevant_clip_ids" and "saliency_scores"), as in QVHighlights' lines; None for actions.
      class_ids: {key of a challenge's rows: {id: class}}, for predictions with ids in place of labels.
    """

    path: Path
    videos: Sequence[tuple[str, Row]] | None
    queries: Sequence[tuple[str, Row]] | None
    class_ids: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_records(cls, path: Path, records: Iterable[VideoRecord], *, has_classes: bool) -> Self:
        """Converts records of all splits. has_classes: their texts are class names, not queries."""
        if has_classes:
            return cls(path, [(record.video_id, _video(record)) for record in records], None)
        return cls(path, None, [row for record in records for row in _queries(record)])

    def members(self) -> Iterator[tuple[str, str, Row]]:
        """Yields the videos like `json_files.read_members(path, "database")`.

        Raises:
          UserError: the texts are queries.
        """
        if self.videos is None:
            raise UserError(
                f"{self.path}: its texts are queries of their videos, not classes: use --protocol moment-retrieval"
                " or qvhighlights"
            )
        for video_id, video in self.videos:
            yield "database", video_id, video

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yields the queries like `json_files.read_rows(path)`.

        Raises:
          UserError: the texts are class names, or no query has a segment.
        """
        if self.queries is None:
            raise UserError(
                f"{self.path}: its texts are classes, not queries of their videos: use --protocol activitynet or"
                " thumos14"
            )
        if not any(row["relevant_windows"] for _, row in self.queries):
            raise UserError(
                f"{self.path}: none of its {len(self.queries)} queries has a segment to compare with"
            )
        yield from self.queries


def _video(record: VideoRecord) -> Row:
    shown = zip(record.texts, as_annotated(record).tolist())
    others = ((label, [start_s, end_s]) for label, start_s, end_s in not_shown_classes(record))
    return _with_duration(record) | {
        "subset": record.split,
        "annotations": [{"segment": segment, "label": label} for label, segment in (*shown, *others)],
    }


def _queries(record: VideoRecord) -> Iterator[tuple[str, Row]]:
    """Yields rows with one query each, as `unloc evaluate` asks them."""
    for query in queries_of(record, by_text=bool(record.saliency)):
        row: Row = {
            "vid": file_id(record),
            "query": query.text,
            "relevant_windows": query.windows_s.tolist(),
        }
        if query.qid is not None:
            row["qid"] = query.qid
        if query.is_absent:
            row["absent"] = True
        if query.text in record.saliency:
            scores = record.saliency[query.text][: int(record.duration_s / CLIP_S) or None]
            row |= {"relevant_clip_ids": list(range(len(scores))), "saliency_scores": scores.tolist()}
        yield f"{record.video_id}, {query.text!r}", _with_duration(record) | row


def _with_duration(record: VideoRecord) -> Row:
    return {"duration": float(shortest(np.float32(record.duration_s)))} if record.duration_s else {}


def path_of(ground_truth: Path | Annotated) -> Path:
    """Returns the file to name in messages."""
    return ground_truth.path if isinstance(ground_truth, Annotated) else ground_truth
