"""Decodes one video to JPEG frames. Runs in worker processes, so it imports neither TensorFlow nor JAX."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from unloc_jax.video import FrameStream, VideoError, VideoNote

_LARGEST_JPEG = 65500  # pixels on a side: JPEG_MAX_DIMENSION of libjpeg's jmorecfg.h


@dataclasses.dataclass(frozen=True)
class EncodeTask:
    """A video file and the settings of its frames."""

    video_id: str
    path: Path
    fps: float
    short_side: int
    jpeg_quality: int


@dataclasses.dataclass(frozen=True)
class EncodedVideo:
    """JPEG bytes of frames 0/fps, 1/fps, …, the measured length in seconds, and notes."""

    frames: list[bytes]
    duration_s: float
    notes: tuple[VideoNote, ...] = ()


@dataclasses.dataclass(frozen=True)
class UnusableVideo:
    """The reason why a video is left out.

    `kind` is short and countable: as in VideoError, or "cannot be opened", "cannot be read", "too wide for JPEG",
    "decoder error", "decoder crashed", and others for a whole example (`examples.py`, `feature_files.py`).
    """

    kind: str
    reason: str


def encode_video(
    task: EncodeTask, on_frame: Callable[[], object] = lambda: None
) -> EncodedVideo | UnusableVideo:
    """Decodes and encodes frame by frame; apart from the JPEGs, holds one frame in memory at a time.

    `on_frame` is called before the first and after each frame.
    """
    on_frame()
    stream = FrameStream(task.path, fps=task.fps, short_side=task.short_side, threads=1)
    frames: list[bytes] = []
    previous: np.ndarray | None = None
    try:
        for frame in stream:
            height, width = frame.shape[:2]
            if max(height, width) > _LARGEST_JPEG:
                return UnusableVideo(
                    "too wide for JPEG",
                    f"{task.path}: its pictures become {width}×{height} pixels; JPEG holds {_LARGEST_JPEG} at most. "
                    "Cut them, or build with a smaller --short-side.",
                )
            # A video with fewer frames per second than `fps` repeats frames: encode each once.
            frames.append(frames[-1] if frame is previous else encode_jpeg(frame, task.jpeg_quality))
            previous = frame
            on_frame()
    except VideoError as error:
        if error.kind == "missing":
            return UnusableVideo(error.kind, str(error))
        return _not_readable(task.path) or UnusableVideo(error.kind, str(error))
    except Exception as error:
        if isinstance(error, OSError) and (unusable := _not_readable(task.path)):
            return unusable
        # One odd file among thousands must not end a build of hours.
        return UnusableVideo("decoder error", f"{task.path}: {type(error).__name__}: {error}")
    return EncodedVideo(frames, stream.duration_s, stream.notes)


def _not_readable(path: Path) -> UnusableVideo | None:
    """Reports a read error, which FFmpeg takes for the end of the file: reads it whole to detect a bad disk."""
    kind = "cannot be opened"
    try:
        with path.open("rb") as file:
            kind = "cannot be read"
            while file.read(1 << 20):
                pass
    except OSError as error:
        return UnusableVideo(kind, f"{path}: {error.strerror}")
    return None


def encode_jpeg(frame: np.ndarray, quality: int) -> bytes:
    """Encodes a frame, uint8 [H, W, 3], as JPEG.

    Pillow's wheels include libjpeg-turbo: about 2000 frames/s at 455×256 on one core, so a dependency on a faster
    binding would shorten a build by little.
    """
    height, width = frame.shape[:2]
    buffer = io.BytesIO()
    # Image.fromarray takes twice as long for padded rows, which FFmpeg's frames have.
    image = Image.frombuffer("RGB", (width, height), np.ascontiguousarray(frame), "raw", "RGB", 0, 1)
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
