"""YouTube Highlights: a label (1: highlight, 0 or -1: none) for every piece of about 100 frames; a video's domain
("dog", "surfing", …) is its query. See `highlight_labels`.

"clip" says where the pieces are, in frames; most overlap their neighbours by half.
"""

from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.highlight_labels import add_labels, labels_of, read_labels
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.saliency import as_scores, of_pieces
from data_pipelines.annotations.segments import LONGEST_S, RecordMaker, as_number

_LAYOUT = (
    'YouTube Highlights looks like lines {"qid": "<id>", "query": "dog", "duration": 106.5, "vid": "<id>", '
    '"label": [[0], [1], …], "frames": 3196, "fps": 30.0, "clip": [[0, 102], [50, 150], …]}'
)


def parse_youtube_highlights(files: list[Path]) -> ParsedAnnotations:
    """Reads YouTube Highlights files; the texts are queries (domains), without segments.

    Raises:
      UserError: a file is missing, has another layout, or its name does not tell one split.
    """
    collector = VideoCollector()
    for path in files:
        add_labels(
            collector,
            path,
            read_labels(path, collector, _LAYOUT),
            add_scores=_add_scores,
            bounds_of=lambda video: _bounds_s(video) if "clip" in video else None,
        )
    return collector.parsed


def _add_scores(collector: VideoCollector, where: str, maker: RecordMaker, video: dict[str, Any]) -> None:
    labels = labels_of(collector, where, video)
    if labels is None:
        return
    labels = np.maximum(labels, 0)  # in the original, -1 is a piece that only some found to be a highlight
    bounds_s = None
    if "clip" in video:
        bounds_s = _bounds_s(video)
        if bounds_s is None or len(bounds_s) != len(labels):
            detail = f"{len(labels)} labels for clip {shown(video['clip'])}, fps {shown(video.get('fps'))}"
            collector.problems.add("clips do not fit the labels", where, detail)
            bounds_s = None
    maker.add_saliency(video.get("query"), of_pieces(labels, bounds_s, maker.duration_s))


def _bounds_s(video: dict[str, Any]) -> np.ndarray | None:
    """float [n, 2]: where the pieces are, in seconds."""
    bounds, fps = as_scores(video["clip"]), as_number(video.get("fps"))
    if bounds is None or bounds.shape[1] != 2 or not fps or fps <= 0:
        return None
    bounds_s = bounds / fps
    return bounds_s if (bounds_s >= 0).all() and (bounds_s <= LONGEST_S).all() else None
