"""Embedded videos: frame tokens kept in memory, so that further texts cost only the text tower and fusion."""

import abc
import collections
import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.inference.predictions import VideoPrediction
from unloc_jax.inference.waveform import Waveform
from unloc_jax.video import VideoNote

CACHE_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class EmbeddedWindow:
    """The frame tokens of one window, or of the whole video.

    Attributes:
      tokens: [T, D], one per frame, in the model's compute dtype.
      mask: bool [T], True = in the video; the True ones come first.
      span_s: float32 [2], times of the first and the last of the T frames in seconds.
    """

    tokens: np.ndarray
    mask: np.ndarray
    span_s: np.ndarray


@dataclasses.dataclass(frozen=True)
class EmbeddedVideo:
    """A video, embedded by `embed_video`; the model that embedded it accepts it in place of a file.

    Attributes:
      name: path of the file, or "frames" or "samples".
      duration_s: its length in seconds.
      windows: the whole video once, or, for models that use windows, all windows in order of time.
      model: identifies the model that embedded it.
      notes: messages about the video.
      waveform: of the sound that the model heard; None = it heard none.
    """

    name: str
    duration_s: float
    windows: tuple[EmbeddedWindow, ...]
    model: str
    notes: tuple[VideoNote, ...] = ()
    waveform: Waveform | None = None

    @property
    def nbytes(self) -> int:
        return sum(window.tokens.nbytes for window in self.windows)

    def __repr__(self) -> str:
        shapes = f"{len(self.windows)} × {self.windows[0].tokens.shape}"
        return f"EmbeddedVideo({self.name!r}, {self.duration_s:.1f} s, {shapes} frame tokens)"


Video = str | Path | np.ndarray | EmbeddedVideo
Watch = Callable[[float], object]


@dataclasses.dataclass(frozen=True)
class GivenVideo:
    """A video as `embed_video` is given it, unless it is embedded already.

    Attributes:
      path: the file; None: arrays.
      frames: uint8 [F, H, W, 3]; None = there are none, or a file.
      fps: frames per second of `frames`.
      sound: samples [S] or [S, channels]; None = there are none, or a file.
      rate: samples per second of `sound`.
      audio_track: number of the file's sound track to hear; None = its default.
    """

    path: Path | None = None
    frames: np.ndarray | None = None
    fps: float | None = None
    sound: np.ndarray | None = None
    rate: float | None = None
    audio_track: int | None = None

    @property
    def name(self) -> str:
        return str(self.path) if self.path else "frames" if self.frames is not None else "samples"

    def check_unheard(self) -> None:
        """Raises UserError if sound is given that a model without ears ignores."""
        if self.sound is not None:
            raise UserError("this model does not hear: give it frames (with fps) or a file, and no samples.")
        if self.audio_track is not None:
            raise UserError(f"--audio-track {self.audio_track}: this model does not hear.")


class VideoSearch(abc.ABC):
    """Base of everything that finds texts in videos: opens videos in every form, caches the latest ones.

    Args:
      model: identifies the model: videos that another one embedded are refused.
      cache_bytes: most bytes of frame tokens that are cached; the least recently used are evicted first.
    """

    def __init__(self, model: str, cache_bytes: int = CACHE_BYTES):
        self._model_name = model
        self._kept = _Kept(cache_bytes)

    @abc.abstractmethod
    def __call__(
        self,
        video: Video,
        texts: str | Sequence[str] = (),
        *,
        fps: float | None = None,
        sound: np.ndarray | None = None,
        rate: float | None = None,
        audio_track: int | None = None,
    ) -> VideoPrediction:
        """Returns segments and relevance curve of every text; see `embed_video` for the video."""

    def check_videos(self) -> None:  # noqa: B027  most models can
        """Raises UserError if the model cannot read video files, before one is there."""

    @abc.abstractmethod
    def _open(self, video: GivenVideo, watch: Watch | None) -> Any:
        """Opens a video as the model's inputs; `watch` as for `embed_video`."""

    @abc.abstractmethod
    def _embed(self, frames: Any, name: str) -> EmbeddedVideo:
        """Embeds everything that `_open` returned."""

    def embed_video(
        self,
        video: Video,
        *,
        fps: float | None = None,
        sound: np.ndarray | None = None,
        rate: float | None = None,
        audio_track: int | None = None,
        watch: Watch | None = None,
    ) -> EmbeddedVideo:
        """Decodes a video and runs the towers on it, once: pass the result to the call in place of the file.

        A file that was embedded before, and has not changed since, comes from the cache.

        >>> import unloc_jax
        >>> localizer = unloc_jax.load("RUN")
        >>> video = localizer.embed_video("video.mp4")
        >>> video
        EmbeddedVideo('video.mp4', 10.8 s, 1 × (8, 16) frame tokens)
        >>> localizer(video, "a square")[0].segments == localizer("video.mp4", "a square")[0].segments
        True

        Args:
          video: any file that PyAV decodes, of sound alone for a model that hears alone; or frames, uint8 [F, H, W, 3]
            in RGB, at regular times; or samples (with `rate`), int16 or float in [-1, 1], [S] or [S, channels], for a
            model that hears alone.
          fps: frames per second of an array.
          sound: samples, as above, beside frames, for a model that sees and hears; the first of both are at second 0.
          rate: samples per second of an array; they are resampled to the rate of training.
          audio_track: which sound track of a file is heard, from 0; None = the one that a player plays.
          watch: called with the seconds of the video that have been read, after every frame; what it raises ends the
            embedding. Not called if nothing needs to be embedded.

        Raises:
          UserError: a video that cannot be used, or one that another model embedded.
        """
        if isinstance(video, EmbeddedVideo):
            if video.model != self._model_name:
                raise UserError(f"{video.name} was embedded by {video.model}; this is {self._model_name}.")
            return video
        if not isinstance(video, str | os.PathLike | np.ndarray):
            raise UserError(
                f"the video must be a file, a NumPy array or what embed_video returned; got {type(video).__name__}."
            )
        if isinstance(video, np.ndarray):
            given = _given_arrays(video, fps, sound, rate)
            if audio_track is not None:
                raise UserError("audio_track is for a file; of arrays, give the samples of the track.")
            return self._embed(self._open(given, watch), given.name)
        if fps is not None:
            raise UserError("fps is for an array of frames; a file has its own.")
        if sound is not None or rate is not None:
            raise UserError("sound and rate are for arrays; a file has its own sound.")
        path = Path(video)
        given = GivenVideo(path, audio_track=audio_track)
        return self._kept.get(path, audio_track, lambda: self._embed(self._open(given, watch), given.name))


def _given_arrays(
    video: np.ndarray, fps: float | None, sound: np.ndarray | None, rate: float | None
) -> GivenVideo:
    """Returns frames, with or without sound beside them, or samples alone: those that come with a rate alone.

    Raises:
      UserError: the arguments do not go together.
    """
    if video.ndim > 2 or fps is not None:
        if sound is not None and not isinstance(sound, np.ndarray):
            raise UserError(f"sound must be an array of samples beside frames, got {type(sound).__name__}.")
        if sound is None and rate is not None:
            raise UserError("rate is that of samples: give them beside the frames (sound=…, rate=…).")
        return GivenVideo(frames=video, fps=fps, sound=sound, rate=rate)
    if sound is not None:
        raise UserError("sound is for samples beside frames; give samples alone in place of the video.")
    return GivenVideo(sound=video, rate=rate)


class _Kept:
    """Cache of embedded files, the least recently used first, limited to a number of bytes."""

    def __init__(self, most_bytes: int):
        self._most_bytes = most_bytes
        self._videos: collections.OrderedDict[Any, EmbeddedVideo] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, audio_track: int | None, embed: Callable[[], EmbeddedVideo]) -> EmbeddedVideo:
        """Returns the cached video of a file in its present state; otherwise caches and returns embed()."""
        try:
            status = path.stat()
        except OSError:
            return embed()  # raises the error that names what is wrong
        key = (path.resolve(), status.st_mtime_ns, status.st_size, audio_track)
        with self._lock:
            if key in self._videos:
                self._videos.move_to_end(key)
                return dataclasses.replace(self._videos[key], name=str(path))
        made = embed()
        with self._lock:
            self._videos[key] = made
            while sum(video.nbytes for video in self._videos.values()) > self._most_bytes:
                self._videos.popitem(last=False)
        return made
