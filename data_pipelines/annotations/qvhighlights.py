"""Parser of QVHighlights (highlight_train_release.jsonl, …): one JSON object per query, see `query_lines`.

Also reads other moment retrieval datasets, which are often published in this layout (Charades-STA, TACoS and others by
UniVTG and Lighthouse).
"""

from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.query_lines import add_queries, add_relevant_scores, read_queries

_LAYOUT = (
    'QVHighlights looks like lines {"qid": 2579, "query": "…", "vid": "<id>", "duration": 150, '
    '"relevant_windows": [[82, 150]], "relevant_clip_ids": [41, …], "saliency_scores": [[1, 1, 2], …]}'
)


def parse_qvhighlights(files: list[Path]) -> ParsedAnnotations:
    """Reads QVHighlights files; the texts are per-video queries.

    Raises:
      UserError: a file is missing, has another layout, or its name does not identify one split.
    """
    collector = VideoCollector()
    for path in files:
        add_queries(
            collector,
            path,
            read_queries(path, collector, _LAYOUT),
            duration_of=lambda _, __, query: query.get("duration"),
            add_scores=add_relevant_scores,
        )
    return collector.parsed
