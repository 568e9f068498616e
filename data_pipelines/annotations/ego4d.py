"""Parsers of Ego4D's episodic memory: natural language queries (NLQ) and moments (MQ), in the original files.

{"videos": [{"video_uid", "split", "clips": [{"clip_uid", "video_start_sec", "video_end_sec", "annotations": […]}]}]}.
A clip is a video here: its id is the clip_uid, the name of its file in Ego4D's download of clips, and its times begin
at its own start.

An annotation of NLQ is {"annotation_uid", "language_queries": [{"query", "template", "clip_start_sec",
"clip_end_sec"}]}; that of MQ {"labels": [{"label", "primary", "video_start_time", "video_end_time"}]}, where only
primary labels count (the official conversion drops the others). Test files (…_unannotated.json) lack the times, or the
annotations.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector, by_video
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.segments import as_number
from data_pipelines.annotations.split_names import split_of_subset
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

# The official baseline (VSLNet's data_gen.py) skips such queries in training; the official evaluator counts them.
NEAR_ZERO_S = 1 / 30

_CLIP = '{"videos": [{"video_uid": "…", "split": "val", "clips": [{"clip_uid": "…", "video_start_sec": 0.0, '
_NLQ = (
    f'Ego4D NLQ looks like {_CLIP}"video_end_sec": 480.0, "annotations": [{{"annotation_uid": "…", '
    '"language_queries": [{"query": "…", "clip_start_sec": 1.5, "clip_end_sec": 4.0}]}]}]}]}'
)
_MQ = (
    f'Ego4D MQ looks like {_CLIP}"video_end_sec": 480.0, "annotations": [{{"labels": [{{"label": "…", "primary": '
    'true, "video_start_time": 1.5, "video_end_time": 4.0}]}]}]}]}'
)
# (place, clip)
_Clip = tuple[str, dict[str, Any]]


def parse_ego4d_nlq(files: list[Path]) -> ParsedAnnotations:
    """Reads nlq_train.json and the like; the texts are queries with the attribute "qid", ANNOTATION_UID_INDEX.

    Windows of at most `NEAR_ZERO_S` are reported, and left out of the training split.

    Raises:
      UserError: a file is missing, is not JSON, or has another layout.
    """
    collector = VideoCollector()
    for path in files:
        for split, clips in _read(path, collector, _NLQ, "language_queries").items():
            queries_only = not any("clip_start_sec" in query for *_, query in _queries(clips))
            for clip_uid, of_clip in by_video(
                (clip["clip_uid"], (where, clip)) for where, clip in clips
            ).items():
                rows = list(_queries(of_clip))
                if not collector.is_new(path, clip_uid, split, 0 if queries_only else len(rows)):
                    continue
                maker = collector.maker(path, clip_uid, split, _duration(of_clip[0][1]), text_name="query")
                for where, qid, query in rows:
                    attributes = {"qid": qid}
                    if as_text(query.get("template")):
                        attributes["template"] = as_text(query["template"])
                    if queries_only:
                        maker.add_query(query.get("query"), attributes, where)
                        continue
                    window = [query.get("clip_start_sec"), query.get("clip_end_sec")]
                    start_s, end_s = map(as_number, window)
                    if start_s is not None and end_s is not None and 0 < end_s - start_s <= NEAR_ZERO_S:
                        left_out = "; left out" if split == "train" else ""
                        collector.problems.add("near-zero window", where, f"window {shown(window)}{left_out}")
                        if left_out:
                            continue
                    maker.add(window, query.get("query"), attributes, where)
                collector.keep(maker.finish(queries_only=queries_only))
    return collector.parsed


def parse_ego4d_mq(files: list[Path]) -> ParsedAnnotations:
    """Reads moments_train.json and the like; the texts are class names.

    Raises:
      UserError: a file is missing, is not JSON, or has another layout.
    """
    collector = VideoCollector()
    for path in files:
        for split, clips in _read(path, collector, _MQ, "labels").items():
            hidden = split != "train" and not any(_annotations(clip) for _, clip in clips)
            for clip_uid, of_clip in by_video(
                (clip["clip_uid"], (where, clip)) for where, clip in clips
            ).items():
                labels = [
                    (where, clip, label)
                    for where, clip in of_clip
                    for annotation in _annotations(clip)
                    for label in annotation["labels"]
                    if label.get("primary")
                ]
                if not collector.is_new(path, clip_uid, split, len(labels)):
                    continue
                # The official evaluation counts each duplicate.
                maker = collector.maker(
                    path, clip_uid, split, _duration(of_clip[0][1]), text_name="label", keep_duplicates=True
                )
                for where, clip, label in labels:
                    began_s = max(as_number(clip.get("video_start_sec")) or 0.0, 0.0)
                    times = [label.get(name) for name in ("video_start_time", "video_end_time")]
                    seconds = [as_number(time) for time in times]
                    # Four digits, as in the official conversions: differences of floats have a tail.
                    segment = [
                        time if at is None else round(at - began_s, 4) for time, at in zip(times, seconds)
                    ]
                    maker.add(segment, label.get("label"), where=where)
                collector.keep(maker.finish_hidden() if hidden else maker.finish())
    return collector.with_classes()


def _read(path: Path, collector: VideoCollector, layout: str, rows: str) -> dict[str, list[_Clip]]:
    """Returns the clips of each split.

    rows: the key of an annotation's list.
    """
    content = read_json(path, collector.problems, layout)
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, list) or not videos:
        raise UserError(f'{path}: {layout}; this file has no list of "videos".')
    of_split: dict[str, list[_Clip]] = {}
    for number, video in enumerate(videos, 1):
        clips = video.get("clips") if isinstance(video, dict) else None
        if not isinstance(clips, list) or not all(_is_clip(clip, rows) for clip in clips):
            raise UserError(f"{path}: {layout}; video {number} does not.")
        split = split_of_subset(video.get("split")) or collector.split_of(path)
        of_split.setdefault(split, []).extend(
            (f"{path.name}: {shown(clip['clip_uid'])}", clip) for clip in clips
        )
    return of_split


def _is_clip(clip: Any, rows: str) -> bool:
    if not isinstance(clip, dict) or not as_text(clip.get("clip_uid")):
        return False
    annotations = clip.get("annotations", [])
    return isinstance(annotations, list) and all(
        isinstance(annotation, dict)
        and isinstance(annotation.get(rows), list)
        and all(isinstance(row, dict) for row in annotation[rows])
        for annotation in annotations
    )


def _annotations(clip: dict[str, Any]) -> list[dict[str, Any]]:
    return clip.get("annotations", [])


def _queries(clips: list[_Clip]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields (place, qid, query): the evaluation server identifies a query by annotation_uid and index."""
    for where, clip in clips:
        for annotation in _annotations(clip):
            uid = as_text(annotation.get("annotation_uid"))
            for index, query in enumerate(annotation["language_queries"]):
                yield f"{where}, {uid} query {index}", f"{uid}_{index}", query


def _duration(clip: dict[str, Any]) -> Any:
    start_s, end_s = as_number(clip.get("video_start_sec")), as_number(clip.get("video_end_sec"))
    if start_s is None or end_s is None:
        return clip.get("video_end_sec") if end_s is None else None
    return round(end_s - max(start_s, 0.0), 4)
