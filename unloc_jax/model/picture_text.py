"""An image tower and a text tower with projections into one space: SigLIP 2, PE-Core, and what has their form."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from unloc_jax.config import ImageTowerConfig, TextTowerConfig
from unloc_jax.model.clip import ImageTower, TextTower
from unloc_jax.model.tower_form import ImageForm, TextForm
from unloc_jax.model.transformer import ComputeOptions


@dataclasses.dataclass(frozen=True)
class PictureTextConfig:
    """Sizes and form of a model.

    Attributes:
      image, image_form: Of the image tower.
      text, text_form: Of the text tower; text is None if there is none.
      image_size: Height and width in pixels. Pixels beyond the last complete patch, at the right and the bottom, are
        ignored.
      embed_dim: D of the space that images and texts share.
      image_projection: There is a linear layer, with a bias, after the image tower; otherwise its width is D.
      text_projection_bias: The one after the text tower has a bias.
      logit_bias: Cosines are multiplied by a scale, and a bias is added, as for a sigmoid.
      resize: How a picture becomes square: "squash", or "shortest", see `ClipConfig`.
      resample: Pillow's filter for that: "bicubic" or "bilinear".
    """

    image: ImageTowerConfig
    image_form: ImageForm
    text: TextTowerConfig | None
    text_form: TextForm
    image_size: int
    embed_dim: int
    image_projection: bool
    text_projection_bias: bool
    logit_bias: bool
    resize: str
    resample: str

    @property
    def grid(self) -> int:
        """Rows and columns of patches."""
        return self.image_size // self.image.patch_size


class PictureText(nn.Module):
    """Both towers with their projections.

    Attributes:
      config: Sizes and form.
      compute: See `ComputeOptions`.
    """

    config: PictureTextConfig
    compute: ComputeOptions = ComputeOptions()

    def setup(self) -> None:
        config = self.config
        self.image = ImageTower(config.image, self.compute, config.image_form)
        if config.image_projection:
            self.image_projection = nn.Dense(config.embed_dim)
        if config.text is not None:
            self.text = TextTower(config.text, self.compute, config.text_form)
            self.text_projection = nn.Dense(config.embed_dim, use_bias=config.text_projection_bias)

    def encode_images(self, frames: jax.Array) -> jax.Array:
        """Embeds frames uint8 [N, size, size, 3] → float32 [N, D], not of length 1."""
        seen = self.config.grid * self.config.image.patch_size
        x = self.image(frames[:, None, :seen, :seen])[:, 0].astype(jnp.float32)
        return self.image_projection(x) if self.config.image_projection else x

    def encode_texts(self, tokens: jax.Array) -> jax.Array:
        """Embeds tokens int32 [N, L] → float32 [N, D], not of length 1."""
        return self.text_projection(self.text(tokens).sentence.astype(jnp.float32))

    def __call__(self, frames: jax.Array, tokens: jax.Array | None = None) -> tuple[jax.Array, ...]:
        """Embeds frames, and tokens if given; creates all parameters except for scale and bias of the logits."""
        made = (self.encode_images(frames),)
        return made if tokens is None else (*made, self.encode_texts(tokens))
