"""Video–text fusion (paper section 3.2): one transformer attends over frame tokens and text tokens.

UnLoc fuses early. Late fusion is the paper's ablation: the same transformer and pyramid see the frames alone, and
the pyramid's points are multiplied with the texts afterwards.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.config import FusionConfig, PyramidConfig
from unloc_jax.localization.geometry import PyramidGeometry
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.pyramid import Downsample, FeaturePyramid, SimplePyramid
from unloc_jax.model.transformer import ComputeOptions, Transformer


@flax.struct.dataclass
class Fused:
    """Fused (video, text) pairs.

    Attributes:
      points: Floating [B, N, P, D], the pyramid's points, level after level.
      text: Floating [B, N, L, D], the text tokens: L is 1 unless all text tokens are fused, 0 without texts.
    """

    points: jax.Array
    text: jax.Array


def sinusoid_positions(length: int, width: int) -> np.ndarray:
    """Returns float32 [length, width] with interleaved sines and cosines (Vaswani et al. 2017, section 3.5)."""
    frequency = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angle = np.arange(length)[:, None] * frequency
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, width).astype(np.float32)


class Fusion(nn.Module):
    """Pairs every video with its texts and encodes each pair.

    Attributes:
      config: Sizes.
      pyramid: How the levels are computed.
      layers: The layer after which each level is taken; FPN only.
      geometry: The pyramid's points.
      compute: See `ComputeOptions`.
    """

    config: FusionConfig
    pyramid: PyramidConfig
    layers: tuple[int, ...]
    geometry: PyramidGeometry
    compute: ComputeOptions = ComputeOptions()

    def setup(self):
        self.encoder = PairEncoder(self.config, self.pyramid, self.layers, self.geometry, self.compute)

    def encode_pairs(self, video: jax.Array, frame_mask: jax.Array, text: TextFeatures) -> Fused:
        """Encodes all (video, text) pairs: early fusion.

        Args:
          video: Frame tokens, floating [B, T, D].
          frame_mask: bool [B, T], True = real frame.
          text: Features of leading shape [B, N] (texts per video) or [1, N] (the same texts for all videos). N must
            be 1 or a multiple of `layout.num_shards("texts")`.

        Returns:
          The pairs' points [B, N, P, D] and text tokens [B, N, L, D].
        """
        batch, num_texts = len(video), text.sentence.shape[1]
        tokens, text_mask = text.tokens, text.mask
        if not self.config.all_text_tokens:
            tokens, text_mask = text.sentence[:, :, None], jnp.ones((*text.sentence.shape[:2], 1), bool)
        broadcast = lambda x: jnp.broadcast_to(x, (batch, num_texts, *x.shape[2:]))
        flat = lambda x: self.compute.layout.merge(broadcast(x), "videos", "texts")
        points, fused_text = self.encoder(
            flat(video[:, None]), flat(frame_mask[:, None]), flat(tokens), flat(text_mask)
        )
        unflat = lambda x: self.compute.layout.split(x, (batch, num_texts), "videos", "texts")
        return Fused(unflat(points), unflat(fused_text))

    def encode_frames(self, video: jax.Array, frame_mask: jax.Array) -> jax.Array:
        """Encodes the frames alone, for late fusion: frame tokens [B, T, D] → points [B, P, D].

        In `frame_mask`, bool [B, T], True = real frame.
        """
        no_text = jnp.zeros((len(video), 0, video.shape[-1]), video.dtype)
        return self.encoder(video, frame_mask, no_text, jnp.zeros((len(video), 0), bool))[0]

    def multiply(self, points: jax.Array, text: TextFeatures) -> jax.Array:
        """Multiplies points [B, P, D] with texts [B or 1, N, D] elementwise, → [B, N, P, D]: late fusion.

        A linear layer on the products is a dot product with learned weights.
        """
        products = points[:, None] * text.sentence[:, :, None]
        return self.compute.layout.constrain(products, "videos", "texts", None, None)


class PairEncoder(nn.Module):
    """Self-attention over [frame tokens; text tokens], followed by the pyramid over the frame tokens."""

    config: FusionConfig
    pyramid: PyramidConfig
    layers: tuple[int, ...]
    geometry: PyramidGeometry
    compute: ComputeOptions = ComputeOptions()

    @nn.compact
    def __call__(
        self, frames: jax.Array, frame_mask: jax.Array, text: jax.Array, text_mask: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes M (video, text) pairs.

        Args:
          frames: Floating [M, T, D].
          frame_mask: bool [M, T], True = real frame.
          text: Floating [M, L, D].
          text_mask: bool [M, L], True = real token.

        Returns:
          (points [M, P, D], text tokens [M, L, D]).
        """
        config, dtype = self.config, self.compute.dtype
        time = frames.shape[1]
        x = self._with_positions(jnp.concatenate([frames, text], axis=1))
        x = nn.Dropout(config.dropout, deterministic=not self.has_rng("dropout"))(x)
        mask_of = lambda mask: jnp.concatenate([mask, text_mask], axis=1)[:, None]

        if self.pyramid.type != "fpn":
            x = self._stack(0, config.num_layers, "transformer")(x, mask_of(frame_mask))
            if self.pyramid.type == "none":
                x = nn.LayerNorm(dtype=dtype, name="norm_out")(x)
                return x[:, :time], x[:, time:]
            pyramid = SimplePyramid(self.geometry, dtype, name="pyramid")
            return pyramid(x[:, :time], frame_mask), x[:, time:]

        masks = self.geometry.split_levels(self.geometry.point_mask(frame_mask), axis=1)
        levels, first = [], 0
        for level, (layer, mask) in enumerate(zip(self.layers, masks)):
            x = self._stack(first, layer + 1, f"transformer_{level}")(x, mask_of(mask))
            first = layer + 1
            frames, text = x[:, : mask.shape[1]], x[:, mask.shape[1] :]
            levels.append(frames)
            if level + 1 < len(self.layers):
                down = Downsample(
                    self.pyramid.downsampling, self.pyramid.stride, dtype, name=f"downsample_{level}"
                )
                x = jnp.concatenate([down(frames, mask), text], axis=1)
        return FeaturePyramid(self.geometry, dtype, name="pyramid")(levels, frame_mask), text

    def _stack(self, first: int, end: int, name: str) -> Transformer:
        """Builds layers first … end-1 of the encoder."""
        config = self.config
        drop_rate = lambda layer: config.stochastic_depth * layer / max(config.num_layers - 1, 1)
        return Transformer(
            end - first,
            config.num_heads,
            config.mlp_dim,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            drop_rates=(drop_rate(first), drop_rate(end - 1)),
            compute=self.compute,
            name=name,
        )

    def _with_positions(self, x: jax.Array) -> jax.Array:
        """Adds positions to the first `positions_max_length` tokens of x [M, T + L, D]."""
        if self.config.positions == "none":
            return x
        if self.config.positions == "learned":
            position = self.param("position_embedding", nn.initializers.normal(0.02), x.shape[1:])
        else:
            position = jnp.asarray(sinusoid_positions(*x.shape[1:]))
        limit = self.config.positions_max_length
        if limit is not None:
            position = jnp.where(jnp.arange(x.shape[1])[:, None] < limit, position, 0.0)
        return x + position.astype(self.compute.dtype)
