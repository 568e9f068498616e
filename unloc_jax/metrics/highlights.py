"""Highlights: are the best-scored moments of a video the ones that belong to the query?"""

from collections.abc import Sequence

import numpy as np

CLIP_S = 2.0  # seconds, as in QVHighlights (Lei et al. 2021)


def clip_scores(curve: np.ndarray, span_s: np.ndarray, duration_s: float) -> np.ndarray:
    """A relevance curve [T] at evenly spaced times of span_s → float [clips], at the middle of every 2-second clip."""
    middle_s = np.arange(CLIP_S / 2, max(duration_s, CLIP_S), CLIP_S)
    return np.interp(middle_s, np.linspace(span_s[0], span_s[1], len(curve)), curve)


def highlight_scores(
    curves: Sequence[np.ndarray], windows_s: Sequence[np.ndarray], spans_s: Sequence[np.ndarray]
) -> dict[str, float]:
    """mAP and HIT@1 over 2-second clips, in percent; a clip is positive where a window covers its middle.

    Args:
      curves: per query, float [T]: relevance at T evenly spaced times.
      windows_s: per query, float [n, 2]: the segments in seconds.
      spans_s: per query, the first and the last of those times.

    Returns:
      {"HL-mAP": …, "HIT@1": …}, over the queries with at least one positive clip.
    """
    precisions, hits = [], []
    for curve, windows, (first_s, last_s) in zip(curves, windows_s, spans_s):
        middle_s = np.arange(first_s + CLIP_S / 2, max(last_s, first_s + CLIP_S), CLIP_S)
        score = np.interp(middle_s, np.linspace(first_s, last_s, len(curve)), curve)
        inside = (middle_s[:, None] >= windows[:, 0]) & (middle_s[:, None] <= windows[:, 1])
        positive = np.asarray(inside.any(axis=1))
        if positive.any():
            precisions.append(average_precision(score, positive))
            hits.append(positive[score.argmax()])
    if not hits:
        return {"HL-mAP": 0.0, "HIT@1": 0.0}
    return {"HL-mAP": 100.0 * float(np.mean(precisions)), "HIT@1": 100.0 * float(np.mean(hits))}


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the precision–recall steps, equal scores taken together (scikit-learn's definition).

    scores float [n], positive bool [n] with at least one True → [0, 1].
    """
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order]
    last_of_ties = np.r_[np.flatnonzero(np.diff(scores)), len(scores) - 1]
    true = np.cumsum(positive)[last_of_ties]
    precision, recall = true / (last_of_ties + 1), true / positive.sum()
    return float((np.diff(np.r_[0.0, recall]) * precision).sum())


def top_moments_average_precision(positive: np.ndarray) -> np.ndarray:
    """AP of TVSum and YouTube Highlights as UMT (Liu et al. 2022) counts it → float64 [...].

    positive: bool [..., n], whether each of the n moments is a highlight, best-scored first; for TVSum the five
      best. Recall is of the highlights among these n alone; 0 where there are none.

    The area under the precision-recall line drawn from (0, 1), by the trapezoid rule.
    """
    hits = positive.cumsum(axis=-1)
    total = np.maximum(hits[..., -1:], 1)
    precision = hits / np.arange(1, positive.shape[-1] + 1)
    before = np.concatenate([np.ones_like(precision[..., :1]), precision[..., :-1]], axis=-1)
    return (positive / total * (precision + before) / 2).sum(axis=-1)
