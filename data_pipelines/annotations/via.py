"""Parser of projects of the VGG Image Annotator 3 for video (JSON): temporal segments, as class names.

"metadata" has {"vid": "1", "z": [start, end], "av": {attribute: value}}, in seconds; "view" and "file" tell the name of
a video, "attribute" the options of a value.
"""

from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.own_rows import Row, parse_rows
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.tool_rows import row, split_of_export
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

_LAYOUT = (
    'a VIA 3 project looks like {"file": {"1": {"fname": "a.mp4"}}, "view": {"1": {"fid_list": ["1"]}}, "attribute": '
    '{"1": {"options": {"0": "walk"}}}, "metadata": {"1_a": {"vid": "1", "z": [1.5, 4], "av": {"1": "0"}}}}'
)


def parse_via(files: list[Path]) -> ParsedAnnotations:
    """Reads temporal segments as class names; what has one time is a point, and is left out.

    Raises:
      UserError: a file is missing or not VIA's, or neither its folder nor its name tells the split.
    """
    collector = VideoCollector()
    return parse_rows(collector, [(path, _rows(path, collector)) for path in files], _LAYOUT)


def _rows(path: Path, collector: VideoCollector) -> list[Row]:
    content = read_json(path, collector.problems, _LAYOUT)
    parts = [content.get(name) if isinstance(content, dict) else None for name in ("file", "metadata")]
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path}: {_LAYOUT}; this file does not.")
    split = split_of_export(path)
    rows = []
    for name, segment in content["metadata"].items():
        where = f"{path.name}: {name}"
        times, values = (segment.get("z"), segment.get("av")) if isinstance(segment, dict) else (None, None)
        if not isinstance(times, list) or not isinstance(values, dict):
            raise UserError(f"{path}: {_LAYOUT}; the metadata {name!r} do not.")
        video = _name(content, segment.get("vid"))
        if len(times) < 2:
            collector.problems.add("point without length", where, "left out")
        for attribute, value in values.items() if len(times) >= 2 else ():
            label = _part(content, "attribute", attribute, "options").get(as_text(value), value)
            rows.append(row(where, video, (times[0], times[-1]), split, label=label))
    if not rows:
        raise UserError(f"{path}: there are no temporal segments in this file. {_LAYOUT}.")
    return rows


def _name(content: dict[str, Any], view: Any) -> str:
    """Returns the name of the video that a view shows, "" if unknown."""
    views = content.get("view")
    shown = views.get(as_text(view)) if isinstance(views, dict) else None
    files = shown.get("fid_list") if isinstance(shown, dict) else [view]
    file = content["file"].get(as_text(files[0])) if isinstance(files, list) and files else None
    return as_text(file.get("fname")).rpartition("/")[2] if isinstance(file, dict) else ""


def _part(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Returns the object at a path of keys, {} if there is none."""
    for key in keys:
        found = content.get(key)
        content = found if isinstance(found, dict) else {}
    return content
