"""Baselines of `real.py`: proposals from motion, a linear classifier of pixel differences (or features), constants.

Everything is NumPy on what a person without a video model would try in an afternoon. Labels of test videos are used for
scoring only.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.annotations import parse
from unloc_jax.metrics.detection import THUMOS14_TIOU, GroundTruth, Predictions, detection_map
from unloc_jax.metrics.segmentation import Frames, segmentation_scores
from unloc_jax.records import VideoRecord
from unloc_jax.video import FrameStream

# (videos, number of classes) → metrics by name of the baseline.
Baselines = Callable[[list["Video"], int], dict[str, dict[str, float]]]

FPS = 7.5  # of the looked-at rows
_SIDE = 16  # pixels of a difference picture
_STEPS = 8  # parts of a segment that a classifier sees
_RIDGES = (0.003, 0.03, 0.3, 3.0, 30.0)  # times the number of rows
_CONTEXT_S = 2.0  # to each side of a frame


@dataclasses.dataclass
class Video:
    """A video as rows at FPS: what a baseline sees of it (float32 [F, D]), how much moves (float32 [F]), and labels."""

    rows: np.ndarray
    motion: np.ndarray
    duration_s: float
    segments_s: np.ndarray
    classes: np.ndarray
    split: str


def read(folder: Path) -> tuple[list[Video], list[str]]:
    """Reads DIR/activitynet.json with DIR/videos/ID.mp4 or DIR/features/ID.npy. Returns the videos and class names."""
    parsed = parse("activitynet", [folder / "activitynet.json"])
    names = parsed.classes or []
    videos = []
    for record in parsed.records:
        file = folder / "features" / f"{record.video_id}.npy"
        rows = (
            _of_features(file, record.duration_s) if file.exists() else _of_pixels(folder / "videos", record)
        )
        classes = np.array([names.index(text) for text in record.texts], int)
        change = np.diff(rows, axis=0, prepend=rows[:1]) if file.exists() else rows
        motion = np.abs(change).mean(1)
        videos.append(Video(rows, motion, record.duration_s, record.segments_s, classes, record.split))
    return videos, names


def _of_features(file: Path, duration_s: float) -> np.ndarray:
    rows = np.load(file)
    times = np.clip(
        (np.arange(0, duration_s, 1 / FPS) / duration_s * len(rows)).astype(int), 0, len(rows) - 1
    )
    return rows[times]


def _of_pixels(folder: Path, record: VideoRecord) -> np.ndarray:
    """Returns differences of successive grey pictures of 16×16, float32 [F, 256]."""
    file = folder / f"{record.video_id}.mp4"
    grey = np.stack([_small(frame) for frame in FrameStream(file, fps=FPS, short_side=4 * _SIDE)])
    return np.diff(grey, axis=0, prepend=grey[:1]).reshape(len(grey), -1)


def _small(frame: np.ndarray) -> np.ndarray:
    height, width = (side - side % _SIDE for side in frame.shape[:2])
    blocks = frame[:height, :width].mean(2, dtype=np.float32)
    return blocks.reshape(_SIDE, height // _SIDE, _SIDE, width // _SIDE).mean((1, 3)) / 255


class Linear:
    """A ridge classifier: least squares of one-hot labels on standardised rows."""

    def __init__(self, x: np.ndarray, labels: np.ndarray, num_classes: int, ridge: float):
        self._mean, self._scale = x.mean(0), x.std(0) + 1e-6
        x = self._design(x)
        gram = x.T @ x
        gram[np.diag_indices(len(gram))] += ridge * len(x)
        self._weights = np.linalg.solve(gram, x.T @ np.eye(num_classes)[labels])

    def _design(self, x: np.ndarray) -> np.ndarray:
        return np.c_[(x - self._mean) / self._scale, np.ones(len(x))].astype(np.float64)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns scores [n, num_classes]."""
        return self._design(x) @ self._weights


def fit(parts: Sequence[tuple[np.ndarray, np.ndarray]], num_classes: int) -> Linear:
    """Fits `Linear` to (rows, labels) of several videos, with the ridge that is best for the last third of them."""
    join = lambda some: (np.concatenate([x for x, _ in some]), np.concatenate([y for _, y in some]))
    cut = -(-2 * len(parts) // 3)
    held_out, labels = join(parts[cut:])
    right = {
        ridge: np.mean(Linear(*join(parts[:cut]), num_classes, ridge)(held_out).argmax(1) == labels)
        for ridge in _RIDGES
    }
    return Linear(*join(parts), num_classes, max(right, key=lambda ridge: right[ridge]))


def localization(videos: list[Video], num_classes: int) -> dict[str, dict[str, float]]:
    """Returns mAP by baseline: motion proposals with a linear classifier, and constant segments with random classes."""
    train, test = _split(videos)
    described = [(np.stack([_describe(v, bounds) for bounds in v.segments_s]), v.classes) for v in train]
    classify = fit(described, num_classes)
    threshold, gap_s = _best_threshold(train)
    truth = _ground_truth(test)
    found = []
    for number, video in enumerate(test):
        for bounds in _proposals(video, threshold, gap_s):
            scores = classify(_describe(video, bounds)[None])[0]
            found += [(number, of, *bounds, score) for of, score in enumerate(scores)]
    length = np.median(np.concatenate([np.diff(video.segments_s)[:, 0] for video in train]))
    random = np.random.default_rng(0)
    constant = [
        (number, of, start, start + length, random.random())
        for number, video in enumerate(test)
        for start in np.arange(0, video.duration_s - length / 2, length)
        for of in range(num_classes)
    ]
    return {
        "motion proposals, linear classifier": _map(truth, found),
        "constant segments, random classes": _map(truth, constant),
    }


def segmentation(videos: list[Video], num_classes: int) -> dict[str, dict[str, float]]:
    """Returns frame accuracy and F1 by baseline: a linear classifier of frames, and background everywhere."""
    train, test = _split(videos)
    predicted = fit([(_around(v.rows), _labels(v, num_classes)) for v in train], num_classes + 1)
    truth = [_labels(video, num_classes) for video in test]
    frames = lambda found: Frames(
        np.concatenate(truth), np.concatenate(found), np.array([len(of) for of in truth])
    )
    return {
        "linear classifier of frames": segmentation_scores(
            frames([predicted(_around(video.rows)).argmax(1) for video in test]), num_classes
        ),
        "background everywhere": segmentation_scores(
            frames([np.full(len(of), num_classes) for of in truth]), num_classes
        ),
    }


def _split(videos: list[Video]) -> tuple[list[Video], list[Video]]:
    return [v for v in videos if v.split == "train"], [v for v in videos if v.split == "test"]


def _describe(video: Video, bounds: np.ndarray) -> np.ndarray:
    """Returns the mean rows of equal parts of a segment, [_STEPS · D]."""
    edges = np.linspace(bounds[0], bounds[1], _STEPS + 1) * FPS
    parts = []
    for low, high in itertools.pairwise(edges):
        first = min(int(low), len(video.rows) - 1)
        parts.append(video.rows[first : max(first + 1, int(np.ceil(high)))].mean(0))
    return np.concatenate(parts)


def _proposals(video: Video, threshold: float, gap_s: float) -> Iterator[np.ndarray]:
    """Yields runs of rows that move more than the threshold (a share of the video's 90th percentile)."""
    moving = video.motion > threshold * np.quantile(video.motion, 0.9)
    edges = np.flatnonzero(np.diff(np.r_[0, moving, 0]))
    runs = edges.reshape(-1, 2) / FPS
    merged: list[list[float]] = []
    for start, end in runs:
        if merged and start - merged[-1][1] <= gap_s:
            merged[-1][1] = end
        else:
            merged.append([start, end])
    for start, end in merged:
        if end - start >= 0.4:
            yield np.array([start, min(end, video.duration_s)])


def _best_threshold(train: list[Video]) -> tuple[float, float]:
    """Returns the threshold and the bridged gap with which most training segments are proposed (tIoU ≥ 0.5)."""
    truth = _ground_truth(train)._replace(class_index=np.zeros(sum(len(v.classes) for v in train), int))

    def score(choice: tuple[float, float]) -> float:
        found = [
            (number, 0, *bounds, 1 - 1e-6 * place)
            for number, video in enumerate(train)
            for place, bounds in enumerate(_proposals(video, *choice))
        ]
        return _map(truth, found)["mAP@0.50"] if found else 0.0

    return max(((t, g) for t in (0.1, 0.2, 0.3, 0.4, 0.6) for g in (0.15, 0.3, 0.6)), key=score)


def _around(rows: np.ndarray) -> np.ndarray:
    """Returns for each row the means of five boxes from _CONTEXT_S before to _CONTEXT_S after it, [F, 5·D]."""
    sums = np.cumsum(np.r_[np.zeros((1, rows.shape[1])), rows], 0)
    edges = np.linspace(-_CONTEXT_S * FPS, _CONTEXT_S * FPS + 1, 6).round().astype(int)
    places = (np.arange(len(rows))[:, None] + edges).clip(0, len(rows))
    counts = np.maximum(np.diff(places), 1)[..., None]
    return (np.diff(sums[places], axis=1) / counts).reshape(len(rows), -1)


def _labels(video: Video, background: int) -> np.ndarray:
    labels = np.full(len(video.rows), background)
    times = np.arange(len(video.rows)) / FPS
    for (start, end), of in zip(video.segments_s, video.classes):
        labels[(times >= start) & (times <= end)] = of
    return labels


def _ground_truth(videos: list[Video]) -> GroundTruth:
    index = np.repeat(np.arange(len(videos)), [len(video.classes) for video in videos])
    return GroundTruth(
        index, np.concatenate([v.classes for v in videos]), np.concatenate([v.segments_s for v in videos])
    )


def _map(truth: GroundTruth, found: list[tuple[Any, ...]]) -> dict[str, float]:
    rows = np.array(found, float)
    predictions = Predictions(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2:4], rows[:, 4])
    found_map = detection_map(truth, predictions, THUMOS14_TIOU)
    return {key: float(value) for key, value in found_map.items() if "mAP" in key}
