"""Moment retrieval: recall at k and mean IoU, as Scenic's UnLoc and moment_detr define them."""

from collections.abc import Sequence

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import refuse_rows
from unloc_jax.metrics.tiou import segment_iou


def recall_at_k(
    ground_truth_s: np.ndarray | Sequence[np.ndarray],
    predictions_s: Sequence[np.ndarray],
    ks: Sequence[int] = (1, 5),
    thresholds: Sequence[float] = (0.3, 0.5, 0.7),
    *,
    strict: bool = False,
) -> dict[str, float]:
    """Returns R@k, the share of queries with a segment of tIoU ≥ threshold among their first k, and mIoU, in percent.

    Args:
      ground_truth_s: float [N, 2], the segment (start, end in s) of each query; or N arrays float [W_n ≥ 1, 2], the
        answers to each query: a hit of any one counts.
      predictions_s: N arrays, float [K_n, 2] in seconds, best first. K_n may differ between queries and be less than k
        or 0: a query without predictions is a miss with IoU 0.
      ks: numbers of first predictions that count.
      thresholds: tIoU thresholds.
      strict: compare with > (2D-TAN) instead of ≥ (UnLoc, moment_detr).

    Returns:
      {"R1@0.3": …, "R1@0.5": …, …, "mIoU": …}; "mIoU" is the mean tIoU of the first predictions.

    IoU is intersection / covered length; moment_detr divides by the hull, the same value except for the last bit,
    which on Charades-STA's rounded times decides for one query in 3720 at exactly 0.7.

    Raises:
      UserError: there are no queries, counts disagree, or a time is NaN or infinite.
    """
    ground_truth_s = [np.asarray(of_query, np.float64).reshape(-1, 2) for of_query in ground_truth_s]
    if len(ground_truth_s) == 0:
        raise UserError("recall at k needs at least one query: the ground truth is empty")
    if len(ground_truth_s) != len(predictions_s):
        raise UserError(f"{len(ground_truth_s)} ground-truth segments, but {len(predictions_s)} predictions")
    for query, segments_s in enumerate(predictions_s):
        if len(segments_s) and np.shape(segments_s)[1:] != (2,):
            raise UserError(
                f"predictions: row {query} has shape {np.shape(segments_s)}, not (K, 2) (start, end)"
            )
    first_s = padded(predictions_s, max(ks))
    answers_s = padded_by_repetition(ground_truth_s)
    refuse_rows(~np.isfinite(answers_s), answers_s, "ground truth: a time is not finite")
    refuse_rows(~np.isfinite(first_s), first_s, "predictions: a time is not finite")

    iou = segment_iou(first_s[:, :, None], answers_s[:, None]).max(axis=2)
    return recall_of_ious(iou, ks, thresholds, strict=strict)


def recall_of_ious(
    iou: np.ndarray, ks: Sequence[int], thresholds: Sequence[float], *, strict: bool = False
) -> dict[str, float]:
    """Returns what `recall_at_k` does, from the tIoU, float [N, K], of the predictions, best first; padded with 0."""
    best = np.maximum.accumulate(iou, axis=1)
    enough = np.greater if strict else np.greater_equal
    recall = {
        f"R{k}@{threshold:g}": 100 * float(np.mean(enough(best[:, min(k, iou.shape[1]) - 1], threshold)))
        for k in ks
        for threshold in thresholds
    }
    return {**recall, "mIoU": 100 * float(np.mean(iou[:, 0]))}


def padded_by_repetition(answers_s: Sequence[np.ndarray]) -> np.ndarray:
    """Pads N lists of W_n ≥ 1 segments, float [W_n, 2] → float64 [N, W, 2], by repeating a query's last one."""
    most = max(map(len, answers_s))
    return np.stack([of_query[np.minimum(np.arange(most), len(of_query) - 1)] for of_query in answers_s])


def padded(segments_s: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Stacks the first `width` of each list's segments, float [n, 2] → float64 [N, width, 2]; pads with empty ones."""
    rows = np.zeros((len(segments_s), width, 2))
    for row, of_query in zip(rows, segments_s):
        row[: len(of_query)] = np.reshape(of_query[:width], (-1, 2))
    return rows
