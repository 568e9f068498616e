"""Scores of another program's video classifier, to multiply those of action localisation with.

ActivityNet's published numbers of ActionFormer, OpenTAD and others are such products.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json
from unloc_jax.names import normal_id, normal_text
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import SplitPredictions


def read_classifier_scores(path: Path, records: Sequence[VideoRecord], classes: Sequence[str]) -> np.ndarray:
    """Reads scores float32 [videos, classes], in the order of records and classes; 1 for videos that the file lacks.

    Args:
      path: JSON: {"class": [C names], "results": {video id: [C scores]}} (the file of CUHK's classifier, which
        ActionFormer and OpenTAD read), or {video id: {class name: score}}. An id may lack its "v_".
      records: the videos.
      classes: the model's; a class that the file does not name scores 0.

    Raises:
      UserError: a file of another form, a score that is not a number ≥ 0, or no known video or class.
    """
    try:
        content = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--classifier-scores={path} cannot be read: {error}.") from error
    by_video, names = _by_name(content, path), list(map(normal_text, classes))
    scores = np.ones((len(records), len(classes)), np.float32)
    missing, unknown = [], set()
    for row, record in enumerate(records):
        name = normal_id(record.video_id)
        of_video = by_video.get(name, by_video.get(name.removeprefix("v_")))
        if of_video is None:
            missing.append(record.video_id)
            continue
        unknown |= of_video.keys() - set(names)
        scores[row] = [_number(of_video.get(name, 0.0), path, record.video_id, name) for name in names]
    known = {name for of_video in by_video.values() for name in of_video} & set(names)
    if len(missing) == len(records) or not known:
        what = "videos" if len(missing) == len(records) else "classes"
        raise UserError(f"--classifier-scores={path} names none of the {what} of this split.")
    if missing:
        show(
            f"note: {path.name} has no scores for {len(missing)} of {len(records)} videos, such as {missing[0]}; "
            "theirs stay as they are",
            file=sys.stderr,
        )
    if unknown:
        show(
            f"note: {len(unknown)} classes of {path.name}, such as {min(unknown)!r}, are none of the model's",
            file=sys.stderr,
        )
    return scores


def multiplied(predictions: SplitPredictions, scores: np.ndarray) -> SplitPredictions:
    """Multiplies the scores of a vocabulary task, in place, by scores [videos, classes]; returns `predictions`."""
    predictions.scores = [of_video * row[:, None] for of_video, row in zip(predictions.scores, scores)]
    return predictions


def _by_name(content: Any, path: Path) -> dict[str, dict[str, Any]]:
    """Returns {video id: {class name: score}}."""
    forms = '{"class": […], "results": {VIDEO: […]}} or {VIDEO: {CLASS: SCORE}}'
    form = f"--classifier-scores={path}: must be {forms}."
    if not isinstance(content, dict):
        raise UserError(form)
    if not {"class", "results"} <= content.keys():
        if not all(isinstance(of_video, dict) for of_video in content.values()):
            raise UserError(form)
        return {
            normal_id(video): {normal_text(name): score for name, score in of_video.items()}
            for video, of_video in content.items()
        }
    names, results = content["class"], content["results"]
    if not isinstance(names, list) or not isinstance(results, dict):
        raise UserError(form)
    for video, row in results.items():
        if not isinstance(row, list) or len(row) != len(names):
            raise UserError(
                f"--classifier-scores={path}: {video} must have {len(names)} scores, one per class."
            )
    names = [normal_text(str(name)) for name in names]
    return {normal_id(video): dict(zip(names, row)) for video, row in results.items()}


def _number(value: Any, path: Path, video: str, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise UserError(
            f"--classifier-scores={path}: {video}, {name!r}: {value!r} is not a score; give a number ≥ 0."
        )
    return float(value)
