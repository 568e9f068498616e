"""Action segmentation: accuracy of frames, and of the segments that runs of equal labels form."""

from typing import NamedTuple

import numpy as np

from unloc_jax.metrics.highlights import average_precision
from unloc_jax.metrics.tiou import segment_iou_by_hull

OVERLAPS = (0.1, 0.25, 0.5)


class Frames(NamedTuple):
    """N frames of V videos, one video after the other."""

    labels: np.ndarray  #: int [N]
    predicted: np.ndarray  #: int [N]
    lengths: np.ndarray  #: int [V], frames of each video


class Segments(NamedTuple):
    """Longest runs of one label within a video, in order."""

    video: np.ndarray  #: int [S]
    start: np.ndarray  #: int [S], frame index into all N
    end: np.ndarray  #: int [S], exclusive
    label: np.ndarray  #: int [S]


def frame_accuracy(scores: np.ndarray, labels: np.ndarray, threshold: float = 0.0) -> float:
    """Returns the share in [0, 1] of frames whose best class is one of their own (Scenic's UnLoc, frame_accuracy).

    A frame whose scores are all at or below `threshold` is predicted as background, which is right if the frame has no
    class.

    Args:
      scores: float [N, C].
      labels: bool or {0, 1} [N, C]; a frame may have several classes or none.
      threshold: which the best score must exceed.
    """
    background = scores.max(1) <= threshold
    right = np.take_along_axis(labels.astype(bool), scores.argmax(1)[:, None], axis=1)[:, 0]
    return float(np.where(background, ~labels.any(1), right).mean())


def labels_at(
    times_s: np.ndarray, segments_s: np.ndarray, class_index: np.ndarray, num_classes: int
) -> np.ndarray:
    """Returns the classes of frames, bool [T, C]: those with a segment that covers the time, its ends included.

    times_s float [T] in seconds; segments_s float [S, 2] in seconds; class_index int [S] in [0, C).
    """
    labels = np.zeros((len(times_s), num_classes), bool)
    for (start_s, end_s), which in zip(segments_s, class_index, strict=True):
        labels[(times_s >= start_s) & (times_s <= end_s), which] = True
    return labels


def segmentation_scores(frames: Frames, background: int | None, *, pooled: bool = True) -> dict[str, float]:
    """Returns accuracy, edit score and F1 at overlaps of 10, 25 and 50 %, in percent.

    Args:
      frames: N ≥ 1 frames.
      background: the label whose segments are left out of edit and F1; its frames count for "accuracy".
      pooled: count frames, hits and misses over all videos together (MS-TCN's eval.py); False computes every score
        per video and averages them (TCN's metrics.py; Lea et al. 2017). The edit score is per video in both.

    Returns:
      {"accuracy": …, "accuracy_without_background": …, "edit": …, "F1@10": …, "F1@25": …, "F1@50": …}; the
      second is over frames whose own label is not background, NaN without any.

    A predicted segment hits the segment of its label that it overlaps most (union = hull; the earlier of equal
    ones) if the overlap is enough and no earlier prediction hit it; otherwise it is a false positive, whatever
    else it overlaps. A video with segments on neither side has edit score 100 and F1 0, as in TCN.
    """
    right = frames.labels == frames.predicted
    foreground = np.ones(len(right), bool) if background is None else frames.labels != background
    num_videos = len(frames.lengths)
    video = np.repeat(np.arange(num_videos), frames.lengths)

    def share(counted: np.ndarray) -> float:
        if pooled:
            return float(np.mean(right[counted])) if counted.any() else np.nan
        number = np.bincount(video[counted], minlength=num_videos)
        hits = np.bincount(video[counted & right], minlength=num_videos)
        return float(np.mean((hits / np.maximum(number, 1))[number > 0])) if number.any() else np.nan

    truth = segments_of(frames.labels, frames.lengths)
    found = segments_of(frames.predicted, frames.lengths)
    truth, found = (_without(segments, background) for segments in (truth, found))
    hits, num_truth, num_found = _hits(truth, found, num_videos)
    if pooled:
        hits, num_truth, num_found = (
            hits.sum(0, keepdims=True),
            num_truth.sum(keepdims=True),
            num_found.sum(keepdims=True),
        )
    f1 = _f1(hits, num_truth, num_found).mean(axis=0)
    return {
        "accuracy": 100 * share(np.ones(len(right), bool)),
        "accuracy_without_background": 100 * share(foreground),
        "edit": 100 * float(edit_similarities(truth, found, num_videos).mean()),
        **{f"F1@{round(100 * overlap)}": 100 * float(value) for overlap, value in zip(OVERLAPS, f1)},
    }


def per_class_average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the AP in percent of each class over all frames, float64 [C]; NaN for a class without frames.

    scores: float [N, C]; labels: bool [N, C]. Equal scores are taken together (`highlights.average_precision`).
    """
    return np.array(
        [
            100 * average_precision(scores[:, c], labels[:, c]) if labels[:, c].any() else np.nan
            for c in range(scores.shape[1])
        ]
    )


def segments_of(labels: np.ndarray, lengths: np.ndarray) -> Segments:
    """Splits labels int [N] of videos of `lengths` int [V] into segments."""
    video = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.ones(len(labels), bool)
    starts[1:] = (labels[1:] != labels[:-1]) | (video[1:] != video[:-1])
    start = np.flatnonzero(starts)
    return Segments(video[start], start, np.append(start[1:], len(labels)), labels[start])


def edit_similarities(truth: Segments, found: Segments, num_videos: int) -> np.ndarray:
    """Returns 1 − Levenshtein distance / length of the longer label sequence, float64 [V]; 1 if both are empty."""
    a, num_a = _sequences(found, num_videos)
    b, num_b = _sequences(truth, num_videos)
    column = np.arange(b.shape[1] + 1)
    row = np.broadcast_to(column, (num_videos, len(column)))
    distance = np.where(num_a == 0, num_b, 0)
    for i in range(1, a.shape[1] + 1):
        change = row[:, :-1] + (a[:, i - 1, None] != b)
        best = np.concatenate([np.full((num_videos, 1), i), np.minimum(row[:, 1:] + 1, change)], axis=1)
        # Insertions cost one per column: take the best start to the left.
        row = np.minimum.accumulate(best - column, axis=1) + column
        done = num_a == i
        distance[done] = row[done, num_b[done]]
    return 1 - distance / np.maximum(np.maximum(num_a, num_b), 1)


def _sequences(segments: Segments, num_videos: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels int [V, longest], and their number per video, int [V]."""
    counts: np.ndarray = np.bincount(segments.video, minlength=num_videos)
    labels = np.zeros((num_videos, counts.max(initial=0)), segments.label.dtype)
    labels[np.arange(labels.shape[1]) < counts[:, None]] = segments.label
    return labels, counts


def _hits(truth: Segments, found: Segments, num_videos: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns true positives int [V, OVERLAPS], and the number of segments of both, int [V] each."""
    # Both split the same axis, so the pieces between all cuts are the overlapping pairs.
    cuts = np.unique(np.concatenate([truth.start, truth.end, found.start, found.end]))
    pair_truth, pair_found = (_covering(segments, cuts) for segments in (truth, found))
    both = (pair_truth >= 0) & (pair_found >= 0)
    pair_truth, pair_found = pair_truth[both], pair_found[both]
    same = truth.label[pair_truth] == found.label[pair_found]
    pair_truth, pair_found = pair_truth[same], pair_found[same]
    span = lambda segments, rows: np.stack([segments.start[rows], segments.end[rows]], axis=-1)
    iou = segment_iou_by_hull(span(truth, pair_truth), span(found, pair_found))
    order = np.lexsort((pair_truth, -iou, pair_found))
    _, first = np.unique(pair_found[order], return_index=True)
    best = order[first]
    hits = np.zeros((num_videos, len(OVERLAPS)), np.int64)
    for column, threshold in enumerate(OVERLAPS):
        hit = np.unique(pair_truth[best[iou[best] >= threshold]])
        hits[:, column] = np.bincount(truth.video[hit], minlength=num_videos)
    return (
        hits,
        np.bincount(truth.video, minlength=num_videos),
        np.bincount(found.video, minlength=num_videos),
    )


def _covering(segments: Segments, cuts: np.ndarray) -> np.ndarray:
    """Returns the index int [n] of the segment that covers the piece after each of n cuts (int [n]); -1 = none."""
    if not len(segments.start):
        return np.full(len(cuts), -1)
    index = np.searchsorted(segments.start, cuts, side="right") - 1
    return np.where((index >= 0) & (cuts < segments.end[index]), index, -1)


def _f1(hits: np.ndarray, num_truth: np.ndarray, num_found: np.ndarray) -> np.ndarray:
    """Returns F1 in [0, 1], float64 [V, OVERLAPS], from hits int [V, OVERLAPS] and numbers of segments int [V]."""
    precision = hits / np.maximum(num_found, 1)[:, None]
    recall = hits / np.maximum(num_truth, 1)[:, None]
    return 2 * precision * recall / np.where(hits > 0, precision + recall, 1)


def _without(segments: Segments, label: int | None) -> Segments:
    return segments if label is None else Segments(*(column[segments.label != label] for column in segments))
