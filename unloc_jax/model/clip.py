"""CLIP's two towers: frames → one token per frame, texts → word tokens (paper section 3.1)."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from unloc_jax.config import ImageTowerConfig, TextTowerConfig
from unloc_jax.model.transformer import ACTIVATIONS, Run, Transformer

# CLIP's preprocessing, applied on the device because frames cross over as uint8.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
_EPSILON = 1e-5  # of CLIP's LayerNorms


class ImageTower(nn.Module):
    """CLIP's vision transformer, run on every frame.

    A frame is its class token, or with pooling="mean" the mean of its patches (there is no class token then).

    Attributes:
      config: sizes. With `temporal_kernel` 3 a patch also sees the frame before and the frame after, so that a
        frame's token can say which way something moves; 1 is CLIP.
      run: see `Run`.
    """

    config: ImageTowerConfig
    run: Run = Run()

    @nn.compact
    def __call__(self, frames: jax.Array, frame_mask: jax.Array | None = None) -> jax.Array:
        """frames [B, T, H, W, 3], uint8 or (already normalised) floating → [B, T, width].

        frame_mask: bool [B, T], True = real frame; these come first. None = all.
        """
        config, dtype, layout = self.config, self.run.dtype, self.run.layout
        batch, time, height, width, _ = frames.shape
        frames = layout.constrain(frames, "videos", "frames", None, None, None)
        pixels = normalize(frames, dtype) if frames.dtype == jnp.uint8 else frames.astype(dtype)
        size = config.patch_size
        patches = pixels.reshape(batch, time, height // size, size, width // size, size, 3)
        patches = patches.transpose(0, 1, 2, 4, 3, 5, 6).reshape(batch, time, -1, size * size * 3)
        if config.temporal_kernel > 1:
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
        devices = layout.parts("videos") * layout.parts("frames")
        x = Transformer(
            config.num_layers,
            config.num_heads,
            4 * config.width,
            ACTIVATIONS[config.activation],
            _EPSILON,
            drop_rates=(0.0, config.stochastic_depth),
            run=self.run,
            turns=self.run.turns(batch * time, devices),
            name="transformer",
        )(layout.merge(x, "videos", "frames"))
        x = norm("norm_out")(x[:, 0]) if config.pooling == "token" else norm("norm_out")(x).mean(1)
        return layout.split(x, (batch, time), "videos", "frames")


def normalize(frames: jax.Array, dtype: DTypeLike) -> jax.Array:
    """uint8 [..., 3] → CLIP's zero mean and unit variance."""
    mean, std = jnp.array(PIXEL_MEAN, dtype), jnp.array(PIXEL_STD, dtype)
    return (frames.astype(dtype) / 255.0 - mean) / std


def neighbours(patches: jax.Array, kernel: int, frame_mask: jax.Array | None = None) -> jax.Array:
    """[B, T, …, D] → [B, T, …, kernel·D]: each frame's patches next to those of the frames around it.

    The first and the last real frame stand in for those beyond the ends; `frame_mask` as in `ImageTower`.
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

    tokens: [..., L, D], one per word piece.
    mask: bool [..., L], True = real word piece.
    sentence: [..., D], what stands for the text where one token is wanted.
    """

    tokens: jax.Array
    mask: jax.Array
    sentence: jax.Array

    @classmethod
    def from_embeddings(cls, embeddings: jax.Array) -> "TextFeatures":
        """Given embeddings [..., D]: every text is one token."""
        return cls(embeddings[..., None, :], jnp.ones((*embeddings.shape[:-1], 1), bool), embeddings)


class TextTower(nn.Module):
    """CLIP's causal text transformer.

    What stands for a text is the end token, as in CLIP, or by `config.pooling` the first token or the mean.

    Attributes:
      config: sizes.
      run: see `Run`.
    """

    config: TextTowerConfig
    run: Run = Run()

    @nn.compact
    def __call__(self, text_tokens: jax.Array) -> TextFeatures:
        """text_tokens int32 [..., L], zeros after the end token → TextFeatures [..., L, width]."""
        config, dtype, layout = self.config, self.run.dtype, self.run.layout
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
            run=self.run,
            name="transformer",
        )(x, causal[None])
        x = nn.LayerNorm(epsilon=_EPSILON, dtype=dtype, name="norm_out")(x)
        x = layout.constrain(x, "all_texts", None, None)
        end = text_tokens.argmax(-1)[:, None]  # the end token has the largest id
        mask = jnp.arange(length) <= end
        features = TextFeatures(x, mask, self._sentence(x, end, mask))
        return jax.tree.map(lambda leaf: leaf[:num_texts].reshape(*leading, *leaf.shape[1:]), features)

    def _sentence(self, x: jax.Array, end: jax.Array, mask: jax.Array) -> jax.Array:
        """x [M, L, D], end [M, 1], mask [M, L] → [M, D]."""
        if self.config.pooling == "mean":
            weights = mask[..., None].astype(x.dtype)
            return (x * weights).sum(1) / weights.sum(1)
        position = end if self.config.pooling == "end" else jnp.zeros_like(end)
        return jnp.take_along_axis(x, position[..., None], axis=1)[:, 0]
