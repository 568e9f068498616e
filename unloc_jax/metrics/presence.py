"""Whether what a query asks for is in its video at all: scores of "it is not here".

Definitions of generalised moment retrieval (Ding et al. 2026, arXiv 2605.02623). A query is taken as present if its
score is above a threshold.
"""

from typing import NamedTuple

import numpy as np


class Calibrated(NamedTuple):
    """A threshold, and what it was chosen on."""

    threshold: float
    rejection_f1: float  #: in percent
    present: int  #: queries with an answer
    absent: int  #: queries without


def auroc(present: np.ndarray, score: np.ndarray) -> float:
    """Returns the area under the ROC curve in percent: how often a present query scores above an absent one.

    Equal scores count half. NaN if all queries are of one kind.

    Args:
      present: bool [N].
      score: float [N].
    """
    positives, negatives = int(present.sum()), int((~present).sum())
    if not positives or not negatives:
        return np.nan
    _, inverse, count = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2  # from 1; of equal scores the mean
    ranks = mean_rank[inverse][present].sum()
    return 100 * float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def rejection_scores(present: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, float]:
    """Returns "accuracy" and, of rejecting the absent queries, "precision", "recall" and "F1", in percent.

    Args:
      present: bool [N ≥ 1].
      score: float [N].
      threshold: queries with a higher score are accepted.
    """
    rejected = score <= threshold
    right = int((rejected & ~present).sum())
    precision = right / max(int(rejected.sum()), 1)
    recall = right / max(int((~present).sum()), 1)
    return {
        "accuracy": 100 * float(np.mean(rejected != present)),
        "precision": 100 * precision,
        "recall": 100 * recall,
        "F1": 100 * 2 * precision * recall / ((precision + recall) or 1),
    }


def calibrate(present: np.ndarray, score: np.ndarray) -> Calibrated | None:
    """Returns the threshold with the best F1 of rejection, between two neighbouring scores; None without both kinds.

    Of equally good ones the lowest: it rejects least.

    Args:
      present: bool [N].
      score: float [N], finite.
    """
    if present.all() or not present.any():
        return None
    order = np.argsort(score, kind="stable")
    ascending, absent = score[order], ~present[order]
    last = np.append(np.flatnonzero(np.diff(ascending)), len(score) - 1)  # of equal scores
    rejected, right = last + 1, np.cumsum(absent)[last]
    f1 = 2 * right / (rejected + absent.sum())
    best = int(np.argmax(f1))
    values = ascending[last]
    above = values[best + 1] if best + 1 < len(values) else values[best]
    middle = (values[best] + above) / 2
    threshold = middle if values[best] <= middle < above else values[best]
    return Calibrated(float(threshold), 100 * float(f1[best]), int(present.sum()), int(absent.sum()))
