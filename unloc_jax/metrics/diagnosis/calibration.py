"""Calibration: do scores equal hit rates?"""

import dataclasses

import numpy as np

BINS = 10


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Predictions binned by score, in bins of equal width over [0, 1].

    Attributes:
      count: int [BINS], predictions per bin.
      mean_score, hit_rate: float64 [BINS] in [0, 1]; NaN in empty bins.
      ece: expected calibration error in [0, 1]: |mean score - hit rate| over bins, weighted by their counts (Naeini
        et al. 2015; Guo et al. 2017).
    """

    count: np.ndarray
    mean_score: np.ndarray
    hit_rate: np.ndarray
    ece: float


def reliability(score: np.ndarray, hit: np.ndarray) -> Reliability | None:
    """Bins predictions with `score` float [n] and `hit` bool [n]; None if a score is outside of [0, 1] or NaN."""
    if not len(score) or not ((score >= 0) & (score <= 1)).all():
        return None
    index = np.minimum((score * BINS).astype(int), BINS - 1)
    count = np.bincount(index, minlength=BINS)
    some = np.where(count, count, np.nan)
    mean_score = np.bincount(index, score, minlength=BINS) / some
    hit_rate = np.bincount(index, hit, minlength=BINS) / some
    gap = np.abs(mean_score - hit_rate)
    return Reliability(count, mean_score, hit_rate, float(np.nansum(gap * count) / len(score)))


def chance_that_a_hit_scores_higher(score: np.ndarray, hit: np.ndarray) -> float:
    """Returns the area under the ROC curve: the chance that a hit outscores a miss; ties count half; NaN without both.

    `score` is float [n], `hit` bool [n].
    """
    num_hits, num_misses = int(hit.sum()), int((~hit).sum())
    if not num_hits or not num_misses:
        return float("nan")
    misses = np.sort(score[~hit])
    below = np.searchsorted(misses, score[hit], side="left")
    not_above = np.searchsorted(misses, score[hit], side="right")
    return float((below + not_above).mean() / 2 / num_misses)
