"""Scores of videos, to find those on which a detector does best and worst."""

import dataclasses

import numpy as np

from unloc_jax.metrics.diagnosis.inputs import Actions
from unloc_jax.metrics.diagnosis.matches import Matches

SHOWN = 20


@dataclasses.dataclass(frozen=True)
class VideoScores:
    """F1 of every video at the score where F1 over all videos is highest.

    Attributes:
      threshold: this score.
      f1: over all videos, in [0, 1].
      shown: bool [K], predictions that score ≥ `threshold`.
      video_f1: float64 [V] in [0, 1]; NaN for a video without segments.
      segments, found, predictions: int [V]: segments, those hit by a shown prediction, shown predictions.
    """

    threshold: float
    f1: float
    shown: np.ndarray
    video_f1: np.ndarray
    segments: np.ndarray
    found: np.ndarray
    predictions: np.ndarray


def worst_and_best(score: np.ndarray, count: np.ndarray, most: int = SHOWN) -> tuple[np.ndarray, np.ndarray]:
    """Returns videos, int [≤ most] each, the worst and the best first; no video is in both.

    Args:
      score: float [V]; NaN: in neither.
      count: int [V]; of videos with equal scores, those with more come first.
      most: of each.
    """
    worst, best = (
        order[~np.isnan(score[order])] for order in map(np.lexsort, ((-count, score), (-count, -score)))
    )
    worst = worst[:most]
    return worst, best[~np.isin(best, worst)][:most]


def score_videos(actions: Actions, matches: Matches) -> VideoScores:
    """Computes F1 = 2·hits / (predictions + segments)."""
    order = np.argsort(-matches.found.score, kind="stable")
    score = matches.found.score[order]
    hits = np.cumsum(matches.hit[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + len(matches.truth.class_index))
    last_of_score = np.append(score[1:] != score[:-1], True)
    best = int(np.argmax(np.where(last_of_score, f1, -1)))
    shown = matches.found.score >= score[best]

    num_videos = len(actions.videos)
    count = lambda rows: np.bincount(rows[rows < num_videos], minlength=num_videos)
    segments = count(matches.truth.video_index)
    found = count(matches.found.video_index[shown & matches.hit])
    predictions = count(matches.found.video_index[shown])
    with np.errstate(invalid="ignore"):
        video_f1 = np.where(segments > 0, 2 * found / (predictions + segments), np.nan)
    return VideoScores(float(score[best]), float(f1[best]), shown, video_f1, segments, found, predictions)
