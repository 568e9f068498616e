"""Parser of WebVTT and SubRip cues: captions of what happens, one file per video, named as the video.

A cue is a line "00:00:01.500 --> 00:00:04.000" (hours may be missing; SubRip has a comma) and lines of text until a
blank line. Markup such as <i> is dropped.
"""

import re
from pathlib import Path

from data_pipelines.annotations.clock import segment_in_seconds
from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.own_rows import Row, parse_rows
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.text_file import read_text
from data_pipelines.annotations.tool_rows import row, split_of_export
from unloc_jax.errors import UserError

_LAYOUT = 'a cue looks like the line "00:00:01.500 --> 00:00:04.000" and lines of text below it'
_TIMES = re.compile(r"\s*(\S+)\s+-->\s+(\S+).*")
_MARKUP = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


def parse_subtitles(files: list[Path]) -> ParsedAnnotations:
    """Reads cues as per-video queries.

    Raises:
      UserError: a file is missing, has no cue, or neither its folder nor its name tells the split.
    """
    collector = VideoCollector()
    return parse_rows(collector, [(path, _cues(path)) for path in files], _LAYOUT)


def _cues(path: Path) -> list[Row]:
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    split = split_of_export(path)
    rows = []
    number = 0
    while number < len(lines):
        times = _TIMES.fullmatch(lines[number])
        number += 1
        if not times:
            continue
        where = f"{path.name}:{number}"
        text = []
        while number < len(lines) and lines[number].strip() and not _TIMES.fullmatch(lines[number]):
            text.append(lines[number])
            number += 1
        start, end = segment_in_seconds(times.groups())
        rows.append(row(where, path.stem, (start, end), split, text=_MARKUP.sub("", " ".join(text))))
    if not rows:
        raise UserError(f"{path}: {_LAYOUT}; this file has none.")
    return rows
