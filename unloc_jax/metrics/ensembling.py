"""Ensembles of predictions: segments that several models find are one, with the mean of their scores.

A form of weighted boxes fusion (Solovyev et al. 2021) in time: a segment takes at most one of each other model.
"""

import numpy as np

from unloc_jax.metrics.tiou import pairwise_segment_iou


def fused(
    segments: np.ndarray, score: np.ndarray, model: np.ndarray, weights: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the fused segments, float64 [K, 2], and their scores, float64 [K], best first.

    The best segment that is left takes from each other model the one that overlaps it most, if its tIoU is ≥ threshold.
    Together they become the mean of their bounds, weighted by weight · score; its score is the sum of weight · score
    over the sum of the weights of all models, so that what one model alone finds counts less.

    Args:
      segments: float [n, 2], start and end, of one class in one video.
      score: float [n], ≥ 0.
      model: int [n], which model found it.
      weights: float [models], > 0.
      threshold: tIoU.
    """
    share = weights / weights.sum()
    order = np.argsort(-score * share[model], kind="stable")
    segments, score, model = segments[order], score[order], model[order]
    value = score * share[model]
    iou = np.where(model[:, None] == model, -1.0, pairwise_segment_iou(segments, segments))
    iou[iou < threshold] = -1.0
    is_left = np.ones(len(score), bool)
    bounds, scores = [], []
    for i in range(len(score)):
        if not is_left[i]:
            continue
        taken = [i]
        left = np.where(is_left, iou[i], -1.0)
        while left.max() >= 0:
            j = int(left.argmax())
            taken.append(j)
            left[model == model[j]] = -1.0
        is_left[taken] = False
        total = value[taken].sum()
        part = value[taken] / total if total > 0 else np.full(len(taken), 1 / len(taken))
        # A mean of equal numbers need not be that number to the last bit.
        same = (segments[taken] == segments[i]).all()
        bounds.append(segments[i] if same else part @ segments[taken])
        scores.append(total)
    best = np.argsort(-np.array(scores), kind="stable")
    return np.array(bounds).reshape(-1, 2)[best], np.array(scores)[best]
