"""Video files → features: the one path from a file to features, both for training and for prediction.

Threads decode several files at once while the devices embed; a batch may hold frames of several videos.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.features.encoder import Encoder
from unloc_jax.features.stream_inputs import Input, StreamInputs
from unloc_jax.frame_inputs import ArrayFrames
from unloc_jax.video import VideoError, VideoNote, check_fps

# Frames are taken from the middle of each 1 / fps: where times are not stored, row i of features represents the middle
# of the i-th part.
_OFFSET = 0.5
_PATIENCE_S = 10.0
_WAITING = 64  # most preprocessed frames that wait for the devices; 150 KB each of CLIP's


@dataclasses.dataclass(frozen=True)
class VideoFeatures:
    """Embeddings of a video's frames.

    Attributes:
      features: float32 [F, D], a row per frame, not normalised to length 1.
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
    encoder: Encoder, video: Path, fps: float, on_frame: Callable[[], object] = lambda: None
) -> VideoFeatures:
    """Returns the features of one video file; see `embed_videos`.

    Raises:
      VideoError: the file cannot be used.
    """
    ((_, result),) = embed_videos(encoder, [video], fps, decoders=1, on_frame=on_frame)
    if isinstance(result, VideoError):
        raise result
    return result


def embed_frames(encoder: Encoder, frames: np.ndarray, frames_fps: float | None, fps: float) -> VideoFeatures:
    """Returns the features of an array of frames, as `embed_video` does for a file.

    Args:
      encoder: see `Encoder`.
      frames: uint8 [F, H, W, 3]; number i is shown from i / frames_fps on.
      frames_fps: frames per second of the array.
      fps: rows of features per second.

    Raises:
      UserError: frames is not such an array, or the encoder reads sound.
    """
    if encoder.hears:
        raise UserError(f"{encoder.name} reads sound, which frames do not have: give it the file.")
    stream = ArrayFrames(frames, frames_fps=frames_fps, fps=fps, short_side=None, offset=_OFFSET)
    features = encoder.encode_stream(stream)
    return VideoFeatures(features, (np.arange(len(features)) + _OFFSET) / fps, fps, stream.duration_s)


def embed_videos(
    encoder: Encoder,
    videos: Sequence[Path],
    fps: float,
    *,
    decoders: int = 1,
    on_frame: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Path, VideoFeatures | VideoError]]:
    """Computes the features of many video files.

    Args:
      encoder: see `Encoder`.
      videos: files that PyAV decodes.
      fps: frames per second.
      decoders: number of threads, each with its own file.
      on_frame: called for each frame that has been embedded; not for one that the video only repeats, if the encoder
        sees frames one by one.

    Yields:
      Each file once, as soon as it is done, with its features or with its error: a `VideoError`, whose kind
      may also be "cannot be read" (the disk, not the video) or "decoder error".

    Raises:
      UserError: fps is not above 0.
    """
    check_fps(fps)
    waiting = max(2, _WAITING // encoder.frames_per_input)
    decoding = _Decoding(videos, fps, encoder, decoders, waiting)
    made: dict[int, list[np.ndarray]] = {number: [] for number in range(len(videos))}

    def finished() -> Iterator[tuple[Path, VideoFeatures | VideoError]]:
        for number, end in list(decoding.ends.items()):
            if isinstance(end, VideoError) or len(made[number]) == end.inputs.count:
                del decoding.ends[number]
                yield videos[number], _result(made.pop(number), end, fps)

    try:
        for (number, new_frames), embedding in encoder.encode_each(decoding.inputs()):
            for _ in range(new_frames):
                on_frame()
            if number in made:  # no longer, if the rest of its file turned out to be damaged
                made[number].append(embedding)
            yield from finished()
        yield from finished()
    finally:
        decoding.stop()


@dataclasses.dataclass(frozen=True)
class _End:
    """Marks the end of a decoded video of `num_frames` frames; `inputs` joins what became of them."""

    inputs: StreamInputs
    num_frames: int
    duration_s: float
    notes: tuple[VideoNote, ...]


def _result(
    embeddings: list[np.ndarray], end: "_End | VideoError", fps: float
) -> "VideoFeatures | VideoError":
    """Joins what became of the inputs, or returns the error."""
    if isinstance(end, VideoError):
        return end
    times_s = (np.arange(end.num_frames) + _OFFSET) / fps
    return VideoFeatures(end.inputs.join(embeddings), times_s, fps, end.duration_s, end.notes)


class _Decoding:
    """Threads that decode and preprocess.

    Attributes:
      ends: by number, the videos whose inputs `inputs` has all yielded.
    """

    def __init__(
        self,
        videos: Sequence[Path],
        fps: float,
        encoder: Encoder,
        decoders: int,
        waiting: int,
    ):
        self.ends: dict[int, _End | VideoError] = {}
        self._fps = fps
        self._encoder = encoder
        self._left = len(videos)
        self._todo = iter(list(enumerate(videos)))
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._queue: queue.Queue[tuple[int, Input | _End | VideoError]] = queue.Queue(waiting)
        # FFmpeg uses its own threads when files are decoded one at a time.
        num_threads = max(1, min(decoders, len(videos)))
        self._ffmpeg_threads = 0 if num_threads == 1 else 1
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(num_threads)]
        for thread in self._threads:
            thread.start()

    def inputs(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Yields ((number of the video, new frames), input); ordered within a video, videos interleaved."""
        while self._left:
            number, item = self._queue.get()
            if isinstance(item, Input):
                yield (number, item.new_frames), item.array
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
        inputs, num_frames = self._encoder.inputs(), 0
        try:
            stream = self._encoder.open(video, self._fps, offset=_OFFSET, threads=self._ffmpeg_threads)
            for frame in stream:
                for one in inputs.add(frame):
                    self._put(number, one)
                if self._stopped.is_set():
                    break
                num_frames += 1
            for one in inputs.end():
                self._put(number, one)
        except VideoError as error:
            return error
        except OSError as error:
            return VideoError("cannot be read", f"{video}: {error.strerror or error}")
        except Exception as error:  # one broken file among thousands must not end hours of work
            return VideoError("decoder error", f"{video}: {type(error).__name__}: {error}")
        return _End(inputs, num_frames, stream.duration_s, stream.notes)

    def _put(self, number: int, item: "Input | _End | VideoError") -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put((number, item), timeout=0.5)
                return
            except queue.Full:
                continue
