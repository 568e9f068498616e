"""Reads the sound track of a file with PyAV, on the clock of the frames of `unloc_jax.video`.

FFmpeg applies edit lists and drops priming samples where the file tells their number (MP4, MOV, Matroska, WebM, Ogg,
MP3 with LAME's header). MPEG-TS, FLV and AVI do not tell it; there the picture starts as much later, as in a player.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.sound_clock import SAME_RECORDING_S, SoundClock, timed
from unloc_jax.sound_samples import Mono, SampleLine
from unloc_jax.sound_windows import Sound
from unloc_jax.video import (
    VideoError,
    VideoNote,
    has_pictures,
    header_duration_s,
    is_estimated,
    open_file,
    packets_of,
    video_length_s,
)

# A track that starts later than this is reported.
_LATE_S = 0.5
# A file of sound alone is truncated if more than this much of the length in its header cannot be decoded.
_TRUNCATED_FRACTION, _TRUNCATED_S = 0.10, 0.5
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
        frames, line = _Frames(container, stream), SampleLine(rate)
        for _ in _fill(line, frames, container, path):
            on_frame()
        samples, heard = line.finish()
        if not has_pictures(container):
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
            frames, line = _Frames(container, stream), SampleLine(self.rate)
            for _ in _fill(line, frames, container, self._path):
                yield from line.take(round(SAME_RECORDING_S * self.rate))
            yield from line.take(0)
            _, heard = line.finish()
            if not has_pictures(container):
                _check_whole(container, stream, self._path, heard)
            else:
                with contextlib.suppress(VideoError):  # the sound may be whole all the same
                    self.picture_s = video_length_s(self._path)
            self.notes = tuple(_notes(container, frames, heard, self._track))


def _fill(
    line: SampleLine, frames: "_Frames", container: av.container.InputContainer, path: Path
) -> Iterator[None]:
    """Puts the frames of a track where a player plays them; stops after each one."""
    clock = SoundClock(container, path)
    mono = Mono(line.rate)
    for frame, stamp_s in timed(frames):
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


def has_picture(path: str | Path) -> bool:
    """Returns whether a file has a video stream other than a cover picture.

    Raises:
      VideoError: FFmpeg cannot read the file.
    """
    with open_file(Path(path)) as container:
        return has_pictures(container)


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
