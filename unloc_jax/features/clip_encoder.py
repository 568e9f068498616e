"""CLIP alone: pictures and texts → embeddings in one space, as the original implementations compute them."""

from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from PIL import Image

from unloc_jax.errors import UserError
from unloc_jax.features.encoder import Encoder, digest, unit, video_frames
from unloc_jax.model.clip import ImageTower, TextFeatures, TextTower
from unloc_jax.model.transformer import ComputeOptions
from unloc_jax.pretrained.clip_model import Clip
from unloc_jax.text import VOCABULARY_SIZE, num_tokens, tokenize

__all__ = ["ClipEncoder", "fingerprint", "preprocess", "unit", "video_frames"]


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


def fingerprint(clip: Clip) -> str:
    """Returns 64 hexadecimal digits that identify weights and sizes, wherever they were read from."""
    config = clip.config
    towers = [[tower.num_heads, tower.activation] for tower in (config.image, config.text)]
    # Settings that the shapes of the weights do not determine.
    others = [config.resize] if config.resize != "shortest" else []
    return digest([towers, config.image_size, config.end_token, *others], clip.params)


class ClipEncoder(Encoder):
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
      dtype, batch_size: see `Encoder`.

    Attributes:
      clip: as given.
    """

    label = "CLIP, not trained to localise"

    def __init__(self, clip: Clip, dtype: DTypeLike = jnp.float32, batch_size: int = 32):
        super().__init__(clip.params, dtype, batch_size)
        self.clip = clip
        config, compute = clip.config, ComputeOptions(dtype=dtype)
        self.source, self.name = clip.source, config.name
        self.embed_dim, self.image_size = config.embed_dim, config.image_size
        self.logit_scale = float(np.exp(np.asarray(clip.params["logit_scale"])))
        self.most_pieces = config.text.max_tokens - 2
        self._image, self._text = ImageTower(config.image, compute), TextTower(config.text, compute)
        self._of_texts = jax.jit(self._of_tokens)

    def fingerprint(self) -> str:
        return fingerprint(self.clip)

    def preprocess(self, frames: np.ndarray) -> np.ndarray:
        """Resizes and crops frames uint8 [..., H, W, 3] → uint8 [..., size, size, 3], see `preprocess`."""
        return preprocess(frames, self.clip.config.image_size, self.clip.config.resize)

    def encode_images(self, frames: np.ndarray) -> np.ndarray:
        """Embeds frames uint8 [..., H, W, 3] of any size → float32 [..., D]."""
        if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
            raise ValueError(f"frames must be uint8 [..., H, W, 3], got {frames.dtype} {frames.shape}")
        leading = frames.shape[:-3]
        frames = self.preprocess(frames)
        made = self._in_batches(self._compiled, frames.reshape(-1, *frames.shape[-3:]))
        return made.reshape(*leading, made.shape[-1])

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
        return self.logit_scale * unit(images) @ unit(texts).T

    def num_pieces(self, text: str) -> int:
        return num_tokens(text) - 2

    def _of_inputs(self, params: dict, inputs: jax.Array) -> jax.Array:
        """Embeds frames uint8 [N, size, size, 3] → float32 [N, D]."""
        config = self.clip.config
        seen = config.image_size // config.image.patch_size * config.image.patch_size
        frames = inputs[:, None, :seen, :seen]
        pooled = jnp.asarray(self._image.apply({"params": params["image"]}, frames))[:, 0]
        return pooled.astype(jnp.float32) @ params["image_projection"]

    def _of_tokens(self, params: dict, tokens: jax.Array) -> jax.Array:
        """Embeds tokens int32 [N, L] → float32 [N, D]."""
        config = self.clip.config
        features = cast(TextFeatures, self._text.apply({"params": params["text"]}, tokens))
        sentence = features.sentence
        if config.end_token is not None:
            place = (tokens == config.end_token).argmax(-1)
            sentence = jnp.take_along_axis(features.tokens, place[:, None, None], axis=1)[:, 0]
        return sentence.astype(jnp.float32) @ params["text_projection"]
