"""Decodes frames of video files at exact times: PyAV, one sequential pass, no TensorFlow.

Seeking to every wanted frame decodes each group of pictures repeatedly (5–10 times slower), so a file is decoded once
from its start, and only the wanted frames are converted to RGB.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from unloc_jax.errors import UserError
from unloc_jax.frame_times import first_place
from unloc_jax.orientation import orientation_of
from unloc_jax.video_clock import OtherStreams, VideoClock
from unloc_jax.video_names import ffmpeg_file
from unloc_jax.whole_file import is_cut_mp4, is_whole

# A file counts as truncated if more than this much of the length in its header cannot be decoded.
_TRUNCATED_FRACTION = 0.10
_TRUNCATED_S = 0.5
# A picture that starts later than the sound by more than this is reported.
_LATE_PICTURE_S = 0.5
# A picture that ends before the sound, or before the length in the header, by more than this is reported.
_EARLY_PICTURE_S, _EARLY_PICTURE_FRACTION = 1.0, 0.05
# The last packets are read from this long before the end in the header.
_TAIL_S = 5.0
# Formats whose length is that from clock time 0 to the end, whenever the first stream begins.
_LENGTH_FROM_CLOCK_0 = ("matroska,webm",)
# Transfer characteristics by ISO/IEC 23091-2: SMPTE ST 2084 and ARIB STD-B67.
_HDR = {16: "PQ", 18: "HLG"}


class VideoError(UserError):
    """An unusable video.

    Attributes:
      kind: "missing", "empty file", "not a video", "no frames" or "truncated".
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind

    def __reduce__(self):
        return VideoError, (self.kind, str(self))


class VideoNote(NamedTuple):
    """A note on a usable video; `kind` is short and countable."""

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})"


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Metadata from the header and the first frame of a video file.

    Attributes:
      duration_s: length in seconds from a player's second 0; 0.0 if the header has none.
      width: pixels as shown on a screen, that is after rotation and with square pixels.
      height: pixels in the same sense.
      codec: the decoder's name, such as "h264".
      avg_fps: average frames per second.
      notes: differences from what a user might expect to see.
      mirrored: whether the file requests mirrored pictures.
    """

    duration_s: float
    width: int
    height: int
    codec: str
    avg_fps: float
    notes: tuple[VideoNote, ...] = ()
    mirrored: bool = False


@dataclasses.dataclass(frozen=True)
class DecodedVideo:
    """Frames at the times k / fps.

    Attributes:
      frames: uint8 [F, H, W, 3], RGB; F = ceil(duration_s * fps), ignoring an excess of up to a millisecond.
      fps: frames per second of `frames`.
      duration_s: measured length in seconds, up to the end of the last frame on a player's clock.
    """

    frames: np.ndarray
    fps: float
    duration_s: float


def check_fps(fps: float) -> None:
    """Raises UserError for frames per second that are not above 0, or not finite."""
    if not 0 < fps < float("inf"):
        raise UserError(f"fps must be above 0, got {fps}.")


class FrameStream:
    """Iterates over the frames of a video at the times k / fps without holding them all in memory.

    Yields uint8 [H, W, 3] RGB arrays; item k is the frame that a player shows at k / fps (with `offset`: at
    (k + offset) / fps), see `unloc_jax.frame_times`. Second 0 is a player's: the start of picture or sound, whichever
    comes first; the first picture also covers the time before it. If one source frame serves several k, the *same*
    array object is yielded again, so that a caller can reuse results for it.

    Attributes:
      duration_s: the measured length in seconds, available after the iteration.
      notes: differences from what a user might expect to see; available with the first frame, that of an early end
        after the iteration.
    """

    def __init__(
        self, path: str | Path, *, fps: float, short_side: int, threads: int = 0, offset: float = 0.0
    ):
        """Prepares a stream; iterating opens the file.

        Args:
          path: a video file.
          fps: frames per second wanted, > 0.
          short_side: the shorter side in pixels after the resize; the aspect ratio is kept.
          threads: of the decoder and of the resize; 0 lets FFmpeg choose, 1 is right if several processes decode at
            once.
          offset: of the first frame, in units of 1 / fps; 0.5 takes the frames in the middle of each 1 / fps.
        """
        check_fps(fps)
        if not short_side > 0:
            raise UserError(f"short_side must be above 0 pixels, got {short_side}.")
        self.path = Path(path)
        self.duration_s = 0.0
        self.notes: tuple[VideoNote, ...] = ()
        self._fps = fps
        self._short_side = short_side
        self._threads = threads
        self._offset = offset

    def __iter__(self) -> Iterator[np.ndarray]:
        with open_file(self.path) as container:
            stream = _video_stream(container, self.path)
            stream.codec_context.thread_count = self._threads
            stream.thread_type = "AUTO"
            rgb = _RgbConverter(self._short_side, stream, self._threads)
            reader = _TimedFrames(container, stream, self.path)
            place = 0  # of the next output frame
            previous: av.VideoFrame | None = None
            previous_s = 0.0
            for time_s, frame in reader:
                if previous is None:
                    self.notes = _notes(time_s, frame)
                else:
                    array = None
                    for _ in range(place, self._first_place(time_s, time_s - previous_s)):
                        array = rgb(previous) if array is None else array
                        yield array
                        place += 1
                previous, previous_s = frame, time_s
            if previous is None:
                raise _no_frames(self.path)
            reader.finish(self.path)
            array = None
            # A video that ends before its first place still has one frame.
            for _ in range(place, max(1, self._first_place(reader.end_s, reader.end_s - previous_s))):
                array = rgb(previous) if array is None else array
                yield array
            self.duration_s = reader.end_s
            self.notes += _early_end(reader.end_s, reader.sound_end_s, reader.header_end_s)

    def _first_place(self, shown_from_s: float, step_s: float) -> int:
        return first_place(shown_from_s, step_s, self._fps, self._offset)


def decode_frames(path: str | Path, *, fps: float, short_side: int) -> DecodedVideo:
    """Decodes a whole video into memory; `FrameStream` holds one frame at a time.

    Args:
      path: a video file.
      fps: frames per second wanted.
      short_side: the shorter side in pixels after the resize; the aspect ratio is kept.

    Returns:
      The frames that a player shows at 0/fps, 1/fps, 2/fps, … and the measured duration.

    Raises:
      VideoError: the file is unusable; `kind` is the reason.
    """
    stream = FrameStream(path, fps=fps, short_side=short_side)
    frames = np.stack(list(stream))
    return DecodedVideo(frames, fps, stream.duration_s)


def probe(path: str | Path) -> VideoInfo:
    """Reads the header and the first frame of a video.

    Raises:
      VideoError: the file is unusable; `kind` is the reason.
    """
    with open_file(Path(path)) as container:
        stream = _video_stream(container, Path(path))
        reader = _TimedFrames(container, stream, Path(path))
        for time_s, frame in reader:
            width, height = _shown_size(frame, stream)
            length_s, sound_s = _length_s(container, stream) or 0.0, _sound_end_s(container)
            claimed_s = 0.0
            if length_s and stream.duration is None and (sound_s or container.format.name == "flv"):
                claimed_s, length_s = (
                    length_s,
                    min(_picture_end_s(Path(path), length_s) or length_s, length_s),
                )
            return VideoInfo(
                duration_s=length_s,
                width=width,
                height=height,
                codec=stream.codec_context.name,
                avg_fps=float(_average_rate(stream)),
                notes=_notes(time_s, frame) + _early_end(length_s, sound_s, claimed_s),
                mirrored=orientation_of(frame).mirrored,
            )
    raise _no_frames(Path(path))


def video_length_s(path: Path, info: VideoInfo | None = None) -> float:
    """Returns the length of a video in seconds: that of its header, else up to the end of its last picture.

    Args:
      path: the file.
      info: what `probe` returned for it; None: it is probed here.

    Raises:
      VideoError: the file is unusable; `kind` is the reason.
    """
    return (info or probe(path)).duration_s or length_of_packets_s(path)


def picture_clocks_s(path: Path) -> list[float]:
    """Returns the time stamps of a player's second 0 that the frames of a video have in turn, in seconds.

    Joined recordings have several. Decodes the whole video; returns [] if it has no picture that can be decoded.
    """
    try:
        with open_file(path) as container:
            reader = _TimedFrames(container, _video_stream(container, path), path)
            for _ in reader:
                pass
            return reader.starts_s
    except VideoError:
        return []


def _picture_end_s(path: Path, header_s: float) -> float | None:
    """Returns what `length_of_packets_s` does, from the packets near the end of the header's length; None = unknown."""
    with open_file(path) as container:
        stream = _video_stream(container, path)
        try:
            start_s = (second_0_s(container) or 0.0) + max(0.0, header_s - _TAIL_S)
            container.seek(int(start_s / float(stream.time_base or 1)), stream=stream)
            ends_s = [end_s for _, end_s in _spans_s(container, stream)]
        except av.error.FFmpegError:
            ends_s = []
        origin_s = second_0_s(container) or 0.0
    return max(ends_s) - origin_s if ends_s else length_of_packets_s(path) or None


def length_of_packets_s(path: Path) -> float:
    """Returns the seconds from a player's second 0 to the end of the last picture, for headers without a length.

    Reads the file without decoding; returns 0.0 if it has no time stamps.

    Raises:
      VideoError: the file is unusable; `kind` is the reason.
    """
    with open_file(path) as container:
        stream = _video_stream(container, path)
        spans_s = list(_spans_s(container, stream))
        first_s = min((start_s for start_s, _ in spans_s), default=0.0)
        origin_s = second_0_s(container)
    begin_s = first_s if origin_s is None else min(origin_s, first_s)
    return max((end_s for _, end_s in spans_s), default=begin_s) - begin_s


def _spans_s(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[tuple[float, float]]:
    """Yields the start and the end of every packet of the video in seconds."""
    for packet in packets_of(container, stream):
        if packet.pts is not None and packet.time_base is not None:
            start_s = float(packet.pts * packet.time_base)
            yield start_s, start_s + float((packet.duration or 0) * packet.time_base)


class _TimedFrames:
    """Iterates over (time, frame): seconds on a player's clock, strictly rising, and decoded frames.

    Skips damaged packets.

    Attributes:
      first_s: time of the first frame, available with it; above 0 if the picture starts after the sound.
      end_s: end of the latest frame, in seconds.
      sound_end_s: end of the latest packet of the sound, in seconds; 0.0 without sound.
      header_end_s: end in the header, in seconds, of a file that is whole and yet ends before; else 0.0.
      starts_s: time stamps of second 0 so far, see `VideoClock`; several in joined recordings.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream, path: Path):
        self._container = container
        self._stream = stream
        self._path = path
        self._file_end_s = 0.0  # clock time where the last frame, audio packet, … of the file ends
        self._last_packet_s = (0.0, 0.0)  # of the video: its clock time and how long it lasts
        self._clock_start_s, self._one_clock = 0.0, True
        self.first_s = 0.0
        self.end_s = 0.0
        self.sound_end_s = 0.0
        self.header_end_s = 0.0
        self.starts_s: list[float] = []

    def __iter__(self) -> Iterator[tuple[float, av.VideoFrame]]:
        # A Fraction would cost more than the rest of the loop.
        tick_s = float(self._stream.time_base or 0)
        clock = VideoClock(
            second_0_s(self._container),
            float(1 / _average_rate(self._stream)),
            # Evaluated on demand: the length of a fragmented MP4 grows while it is read.
            lambda: None if is_estimated(self._container) else _length_s(self._container, self._stream),
            OtherStreams(self._path, self._stream.index).go_on,
        )
        first = True
        for frame, following in itertools.pairwise(itertools.chain(self._decode(), [None])):
            assert frame is not None
            stamp_s, following_s = (
                None if each is None or each.pts is None else each.pts * tick_s for each in (frame, following)
            )
            time_s = clock.time_s(stamp_s, following_s, frame.duration * tick_s)
            if time_s is None:
                continue
            if first:
                self.first_s, first = time_s, False
                self._clock_start_s = clock.start_s
            if clock.start_s not in self.starts_s[-1:]:
                self.starts_s.append(clock.start_s)
            self.end_s = clock.end_s
            self._file_end_s = max(self._file_end_s, clock.start_s + self.end_s)
            yield time_s, frame
        # The last picture may stay on screen: MP4 gives the last packet's duration, which need not be the last picture.
        start_s, lasts_s = self._last_packet_s
        packet_end_s = start_s + lasts_s - clock.start_s
        if self.end_s < packet_end_s <= self.end_s + lasts_s:
            self.end_s = packet_end_s
            self._file_end_s = max(self._file_end_s, clock.start_s + self.end_s)
        self._one_clock, self._clock_start_s = clock.start_s == self._clock_start_s, clock.start_s
        self.sound_end_s = max(0.0, self.sound_end_s - clock.start_s)

    def _decode(self) -> Iterator[av.VideoFrame]:
        # All streams are read, decoding only the video: where the other streams end tells a video that is
        # shorter than its file from a file that was cut.
        for packet in packets_of(self._container):
            # Not packet.stream_index: that is 0 in the packet that flushes the decoder, whatever its stream is.
            if packet.stream.index != self._stream.index:
                if packet.pts is not None and packet.time_base is not None:
                    end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    self._file_end_s = max(self._file_end_s, end_s)
                    if packet.stream.type == "audio":
                        self.sound_end_s = max(self.sound_end_s, end_s)
                continue
            if packet.pts is not None and packet.time_base is not None:
                base_s = float(packet.time_base)
                self._last_packet_s = (packet.pts * base_s, (packet.duration or 0) * base_s)
            try:
                yield from self._stream.codec_context.decode(packet)
            except av.error.FFmpegError:
                continue

    def finish(self, path: Path) -> None:
        """Checks after the last frame that nothing is missing.

        If the header of a whole file claims much more than was decoded, its last picture stands still until then. In
        FLV, whose length no time stamp confirms, it does not.

        Raises:
          VideoError: "truncated", if much less was decoded than the header claims, and the file is not whole.
        """
        header_s = header_duration_s(self._container, self._stream)
        if header_s is None or is_estimated(self._container):
            return
        # Without a length of the video stream, the header's length is that of the whole file, from clock time 0.
        length_s = self.end_s - self.first_s
        missing_s = header_s - (self._file_end_s if self._stream.duration is None else length_s)
        if missing_s > _TRUNCATED_S and missing_s > _TRUNCATED_FRACTION * header_s:
            every_packet = self._last_packet_s[0] - self._clock_start_s < self.end_s
            if every_packet and self._one_clock and is_whole(path, self._container.format.name):
                end_s = _length_s(self._container, self._stream) or self.end_s
                if self._stream.duration is None:
                    self.header_end_s = end_s
                else:
                    self.end_s = max(self.end_s, end_s)
                return
            raise VideoError(
                "truncated",
                f"{path}: the header says {header_s:.1f} s, only {length_s:.1f} s could be decoded: the "
                "file is cut short or damaged (or its header is wrong). Get it again, or rewrite its "
                "header: `ffmpeg -i IN -c copy OUT`.",
            )


def packets_of(container: av.container.InputContainer, *streams: av.stream.Stream) -> Iterator[av.Packet]:
    """Yields the packets of some streams (none given: of all) up to the end or the first unreadable one."""
    packets = container.demux(*streams)
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.error.FFmpegError):  # an unreadable rest: `finish` judges it
            return


class _RgbConverter:
    """Converts decoded frames to upright, resized uint8 RGB arrays of one size, with one shared reformatter."""

    def __init__(self, short_side: int, stream: av.VideoStream, threads: int):
        self._short_side = short_side
        self._stream = stream
        self._threads = threads
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None  # (width, height) upright; all frames get the first one's

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Returns uint8 [H, W, 3]."""
        if self._size is None:
            width, height = _shown_size(frame, self._stream)
            scale = self._short_side / min(width, height)
            self._size = (round(width * scale), round(height * scale))
        orientation = orientation_of(frame)
        width, height = self._size[::-1] if orientation.transposed else self._size
        resized = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
            threads=self._threads,
        )
        return orientation.apply(resized.to_ndarray())


def _notes(first_s: float, frame: av.VideoFrame) -> tuple[VideoNote, ...]:
    """Returns the notes on a video with this first frame, shown at `first_s` seconds."""
    notes = []
    if first_s > _LATE_PICTURE_S:
        detail = f"by {first_s:.2f} s; times count from the sound, as in a player, and the first picture fills the gap"
        notes.append(VideoNote("picture starts later than the sound", detail))
    if frame.color_trc in _HDR:
        detail = f"{_HDR[frame.color_trc]}: colours are flatter than a player shows them"
        notes.append(VideoNote("HDR is not tone-mapped", detail))
    return tuple(notes)


def _early_end(picture_s: float, sound_s: float, header_s: float) -> tuple[VideoNote, ...]:
    """Returns the note on a picture that ends before the sound, or the header's length (0.0 = unknown), in seconds."""
    kinds = (
        ("picture ends before the sound", sound_s),
        ("picture ends before the header's length", header_s),
    )
    for kind, end_s in kinds:
        if end_s - picture_s > max(_EARLY_PICTURE_S, _EARLY_PICTURE_FRACTION * end_s):
            detail = f"at {picture_s:.2f} s of {end_s:.2f} s; the video lasts as long as the picture"
            return (VideoNote(kind, detail),)
    return ()


def _sound_end_s(container: av.container.InputContainer) -> float:
    """Returns the end of the sound by the header, in a player's seconds; 0.0 without sound or length."""
    origin_s, ends_s = second_0_s(container) or 0.0, [0.0]
    for stream in container.streams.audio:
        if stream.duration is not None and stream.time_base is not None:
            ends_s.append(float((stream.duration + (stream.start_time or 0)) * stream.time_base) - origin_s)
        elif container.duration is not None and not is_estimated(container):
            end_s = container.duration / av.time_base
            ends_s.append(end_s - (origin_s if container.format.name in _LENGTH_FROM_CLOCK_0 else 0.0))
    return max(ends_s)


def _shown_size(frame: av.VideoFrame, stream: av.VideoStream) -> tuple[int, int]:
    """Returns (width, height) of a frame as shown: square pixels, upright."""
    width, height = frame.width, frame.height
    pixel_aspect = stream.sample_aspect_ratio
    if pixel_aspect:
        width = max(1, round(width * pixel_aspect))
    return (height, width) if orientation_of(frame).transposed else (width, height)


def _average_rate(stream: av.VideoStream) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate.numerator, rate.denominator) if rate else Fraction(25)


def header_duration_s(
    container: av.container.InputContainer, stream: av.VideoStream | av.AudioStream
) -> float | None:
    """Returns the length in seconds that the header claims; None if it has none."""
    if container.format.name == "avi" and isinstance(stream, av.VideoStream) and stream.frames:
        # FFmpeg scales an AVI's duration down to the size of an incomplete file; the frame count is unaffected.
        return float(stream.frames / _average_rate(stream))
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None:
        return container.duration / av.time_base
    return None


def second_0_s(container: av.container.InputContainer) -> float | None:
    """Returns the clock time in seconds of a player's second 0, the start of the first stream.

    FFmpeg ignores subtitles that begin long before picture and sound."""
    return None if container.start_time is None else container.start_time / av.time_base


def _length_s(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """Returns the seconds from a player's second 0 to the end of the video by the header; None if it has no length."""
    length_s, origin_s = header_duration_s(container, stream), second_0_s(container)
    if length_s is None or origin_s is None:
        return length_s
    if stream.duration is not None and stream.time_base is not None and stream.start_time is not None:
        return length_s + max(0.0, float(stream.start_time * stream.time_base) - origin_s)
    return length_s - origin_s if container.format.name in _LENGTH_FROM_CLOCK_0 else length_s


def has_pictures(container: av.container.InputContainer) -> bool:
    """Returns whether a file has a video stream other than a cover picture."""
    return any(not s.disposition & s.disposition.attached_pic for s in container.streams.video)


def is_estimated(container: av.container.InputContainer) -> bool:
    """Returns whether FFmpeg estimates the "length in the header" from the file's first and last time stamps."""
    return container.format.name in ("mpegts", "mpeg")


def open_file(path: Path) -> av.container.InputContainer:
    """Opens a file that FFmpeg can read, or raises VideoError."""
    try:
        if not path.is_file():
            raise VideoError("missing", f"{path}: there is no such file.")
        if path.stat().st_size == 0:
            raise VideoError("empty file", f"{path}: the file is empty. Get it again.")
        name, options = ffmpeg_file(path)
        return av.open(name, options=options)
    except PermissionError as error:
        raise VideoError("missing", f"{path}: no permission to read this file.") from error
    except av.error.FFmpegError as error:
        if is_cut_mp4(path):
            raise VideoError(
                "truncated",
                f"{path}: an MP4/MOV file without its index (moov atom not found): the download or recording "
                "most likely stopped early. Get it again.",
            ) from error
        raise VideoError("not a video", f"{path}: not a video file that FFmpeg can read.") from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """Returns the first video stream that can be decoded; raises VideoError if there is none."""
    # FFmpeg lists a cover picture as a video stream.
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise VideoError("not a video", f"{path}: there is no video in this file, only other streams.")
    # It also lists the first picture of an animated AVIF, before the animation.
    for stream in sorted(streams, key=lambda stream: stream.frames == 1):
        # PyAV's types omit that it is None if FFmpeg has no decoder; the codec is then unknown, too.
        if stream.codec_context is not None:
            return stream
    raise VideoError(
        "not a video",
        f"{path}: FFmpeg has no decoder for the video in this file. Convert it to H.264 or get it in another "
        "format.",
    )


def _no_frames(path: Path) -> VideoError:
    if "webp_anim" not in av.codecs_available and _is_animated_webp(path):
        return VideoError(
            "not a video",
            f"{path}: an animated WebP picture, which PyAV decodes from version 19 on: pip install 'av>=19'. Or "
            "convert it to MP4 or GIF by another program (such as ImageMagick: `magick IN.webp OUT.gif`).",
        )
    if is_cut_mp4(path):
        return VideoError("truncated", f"{path}: the file ends before its first whole frame. Get it again.")
    return VideoError("no frames", f"{path}: no frame could be decoded; the file is damaged. Get it again.")


def _is_animated_webp(path: Path) -> bool:
    """Checks the flag in the VP8X chunk, which is the first one (RFC 9649, 2.7)."""
    with path.open("rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & 2)
