"""UnLoc: towers → early fusion → pyramid → heads (paper figure 2)."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from unloc_jax.config import ModelConfig
from unloc_jax.localization.decode import Localization
from unloc_jax.localization.geometry import pyramid_geometry
from unloc_jax.model.clip import ImageTower, TextFeatures, TextTower
from unloc_jax.model.fusion import Fusion
from unloc_jax.model.heads import LocalizationHead
from unloc_jax.model.pyramid import SimplePyramid


class UnLoc(nn.Module):
    """The whole model. `encode_video` and `encode_text` can be called alone and their results kept.

    Attributes:
      config: sizes.
      num_frames: T.
      dtype: of the computation; parameters and outputs are float32.
    """

    config: ModelConfig
    num_frames: int
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        image, text, fusion, head = self.config.image, self.config.text, self.config.fusion, self.config.head
        run: dict[str, Any] = {"remat": self.config.remat, "unroll": self.config.unroll, "dtype": self.dtype}
        dtype = self.dtype
        self.geometry = pyramid_geometry(self.num_frames, **dataclasses.asdict(self.config.pyramid))
        self.image_tower = ImageTower(
            image.width, image.num_layers, image.num_heads, image.patch_size, image.temporal_kernel, **run
        )
        self.text_tower = TextTower(text.width, text.num_layers, text.num_heads, text.max_tokens, **run)
        self.video_projection = nn.Dense(fusion.width, use_bias=False, dtype=dtype)
        self.text_projection = nn.Dense(fusion.width, use_bias=False, dtype=dtype)
        self.fusion = Fusion(
            fusion.num_layers, fusion.num_heads, fusion.mlp_dim, fusion.all_text_tokens, **run
        )
        self.pyramid = SimplePyramid(self.geometry, dtype)
        self.head = LocalizationHead(
            self.geometry,
            head.num_conv_layers,
            head.kernel_size,
            head.relevance_bias,
            head.offsets_bias,
            dtype,
        )
        self.moment_projection = nn.Dense(fusion.width, dtype=dtype)
        self.temperature = self.param("temperature", nn.initializers.constant(2.659), ())  # log(1 / 0.07)

    def encode_video(self, frames: jax.Array) -> jax.Array:
        """frames uint8 [B, T, H, W, 3] → frame tokens [B, T, D]."""
        return self.video_projection(self.image_tower(frames))

    def encode_text(self, text_tokens: jax.Array) -> TextFeatures:
        """text_tokens int32 [..., L] → TextFeatures of width D."""
        features = self.text_tower(text_tokens)
        project = self.text_projection
        return TextFeatures(project(features.tokens), features.mask, project(features.sentence))

    def localize(self, video: jax.Array, frame_mask: jax.Array, text: TextFeatures) -> Localization:
        """Frame tokens [B, T, D] × texts ([B, N] or [1, N]) → Localization [B, N, P]."""
        fused = self.fusion(video, frame_mask, text)  # [B, N, T, D]
        batch, num_texts, time, width = fused.shape
        points = self.pyramid(fused.reshape(-1, time, width))
        return self.head(points.reshape(batch, num_texts, -1, width))

    def __call__(self, frames: jax.Array, frame_mask: jax.Array, text_tokens: jax.Array) -> Localization:
        """frames [B, T, H, W, 3] uint8, text_tokens [B or 1, N, L] → Localization [B, N, P]."""
        if self.is_initializing():
            self.contrast(frames, frame_mask[:, None], text_tokens)
        return self.localize(self.encode_video(frames), frame_mask, self.encode_text(text_tokens))

    def contrast(
        self, frames: jax.Array, segment_mask: jax.Array, text_tokens: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What contrastive pretraining compares: one embedding per segment and one per text.

        A segment's embedding is a projection of the mean of its frame tokens and of their slope over time, so that
        "moves to the left" and "moves to the right" can differ whatever the speed.

        Args:
          frames: uint8 [B, T, H, W, 3].
          segment_mask: bool [B, S, T], True = frame of the segment.
          text_tokens: int32 [..., L].

        Returns:
          Segments [B, S, D] and texts [..., D], float32 and not normalised, and the scalar that multiplies cosines.
        """
        video = self.encode_video(frames)
        time = jnp.arange(video.shape[1], dtype=jnp.float32)
        count = jnp.maximum(segment_mask.sum(-1, keepdims=True), 1)
        centred = time - (segment_mask * time).sum(-1, keepdims=True) / count
        weights = (
            segment_mask * jnp.stack([jnp.ones_like(centred), 4.0 * centred / count]) / count
        )  # [2, B, S, T]
        mean, slope = jnp.einsum("kbst,btd->kbsd", weights.astype(video.dtype), video)
        segments = self.moment_projection(jnp.concatenate([mean, slope], axis=-1))
        sentence = self.encode_text(text_tokens).sentence
        scale = jnp.exp(jnp.minimum(self.temperature, 4.6))
        return segments.astype(jnp.float32), sentence.astype(jnp.float32), scale
