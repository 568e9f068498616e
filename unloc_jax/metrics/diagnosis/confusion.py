"""Pairs of classes that a detector confuses."""

from typing import NamedTuple

import numpy as np

from unloc_jax.metrics.diagnosis.errors import CONFUSION, WRONG_CLASS, Errors
from unloc_jax.metrics.diagnosis.matches import Matches


class Pair(NamedTuple):
    """Predictions of one class on segments of another.

    Attributes:
      predicted, true: class indices.
      wrong_class: number of predictions with a tIoU ≥ the threshold.
      confusion: number of predictions with a lower tIoU.
      share: percent of the predicted class's false positives that are of either kind.
    """

    predicted: int
    true: int
    wrong_class: int
    confusion: int
    share: float


def confused_pairs(matches: Matches, errors: Errors, most: int = 15) -> list[Pair]:
    """Returns the most frequent pairs, by wrong classes, then confusions, among the 10·G best predictions of a class.

    Predictions that also overlap a segment of their own class by the threshold are left out: if one
    action carries two labels (THUMOS14's CliffDiving is Diving too), nothing is confused.
    """
    num_classes = len(matches.num_truth)
    rows = np.flatnonzero(np.isin(errors.type, (WRONG_CLASS, CONFUSION)) & (errors.own_tiou < matches.tiou))
    predicted = matches.found.class_index[rows]
    true = matches.truth.class_index[errors.nearest[rows]]
    pair, inverse = np.unique(predicted * num_classes + true, return_inverse=True)
    wrong = np.bincount(inverse, errors.type[rows] == WRONG_CLASS, minlength=len(pair)).astype(int)
    confused = np.bincount(inverse, minlength=len(pair)) - wrong
    false_positives = np.bincount(matches.found.class_index[~matches.hit], minlength=num_classes)
    order = np.lexsort((-confused, -wrong))[:most]
    return [
        Pair(
            int(pair[i] // num_classes),
            int(pair[i] % num_classes),
            int(wrong[i]),
            int(confused[i]),
            float(100 * (wrong[i] + confused[i]) / false_positives[pair[i] // num_classes]),
        )
        for i in order
    ]
