"""The frames of a video that a model sees, in memory that does not grow with the video."""

import collections
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from tqdm.auto import tqdm

from unloc_jax.config import DataConfig
from unloc_jax.console import printable
from unloc_jax.errors import UserError
from unloc_jax.frame_times import shown_frames
from unloc_jax.sampling import (
    Timeline,
    all_starts,
    center_crop,
    last_start,
    linspace_indices,
    span_of,
    whole_video,
    window_at,
)
from unloc_jax.video import VideoNote

_FEWEST_KEPT = 512


class Frames(Protocol):
    """Iterates over frames uint8 [H, W, 3] in RGB at the times k / fps, like `unloc_jax.video.FrameStream`."""

    @property
    def duration_s(self) -> float:
        """The length of the whole video in seconds, known after the iteration has ended."""

    @property
    def notes(self) -> tuple[VideoNote, ...]:
        """Messages about the video, known at the same time."""

    def __iter__(self) -> Iterator[np.ndarray]: ...


class _WatchedFrames:
    """Frames that report after each one how many seconds of the video have been read."""

    def __init__(self, frames: Frames, fps: float, watch: Callable[[float], object]):
        self._frames, self._fps, self._watch = frames, fps, watch

    @property
    def duration_s(self) -> float:
        return self._frames.duration_s

    @property
    def notes(self) -> tuple[VideoNote, ...]:
        return self._frames.notes

    def __iter__(self) -> Iterator[np.ndarray]:
        for number, frame in enumerate(self._frames, 1):
            yield frame
            self._watch(number / self._fps)


def watched(frames: Frames, fps: float, watch: Callable[[float], object] | None) -> Frames:
    """Returns the same frames, of which `watch` (if any) is told; see `VideoSearch.embed_video`."""
    return frames if watch is None else _WatchedFrames(frames, fps, watch)


class ArrayFrames:
    """The frames of an array at the times k / fps, resized, as `FrameStream` yields those of a file.

    Args:
      frames: uint8 [F, H, W, 3]; number i is shown from i / frames_fps on.
      frames_fps: frames per second of the array.
      fps: frames per second to yield.
      short_side: of the result in pixels; None = not resized.
      offset: of the first frame, in units of 1 / fps.

    Raises:
      UserError: frames is not such an array.
    """

    def __init__(
        self,
        frames: np.ndarray,
        *,
        frames_fps: float | None,
        fps: float,
        short_side: int | None,
        offset: float = 0.0,
    ):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
            raise UserError(f"frames must be uint8 [F, H, W, 3], got {frames.dtype} {list(frames.shape)}.")
        if frames_fps is None or not 0 < frames_fps < math.inf:
            raise UserError("fps is needed: how many frames per second the array has.")
        self.duration_s = len(frames) / frames_fps
        self.notes: tuple[VideoNote, ...] = ()
        self._frames, self._shown = frames, shown_frames(len(frames), frames_fps, fps, offset)
        height, width = frames.shape[1:3]
        scale = 1.0 if short_side is None else short_side / min(height, width)
        self._size = (round(height * scale), round(width * scale))

    def __iter__(self) -> Iterator[np.ndarray]:
        reformatter = VideoReformatter()
        last, frame = -1, self._frames[0]
        for number in self._shown.tolist():
            if number != last:
                last, frame = number, self._frames[number]
                if frame.shape[:2] != self._size:
                    frame = _resized(frame, self._size, reformatter)
            yield frame


def _resized(frame: np.ndarray, size: tuple[int, int], reformatter: VideoReformatter) -> np.ndarray:
    """Resizes a frame uint8 [H, W, 3] with the library and filter used for files; size: (height, width) in pixels."""
    height, width = size
    made = reformatter.reformat(
        av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
        width=width,
        height=height,
        format="rgb24",
        interpolation=Interpolation.BILINEAR,
    )
    return made.to_ndarray()


@dataclasses.dataclass(frozen=True)
class SampledFrames:
    """Inputs of one forward pass: the whole video, or one window.

    Attributes:
      frames: uint8 [T, H, W, 3]; None for models that read none.
      mask: bool [T], True = in the video.
      span_s: float32 [2], times of the first and the last of the T frames in seconds.
      features: by modality, float32 [T, D]; samples around each place, int16 [T, C], of the one that hears.
      input_masks: bool [T] by modality, see `Batch.input_masks`.
    """

    frames: np.ndarray | None
    mask: np.ndarray
    span_s: np.ndarray
    features: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    input_masks: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def sample_timeline(timeline: Timeline, data: DataConfig) -> Iterator[SampledFrames]:
    """Yields the places of a model that reads no frames: the whole video once, or all its windows.

    Args:
      timeline: what windows count in.
      data: sampling of the training.
    """
    num_frames, stride = data.num_frames, data.window_stride
    if data.windowed:
        starts = all_starts(timeline.count, num_frames, stride, data.window_hop).tolist()
        windows = [window_at(timeline, num_frames, stride, start) for start in starts]
    else:
        windows = [whole_video(timeline, num_frames)]
    for window in windows:
        yield SampledFrames(None, window.mask, window.span_s)


def sample_frames(stream: Frames, name: str, *, fps: float, data: DataConfig) -> Iterator[SampledFrames]:
    """Samples from the frames of a video the inputs of a model that was trained on `data`.

    Args:
      stream: frames at the rate and size at which the training frames were stored.
      name: for the progress bar.
      fps: of the stream.
      data: sampling and crop.

    Yields:
      The whole video once, or, with windows, one at a time until they have covered all of it.

    Raises:
      VideoError: the file cannot be used.
    """
    if data.windowed:
        yield from _windows(stream, name, fps, data)
        return
    frames, span_s = sample_full_video(stream, name, data.crop_size, data.num_frames, fps)
    yield SampledFrames(frames, np.ones(len(frames), bool), span_s)


def _windows(stream: Frames, name: str, fps: float, data: DataConfig) -> Iterator[SampledFrames]:
    """Yields every `window_hop` frames, and a last window that ends with the video; keeps one window in memory."""
    num_frames, stride = data.num_frames, data.window_stride
    length = (num_frames - 1) * stride + 1
    recent: collections.deque[np.ndarray] = collections.deque(maxlen=length)

    def window(count: int, start: int) -> SampledFrames:
        planned = window_at(Timeline(count, 0.0, 1 / fps), num_frames, stride, start)
        first = count - len(recent)
        frames = np.stack([recent[i - first] for i in planned.indices.tolist()])
        return SampledFrames(frames, planned.mask, planned.span_s)

    count = 0
    for frame in _with_progress(stream, name):
        recent.append(center_crop(frame, data.crop_size).copy())
        count += 1
        if count >= length and (count - length) % data.window_hop == 0:
            yield window(count, count - length)
    last = last_start(count, num_frames, stride)
    if count < length or last % data.window_hop:
        yield window(count, last)


def _with_progress(stream: Frames, name: str) -> Iterator[np.ndarray]:
    return tqdm(
        stream, desc=f"decoding {printable(name)}", unit="frame", delay=3, file=sys.stderr, leave=False
    )


def sample_full_video(
    stream: Frames, name: str, crop_size: int, num_frames: int, fps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Samples frames evenly from a stream.

    The number of frames is known only at the end. Candidates are kept, and every second one is dropped when
    they become too many: up to 16·num_frames (at least 512) decoded frames the sample is exact; beyond that, a frame
    is off by at most 1/16 of the distance between two sampled frames.

    Args:
      stream: decoded frames.
      name: for the progress bar.
      crop_size: of the central crop, in pixels.
      num_frames: T.
      fps: of the stream.

    Returns:
      frames uint8 [T, crop_size, crop_size, 3]; span_s float32 [2], times of the first and the last in seconds.
    """
    most = max(16 * num_frames, _FEWEST_KEPT)
    kept: list[np.ndarray] = []
    every, count = 1, 0
    for frame in _with_progress(stream, name):
        if count % every == 0:
            kept.append(center_crop(frame, crop_size).copy())
        count += 1
        if len(kept) > most:
            kept, every = kept[::2], 2 * every
    places = np.minimum(np.rint(linspace_indices(count, num_frames) / every).astype(int), len(kept) - 1)
    return np.stack([kept[place] for place in places]), span_of(count, fps)
