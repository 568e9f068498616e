"""Intersection over prediction: NExT-GQA (Xiao et al. 2024) asks with it whether an answer's moment was looked at."""

import numpy as np


def iou_and_iop(span_s: np.ndarray, moments_s: np.ndarray) -> tuple[float, float]:
    """Returns the highest tIoU and the highest intersection over prediction of a span with any of its moments.

    Both are in [0, 1]. A span without length has tIoU 0, and an intersection of 1 if it lies in a moment (ends
    included); a reversed one has 0 and 0. The union is the hull (`eval_ground.py`).

    Args:
      span_s: float [2], start and end in seconds.
      moments_s: float [W ≥ 1, 2] in seconds.
    """
    start, end = span_s
    if start == end:
        return 0.0, float(((moments_s[:, 0] <= start) & (start <= moments_s[:, 1])).any())
    overlap = np.minimum(moments_s[:, 1], end) - np.maximum(moments_s[:, 0], start)
    hull = np.maximum(moments_s[:, 1], end) - np.minimum(moments_s[:, 0], start)
    iou = np.divide(overlap, hull, out=np.zeros(len(hull)), where=hull > 0).max()
    iop = (overlap / (end - start)).max() if start < end else 0.0
    return max(float(iou), 0.0), max(float(iop), 0.0)
