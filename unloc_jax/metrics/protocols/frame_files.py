"""Labels of frames: JSON lines or one JSON list of objects, or MS-TCN's folders of text files.

    {"video_id": …, "labels": [label of each frame]}     ground truth and predictions
    {"video_id": …, "scores": [[score of each class] of each frame]}     predictions
    "times_s": [seconds of each frame], needed if the ground truth has segments (see `coin_files`)

The id may also be "vid" or "seq". For "labels", a ground truth may use "gt" and a prediction "pred", so that one
file can be both.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems, warn
from unloc_jax.metrics.protocols.json_files import NUMBER, hint_of_format, is_finite, read_rows, read_text
from unloc_jax.names import normal_id


@dataclasses.dataclass(frozen=True)
class FrameLabels:
    """One video: labels of its T frames, or None; scores float64 [T, C], or None; times in s, float64 [T], or None."""

    labels: list[int] | list[str] | None
    scores: np.ndarray | None
    times_s: np.ndarray | None = None


def read_frame_labels(path: Path, *, predictions: bool) -> dict[str, FrameLabels]:
    """Reads video id → labels, in the file's order.

    Raises:
      UserError: another format, wrong types, or scores that are not finite.
    """
    rows = _text_files(path, predictions) if path.is_dir() else read_rows(path)
    name = "pred" if predictions else "gt"
    problems = Problems(path, "videos")
    videos: dict[str, FrameLabels] = {}
    repeated = 0
    for where, row in rows:
        problems.seen += 1
        video: Any = next((row[key] for key in ("video_id", "vid", "seq") if key in row), None)
        labels = row.get(name, row.get("labels"))
        scores, wrong = _scores(row.get("scores")) if predictions else (None, "")
        if not isinstance(video, str | int):
            wrong = wrong or f'"video_id" is missing{hint_of_format(row, name, "labels")}'
        if labels is None and scores is None:
            wrong = wrong or f'"labels" are missing{hint_of_format(row)}'
        wrong = wrong or _what_is_wrong(labels)
        times_s, wrong_times = _times_s(row.get("times_s"), labels)
        wrong = wrong or wrong_times
        if wrong:
            problems.add(where, wrong)
            continue
        video_id = normal_id(video)
        repeated += video_id in videos
        videos[video_id] = FrameLabels(labels, scores, times_s)
    problems.refuse()
    if repeated:
        warn(f"{repeated} videos of {path} occur twice: the last one counts")
    return videos


def _what_is_wrong(labels: Any) -> str:
    if labels is None:
        return ""
    if not isinstance(labels, list) or not labels:
        return "its labels must be a list, one per frame"
    kinds = set(map(type, labels))
    return "" if kinds in ({int}, {str}) else "its labels must be all whole numbers or all strings"


def _times_s(given: Any, labels: Any) -> tuple[np.ndarray | None, str]:
    """Returns the times float64 [T] in s, or None, and a description of what is wrong, or ''."""
    if given is None:
        return None, ""
    right = isinstance(given, list) and set(map(type, given)) <= NUMBER and all(map(is_finite, given))
    if not right or not isinstance(labels, list) or len(given) != len(labels):
        return None, '"times_s" must be one finite number per label'
    return np.array(given, np.float64), ""


def _scores(given: Any) -> tuple[np.ndarray | None, str]:
    """Returns the scores float64 [T, C], or None, and a description of what is wrong, or ''."""
    if given is None:
        return None, ""
    try:
        scores = np.array(given, np.float64)
    except (TypeError, ValueError):
        scores = np.zeros(0)
    if scores.ndim != 2 or not scores.size:
        return None, '"scores" must be one list of numbers per frame, all of one length'
    if not np.isfinite(scores).all():
        return None, '"scores" has a number that is not finite'
    return scores, ""


def _text_files(folder: Path, predictions: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Reads groundTruth/VIDEO.txt, one label per line, or results/VIDEO, a title and one line of all labels."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not paths:
        raise UserError(f"{folder}: there are no files in it")
    for path in paths:
        text = read_text(path)
        if predictions and text.startswith("#"):
            text = text.partition("\n")[2]
        yield path.name, {"video_id": path.name.removesuffix(".txt"), "labels": text.split()}
