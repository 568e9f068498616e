"""Frames of a stream → what an encoder reads at a time → one row of features per frame, in bounded memory."""

import abc
import collections
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from unloc_jax.sampling import window_end


class Input(NamedTuple):
    """What an encoder reads at a time.

    Attributes:
      array: uint8, all of one shape.
      new_frames: frames that no earlier input of the stream held.
    """

    array: np.ndarray
    new_frames: int


class StreamInputs(abc.ABC):
    """Makes the inputs of one stream, and joins what an encoder makes of them.

    Args:
      preprocess: resizes a frame, uint8 [H, W, 3] → uint8 [size, size, 3].

    Attributes:
      count: inputs that were made.
    """

    def __init__(self, preprocess: Callable[[np.ndarray], np.ndarray]):
        self.count = 0
        self._preprocess = preprocess
        self._last: np.ndarray | None = None
        self._last_made = np.zeros(0, np.uint8)

    @abc.abstractmethod
    def add(self, frame: np.ndarray) -> Iterator[Input]:
        """Yields the inputs that the next frame, uint8 [H, W, 3], completes."""

    @abc.abstractmethod
    def end(self) -> Iterator[Input]:
        """Yields the inputs that remain after the last frame."""

    @abc.abstractmethod
    def join(self, made: list[np.ndarray]) -> np.ndarray:
        """Returns float32 [F, D], a row per frame, from what each input became."""

    def _preprocessed(self, frame: np.ndarray) -> np.ndarray:
        """Preprocesses a frame once if it is the same array object as its predecessor."""
        if frame is not self._last:
            self._last, self._last_made = frame, self._preprocess(frame)
        return self._last_made


class DistinctFrames(StreamInputs):
    """Every frame by itself; one that is the same array object as its predecessor is embedded once.

    An input is uint8 [size, size, 3], and becomes float32 [D].
    """

    def __init__(self, preprocess: Callable[[np.ndarray], np.ndarray]):
        super().__init__(preprocess)
        self._rows: list[int] = []

    def add(self, frame: np.ndarray) -> Iterator[Input]:
        new = frame is not self._last
        self.count += new
        self._rows.append(self.count - 1)
        if new:
            yield Input(self._preprocessed(frame), 1)

    def end(self) -> Iterator[Input]:
        yield from ()

    def join(self, made: list[np.ndarray]) -> np.ndarray:
        return np.stack(made)[self._rows]


class OverlappingWindows(StreamInputs):
    """Windows of W frames, each W - `overlap` frames after the one before it; a last one ends with the stream.

    A frame takes its row from the window in which it is farthest from the border, the earlier one of two equal ones. If
    the whole stream is shorter than a window, its last frame is repeated. An input is uint8 [W, size, size, 3], and
    becomes float32 [W, D].

    Args:
      length: W.
      overlap: frames that a window shares with the next one, fewer than W.
    """

    def __init__(self, preprocess: Callable[[np.ndarray], np.ndarray], length: int, overlap: int):
        super().__init__(preprocess)
        self._length, self._hop = length, length - overlap
        self._recent: collections.deque[np.ndarray] = collections.deque(maxlen=length)
        self._frames = 0
        self._starts: list[int] = []

    def add(self, frame: np.ndarray) -> Iterator[Input]:
        self._recent.append(self._preprocessed(frame))
        self._frames += 1
        start = self._frames - self._length
        if start >= 0 and start % self._hop == 0:
            yield self._window(start)

    def end(self) -> Iterator[Input]:
        start = max(0, self._frames - self._length)
        if self._frames and (not self._starts or start > self._starts[-1]):
            self._recent.extend([self._recent[-1]] * (self._length - len(self._recent)))
            yield self._window(start)

    def join(self, made: list[np.ndarray]) -> np.ndarray:
        rows = []
        for i, (start, of_window) in enumerate(zip(self._starts, made)):
            first = window_end(self._starts[i - 1], start, self._length) if i else 0
            last = i == len(made) - 1
            end = self._frames if last else window_end(start, self._starts[i + 1], self._length)
            rows.append(of_window[first - start : end - start])
        return np.concatenate(rows)

    def _window(self, start: int) -> Input:
        seen = self._starts[-1] + self._length if self._starts else 0
        self._starts.append(start)
        self.count += 1
        return Input(np.stack(self._recent), min(start + self._length, self._frames) - seen)
