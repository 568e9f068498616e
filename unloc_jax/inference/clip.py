"""CLIP by itself: pictures and texts → embeddings in one space, as the original implementations compute them."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from unloc_jax.errors import UserError
from unloc_jax.model.clip import ImageTower, TextFeatures, TextTower
from unloc_jax.model.transformer import Run
from unloc_jax.pretrained.clip_model import Clip
from unloc_jax.text import VOCABULARY_SIZE, tokenize
from unloc_jax.video import FrameStream, probe


def preprocess(frames: np.ndarray, size: int) -> np.ndarray:
    """CLIP's preprocessing but for mean and std, which the tower applies on the device.

    The short side becomes `size` pixels by Pillow's bicubic filter (antialiased), the long one in proportion, rounded
    down; then the middle is cut out, its offset rounded to even. That is the `_transform` of OpenAI's clip package and
    of open_clip, bit for bit.

    Args:
      frames: uint8 [..., H, W, 3].
      size: of the result, pixels.

    Returns:
      uint8 [..., size, size, 3].
    """
    *leading, height, width, _ = frames.shape
    if (height, width) == (size, size):
        return frames
    short = min(height, width)
    new = (int(size * width / short), int(size * height / short))
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    box = (left, top, left + size, top + size)
    made = np.empty((int(np.prod(leading)), size, size, 3), np.uint8)
    for i, frame in enumerate(frames.reshape(-1, height, width, 3)):
        picture = Image.fromarray(np.ascontiguousarray(frame))
        if (width, height) != new:
            picture = picture.resize(new, Image.Resampling.BICUBIC)
        made[i] = np.asarray(picture.crop(box))
    return made.reshape(*leading, size, size, 3)


def video_frames(path: Path, fps: float) -> FrameStream:
    """A video's frames at the times k / fps, in their own size: CLIP's preprocessing resizes them, once.

    Raises:
      VideoError: the file cannot be used.
    """
    info = probe(path)
    return FrameStream(path, fps=fps, short_side=min(info.width, info.height))


class ClipEncoder:
    """Embeds pictures and texts.

    Embeddings are as the projections give them, not of length 1; `logits` takes care of that.

    >>> import numpy as np
    >>> from unloc_jax.pretrained.clip_source import read_any_clip
    >>> encoder = ClipEncoder(read_any_clip("CLIP"))  # what `unloc import` wrote, or "hf-clip:FOLDER"
    >>> images = encoder.encode_images(np.zeros((2, 64, 48, 3), np.uint8))
    >>> encoder.logits(images, encoder.encode_texts(["a cat", "a dog", "a man"])).shape
    (2, 3)

    Args:
      clip: as `unloc_jax.pretrained.clip_model.load_clip` or `clip_source.read_clip` returns it.
      dtype: of the computation; float32 is exact also on devices that multiply matrices in less by default.
      batch_size: pictures at a time.
    """

    def __init__(self, clip: Clip, dtype: jnp.dtype = jnp.float32, batch_size: int = 32):
        self.clip = clip
        self._batch_size = batch_size
        config, run = clip.config, Run(dtype=dtype)
        image, text = ImageTower(config.image, run), TextTower(config.text, run)
        self._params = jax.device_put(clip.params)
        self._precision = "highest" if dtype == jnp.float32 else "default"

        def of_images(params: dict, frames: jax.Array) -> jax.Array:
            pooled = jnp.asarray(image.apply({"params": params["image"]}, frames[:, None]))[:, 0]
            return pooled.astype(jnp.float32) @ params["image_projection"]

        def of_texts(params: dict, tokens: jax.Array) -> jax.Array:
            features = cast(TextFeatures, text.apply({"params": params["text"]}, tokens))
            sentence = features.sentence
            if config.end_token is not None:
                place = (tokens == config.end_token).argmax(-1)
                sentence = jnp.take_along_axis(features.tokens, place[:, None, None], axis=1)[:, 0]
            return sentence.astype(jnp.float32) @ params["text_projection"]

        self._of_images, self._of_texts = jax.jit(of_images), jax.jit(of_texts)

    def encode_images(self, frames: np.ndarray) -> np.ndarray:
        """frames uint8 [..., H, W, 3] of any size → float32 [..., D]."""
        if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
            raise ValueError(f"frames must be uint8 [..., H, W, 3], got {frames.dtype} {frames.shape}")
        leading = frames.shape[:-3]
        frames = preprocess(frames, self.clip.config.image_size)
        made = self._in_batches(self._of_images, frames.reshape(-1, *frames.shape[-3:]))
        return made.reshape(*leading, made.shape[-1])

    def encode_stream(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """F frames uint8 [H, W, 3], one after the other → float32 [F, D]; only one batch of them is in memory.

        A frame that is the same array as the one before is embedded once.
        """
        made: list[np.ndarray] = []
        batch: list[np.ndarray] = []
        rows: list[int] = []
        last, distinct = None, 0
        for frame in frames:
            if frame is not last:
                if len(batch) == self._batch_size:
                    made.append(self.encode_images(np.stack(batch)))
                    batch = []
                last, distinct = frame, distinct + 1
                batch.append(preprocess(frame, self.clip.config.image_size))
            rows.append(distinct - 1)
        if batch:
            # Filled up, so that the last batch is not compiled anew.
            filled = batch + batch[:1] * (self._batch_size - len(batch))
            made.append(self.encode_images(np.stack(filled))[: len(batch)])
        return np.concatenate(made)[rows] if made else np.zeros((0, self.clip.config.embed_dim), np.float32)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """N texts → float32 [N, D]; of a text that is too long the end is left out.

        Raises:
          UserError: the model has not CLIP's vocabulary.
        """
        config = self.clip.config.text
        if config.vocabulary_size != VOCABULARY_SIZE:
            raise UserError(
                f"{self.clip.source}: a vocabulary of {config.vocabulary_size} instead of CLIP's {VOCABULARY_SIZE}: "
                "its texts must come as tokens."
            )
        return self.encode_tokens(tokenize(texts, config.max_tokens))

    def encode_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """tokens int32 [..., L], whatever follows the end token → float32 [..., D]."""
        leading = tokens.shape[:-1]
        made = self._in_batches(self._of_texts, tokens.reshape(-1, tokens.shape[-1]))
        return made.reshape(*leading, made.shape[-1])

    def logits(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Embeddings [..., D] and [N, D] → [..., N]: the cosine times CLIP's scale."""
        scale = np.exp(np.asarray(self.clip.params["logit_scale"]))
        return scale * unit(images) @ unit(texts).T

    def _in_batches(self, function: Callable, rows: np.ndarray) -> np.ndarray:
        """Batches of one size, filled up with zeros, so that nothing is compiled twice."""
        size = min(self._batch_size, max(len(rows), 1))
        made = []
        with jax.default_matmul_precision(self._precision):
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                filled = np.pad(batch, [(0, size - len(batch))] + [(0, 0)] * (rows.ndim - 1))
                made.append(np.asarray(function(self._params, filled))[: len(batch)])
        return np.concatenate(made) if made else np.zeros((0, self.clip.config.embed_dim), np.float32)


def unit(embeddings: np.ndarray) -> np.ndarray:
    """[..., D] → the same directions, of length 1."""
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
