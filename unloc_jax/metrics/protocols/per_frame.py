"""Per-frame mAP at 25 places of every video, as on Charades and MultiTHUMOS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import warn_of
from unloc_jax.metrics.detection import Predictions
from unloc_jax.metrics.per_frame import PLACES, best_scores, frame_average_precisions, place_times
from unloc_jax.metrics.protocols.action_files import (
    Annotations,
    Members,
    database_members,
    read_annotations,
    read_results,
)
from unloc_jax.metrics.protocols.annotated import Annotated
from unloc_jax.metrics.protocols.charades_files import charades_members, frame_scores
from unloc_jax.metrics.protocols.json_files import NUMBER, is_finite, shown
from unloc_jax.names import normal_id


def evaluate_per_frame(
    ground_truth: Path | Annotated,
    predictions: Path,
    *,
    subset: str = "validation",
) -> dict[str, Any]:
    """Returns the mean over classes of the AP over frames, in percent.

    The frames are those at 0, 1/25, …, 24/25 of every video; a segment covers them with its ends included. AP is the
    mean of the precision at each frame of the class; equal scores rank in the order of the ground truth
    (Charades_v1_localize.m).

    Args:
      ground_truth: Charades' own table (.csv); or a database like ActivityNet's with a "duration" for every video; or
        `Annotated` classes.
      predictions: Charades' submission (.txt): video, frame 1 … 25, a score for each class c000, c001, …; or results
        like ActivityNet's, from which a frame has the best score of a segment that covers it.
      subset: of a database, in any case.

    Returns:
      "mAP"; "weighted_mAP", classes weighted by their frames; "per_class_AP"; "videos", "frames". Classes without
      frames do not count. Frames without a prediction score lowest.

    Raises:
      UserError: a file has another format, or a video has no duration.
    """
    durations: dict[str, Any] = {}
    is_charades = isinstance(ground_truth, Path) and ground_truth.suffix.lower() == ".csv"
    members = charades_members(ground_truth) if is_charades else database_members(ground_truth)  # type: ignore[arg-type]
    of = read_annotations(
        ground_truth, "testing" if is_charades else subset, members=_noting_durations(members, durations)
    )
    times_s = place_times(_durations(of, durations))
    num_classes = len(of.classes)
    truth = best_scores(times_s, *of.truth, np.ones(len(of.truth.class_index)), num_classes)
    positive = (truth > 0).reshape(-1, num_classes)
    if not positive.any():
        raise UserError(
            f"{of.path}: no segment covers any of the {PLACES} places of its video; are its times seconds?"
        )
    if predictions.suffix.lower() == ".txt":
        scores = frame_scores(predictions, of)
    else:
        found = read_results(predictions, of)
        known = (found.video_index < of.num_videos) & (found.class_index < num_classes)
        scores = best_scores(times_s, *Predictions(*(column[known] for column in found)), num_classes)
    per_class = 100 * frame_average_precisions(scores.reshape(-1, num_classes), positive)
    weights = positive.sum(axis=0)
    without = [label for label, c in of.classes.items() if not weights[c]]
    warn_of(without, num_classes, f"classes are in none of the {len(positive)} frames: they do not count")
    return {
        "mAP": float(np.nanmean(per_class)),
        "weighted_mAP": float(np.nansum(per_class * weights) / weights.sum()),
        "per_class_AP": {label: float(per_class[c]) for label, c in of.classes.items()},
        "videos": of.num_videos,
        "frames": len(positive),
    }


def _noting_durations(members: Members, durations: dict[str, Any]) -> Iterator[tuple[str, str | None, Any]]:
    for member, video, value in members:
        if video is not None and isinstance(value, dict):
            durations[normal_id(video)] = value.get("duration", value.get("duration_second"))
        yield member, video, value


def _durations(of: Annotations, durations: dict[str, Any]) -> np.ndarray:
    """Returns the durations of the evaluated videos, float64 [V] in s."""
    videos = list(of.videos)[: of.num_videos]
    is_right = lambda value: type(value) in NUMBER and is_finite(value) and value > 0
    wrong = [video for video in videos if not is_right(durations[video])]
    if wrong:
        raise UserError(
            f"{of.path}: {len(wrong)} of {len(videos)} videos have no duration in seconds, which the {PLACES} places"
            f" need; first: {wrong[0]!r}, {shown(durations[wrong[0]])}"
        )
    return np.array([durations[video] for video in videos], np.float64)
