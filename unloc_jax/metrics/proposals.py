"""Proposals: the share of annotated segments that the best-scored proposals of a video find, whatever their class."""

import numpy as np

from unloc_jax.metrics.detection import ACTIVITYNET_TIOU, GroundTruth, Predictions, checked
from unloc_jax.metrics.matching import overlapping_pairs, rank_in_group

COUNTS = (1, 5, 10, 100)


def average_recall(
    ground_truth: GroundTruth,
    predictions: Predictions,
    thresholds: np.ndarray = ACTIVITYNET_TIOU,
    max_proposals: int = 100,
) -> dict[str, float]:
    """Returns AR@AN and the area under it, in percent, as ActivityNet's `eval_proposal.py` and OpenTAD compute them.

    The budget is an average over videos: with 50 proposals per video in the file, a budget of 10 takes the
    best fifth of every video's. All segments of a ground-truth video without proposals are missed; proposals of
    other videos only count in the file's average, as in the official evaluator.

    Args:
      ground_truth, predictions: as in `detection_map`; classes are ignored.
      thresholds: float [T], tIoU; recall is averaged over them.
      max_proposals: the largest average number per video, 100 in the challenge.

    Returns:
      "AUC", and "AR@n" for n in 1, 5, 10, 100 up to `max_proposals`. All 0 if there are no proposals.
    """
    truth, found = checked(ground_truth, predictions)
    names = [f"AR@{n}" for n in COUNTS if n <= max_proposals]
    videos, video_of_truth = np.unique(truth.video_index, return_inverse=True)
    kept, rank, total = _best_of_each_video(found, videos, max_proposals)
    if total == 0:
        return dict.fromkeys(["AUC", *names], 0.0)

    # For each segment and threshold the rank of the first proposal that finds it, 0 for the best.
    pairs = overlapping_pairs(
        video_of_truth,
        truth.segments_s,
        np.searchsorted(videos, found.video_index[kept]),
        found.segments_s[kept],
        min(thresholds),
    )
    # The official ratios, in the official order of operations.
    share = (
        np.arange(1, max_proposals + 1) / float(max_proposals) * (max_proposals * float(len(videos)) / total)
    )
    per_video = np.bincount(np.searchsorted(videos, found.video_index[kept]), minlength=len(videos))
    budget = np.minimum((per_video[:, None] * share).astype(np.int64), per_video[:, None])  # [V, AN]
    recall = np.empty((len(thresholds), len(share)))
    for row, threshold in enumerate(thresholds):
        enough = pairs.at_least(threshold)
        first = np.full(len(truth.class_index), np.iinfo(np.int64).max)
        np.minimum.at(first, enough.segment, rank[enough.prediction])
        # Number of budgets in which a segment is missed: budgets ascend.
        missed = (first[:, None] >= budget[video_of_truth]).sum(axis=1)
        found_by = np.bincount(missed, minlength=len(share) + 1)[:-1].cumsum()
        recall[row] = found_by / len(truth.class_index)
    average = 100 * recall.mean(axis=0)
    number = share * (total / len(videos))
    return {
        "AUC": float(np.trapezoid(average, number) / number[-1]),
        **{name: float(average[int(name[3:]) - 1]) for name in names},
    }


def _best_of_each_video(
    found: Predictions, videos: np.ndarray, max_proposals: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns proposals within the average budget: indices int [n], ranks in their videos int [n] from 0, and n."""
    if not len(found.score):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), 0
    ratio = max_proposals * float(len(videos)) / len(found.score)
    rank = rank_in_group(found.video_index, found.score)
    rows = np.flatnonzero(np.isin(found.video_index, videos))
    size = np.bincount(found.video_index)[found.video_index[rows]]
    rows = rows[rank[rows] < np.minimum((size * ratio).astype(np.int64), size)]
    return rows, rank[rows], len(rows)
