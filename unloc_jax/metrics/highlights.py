"""Highlights: are the best-scored clips of a video those that belong to the query?"""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

CLIP_S = 2.0  # seconds, as in QVHighlights (Lei et al. 2021)
TVSUM_TOP = 5


def clip_scores(
    curve: np.ndarray, span_s: np.ndarray, duration_s: float, pieces_s: np.ndarray | None = None
) -> np.ndarray:
    """Samples a relevance curve in the middle of every 2-second clip, or of every given piece of the video.

    Args:
      curve: float [T], at evenly spaced times.
      span_s: float [2], the first and the last of those times in seconds.
      duration_s: of the video in seconds; a remainder shorter than a clip is dropped, as in QVHighlights.
      pieces_s: float [n, 2], start and end in seconds; used instead of the clips.

    Returns:
      float32 [clips] or [n], relevance.
    """
    clips = np.arange(max(int(duration_s / CLIP_S), 1))
    middle_s = (clips + 0.5) * CLIP_S if pieces_s is None else pieces_s.mean(axis=1)
    return np.interp(middle_s, np.linspace(span_s[0], span_s[1], len(curve)), curve).astype(np.float32)


def pieces_of(num_labels: int, duration_s: float, bounds_s: np.ndarray | None) -> np.ndarray | None:
    """Returns the labelled pieces of a video, float [n, 2] in seconds; None if they are its 2-second clips.

    Args:
      num_labels: number of labels.
      duration_s: of the video in seconds; 0 if unknown.
      bounds_s: float [n, 2] in seconds, if the file gives them. Otherwise None: then the pieces are the 2-second clips
        if the number of labels fits, else they divide the video evenly.
    """
    if bounds_s is not None and len(bounds_s) == num_labels:
        return bounds_s
    if not duration_s or abs(num_labels - duration_s / CLIP_S) < 1.5:
        return None
    edges = np.linspace(0.0, duration_s, num_labels + 1)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def read_at_pieces(scores: np.ndarray, pieces_s: np.ndarray) -> np.ndarray:
    """Interpolates scores of 2-second clips, float [clips], at the middles of pieces, float [n, 2] (s) → float [n]."""
    return np.interp(pieces_s.mean(axis=1), (np.arange(len(scores)) + 0.5) * CLIP_S, scores)


def piece_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the AP in [0, 1] of one video, as UMT (Liu et al. 2022) computes it for TVSum and YouTube Highlights.

    Args:
      labels: float [n, A], from A annotators. Several (TVSum): a piece is a highlight for an annotator if its label is
        above the median of the annotator's labels (the lower of two middle ones); only the five best-scored pieces
        count. One (YouTube): a piece is a highlight if its label is above 0.
      scores: float [m]. The first min(n, m) count; equal ones rank in the pieces' order. Without any, AP is 0.
    """
    n = min(len(labels), len(scores))
    order = np.argsort(-scores[:n], kind="stable")
    if labels.shape[1] > 1:
        positive = labels > np.sort(labels, axis=0)[(len(labels) - 1) // 2]
        order = order[:TVSUM_TOP]
    else:
        positive = labels > 0
    return float(top_moments_average_precision(positive[order].T).mean()) if n else 0.0


def mean_over_domains(domains: Sequence[str], average_precisions: Sequence[float]) -> dict[str, Any]:
    """Averages APs, in percent: "mAP", the mean over the domains' means, "mAP_over_videos", "per_domain".

    Args:
      domains: the domain of each video.
      average_precisions: the AP in [0, 1] of each video.
    """
    of_domain: dict[str, list[float]] = collections.defaultdict(list)
    for domain, precision in zip(domains, average_precisions, strict=True):
        of_domain[domain].append(precision)
    per_domain = {domain: 100 * float(np.mean(of)) for domain, of in of_domain.items()}
    return {
        "mAP": float(np.mean(list(per_domain.values()))),
        "mAP_over_videos": 100 * float(np.mean(average_precisions)),
        "per_domain": per_domain,
    }


def highlight_scores(
    curves: Sequence[np.ndarray], windows_s: Sequence[np.ndarray], spans_s: Sequence[np.ndarray]
) -> dict[str, float]:
    """Returns mAP and HIT@1 over 2-second clips, in percent; a clip is positive if a window covers its middle.

    Args:
      curves: per query, float [T]: relevance at T evenly spaced times; T may differ.
      windows_s: per query, float [n, 2]: the segments in seconds.
      spans_s: per query, float [2]: the first and the last of those times in seconds.

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
    """Returns the area under the precision–recall steps, equal scores taken together (scikit-learn's definition).

    scores float [n], positive bool [n] with at least one True → float in [0, 1].
    """
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order]
    last_of_ties = np.r_[np.flatnonzero(np.diff(scores)), len(scores) - 1]
    true = np.cumsum(positive)[last_of_ties]
    precision, recall = true / (last_of_ties + 1), true / positive.sum()
    return float((np.diff(np.r_[0.0, recall]) * precision).sum())


def top_moments_average_precision(positive: np.ndarray) -> np.ndarray:
    """Returns the AP of TVSum and YouTube Highlights, as UMT (Liu et al. 2022) computes it → float64 [...].

    positive: bool [..., n], whether each of the n pieces is a highlight, best-scored first; for TVSum the five
      best. Recall is relative to the highlights among these n alone; AP is 0 if there are none.

    It is the area under the precision-recall line drawn from (0, 1), by the trapezoid rule.
    """
    hits = positive.cumsum(axis=-1)
    total = np.maximum(hits[..., -1:], 1)
    precision = hits / np.arange(1, positive.shape[-1] + 1)
    before = np.concatenate([np.ones_like(precision[..., :1]), precision[..., :-1]], axis=-1)
    return (positive / total * (precision + before) / 2).sum(axis=-1)
