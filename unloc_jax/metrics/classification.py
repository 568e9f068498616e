"""Accuracy of whole-video scores."""

import numpy as np


def accuracy_at_k(scores: np.ndarray, labels: np.ndarray, ks: tuple[int, ...] = (1, 5)) -> dict[str, float]:
    """Returns the share of videos, in percent, whose label is among the k best scores.

    Args:
      scores: float [V, C]; of equal scores, the smaller index ranks first.
      labels: int [V] in [0, C).
      ks: values of k; those above C are left out.

    Returns:
      {"top1": …, "top5": …}.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    hit = order == labels[:, None]
    return {f"top{k}": 100.0 * float(hit[:, :k].any(1).mean()) for k in ks if k <= scores.shape[1]}
