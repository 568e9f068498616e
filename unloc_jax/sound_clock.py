"""SoundClock: converts the time stamps of a sound track to seconds on a player's clock, even if they are broken."""

import collections
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import av

from unloc_jax.video import has_pictures, is_estimated, picture_clocks_s, second_0_s
from unloc_jax.video_clock import LEAP_S, LONGEST_LEAP_S, RESET_S

# A frame's time stamp may differ from the end of the one before it by this much without being a gap or an overlap.
_JITTER_S = 0.010
# The mean of this many differences is corrected if it is larger: recorders whose clocks drift.
_DRIFT_S, _DRIFT_FRAMES = 0.004, 20
# Where the sound leaps with the picture, both clocks differ by less; where the next recording begins, by less.
_SAME_LEAP_S, SAME_RECORDING_S = 1.0, 30.0


def timed(frames: Iterable[av.AudioFrame]) -> Iterator[tuple[av.AudioFrame, float | None]]:
    """Yields frames, each with its time stamp in seconds if it does not continue the one before it, else with None.

    Time stamps are rounded (Matroska, FLV) or shake; only the next frame tells a gap from one broken time stamp.
    """
    next_s: float | None = None
    following_s: float | None = None
    off_s: collections.deque[float] = collections.deque(maxlen=_DRIFT_FRAMES)
    for frame, following in itertools.pairwise(itertools.chain(frames, [None])):
        assert frame is not None
        length_s, stamp_s = frame.samples / frame.sample_rate, following_s
        following_s = None if following is None else _stamp_s(following)
        if next_s is None:
            stamp_s = _stamp_s(frame)
        begins_s = None
        if next_s is None:
            falls = stamp_s is not None and following_s is not None and following_s < stamp_s - RESET_S
            begins_s = following_s - length_s if falls and following_s is not None else stamp_s or 0.0
        elif stamp_s is not None and abs(stamp_s - next_s) > _JITTER_S:
            if following_s is not None and _confirms(following_s - length_s, stamp_s, next_s):
                begins_s = stamp_s
        elif stamp_s is not None:
            off_s.append(stamp_s - next_s)
            if len(off_s) == _DRIFT_FRAMES and abs(drift_s := sum(off_s) / _DRIFT_FRAMES) > _DRIFT_S:
                begins_s = next_s + drift_s
        if begins_s is not None:
            off_s.clear()
            next_s = begins_s
        assert next_s is not None
        yield frame, begins_s
        next_s += length_s


def _confirms(as_next_s: float, stamp_s: float, expected_s: float) -> bool:
    """Returns whether the next frame agrees with a time stamp that is not the expected one.

    `as_next_s` is the time stamp that this frame would have by the next one."""
    if stamp_s > expected_s:  # there may be another gap between the two
        return as_next_s > stamp_s - _JITTER_S
    return abs(as_next_s - stamp_s) <= _JITTER_S


def _stamp_s(frame: av.AudioFrame) -> float | None:
    base = frame.time_base
    # A product of fractions would cost more than all else.
    return None if frame.pts is None or not base else frame.pts * base.numerator / base.denominator


class SoundClock:
    """Converts time stamps of sound to a player's seconds, by the rules of `VideoClock` and on the picture's clock."""

    def __init__(self, container: av.container.InputContainer, path: Path):
        self._path = path
        self._origin_s = second_0_s(container)
        self._header_s: float | None = None
        if container.duration is not None and not is_estimated(container):
            self._header_s = container.duration / av.time_base
        self._start_s: float | None = None
        self._pictures_s: list[float] | None = None if has_pictures(container) else []

    def time_s(self, stamp_s: float, end_s: float) -> float:
        """Returns the time of a time stamp that does not continue the sound so far, which ends at `end_s` seconds."""
        if self._start_s is None:
            late_s = 0.0 if self._origin_s is None else stamp_s - self._origin_s
            here = (
                self._origin_s is None
                or late_s < -RESET_S
                or (late_s > LEAP_S and not self._is_believed(late_s, 0.0))
            )
            self._start_s = stamp_s if here or self._origin_s is None else self._origin_s
            return stamp_s - self._start_s
        time_s, following_s = stamp_s - self._start_s, stamp_s - end_s
        back, leap = time_s < end_s - RESET_S, time_s > end_s + LEAP_S
        if leap and (picture_s := self._picture_near(following_s, _SAME_LEAP_S)) is not None:
            self._start_s = picture_s
        elif back or (leap and not self._is_believed(time_s, end_s)):  # another recording
            picture_s = self._picture_near(following_s, SAME_RECORDING_S)
            self._start_s = following_s if picture_s is None else picture_s
        return stamp_s - self._start_s

    def _is_believed(self, time_s: float, end_s: float) -> bool:
        if self._header_s is not None:
            return time_s <= self._header_s + LEAP_S
        return time_s - end_s <= LONGEST_LEAP_S

    def _picture_near(self, start_s: float, most_s: float) -> float | None:
        """Returns the time stamp of second 0 that the picture has and that is nearest to `start_s`, if near enough."""
        if self._pictures_s is None:
            self._pictures_s = picture_clocks_s(self._path)
        near = min(self._pictures_s, key=lambda other_s: abs(other_s - start_s), default=None)
        return near if near is not None and abs(near - start_s) <= most_s else None
