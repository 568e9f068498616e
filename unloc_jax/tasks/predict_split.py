"""One path for evaluation during training and from a checkpoint: device batches → SplitPredictions."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from unloc_jax.batch import Batch
from unloc_jax.model.clip import TextFeatures
from unloc_jax.processes import share_of_batch
from unloc_jax.tasks.base import Params, Task
from unloc_jax.tasks.outputs import Output, SplitPredictions
from unloc_jax.tasks.windows import WindowOutput, merge_windows

DetectFn = Callable[[Params, Batch, Any], Output]


def to_device(batch: Batch, sharding: NamedSharding) -> Batch:
    """Joins the rows of all processes (see `share_of_batch`) into one global batch, split by video."""
    shares = share_of_batch(sharding.mesh.shape["data"])[1]
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x, (len(x) * shares, *x.shape[1:])), batch
    )


def predict_split(
    task: Task,
    detect: DetectFn,
    params: Params,
    batches: Iterable[Batch],
    texts: Sequence[Sequence[str]],
    sharding: NamedSharding,
    progress: Callable[[Iterable[Batch]], Iterable[Batch]] = lambda x: x,
    num_windows: Sequence[int] | None = None,
    features: TextFeatures | None = None,
    encode: Callable[[Sequence[str]], TextFeatures] | None = None,
) -> SplitPredictions:
    """Searches every video of a split for its texts.

    Args:
      task: the task.
      detect: `task.detect`, jitted.
      params: the model's parameters.
      batches: as `Dataset.evaluation_batches` yields them, this host's part.
      texts: per record, in the order of the batches; one list for all where all entries are the same object.
      sharding: of batches.
      progress: wraps the batches, to show a bar.
      num_windows: how many rows of the batches belong to each record; None = one each.
      features: of the texts [1, N, R, …], where all videos have the same and they are encoded already.
      encode: makes NumPy features [1, N, R, …] of a video's own texts, once for all of its windows; None = the texts
        are encoded with every window.

    Returns:
      SplitPredictions with the padding of videos and texts removed, of all records, on every host.
    """
    shared = all(of_video is texts[0] for of_video in texts)
    predictions = SplitPredictions([list(of_video) for of_video in texts])
    num_windows = num_windows if num_windows is not None else [1] * len(texts)
    once = _EncodedOnce(encode, texts) if encode and max(num_windows, default=1) > 1 else None
    encoded: Any = features
    if encoded is None and once is None:
        encoded = _encoded(task, texts[:1] if shared else texts)
    elif encoded is None and once and shared:
        encoded = once([0])
    record = np.repeat(np.arange(len(texts)), num_windows)
    windows: list[WindowOutput] = []
    first = 0
    crops = task.config.evaluation.crops
    for batch in progress(batches):
        batch = to_device(batch, sharding)
        rows = np.minimum(first + np.arange(len(batch.example_mask)) // crops, len(record) - 1)
        own = record[rows].tolist()
        on_device: Any = encoded if shared else jax.device_put(once(own) if once else encoded[own], sharding)
        output, span_s, mask = _on_host((detect(params, batch, on_device), batch.span_s, batch.frame_mask))
        span_s, mask = span_s[::crops], mask[::crops]
        for i, row in enumerate(range(first, min(first + len(span_s), len(record)))):
            windows.append(WindowOutput(_row(output, i, len(texts[record[row]])), span_s[i], mask[i]))
            if len(windows) == num_windows[record[row]]:
                if task.config.data.windowed:
                    append_video(
                        predictions, *merge_windows(windows, task.config.evaluation), task.keeps_curves
                    )
                else:
                    append_video(predictions, windows[0].output, windows[0].span_s, task.keeps_curves)
                windows = []
        first += len(span_s)
    return predictions


class _EncodedOnce:
    """Features of the texts of videos, which are encoded when the first window of a video is read.

    Args:
      encode: see `predict_split`.
      texts: per record.
    """

    def __init__(self, encode: Callable[[Sequence[str]], TextFeatures], texts: Sequence[Sequence[str]]):
        self._encode, self._texts = encode, texts
        self._most = max(1, *map(len, texts))
        self._kept: dict[int, Any] = {}

    def __call__(self, records: list[int]) -> Any:
        """Returns NumPy features [len(records), N, R, …] of records in ascending order, padded to the most texts."""
        self._kept = {number: kept for number, kept in self._kept.items() if number >= records[0]}
        for number in dict.fromkeys(records):
            if number not in self._kept:
                made = self._encode(self._texts[number] or [""])
                self._kept[number] = jax.tree.map(self._padded, made)
        return jax.tree.map(lambda *x: np.concatenate(x), *(self._kept[number] for number in records))

    def _padded(self, x: np.ndarray) -> np.ndarray:
        return np.pad(x, [(0, 0), (0, self._most - x.shape[1]), *[(0, 0)] * (x.ndim - 2)], mode="edge")


def _encoded(task: Task, texts: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns texts [len(texts), N, R, …] as `task.encoding` makes them, padded to the most texts of a video."""
    encoded = np.tile(task.encoding.padding(), (len(texts), max(map(len, texts)), 1, 1))
    for row, of_video in zip(encoded, texts):
        row[: len(of_video)] = task.encoding(of_video)
    return encoded


def _on_host(arrays: Any) -> Any:
    """Copies global arrays to NumPy, whole on every host."""
    if jax.process_count() == 1:
        return jax.device_get(arrays)
    return multihost_utils.process_allgather(arrays, tiled=True)


def _row(output: Any, i: int, num_texts: int) -> Any:
    """Returns one row with a batch axis of 1, without padding texts."""
    only_texts = lambda x: x[i : i + 1, :num_texts]
    of_frames = None if output.frame_classes is None else output.frame_classes[i : i + 1]
    by_text = dataclasses.replace(output, frame_classes=None)
    return dataclasses.replace(jax.tree.map(only_texts, by_text), frame_classes=of_frames)


def append_video(predictions: SplitPredictions, output: Any, span_s: np.ndarray, curves: bool) -> None:
    """Adds one video, the only row of its `Output`; its curves [1, N, T] only if `curves`."""
    predictions.spans_s.append(span_s)
    if output.detections is not None:
        predictions.segments_s.append(output.detections.segments_s[0])
        predictions.scores.append(output.detections.scores[0])
        if output.detections.point is not None:
            predictions.points.append(output.detections.point[0])
    if curves and output.curve is not None:
        predictions.curves.append(output.curve[0])
    if output.frame_classes is not None:
        predictions.frame_classes.append(output.frame_classes[0])
    if output.video_scores is not None:
        predictions.video_scores.append(output.video_scores[0])
