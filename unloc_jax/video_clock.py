"""VideoClock: converts a file's time stamps to seconds on a player's clock, even if the time stamps are broken."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av

from unloc_jax.video_names import ffmpeg_file

# A time stamp that falls back by more than this starts a new clock (joined recordings); by less, the frame is
# repeated or misplaced and is left out.
RESET_S = 0.5
# A step forward by more than this is a leap: a still picture, unless something contradicts it.
LEAP_S = 10.0
# MPEG-TS counts to 2^33 ticks of 90 kHz: a step of more than half of that may equally be one backwards.
LONGEST_LEAP_S = 2**32 / 90_000
# After a leap, this many packets of the sound show whether it leaps too; fewer than the minimum are inconclusive.
_MOST_PACKETS, _LEAST_PACKETS = 50, 10


class VideoClock:
    """Assigns times to the frames of a video, strictly rising.

    Second 0 is that of a player: the start of the first stream of the file, picture or sound. Time stamps are trusted,
    even if a picture stands still for minutes, except for
    * one frame whose time stamp does not fit between its neighbours': it is left out;
    * a step back: another recording begins, at the end of the last frame;
    * a leap forward that something contradicts: the length in the header, sound that continues without it, or the
      clock of MPEG-TS, which restarts after 26.5 hours. Such a leap is ignored: the frame follows the last one.

    Attributes:
      start_s: time stamp of second 0; changes when a new clock starts.
      end_s: end of the last frame, in seconds.
    """

    def __init__(
        self,
        origin_s: float | None,
        frame_s: float,
        header_s: Callable[[], float | None],
        sound_goes_on: Callable[[float, float], bool],
    ):
        """Starts a clock before the first frame.

        Args:
          origin_s: time stamp of second 0; None: that of the first frame.
          frame_s: duration of a frame that has none, in seconds.
          header_s: returns the length in the header in seconds, on this clock; None if it has none.
          sound_goes_on: whether another stream shows that no time passed between two time stamps.
        """
        self.start_s = 0.0
        self.end_s = 0.0
        self._origin_s = origin_s
        self._frame_s = frame_s
        self._header_s = header_s
        self._sound_goes_on = sound_goes_on
        self._last_s: float | None = None

    def time_s(self, stamp_s: float | None, following_s: float | None, duration_s: float) -> float | None:
        """Returns the time of the next frame in seconds; None if it is to be left out.

        Args:
          stamp_s: its time stamp; None if it has none.
          following_s: time stamp of the frame after it.
          duration_s: its duration; 0.0 if it has none.
        """
        if self._last_s is None:
            time_s = self._first(stamp_s, following_s)
        else:
            time_s = self._next(self._last_s, stamp_s, following_s)
            if time_s <= self._last_s:
                return None
        self._last_s, self.end_s = time_s, time_s + (duration_s or self._frame_s)
        return time_s

    def _first(self, stamp_s: float | None, following_s: float | None) -> float:
        if stamp_s is None:
            self.start_s = self._origin_s or 0.0
            return 0.0
        falls = following_s is not None and following_s < stamp_s - RESET_S  # one of the two is broken
        if self._origin_s is not None and stamp_s > self._origin_s and not falls:
            self.start_s = self._origin_s
            if stamp_s - self._origin_s <= LEAP_S or self._is_believed(stamp_s):
                return stamp_s - self._origin_s
        self.start_s = stamp_s
        return 0.0

    def _next(self, last_s: float, stamp_s: float | None, following_s: float | None) -> float:
        if stamp_s is None:
            return last_s + self._frame_s
        time_s = stamp_s - self.start_s
        falls, leaps = time_s < last_s - RESET_S, time_s > self.end_s + LEAP_S
        if following_s is not None:
            next_s = following_s - self.start_s
            fits = last_s < next_s <= self.end_s + LEAP_S
            if fits and (falls or next_s < time_s - RESET_S):
                return last_s
        if falls or (leaps and not self._is_believed(stamp_s)):
            self.start_s = stamp_s - self.end_s
        return stamp_s - self.start_s

    def _is_believed(self, stamp_s: float) -> bool:
        """Returns whether a leap to a time stamp is real."""
        time_s, header_s = stamp_s - self.start_s, self._header_s()
        if header_s is not None and self.end_s <= header_s + LEAP_S:
            return time_s <= header_s + LEAP_S
        if time_s - self.end_s > LONGEST_LEAP_S:
            return False
        return not self._sound_goes_on(self.start_s + self.end_s, stamp_s)


class OtherStreams:
    """Checks leaps of a video against the other streams of its file, which is then read a second time."""

    def __init__(self, path: Path, video_index: int):
        self._path = path
        self._video_index = video_index
        self._found: list[tuple[float, list[float]]] | None = None

    def go_on(self, before_s: float, after_s: float) -> bool:
        """Returns whether the other streams' packets after the leap have times from before it (in seconds)."""
        if self._found is None:
            self._found = list(self._stamps_after_leaps())
        at_s, stamps = min(self._found, key=lambda found: abs(found[0] - after_s), default=(0.0, []))
        middle_s = (before_s + after_s) / 2
        return abs(at_s - after_s) < LEAP_S and len(stamps) >= _LEAST_PACKETS and max(stamps) < middle_s

    def _stamps_after_leaps(self) -> Iterator[tuple[float, list[float]]]:
        """Yields the time stamps of the video's packets that leap, with those of the next packets of other streams."""
        open_leaps: list[tuple[float, list[float]]] = []
        last_s: float | None = None
        for index, stamp_s in _stamps(self._path):
            if index != self._video_index:
                for _, stamps in open_leaps:
                    stamps.append(stamp_s)
                while open_leaps and len(open_leaps[0][1]) == _MOST_PACKETS:
                    yield open_leaps.pop(0)
                continue
            if last_s is None or stamp_s > last_s + LEAP_S:
                open_leaps.append((stamp_s, []))
            last_s = stamp_s
        yield from open_leaps


def _stamps(path: Path) -> Iterator[tuple[int, float]]:
    """Yields (index of the stream, time stamp in seconds) of the packets of sound and picture, in file order."""
    name, options = ffmpeg_file(path)
    with av.open(name, options=options) as container:
        streams = [stream for stream in container.streams if stream.type in ("audio", "video")]
        packets = container.demux(streams)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):
                return
            stamp = packet.pts if packet.dts is None else packet.dts
            if stamp is not None and packet.time_base is not None:
                yield packet.stream.index, float(stamp * packet.time_base)
