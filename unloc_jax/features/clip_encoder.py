"""CLIP alone: pictures and texts → embeddings in one space, as the original implementations compute them."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from unloc_jax.features.encoder import digest, unit, video_frames
from unloc_jax.features.picture_encoder import PictureEncoder, preprocess
from unloc_jax.model.clip import ImageTower, TextFeatures, TextTower
from unloc_jax.model.transformer import ComputeOptions
from unloc_jax.pretrained.clip_model import Clip
from unloc_jax.text_reader import ClipWords, TextReader

__all__ = ["ClipEncoder", "fingerprint", "preprocess", "unit", "video_frames"]


def fingerprint(clip: Clip) -> str:
    """Returns 64 hexadecimal digits that identify weights and sizes, wherever they were read from."""
    config = clip.config
    towers = [[tower.num_heads, tower.activation] for tower in (config.image, config.text)]
    # Settings that the shapes of the weights do not determine.
    others = [config.resize] if config.resize != "shortest" else []
    return digest([towers, config.image_size, config.end_token, *others], clip.params)


class ClipEncoder(PictureEncoder):
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
        self.resize = config.resize
        self.most_pieces = config.text.max_tokens - 2
        self._image, self._text = ImageTower(config.image, compute), TextTower(config.text, compute)

    def fingerprint(self) -> str:
        return fingerprint(self.clip)

    def _open_reader(self) -> TextReader:
        text = self.clip.config.text
        return ClipWords(text.vocabulary_size, text.max_tokens, self.clip.source)

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
