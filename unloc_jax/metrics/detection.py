"""ActivityNet-style mean average precision of temporal action localisation.

The definition is the official ActivityNet evaluator's (`eval_detection.py` of activitynet/ActivityNet): per
class, the predictions of all videos in descending score; each takes the free ground-truth segment of its
video and class with the highest tIoU if that is ≥ the threshold, otherwise it is a false positive; AP is the
area under the interpolated precision-recall curve; mAP is the mean over the classes that have ground truth.

The official evaluator processes predictions one by one. Here the whole evaluation is arrays: one sort per
class, one list of the (prediction, ground truth) pairs that overlap enough, and per threshold one matching
for all classes and videos at once (`matching`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import refuse_rows
from unloc_jax.metrics.matching import (
    count_ties,
    descending_in_groups,
    greedy_matches,
    interpolated_average_precisions,
    overlapping_pairs,
    rank_in_group,
)

# Built with linspace like the official scripts: THUMOS14_TIOU[1] is 0.39999999999999997, a hair under 0.4,
# so a tIoU of exactly 0.4 can score differently under [0.3, 0.4, …] typed by hand.
ACTIVITYNET_TIOU = np.linspace(0.5, 0.95, 10)
THUMOS14_TIOU = np.linspace(0.3, 0.7, 5)


class GroundTruth(NamedTuple):
    """G annotated segments of all videos."""

    video_index: np.ndarray  #: int [G]
    class_index: np.ndarray  #: int [G], ≥ 0
    segments_s: np.ndarray  #: float [G, 2], start and end (s)


class Predictions(NamedTuple):
    """M predicted segments of all videos, in any order."""

    video_index: np.ndarray  #: int [M], numbered as in the ground truth
    class_index: np.ndarray  #: int [M], ≥ 0, numbered as in the ground truth
    segments_s: np.ndarray  #: float [M, 2], start and end (s)
    score: np.ndarray  #: float [M], higher is better


def detection_map(
    ground_truth: GroundTruth,
    predictions: Predictions,
    thresholds: Sequence[float] | np.ndarray = ACTIVITYNET_TIOU,
    *,
    empty_pairs_hit: bool = True,
) -> dict[str, Any]:
    """Computes the mAP of `predictions` at each tIoU threshold, in percent.

    Returns:
      "mAP@0.50", …  float, percent; one per threshold, named by two decimals
      "average_mAP"  float, percent; mean over the thresholds
      "per_class_AP"  float64 [C, T], percent; row = class index, column = threshold; NaN for a class without
        ground truth. C = highest class index of ground truth and predictions + 1.
      "ignored_predictions"  int; predictions of classes without ground truth, which count in no class's AP
      "tied_predictions"  int; predictions that share their score with another one of their class
      "empty_predictions"  int; predictions with end ≤ start; false positives, but see below

    Corner cases:

    - A class without predictions has AP 0. A class without ground truth does not count in any mean.
    - A prediction in a video without ground truth (or missing from it) is a false positive.
    - Equal scores rank as in the official evaluator, which uses NumPy's default argsort, reversed. That
      sort is not stable and differs between CPUs (AVX-512, AVX2, neither), so with "tied_predictions" > 0
      the official score differs too: S-CNN's THUMOS14 detections, 30 % of them tied, score 20.4 to 20.6.
    - Equal tIoU with two free ground-truth segments: the later one is taken.
    - An empty prediction (end ≤ start) overlaps nothing. Exception: with `empty_pairs_hit` one with start =
      end hits a ground-truth segment with start = end of its video and class at every threshold, wherever
      the two are, because the official evaluator's 0/0 is not < threshold. ActivityNet 1.3 has three such
      ground-truth segments, and official numbers contain these hits. OpenTAD's do not.

    Raises:
      UserError: there is no ground truth, arrays disagree in length, a number is NaN or infinite, an index is negative,
        or a ground-truth segment is reversed (start > end).
    """
    truth, found = checked(ground_truth, predictions)
    thresholds = np.asarray(thresholds, np.float64)
    num_classes = 1 + int(max(truth.class_index.max(), found.class_index.max(initial=0)))
    truth_per_class = np.bincount(truth.class_index, minlength=num_classes)
    order = descending_in_groups(found.class_index, found.score)
    per_class_ap = 100 * average_precisions(truth, found, order, thresholds, empty_pairs_hit=empty_pairs_hit)
    return {
        **mean_over_classes(per_class_ap, thresholds),
        "per_class_AP": per_class_ap,
        "ignored_predictions": int((truth_per_class[found.class_index] == 0).sum()),
        "tied_predictions": count_ties(found.class_index[order], found.score[order]),
        "empty_predictions": int((found.segments_s[:, 1] <= found.segments_s[:, 0]).sum()),
    }


def mean_over_classes(per_class_ap: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Averages `per_class_ap` float [C, T]: {"mAP@0.50": …, …, "average_mAP": …}; rows of NaN do not count."""
    mean_ap = per_class_ap[~np.isnan(per_class_ap[:, 0])].mean(axis=0)
    return {
        **{f"mAP@{threshold:.2f}": float(value) for threshold, value in zip(thresholds, mean_ap)},
        "average_mAP": float(mean_ap.mean()),
    }


def average_precisions(
    truth: GroundTruth,
    found: Predictions,
    order: np.ndarray,
    thresholds: np.ndarray,
    *,
    empty_pairs_hit: bool,
) -> np.ndarray:
    """Returns the AP in [0, 1] of every class at every threshold: float64 [C, T]; NaN for classes without ground truth.

    Args:
      truth, found: as `checked` returns them.
      order: int [M], indices of the predictions sorted by class, the best of each class first.
      thresholds: float64 [T].
      empty_pairs_hit: see detection_map.
    """
    num_classes = 1 + int(max(truth.class_index.max(), found.class_index.max(initial=0)))
    truth_per_class = np.bincount(truth.class_index, minlength=num_classes)
    found_per_class = np.bincount(found.class_index, minlength=num_classes)
    class_starts = np.cumsum(found_per_class) - found_per_class
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    pairs = overlapping_pairs(
        truth.video_index * num_classes + truth.class_index,
        truth.segments_s,
        found.video_index * num_classes + found.class_index,
        found.segments_s,
        thresholds.min(),
        empty_pairs_hit=empty_pairs_hit,
    ).best_first(place)
    average_precision = np.full((num_classes, len(thresholds)), np.nan)
    for column in np.argsort(thresholds):
        pairs = pairs.at_least(thresholds[column])
        holder = greedy_matches(pairs.prediction, pairs.segment, len(truth.class_index))
        hit = np.sort(holder[holder >= 0])
        hit_class = found.class_index[order[hit]]
        ap = interpolated_average_precisions(hit_class, hit - class_starts[hit_class] + 1, truth_per_class)
        average_precision[:, column] = np.where(truth_per_class > 0, ap, np.nan)
    return average_precision


def recall_at_multiples(
    ground_truth: GroundTruth,
    predictions: Predictions,
    thresholds: Sequence[float] | np.ndarray = ACTIVITYNET_TIOU,
    multiples: Sequence[int] = (1, 5),
) -> dict[str, float]:
    """Returns recall among the best k·n predictions of a (video, class) with n segments: OpenTAD's "top-kx".

    A segment is found if any of them has tIoU ≥ threshold with it; one prediction may find several. Recall is
    computed per class and averaged over the classes with ground truth. Equal scores rank as in `detection_map`, whose
    arguments ground_truth, predictions and thresholds (float [n]) are.

    Returns:
      {"recall@0.50@1": …, "recall@0.50@5": …, …}, in percent.
    """
    truth, found = checked(ground_truth, predictions)
    num_classes = 1 + int(max(truth.class_index.max(), found.class_index.max(initial=0)))
    truth_group = truth.video_index * num_classes + truth.class_index
    found_group = found.video_index * num_classes + found.class_index
    rank = rank_in_group(found_group, found.score)
    pairs = overlapping_pairs(truth_group, truth.segments_s, found_group, found.segments_s, min(thresholds))
    _, group, size = np.unique(truth_group, return_inverse=True, return_counts=True)
    # Each segment is found from this multiple on.
    multiple = rank[pairs.prediction] // size[group][pairs.segment] + 1
    per_class = np.bincount(truth.class_index, minlength=num_classes)
    recall = {}
    for threshold in thresholds:
        enough = pairs.iou >= threshold
        first = np.full(len(truth.class_index), np.iinfo(np.int64).max)
        np.minimum.at(first, pairs.segment[enough], multiple[enough])
        for k in multiples:
            of_class = np.bincount(truth.class_index[first <= k], minlength=num_classes)
            recall[f"recall@{threshold:.2f}@{k}"] = 100 * float(
                (of_class / np.maximum(per_class, 1))[per_class > 0].mean()
            )
    return recall


def checked(ground_truth: GroundTruth, predictions: Predictions) -> tuple[GroundTruth, Predictions]:
    """Returns both as int64 and float64 arrays, or raises the UserError that names the wrong row (`detection_map`)."""
    truth = GroundTruth(*_checked("ground truth", GroundTruth(*ground_truth)))
    found = Predictions(*_checked("predictions", Predictions(*predictions)))
    if not len(truth.class_index):
        raise UserError("mAP needs at least one ground-truth segment: the ground truth is empty")
    return truth, found


def _checked(name: str, fields: GroundTruth | Predictions) -> list[np.ndarray]:
    """Returns the fields as int64 [n] and float64 [n] or [n, 2], or raises the UserError that names the wrong row."""
    arrays = []
    rows = len(fields.class_index)
    for field, values in fields._asdict().items():
        is_index = field.endswith("_index")
        array = np.asarray(values, np.int64 if is_index else np.float64)
        shape = (rows, 2) if field == "segments_s" else (rows,)
        if array.shape != shape:
            raise UserError(f"{name}: {field} has shape {array.shape}, but {rows} class indices need {shape}")
        if is_index:
            refuse_rows(array < 0, array, f"{name}: {field} is negative")
        else:
            refuse_rows(~np.isfinite(array), array, f"{name}: {field} is not finite")
        if field == "segments_s" and isinstance(fields, GroundTruth):
            refuse_rows(array[:, 0] > array[:, 1], array, f"{name}: segments_s starts after its end")
        arrays.append(array)
    return arrays
