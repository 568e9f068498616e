"""Mean average precision as the MATLAB devkit of THUMOS14 computes it (`TH14evalDet.m`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unloc_jax.metrics.detection import GroundTruth, Predictions, checked, mean_over_classes
from unloc_jax.metrics.matching import count_ties, greedy_matches, overlapping_pairs
from unloc_jax.metrics.tiou import segment_iou_by_hull

DEVKIT_TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

_ANY_OVERLAP = 1e-300  # minimum tIoU of the pairs to consider: more than none


def devkit_map(
    ground_truth: GroundTruth,
    predictions: Predictions,
    ambiguous: GroundTruth,
    thresholds: Sequence[float] = DEVKIT_TIOU,
) -> dict[str, Any]:
    """Computes mAP in percent. It differs from ActivityNet's (`detection_map`):

      Each ground-truth segment, in its given order, takes the free detection of its video and class that
      overlaps it most (there, each detection takes a segment), if tIoU > threshold (there, ≥).
      A detection that hits nothing and overlaps an ambiguous region of its video does not count.
      AP is the mean over ground-truth segments of the precision where they are found, not interpolated.
      Equal scores rank by video index, then in the given order.
      A reversed detection (start > end) is turned round; one without length overlaps nothing.

    Args:
      ground_truth, predictions: as in `detection_map`.
      ambiguous: regions to ignore, of any class.
      thresholds: tIoU.

    Returns and raises as `detection_map`; also "ambiguous_predictions" int [T], the number that did not count.
    """
    truth, found = checked(ground_truth, predictions)
    regions = GroundTruth(*(np.asarray(column) for column in ambiguous))
    num_classes = 1 + int(max(truth.class_index.max(), found.class_index.max(initial=0)))
    per_class = np.bincount(truth.class_index, minlength=num_classes)
    order = np.lexsort((found.video_index, -found.score, found.class_index))
    found = Predictions(*(column[order] for column in found))
    segments_s = np.sort(found.segments_s, axis=1)
    starts = np.searchsorted(found.class_index, np.arange(num_classes + 1))

    touching = overlapping_pairs(
        regions.video_index, regions.segments_s, found.video_index, segments_s, _ANY_OVERLAP
    )
    in_region = np.zeros(len(order), bool)
    in_region[touching.prediction] = True

    pairs = overlapping_pairs(
        truth.video_index * num_classes + truth.class_index,
        truth.segments_s,
        found.video_index * num_classes + found.class_index,
        segments_s,
        _ANY_OVERLAP,
    )
    iou = segment_iou_by_hull(segments_s[pairs.prediction], truth.segments_s[pairs.segment])
    by_wish = np.lexsort((pairs.prediction, -iou, pairs.segment))
    segment, detection, iou = pairs.segment[by_wish], pairs.prediction[by_wish], iou[by_wish]
    per_class_ap = np.full((num_classes, len(thresholds)), np.nan)
    left_out = []
    for column, threshold in enumerate(thresholds):
        enough = iou > threshold
        hit = greedy_matches(segment[enough], detection[enough], len(order)) >= 0
        counts = hit | ~in_region
        left_out.append(int((~counts).sum()))
        position = np.concatenate([[0], np.cumsum(counts)])
        true_positives = np.concatenate([[0], np.cumsum(hit)])
        at, of_class = np.flatnonzero(hit) + 1, found.class_index[hit]
        before = starts[of_class]
        precision = (true_positives[at] - true_positives[before]) / (position[at] - position[before])
        total = np.bincount(of_class, precision, minlength=num_classes)
        np.divide(100 * total, per_class, out=per_class_ap[:, column], where=per_class > 0)
    return {
        **mean_over_classes(per_class_ap, thresholds),
        "per_class_AP": per_class_ap,
        "ignored_predictions": int((per_class[found.class_index] == 0).sum()),
        "tied_predictions": count_ties(found.class_index, found.score),
        "empty_predictions": int((segments_s[:, 0] == segments_s[:, 1]).sum()),
        "ambiguous_predictions": left_out,
    }
