"""Parser of TVSum: 20 annotators' scores (1 to 5) for every 2 seconds; a video's title is its query.

See `highlight_labels`.
"""

from pathlib import Path

from data_pipelines.annotations.highlight_labels import parse_labels
from data_pipelines.annotations.parsed import ParsedAnnotations

_LAYOUT = (
    'TVSum looks like lines {"qid": "<id>", "query": "…", "duration": 149, "vid": "<id>", "label": '
    "[[1.0, 3.0, …], …]}, with a score of every annotator for every 2 seconds"
)


def parse_tvsum(files: list[Path]) -> ParsedAnnotations:
    """Reads TVSum files; the texts are queries (titles), without segments.

    Raises:
      UserError: a file is missing, has another layout, or its name does not identify one split.
    """
    return parse_labels(files, _LAYOUT)
