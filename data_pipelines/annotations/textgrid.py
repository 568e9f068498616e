"""Parser of Praat's TextGrid, in its long and short text forms: intervals of all tiers, as class names.

One file per video, named as the video. As in Praat, only free-standing numbers, texts in quotes and flags count. Points
have no length; intervals without text are pauses.
"""

import re
from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.own_rows import Row, parse_rows
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.text_file import read_text
from data_pipelines.annotations.tool_rows import row, split_of_export
from unloc_jax.errors import UserError

_LAYOUT = (
    'a TextGrid begins with File type = "ooTextFile", Object class = "TextGrid", and has tiers of intervals'
)
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\S)')


def parse_textgrid(files: list[Path]) -> ParsedAnnotations:
    """Reads intervals as class names.

    Raises:
      UserError: a file is missing or no TextGrid, or neither its folder nor its name tells the split.
    """
    collector = VideoCollector()
    return parse_rows(collector, [(path, _rows(path, collector)) for path in files], _LAYOUT)


def _rows(path: Path, collector: VideoCollector) -> list[Row]:
    tokens = [
        number if number else text.replace('""', '"') for text, number in _TOKEN.findall(read_text(path))
    ]
    texts = iter(tokens)
    rows = []
    split = split_of_export(path)
    try:
        if (next(texts), next(texts)) != ("ooTextFile", "TextGrid"):
            raise UserError(f"{path}: {_LAYOUT}; this file does not.")
        _, duration, num_tiers = float(next(texts)), float(next(texts)), int(next(texts))
        for _ in range(num_tiers):
            kind, name = next(texts), next(texts)
            _, _, count = next(texts), next(texts), int(next(texts))
            for number in range(1, count + 1):
                where = f"{path.name}: tier {name}, {number}"
                if kind != "IntervalTier":
                    collector.problems.add("point without length", where, f"{next(texts)}, {next(texts)!r}")
                    continue
                start, end, label = next(texts), next(texts), next(texts)
                if label.strip():
                    rows.append(row(where, path.stem, (start, end), split, duration=duration, label=label))
    except (StopIteration, ValueError) as error:
        raise UserError(
            f"{path}: {_LAYOUT}; this file ends too early, or has a text in place of a number."
        ) from error
    if not rows:
        raise UserError(f"{path}: no interval of this file has a text. {_LAYOUT}.")
    return rows
