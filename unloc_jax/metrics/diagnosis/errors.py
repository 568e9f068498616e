"""False positives by type, and the cost of each type: DETAD's profile (Alwassel et al. 2018, section 4)."""

import dataclasses

import numpy as np

from unloc_jax.metrics.diagnosis.matches import MULTIPLES, Matches, normalized_average_precisions
from unloc_jax.metrics.matching import overlapping_pairs

# By tIoU with the segment, of any class, that a false positive overlaps most:
#                   ≥ threshold        ≥ LEAST_TIOU   below
# of its class      double detection   localisation   background
# of another class  wrong class        confusion      background
TYPES = ("hit", "double detection", "wrong class", "localisation", "confusion", "background")
HIT, DOUBLE, WRONG_CLASS, LOCALISATION, CONFUSION, BACKGROUND = range(6)
LEAST_TIOU = 0.1


@dataclasses.dataclass(frozen=True)
class Errors:
    """Error types of K predictions.

    Attributes:
      type: int [K], index into TYPES.
      nearest: int [K], the segment of any class that overlaps the prediction most; -1 if below LEAST_TIOU.
      own_tiou: float64 [K], the highest tIoU with a segment of the same class, taken or not; 0 if below LEAST_TIOU.
      segment_own_tiou, segment_any_tiou: float64 [G], the highest tIoU of each segment with a prediction of its class,
        and with one of any class.
      ap_n: float64 [C] in [0, 1], NaN for classes without ground truth.
      gain: float64 [6] in [0, 1], the gain of mean AP_N if the false positives of a type are removed; 0 for hits.
    """

    type: np.ndarray
    nearest: np.ndarray
    own_tiou: np.ndarray
    segment_own_tiou: np.ndarray
    segment_any_tiou: np.ndarray
    ap_n: np.ndarray
    gain: np.ndarray

    def profile(self, rank: np.ndarray, num_truth_of_row: np.ndarray) -> np.ndarray:
        """Counts types, int [MULTIPLES, 6]: row k is for the predictions ranked k·G … (k + 1)·G - 1 of their class.

        Args:
          rank: int [K], rank of each prediction in its class.
          num_truth_of_row: int [K], G of each prediction's class.
        """
        slice_ = rank // num_truth_of_row
        return np.bincount(slice_ * len(TYPES) + self.type, minlength=MULTIPLES * len(TYPES)).reshape(
            MULTIPLES, len(TYPES)
        )


def find_errors(matches: Matches) -> Errors:
    """Determines the types of all predictions of `matches`."""
    truth, found = matches.truth, matches.found
    pairs = overlapping_pairs(
        truth.video_index, truth.segments_s, found.video_index, found.segments_s, LEAST_TIOU
    )
    # The best pair of each prediction; of equal ones, the segment that comes first in the file.
    best_last = np.lexsort((-pairs.segment, pairs.iou, pairs.prediction))
    nearest = np.full(len(found.score), -1)
    nearest[pairs.prediction[best_last]] = pairs.segment[best_last]
    tiou = np.zeros(len(found.score))
    np.maximum.at(tiou, pairs.prediction, pairs.iou)
    is_own = truth.class_index[pairs.segment] == found.class_index[pairs.prediction]
    own_tiou = np.zeros(len(found.score))
    np.maximum.at(own_tiou, pairs.prediction[is_own], pairs.iou[is_own])
    of_segment = np.zeros((2, len(truth.class_index)))
    np.maximum.at(of_segment[0], pairs.segment[is_own], pairs.iou[is_own])
    np.maximum.at(of_segment[1], pairs.segment, pairs.iou)

    own_class = truth.class_index[nearest] == found.class_index
    enough = tiou >= matches.tiou
    type_ = np.select(
        [matches.hit, nearest < 0, enough & own_class, enough, own_class],
        [HIT, BACKGROUND, DOUBLE, WRONG_CLASS, LOCALISATION],
        CONFUSION,
    )
    average = matches.average_num_truth

    def mean_ap_n(kept: np.ndarray) -> np.ndarray:
        """Returns AP_N, float64 [C], of the predictions in `kept`, bool [K]."""
        return normalized_average_precisions(
            found.class_index[kept], matches.hit[kept], matches.num_truth, average
        )

    ap_n = mean_ap_n(np.ones(len(type_), bool))
    gain = [0.0] + [float(np.nanmean(mean_ap_n(type_ != i)) - np.nanmean(ap_n)) for i in range(1, len(TYPES))]
    return Errors(type_, nearest, own_tiou, of_segment[0], of_segment[1], ap_n, np.array(gain))
