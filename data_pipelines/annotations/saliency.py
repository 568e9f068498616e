"""Converts highlight scores from files to those of 2-second clips, float32 [num_clips, num_annotators]."""

import math
from typing import Any

import numpy as np

from data_pipelines.annotations.segments import LONGEST_S
from unloc_jax.metrics.highlights import CLIP_S, pieces_of


def as_scores(scores: Any) -> np.ndarray | None:
    """Converts a list of rows (one number per annotator) or of numbers to float32 [n, annotators]; else None."""
    if not isinstance(scores, list) or not scores:
        return None
    try:
        with np.errstate(over="ignore"):  # becomes infinite, which is refused below
            array = np.array(scores, np.float32)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    if array.ndim == 1:
        array = array[:, None]
    return array if array.ndim == 2 and array.shape[1] and np.isfinite(array).all() else None


def of_relevant_clips(clip_ids: Any, scores: np.ndarray, duration_s: float) -> np.ndarray | None:
    """Returns the scores of all clips, float32 [num_clips, annotators]; clips that are not relevant score 0.

    There are floor(duration / 2) clips, as in QVHighlights' official evaluation.

    Args:
      clip_ids: list of n int, as in the file.
      scores: float32 [n, annotators], of these clips.
      duration_s: of the video in seconds; 0.0 if unknown.

    Returns:
      The scores; None if ids and scores do not match, or if an id is outside the video.
    """
    if not isinstance(clip_ids, list) or len(clip_ids) != len(scores):
        return None
    if not all(isinstance(i, int) and 0 <= i < LONGEST_S / CLIP_S for i in clip_ids):
        return None
    num_clips = int(duration_s / CLIP_S) if duration_s else max(clip_ids) + 1
    if max(clip_ids) >= num_clips:
        return None
    every = np.zeros((num_clips, scores.shape[1]), np.float32)
    every[clip_ids] = scores
    return every


def of_pieces(scores: np.ndarray, bounds_s: np.ndarray | None, duration_s: float) -> np.ndarray:
    """Returns the scores of a video's 2-second clips, float32 [num_clips, annotators].

    A clip gets the scores of the piece that covers most of it; 0 if none does.

    Args:
      scores: float32 [n, annotators], of n pieces of the video.
      bounds_s: float [n, 2], start and end of the pieces in seconds; they may overlap. None: they are the 2-second
        clips if their number matches, else they divide the video evenly.
      duration_s: of the video in seconds; 0.0 if unknown: then the pieces are the clips.
    """
    bounds_s = pieces_of(len(scores), duration_s, bounds_s)
    if bounds_s is None:
        return scores
    num_clips = int(duration_s / CLIP_S) if duration_s else math.ceil(bounds_s.max() / CLIP_S)
    covered_s = np.zeros(num_clips)
    result = np.zeros((num_clips, scores.shape[1]), np.float32)
    for (start_s, end_s), score in zip(bounds_s, scores):
        clips = np.arange(max(int(start_s / CLIP_S), 0), min(math.ceil(end_s / CLIP_S), num_clips))
        overlap_s = np.minimum(end_s, (clips + 1) * CLIP_S) - np.maximum(start_s, clips * CLIP_S)
        better = overlap_s > covered_s[clips]
        covered_s[clips[better]] = overlap_s[better]
        result[clips[better]] = score
    return result
