"""The sound of a file, as windows around regular times, in memory that does not grow with the recording."""

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from unloc_jax.sound_windows import Sound
from unloc_jax.video import VideoNote, check_fps

_EXCESS_S = 1e-3  # by which a recording may be longer than its rows


class Blocks(Protocol):
    """Iterates over a sound in turn, int16 [n] each, as `unloc_jax.sound.SoundBlocks` does."""

    @property
    def rate(self) -> int:
        """Samples per second."""

    @property
    def picture_s(self) -> float:
        """The length of the picture beside it in seconds, known after the iteration; 0.0 = there is none."""

    @property
    def notes(self) -> tuple[VideoNote, ...]:
        """Messages about the sound, known at the same time."""

    def __iter__(self) -> Iterator[np.ndarray]: ...


class GivenSound:
    """A sound in memory, beside a picture of some length, in blocks."""

    def __init__(self, sound: Sound, picture_s: float = 0.0):
        self.rate, self.picture_s = sound.rate, picture_s
        self.notes: tuple[VideoNote, ...] = ()
        self._samples = sound.samples

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._samples), self.rate):
            yield self._samples[start : start + self.rate]


class SoundStream:
    """Iterates over windows of sound, int16 [n], around the times (k + offset) / fps.

    The recording begins at a player's second 0 and ends with its sound or its picture, whichever is later; where its
    track has no sound it is silent. A window lies with its middle on its time; what of it is beyond the beginning or
    the end of the recording is cut off. There is a row for every time before the end, and at least one.

    Args:
      blocks: the sound.
      window_s: length of a window in seconds.
      fps: windows per second.
      offset: of the first one, in units of 1 / fps.

    Attributes:
      duration_s: length of the recording in seconds, known after the iteration has ended.
      notes: messages about the recording, known at the same time.
    """

    def __init__(self, blocks: Blocks, *, window_s: float, fps: float, offset: float = 0.0):
        check_fps(fps)
        self.duration_s = 0.0
        self.notes: tuple[VideoNote, ...] = ()
        self._blocks, self._rate, self._fps, self._offset = blocks, blocks.rate, fps, offset
        self._length = max(1, round(window_s * blocks.rate))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the windows.

        Raises:
          VideoError: the file cannot be used; "no sound track", if it has none.
        """
        held, first, place = np.zeros(0, np.int16), 0, 0
        for block in self._blocks:
            held = np.concatenate([held, block])
            while self._begin(place) + self._length <= first + len(held):
                yield self._cut(held, first, place)
                place += 1
            first, held = self._forget(held, first, place)
        self.notes, picture_s = self._blocks.notes, self._blocks.picture_s
        heard = first + len(held)
        self.duration_s = max(picture_s, heard / self._rate)
        end = max(heard, round(picture_s * self._rate))
        count = max(1, math.ceil((self.duration_s - _EXCESS_S) * self._fps - self._offset))
        while place < count:
            needed = min(self._begin(place) + self._length, end) - first - len(held)
            held = np.concatenate([held, np.zeros(max(0, needed), np.int16)])
            yield self._cut(held, first, place)
            place += 1
            first, held = self._forget(held, first, place)

    def _begin(self, place: int) -> int:
        """Returns the number of a window's first sample; below 0 before the beginning."""
        return round((place + self._offset) / self._fps * self._rate) - self._length // 2

    def _cut(self, held: np.ndarray, first: int, place: int) -> np.ndarray:
        """Returns a window, of samples from number `first` on."""
        begin = self._begin(place) - first
        window = held[max(0, begin) : max(0, begin + self._length)]
        window = window if len(window) else held[-self._length :]
        return window.copy() if len(window) else np.zeros(self._length, np.int16)

    def _forget(self, held: np.ndarray, first: int, place: int) -> tuple[int, np.ndarray]:
        """Returns what the window of `place` and later ones need: the number of the first sample, and the samples."""
        # A recording that ends before the first time has a row of what there is.
        dropped = min(max(0, self._begin(place) - first), max(0, len(held) - self._length))
        return first + dropped, held[dropped:]
