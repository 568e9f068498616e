"""The best-scored predictions of every class, matched to ground-truth segments."""

import dataclasses

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.detection import GroundTruth, Predictions
from unloc_jax.metrics.matching import descending_in_groups, greedy_matches, overlapping_pairs

# DETAD uses the 10·G best predictions of a class with G segments: few detectors hit anything further down.
MULTIPLES = 10


@dataclasses.dataclass(frozen=True)
class Matches:
    """K predictions sorted by class, the best of each class first.

    Attributes:
      tiou: threshold of a hit.
      truth: G segments.
      found: K predictions.
      row: int [K], their index in the file.
      rank: int [K], 0 for the best of its class.
      segment: int [K], the segment that each prediction hits; -1 = false positive.
      num_truth: int [C], segments per class.
    """

    tiou: float
    truth: GroundTruth
    found: Predictions
    row: np.ndarray
    rank: np.ndarray
    segment: np.ndarray
    num_truth: np.ndarray

    @property
    def hit(self) -> np.ndarray:
        """Whether each prediction is a hit, bool [K]."""
        return self.segment >= 0

    @property
    def average_num_truth(self) -> float:
        """N of AP_N: mean number of segments of the classes that have any."""
        return float(self.num_truth[self.num_truth > 0].mean())

    @property
    def is_found(self) -> np.ndarray:
        """Whether a prediction hits each segment, bool [G]."""
        found = np.zeros(len(self.truth.class_index), bool)
        found[self.segment[self.hit]] = True
        return found


def match_best(
    truth: GroundTruth, found: Predictions, num_classes: int, tiou: float, multiples: int = MULTIPLES
) -> Matches:
    """Matches the `multiples`·G best predictions of each class with G segments as ActivityNet's evaluation does.

    Each prediction, best first, takes the free segment of its video and class with the highest tIoU if that is
    ≥ `tiou`. At the cut, equal scores rank in the file's order.

    Args:
      truth, found: as `detection.checked` returns them; class indices ≥ `num_classes` are ignored.
      tiou: in (0, 1].

    Raises:
      UserError: no segment or no prediction is left.
    """
    num_truth = np.bincount(truth.class_index, minlength=num_classes)
    rows = np.flatnonzero(found.class_index < num_classes)
    rows = rows[np.lexsort((-found.score[rows], found.class_index[rows]))]
    of_class = found.class_index[rows]
    rank = np.arange(len(rows)) - np.searchsorted(of_class, of_class)
    rows = rows[rank < multiples * num_truth[of_class]]
    if not len(rows):
        raise UserError("there are no predictions of the ground truth's classes to diagnose")
    rows = rows[descending_in_groups(found.class_index[rows], found.score[rows])]
    best = Predictions(*(column[rows] for column in found))
    pairs = overlapping_pairs(
        truth.video_index * num_classes + truth.class_index,
        truth.segments_s,
        best.video_index * num_classes + best.class_index,
        best.segments_s,
        tiou,
    ).best_first(np.arange(len(rows)))
    holder = greedy_matches(pairs.prediction, pairs.segment, len(truth.class_index))
    segment = np.full(len(rows), -1)
    segment[holder[holder >= 0]] = np.flatnonzero(holder >= 0)
    rank = np.arange(len(rows)) - np.searchsorted(best.class_index, best.class_index)
    return Matches(tiou, truth, best, rows, rank, segment, num_truth)


def normalized_average_precisions(
    class_index: np.ndarray, hit: np.ndarray, num_truth: np.ndarray, average_num_truth: float
) -> np.ndarray:
    """Returns DETAD's AP_N of every class in [0, 1]: float64 [C]; NaN for a class without ground truth.

    Precision depends on the number of segments of a class, so classes, or parts of the ground truth, cannot be
    compared by AP. AP_N counts hits as if every class had the same number N: precision = R·N / (R·N + FP), where R is
    the recall (Hoiem et al. 2012; Alwassel et al. 2018, section 3), interpolated as in PASCAL VOC 2010.

    Args:
      class_index: int [K], ascending; within a class the best prediction first.
      hit: bool [K].
      num_truth: int [C], segments per class.
      average_num_truth: N.
    """
    starts = np.searchsorted(class_index, np.arange(len(num_truth) + 1))
    result = np.full(len(num_truth), np.nan)
    for c in map(int, np.flatnonzero(num_truth)):
        places = np.flatnonzero(hit[starts[c] : starts[c + 1]])
        true_positives = np.arange(1, len(places) + 1)
        expected = true_positives / num_truth[c] * average_num_truth
        precision = expected / (expected + places + 1 - true_positives)
        result[c] = np.maximum.accumulate(precision[::-1]).sum() / num_truth[c]
    return result
