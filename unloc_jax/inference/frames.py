"""The frames of a video file that a model looks at, in memory that does not grow with the video."""

import collections
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from unloc_jax.config import DataConfig
from unloc_jax.sampling import Timeline, center_crop, last_start, linspace_indices, span_of, window_at
from unloc_jax.video import FrameStream

_FEWEST_KEPT = 512


@dataclasses.dataclass(frozen=True)
class SampledFrames:
    """What a model looks at at once.

    Attributes:
      frames: uint8 [T, H, W, 3].
      mask: bool [T], True = in the video.
      span_s: float32 [2], times of the first and the last of them.
      duration_s: of the whole video, as far as it is known by now.
    """

    frames: np.ndarray
    mask: np.ndarray
    span_s: np.ndarray
    duration_s: float


def look_at_video(path: Path, *, fps: float, short_side: int, data: DataConfig) -> Iterator[SampledFrames]:
    """Decodes a video as the builder does and takes from it what a model trained on `data` looks at.

    Args:
      path: any file that PyAV decodes.
      fps, short_side: how the frames of training were stored.
      data: sampling and crop.

    Yields:
      The whole video once, or, with windows, one after the other until they have shown all of it.

    Raises:
      VideoError: the file cannot be used.
    """
    stream = FrameStream(path, fps=fps, short_side=short_side)
    if data.windowed:
        yield from _windows(stream, path.name, fps, data)
        return
    frames, span_s = sample_whole(stream, path.name, data.crop_size, data.num_frames, fps)
    yield SampledFrames(frames, np.ones(len(frames), bool), span_s, stream.duration_s)


def _windows(stream: FrameStream, name: str, fps: float, data: DataConfig) -> Iterator[SampledFrames]:
    """Every `window_hop` frames, and one that ends with the video; only one window's frames are in memory."""
    num_frames, stride = data.num_frames, data.window_stride
    length = (num_frames - 1) * stride + 1
    recent: collections.deque[np.ndarray] = collections.deque(maxlen=length)

    def window(count: int, start: int) -> SampledFrames:
        planned = window_at(Timeline(count, 0.0, 1 / fps), num_frames, stride, start)
        first = count - len(recent)
        frames = np.stack([recent[i - first] for i in planned.indices.tolist()])
        return SampledFrames(frames, planned.mask, planned.span_s, stream.duration_s)

    count = 0
    for frame in _with_progress(stream, name):
        recent.append(center_crop(frame, data.crop_size).copy())
        count += 1
        if count >= length and (count - length) % data.window_hop == 0:
            yield window(count, count - length)
    last = last_start(count, num_frames, stride)
    if count < length or last % data.window_hop:
        yield window(count, last)


def _with_progress(stream: FrameStream, name: str) -> Iterator[np.ndarray]:
    return tqdm(stream, desc=f"decoding {name}", unit="frame", delay=3, file=sys.stderr, leave=False)


def sample_whole(
    stream: FrameStream, name: str, crop_size: int, num_frames: int, fps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Frames spread evenly over a stream.

    How many frames there are is known only at the end, so candidates are kept and every second one is dropped when
    they become too many: up to 16·num_frames (at least 512) decoded frames the sample is exact, beyond that a frame
    is off by at most 1/16 of the distance between two sampled frames.

    Args:
      stream: decoded frames.
      name: for the progress bar.
      crop_size: of the central window.
      num_frames: T.
      fps: of the stream.

    Returns:
      frames uint8 [T, crop_size, crop_size, 3]; span_s float32 [2], times of the first and the last of them.
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
