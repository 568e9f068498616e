"""Recall of segments as the evaluator of Ego4D's moment queries counts it (`get_retrieval_performance.py`)."""

from collections.abc import Sequence

import numpy as np

from unloc_jax.metrics.detection import GroundTruth, Predictions, checked
from unloc_jax.metrics.matching import overlapping_pairs
from unloc_jax.metrics.tiou import segment_iou_by_hull

_ANY_OVERLAP = 1e-300  # minimum tIoU of the pairs to consider: more than none


def recall_of_segments(
    ground_truth: GroundTruth,
    predictions: Predictions,
    thresholds: Sequence[float] = (0.3, 0.5, 0.7),
    multiples: Sequence[int] = (1, 5),
) -> dict[str, float]:
    """Returns recall among the first k·n predictions of a (video, class) with n segments: "Recall@kx".

    A segment is found if any of them has tIoU > threshold with it; one prediction may find several. The mean is over
    all segments, not over classes (OpenTAD's and ActionFormer's, see `detection.recall_at_multiples`, is), and the
    order is that of the predictions, not of their scores.

    Returns:
      {"recall@0.30@1": …, "recall@0.30@5": …, …}, in percent.

    Raises:
      UserError: as `detection.detection_map`.
    """
    truth, found = checked(ground_truth, predictions)
    num_classes = 1 + int(max(truth.class_index.max(), found.class_index.max(initial=0)))
    truth_group = truth.video_index * num_classes + truth.class_index
    found_group = found.video_index * num_classes + found.class_index
    pairs = overlapping_pairs(truth_group, truth.segments_s, found_group, found.segments_s, _ANY_OVERLAP)
    iou = segment_iou_by_hull(found.segments_s[pairs.prediction], truth.segments_s[pairs.segment])
    _, group, size = np.unique(truth_group, return_inverse=True, return_counts=True)
    # Each segment is found from this multiple on.
    multiple = _place_in_group(found_group)[pairs.prediction] // size[group][pairs.segment] + 1
    recall = {}
    for threshold in thresholds:
        enough = iou > threshold
        first = np.full(len(truth.class_index), np.iinfo(np.int64).max)
        np.minimum.at(first, pairs.segment[enough], multiple[enough])
        for k in multiples:
            recall[f"recall@{threshold:.2f}@{k}"] = 100 * float(np.mean(first <= k))
    return recall


def not_descending(predictions: Predictions) -> int:
    """Counts the predictions that score higher than the one before them of their video and class."""
    num_classes = 1 + int(np.max(predictions.class_index, initial=0))
    group = np.asarray(predictions.video_index, np.int64) * num_classes + predictions.class_index
    order = np.argsort(group, kind="stable")
    same = group[order][1:] == group[order][:-1]
    return int((same & (np.diff(predictions.score[order]) > 0)).sum())


def _place_in_group(group: np.ndarray) -> np.ndarray:
    """Returns how many earlier rows are of the same group, int [M]; group: int [M]."""
    order = np.argsort(group, kind="stable")
    in_order = group[order]
    place = np.empty_like(order)
    place[order] = np.arange(len(order)) - np.searchsorted(in_order, in_order)
    return place
