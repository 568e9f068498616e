"""Action segmentation: accuracy of frames."""

import numpy as np


def frame_accuracy(scores: np.ndarray, labels: np.ndarray, threshold: float = 0.0) -> float:
    """Share of frames in [0, 1] whose best class is one of the frame's own (Scenic's UnLoc, metrics.frame_accuracy).

    A frame whose scores are all at or below `threshold` is called background, which is right where the frame has no
    class.

    Args:
      scores: float [N, C] of N frames.
      labels: bool or {0, 1} [N, C]; a frame may have several classes or none.
      threshold: of the best score.
    """
    background = scores.max(1) <= threshold
    right = np.take_along_axis(labels.astype(bool), scores.argmax(1)[:, None], axis=1)[:, 0]
    return float(np.where(background, ~labels.any(1), right).mean())
