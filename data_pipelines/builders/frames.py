"""Decodes one video to JPEG frames and samples of its sound.

Runs in worker processes, so it imports neither TensorFlow nor JAX.
"""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from unloc_jax.sound import has_picture, read_sound
from unloc_jax.sound_notes import notes_on_sound
from unloc_jax.sound_windows import Sound
from unloc_jax.video import FrameStream, VideoError, VideoNote, probe, video_length_s

_LARGEST_JPEG = 65500  # pixels on a side: JPEG_MAX_DIMENSION of libjpeg's jmorecfg.h


@dataclasses.dataclass(frozen=True)
class EncodeTask:
    """A video file and the settings of its frames and its sound.

    `sound_rate`: samples per second; 0 = without sound. `sound_track`: see `unloc_jax.sound.read_sound`. `with_frames`:
    False reads the sound alone.
    """

    video_id: str
    path: Path
    fps: float
    short_side: int
    jpeg_quality: int
    sound_rate: int = 0
    sound_track: int | None = None
    with_frames: bool = True


@dataclasses.dataclass(frozen=True)
class EncodedVideo:
    """JPEG bytes of frames 0/fps, 1/fps, …, the measured length in seconds, notes, and the sound if there is any."""

    frames: list[bytes]
    duration_s: float
    notes: tuple[VideoNote, ...] = ()
    sound: Sound | None = None


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
    """Decodes and encodes frame by frame; apart from the JPEGs and the sound, holds one frame in memory at a time.

    `on_frame` is called before the first and after each frame.
    """
    on_frame()
    try:
        if task.sound_rate and not (task.with_frames and has_picture(task.path)):
            return _sound_alone(task, on_frame)
    except VideoError as error:
        return _unusable(task.path, error)
    except Exception as error:
        return UnusableVideo("decoder error", f"{task.path}: {type(error).__name__}: {error}")
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
        return _unusable(task.path, error)
    except Exception as error:
        if isinstance(error, OSError) and (unusable := _not_readable(task.path)):
            return unusable
        # One odd file among thousands must not end a build of hours.
        return UnusableVideo("decoder error", f"{task.path}: {type(error).__name__}: {error}")
    on_frame()
    sound, notes = _sound_of(task, stream.duration_s, on_frame)
    return EncodedVideo(frames, stream.duration_s, (*stream.notes, *notes), sound)


def _sound_alone(task: EncodeTask, on_frame: Callable[[], object]) -> EncodedVideo:
    """Reads a file without frames; raises VideoError if it has no sound either."""
    if not has_picture(task.path):
        sound = read_sound(task.path, task.sound_rate, task.sound_track, on_frame)
        if sound is None:
            raise VideoError("not a video", f"{task.path}: there is neither picture nor sound in this file.")
        return EncodedVideo([], sound.end_s, notes_on_sound(sound, sound.end_s), sound)
    info = probe(task.path)
    length_s = video_length_s(task.path, info)
    sound, notes = _sound_of(task, length_s, on_frame)
    return EncodedVideo([], length_s, (*info.notes, *notes), sound)


def _sound_of(
    task: EncodeTask, length_s: float, on_frame: Callable[[], object]
) -> tuple[Sound | None, tuple[VideoNote, ...]]:
    """Returns the sound of a video, if it has any that can be used, and notes on it."""
    if not task.sound_rate:
        return None, ()
    try:
        sound = read_sound(task.path, task.sound_rate, task.sound_track, on_frame)
    except VideoError as error:
        return None, (VideoNote(f"no sound: {error.kind}", str(error)),)
    except Exception as error:  # its frames are as good as without
        return None, (VideoNote("no sound: decoder error", f"{type(error).__name__}: {error}"),)
    notes = notes_on_sound(sound, length_s)
    return (sound if sound is not None and len(sound.heard) else None), notes


def _unusable(path: Path, error: VideoError) -> UnusableVideo:
    unusable = UnusableVideo(error.kind, str(error))
    return unusable if error.kind == "missing" else _not_readable(path) or unusable


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
