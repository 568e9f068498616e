"""Temporal action localisation as on ActivityNet (for THUMOS14 see `thumos14`): detections and proposals."""

from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import warn, warn_of_no_hit
from unloc_jax.metrics.detection import (
    ACTIVITYNET_TIOU,
    GroundTruth,
    Predictions,
    detection_map,
    recall_at_multiples,
)
from unloc_jax.metrics.ego4d import not_descending, recall_of_segments
from unloc_jax.metrics.proposals import average_recall
from unloc_jax.metrics.protocols.action_files import (
    Annotations,
    labelled_members,
    read_annotations,
    read_results,
)
from unloc_jax.metrics.protocols.annotated import Annotated
from unloc_jax.metrics.thresholds import thresholds_of

WITHOUT_DUPLICATES = ("opentad", "actionformer")
NEAR_S = 1e-3  # OpenTAD: segments of one class whose starts and ends differ by at most this are one


def evaluate_activitynet(
    ground_truth: Path | Annotated,
    predictions: Path,
    *,
    variant: str = "official",
    subset: str = "validation",
    blocked_videos: Path | None = None,
    proposals: bool = False,
    tiou: str | None = None,
) -> dict[str, Any]:
    """Evaluates detections in ActivityNet's format, in percent.

    Args:
      ground_truth, predictions: JSON files, see `action_files`; a ground truth may be `Annotated` classes.
      variant: "official"; "opentad": without ground-truth segments that are empty or repeated, an empty
        prediction never hits, and recall@t@k, the share of segments found among the best k·n predictions of
        their video and class, n being its number of segments; mean over classes; "actionformer", the same
        except for the thresholds' last bits; or "ego4d": "official" at decimal thresholds, with the recall of Ego4D's
        moment queries (`unloc_jax.metrics.ego4d`) at tIoU 0.3, 0.5, 0.7.
      subset: of the ground truth, in any case.
      blocked_videos: JSON list of video ids to leave out everywhere.
      proposals: ignore labels and evaluate proposals: AR@1, AR@5, AR@10, AR@100 and the AUC of average
        recall over average number of proposals per video (up to 100).
      tiou: thresholds, "0.1:0.1:0.5" (first, step, last) or "0.3,0.5,0.7"; None: ActivityNet's.

    tIoU thresholds are 0.5:0.05:0.95 from linspace (its 0.9 is 0.8999999999999999); OpenTAD's are decimals.

    Returns:
      "average_mAP", "mAP@0.50", …; "per_class_AP" {label: one per threshold}, "tiou_thresholds";
      "videos", "ground_truth_segments", "predictions": how many were evaluated. With `proposals`, "AUC" and
      "AR@1", … replace the mAPs.
    """
    if variant not in ("official", "ego4d", *WITHOUT_DUPLICATES):
        raise UserError(
            f"activitynet has the variants official, opentad, actionformer and ego4d, not {variant!r}"
        )
    thresholds = thresholds_of(tiou, ACTIVITYNET_TIOU)
    if variant in ("opentad", "ego4d"):
        thresholds = np.round(thresholds, 2)
    annotations = read_annotations(ground_truth, subset, blocked_videos)
    found = read_results(
        predictions, annotations, labels=not proposals, members=labelled_members(predictions, ground_truth)
    )
    if proposals:
        truth = without_duplicates(annotations.truth) if variant in WITHOUT_DUPLICATES else annotations.truth
        recall = average_recall(truth, found, thresholds)
        if not recall["AUC"]:
            warn_of_no_hit(found.segments_s, truth.segments_s)
        return {**recall, **counts(annotations, truth, found)}
    return detection_metrics(annotations, found, thresholds, variant)


def detection_metrics(
    annotations: Annotations, found: Predictions, thresholds: np.ndarray, variant: str
) -> dict[str, Any]:
    """Returns what `evaluate_activitynet` does; thresholds: float64 [T], tIoU."""
    deduplicated = variant in WITHOUT_DUPLICATES
    truth = without_duplicates(annotations.truth) if deduplicated else annotations.truth
    result = detection_map(truth, found, thresholds, empty_pairs_hit=not deduplicated)
    if result["tied_predictions"]:
        warn(
            f"{result['tied_predictions']} of {len(found.score)} predictions share their score with another one of"
            f" their class: which comes first depends on NumPy's sort and the processor, here as in the official"
            f" evaluator"
        )
    if not result["average_mAP"]:
        warn_of_no_hit(found.segments_s, truth.segments_s)
    metrics = {
        name: value for name, value in result.items() if name == "average_mAP" or name.startswith("mAP@")
    }
    if deduplicated:
        metrics |= recall_at_multiples(truth, found, thresholds)
    if variant == "ego4d":
        metrics |= recall_of_segments(truth, found)
        if unsorted := not_descending(found):
            warn(
                f"{unsorted} of {len(found.score)} predictions score higher than the one before them of their video and"
                " class: recall@1 and @5 take them in their given order, as Ego4D's evaluator does"
            )
    return {
        **metrics,
        "per_class_AP": by_label(annotations, result["per_class_AP"]),
        **rounded_thresholds(thresholds),
        **counts(annotations, truth, found),
    }


def without_duplicates(truth: GroundTruth) -> GroundTruth:
    """Removes empty segments, and those that repeat an earlier one of their video and class (OpenTAD)."""
    kept: dict[tuple[int, int], list[tuple[float, float]]] = {}
    keep = []
    for video, label, (start, end) in zip(truth.video_index, truth.class_index, truth.segments_s.tolist()):
        earlier = kept.setdefault((video, label), [])
        near = any(abs(start - s) <= NEAR_S and abs(end - e) <= NEAR_S for s, e in earlier)
        keep.append(end - start > 0 and not near)
        if keep[-1]:
            earlier.append((start, end))
    return GroundTruth(*(column[np.array(keep)] for column in truth))


def by_label(annotations: Annotations, per_class_ap: np.ndarray) -> dict[str, list[float]]:
    """Returns label → AP per threshold, from float [C, T] in percent."""
    return {label: per_class_ap[i].tolist() for label, i in annotations.classes.items()}


def rounded_thresholds(thresholds: np.ndarray) -> dict[str, list[float]]:
    """Rounds the thresholds, float [T]: 0.39999999999999997 becomes 0.4."""
    return {"tiou_thresholds": [round(float(t), 10) for t in thresholds]}


def counts(annotations: Annotations, truth: GroundTruth, found: Predictions) -> dict[str, int]:
    return {
        "videos": annotations.num_videos,
        "ground_truth_segments": len(truth.class_index),
        "predictions": len(found.score),
    }
