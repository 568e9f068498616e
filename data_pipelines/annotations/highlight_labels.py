"""The layouts of TVSum and YouTube Highlights: every piece of a video has scores, and there are no windows.

One JSON object per video and line (QD-DETR, Lighthouse): {"qid": "<id>", "vid": "<id>", "query": "…", "duration": s,
"label": [[one score per annotator], …]}. Or one JSON object of all videos (UMT, UniVTG): {id: {"anno" or "match": […],
"title" or "domain": "…", "frames": n, "fps": f}}. The split is taken from the file name. The records have no segments:
their texts are the queries, and `saliency` holds the scores.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import as_text, entries, read_json
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.query_lines import Query, add_queries, read_queries
from data_pipelines.annotations.saliency import as_scores, of_pieces
from data_pipelines.annotations.segments import LONGEST_S, RecordMaker, as_number
from unloc_jax.decimals import shortest
from unloc_jax.errors import UserError
from unloc_jax.metrics.highlights import pieces_of


def parse_labels(
    files: list[Path], layout: str, *, with_clips: bool = False, lowest: float = -math.inf
) -> ParsedAnnotations:
    """Reads the files of a dataset; the texts are queries, without segments.

    The texts get the attribute "domain" and, unless the labels are those of 2-second clips, "pieces": JSON rows
    [start_s, end_s, label of each annotator], on which the official metric is computed.

    Args:
      files: the files of all splits.
      layout: a clause that describes their expected content, for messages.
      with_clips: whether "clip" holds the bounds of the labelled pieces, in frames.
      lowest: lower labels become this score.

    Raises:
      UserError: a file is missing, has another layout, or its name does not identify one split.
    """

    def bounds_of(video: dict[str, Any]) -> np.ndarray | None:
        return _bounds_s(video) if with_clips and "clip" in video else None

    def add_scores(collector: VideoCollector, where: str, maker: RecordMaker, video: dict[str, Any]) -> None:
        labels, bounds_s = as_scores(video.get("label")), bounds_of(video)
        if labels is None:
            collector.problems.add("no highlight scores", where, f"label {shown(video.get('label'))}")
            return
        if with_clips and "clip" in video and (bounds_s is None or len(bounds_s) != len(labels)):
            detail = f"{len(labels)} labels for clip {shown(video['clip'])}, fps {shown(video.get('fps'))}"
            collector.problems.add("clips do not fit the labels", where, detail)
            bounds_s = None
        scores = of_pieces(np.maximum(labels, np.float32(lowest)), bounds_s, maker.duration_s)
        maker.add_saliency(video.get("query"), scores)

    def more_of(video: dict[str, Any], duration_s: float) -> dict[str, str]:
        more = {"domain": as_text(video["domain"])} if as_text(video.get("domain")) else {}
        labels = as_scores(video.get("label"))
        pieces_s = None if labels is None else pieces_of(len(labels), duration_s, bounds_of(video))
        if labels is not None and pieces_s is not None:
            rows = np.concatenate([np.asarray(pieces_s, np.float32), labels], axis=1)
            more["pieces"] = json.dumps(shortest(rows).tolist())
        return more

    collector = VideoCollector()
    for path in files:
        videos = _read(path, collector, layout)
        add_queries(collector, path, videos, duration_of=_duration, add_scores=add_scores, more_of=more_of)
    return collector.parsed


def _read(path: Path, collector: VideoCollector, layout: str) -> list[Query]:
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


def _bounds_s(video: dict[str, Any]) -> np.ndarray | None:
    """Returns start and end of the pieces in seconds, float32 [n, 2]; None if "clip" or "fps" is unusable."""
    bounds, fps = as_scores(video["clip"]), as_number(video.get("fps"))
    if bounds is None or bounds.shape[1] != 2 or not fps or fps <= 0:
        return None
    bounds_s = bounds / fps
    return bounds_s if (bounds_s >= 0).all() and (bounds_s <= LONGEST_S).all() else None
