"""Video files → CLIP features: the one path from a file to features, both for training and for prediction.

Threads decode several files at once while the devices embed; a batch may hold frames of several videos.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from unloc_jax.features.clip_encoder import ClipEncoder, video_frames
from unloc_jax.frame_inputs import ArrayFrames
from unloc_jax.video import VideoError, VideoNote, check_fps

# Frames are taken from the middle of each 1 / fps: where times are not stored, row i of features represents the middle
# of the i-th part.
_OFFSET = 0.5
_PATIENCE_S = 10.0
_WAITING = 64  # most preprocessed frames that wait for the devices; 150 KB each


@dataclasses.dataclass(frozen=True)
class VideoFeatures:
    """Embeddings of a video's frames.

    Attributes:
      features: float32 [F, D], outputs of CLIP's projection, not normalised to length 1.
      times_s: float64 [F], times of the frames in seconds: (i + 0.5) / fps.
      fps: frames per second.
      duration_s: measured length of the video in seconds.
      notes: messages about the video.
    """

    features: np.ndarray
    times_s: np.ndarray
    fps: float
    duration_s: float
    notes: tuple[VideoNote, ...] = ()


def embed_video(
    encoder: ClipEncoder, video: Path, fps: float, on_frame: Callable[[], object] = lambda: None
) -> VideoFeatures:
    """Returns the features of one video file; see `embed_videos`.

    Raises:
      VideoError: the file cannot be used.
    """
    ((_, result),) = embed_videos(encoder, [video], fps, decoders=1, on_frame=on_frame)
    if isinstance(result, VideoError):
        raise result
    return result


def embed_frames(
    encoder: ClipEncoder, frames: np.ndarray, frames_fps: float | None, fps: float
) -> VideoFeatures:
    """Returns the features of an array of frames, as `embed_video` does for a file.

    Args:
      encoder: see `ClipEncoder`.
      frames: uint8 [F, H, W, 3]; number i is shown from i / frames_fps on.
      frames_fps: frames per second of the array.
      fps: rows of features per second.

    Raises:
      UserError: frames is not such an array.
    """
    stream = ArrayFrames(frames, frames_fps=frames_fps, fps=fps, short_side=None, offset=_OFFSET)
    features = encoder.encode_stream(stream)
    return VideoFeatures(features, (np.arange(len(features)) + _OFFSET) / fps, fps, stream.duration_s)


def embed_videos(
    encoder: ClipEncoder,
    videos: Sequence[Path],
    fps: float,
    *,
    decoders: int = 1,
    on_frame: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Path, VideoFeatures | VideoError]]:
    """Computes the features of many video files.

    Args:
      encoder: see `ClipEncoder`.
      videos: files that PyAV decodes.
      fps: frames per second.
      decoders: number of threads, each with its own file.
      on_frame: called whenever a frame has been embedded.

    Yields:
      Each file once, as soon as it is done, with its features or with its error: a `VideoError`, whose kind
      may also be "cannot be read" (the disk, not the video) or "decoder error".

    Raises:
      UserError: fps is not above 0.
    """
    check_fps(fps)
    decoding = _Decoding(videos, fps, encoder.preprocess, decoders)
    made: dict[int, list[np.ndarray]] = {number: [] for number in range(len(videos))}

    def finished() -> Iterator[tuple[Path, VideoFeatures | VideoError]]:
        for number, end in list(decoding.ends.items()):
            if isinstance(end, VideoError) or len(made[number]) == end.distinct:
                del decoding.ends[number]
                yield videos[number], _result(made.pop(number), end, fps)

    try:
        for number, embedding in encoder.encode_each(decoding.frames()):
            on_frame()
            if number in made:  # no longer, if the rest of its file turned out to be damaged
                made[number].append(embedding)
            yield from finished()
        yield from finished()
    finally:
        decoding.stop()


@dataclasses.dataclass(frozen=True)
class _End:
    """Marks the end of a decoded video. `rows` int [F]: the index of the distinct frame that each place shows."""

    rows: list[int]
    distinct: int
    duration_s: float
    notes: tuple[VideoNote, ...]


def _result(
    embeddings: list[np.ndarray], end: "_End | VideoError", fps: float
) -> "VideoFeatures | VideoError":
    """Arranges the embeddings float32 [D] of distinct frames by place, or returns the error."""
    if isinstance(end, VideoError):
        return end
    times_s = (np.arange(len(end.rows)) + _OFFSET) / fps
    return VideoFeatures(np.stack(embeddings)[end.rows], times_s, fps, end.duration_s, end.notes)


class _Decoding:
    """Threads that decode and preprocess.

    Attributes:
      ends: by number, the videos whose frames `frames` has all yielded.
    """

    def __init__(self, videos: Sequence[Path], fps: float, preprocess: Callable, decoders: int):
        self.ends: dict[int, _End | VideoError] = {}
        self._fps = fps
        self._preprocess = preprocess
        self._left = len(videos)
        self._todo = iter(list(enumerate(videos)))
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._queue: queue.Queue[tuple[int, np.ndarray | _End | VideoError]] = queue.Queue(_WAITING)
        # FFmpeg uses its own threads when files are decoded one at a time.
        num_threads = max(1, min(decoders, len(videos)))
        self._ffmpeg_threads = 0 if num_threads == 1 else 1
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(num_threads)]
        for thread in self._threads:
            thread.start()

    def frames(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (number of the video, frame uint8 [size, size, 3]); ordered within a video, videos interleaved."""
        while self._left:
            number, item = self._queue.get()
            if isinstance(item, np.ndarray):
                yield number, item
            else:
                self.ends[number] = item
                self._left -= 1

    def stop(self) -> None:
        """Waits until no thread decodes: one that still does while Python exits may crash."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def _work(self) -> None:
        while not self._stopped.is_set():
            with self._lock:
                number, video = next(self._todo, (None, None))
            if number is None or video is None:
                return
            self._put(number, self._decode(number, video))

    def _decode(self, number: int, video: Path) -> _End | VideoError:
        rows: list[int] = []
        last, distinct = None, 0
        try:
            stream = video_frames(video, self._fps, offset=_OFFSET, threads=self._ffmpeg_threads)
            for frame in stream:
                # A video with fewer frames per second than wanted repeats some.
                if frame is not last:
                    last, distinct = frame, distinct + 1
                    self._put(number, self._preprocess(frame))
                if self._stopped.is_set():
                    break
                rows.append(distinct - 1)
        except VideoError as error:
            return error
        except OSError as error:
            return VideoError("cannot be read", f"{video}: {error.strerror or error}")
        except Exception as error:  # one broken file among thousands must not end hours of work
            return VideoError("decoder error", f"{video}: {type(error).__name__}: {error}")
        return _End(rows, distinct, stream.duration_s, stream.notes)

    def _put(self, number: int, item: "np.ndarray | _End | VideoError") -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put((number, item), timeout=0.5)
                return
            except queue.Full:
                continue
