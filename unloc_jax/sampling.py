"""Samples frames of a video and converts seconds to grid units. Host side, NumPy."""

import dataclasses
import math

import numpy as np

# A segment stays in a window if at least this much of it, in steps of the grid, or half of it lies inside.
_LEAST_OVERLAP = 0.5
_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The stored frames, or rows of features, of a video at regular times.

    Attributes:
      count: number of frames or rows.
      first_s: time of the first one, in seconds.
      step_s: time from one to the next, in seconds.
      times_s: float64 [count], the exact times in seconds; None if unknown. If known, first_s and step_s describe
        regular times from the first to the last.
    """

    count: int
    first_s: float
    step_s: float
    times_s: np.ndarray | None = dataclasses.field(default=None, compare=False)

    @property
    def last_s(self) -> float:
        return self.time_s(self.count - 1)

    def time_s(self, number: float) -> float:
        return self.first_s + number * self.step_s


@dataclasses.dataclass(frozen=True)
class Window:
    """T places in a video: the one decision that frames, features and labels share.

    Attributes:
      indices: int64 [T], the stored frame that is shown at each place.
      mask: bool [T], True = real; False after the end of the video (`indices` repeat its last frame there).
      span_s: float32 [2], times of the first and the last place in seconds.
      video_s: times of the first and the last stored frame of the whole video in seconds.
    """

    indices: np.ndarray
    mask: np.ndarray
    span_s: np.ndarray
    video_s: tuple[float, float]

    @property
    def times_s(self) -> np.ndarray:
        """Returns the time of each place in seconds, float64 [T]."""
        return times_of(self.span_s, len(self.indices))


def times_of(span_s: np.ndarray, num_frames: int) -> np.ndarray:
    """Returns the times of num_frames places from span_s[0] to span_s[1] in seconds, float64 [num_frames]."""
    first_s, last_s = span_s.astype(np.float64).tolist()
    return np.linspace(first_s, last_s, num_frames)


def whole_video(timeline: Timeline, num_frames: int) -> Window:
    """Returns a window of num_frames places spread evenly from the first to the last stored frame.

    Each shows the nearest stored frame; a video with fewer stored frames repeats some, so that all are real.
    """
    return Window(
        indices=linspace_indices(timeline.count, num_frames),
        mask=np.ones(num_frames, bool),
        span_s=np.array([timeline.first_s, timeline.last_s], np.float32),
        video_s=(timeline.first_s, timeline.last_s),
    )


def window_at(timeline: Timeline, num_frames: int, stride: float, start: int) -> Window:
    """Returns a window of num_frames places at every stride-th stored frame from number `start` on.

    With a fraction as stride, each place shows the nearest stored frame. Places after the video's last frame are not
    real, but still have times: span_s is always that of num_frames places, so that a step of the grid lasts equally
    long in all windows.
    """
    numbers = start + stride * np.arange(num_frames)
    nearest = np.rint(numbers).astype(np.int64)
    return Window(
        indices=np.minimum(nearest, timeline.count - 1),
        mask=nearest < timeline.count,
        span_s=np.array([timeline.time_s(start), timeline.time_s(numbers[-1])], np.float32),
        video_s=(timeline.first_s, timeline.last_s),
    )


def last_start(num_stored: int, num_frames: int, stride: float) -> int:
    """Returns the last stored frame at which a window can start without leaving the video; 0 for shorter videos."""
    return max(math.floor(num_stored - 1 - (num_frames - 1) * stride), 0)


def random_start(num_stored: int, num_frames: int, stride: float, uniform: float) -> int:
    """Returns the start of a random window for a number from [0, 1); all starts are equally likely."""
    return int(uniform * (last_start(num_stored, num_frames, stride) + 1))


def center_start(num_stored: int, num_frames: int, stride: int) -> int:
    """Returns the start of the window in the middle of the video."""
    return last_start(num_stored, num_frames, stride) // 2


def all_starts(num_stored: int, num_frames: int, stride: int, hop: int) -> np.ndarray:
    """Returns the starts of windows that cover the whole video, every `hop` stored frames: int64 [W].

    The last window ends with the video's last frame, so the distance to the one before it may be shorter.
    """
    last = last_start(num_stored, num_frames, stride)
    return np.append(np.arange(0, last, hop, dtype=np.int64), last)


def cut_segments(segments_s: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Cuts segments to the part that a window shows.

    A segment stays if half a step of the grid, or half of the segment, lies inside. The video's last fraction of a
    second, which its stored frames do not reach, does not count as part of the segment.

    Args:
      segments_s: float [S, 2], start and end in seconds.
      window: a window of the same video.

    Returns:
      grid: float32 [S, 2], in grid units, cut to the real places of the window.
      kept: bool [S], False for segments that are (almost) outside.
    """
    num_frames = len(window.mask)
    last_real = float(window.mask.sum() - 1)
    grid = np.minimum(seconds_to_grid(segments_s, window.span_s, num_frames), np.float32(last_real))
    first_s, end_s = map(float, window.span_s)
    shown_s = np.clip(np.asarray(segments_s, np.float64), *window.video_s)
    start, end = ((shown_s - first_s) * (num_frames - 1) / max(end_s - first_s, 1e-6)).T
    overlap = np.minimum(end, last_real) - np.maximum(start, 0.0)
    return grid, overlap >= np.minimum(_LEAST_OVERLAP, (end - start) / 2) - _ROUNDING


def linspace_indices(num_stored: int, num_frames: int) -> np.ndarray:
    """Returns indices of frames spread evenly from the first to the last stored one: int64 [num_frames].

    A video with fewer stored frames repeats some, so that all are real.
    """
    return np.rint(np.linspace(0, num_stored - 1, num_frames)).astype(np.int64)


def window_starts(num_frames: int, length: int, overlap: int) -> list[int]:
    """Returns the first frames of windows of `length` frames, of which each shares `overlap` with the next one.

    A last window ends with the last frame. `num_frames` is at least `length`.
    """
    last = num_frames - length
    return sorted({*range(0, last + 1, length - overlap), last})


def window_end(start: int, following: int, length: int) -> int:
    """Returns the first frame that is farther from the borders in the following of two windows.

    Those before it take their rows from the first of the two.
    """
    return (start + following + length - 1) // 2 + 1


def rows_timeline(
    rows: int, duration_s: float, phase: float = 0.5, times_s: np.ndarray | None = None
) -> Timeline:
    """Returns the timeline of the rows of a video's features.

    Args:
      rows: F, number of rows.
      duration_s: of the video in seconds.
      phase: if the times are unknown, row i is at (i + phase) · duration_s / F.
      times_s: float [F], times of the rows in seconds, rounded to float32 (half a millisecond in two hours); None if
        unknown.
    """
    step_s = duration_s / rows
    if times_s is None:
        return Timeline(rows, phase * step_s, step_s)
    times_s = times_s.astype(np.float32).astype(np.float64)
    first_s, last_s = times_s[[0, -1]].tolist()
    return Timeline(rows, first_s, (last_s - first_s) / (rows - 1) if rows > 1 else step_s, times_s)


def features_at(features: np.ndarray, timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Interpolates features linearly between rows, constant before the first and after the last.

    Args:
      features: float [F, D], a row per place of the timeline.
      timeline: times of the rows.
      times_s: float [T], wanted times in seconds.

    Returns:
      float32 [T, D].
    """
    if timeline.times_s is None:
        position = np.clip((times_s - timeline.first_s) / timeline.step_s, 0, timeline.count - 1)
    else:
        position = np.interp(times_s, timeline.times_s, np.arange(timeline.count))
    before = np.floor(position).astype(np.int64)
    after = np.minimum(before + 1, len(features) - 1)
    weight = (position - before)[:, None]
    return (features[before] * (1.0 - weight) + features[after] * weight).astype(np.float32)


def span_of(num_stored: int, fps: float) -> np.ndarray:
    """Returns the times in seconds of the first and the last of `num_stored` frames at `fps`: float32 [2]."""
    return np.array([0.0, (num_stored - 1) / fps], np.float32)


def seconds_to_grid(seconds: np.ndarray, span_s: np.ndarray, num_frames: int) -> np.ndarray:
    """Converts seconds [...] to grid units (0 = first sampled frame, num_frames - 1 = last), float32 [...], clipped.

    `span_s` [2] holds the seconds of the first and the last sampled frame."""
    first, last = span_s
    grid = (np.asarray(seconds, np.float32) - first) * (num_frames - 1) / max(last - first, 1e-6)
    return np.clip(grid, 0.0, num_frames - 1).astype(np.float32)


def center_crop(frames: np.ndarray, size: int) -> np.ndarray:
    """Crops frames [..., H, W, 3] to their middle [..., size, size, 3]."""
    top, left = (frames.shape[-3] - size) // 2, (frames.shape[-2] - size) // 2
    return frames[..., top : top + size, left : left + size, :]
