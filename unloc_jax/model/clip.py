"""CLIP's image and text towers: one token per frame, one token per word piece (paper section 3.1)."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from unloc_jax.config import ImageTowerConfig, TextTowerConfig
from unloc_jax.model.transformer import ACTIVATIONS, ComputeOptions, Transformer

# CLIP's preprocessing runs on the device, so that frames are transferred as uint8.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
_EPSILON = 1e-5  # of CLIP's LayerNorms


class ImageTower(nn.Module):
    """CLIP's vision transformer, applied to every frame.

    A frame is represented by its class token or, with pooling="mean" (which has no class token), by the mean of its
    patch tokens.

    Attributes:
      config: Sizes. With `temporal_kernel` 3 a patch also sees the previous and the next frame, so that a frame's
        token can encode the direction of motion; 1 is CLIP. With `subtract_mean` the tower sees frames minus the mean
        of the video's real frames.
      compute: See `ComputeOptions`.
    """

    config: ImageTowerConfig
    compute: ComputeOptions = ComputeOptions()

    @nn.compact
    def __call__(self, frames: jax.Array, frame_mask: jax.Array | None = None) -> jax.Array:
        """Encodes frames.

        Args:
          frames: [B, T, H, W, 3], uint8, or floating if already normalised.
          frame_mask: bool [B, T], True = real frame; real frames come first. None = all are real.

        Returns:
          Frame tokens, [B, T, width] in the compute dtype.
        """
        config, dtype, layout = self.config, self.compute.dtype, self.compute.layout
        batch, time = frames.shape[:2]
        frames = layout.constrain(frames, "videos", "frames", None, None, None)
        pixels = normalize(frames, dtype) if frames.dtype == jnp.uint8 else frames.astype(dtype)
        if config.subtract_mean:
            pixels = pixels - _mean_frame(pixels, frame_mask)
        if config.conv_stem:
            if config.temporal_kernel > 1:
                pixels = neighbours(pixels, config.temporal_kernel, frame_mask)
            pixels = ConvStem(config.conv_stem, config.width // 2, dtype, name="stem")(pixels)
        patches = to_patches(pixels, config.patch_size >> config.conv_stem)
        if config.temporal_kernel > 1 and not config.conv_stem:
            patches = neighbours(patches, config.temporal_kernel, frame_mask)
        x = nn.Dense(config.width, use_bias=False, dtype=dtype, name="patch_embedding")(patches)

        normal = nn.initializers.normal(config.width**-0.5)
        if config.pooling == "token":
            shape = (time, config.width) if config.class_token_per_frame else (config.width,)
            class_token = self.param("class_embedding", normal, shape).astype(dtype)
            class_tokens = jnp.broadcast_to(class_token[..., None, :], (batch, time, 1, config.width))
            x = jnp.concatenate([class_tokens, x], axis=2)
        x = x + self.param("position_embedding", normal, x.shape[2:]).astype(dtype)

        norm = lambda name: nn.LayerNorm(epsilon=_EPSILON, dtype=dtype, name=name)
        x = norm("norm_in")(x)
        devices = layout.num_shards("videos") * layout.num_shards("frames")
        x = Transformer(
            config.num_layers,
            config.num_heads,
            4 * config.width,
            ACTIVATIONS[config.activation],
            _EPSILON,
            drop_rates=(0.0, config.stochastic_depth),
            compute=self.compute,
            num_chunks=self.compute.num_chunks(batch * time, devices),
            name="transformer",
        )(layout.merge(x, "videos", "frames"))
        x = norm("norm_out")(x[:, 0]) if config.pooling == "token" else norm("norm_out")(x).mean(1)
        return layout.split(x, (batch, time), "videos", "frames")


class ConvStem(nn.Module):
    """Convolutions of 3×3 and stride 2 in front of the patches, each with LayerNorm and GELU (Xiao et al. 2021).

    They see the same thing in the same way wherever it is, which a small dataset does not teach patches.

    Attributes:
      num_layers: each halves height and width.
      width: channels of the last layer; each layer before it has half as many as the next.
      dtype: of the computation.
    """

    num_layers: int
    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Maps pixels [B, T, H, W, C] to [B, T, H / 2ⁿ, W / 2ⁿ, width]."""
        batch, time = pixels.shape[:2]
        x = pixels.reshape(batch * time, *pixels.shape[2:])
        for layer in range(self.num_layers):
            channels = self.width >> (self.num_layers - 1 - layer)
            x = nn.Conv(channels, (3, 3), (2, 2), use_bias=False, dtype=self.dtype, name=f"conv_{layer}")(x)
            x = nn.gelu(nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype, name=f"norm_{layer}")(x))
        return x.reshape(batch, time, *x.shape[1:])


def to_patches(pixels: jax.Array, size: int) -> jax.Array:
    """Cuts pixels [B, T, H, W, C] into patches [B, T, N, size·size·C]."""
    batch, time, height, width, channels = pixels.shape
    patches = pixels.reshape(batch, time, height // size, size, width // size, size, channels)
    return patches.transpose(0, 1, 2, 4, 3, 5, 6).reshape(batch, time, -1, size * size * channels)


def normalize(frames: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Normalises uint8 [..., 3] to CLIP's zero mean and unit variance, in `dtype`."""
    mean, std = jnp.array(PIXEL_MEAN, dtype), jnp.array(PIXEL_STD, dtype)
    return (frames.astype(dtype) / 255.0 - mean) / std


def _mean_frame(pixels: jax.Array, frame_mask: jax.Array | None) -> jax.Array:
    """Averages pixels [B, T, H, W, 3] over the real frames (frame_mask bool [B, T], None = all) to [B, 1, H, W, 3]."""
    where = None if frame_mask is None else frame_mask[:, :, None, None, None]
    count = pixels.shape[1] if frame_mask is None else frame_mask.sum(1)[:, None, None, None, None]
    total = pixels.sum(1, keepdims=True, dtype=jnp.float32, where=where)
    return (total / jnp.maximum(count, 1)).astype(pixels.dtype)


def neighbours(patches: jax.Array, kernel: int, frame_mask: jax.Array | None = None) -> jax.Array:
    """Concatenates each frame's patches with those of the frames around it.

    Args:
      patches: [B, T, ..., D].
      kernel: Frames seen by a patch, odd.
      frame_mask: bool [B, T], True = real frame; real frames come first. None = all are real.

    Returns:
      [B, T, ..., kernel·D], frames in temporal order. The first and the last real frame are repeated beyond the ends.
    """
    half, time = kernel // 2, patches.shape[1]
    around = lambda x: jnp.pad(x, [(0, 0), (half, half)] + [(0, 0)] * (x.ndim - 2), mode="edge")
    padded = around(patches)
    taps = [padded[:, i : i + time] for i in range(kernel)]
    if frame_mask is not None:
        real = around(frame_mask).reshape(len(patches), -1, *[1] * (patches.ndim - 2))
        for i in range(half + 1, kernel):
            taps[i] = jnp.where(real[:, i : i + time], taps[i], taps[i - 1])
    return jnp.concatenate(taps, axis=-1)


@flax.struct.dataclass
class TextFeatures:
    """Encoded texts.

    Attributes:
      tokens: Floating [..., L, D], one per word piece.
      mask: bool [..., L], True = real word piece.
      sentence: Floating [..., D], the single token that represents a text.
    """

    tokens: jax.Array
    mask: jax.Array
    sentence: jax.Array

    @classmethod
    def from_embeddings(cls, embeddings: jax.Array) -> "TextFeatures":
        """Wraps precomputed embeddings [..., D]: every text has one token."""
        return cls(embeddings[..., None, :], jnp.ones((*embeddings.shape[:-1], 1), bool), embeddings)


class TextTower(nn.Module):
    """CLIP's causal text transformer.

    A text is represented by its end token, as in CLIP, or with `config.pooling` by its first token or the mean.

    Attributes:
      config: Sizes.
      compute: See `ComputeOptions`.
    """

    config: TextTowerConfig
    compute: ComputeOptions = ComputeOptions()

    @nn.compact
    def __call__(self, text_tokens: jax.Array) -> TextFeatures:
        """Encodes texts.

        Args:
          text_tokens: int32 [..., L], zeros after the end token.

        Returns:
          Features in the compute dtype: tokens [..., L, width], mask [..., L], sentence [..., width].
        """
        config, dtype, layout = self.config, self.compute.dtype, self.compute.layout
        *leading, length = text_tokens.shape
        text_tokens = text_tokens.reshape(-1, length)
        num_texts = len(text_tokens)
        padding = layout.padding("all_texts", num_texts)
        text_tokens = layout.constrain(jnp.pad(text_tokens, ((0, padding), (0, 0))), "all_texts", None)
        embedding = nn.Embed(
            config.vocabulary_size,
            config.width,
            embedding_init=nn.initializers.normal(0.02),
            dtype=dtype,
            name="token_embedding",
        )
        position = self.param(
            "position_embedding", nn.initializers.normal(0.01), (config.max_tokens, config.width)
        )
        x = embedding(text_tokens) + position[:length].astype(dtype)
        x = layout.constrain(x, "all_texts", None, None)
        causal = jnp.tril(jnp.ones((length, length), bool))
        x = Transformer(
            config.num_layers,
            config.num_heads,
            4 * config.width,
            ACTIVATIONS[config.activation],
            _EPSILON,
            compute=self.compute,
            name="transformer",
        )(x, causal[None])
        x = nn.LayerNorm(epsilon=_EPSILON, dtype=dtype, name="norm_out")(x)
        x = layout.constrain(x, "all_texts", None, None)
        end = text_tokens.argmax(-1)[:, None]  # the end token has the largest id
        mask = jnp.arange(length) <= end
        features = TextFeatures(x, mask, self._sentence(x, end, mask))
        return jax.tree.map(lambda leaf: leaf[:num_texts].reshape(*leading, *leaf.shape[1:]), features)

    def _sentence(self, x: jax.Array, end: jax.Array, mask: jax.Array) -> jax.Array:
        """Pools tokens x [M, L, D], end position int [M, 1], mask bool [M, L] (True = real) to [M, D]."""
        if self.config.pooling == "mean":
            weights = mask[..., None].astype(x.dtype)
            return (x * weights).sum(1) / weights.sum(1)
        position = end if self.config.pooling == "end" else jnp.zeros_like(end)
        return jnp.take_along_axis(x, position[..., None], axis=1)[:, 0]
