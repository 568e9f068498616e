"""The layout of ActivityNet's files, which other datasets also use.

{"database": {id: {"duration": s, "subset": "training", "annotations": [{"segment": [s, s], "label": "…"}]}}},
or the same without "database", or a list of videos that contain their id.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import entries, read_json
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.segments import RecordMaker
from unloc_jax.errors import UserError

# A video of a hidden test split may lack annotations; if no video has any of these keys, the layout is another one.
_KEYS = {"annotations", "annotation", "subset"}


def read_database(
    path: Path, collector: VideoCollector, layout: str
) -> list[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Returns (video id, video, its annotations) for every video of a file.

    Raises:
      UserError: the file is not JSON, or has another layout.
    """
    content = read_json(path, collector.problems, layout)
    return list(videos_of(path, content, layout))


def videos_of(
    path: Path, content: Any, layout: str
) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Does what `read_database` does for content that has already been read."""
    database = content.get("database", content) if isinstance(content, dict) else content
    videos = list(entries(path, database, layout))
    if videos and not any(isinstance(video, dict) and _KEYS & video.keys() for _, video in videos):
        raise UserError(f'{path}: {layout}; the entry "{videos[0][0]}" does not, nor does any other.')
    for video_id, video in videos:
        annotations = _annotations(video) if isinstance(video, dict) else None
        if annotations is None:
            raise UserError(f'{path}: {layout}; the entry "{video_id}" does not.')
        yield video_id, video, annotations


def _annotations(video: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Returns the annotations of a video as a list; None if they have another type."""
    annotations = video.get("annotations", video.get("annotation"))
    if annotations is None:  # test splits
        return []
    if isinstance(annotations, dict):
        annotations = list(annotations.values())
    if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
        return None
    return annotations


def add_database(
    collector: VideoCollector,
    path: Path,
    videos: list[tuple[str, dict[str, Any], list[dict[str, Any]]]],
    *,
    text_name: str,
    split_of: Callable[[str, dict[str, Any]], str | None],
    add: Callable[[RecordMaker, dict[str, Any], dict[str, Any]], None],
) -> None:
    """Adds the videos of a file to a collector.

    A video with an unknown subset goes to "train" and is reported: evaluating on it by mistake would be worse. If an
    evaluation split of a dataset with classes has no annotation at all, a server keeps them secret: its videos are kept
    without segments, so that they can be predicted.

    Args:
      collector: receives the records and the problems.
      path: the file, for reports.
      videos: as `read_database` returns them.
      text_name: "label" or "sentence".
      split_of: (video id, video) → our name of its split, None if unknown.
      add: (maker, annotation, video): adds one annotation to a record.
    """
    splits = [split_of(video_id, video) for video_id, video, _ in videos]
    known = {split for split, (_, _, annotations) in zip(splits, videos) if annotations}
    hidden = {"validation", "test"} - known if text_name == "label" else set()
    for split, (video_id, video, annotations) in zip(splits, videos):
        if not collector.is_new(path, video_id, split or "train", len(annotations)):
            continue
        where = f"{path.name}: {video_id}"
        if split is None and annotations:
            subset = shown(video.get("subset"))
            collector.problems.add("unknown subset", where, f"subset {subset}; put into train")
        duration = video.get("duration", video.get("duration_second"))
        maker = RecordMaker(
            video_id,
            duration,
            split or "train",
            where,
            collector.problems,
            text_name=text_name,
            keep_duplicates=True,  # the official evaluations count each one
        )
        for annotation in annotations:
            add(maker, annotation, video)
        collector.keep(maker.finish_hidden() if split in hidden else maker.finish())


def segment_of(annotation: dict[str, Any]) -> Any:
    """Returns [start, end] of an annotation, which may instead have the fields "start" and "end"."""
    if "segment" not in annotation and "start" in annotation and "end" in annotation:
        return [annotation["start"], annotation["end"]]
    return annotation.get("segment")
