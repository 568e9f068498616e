"""Parser of Label Studio's JSON export: labels of a video's timeline, or of its sound, as class names.

A list of tasks {"data": {"video": "/data/upload/1/3d3ad63e-a.mp4"}, "annotations": [{"result": […]}]}. A result of
TimelineLabels is {"value": {"ranges": [{"start": 5, "end": 15}], "timelinelabels": ["walk"]}}, in frames, of which the
first is 1 and the last is included; one of Labels on sound {"value": {"start": 1.5, "end": 4, "labels": ["walk"]}}, in
seconds. The export lacks frame rates: a table with the columns video and fps tells them, or the task's data ("fps").
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.own_rows import Row
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.segments import as_number
from data_pipelines.annotations.tool_rows import (
    as_frame_rate,
    parse_framed_exports,
    row,
    split_of_export,
    unknown_rate,
)
from unloc_jax.errors import UserError
from unloc_jax.names import as_text, normal_id

_LAYOUT = (
    'Label Studio\'s JSON looks like [{"data": {"video": "/data/upload/1/3d3ad63e-a.mp4"}, "annotations": [{"result": '
    '[{"value": {"ranges": [{"start": 5, "end": 15}], "timelinelabels": ["walk"]}}]}]}]'
)
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")
_MEDIA = ("video", "video_url", "audio")
_LABELS = ("timelinelabels", "labels")


def parse_label_studio(files: list[Path]) -> ParsedAnnotations:
    """Reads labels as class names; annotations that were cancelled are left out.

    Raises:
      UserError: a file is missing or not Label Studio's, a frame rate is unknown, or neither the folder nor the name of
        a file tells the split.
    """
    return parse_framed_exports(files, _rows, _LAYOUT)


def _rows(path: Path, collector: VideoCollector, rates: dict[str, float]) -> Iterator[Row]:
    tasks = read_json(path, collector.problems, _LAYOUT)
    if not isinstance(tasks, list) or not tasks:
        raise UserError(f"{path}: {_LAYOUT}; this file does not.")
    split = split_of_export(path)
    for number, task in enumerate(tasks, 1):
        data, annotations = (
            (task.get("data"), task.get("annotations")) if isinstance(task, dict) else (None, None)
        )
        address = _address(data)
        if not address or not isinstance(data, dict) or not isinstance(annotations, list):
            raise UserError(f"{path}: {_LAYOUT}; task {number} does not.")
        name = address.partition("?")[0].rpartition("/")[2]
        video = _UPLOAD.sub("", name, count=1) if _UPLOAD.match(name) else name
        fps = rates.get(normal_id(video), as_frame_rate(data.get("fps")))
        where = f"{path.name}: task {number}"
        for value in _values(annotations):
            labels: list[Any] = next((value[key] for key in _LABELS if isinstance(value.get(key), list)), [])
            ranges = value.get("ranges")
            if not isinstance(ranges, list) and "start" not in value:
                collector.problems.add("label without times", where, "such as a box; left out")
                continue
            if isinstance(ranges, list) and fps is None:
                raise unknown_rate(path, video)
            for segment in _segments(value, fps):
                for label in labels:
                    yield row(where, video, segment, split, label=label)


def _address(data: Any) -> str:
    """Returns the address of a task's video, "" if there is none."""
    return (
        next(filter(None, (as_text(data.get(key)) for key in _MEDIA)), "") if isinstance(data, dict) else ""
    )


def _values(annotations: list[Any]) -> Iterator[dict[str, Any]]:
    for annotation in annotations:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        results = annotation.get("result")
        for result in results if isinstance(results, list) else ():
            if isinstance(result, dict) and isinstance(result.get("value"), dict):
                yield result["value"]


def _segments(value: dict[str, Any], fps: float | None) -> Iterator[tuple[Any, Any]]:
    """Yields start and end in seconds; what is not a number stays as it is, to be reported."""
    ranges = value.get("ranges")
    if not isinstance(ranges, list):
        yield value.get("start"), value.get("end")
        return
    for of in ranges:
        first, last = (as_number(of.get(name)) if isinstance(of, dict) else None for name in ("start", "end"))
        if first is None or last is None or fps is None:
            yield str(of), None
        else:
            yield (first - 1) / fps, last / fps
