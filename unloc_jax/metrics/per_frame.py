"""Classes of single frames, as Charades_v1_localize.m scores them: at equally spaced places of every video."""

import numpy as np

PLACES = 25
_BLOCK = 1 << 16  # segments whose places are in memory at once


def place_times(duration_s: np.ndarray, places: int = PLACES) -> np.ndarray:
    """Returns the times of the places 0, 1/P, …, (P − 1)/P of videos float [V] s long: float64 [V, P] in seconds."""
    return np.arange(places) / places * np.asarray(duration_s, np.float64)[:, None]


def best_scores(
    times_s: np.ndarray,
    video_index: np.ndarray,
    class_index: np.ndarray,
    segments_s: np.ndarray,
    score: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """Returns the best score of a segment that covers each place, its ends included: float64 [V, P, C].

    Without any it is -inf.

    Args:
      times_s: float [V, P], from `place_times`.
      video_index, class_index: int [M], of the segments.
      segments_s: float [M, 2], start and end in seconds.
      score: float [M].
      num_classes: C.
    """
    best = np.full((*times_s.shape, num_classes), -np.inf)
    for start in range(0, len(score), _BLOCK):
        rows = slice(start, start + _BLOCK)
        times, segments = times_s[video_index[rows]], segments_s[rows, :, None]
        row, place = np.nonzero((segments[:, 0] <= times) & (times <= segments[:, 1]))
        np.maximum.at(best, (video_index[rows][row], place, class_index[rows][row]), score[rows][row])
    return best


def frame_average_precisions(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Returns the AP in [0, 1] of each class, float64 [C]: the mean of the precision at each positive frame.

    It is not interpolated, and equal scores rank in the given order. NaN for a class without positive frames.

    Args:
      scores: float [N, C].
      positive: bool [N, C].
    """
    average_precision = np.full(scores.shape[1], np.nan)
    for c in np.flatnonzero(positive.any(axis=0)):
        rank = np.flatnonzero(positive[np.argsort(-scores[:, c], kind="stable"), c])
        average_precision[c] = np.mean(np.arange(1, len(rank) + 1) / (rank + 1))
    return average_precision
