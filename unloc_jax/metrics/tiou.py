"""Temporal intersection over union (tIoU), the one overlap that every metric of this room uses."""

import numpy as np


def segment_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the tIoU of segments `a [..., 2]` and `b [..., 2]` (start, end), broadcast: float64 `[...]`.

    Any unit, if both use the same. The union is the covered length (`|a| + |b| - |a ∩ b|`), as in the
    ActivityNet evaluator and in Scenic's UnLoc, not the hull. A segment with end ≤ start covers nothing and
    has IoU 0 with everything, including itself (the ActivityNet evaluator divides 0 by 0 there and counts the
    NaN as a hit).
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    length_a = np.maximum(a[..., 1] - a[..., 0], 0.0)
    length_b = np.maximum(b[..., 1] - b[..., 0], 0.0)
    overlap = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    intersection = np.maximum(overlap, 0.0)
    union = length_a + length_b - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def segment_iou_by_hull(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the tIoU whose union is the hull, from the earlier start to the later end.

    `a [..., 2]`, `b [..., 2]` → float64 `[...]`, as in `segment_iou`. Segments that overlap cover their hull, so this
    is the same number except for the last bit, which decides at thresholds that rounded times hit exactly. The devkit
    of THUMOS14, moment_detr (R1) and 2D-TAN divide by the hull.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    overlap = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    hull = np.maximum(a[..., 1], b[..., 1]) - np.minimum(a[..., 0], b[..., 0])
    return np.divide(np.maximum(overlap, 0.0), hull, out=np.zeros_like(hull), where=hull > 0)


def pairwise_segment_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the tIoU of each segment of `a [..., M, 2]` with each of `b [..., N, 2]`: float64 `[..., M, N]`."""
    return segment_iou(np.asarray(a)[..., :, None, :], np.asarray(b)[..., None, :, :])
