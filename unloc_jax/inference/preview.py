"""Bytes of a video or a sound that a browser plays: the file itself if possible, otherwise a smaller copy."""

import math
import tempfile
from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import ColorRange, Colorspace

from unloc_jax.errors import UserError
from unloc_jax.inference.preview_sound import (
    SoundCopy,
    copy_of_sound,
    plays_beside_pictures,
    sound_copy,
    type_of_sound,
)
from unloc_jax.sound import has_picture
from unloc_jax.video import FrameStream, VideoInfo, probe, video_length_s
from unloc_jax.video_names import ffmpeg_file

MAX_PREVIEW_BYTES = 24 << 20

_BROWSER_CODECS = {"video/mp4": {"h264", "av1", "vp9"}, "video/webm": {"vp8", "vp9", "av1"}}
_BROWSER_PIXELS = {"yuv420p", "yuvj420p"}
# A file whose picture starts later than this is re-encoded: players do not agree on where its second 0 is.
_LATE_START_S = 0.1

# Reductions to meet a size, in steps: (fraction of the height, most frames per second).
_STEPS = ((1.0, 30), (0.75, 30), (0.5, 20), (0.375, 10), (0.25, 5))
# Slower videos repeat their frames, which costs next to nothing; at 1 frame per second, times would be coarse.
_MIN_FPS = 15
# Bits per pixel below which H.264 looks bad: choose the next step instead.
_MIN_BITS_PER_PIXEL = 0.05
_CRF = 25
_KEYFRAME_S = 2  # seeking decodes at most this much
_SOUND_SHARE = 0.25  # of the bytes of a copy, at most
# Boxes of the MP4 container: a fixed part and the sample tables.
_HEADER_BYTES, _BYTES_PER_FRAME = 4096, 16


def preview_bytes(
    path: str | Path,
    max_bytes: int = MAX_PREVIEW_BYTES,
    max_height: int = 480,
    *,
    with_sound: bool = False,
    audio_track: int | None = None,
) -> tuple[bytes, str]:
    """Returns bytes of a video for embedding in a page.

    Returns the file's own bytes if browsers play them (MP4 with 8-bit 4:2:0 H.264, VP9 or AV1; WebM with VP8, VP9 or
    AV1) and they are few enough. Otherwise it encodes an upright MP4 with H.264 and square pixels, with the index in
    front, no higher than `max_height` and small enough for `max_bytes`. A copy has a constant frame rate; each of its
    frames is the one that a player shows of the original at that time (`unloc_jax.frame_times`). A file of sound
    without pictures is returned as it is, or as an MP4 with AAC.

    Args:
      path: a video file.
      max_bytes: most bytes returned.
      max_height: most pixels of height of a copy; a copy is never larger than the original.
      with_sound: whether the sound must be there, too: a copy has none otherwise.
      audio_track: the one to be heard, see `unloc_jax.sound.read_sound`; None = the file's default.

    Returns:
      (bytes, MIME type such as "video/mp4", "video/webm" or "audio/mpeg").

    Raises:
      VideoError: the file cannot be used.
      UserError: the video is too long for `max_bytes`.
    """
    path = Path(path)
    mime = playable_as(path, with_sound=with_sound)
    if mime is not None and path.stat().st_size <= max_bytes:
        return path.read_bytes(), mime
    if not has_picture(path):
        content = copy_of_sound(path, max_bytes, audio_track)
        if content is None:
            raise _too_long(path, "the sound does", max_bytes)
        return content, "audio/mp4"

    info = probe(path)
    duration_s = video_length_s(path, info)
    sound = sound_copy(path, _SOUND_SHARE * max_bytes, audio_track) if with_sound else None
    picture_bytes = max_bytes - (sound.num_bytes if sound else 0)
    with tempfile.TemporaryDirectory(prefix="unloc_preview_") as directory:
        copy = Path(directory) / "preview.mp4"
        for scale, most_fps in _steps_for(info, duration_s, picture_bytes, max_height):
            height = min(info.height, max_height * scale)
            fps = _frame_rate(info, most_fps)
            if _encode(path, copy, info, height, fps, duration_s, max_bytes, sound):
                return copy.read_bytes(), "video/mp4"
    raise _too_long(path, f"{duration_s:.0f} s of video do", max_bytes)


def _too_long(path: Path, what: str, max_bytes: int) -> UserError:
    return UserError(
        f"{path}: {what} not fit into a preview of {max_bytes} bytes. Allow more bytes or cut the video."
    )


def playable_as(path: Path, *, with_sound: bool = False) -> str | None:
    """Returns the MIME type under which browsers play a video, or a file of sound alone, as it is, or None.

    Args:
      path: the file.
      with_sound: whether the sound of a video must be played, too.

    Raises:
      VideoError: the file cannot be used.
    """
    if not has_picture(path):
        return type_of_sound(path)
    return None if probe(path).mirrored else _type_of(path, with_sound)  # browsers rotate, but not all mirror


def _type_of(path: Path, with_sound: bool) -> str | None:
    """Returns the MIME type of a file that browsers play, mirrored or not, or None."""
    with path.open("rb") as file:
        head = file.read(64)
    # FFmpeg's format names cover whole families (mp4 and QuickTime, WebM and Matroska): the first bytes decide.
    if head[4:8] == b"ftyp" and head[8:12] != b"qt  ":
        mime = "video/mp4"
    elif head[:4] == b"\x1a\x45\xdf\xa3" and b"webm" in head:
        mime = "video/webm"
    else:
        return None
    name, options = ffmpeg_file(path)
    with av.open(name, options=options) as container:
        if with_sound and not plays_beside_pictures(container, mime):
            return None
        if len(container.streams.video) != 1:
            return None  # a cover picture or a second view: a plain copy shows what the model saw
        stream = container.streams.video[0]
        starts_late = float((stream.start_time or 0) * (stream.time_base or 0)) > _LATE_START_S
        # Browsers cannot seek without a length in the header.
        if container.duration is None or starts_late:
            return None
        playable = stream.codec_context.pix_fmt in _BROWSER_PIXELS
        return mime if playable and _codec_name(stream) in _BROWSER_CODECS[mime] else None


def _codec_name(stream: av.VideoStream) -> str:
    """Returns the codec's own name: `codec_context.name` is that of the decoder, such as libdav1d for av1."""
    return stream.codec_context.codec.canonical_name


def _frame_rate(info: VideoInfo, most_fps: float) -> float:
    """Returns a whole multiple or a whole fraction of the original's rate, so that motion stays even."""
    if info.avg_fps > most_fps:
        return info.avg_fps / math.ceil(info.avg_fps / most_fps - 0.01)  # 30.0003 counts as 30
    return info.avg_fps * max(1, min(_MIN_FPS, most_fps) // info.avg_fps)


def _bits_per_second(duration_s: float, fps: float, max_bytes: int) -> float:
    """Returns the bit rate that fills max_bytes; a rate-limited encoder may exceed it by one buffer (of one second)."""
    payload = 0.97 * max_bytes - _HEADER_BYTES - _BYTES_PER_FRAME * fps * duration_s
    return 8 * payload / (duration_s + 1)


def _steps_for(
    info: VideoInfo, duration_s: float, max_bytes: int, max_height: int
) -> tuple[tuple[float, int], ...]:
    """Returns the steps worth trying, from the first that should look good in max_bytes to the last."""
    for i, (scale, most_fps) in enumerate(_STEPS):
        fps = _frame_rate(info, most_fps)
        height = min(info.height, max_height * scale)
        pixels_per_second = height * height * info.width / info.height * fps
        if _bits_per_second(duration_s, fps, max_bytes) >= _MIN_BITS_PER_PIXEL * pixels_per_second:
            return _STEPS[i:]
    return _STEPS[-1:]


def _encode(
    path: Path,
    copy: Path,
    info: VideoInfo,
    height: float,
    fps: float,
    duration_s: float,
    max_bytes: int,
    sound: SoundCopy | None,
) -> bool:
    """Writes the copy. Returns False as soon as it would exceed max_bytes."""
    picture_bytes = max_bytes - (sound.num_bytes if sound else 0)
    bits_per_second = math.floor(_bits_per_second(duration_s, fps, picture_bytes))
    if bits_per_second < 1000:
        return False
    rate = Fraction(fps).limit_denominator(1001)
    short_side = max(2, round(min(height, height * info.width / info.height)))
    frames = FrameStream(path, fps=float(rate), short_side=short_side)
    written = _HEADER_BYTES
    with av.open(str(copy), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = None
        for k, array in enumerate(frames):
            array = array[: array.shape[0] // 2 * 2, : array.shape[1] // 2 * 2]  # 4:2:0 needs even sizes
            if stream is None:
                stream = container.add_stream("libx264", rate=rate)
                stream.height, stream.width = array.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.gop_size = max(1, round(_KEYFRAME_S * fps))
                # Browsers guess untagged colours, each in its own way.
                stream.codec_context.colorspace = Colorspace.ITU709
                stream.codec_context.color_range = ColorRange.MPEG
                stream.codec_context.color_primaries = stream.codec_context.color_trc = 1  # BT.709
                stream.codec_context.options = {
                    "preset": "veryfast",
                    "crf": str(_CRF),
                    "maxrate": str(bits_per_second),
                    "bufsize": str(bits_per_second),
                }
                if sound is not None:
                    sound.add_to(container)
            frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = k, 1 / rate
            for packet in stream.encode(frame):
                written += packet.size + _BYTES_PER_FRAME
                container.mux(packet)
            if written > picture_bytes:
                return False
            if sound is not None:
                sound.write_until(container, k / fps)
        if sound is not None:
            sound.finish(container)
        if stream is not None:
            for packet in stream.encode():
                container.mux(packet)
    return copy.stat().st_size <= max_bytes
