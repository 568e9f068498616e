"""The layouts of TVSum and YouTube Highlights: every piece of a video has scores, and there are no windows.

One JSON object per video and line (QD-DETR, Lighthouse): {"qid": "<id>", "vid": "<id>", "query": "…", "duration": s,
"label": [[one score per annotator], …]}. Or one JSON object of all videos (UMT, UniVTG): {id: {"anno" or "match": […],
"title" or "domain": "…", "frames": n, "fps": f}}. The split is taken from the file name. The records have no segments:
their texts are the queries, and `saliency` holds the scores.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import as_text, entries, read_json
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.query_lines import AddScores, Query, add_queries, read_queries
from data_pipelines.annotations.saliency import as_scores
from data_pipelines.annotations.segments import as_number
from unloc_jax.decimals import shortest
from unloc_jax.errors import UserError
from unloc_jax.metrics.highlights import pieces_of


def read_labels(path: Path, collector: VideoCollector, layout: str) -> list[Query]:
    """Reads the videos of a file in either layout as queries with "vid", "query" and "label".

    Raises:
      UserError: the file is not JSON, or has another layout.
    """
    if path.suffix.lower() != ".json":
        return read_queries(path, collector, layout)
    videos = []
    for video_id, video in entries(path, read_json(path, collector.problems, layout), layout):
        if not isinstance(video, dict):
            raise UserError(f'{path}: {layout}; the entry "{video_id}" does not.')
        label = video.get("label", video.get("anno", video.get("match")))
        query = video.get("query", video.get("title", video.get("domain")))
        where = f"{path.name}: {video_id}"
        videos.append((where, {"qid": video_id, **video, "vid": video_id, "label": label, "query": query}))
    return videos


def add_labels(
    collector: VideoCollector,
    path: Path,
    videos: list[Query],
    *,
    add_scores: AddScores,
    bounds_of: Callable[[dict[str, Any]], np.ndarray | None] = lambda video: None,
) -> None:
    """Adds the videos of a file to a collector.

    Their texts get the attribute "domain" and, unless the labels are those of 2-second clips, "pieces": JSON rows
    [start_s, end_s, label of each annotator], on which the official metric is computed.

    bounds_of: video → the bounds of its pieces in seconds, float [n, 2]; None if the file does not contain them.

    Raises:
      UserError: the file name does not identify one split.
    """

    def more_of(video: dict[str, Any], duration_s: float) -> dict[str, str]:
        more = {"domain": as_text(video["domain"])} if as_text(video.get("domain")) else {}
        labels = as_scores(video.get("label"))
        pieces_s = None if labels is None else pieces_of(len(labels), duration_s, bounds_of(video))
        if labels is not None and pieces_s is not None:
            rows = np.concatenate([np.asarray(pieces_s, np.float32), labels], axis=1)
            more["pieces"] = json.dumps(shortest(rows).tolist())
        return more

    add_queries(collector, path, videos, duration_of=_duration, add_scores=add_scores, more_of=more_of)


def labels_of(collector: VideoCollector, where: str, video: dict[str, Any]) -> np.ndarray | None:
    """Returns the scores of a video, float32 [pieces, annotators]; None, and reports it, if there are none."""
    scores = as_scores(video.get("label"))
    if scores is None:
        collector.problems.add("no highlight scores", where, f"label {shown(video.get('label'))}")
    return scores


def _duration(collector: VideoCollector, where: str, video: dict[str, Any]) -> Any:
    """Returns the duration in seconds: as in the file, else from the number of frames, or from that of the labels."""
    told = video.get("duration")
    frames, fps = as_number(video.get("frames")), as_number(video.get("fps"))
    if told is None and frames and fps and fps > 0:
        told = frames / fps
    duration, labels = as_number(told), video.get("label")
    # The common copy of TVSum has the number of 2-second clips in place of the duration.
    if duration and isinstance(labels, list) and "clip" not in video and len(labels) == round(duration) > 2:
        detail = f"duration {shown(told)} for {len(labels)} labels of 2 s: taken as {2 * len(labels)} s"
        collector.problems.add("duration counts clips", where, detail)
        return 2.0 * len(labels)
    return told
