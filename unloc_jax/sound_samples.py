"""Frames of sound → samples of one rate (Mono), joined on a player's clock (SampleLine)."""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from unloc_jax.video_clock import LEAP_S

# What is missing for less than this counts as heard.
_SHORT_GAP_S = 0.050
_BLOCK_S = 10  # of silence that is yielded at a time


class Mono:
    """Resamples and mixes frames down to int16 samples of one rate; their format may change at any frame."""

    def __init__(self, rate: int):
        self._rate = rate
        self._form: tuple[str, str, int] | None = None
        self._resampler: av.AudioResampler | None = None

    def __call__(self, frame: av.AudioFrame) -> np.ndarray:
        """Returns the samples, int16 [n], that are complete; `rest` returns those that wait for others."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        before = np.zeros(0, np.int16)
        if form != self._form:
            before = self.rest()
            self._form = form
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=self._rate)
        if len(frame.layout.channels) > 2 and not _is_known(frame.layout):
            frame = _averaged(frame)
        frame.pts = None
        return np.concatenate([before, *map(_samples, self._resampler.resample(frame))])

    def rest(self) -> np.ndarray:
        """Returns the last samples, int16 [n]; the next frame begins anew."""
        resampler, self._resampler = self._resampler, None
        if resampler is None:
            return np.zeros(0, np.int16)
        return np.concatenate([np.zeros(0, np.int16), *map(_samples, resampler.resample(None))])


def _samples(frame: av.AudioFrame) -> np.ndarray:
    return frame.to_ndarray().reshape(-1)[: frame.samples]


def _is_known(layout: av.AudioLayout) -> bool:
    """Returns whether FFmpeg knows where the channels of a layout are, and so how to mix them."""
    return not layout.name.endswith("channels")


def _averaged(frame: av.AudioFrame) -> av.AudioFrame:
    """Returns the mean of channels of which FFmpeg does not know where they are."""
    # Interleaved: PyAV reads separate planes of at most eight channels.
    (packed,) = av.AudioResampler("flt", frame.layout, frame.sample_rate).resample(frame)
    mean = packed.to_ndarray().reshape(-1, len(frame.layout.channels)).mean(axis=1, dtype=np.float64)
    mixed = av.AudioFrame.from_ndarray(mean.astype(np.float32)[None], "fltp", "mono")
    mixed.sample_rate = frame.sample_rate
    mixed.time_base = frame.time_base or Fraction(1, frame.sample_rate)
    return mixed


class SampleLine:
    """Joins samples on a player's clock.

    Attributes:
      rate: samples per second.
      end: number of the sample after the last one.
    """

    def __init__(self, rate: int):
        self.rate = rate
        self._pieces: list[tuple[int, bytearray]] = [(0, bytearray())]  # first sample, int16 samples
        self._heard: list[tuple[int, int]] = []
        self._skip = 0
        self._taken = 0  # samples that `take` has yielded
        self.end = 0

    def move_to(self, time_s: float) -> None:
        """Continues at a time in seconds: fills a gap with zeros, drops what is later or before second 0."""
        to = round(time_s * self.rate)
        self._skip, to = max(0, self._taken - to), max(self._taken, to)
        while to < self.end:  # the next recording begins before the sound of this one ends
            start, piece = self._pieces.pop()
            if start <= to:
                del piece[2 * (to - start) :]
                self._pieces.append((start, piece))
                self.end = to
            else:
                start, piece = self._pieces[-1]
                self.end = start + len(piece) // 2
        self._heard = [(low, min(high, to)) for low, high in self._heard if low < to]
        if to - self.end > LEAP_S * self.rate:
            self._pieces.append((to, bytearray()))
            self.end = to
        elif to > self.end:
            self._append(np.zeros(to - self.end, np.int16))

    def add(self, samples: np.ndarray) -> None:
        """Appends samples, int16 [n]."""
        dropped = min(self._skip, len(samples))
        self._skip -= dropped
        if dropped == len(samples):
            return
        start = self.end
        self._append(samples[dropped:])
        if self._heard and start - self._heard[-1][1] < _SHORT_GAP_S * self.rate:
            start = self._heard.pop()[0]
        self._heard.append((start, self.end))

    def _append(self, samples: np.ndarray) -> None:
        self._pieces[-1][1].extend(samples.data)
        self.end += len(samples)

    def take(self, kept: int) -> Iterator[np.ndarray]:
        """Yields all but the last `kept` samples, int16 [n] each, and forgets them; a second or more at a time."""
        until = self.end - kept
        if kept and until - self._taken < self.rate:
            return
        while self._taken < until:
            start, piece = self._pieces[0]
            if self._taken < start:  # a gap
                count = min(start, until, self._taken + _BLOCK_S * self.rate) - self._taken
                yield np.zeros(count, np.int16)
            else:
                count = min(until, start + len(piece) // 2) - self._taken
                yield np.frombuffer(piece[: 2 * count], np.int16)
                del piece[: 2 * count]
                self._pieces[0] = (self._taken + count, piece)
                if not piece and len(self._pieces) > 1:
                    del self._pieces[0]
            self._taken += count

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns all samples, int16 [S], and what of them the track covers in seconds, float64 [K, 2]."""
        heard = np.array(self._heard, np.float64).reshape(-1, 2) / self.rate
        if len(self._pieces) == 1:
            return np.frombuffer(self._pieces[0][1], np.int16), heard
        samples = np.zeros(self.end, np.int16)
        while self._pieces:
            start, piece = self._pieces.pop()
            samples[start : start + len(piece) // 2] = np.frombuffer(piece, np.int16)
        return samples, heard
