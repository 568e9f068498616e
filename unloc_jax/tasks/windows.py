"""Merges the predictions of the windows of a long video into those of the video."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from unloc_jax.config import EvaluationConfig
from unloc_jax.localization.decode import Detections
from unloc_jax.localization.nms import suppress
from unloc_jax.tasks.outputs import Output

_ROUNDING = 0.01  # steps
_AT_ONCE = 64  # texts whose candidates pass the NMS together: a film has hundreds of texts, and millions of candidates


@dataclasses.dataclass(frozen=True)
class WindowOutput:
    """Holds what a model predicts for one window of a video, on the host.

    Attributes:
      output: `Output` of NumPy arrays with a batch axis of 1.
      span_s: float32 [2], times of the first and the last of its T places.
      mask: bool [T], True = in the video; these come first.
    """

    output: Any
    span_s: np.ndarray
    mask: np.ndarray

    @property
    def num_real(self) -> int:
        return int(self.mask.sum())

    @property
    def step_s(self) -> float:
        return float(self.span_s[1] - self.span_s[0]) / (len(self.mask) - 1)

    @property
    def last_real_s(self) -> float:
        return float(self.span_s[0]) + (self.num_real - 1) * self.step_s


def merge_windows(windows: Sequence[WindowOutput], config: EvaluationConfig) -> tuple[Any, np.ndarray]:
    """Merges one video's windows.

    Candidate segments of all windows go through one soft-NMS; curves are averaged where windows overlap, and frames'
    classes are read from the averaged curves; scores of whole windows are averaged.

    Args:
      windows: in the order of time, all with the same step between places. Their detections are candidates that no
        NMS has seen (`decode` without it).
      config: for the NMS.

    Returns:
      An `Output` of NumPy arrays with a batch axis of 1, whose curve and frame_classes have a place every step of the
      windows, and float32 [2], the times of the first and the last of these places.
    """
    detections: Any = None
    curve: Any = None
    classes: Any = None
    video_scores: Any = None
    first, last = windows[0], max(windows, key=lambda window: window.last_real_s)
    span_s = np.array([first.span_s[0], last.last_real_s], np.float32)
    if first.output.detections is not None:
        detections = _merge_detections([window.output.detections for window in windows], config)
    if first.output.curve is not None:
        curve = _merge_curves(windows, span_s)[None]
    if first.output.frame_classes is not None:
        assert curve is not None
        classes = classes_of_curves(curve)
    if first.output.video_scores is not None:
        video_scores = np.mean([window.output.video_scores for window in windows], axis=0)
    return Output(detections, curve, classes, video_scores), span_s


def classes_of_curves(curve: np.ndarray) -> np.ndarray:
    """Returns int32 [B, T] of probabilities [B, N, T]: each place's best text, -1 if none is more likely than not."""
    return np.where(curve.max(1) > 0.5, curve.argmax(1), -1).astype(np.int32)


_nms = jax.jit(suppress, static_argnums=2)


def _merge_detections(windows: Sequence[Any], config: EvaluationConfig) -> Any:
    num_texts = windows[0].scores.shape[1]
    at_once = min(num_texts, _AT_ONCE)
    parts = [
        _merge_texts(windows, slice(first, first + at_once), at_once, config)
        for first in range(0, num_texts, at_once or 1)
    ] or [_merge_texts(windows, slice(0, 0), 0, config)]
    return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *parts)


def _merge_texts(windows: Sequence[Any], texts: slice, at_once: int, config: EvaluationConfig) -> Any:
    """Merges the candidates of some texts, filled up to at_once, so that few programs are compiled."""
    segments_s = np.concatenate([window.segments_s[:, texts] for window in windows], axis=2)
    scores = np.concatenate([window.scores[:, texts] for window in windows], axis=2)
    num_texts, count = scores.shape[1:]
    # Powers of two, so that videos of many lengths share a few compiled programs.
    room = ((0, 0), (0, at_once - num_texts), (0, (1 << (count - 1).bit_length()) - count))
    found = _nms(np.pad(segments_s, (*room, (0, 0))), np.pad(scores, room), config.suppression(count))
    segments_s, scores, index = (x[:, :num_texts] for x in jax.device_get(found))
    point: Any = np.concatenate([window.point[:, texts] for window in windows], axis=2)
    point = np.take_along_axis(point, index, axis=2)
    return Detections(segments_s, scores, point)


def _merge_curves(windows: Sequence[WindowOutput], span_s: np.ndarray) -> np.ndarray:
    """Averages curves where windows overlap: float32 [N, places]."""
    step_s = windows[0].step_s
    # Often places are exactly halfway between others: times, which are rounded, must not decide on which side.
    count = math.floor(float(span_s[1] - span_s[0]) / step_s + 0.5 + _ROUNDING) + 1
    times_s = float(span_s[0]) + step_s * np.arange(count)
    total: np.ndarray | float = 0.0
    weight = np.zeros(count)
    for window in windows:
        curve = np.asarray(window.output.curve[0])[:, : window.num_real]
        # The last window begins where the video's end asks for it, so its places may be between the others'.
        place = (times_s - float(window.span_s[0])) / step_s
        inside = (place > -0.5 - _ROUNDING) & (place < window.num_real - 0.5 + _ROUNDING)
        place = np.clip(place, 0, window.num_real - 1)
        before = np.floor(place).astype(int)
        after = np.minimum(before + 1, window.num_real - 1)
        values = curve[:, before] * (1 - (place - before)) + curve[:, after] * (place - before)
        total = total + values * inside
        weight += inside
    return (total / np.maximum(weight, 1)).astype(np.float32)
