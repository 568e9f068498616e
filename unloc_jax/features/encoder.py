"""What all encoders of videos are: batches on all devices, streams → rows of features, texts → the same space.

A stream is of frames, or of windows of sound.
"""

import abc
import collections
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from unloc_jax.errors import UserError
from unloc_jax.features.stream_inputs import DistinctFrames, StreamInputs
from unloc_jax.frame_inputs import Frames
from unloc_jax.video import FrameStream, probe

Tag = TypeVar("Tag")


class Encoder(abc.ABC):
    """Embeds frames and texts; each family of encoders (`families.py`) has a subclass.

    Embeddings are not normalised to length 1.

    Args:
      params: tree of arrays.
      dtype: of the computation; float32 is exact also on devices whose default matrix products have less precision.
      batch_size: frames per batch, which all devices of this process share; at least one input (see `StreamInputs`) per
        device.

    Attributes:
      dtype: as given.
      source: origin of the weights, as text.
      name: of the model.
      label: what a reader of results must know of it.
      embed_dim: D.
      image_size: height and width of its pictures in pixels; not of an encoder of sound.
      logit_scale: by which it multiplies cosines of frames and texts.
      most_pieces: word pieces of a text that it reads.
      frames_per_input: frames that it reads at a time.
      reads: what a row is made of, in the plural.
      hears: it reads sound, and no frames.
    """

    source: str
    name: str
    label: str
    embed_dim: int
    image_size: int
    logit_scale: float
    most_pieces: int
    frames_per_input: int = 1
    reads: str = "frames"
    hears: bool = False

    def __init__(self, params: Any, dtype: DTypeLike, batch_size: int):
        self.dtype = jnp.dtype(dtype)
        devices = jax.local_devices()
        mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
        self._num_devices = len(devices)
        self._batch_size = self._rounded(max(1, batch_size // self.frames_per_input))
        self._rows = NamedSharding(mesh, PartitionSpec("data"))
        self._params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
        self._precision = "highest" if self.dtype == jnp.float32 else "default"
        self._compiled = jax.jit(self._of_inputs)

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Returns 64 hexadecimal digits that identify weights and sizes, wherever they were read from."""

    @abc.abstractmethod
    def preprocess(self, frames: np.ndarray) -> np.ndarray:
        """Resizes frames uint8 [..., H, W, 3] → uint8 [..., size, size, 3]; for sound see `ClapEncoder`."""

    @abc.abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds N texts → float32 [N, D]; texts that are too long are truncated.

        Raises:
          UserError: the encoder cannot read texts.
        """

    @abc.abstractmethod
    def num_pieces(self, text: str) -> int:
        """Returns the number of word pieces of a text, of which `most_pieces` are read.

        Raises:
          UserError: the encoder cannot read texts.
        """

    @abc.abstractmethod
    def _of_inputs(self, params: Any, inputs: jax.Array) -> jax.Array:
        """Embeds a batch of inputs; compiled."""

    def check_texts(self) -> None:  # noqa: B027  most can read them
        """Raises UserError if the encoder cannot read texts, before one is there."""

    def settings(self) -> dict[str, Any]:
        """Returns what the numbers of a family with such settings also depend on; JSON."""
        return {}

    def use_window(self, window_s: float) -> None:
        """Sets how many seconds of sound a row is made of.

        Raises:
          UserError: out of range, or the encoder does not hear.
        """
        raise UserError(
            f"--window={window_s:g} is for an encoder of sound (clap:SRC); {self.name} reads frames."
        )

    def sees(self, fps: float) -> str:
        """Describes in words what it reads, at so many rows per second."""
        return f"{fps:g} frames per second of {self.image_size}² pixels"

    def open(self, path: Path, fps: float, *, offset: float = 0.0, threads: int = 0) -> Frames:
        """Opens a file as what `inputs` reads, at (k + offset) / fps seconds; frames are uint8 [H, W, 3], not resized.

        Raises:
          VideoError: the file cannot be used.
        """
        return video_frames(path, fps, offset=offset, threads=threads)

    def inputs(self) -> StreamInputs:
        """Returns what makes the inputs of a new stream."""
        return DistinctFrames(self.preprocess)

    def encode_stream(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """Embeds F frames uint8 [H, W, 3], in turn → float32 [F, D]; only one batch is in memory."""
        (made,) = self.encode_streams([frames])
        return made

    def encode_streams(self, streams: Iterable[Iterable[np.ndarray]]) -> Iterator[np.ndarray]:
        """Embeds streams as `encode_stream` does, in turn; a batch may hold inputs of several."""
        waiting: collections.deque[_Stream] = collections.deque()

        def inputs() -> Iterator[tuple[_Stream, np.ndarray]]:
            for frames in streams:
                stream = _Stream(self.inputs())
                waiting.append(stream)
                for frame in frames:
                    for one in stream.inputs.add(frame):
                        yield stream, one.array
                for one in stream.inputs.end():
                    yield stream, one.array
                stream.ended = True

        def finished() -> Iterator[np.ndarray]:
            while waiting and waiting[0].ended and len(waiting[0].made) == waiting[0].inputs.count:
                stream = waiting.popleft()
                yield (
                    stream.inputs.join(stream.made)
                    if stream.made
                    else np.zeros((0, self.embed_dim), np.float32)
                )

        for stream, made in self.encode_each(inputs()):
            stream.made.append(made)
            yield from finished()
        yield from finished()

    def encode_each(self, inputs: Iterable[tuple[Tag, np.ndarray]]) -> Iterator[tuple[Tag, np.ndarray]]:
        """Embeds inputs; each carries a tag, and its embedding carries the same one.

        A batch may mix inputs with different tags, and all batches have one size, so that nothing is compiled twice;
        while the devices compute one, the next is collected.

        Args:
          inputs: pairs of any object (the tag) and what `inputs()` makes, such as uint8 [size, size, 3].

        Yields:
          Pairs of the tag and float32, in the same order.
        """
        tags: list[Tag] = []
        batch: list[np.ndarray] = []
        computing: tuple[list[Tag], jax.Array] | None = None
        for tag, one in inputs:
            tags.append(tag)
            batch.append(one)
            if len(batch) == self._batch_size:
                started = tags, self._start(self._compiled, np.stack(batch), self._batch_size)
                tags, batch = [], []
                if computing is not None:
                    yield from zip(computing[0], np.asarray(computing[1]))
                computing = started
        if computing is not None:
            yield from zip(computing[0], np.asarray(computing[1]))
        if batch:
            yield from zip(tags, np.asarray(self._start(self._compiled, np.stack(batch), self._batch_size)))

    def _in_batches(self, function: Callable, rows: np.ndarray) -> np.ndarray:
        """Runs `function` over rows [N, ...] in batches of one size, to compile only once → float32 [N, D]."""
        size = self._rounded(min(self._batch_size, max(len(rows), 1)))
        made = [
            np.asarray(self._start(function, batch, size))[: len(batch)]
            for batch in (rows[start : start + size] for start in range(0, len(rows), size))
        ]
        return np.concatenate(made) if made else np.zeros((0, self.embed_dim), np.float32)

    def _start(self, function: Callable, rows: np.ndarray, size: int) -> jax.Array:
        """Starts computing float32 [size, ...] of a batch [n, ...], padded with zeros to `size` rows; does not wait."""
        filled = np.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1))
        with jax.default_matmul_precision(self._precision):
            return function(self._params, jax.device_put(filled, self._rows))

    def _rounded(self, size: int) -> int:
        return -(-size // self._num_devices) * self._num_devices


@dataclasses.dataclass(eq=False)
class _Stream:
    """A stream whose inputs are being embedded."""

    inputs: StreamInputs
    made: list[np.ndarray] = dataclasses.field(default_factory=list)
    ended: bool = False


def video_frames(path: Path, fps: float, *, offset: float = 0.0, threads: int = 0) -> FrameStream:
    """Opens a video as frames uint8 [H, W, 3] at (k + offset) / fps seconds, not resized: encoders do that.

    Raises:
      VideoError: the file cannot be used.
    """
    info = probe(path)
    side = min(info.width, info.height)
    return FrameStream(path, fps=fps, short_side=side, offset=offset, threads=threads)


def digest(description: Any, params: Any) -> str:
    """Returns 64 hexadecimal digits that identify a JSON object and a tree of arrays."""
    made = hashlib.sha256(json.dumps(description).encode())
    for path, array in sorted(traverse_util.flatten_dict(params).items()):
        array = np.ascontiguousarray(array)
        made.update(json.dumps([path, array.shape, array.dtype.name]).encode())
        made.update(array.data)
    return made.hexdigest()


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Normalises embeddings, float [..., D] → [..., D], to length 1."""
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
