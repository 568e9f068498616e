"""ActivityNet-style mean average precision of temporal action localisation.

The definition is the official ActivityNet evaluator's (`eval_detection.py` of activitynet/ActivityNet): per
class, the predictions of all videos in descending score; each takes the free ground-truth segment of its
video and class with the highest tIoU if that is ≥ the threshold, otherwise it is a false positive; AP is the
area under the interpolated precision-recall curve; mAP is the mean over the classes that have ground truth.

The official evaluator walks through predictions one by one. Here the whole evaluation is arrays: one sort per
class, one list of the (prediction, ground truth) pairs that overlap enough, and per threshold one matching
for all classes and videos at once.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import refuse_rows
from unloc_jax.metrics.tiou import segment_iou

# Built with linspace as the official scripts do: THUMOS14_TIOU[1] is 0.39999999999999997, a hair under 0.4,
# so a tIoU of exactly 0.4 can score differently under [0.3, 0.4, …] typed by hand.
ACTIVITYNET_TIOU = np.linspace(0.5, 0.95, 10)
THUMOS14_TIOU = np.linspace(0.3, 0.7, 5)


class GroundTruth(NamedTuple):
    """G annotated segments of all videos."""

    video_index: np.ndarray  # int [G]
    class_index: np.ndarray  # int [G], ≥ 0
    segments_s: np.ndarray  # float [G, 2], start and end (s)


class Predictions(NamedTuple):
    """M predicted segments of all videos, in any order."""

    video_index: np.ndarray  # int [M], numbered as in the ground truth
    class_index: np.ndarray  # int [M], ≥ 0, numbered as in the ground truth
    segments_s: np.ndarray  # float [M, 2], start and end (s)
    score: np.ndarray  # float [M], higher is better


def detection_map(
    ground_truth: GroundTruth,
    predictions: Predictions,
    thresholds: Sequence[float] | np.ndarray = ACTIVITYNET_TIOU,
) -> dict[str, Any]:
    """mAP of `predictions` at each tIoU threshold, in percent.

    Returns
      "mAP@0.50", …  float, percent; one per threshold, named by two decimals
      "average_mAP"  float, percent; mean over the thresholds
      "per_class_AP"  float64 [C, T], percent; row = class index, column = threshold; NaN for a class without
        ground truth. C = highest class index of ground truth and predictions + 1.
      "ignored_predictions"  int; predictions of classes without ground truth, which no class's AP contains
      "tied_predictions"  int; predictions that share their score with another one of their class
      "empty_predictions"  int; predictions with end ≤ start; false positives, but see below

    Corner cases:
      A class without predictions has AP 0. A class without ground truth does not count in any mean.
      A prediction in a video without ground truth (or unknown to it) is a false positive.
      Equal scores: in the order of the official evaluator, which is NumPy's default argsort, reversed. That
        sort is not stable and differs between CPUs (AVX-512, AVX2, neither), so with "tied_predictions" > 0
        the official score differs too: S-CNN's THUMOS14 detections, 30 % of them tied, score 20.4 to 20.6.
      Equal tIoU with two free ground-truth segments: the later one is taken.
      An empty prediction (end ≤ start) overlaps nothing, except that one with start = end hits a ground-truth
        segment with start = end of its video and class at every threshold, wherever the two are: the official
        evaluator's 0/0 is not < threshold. ActivityNet 1.3 has three such ground-truth segments, and official
        numbers contain these hits.

    Raises UserError when there is no ground truth, when arrays disagree in length, when a number is NaN or
    infinite, an index negative, or a ground-truth segment reversed (start > end).
    """
    truth = GroundTruth(*_checked("ground truth", GroundTruth(*ground_truth)))
    found = Predictions(*_checked("predictions", Predictions(*predictions)))
    thresholds = np.asarray(thresholds, np.float64)
    if not len(truth.class_index):
        raise UserError("mAP needs at least one ground-truth segment: the ground truth is empty")

    num_classes = 1 + int(max(truth.class_index.max(), found.class_index.max(initial=0)))
    truth_per_class = np.bincount(truth.class_index, minlength=num_classes)
    order, class_starts = _descending_score_per_class(found, num_classes)
    found = Predictions(*(field[order] for field in found))

    prediction, segment, iou = _overlapping_pairs(truth, found, thresholds.min())
    per_class_ap = np.full((num_classes, len(thresholds)), np.nan)
    for column, threshold in enumerate(thresholds):
        enough = iou >= threshold
        hit = np.zeros(len(found.score), bool)
        hit[_greedy_matches(prediction[enough], segment[enough], len(truth.class_index))] = True
        for row in np.flatnonzero(truth_per_class):
            in_class = hit[class_starts[row] : class_starts[row + 1]]
            per_class_ap[row, column] = 100 * interpolated_average_precision(in_class, truth_per_class[row])

    mean_ap = per_class_ap[truth_per_class > 0].mean(axis=0)
    return {
        **{f"mAP@{threshold:.2f}": float(value) for threshold, value in zip(thresholds, mean_ap)},
        "average_mAP": float(mean_ap.mean()),
        "per_class_AP": per_class_ap,
        "ignored_predictions": int((truth_per_class[found.class_index] == 0).sum()),
        "tied_predictions": _count_ties(found),
        "empty_predictions": int((found.segments_s[:, 1] <= found.segments_s[:, 0]).sum()),
    }


def interpolated_average_precision(hit: np.ndarray, num_ground_truth: int) -> float:
    """AP in [0, 1] of one class from `hit`: bool [M], in descending score.

    The precision at a recall is the highest precision at this recall or a greater one, as in PASCAL VOC 2010.
    """
    true_positives = np.cumsum(hit)
    recall = true_positives / num_ground_truth
    precision = true_positives / np.arange(1, len(hit) + 1)
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    gain = np.diff(recall, prepend=0.0)
    return float(np.sum(gain[hit] * interpolated[hit]))


def _descending_score_per_class(found: Predictions, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Order of the predictions by class, then descending score; bounds int [C + 1] of the classes in it."""
    order = np.argsort(found.class_index, kind="stable")
    bounds = np.searchsorted(found.class_index[order], np.arange(num_classes + 1))
    for start, end in itertools.pairwise(bounds):
        in_class = order[start:end]
        # No stable sort: ties must fall as in the official evaluator, see detection_map.
        order[start:end] = in_class[found.score[in_class].argsort()[::-1]]
    return order, bounds


def _count_ties(found: Predictions) -> int:
    """Predictions whose score occurs more than once in their class; `found` is sorted by class and score."""
    same_as_next = (np.diff(found.class_index) == 0) & (np.diff(found.score) == 0)
    tied = np.zeros(len(found.score), bool)
    tied[:-1] |= same_as_next
    tied[1:] |= same_as_next
    return int(tied.sum())


def _overlapping_pairs(
    truth: GroundTruth, found: Predictions, min_iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of same video and class with tIoU ≥ `min_iou`: prediction index, ground-truth index and tIoU,
    each [pairs].

    Sorted by prediction, then by descending tIoU; the later of two equal ground-truth segments first.
    """
    num_classes = 1 + max(truth.class_index.max(), found.class_index.max(initial=0))
    truth_group = truth.video_index * num_classes + truth.class_index
    found_group = found.video_index * num_classes + found.class_index
    by_group = np.argsort(truth_group, kind="stable")
    first = np.searchsorted(truth_group[by_group], found_group, side="left")
    count = np.searchsorted(truth_group[by_group], found_group, side="right") - first

    prediction = np.repeat(np.arange(len(found_group)), count)
    position_in_group = np.arange(len(prediction)) - np.repeat(np.cumsum(count) - count, count)
    segment = by_group[np.repeat(first, count) + position_in_group]
    iou = segment_iou(found.segments_s[prediction], truth.segments_s[segment])
    # The official 0/0 of two empty segments: sorted first, above every threshold.
    iou[_empty(found.segments_s)[prediction] & _empty(truth.segments_s)[segment]] = np.inf

    enough = iou >= min_iou
    prediction, segment, iou = prediction[enough], segment[enough], iou[enough]
    order = np.lexsort((-segment, -iou, prediction))
    return prediction[order], segment[order], iou[order]


def _greedy_matches(prediction: np.ndarray, segment: np.ndarray, num_segments: int) -> np.ndarray:
    """Indices of the predictions that get a segment when each, in ascending index, takes its first free one.

    `prediction`, `segment`: int [pairs], sorted by prediction, then by its preference.

    "One after the other" is a stable matching in which all segments rank the predictions alike, and such a
    matching is unique, so rounds of deferred acceptance (Gale and Shapley 1962) find the same one with few
    array operations: every unmatched prediction asks for its next segment, every segment keeps the lowest
    index that ever asked.
    """
    proposers, next_pair = np.unique(prediction, return_index=True)
    end_pair = np.append(next_pair[1:], len(prediction))
    nobody = len(proposers)
    holder = np.full(num_segments, nobody)
    asking = np.arange(len(proposers))
    while len(asking):
        wanted = segment[next_pair[asking]]
        previous = holder[wanted]
        np.minimum.at(holder, wanted, asking)
        refused = asking[holder[wanted] != asking]
        displaced = np.unique(previous[(previous != nobody) & (previous != holder[wanted])])
        asking = np.concatenate([refused, displaced])
        next_pair[asking] += 1
        asking = asking[next_pair[asking] < end_pair[asking]]
    return proposers[holder[holder != nobody]]


def _empty(segments_s: np.ndarray) -> np.ndarray:
    return segments_s[:, 0] == segments_s[:, 1]


def _checked(name: str, fields: GroundTruth | Predictions) -> list[np.ndarray]:
    """The fields as int64 and float64 arrays, or the UserError that says which row is wrong."""
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
