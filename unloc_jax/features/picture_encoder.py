"""Encoders that see pictures one by one, and read texts in the same space."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from PIL import Image

from unloc_jax.features.encoder import digest
from unloc_jax.features.text_encoder import TextEncoder
from unloc_jax.model.picture_text import PictureText
from unloc_jax.model.transformer import ComputeOptions
from unloc_jax.pretrained.picture_text import PictureTextWeights
from unloc_jax.text_reader import TextReader

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def preprocess(
    frames: np.ndarray, size: int, resize: str = "shortest", resample: str = "bicubic"
) -> np.ndarray:
    """Resizes and crops frames as CLIP does; the tower normalises by mean and std on the device.

    The short side becomes `size` pixels by Pillow's bicubic filter (antialiased), the long one in proportion, rounded
    down; then the middle is cropped, its offset rounded to even. This is the `_transform` of OpenAI's clip package and
    of open_clip, bit for bit.

    Args:
      frames: uint8 [..., H, W, 3].
      size: side of the result in pixels.
      resize: see `ClipConfig`; with "squash" both sides become `size` pixels, and nothing is cropped.
      resample: Pillow's filter, "bicubic" or "bilinear".

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
            picture = picture.resize(new, _FILTERS[resample])
        made[i] = np.asarray(picture.crop(box))
    return made.reshape(*leading, size, size, 3)


class PictureEncoder(TextEncoder):
    """Embeds pictures and texts.

    Args:
      params, dtype, batch_size: see `Encoder`.

    Attributes:
      resize, resample: see `preprocess`.
    """

    resize: str
    resample: str = "bicubic"

    def preprocess(self, frames: np.ndarray) -> np.ndarray:
        """Resizes and crops frames uint8 [..., H, W, 3] → uint8 [..., size, size, 3], see `preprocess`."""
        return preprocess(frames, self.image_size, self.resize, self.resample)

    def encode_images(self, frames: np.ndarray) -> np.ndarray:
        """Embeds frames uint8 [..., H, W, 3] of any size → float32 [..., D]."""
        if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
            raise ValueError(f"frames must be uint8 [..., H, W, 3], got {frames.dtype} {frames.shape}")
        leading = frames.shape[:-3]
        frames = self.preprocess(frames)
        made = self._in_batches(self._compiled, frames.reshape(-1, *frames.shape[-3:]))
        return made.reshape(*leading, made.shape[-1])


class PictureTextEncoder(PictureEncoder):
    """Embeds pictures and texts by a model of any family that is described in `pretrained` (SigLIP 2, PE-Core).

    Args:
      weights: as `read_picture_text` returns them.
      dtype, batch_size: see `Encoder`.

    Attributes:
      weights: as given.
    """

    def __init__(self, weights: PictureTextWeights, dtype: DTypeLike = jnp.float32, batch_size: int = 32):
        self.weights = weights
        config = weights.config
        super().__init__(weights.params, dtype, batch_size)
        self.source, self.name = weights.source, weights.name
        self.label = f"{weights.family.title}, not trained to localise"
        self.embed_dim, self.image_size = config.embed_dim, config.image_size
        self.resize, self.resample = config.resize, config.resample
        self.logit_scale = float(np.exp(weights.params.get("logit_scale", np.float32(0))))
        self.logit_bias = float(weights.params.get("logit_bias", 0.0))
        self._model = PictureText(config, ComputeOptions(dtype=dtype))

    def fingerprint(self) -> str:
        return digest(_told(self.weights.config), self.weights.params)

    def check_texts(self) -> None:
        _ = self._reader

    @property
    def most_pieces(self) -> int:  # type: ignore[override]
        return self._reader.most_pieces

    def _open_reader(self) -> TextReader:
        return self.weights.text_reader()

    def _of_inputs(self, params: Any, inputs: jax.Array) -> jax.Array:
        """Embeds frames uint8 [N, size, size, 3] → float32 [N, D]."""
        made: Any = self._model.apply({"params": params}, inputs, method="encode_images")
        return made

    def _of_tokens(self, params: Any, tokens: jax.Array) -> jax.Array:
        made: Any = self._model.apply({"params": params}, tokens, method="encode_texts")
        return made


def _told(config: Any) -> Any:
    """Returns the fields of a dataclass that are not their defaults: a setting that is added changes no fingerprint."""
    if not dataclasses.is_dataclass(config):
        return config
    values = {
        field.name: (getattr(config, field.name), field.default) for field in dataclasses.fields(config)
    }
    return {name: _told(value) for name, (value, default) in values.items() if value != default}
