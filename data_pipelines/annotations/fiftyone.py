"""Parser of FiftyOne's FiftyOneTemporalDetectionDataset (JSON): temporal detections, as class names.

labels.json is {"classes": ["walk"], "labels": {"<name>": [{"label": 0, "timestamps": [1.5, 4]}]}}, in seconds, where
"label" is a number in "classes" or, without them, a name. In place of "timestamps" it may have "support": [first,
last], in frames, of which the first is 1 and the last is included: then a table with the columns video and fps tells
the rates.
"""

from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.own_rows import Row
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.segments import as_number
from data_pipelines.annotations.tool_rows import parse_framed_exports, row, split_of_export, unknown_rate
from unloc_jax.errors import UserError
from unloc_jax.names import normal_id

_LAYOUT = (
    'FiftyOne\'s temporal detections look like {"classes": ["walk"], "labels": {"a": [{"label": 0, "timestamps": '
    "[1.5, 4]}]}}"
)


def parse_fiftyone(files: list[Path]) -> ParsedAnnotations:
    """Reads temporal detections as class names.

    Raises:
      UserError: a file is missing or not such an export, a frame rate is unknown, or neither the folder nor the name of
        a file tells the split.
    """
    return parse_framed_exports(files, _rows, _LAYOUT)


def _rows(path: Path, collector: VideoCollector, rates: dict[str, float]) -> list[Row]:
    content = read_json(path, collector.problems, _LAYOUT)
    labels = content.get("labels") if isinstance(content, dict) else None
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(labels, dict) or not isinstance(classes, list | None):
        raise UserError(f"{path}: {_LAYOUT}; this file does not.")
    split = split_of_export(path)
    rows = []
    for video, detections in labels.items():
        for number, detection in enumerate(detections if isinstance(detections, list) else ()):
            where = f"{path.name}: {video}, detection {number}"
            if not isinstance(detection, dict) or not {"timestamps", "support"} & detection.keys():
                collector.problems.add("label without times", where, "left out")
                continue
            label = detection.get("label")
            if classes is not None and type(label) is int:
                if not 0 <= label < len(classes):
                    detail = f"label {label} of {len(classes)} classes: the segment is left out"
                    collector.problems.add("unknown class", where, detail)
                    continue
                label = classes[label]
            segment = _seconds(path, video, detection, rates.get(normal_id(video)))
            rows.append(row(where, video, segment, split, label=label))
    if not rows:
        raise UserError(f"{path}: there are no temporal detections in this file. {_LAYOUT}.")
    return rows


def _seconds(path: Path, video: str, detection: dict[str, Any], fps: float | None) -> tuple[Any, Any]:
    """Returns start and end in seconds; what is not a number stays as it is, to be reported."""
    name = "timestamps" if "timestamps" in detection else "support"
    times = detection[name]
    if not isinstance(times, list) or len(times) != 2:
        return shown(times), None
    if name == "timestamps":
        return times[0], times[1]
    if fps is None:
        raise unknown_rate(path, video)
    first, last = map(as_number, times)
    return (shown(times), None) if first is None or last is None else ((first - 1) / fps, last / fps)
