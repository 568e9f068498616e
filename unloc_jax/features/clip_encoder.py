"""CLIP alone: pictures and texts → embeddings in one space, as the original implementations compute them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from PIL import Image

from unloc_jax.errors import UserError
from unloc_jax.model.clip import ImageTower, TextFeatures, TextTower
from unloc_jax.model.transformer import ComputeOptions
from unloc_jax.pretrained.clip_model import Clip
from unloc_jax.text import VOCABULARY_SIZE, tokenize
from unloc_jax.video import FrameStream, probe

Tag = TypeVar("Tag")


def preprocess(frames: np.ndarray, size: int, resize: str = "shortest") -> np.ndarray:
    """Resizes and crops frames as CLIP does; the tower normalises by mean and std on the device.

    The short side becomes `size` pixels by Pillow's bicubic filter (antialiased), the long one in proportion, rounded
    down; then the middle is cropped, its offset rounded to even. This is the `_transform` of OpenAI's clip package and
    of open_clip, bit for bit.

    Args:
      frames: uint8 [..., H, W, 3].
      size: side of the result in pixels.
      resize: see `ClipConfig`; with "squash" both sides become `size` pixels, and nothing is cropped.

    Returns:
      uint8 [..., size, size, 3].
    """
    *leading, height, width, _ = frames.shape
    if (height, width) == (size, size):
        return frames
    short = min(height, width)
    new = (int(size * width / short), int(size * height / short)) if resize == "shortest" else (size, size)
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    box = (left, top, left + size, top + size)
    made = np.empty((int(np.prod(leading)), size, size, 3), np.uint8)
    for i, frame in enumerate(frames.reshape(-1, height, width, 3)):
        picture = Image.fromarray(np.ascontiguousarray(frame))
        if (width, height) != new:
            picture = picture.resize(new, Image.Resampling.BICUBIC)
        made[i] = np.asarray(picture.crop(box))
    return made.reshape(*leading, size, size, 3)


def video_frames(path: Path, fps: float, *, offset: float = 0.0, threads: int = 0) -> FrameStream:
    """Opens a video as frames uint8 [H, W, 3] at (k + offset) / fps seconds, not resized: `preprocess` does that.

    Raises:
      VideoError: the file cannot be used.
    """
    info = probe(path)
    side = min(info.width, info.height)
    return FrameStream(path, fps=fps, short_side=side, offset=offset, threads=threads)


def fingerprint(clip: Clip) -> str:
    """Returns 64 hexadecimal digits that identify weights and sizes, wherever they were read from."""
    config = clip.config
    towers = [[tower.num_heads, tower.activation] for tower in (config.image, config.text)]
    # Settings that the shapes of the weights do not determine.
    others = [config.resize] if config.resize != "shortest" else []
    digest = hashlib.sha256(json.dumps([towers, config.image_size, config.end_token, *others]).encode())
    for path, array in sorted(traverse_util.flatten_dict(clip.params).items()):
        array = np.ascontiguousarray(array)
        digest.update(json.dumps([path, array.shape, array.dtype.name]).encode())
        digest.update(array.data)
    return digest.hexdigest()


class ClipEncoder:
    """Embeds pictures and texts.

    Embeddings are the outputs of the projections, not normalised to length 1; `logits` normalises them.

    >>> import numpy as np
    >>> from unloc_jax.pretrained.clip_source import read_any_clip
    >>> encoder = ClipEncoder(read_any_clip("CLIP"))  # what `unloc import` wrote, or "hf-clip:FOLDER"
    >>> images = encoder.encode_images(np.zeros((2, 64, 48, 3), np.uint8))
    >>> encoder.logits(images, encoder.encode_texts(["a cat", "a dog", "a man"])).shape
    (2, 3)

    Args:
      clip: as `unloc_jax.pretrained.clip_model.load_clip` or `clip_source.read_clip` returns it.
      dtype: of the computation; float32 is exact also on devices whose default matrix products have less precision.
      batch_size: pictures per batch, which all devices of this process share; rounded up to a multiple of their
        number.

    Attributes:
      clip, dtype: as given.
    """

    def __init__(self, clip: Clip, dtype: DTypeLike = jnp.float32, batch_size: int = 32):
        self.clip = clip
        self.dtype = jnp.dtype(dtype)
        devices = jax.local_devices()
        mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
        self._num_devices = len(devices)
        self._batch_size = self._rounded(batch_size)
        self._rows = NamedSharding(mesh, PartitionSpec("data"))
        config, compute = clip.config, ComputeOptions(dtype=dtype)
        image, text = ImageTower(config.image, compute), TextTower(config.text, compute)
        self._params = jax.device_put(clip.params, NamedSharding(mesh, PartitionSpec()))
        self._precision = "highest" if dtype == jnp.float32 else "default"
        seen = config.image_size // config.image.patch_size * config.image.patch_size

        def of_images(params: dict, frames: jax.Array) -> jax.Array:
            """Embeds frames uint8 [N, size, size, 3] → float32 [N, D]."""
            frames = frames[:, None, :seen, :seen]
            pooled = jnp.asarray(image.apply({"params": params["image"]}, frames))[:, 0]
            return pooled.astype(jnp.float32) @ params["image_projection"]

        def of_texts(params: dict, tokens: jax.Array) -> jax.Array:
            """Embeds tokens int32 [N, L] → float32 [N, D]."""
            features = cast(TextFeatures, text.apply({"params": params["text"]}, tokens))
            sentence = features.sentence
            if config.end_token is not None:
                place = (tokens == config.end_token).argmax(-1)
                sentence = jnp.take_along_axis(features.tokens, place[:, None, None], axis=1)[:, 0]
            return sentence.astype(jnp.float32) @ params["text_projection"]

        self._of_images, self._of_texts = jax.jit(of_images), jax.jit(of_texts)

    def preprocess(self, frames: np.ndarray) -> np.ndarray:
        """Resizes and crops frames uint8 [..., H, W, 3] → uint8 [..., size, size, 3], see `preprocess`."""
        return preprocess(frames, self.clip.config.image_size, self.clip.config.resize)

    def encode_images(self, frames: np.ndarray) -> np.ndarray:
        """Embeds frames uint8 [..., H, W, 3] of any size → float32 [..., D]."""
        if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
            raise ValueError(f"frames must be uint8 [..., H, W, 3], got {frames.dtype} {frames.shape}")
        leading = frames.shape[:-3]
        frames = self.preprocess(frames)
        made = self._in_batches(self._of_images, frames.reshape(-1, *frames.shape[-3:]))
        return made.reshape(*leading, made.shape[-1])

    def encode_stream(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """Embeds F frames uint8 [H, W, 3], in turn → float32 [F, D]; only one batch is in memory.

        A frame that is the same array object as its predecessor is embedded once.
        """
        rows: list[int] = []

        def distinct() -> Iterator[tuple[None, np.ndarray]]:
            last = None
            for frame in frames:
                new = frame is not last
                rows.append(rows[-1] + new if rows else 0)
                if new:
                    last = frame
                    yield None, self.preprocess(frame)

        made = [embedding for _, embedding in self.encode_each(distinct())]
        return np.stack(made)[rows] if made else np.zeros((0, self.clip.config.embed_dim), np.float32)

    def encode_each(self, frames: Iterable[tuple[Tag, np.ndarray]]) -> Iterator[tuple[Tag, np.ndarray]]:
        """Embeds frames that `preprocess` returned; each carries a tag, and its embedding carries the same one.

        A batch may mix frames with different tags, and all batches have one size, so that nothing is compiled twice;
        while the devices compute one, the next is collected.

        Args:
          frames: pairs of any object (the tag) and uint8 [size, size, 3].

        Yields:
          Pairs of the tag and float32 [D], in the same order.
        """
        tags: list[Tag] = []
        batch: list[np.ndarray] = []
        computing: tuple[list[Tag], jax.Array] | None = None
        for tag, frame in frames:
            tags.append(tag)
            batch.append(frame)
            if len(batch) == self._batch_size:
                started = tags, self._start(self._of_images, np.stack(batch), self._batch_size)
                tags, batch = [], []
                if computing is not None:
                    yield from zip(computing[0], np.asarray(computing[1]))
                computing = started
        if computing is not None:
            yield from zip(computing[0], np.asarray(computing[1]))
        if batch:
            yield from zip(tags, np.asarray(self._start(self._of_images, np.stack(batch), self._batch_size)))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds N texts → float32 [N, D]; texts that are too long are truncated.

        Raises:
          UserError: the model does not use CLIP's vocabulary.
        """
        config = self.clip.config.text
        if config.vocabulary_size != VOCABULARY_SIZE:
            raise UserError(
                f"{self.clip.source}: a vocabulary of {config.vocabulary_size} instead of CLIP's {VOCABULARY_SIZE}: "
                "its texts must come as tokens."
            )
        return self.encode_tokens(tokenize(texts, config.max_tokens))

    def encode_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """Embeds tokens int32 [..., L]; anything may follow the end token → float32 [..., D]."""
        leading = tokens.shape[:-1]
        made = self._in_batches(self._of_texts, tokens.reshape(-1, tokens.shape[-1]))
        return made.reshape(*leading, made.shape[-1])

    def logits(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Returns the cosine times CLIP's scale: float [..., D] and float [N, D] → float32 [..., N]."""
        scale = np.exp(np.asarray(self.clip.params["logit_scale"]))
        return scale * unit(images) @ unit(texts).T

    def _in_batches(self, function: Callable, rows: np.ndarray) -> np.ndarray:
        """Runs `function` over rows [N, ...] in batches of one size, to compile only once → float32 [N, D]."""
        size = self._rounded(min(self._batch_size, max(len(rows), 1)))
        made = [
            np.asarray(self._start(function, batch, size))[: len(batch)]
            for batch in (rows[start : start + size] for start in range(0, len(rows), size))
        ]
        return np.concatenate(made) if made else np.zeros((0, self.clip.config.embed_dim), np.float32)

    def _start(self, function: Callable, rows: np.ndarray, size: int) -> jax.Array:
        """Starts computing float32 [size, D] of a batch [n, ...], padded with zeros to `size` rows; does not wait."""
        filled = np.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1))
        with jax.default_matmul_precision(self._precision):
            return function(self._params, jax.device_put(filled, self._rows))

    def _rounded(self, size: int) -> int:
        return -(-size // self._num_devices) * self._num_devices


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Normalises embeddings, float [..., D] → [..., D], to length 1."""
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
