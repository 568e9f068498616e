"""Decodes one video to JPEG frames. Runs in worker processes, so it imports neither TensorFlow nor JAX."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from unloc_jax.video import FrameStream, VideoError


@dataclasses.dataclass(frozen=True)
class EncodeTask:
    """A video file and how its frames are wanted."""

    video_id: str
    path: Path
    fps: float
    short_side: int
    jpeg_quality: int


@dataclasses.dataclass(frozen=True)
class EncodedVideo:
    """JPEG bytes of frames 0/fps, 1/fps, … and the measured length in seconds."""

    frames: list[bytes]
    duration_s: float


@dataclasses.dataclass(frozen=True)
class UnusableVideo:
    """Why a video has no frames; `kind` as in VideoError, or "decoder error" or "decoder crashed"."""

    kind: str
    reason: str


def encode_video(task: EncodeTask) -> EncodedVideo | UnusableVideo:
    """Decodes and encodes frame by frame: besides the JPEGs, one frame is in memory at a time."""
    stream = FrameStream(task.path, fps=task.fps, short_side=task.short_side, threads=1)
    frames: list[bytes] = []
    previous: np.ndarray | None = None
    try:
        for frame in stream:
            # A video with fewer frames per second than wanted repeats frames: encode each once.
            frames.append(frames[-1] if frame is previous else encode_jpeg(frame, task.jpeg_quality))
            previous = frame
    except VideoError as error:
        return UnusableVideo(error.kind, str(error))
    except Exception as error:  # one odd file among thousands must not end a build of hours
        return UnusableVideo("decoder error", f"{task.path}: {type(error).__name__}: {error}")
    return EncodedVideo(frames, stream.duration_s)


def encode_jpeg(frame: np.ndarray, quality: int) -> bytes:
    """uint8 [H, W, 3] to JPEG.

    Pillow's wheels carry libjpeg-turbo: 1900 frames/s at 455×256 on one core, four times faster than decoding
    the video, so a dependency on a faster binding would not shorten a build.
    """
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
