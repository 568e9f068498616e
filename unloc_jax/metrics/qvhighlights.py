"""QVHighlights (Lei et al. 2021): moments and highlights of a query, as moment_detr's `standalone_eval` scores them."""

from collections.abc import Sequence

import numpy as np

from unloc_jax.metrics.detection import GroundTruth, Predictions, average_precisions
from unloc_jax.metrics.moment_retrieval import padded
from unloc_jax.metrics.tiou import segment_iou, segment_iou_by_hull

# Decimals, as there: 0.9, not linspace's 0.8999999999999999.
TIOU = np.round(np.linspace(0.5, 0.95, 10), 2)
MAX_WINDOWS = 10
LENGTHS_S = {"short": (0, 10), "middle": (10, 30), "long": (30, 150), "full": (-np.inf, np.inf)}
FAIR, GOOD, VERY_GOOD = 2, 3, 4
MIN_SCORES = {"Fair": FAIR, "Good": GOOD, "VeryGood": VERY_GOOD}


def moment_average_precisions(
    truth_s: Sequence[np.ndarray], windows: Sequence[np.ndarray], thresholds: np.ndarray = TIOU
) -> np.ndarray:
    """Returns the AP in [0, 1] of each query at each threshold: float64 [Q, T].

    Args:
      truth_s: per query float [W, 2] in seconds, W ≥ 1.
      windows: per query float [K, 3], start (s), end (s), score. The first 10 in their given order count; they are
        ranked by descending score, equal ones in given order.
      thresholds: float [T], tIoU.
    """
    first = [rows[:MAX_WINDOWS] for rows in windows]
    query_of = lambda lists: np.repeat(np.arange(len(lists)), [len(rows) for rows in lists])
    joined = np.concatenate([np.zeros((0, 3)), *first])
    of_truth, of_window = query_of(truth_s), query_of(first)
    return average_precisions(
        GroundTruth(of_truth, of_truth, np.concatenate(truth_s)),
        Predictions(of_window, of_window, joined[:, :2], joined[:, 2]),
        np.lexsort((-joined[:, 2], of_window)),
        thresholds,
        empty_pairs_hit=True,
    )


def first_window_ious(truth_s: Sequence[np.ndarray], windows: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the tIoU, float64 [Q], of each query's first window with its best-matching truth; 0 without a window.

    Args: as in `moment_average_precisions`.
    """
    truth = padded(truth_s, max(map(len, truth_s)))
    first = padded([rows[:1, :2] for rows in windows], 1)
    # The best match by tIoU (of equal ones the earlier); its value is then computed with the hull.
    best = segment_iou(first, truth).argmax(axis=1)
    return segment_iou_by_hull(first[:, 0], truth[np.arange(len(truth)), best])


def highlight_precision_and_hit(
    saliency: Sequence[np.ndarray], predicted: Sequence[np.ndarray], min_score: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns AP and HIT@1 in [0, 1] of each query: float64 [Q], [Q].

    Args:
      saliency: per query float [clips, A], the scores 0 … 4 from each of A annotators.
      predicted: per query float [n]. Missing clips at the end score 0. Surplus clips are dropped for AP, and are a miss
        for HIT@1 if one of them scores best.
      min_score: a clip is a highlight for the annotators who gave at least this.

    AP is computed per annotator, then averaged: the mean over distinct recalls of the interpolated precision, equal
    scores taken together; 0 for an annotator without highlights, 1 for one with nothing else. HIT@1 is 1 if the best
    clip, the first of equal ones, is a highlight for any annotator.
    """
    num_clips = np.array([len(scores) for scores in saliency])
    width = int(num_clips.max())
    place = np.arange(width)
    is_clip = place < num_clips[:, None]
    positive = np.zeros((len(saliency), width, saliency[0].shape[1]), bool)
    positive[is_clip] = np.concatenate(saliency) >= min_score
    best = np.array([np.argmax(scores) if len(scores) else width for scores in predicted])
    hit = positive[np.arange(len(best)), np.minimum(best, width - 1)].any(axis=1) & (best < num_clips)

    scores = np.zeros(is_clip.shape)
    for row, of_query in zip(scores, predicted):
        row[: len(of_query)] = of_query[:width]
    scores[~is_clip] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, order, axis=1)
    positive = np.take_along_axis(positive, order[..., None], axis=1)
    true_positives = positive.cumsum(axis=1)
    ends_tie = np.ones(scores.shape, bool)
    ends_tie[:, :-1] = scores[:, :-1] != scores[:, 1:]
    ends_tie = (ends_tie & is_clip)[..., None]  # clips still come first: padding scores -inf
    precision = np.where(ends_tie, true_positives / (place + 1)[:, None], 0.0)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    before = np.maximum.accumulate(np.where(ends_tie, true_positives, 0), axis=1)
    before = np.concatenate([np.zeros_like(before[:, :1]), before[:, :-1]], axis=1)
    counts = ends_tie & (true_positives > before)
    total = (precision * counts).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return total.mean(axis=1), hit.astype(np.float64)
