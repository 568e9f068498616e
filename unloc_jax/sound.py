"""Reads the sound track of a file with PyAV, on the clock of the frames of `unloc_jax.video`.

FFmpeg applies edit lists and drops priming samples where the file tells their number (MP4, MOV, Matroska, WebM, Ogg,
MP3 with LAME's header). MPEG-TS, FLV and AVI do not tell it; there the picture starts as much later, as in a player.
"""

import collections
import contextlib
import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.sound_windows import Sound
from unloc_jax.video import (
    VideoError,
    VideoNote,
    header_duration_s,
    is_estimated,
    open_file,
    packets_of,
    picture_clocks_s,
    second_0_s,
    video_length_s,
)
from unloc_jax.video_clock import LEAP_S, LONGEST_LEAP_S, RESET_S

# A frame's time stamp may differ from the end of the one before it by this much without being a gap or an overlap.
_JITTER_S = 0.010
# The mean of this many differences is corrected if it is larger: recorders whose clocks drift.
_DRIFT_S, _DRIFT_FRAMES = 0.004, 20
# What is missing for less than this counts as heard.
_SHORT_GAP_S = 0.050
# A track that starts later than this is reported.
_LATE_S = 0.5
# Where the sound leaps with the picture, both clocks differ by less; where the next recording begins, by less.
_SAME_LEAP_S, _SAME_RECORDING_S = 1.0, 30.0
# A track whose loudest sample is below this (-60 dB) is silent; one with more than this share at full scale is clipped.
_SILENT, _FULL_SCALE, _CLIPPED_SHARE = 33, 32_700, 0.001
_AT_ONCE = 1 << 20
# Sound and picture that end farther apart than this are reported.
_ENDS_S, _ENDS_FRACTION = 1.0, 0.05
# A file of sound alone is truncated if more than this much of the length in its header cannot be decoded.
_TRUNCATED_FRACTION, _TRUNCATED_S = 0.10, 0.5
_BLOCK_S = 10  # of silence that is yielded at a time
_LOWEST_RATE, _HIGHEST_RATE = 1000, 192_000


def read_sound(
    path: str | Path,
    rate: int = 16000,
    track: int | None = None,
    on_frame: Callable[[], object] = lambda: None,
) -> Sound | None:
    """Reads a sound track whole: resampled by libswresample, mixed down to mono, on a player's clock.

    Memory: the result, 115 MB per hour at 16 kHz, and a few frames; twice the result if the track has holes of more
    than 10 s or is joined from recordings.

    Args:
      path: a file of video, or of sound alone.
      rate: samples per second wanted.
      track: which of the file's sound tracks, from 0; None: the one that a player plays.
      on_frame: called after each decoded frame, some hundredths of a second long.

    Returns:
      The sound; None if the file has no sound track.

    Raises:
      UserError: the rate cannot be used.
      VideoError: the file, or its sound, is unusable: "no such sound track", "no decoder for the sound", "no sound" (of
        a file without picture), "truncated" (also), or a kind of `unloc_jax.video`.
    """
    check_rate(rate)
    path = Path(path)
    with open_file(path) as container:
        stream = _sound_stream(container, path, track)
        if stream is None:
            return None
        frames, line = _Frames(container, stream), _TimeLine(rate)
        for _ in _fill(line, frames, container, path):
            on_frame()
        samples, heard = line.finish()
        if not _has_picture(container):
            _check_whole(container, stream, path, heard)
        return Sound(samples, rate, heard, tuple(_notes(container, frames, heard, track)))


class SoundBlocks:
    """Iterates over what `read_sound` returns, in turn, int16 [n] each, in memory that does not grow with it.

    Where joined recordings overlap by more than half a minute, the earlier one is heard.

    Attributes:
      rate: samples per second.
      picture_s: length of the file's picture in seconds, known after the iteration; 0.0 = there is none.
      notes: on the sound, known at the same time.
    """

    def __init__(self, path: str | Path, rate: int, track: int | None = None):
        """Prepares the iteration, which opens the file; arguments as for `read_sound`."""
        self.rate = rate
        self.picture_s = 0.0
        self.notes: tuple[VideoNote, ...] = ()
        self._path, self._track = Path(path), track

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the samples.

        Raises:
          VideoError: as `read_sound`, and "no sound track".
        """
        with open_file(self._path) as container:
            stream = _sound_stream(container, self._path, self._track)
            if stream is None:
                raise VideoError("no sound track", f"{self._path}: the file has no sound track.")
            frames, line = _Frames(container, stream), _TimeLine(self.rate)
            for _ in _fill(line, frames, container, self._path):
                yield from line.take(round(_SAME_RECORDING_S * self.rate))
            yield from line.take(0)
            _, heard = line.finish()
            if not _has_picture(container):
                _check_whole(container, stream, self._path, heard)
            else:
                with contextlib.suppress(VideoError):  # the sound may be whole all the same
                    self.picture_s = video_length_s(self._path)
            self.notes = tuple(_notes(container, frames, heard, self._track))


def _fill(
    line: "_TimeLine", frames: "_Frames", container: av.container.InputContainer, path: Path
) -> Iterator[None]:
    """Puts the frames of a track where a player plays them; stops after each one."""
    clock = _SoundClock(container, path)
    mono = _Mono(line.rate)
    for frame, stamp_s in _timed(frames):
        if stamp_s is not None:
            line.add(mono.rest())
            line.move_to(clock.time_s(stamp_s, line.end / line.rate))
        line.add(mono(frame))
        yield
    line.add(mono.rest())


def check_rate(rate: int) -> None:
    """Raises UserError for samples per second that nobody resamples sound to."""
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise UserError(
            f"The sound's rate must be {_LOWEST_RATE} to {_HIGHEST_RATE} samples per second, got {rate}."
        )


def notes_on_sound(sound: Sound | None, length_s: float) -> tuple[VideoNote, ...]:
    """Returns what a user should know of a video's sound, countable by kind.

    Args:
      sound: as read; None: the video has no sound track.
      length_s: of the video's picture in seconds (of a file of sound alone: of its sound).
    """
    if sound is None:
        return (VideoNote("no sound track", "what is asked of its sound cannot be found"),)
    notes = [VideoNote(*note) for note in sound.notes]
    if not len(sound.heard):
        return tuple(notes)
    loudest, clipped = _levels(sound.samples)
    if loudest < _SILENT:
        notes.append(VideoNote("silent sound track", f"no sample is louder than {loudest} of {2**15}"))
    elif clipped > _CLIPPED_SHARE:
        notes.append(
            VideoNote("clipped sound", f"{100 * clipped:.2f} % of its samples are as loud as can be")
        )
    most_s = max(_ENDS_S, _ENDS_FRACTION * length_s)
    kind = "sound ends before the picture" if sound.end_s < length_s else "sound ends after the picture"
    if length_s and abs(sound.end_s - length_s) > most_s:
        notes.append(VideoNote(kind, f"at {sound.end_s:.2f} s of {length_s:.2f} s"))
    return tuple(notes)


def lacks_sound(note: VideoNote) -> bool:
    """Returns whether a note says that a video has no sound that can be used."""
    return note.kind.startswith(("no sound", "empty sound"))


def _levels(samples: np.ndarray) -> tuple[int, float]:
    """Returns the loudest level, 0 to 32768, and the share of samples near it that are as loud as int16 can be."""
    loudest = clipped = 0
    for start in range(0, len(samples), _AT_ONCE):
        level = np.abs(samples[start : start + _AT_ONCE].astype(np.int32))
        loudest = max(loudest, int(level.max()))
        clipped += int((level >= _FULL_SCALE).sum())
    return loudest, clipped / max(len(samples), 1)


def has_picture(path: str | Path) -> bool:
    """Returns whether a file has a video stream other than a cover picture.

    Raises:
      VideoError: FFmpeg cannot read the file.
    """
    with open_file(Path(path)) as container:
        return _has_picture(container)


def _has_picture(container: av.container.InputContainer) -> bool:
    return any(not s.disposition & s.disposition.attached_pic for s in container.streams.video)


def _sound_stream(
    container: av.container.InputContainer, path: Path, track: int | None
) -> av.AudioStream | None:
    streams = container.streams.audio
    if track is not None and not 0 <= track < max(len(streams), 1):
        there = f"{len(streams)} sound tracks, 0 to {len(streams) - 1}" if len(streams) > 1 else "one, 0"
        raise VideoError(
            "no such sound track", f"{path}: there is no sound track {track}; the file has {there}."
        )
    if not streams:
        return None
    if track is None:
        # Without decoder: a track of another kind may still be playable.
        playable = [s for s in streams if s.codec_context is not None] or list(streams)
        stream = next((s for s in playable if s.disposition & s.disposition.default), playable[0])
    else:
        stream = streams[track]
    if stream.codec_context is None:
        raise VideoError(
            "no decoder for the sound",
            f"{path}: FFmpeg has no decoder for its sound. Convert the sound to AAC, FLAC or PCM.",
        )
    return stream


class _Frames:
    """Iterates over the decoded frames of a sound track; skips damaged packets.

    Attributes:
      index: of the track among the file's sound tracks.
      damaged: number of packets that could not be decoded so far.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.AudioStream):
        self._container = container
        self._stream = stream
        self.index = list(container.streams.audio).index(stream)
        self.damaged = 0

    def __iter__(self) -> Iterator[av.AudioFrame]:
        for packet in packets_of(self._container, self._stream):
            try:
                yield from self._decoded(packet)
            except av.error.FFmpegError:
                self.damaged += 1
        try:  # again: without an end of the file, nothing has emptied the decoder
            yield from self._decoded(None)
        except av.error.FFmpegError:
            return

    def _decoded(self, packet: av.Packet | None) -> Iterator[av.AudioFrame]:
        for frame in self._stream.codec_context.decode(packet):
            if frame.samples and frame.sample_rate:
                yield frame


def _timed(frames: _Frames) -> Iterator[tuple[av.AudioFrame, float | None]]:
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


class _SoundClock:
    """Converts time stamps of sound to a player's seconds, by the rules of `VideoClock` and on the picture's clock."""

    def __init__(self, container: av.container.InputContainer, path: Path):
        self._path = path
        self._origin_s = second_0_s(container)
        self._header_s: float | None = None
        if container.duration is not None and not is_estimated(container):
            self._header_s = container.duration / av.time_base
        self._start_s: float | None = None
        self._pictures_s: list[float] | None = None if _has_picture(container) else []

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
            picture_s = self._picture_near(following_s, _SAME_RECORDING_S)
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


class _Mono:
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


class _TimeLine:
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


def _check_whole(
    container: av.container.InputContainer, stream: av.AudioStream, path: Path, heard: np.ndarray
) -> None:
    """Raises VideoError if a file of sound alone has no sound, or much less than its header claims."""
    if not len(heard):
        raise VideoError(
            "no sound", f"{path}: its sound track holds no sample that can be decoded. Get it again."
        )
    header_s = header_duration_s(container, stream)
    # Without a table of contents, the length of an MP3 or AAC file is a guess from its size.
    if header_s is None or is_estimated(container) or container.format.name in ("mp3", "aac"):
        return
    missing_s = header_s - (heard[-1, 1] - heard[0, 0])
    if missing_s > _TRUNCATED_S and missing_s > _TRUNCATED_FRACTION * header_s:
        raise VideoError(
            "truncated",
            f"{path}: the header says {header_s:.1f} s of sound, only {heard[-1, 1]:.1f} s could be decoded: the file "
            "is cut short or damaged. Get it again.",
        )


def _notes(
    container: av.container.InputContainer, frames: _Frames, heard: np.ndarray, track: int | None
) -> Iterator[VideoNote]:
    count = len(container.streams.audio)
    if count > 1 and track is None:
        yield VideoNote(
            "several sound tracks", f"{frames.index} of 0 to {count - 1} is read, the one that a player plays"
        )
    if frames.damaged:
        yield VideoNote("damaged sound", f"{frames.damaged} packets cannot be decoded and are silent")
    if not len(heard):
        yield VideoNote("empty sound track", "it holds no sample that can be decoded")
        return
    if heard[0, 0] > _LATE_S:
        yield VideoNote("sound starts later than the picture", f"at {heard[0, 0]:.2f} s")
    if len(heard) > 1:
        missing_s = float((heard[1:, 0] - heard[:-1, 1]).sum())
        yield VideoNote(
            "gaps in the sound", f"{len(heard) - 1}, of {missing_s:.2f} s together; they are silent"
        )
