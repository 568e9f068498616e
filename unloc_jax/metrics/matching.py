"""Assignment of predictions to ground-truth segments: the part that all detection metrics share.

The official evaluators process predictions one by one. Here the overlapping (prediction, ground truth) pairs of
all videos and classes are one list, and a matching is a few array operations on it.
"""

import itertools
from typing import NamedTuple

import numpy as np

from unloc_jax.metrics.tiou import segment_iou

# Pairs are processed in blocks that fit into a processor's cache, so that memory does not grow with all pairs.
_BLOCK_ROWS = 1 << 15


class Pairs(NamedTuple):
    """Overlapping pairs of predictions and ground-truth segments."""

    prediction: np.ndarray  # int [pairs]
    segment: np.ndarray  # int [pairs]
    iou: np.ndarray  # float64 [pairs]

    def at_least(self, threshold: float) -> "Pairs":
        enough = np.flatnonzero(self.iou >= threshold)
        return Pairs(self.prediction[enough], self.segment[enough], self.iou[enough])

    def best_first(self, position: np.ndarray) -> "Pairs":
        """Renumbers predictions by `position`, int [M], and sorts by it, then by descending tIoU.

        Of two equal tIoU, the later segment comes first.
        """
        pairs = self._replace(prediction=position[self.prediction])
        order = np.argsort(pairs.prediction, kind="stable")
        pairs = Pairs(*(column[order] for column in pairs))
        # Most predictions have one pair, which is in its place already.
        several = np.zeros(len(order) + 1, bool)
        several[1:-1] = pairs.prediction[1:] == pairs.prediction[:-1]
        rows = np.flatnonzero(several[1:] | several[:-1])
        order = rows[np.lexsort((-pairs.segment[rows], -pairs.iou[rows], pairs.prediction[rows]))]
        for column in pairs:
            column[rows] = column[order]
        return pairs


def overlapping_pairs(
    truth_group: np.ndarray,
    truth_segments: np.ndarray,
    found_group: np.ndarray,
    found_segments: np.ndarray,
    min_iou: float,
    *,
    empty_pairs_hit: bool = False,
) -> Pairs:
    """Returns all pairs of the same group with tIoU ≥ `min_iou`, by ascending prediction.

    Args:
      truth_group: int [G] ≥ 0, for example a number for each (video, class).
      truth_segments: float64 [G, 2], start and end, in the unit of found_segments.
      found_group: int [M] ≥ 0.
      found_segments: float64 [M, 2].
      min_iou: lowest tIoU of interest, > 0.
      empty_pairs_hit: give two empty segments (start = end) of the same group an infinite tIoU, wherever they
        are: the official ActivityNet evaluator's 0/0, which is not below any threshold.
    """
    by_group = np.argsort(truth_group, kind="stable")
    groups, first, count = np.unique(truth_group[by_group], return_index=True, return_counts=True)
    blocks = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for start in range(0, len(found_group) if len(groups) else 0, _BLOCK_ROWS):
        group = found_group[start : start + _BLOCK_ROWS]
        at = np.minimum(np.searchsorted(groups, group), len(groups) - 1)
        rows = np.flatnonzero(groups[at] == group)
        at = at[rows]
        repeats = count[at]
        prediction = np.repeat(rows + start, repeats)
        place = np.arange(len(prediction)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        segment = by_group[np.repeat(first[at], repeats) + place]
        a, b = found_segments[prediction], truth_segments[segment]
        iou = segment_iou(a, b)
        if empty_pairs_hit:
            iou[(a[:, 0] == a[:, 1]) & (b[:, 0] == b[:, 1])] = np.inf
        blocks.append(Pairs(prediction, segment, iou).at_least(min_iou))
    return Pairs(*(np.concatenate(column) for column in zip(*blocks)))


def descending_in_groups(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Returns row indices int [M] sorted by ascending `group` (int [M] ≥ 0), then descending `score` (float [M]).

    Equal scores rank as in NumPy's default argsort, reversed, as in the official evaluators. That
    sort is not stable, so each group has to be sorted by itself, in its given order.
    """
    small = np.min_scalar_type(int(group.max(initial=0)))  # NumPy sorts up to 16 bits by counting
    order = np.argsort(group.astype(small), kind="stable")
    scores = score[order]
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(group[order])) + 1, [len(order)]])
    for start, end in itertools.pairwise(bounds.tolist()):
        order[start:end] = order[start:end][scores[start:end].argsort()[::-1]]
    return order


def rank_in_group(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Returns ranks int [M], 0 for the best of each group; order as in `descending_in_groups`."""
    order = descending_in_groups(group, score)
    in_order = group[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.searchsorted(in_order, in_order)
    return rank


def count_ties(group: np.ndarray, score: np.ndarray) -> int:
    """Counts rows whose score occurs more than once in their group; both [M], sorted by group, then by score."""
    tied = np.zeros(len(score) + 1, bool)  # index i: equal to the one before
    tied[1:-1] = (score[1:] == score[:-1]) & (group[1:] == group[:-1])
    return int((tied[1:] | tied[:-1]).sum())


def greedy_matches(prediction: np.ndarray, segment: np.ndarray, num_segments: int) -> np.ndarray:
    """Assigns to each prediction, in ascending index, its first free segment.

    Args:
      prediction, segment: int [pairs], sorted by prediction, then by its preference.
      num_segments: S.

    Returns:
      int [S], the prediction that takes each segment; -1 = none.

    This sequential rule is a stable matching in which all segments rank the predictions the same way. Such a
    matching is unique, so rounds of deferred acceptance (Gale and Shapley 1962) find the same one with few
    array operations: every unmatched prediction asks for its next segment, every segment keeps the lowest
    index that ever asked.
    """
    holder = np.full(num_segments, -1)
    if not len(prediction):
        return holder
    is_first = np.empty(len(prediction), bool)
    is_first[0] = True
    np.not_equal(prediction[1:], prediction[:-1], out=is_first[1:])
    next_pair = np.flatnonzero(is_first)
    end_pair = np.append(next_pair[1:], len(prediction))
    nobody = len(next_pair)
    held_by = np.full(num_segments, nobody)
    asking = np.arange(nobody)
    while len(asking):
        wanted = segment[next_pair[asking]]
        previous = held_by[wanted]
        better = asking < previous
        # The last one assigned stays: the lowest index, as `asking` ascends.
        held_by[wanted[better][::-1]] = asking[better][::-1]
        refused = held_by[wanted] != asking
        displaced = previous[~refused & (previous != nobody)]
        asking = np.sort(np.concatenate([asking[refused], displaced]))
        next_pair[asking] += 1
        asking = asking[next_pair[asking] < end_pair[asking]]
    taken = held_by != nobody
    holder[taken] = prediction[is_first][held_by[taken]]
    return holder


def interpolated_average_precisions(
    group: np.ndarray, position: np.ndarray, num_ground_truth: np.ndarray
) -> np.ndarray:
    """Returns the AP in [0, 1] of every group, from its hits alone: float64 [groups]; 0 for a group without hits.

    Args:
      group: int [H], the group of each hit, ascending.
      position: int [H], ascending within a group: 1 for the group's best-scored prediction, hit or not.
      num_ground_truth: int [groups].

    The precision at a recall is the highest precision at this recall or a greater one, as in PASCAL VOC 2010.
    """
    start = np.searchsorted(group, np.arange(len(num_ground_truth)))
    true_positives = np.arange(1, len(group) + 1) - start[group]
    interpolated = _highest_from_here(true_positives / position, group)
    recall = true_positives / num_ground_truth[group]
    gain = recall - (true_positives - 1) / num_ground_truth[group]
    return np.bincount(group, gain * interpolated, minlength=len(num_ground_truth))


def _highest_from_here(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Returns the maximum of `values` [n] from each place to the end of its group (int [n], ascending)."""
    if not len(values):
        return values
    ascending = np.sort(values)
    # Whole numbers, so that adding the group's index above the rank loses no precision.
    rank = np.searchsorted(ascending, values)
    key = (group[-1] - group) * len(values) + rank
    return ascending[np.maximum.accumulate(key[::-1])[::-1] % len(values)]
