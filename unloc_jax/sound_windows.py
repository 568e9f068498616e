"""Sound: the samples of a video's sound track on a player's clock, and the windows of them that a model hears."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Sound:
    """A sound track, mono, from second 0 of a player: the clock of the frames of `unloc_jax.video`.

    Attributes:
      samples: int16 [S]; sample i is heard at second i / rate. Gaps and a late start are zeros.
      rate: samples per second.
      heard: float64 [K, 2], start and end in seconds of what the track covers, rising; [0, 2] if it is empty.
      notes: (kind, detail) of differences from what a user might expect to hear, as `unloc_jax.video.VideoNote`.
    """

    samples: np.ndarray
    rate: int
    heard: np.ndarray
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def end_s(self) -> float:
        """The end of the track in seconds."""
        return float(self.heard[-1, 1]) if len(self.heard) else 0.0


# A place this close to what the track covers counts as covered: priming samples and rounded time stamps are shorter.
_NEAR_S = 0.1


def sound_around(
    sound: Sound | None, times_s: np.ndarray, window_s: float, rate: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the C = round(window_s · rate) samples around each time.

    Args:
      sound: of the video; None = it has no sound track.
      times_s: float [T], wanted times in seconds.
      window_s: length of each window in seconds.
      rate: samples per second; None: that of the sound, which is then needed.

    Returns:
      int16 [T, C], of which sample C // 2 is the one heard at the time, zeros outside of the track; and bool [T], True
      where the track covers the time.

    Raises:
      ValueError: the sound has another rate.
    """
    if rate is None:
        if sound is None:
            raise ValueError("a video without sound needs `rate`")
        rate = sound.rate
    size = round(window_s * rate)
    windows = np.zeros((len(times_s), size), np.int16)
    if sound is None:
        return windows, np.zeros(len(times_s), bool)
    if sound.rate != rate:
        raise ValueError(f"its sound has {sound.rate} samples per second, not {rate}")
    first = np.rint(np.asarray(times_s, np.float64) * rate).astype(np.int64) - size // 2
    for window, start in zip(windows, first.tolist(), strict=True):
        low, high = max(start, 0), min(start + size, len(sound.samples))
        if low < high:
            window[low - start : high - start] = sound.samples[low:high]
    return windows, _covers(sound.heard, np.asarray(times_s, np.float64))


def _covers(heard: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Returns whether each time float [T] lies in one of the intervals float [K, 2], all in seconds: bool [T]."""
    if not len(heard):
        return np.zeros(len(times_s), bool)
    interval = np.searchsorted(heard[:, 0] - _NEAR_S, times_s, side="right") - 1
    return (interval >= 0) & (times_s <= heard[np.maximum(interval, 0), 1] + _NEAR_S)
