"""TVSum: 20 annotators' scores (1 to 5) for every 2 seconds; a video's title is its query. See `highlight_labels`."""

from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.highlight_labels import add_labels, labels_of, read_labels
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.saliency import of_pieces
from data_pipelines.annotations.segments import RecordMaker

_LAYOUT = (
    'TVSum looks like lines {"qid": "<id>", "query": "…", "duration": 149, "vid": "<id>", "label": '
    "[[1.0, 3.0, …], …]}, with a score of every annotator for every 2 seconds"
)


def parse_tvsum(files: list[Path]) -> ParsedAnnotations:
    """Reads TVSum files; the texts are queries (titles), without segments.

    Raises:
      UserError: a file is missing, has another layout, or its name does not tell one split.
    """
    collector = VideoCollector()
    for path in files:
        add_labels(collector, path, read_labels(path, collector, _LAYOUT), add_scores=_add_scores)
    return collector.parsed


def _add_scores(collector: VideoCollector, where: str, maker: RecordMaker, video: dict[str, Any]) -> None:
    scores = labels_of(collector, where, video)
    if scores is not None:
        maker.add_saliency(video.get("query"), of_pieces(scores, None, maker.duration_s))
