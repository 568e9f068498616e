"""Parser of users' own JSON Lines: {"video", "start", "end", "text"[, "split"][, "duration"]} per segment, or one line
per video with "segments", a list of {"start", "end", "text"}. Instead of "start" and "end" a text may have "windows", a
list of [start, end], which is empty if its video has no answer to it. See docs/annotations.md."""

from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import read_json_lines
from data_pipelines.annotations.own_rows import ABSENT, Row, parse_rows
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
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
        segments = [
            one
            for number, segment in enumerate(segments)
            for one in _one_per_window(segment, f"{where}.{number}")
        ]
        if not segments:
            split = split_of_subset(line.get("split")) or split_in_name(path) or "train"
            collector.parsed.count(split, 0)
            collector.problems.add("video without usable segments", where)
        of_video = {name: line.get(name) for name in ("video", "split", "duration")}
        rows += [Row(where, {**segment, **of_video}, segment.get("attributes")) for segment in segments]
    return rows


def _one_per_window(segment: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Returns a segment for each window of a text with a list of "windows", or one that says that there are none.

    Several windows of a text are the answers of one query.
    """
    windows = segment.get("windows")
    if not isinstance(windows, list):
        return [segment]
    rest = {name: value for name, value in segment.items() if name != "windows"}
    attributes = rest.get("attributes")
    if len(windows) > 1 and (
        attributes is None or (isinstance(attributes, dict) and "qid" not in attributes)
    ):
        rest["attributes"] = {**(attributes or {}), "query": where}
    if not windows:
        return [rest | {"start": ABSENT, "end": ABSENT}]
    is_pair = lambda window: isinstance(window, list) and len(window) == 2
    pairs = [window if is_pair(window) else [f"no pair: {shown(window)}"] * 2 for window in windows]
    return [rest | {"start": start, "end": end} for start, end in pairs]
