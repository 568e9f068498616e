"""Video files in, frames at exact times out: PyAV, one sequential pass, no TensorFlow.

Seeking to every wanted frame decodes each group of pictures again and again (5–10 times slower), so a file is
decoded once from its start and only the frames that are wanted are converted to RGB.
"""

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from unloc_jax.errors import UserError
from unloc_jax.video_names import ffmpeg_file

# A file is called truncated when more than this much of the length in its header cannot be decoded.
_TRUNCATED_FRACTION = 0.10
_TRUNCATED_S = 0.5
# Times are sums of floats: a frame at 2.9999999 s is the frame at 3 s.
_EPSILON_S = 1e-6
# A time stamp that falls back by more than this starts a new clock (joined recordings); by less, the frame is
# a repeated or misplaced one and is left out.
_CLOCK_RESET_S = 0.5
# So does one that leaps forward by more than this to a time that the header knows nothing of. Without it one
# broken time stamp would make days of repeated frames.
_CLOCK_LEAP_S = 10.0


class VideoError(UserError):
    """A video that cannot be used.

    Attributes:
      kind: "missing", "empty file", "not a video", "no frames" or "truncated".
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind

    def __reduce__(self):
        return VideoError, (self.kind, str(self))


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What the header of a video file says.

    Attributes:
      duration_s: length in seconds; 0.0 when the header does not say.
      width: pixels as shown on a screen, that is after rotation and with square pixels.
      height: likewise.
      codec: the decoder's name, such as "h264".
      avg_fps: average frames per second.
    """

    duration_s: float
    width: int
    height: int
    codec: str
    avg_fps: float


@dataclasses.dataclass(frozen=True)
class DecodedVideo:
    """Frames at the times k / fps.

    Attributes:
      frames: uint8 [F, H, W, 3], RGB; F = ceil(duration_s * fps).
      fps: frames per second of `frames`.
      duration_s: measured length in seconds: end of the last frame minus start of the first.
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

    Yields uint8 [H, W, 3] RGB arrays; item k is the source frame whose presentation time, counted from the
    first video frame, is nearest to k / fps (with `offset`: to (k + offset) / fps). Where one source frame
    serves several k, the *same* array object is yielded again, so that a caller can reuse what it made of it.

    Attributes:
      duration_s: the measured length in seconds, known after the iteration has ended.
    """

    def __init__(
        self, path: str | Path, *, fps: float, short_side: int, threads: int = 0, offset: float = 0.0
    ):
        """Prepares a stream; the file is opened by the iteration.

        Args:
          path: a video file.
          fps: frames per second wanted, > 0.
          short_side: the shorter side in pixels after the resize; the aspect ratio is kept.
          threads: of the decoder and of the resize; 0 lets FFmpeg choose, 1 is right where several processes
            decode at once.
          offset: of the first frame, in units of 1 / fps; 0.5 takes the frames in the middle of each 1 / fps.
        """
        check_fps(fps)
        if not short_side > 0:
            raise UserError(f"short_side must be above 0 pixels, got {short_side}.")
        self.path = Path(path)
        self.duration_s = 0.0
        self._fps = fps
        self._short_side = short_side
        self._threads = threads
        self._offset = offset

    def __iter__(self) -> Iterator[np.ndarray]:
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            stream.codec_context.thread_count = self._threads
            stream.thread_type = "AUTO"
            rgb = _RgbConverter(self._short_side, stream, self._threads)
            reader = _TimedFrames(container, stream)
            place = self._offset  # of the next output frame, in units of 1 / fps
            previous: av.VideoFrame | None = None
            previous_s = 0.0
            for time_s, frame in reader:
                if previous is not None:
                    # `previous` serves every place that lies nearer to it than to this frame.
                    array = None
                    while place / self._fps <= (previous_s + time_s) / 2 + _EPSILON_S:
                        array = rgb(previous) if array is None else array
                        yield array
                        place += 1
                previous, previous_s = frame, time_s
            if previous is None:
                raise _no_frames(self.path)
            reader.check_complete(self.path)
            array = None
            # A video that ends before its first place has one frame all the same.
            while place == self._offset or place < (reader.end_s - _EPSILON_S) * self._fps:
                array = rgb(previous) if array is None else array
                yield array
                place += 1
            self.duration_s = reader.end_s


def decode_frames(path: str | Path, *, fps: float, short_side: int) -> DecodedVideo:
    """Decodes a whole video into memory. For one frame at a time see `FrameStream`.

    Args:
      path: a video file.
      fps: frames per second wanted.
      short_side: the shorter side in pixels after the resize; the aspect ratio is kept.

    Returns:
      The frames nearest to 0/fps, 1/fps, 2/fps, … and the measured duration.

    Raises:
      VideoError: the file cannot be used; `kind` says why.
    """
    stream = FrameStream(path, fps=fps, short_side=short_side)
    frames = np.stack(list(stream))
    return DecodedVideo(frames, fps, stream.duration_s)


def probe(path: str | Path) -> VideoInfo:
    """Reads the header and the first frame of a video.

    Raises:
      VideoError: the file cannot be used; `kind` says why.
    """
    with _open(Path(path)) as container:
        stream = _video_stream(container, Path(path))
        for _, frame in _TimedFrames(container, stream):
            width, height = _shown_size(frame, stream)
            return VideoInfo(
                duration_s=_header_duration_s(container, stream) or 0.0,
                width=width,
                height=height,
                codec=stream.codec_context.name,
                avg_fps=float(_average_rate(stream)),
            )
    raise _no_frames(Path(path))


class _TimedFrames:
    """The frames of a stream with their times in seconds since the first frame, in strictly rising order.

    Damaged packets are skipped: the frames around them stand in. After the iteration `end_s` is the end of
    the last frame.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream):
        self._container = container
        self._stream = stream
        self._file_end_s = 0.0  # clock time where the last frame, audio packet, … of the file ends
        self.end_s = 0.0

    def __iter__(self) -> Iterator[tuple[float, av.VideoFrame]]:
        tick_s = float(
            self._stream.time_base or 0
        )  # as a Fraction it would cost more than the rest of the loop
        frame_s = float(1 / _average_rate(self._stream))
        latest_s = (_header_duration_s(self._container, self._stream) or 0.0) + _CLOCK_LEAP_S
        start_s: float | None = None  # clock time of the first frame; moves when the clock is reset
        last_s = 0.0
        for frame in self._decode():
            if frame.pts is not None:
                clock_s = frame.pts * tick_s
                if start_s is None:
                    start_s = clock_s
                step_s = clock_s - start_s - last_s
                leaps = step_s > _CLOCK_LEAP_S and clock_s - start_s > latest_s
                if self.end_s and (step_s < -_CLOCK_RESET_S or leaps):
                    start_s = clock_s - last_s - frame_s
                time_s = clock_s - start_s
            else:
                start_s = 0.0 if start_s is None else start_s
                time_s = last_s + frame_s if self.end_s else 0.0
            if self.end_s and time_s <= last_s:
                continue
            last_s, self.end_s = time_s, time_s + (frame.duration * tick_s or frame_s)
            self._file_end_s = max(self._file_end_s, start_s + self.end_s)
            yield time_s, frame

    def _decode(self) -> Iterator[av.VideoFrame]:
        # All streams are read, decoding only the video: where the other streams end tells a video that is
        # shorter than its file from a file that was cut.
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):  # an unreadable rest: check_complete judges it
                break
            # Not packet.stream_index: that is 0 in the packet that flushes the decoder, whatever its stream.
            if packet.stream.index != self._stream.index:
                if packet.pts is not None and packet.time_base is not None:
                    end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    self._file_end_s = max(self._file_end_s, end_s)
                continue
            try:
                yield from self._stream.codec_context.decode(packet)
            except av.error.FFmpegError:
                continue

    def check_complete(self, path: Path) -> None:
        """Raises VideoError "truncated" if much less was decoded than the header promises."""
        header_s = _header_duration_s(self._container, self._stream)
        if header_s is None:
            return
        # Without a length of the video stream, the header's is that of the whole file, counted from clock
        # time 0.
        missing_s = header_s - (self._file_end_s if self._stream.duration is None else self.end_s)
        if missing_s > _TRUNCATED_S and missing_s > _TRUNCATED_FRACTION * header_s:
            raise VideoError(
                "truncated",
                f"{path}: the header says {header_s:.1f} s, only {self.end_s:.1f} s could be decoded: the "
                "file is cut short or damaged (or its header is wrong). Get it again, or write its header "
                "anew: `ffmpeg -i IN -c copy OUT`.",
            )


class _RgbConverter:
    """Decoded frames to upright, resized uint8 RGB arrays of one size, with one shared reformatter."""

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
        turns = _quarter_turns(frame)
        width, height = self._size if turns % 2 == 0 else self._size[::-1]
        resized = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
            threads=self._threads,
        )
        array = resized.to_ndarray()
        return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def _quarter_turns(frame: av.VideoFrame) -> int:
    """How often a frame must be turned by 90° counterclockwise to be upright: 0 to 3."""
    return round(frame.rotation / 90) % 4


def _shown_size(frame: av.VideoFrame, stream: av.VideoStream) -> tuple[int, int]:
    """(width, height) of a frame as shown: square pixels, upright."""
    width, height = frame.width, frame.height
    pixel_aspect = stream.sample_aspect_ratio
    if pixel_aspect:
        width = max(1, round(width * pixel_aspect))
    return (height, width) if _quarter_turns(frame) % 2 else (width, height)


def _average_rate(stream: av.VideoStream) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate.numerator, rate.denominator) if rate else Fraction(25)


def _header_duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """The length that the header claims, None if it does not say."""
    if container.format.name == "avi" and stream.frames:
        # FFmpeg scales an AVI's duration down to the size of the file that is there; the frame count stays.
        return float(stream.frames / _average_rate(stream))
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None:
        return container.duration / av.time_base
    return None


def _open(path: Path) -> av.container.InputContainer:
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
        if _is_cut_mp4(path):
            raise VideoError(
                "truncated",
                f"{path}: an MP4/MOV file without its index (moov atom not found): the download or recording "
                "most likely stopped early. Get it again.",
            ) from error
        raise VideoError("not a video", f"{path}: not a video file that FFmpeg can read.") from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first video stream that can be decoded; raises VideoError if there is none."""
    # A cover picture counts as a video stream in FFmpeg, but is none.
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise VideoError("not a video", f"{path}: there is no video in this file, only other streams.")
    for stream in streams:
        # PyAV's types do not say that it is None where FFmpeg has no decoder; neither is then the codec known.
        if stream.codec_context is not None:
            return stream
    raise VideoError(
        "not a video",
        f"{path}: FFmpeg has no decoder for the video in this file. Convert it to H.264 or get it in another "
        "format.",
    )


def _no_frames(path: Path) -> VideoError:
    if _is_cut_mp4(path):
        return VideoError("truncated", f"{path}: the file ends before its first whole frame. Get it again.")
    return VideoError("no frames", f"{path}: no frame could be decoded; the file is damaged. Get it again.")


def _is_cut_mp4(path: Path) -> bool:
    """Whether a file starts like an MP4 and lacks some of its top-level boxes (ISO/IEC 14496-12, 4.2)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(8)[4:] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return False
        position = 0
        has_moov = False
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            elif length == 0:  # up to the end of the file
                length = size - position
            if length < 8:
                break
            position += length
            has_moov |= header[4:8] == b"moov" and position <= size
        return position > size or not has_moov
