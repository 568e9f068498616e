"""Retrieval of any number of moments, none included (Ding et al. 2026, arXiv 2605.02623): one-to-one matching.

As the evaluator of generalised moment retrieval (`eval/metrics.py` of dymm9977/generalized-moment-retrieval), but for
all queries at once.
"""

from collections.abc import Sequence

import numpy as np

from unloc_jax.metrics.moment_retrieval import padded
from unloc_jax.metrics.tiou import segment_iou

TIOU = np.round(np.linspace(0.5, 0.95, 10), 2)


def matched_ious(
    truth_s: Sequence[np.ndarray], found_s: Sequence[np.ndarray], threshold: float, most: int
) -> np.ndarray:
    """Returns the tIoU of what each of the first predictions takes, float64 [Q, most]; NaN = it takes nothing.

    In their order, each takes the free answer with the highest tIoU (the earlier of equal ones) if that is ≥ threshold.

    Args:
      truth_s: per query float [W, 2] in seconds; W may be 0.
      found_s: per query float [K, 2] in seconds, best first.
      threshold: tIoU; -1 = any, even without overlap.
      most: number of first predictions.
    """
    width = max([1, *map(len, truth_s)])
    queries = np.arange(len(truth_s))
    is_free = np.arange(width) < np.array(list(map(len, truth_s)))[:, None]
    given = np.arange(most) < np.array(list(map(len, found_s)))[:, None]
    iou = segment_iou(padded(found_s, most)[:, :, None], padded(truth_s, width)[:, None])
    matched = np.full((len(truth_s), most), np.nan)
    for i in range(most):
        wanted = np.where(is_free, iou[:, i], -2.0)
        best = wanted.argmax(axis=1)
        value = wanted[queries, best]
        takes = given[:, i] & (value >= max(threshold, -1.0))
        matched[takes, i] = value[takes]
        is_free[queries[takes], best[takes]] = False
    return matched


def localization_scores(
    truth_s: Sequence[np.ndarray], found_s: Sequence[np.ndarray], ks: Sequence[int]
) -> dict[str, float]:
    """Returns mR@k, mR+@k, mIoU@k and mIoU+@k of queries with answers, in percent.

    mR@k is the share of a query's answers that its first k predictions take, mIoU@k the mean tIoU of those that they
    take whatever the overlap; both averaged over queries, mR@k also over tIoU 0.5:0.05:0.95. The ones with + are of
    queries with several answers, and leave out the first hit, or the best one.

    Args: as of `matched_ious`, with W ≥ 1.
    """
    answers = np.array(list(map(len, truth_s)))
    several = answers >= 2
    recalls = {k: np.empty((len(TIOU), 2)) for k in ks}  # at each threshold: mR and mR+
    for row, threshold in enumerate(TIOU):
        hit = ~np.isnan(matched_ious(truth_s, found_s, threshold, max(ks)))
        for k in ks:
            number = hit[:, :k].sum(axis=1)
            recalls[k][row, 0] = np.mean(number / answers)
            recalls[k][row, 1] = _mean((np.maximum(number - 1, 0) / np.maximum(answers - 1, 1))[several])
    every = matched_ious(truth_s, found_s, -1.0, max(ks))
    scores = {f"mR@{k}": recalls[k][:, 0].mean() for k in ks} | {
        f"mR+@{k}": recalls[k][:, 1].mean() for k in ks
    }
    for k in ks:
        scores[f"mIoU@{k}"] = np.mean(_row_means(every[:, :k]))
    for k in ks:
        first = np.sort(np.nan_to_num(every[:, :k], nan=-1.0), axis=1)[:, ::-1]
        rest = np.where(first < 0, np.nan, first)[:, 1:]
        scores[f"mIoU+@{k}"] = _mean(_row_means(rest)[several])
    return {name: 100 * float(value) for name, value in scores.items()}


def set_ious(truth_s: Sequence[np.ndarray], found_s: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Returns Σ tIoU of matches / (predictions + answers − matches) of each query, float64 [Q] in [0, 1].

    It is 1 if both sets are empty, 0 if one is. Args: as of `matched_ious`; the first `most` predictions count.
    """
    matched = matched_ious(truth_s, found_s, 0.0, most)
    number = (~np.isnan(matched)).sum(axis=1)
    answers = np.array(list(map(len, truth_s)))
    predicted = np.minimum(list(map(len, found_s)), most)
    union = predicted + answers - number
    return np.where(union > 0, np.nansum(matched, axis=1) / np.maximum(union, 1), 1.0)


def _row_means(values: np.ndarray) -> np.ndarray:
    """Returns the mean of each row of float [n, k] without NaN, float64 [n]; 0 for a row without numbers."""
    number = (~np.isnan(values)).sum(axis=1)
    return np.nansum(values, axis=1) / np.maximum(number, 1)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else 0.0
