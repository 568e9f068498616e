"""Which frames of a video are looked at, and how seconds map to grid units. Host side, NumPy."""

import dataclasses

import numpy as np

# A segment stays in a window if at least this much of it, in steps of the grid, or half of it is inside.
_LEAST_OVERLAP = 0.5
_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True)
class Timeline:
    """What is stored of a video: frames, or rows of features, at regular times.

    Attributes:
      count: how many.
      first_s: time of number 0.
      step_s: time from one to the next.
      times_s: float64 [count], when each is, where that is known; first_s and step_s are then those of regular times
        from the first to the last.
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
      mask: bool [T], True = real; False where the video has ended (`indices` repeat its last frame there).
      span_s: float32 [2], times of the first and the last place.
      video_s: times of the first and the last stored frame of the whole video.
    """

    indices: np.ndarray
    mask: np.ndarray
    span_s: np.ndarray
    video_s: tuple[float, float]

    @property
    def times_s(self) -> np.ndarray:
        """float64 [T], when each place is."""
        first_s, last_s = self.span_s.astype(np.float64).tolist()
        return np.linspace(first_s, last_s, len(self.indices))


def whole_video(timeline: Timeline, num_frames: int) -> Window:
    """num_frames places spread evenly from the first to the last stored frame.

    Each shows the stored frame nearest to it; a video with fewer stored frames repeats some, so that all are real.
    """
    return Window(
        indices=linspace_indices(timeline.count, num_frames),
        mask=np.ones(num_frames, bool),
        span_s=np.array([timeline.first_s, timeline.last_s], np.float32),
        video_s=(timeline.first_s, timeline.last_s),
    )


def window_at(timeline: Timeline, num_frames: int, stride: int, start: int) -> Window:
    """num_frames places at every stride-th stored frame from number `start` on.

    Places behind the video's last frame are not real, but they have their times: span_s is always that of
    num_frames places, so that a step of the grid lasts equally long in all windows.
    """
    numbers = start + stride * np.arange(num_frames, dtype=np.int64)
    return Window(
        indices=np.minimum(numbers, timeline.count - 1),
        mask=numbers < timeline.count,
        span_s=np.array([timeline.time_s(start), timeline.time_s(numbers[-1])], np.float32),
        video_s=(timeline.first_s, timeline.last_s),
    )


def last_start(num_stored: int, num_frames: int, stride: int) -> int:
    """The last stored frame at which a window can start without leaving the video; 0 for shorter videos."""
    return max(num_stored - 1 - (num_frames - 1) * stride, 0)


def random_start(num_stored: int, num_frames: int, stride: int, uniform: float) -> int:
    """Where a random window starts, for a number drawn from [0, 1); all starts are equally likely."""
    return int(uniform * (last_start(num_stored, num_frames, stride) + 1))


def center_start(num_stored: int, num_frames: int, stride: int) -> int:
    """Where the window in the middle of the video starts."""
    return last_start(num_stored, num_frames, stride) // 2


def all_starts(num_stored: int, num_frames: int, stride: int, hop: int) -> np.ndarray:
    """int64 [W]: starts of windows that together show the whole video, every `hop` stored frames.

    The last window ends with the video's last frame, so the distance to the one before it may be shorter.
    """
    last = last_start(num_stored, num_frames, stride)
    return np.append(np.arange(0, last, hop, dtype=np.int64), last)


def cut_segments(segments_s: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Segments as far as a window shows them.

    A segment stays if half a step of the grid, or half of the segment, is inside; what the video's stored frames do
    not reach (its last fraction of a second) does not count as a part of the segment.

    Args:
      segments_s: [S, 2], start and end in seconds.
      window: of the same video.

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
    """int64 [num_frames]: indices of frames spread evenly from the first to the last stored one.

    A video with fewer stored frames than asked for repeats frames, so that all are real.
    """
    return np.rint(np.linspace(0, num_stored - 1, num_frames)).astype(np.int64)


def rows_timeline(
    rows: int, duration_s: float, phase: float = 0.5, times_s: np.ndarray | None = None
) -> Timeline:
    """When the rows of a video's features are.

    At times_s [rows], which are kept in float32 (half a millisecond in two hours). If these are not known, row i of F
    stands for the time (i + phase) · duration / F.
    """
    step_s = duration_s / rows
    if times_s is None:
        return Timeline(rows, phase * step_s, step_s)
    times_s = times_s.astype(np.float32).astype(np.float64)
    first_s, last_s = times_s[[0, -1]].tolist()
    return Timeline(rows, first_s, (last_s - first_s) / (rows - 1) if rows > 1 else step_s, times_s)


def features_at(features: np.ndarray, timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Features [F, D] with a row per place of a timeline → float32 [T, D] at times_s [T].

    Between two rows they are interpolated linearly; before the first and after the last they are those.
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
    """float32 [2]: seconds of the first and the last of `num_stored` frames at `fps`."""
    return np.array([0.0, (num_stored - 1) / fps], np.float32)


def seconds_to_grid(seconds: np.ndarray, span_s: np.ndarray, num_frames: int) -> np.ndarray:
    """Seconds → grid units (0 = first sampled frame, num_frames - 1 = last), float32, clipped to the grid."""
    first, last = span_s
    grid = (np.asarray(seconds, np.float32) - first) * (num_frames - 1) / max(last - first, 1e-6)
    return np.clip(grid, 0.0, num_frames - 1).astype(np.float32)


def center_crop(frames: np.ndarray, size: int) -> np.ndarray:
    """[..., H, W, 3] → [..., size, size, 3] from the middle."""
    top, left = (frames.shape[-3] - size) // 2, (frames.shape[-2] - size) // 2
    return frames[..., top : top + size, left : left + size, :]
