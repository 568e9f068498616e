"""Which frames of a video are looked at, and how seconds map to grid units. Host side, NumPy."""

import numpy as np


def linspace_indices(num_stored: int, num_frames: int) -> np.ndarray:
    """int64 [num_frames]: indices of frames spread evenly from the first to the last stored one.

    A video with fewer stored frames than asked for repeats frames, so that all are real.
    """
    return np.rint(np.linspace(0, num_stored - 1, num_frames)).astype(np.int64)


def interpolate_features(features: np.ndarray, num_frames: int) -> np.ndarray:
    """Features [F, D] of all stored frames → float32 [num_frames, D], spread evenly from the first to the last.

    What lies between two stored frames is interpolated linearly from them.
    """
    position = np.linspace(0, len(features) - 1, num_frames)
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
