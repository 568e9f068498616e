"""Parser of YouTube Highlights: a label (1: highlight, 0 or -1: none) for every piece of about 100 frames.

A video's domain ("dog", "surfing", …) is its query. "clip" holds the pieces' bounds in frames; most pieces overlap
their neighbours by half. See `highlight_labels`.
"""

from pathlib import Path

from data_pipelines.annotations.highlight_labels import parse_labels
from data_pipelines.annotations.parsed import ParsedAnnotations

_LAYOUT = (
    'YouTube Highlights looks like lines {"qid": "<id>", "query": "dog", "duration": 106.5, "vid": "<id>", '
    '"label": [[0], [1], …], "frames": 3196, "fps": 30.0, "clip": [[0, 102], [50, 150], …]}'
)


def parse_youtube_highlights(files: list[Path]) -> ParsedAnnotations:
    """Reads YouTube Highlights files; the texts are queries (domains), without segments.

    Raises:
      UserError: a file is missing, has another layout, or its name does not identify one split.
    """
    # In the original, -1 marks a piece that only some annotators found to be a highlight.
    return parse_labels(files, _LAYOUT, with_clips=True, lowest=0.0)
