"""The published algorithm of ActivityNet's detection evaluation, one prediction after the other.

Implements the description of the task (Caba Heilbron et al. 2015, section 4, and the challenge's guidelines): for each
class, predictions of all videos are visited in descending score. Each visits the class's segments of its video, best
tIoU first, and at every threshold takes the first one that is free and overlaps enough; without one it is a false
positive. AP is the area under the precision-recall curve, interpolated as in PASCAL VOC 2010.

`benchmarks/evaluation.py` compares `unloc_jax.metrics.detection.detection_map` with it: the same numbers, without
optimisation. The segments of a video are looked up in a dict or, as in the official evaluator, in pandas tables, which
then take most of the time.
"""

import collections
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from unloc_jax.metrics.detection import GroundTruth, Predictions

# A prediction's segment [2], its video's segments [n, 2], and a function from one of those to its number in the class.
Step = tuple[np.ndarray, np.ndarray, Callable[[int], int]]

NOTHING = np.zeros((0, 2))


def average_precisions_one_by_one(
    truth: GroundTruth,
    found: Predictions,
    classes: Sequence[int],
    thresholds: np.ndarray,
    *,
    tables: bool = False,
) -> np.ndarray:
    """Returns the AP in [0, 1] of each of `classes`, float64 [len(classes), T]; `tables` needs pandas."""
    rows = []
    for c in classes:
        segments = GroundTruth(*(column[truth.class_index == c] for column in truth))
        predictions = Predictions(*(column[found.class_index == c] for column in found))
        best_first = predictions.score.argsort()[::-1]
        predictions = Predictions(*(column[best_first] for column in predictions))
        steps = _from_tables(segments, predictions) if tables else _from_dicts(segments, predictions)
        rows.append(_of_class(steps, len(segments.class_index), len(best_first), thresholds))
    return np.array(rows)


def _of_class(
    steps: Iterator[Step], num_segments: int, num_predictions: int, thresholds: np.ndarray
) -> np.ndarray:
    taken = np.zeros((len(thresholds), num_segments), bool)
    hits = np.zeros((len(thresholds), num_predictions))
    for place, (segment, candidates, number_of) in enumerate(steps):
        if not len(candidates):
            continue
        overlap = np.minimum(segment[1], candidates[:, 1]) - np.maximum(segment[0], candidates[:, 0])
        intersection = overlap.clip(0)
        union = (candidates[:, 1] - candidates[:, 0]) + (segment[1] - segment[0]) - intersection
        with np.errstate(invalid="ignore"):
            iou = intersection / union
        by_iou = iou.argsort()[::-1]
        for row, threshold in enumerate(thresholds):
            for candidate in by_iou:
                if iou[candidate] < threshold:
                    break
                if not taken[row, number_of(candidate)]:
                    taken[row, number_of(candidate)] = hits[row, place] = True
                    break
    return np.array([_average_precision(of_threshold, num_segments) for of_threshold in hits])


def _from_dicts(segments: GroundTruth, predictions: Predictions) -> Iterator[Step]:
    rows = collections.defaultdict(list)
    for row, video in enumerate(segments.video_index):
        rows[video].append(row)
    for video, segment in zip(predictions.video_index, predictions.segments_s):
        numbers = rows.get(video, [])
        yield segment, segments.segments_s[numbers], numbers.__getitem__


def _from_tables(segments: GroundTruth, predictions: Predictions) -> Iterator[Step]:
    import pandas as pd

    times = ["start", "end"]
    by_video = pd.DataFrame(segments.segments_s, columns=times).groupby(segments.video_index)
    for video, segment in zip(
        predictions.video_index, pd.DataFrame(predictions.segments_s, columns=times).iterrows()
    ):
        try:
            rows = by_video.get_group(video).reset_index()
        except KeyError:
            yield NOTHING, NOTHING, int
            continue
        number_of = lambda candidate, rows=rows: int(rows.loc[candidate]["index"])
        yield segment[1][times].to_numpy(), rows[times].to_numpy(), number_of


def _average_precision(hits: np.ndarray, num_segments: int) -> float:
    true_positives = hits.cumsum()
    precision = [0.0, *true_positives / np.arange(1, len(hits) + 1), 0.0]
    recall = [0.0, *true_positives / num_segments, 1.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))
