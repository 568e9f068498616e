"""Parser of users' own JSON Lines: {"video", "start", "end", "text"[, "split"][, "duration"]} per segment, or one line
per video with "segments", a list of {"start", "end", "text"}. See docs/annotations.md."""

from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import read_json_lines
from data_pipelines.annotations.own_rows import Row, parse_rows
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.split_names import split_in_name, split_of_subset
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

_LAYOUT = (
    'a line looks like {"video": "clip_1.mp4", "start": 2.5, "end": 7, "text": "A man opens the door."} (or "label" '
    'for class names; "split" and "duration" may follow), or like {"video": "clip_1.mp4", "segments": '
    '[{"start": 2.5, "end": 7, "text": "…"}]}'
)


def parse_jsonl(files: list[Path]) -> ParsedAnnotations:
    """Reads JSON Lines of segments; the texts are per-video queries, or class names where they are "label".

    Raises:
      UserError: a file is missing, has another layout, or neither it nor its name contains the split.
    """
    collector = VideoCollector()
    return parse_rows(collector, [(path, _read(path, collector)) for path in files], _LAYOUT)


def _read(path: Path, collector: VideoCollector) -> list[Row]:
    rows = []
    for where, line in read_json_lines(path, collector.problems, _LAYOUT):
        segments = line.get("segments", [line])
        if (
            not as_text(line.get("video"))
            or not isinstance(segments, list)
            or not all(isinstance(segment, dict) for segment in segments)
            or any(("text" in segment) == ("label" in segment) for segment in segments)
        ):
            raise UserError(f"{path.parent / where}: {_LAYOUT}; this line does not.")
        if not segments:
            split = split_of_subset(line.get("split")) or split_in_name(path) or "train"
            collector.parsed.count(split, 0)
            collector.problems.add("video without usable segments", where)
        of_video = {name: line.get(name) for name in ("video", "split", "duration")}
        rows += [Row(where, {**segment, **of_video}, segment.get("attributes")) for segment in segments]
    return rows
