"""ActivityNet 1.3, in its two layouts.

Official: {"database": {id: {"duration": s, "subset": "training", "annotations": [{"segment": [s, s], "label":
"…"}]}}}. BMN's copy, which many feature sets ship with: {id: {"duration_second": s, "annotations": […]}}. It
does not say the subsets; BMN keeps them in video_info_new.csv (columns video, …, subset, …), which may be
given as a further file.
"""

import csv
from pathlib import Path
from typing import Any

from data_pipelines.annotations.json_file import read_json, read_text
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import Problems
from data_pipelines.annotations.segments import RecordMaker
from data_pipelines.annotations.split_names import split_of_subset
from unloc_jax.errors import UserError

_LAYOUT = (
    'ActivityNet 1.3 looks like {"database": {"<id>": {"duration": 82.73, "subset": "training", '
    '"annotations": [{"segment": [6.2, 77.7], "label": "Ballet"}]}}}, or the same without "database"'
)


def parse_activitynet(files: list[Path]) -> ParsedAnnotations:
    """Reads ActivityNet 1.3 files; the texts are class names.

    A video whose subset is not known is put into "train" and reported: evaluating on it by mistake would be
    worse.

    Raises:
      UserError: a file is missing, is not JSON (or a CSV of subsets), or has another layout.
    """
    parsed = ParsedAnnotations(records=[], problems=Problems(), classes=None)
    subsets: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() == ".csv":
            subsets |= _read_subsets(path)
    seen: dict[str, str] = {}
    classes: set[str] = set()
    annotation_files = [path for path in files if path.suffix.lower() != ".csv"]
    if not annotation_files:
        raise UserError(
            f"{files[0]}: this file only tells the subsets; give the JSON file with the segments as well."
        )
    for path in annotation_files:
        for video_id, video in _read_videos(path, parsed.problems).items():
            where = f"{path.name}: {video_id}"
            annotations = video.get("annotations", []) if isinstance(video, dict) else None
            if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
                raise UserError(f'{path}: {_LAYOUT}; the entry "{video_id}" does not.')
            parsed.num_videos += 1
            parsed.num_segments += len(annotations)
            if video_id in seen:
                parsed.problems.add("duplicate id", where, f"also in {seen[video_id]}; the first is used")
                continue
            seen[video_id] = path.name
            subset = video.get("subset", subsets.get(video_id))
            split = split_of_subset(subset)
            if split is None and annotations:
                parsed.problems.add("unknown subset", where, f"subset {subset!r}; put into train")
            duration = video.get("duration", video.get("duration_second"))
            maker = RecordMaker(
                video_id, duration, split or "train", where, parsed.problems, text_name="label"
            )
            for annotation in annotations:
                maker.add(annotation.get("segment"), annotation.get("label"))
            record = maker.finish()
            if record is not None:
                parsed.records.append(record)
                classes.update(record.texts)
    parsed.classes = sorted(classes)
    return parsed


def _read_videos(path: Path, problems: Problems) -> dict[str, Any]:
    content = read_json(path, problems)
    videos = content.get("database", content) if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise UserError(f"{path}: {_LAYOUT}; this file does not.")
    return videos


def _read_subsets(path: Path) -> dict[str, str]:
    """Video id → subset, from a CSV with the columns "video" and "subset"."""
    rows = csv.DictReader(read_text(path).splitlines())
    if not {"video", "subset"} <= set(rows.fieldnames or ()):
        raise UserError(
            f'{path}: a CSV of subsets needs the columns "video" and "subset"; has {rows.fieldnames}.'
        )
    return {row["video"]: row["subset"] for row in rows}
