"""Embedded videos: frame tokens kept in memory, so that further texts cost only the text tower and fusion."""

import abc
import collections
import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.inference.predictions import VideoPrediction
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
      name: path of the file, or "frames".
      duration_s: its length in seconds.
      windows: the whole video once, or, for models that use windows, all windows in order of time.
      model: identifies the model that embedded it.
      notes: messages about the video.
    """

    name: str
    duration_s: float
    windows: tuple[EmbeddedWindow, ...]
    model: str
    notes: tuple[VideoNote, ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(window.tokens.nbytes for window in self.windows)

    def __repr__(self) -> str:
        shapes = f"{len(self.windows)} × {self.windows[0].tokens.shape}"
        return f"EmbeddedVideo({self.name!r}, {self.duration_s:.1f} s, {shapes} frame tokens)"


Video = str | Path | np.ndarray | EmbeddedVideo
Watch = Callable[[float], object]


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
        self, video: Video, texts: str | Sequence[str] = (), *, fps: float | None = None
    ) -> VideoPrediction:
        """Returns segments and relevance curve of every text; see `embed_video` for `video` and `fps`."""

    def check_videos(self) -> None:  # noqa: B027  most models can
        """Raises UserError if the model cannot read video files, before one is there."""

    @abc.abstractmethod
    def _open(self, video: Path | np.ndarray, fps: float | None, watch: Watch | None) -> Any:
        """Opens a video as the model's inputs; `fps` is that of an array; `watch` as for `embed_video`."""

    @abc.abstractmethod
    def _embed(self, frames: Any, name: str) -> EmbeddedVideo:
        """Embeds everything that `_open` returned."""

    def embed_video(
        self, video: Video, *, fps: float | None = None, watch: Watch | None = None
    ) -> EmbeddedVideo:
        """Decodes a video and runs the image tower on it, once: pass the result to the call in place of the file.

        A file that was embedded before, and has not changed since, comes from the cache.

        >>> import unloc_jax
        >>> localizer = unloc_jax.load("RUN")
        >>> video = localizer.embed_video("video.mp4")
        >>> video
        EmbeddedVideo('video.mp4', 10.8 s, 1 × (8, 16) frame tokens)
        >>> localizer(video, "a square")[0].segments == localizer("video.mp4", "a square")[0].segments
        True

        Args:
          video: any file that PyAV decodes; or frames, uint8 [F, H, W, 3] in RGB, at regular times.
          fps: frames per second of an array.
          watch: called with the seconds of the video that have been read, after every frame; what it raises ends the
            embedding. Not called if nothing needs to be embedded.

        Raises:
          UserError: a video that cannot be used, or one that another model embedded.
        """
        if isinstance(video, EmbeddedVideo):
            if video.model != self._model_name:
                raise UserError(f"{video.name} was embedded by {video.model}; this is {self._model_name}.")
            return video
        if isinstance(video, np.ndarray):
            return self._embed(self._open(video, fps, watch), "frames")
        if fps is not None:
            raise UserError("fps is for an array of frames; a file has its own.")
        path = Path(video)
        return self._kept.get(path, lambda: self._embed(self._open(path, None, watch), str(path)))


class _Kept:
    """Cache of embedded files, the least recently used first, limited to a number of bytes."""

    def __init__(self, most_bytes: int):
        self._most_bytes = most_bytes
        self._videos: collections.OrderedDict[Any, EmbeddedVideo] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, embed: Callable[[], EmbeddedVideo]) -> EmbeddedVideo:
        """Returns the cached video of a file in its present state; otherwise caches and returns embed()."""
        try:
            status = path.stat()
        except OSError:
            return embed()  # raises the error that names what is wrong
        key = (path.resolve(), status.st_mtime_ns, status.st_size)
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
