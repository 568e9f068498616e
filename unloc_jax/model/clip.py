"""CLIP's two towers: frames → one token per frame, texts → word tokens (paper section 3.1)."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from unloc_jax.model.transformer import Transformer, quick_gelu
from unloc_jax.text import VOCABULARY_SIZE

# CLIP's preprocessing, applied on the device because frames cross over as uint8.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


class ImageTower(nn.Module):
    """CLIP's vision transformer, run on every frame; the class token stands for the frame.

    Attributes:
      width, num_layers, num_heads, patch_size: ViT sizes.
      temporal_kernel: frames that one patch sees. 1 is CLIP. 3 adds the frame before and the frame after, so that
        a frame's token can say which way something moves.
      remat, unroll, dtype: see `Transformer`.
    """

    width: int
    num_layers: int
    num_heads: int
    patch_size: int
    temporal_kernel: int = 1
    remat: bool = False
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, frames: jax.Array) -> jax.Array:
        """frames uint8 [B, T, H, W, 3] → [B, T, width]."""
        batch, time, height, width, _ = frames.shape
        pixels = (frames.astype(self.dtype) / 255.0 - jnp.array(PIXEL_MEAN, self.dtype)) / jnp.array(
            PIXEL_STD, self.dtype
        )
        size = self.patch_size
        patches = pixels.reshape(batch, time, height // size, size, width // size, size, 3)
        patches = patches.transpose(0, 1, 2, 4, 3, 5, 6).reshape(batch, time, -1, size * size * 3)
        if self.temporal_kernel > 1:
            patches = neighbours(patches, self.temporal_kernel)
        x = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="patch_embedding")(patches)

        normal = nn.initializers.normal(self.width**-0.5)
        class_token = self.param("class_embedding", normal, (self.width,)).astype(self.dtype)
        position = self.param("position_embedding", normal, (x.shape[2] + 1, self.width)).astype(self.dtype)
        class_tokens = jnp.broadcast_to(class_token, (batch, time, 1, self.width))
        x = jnp.concatenate([class_tokens, x], axis=2) + position

        norm = lambda name: nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)
        x = norm("norm_in")(x)
        x = Transformer(
            self.num_layers, self.num_heads, 4 * self.width, quick_gelu, 1e-5, self.remat, self.unroll, self.dtype,
            name="transformer",
        )(x.reshape(batch * time, -1, self.width))  # fmt: skip
        return norm("norm_out")(x[:, 0]).reshape(batch, time, self.width)


def neighbours(patches: jax.Array, kernel: int) -> jax.Array:
    """[B, T, …, D] → [B, T, …, kernel·D]: each frame's patches next to those of the frames around it.

    The first and the last frame stand in for those beyond the ends.
    """
    half = kernel // 2
    padded = jnp.pad(patches, [(0, 0), (half, half)] + [(0, 0)] * (patches.ndim - 2), mode="edge")
    return jnp.concatenate([padded[:, i : i + patches.shape[1]] for i in range(kernel)], axis=-1)


@flax.struct.dataclass
class TextFeatures:
    """Encoded texts.

    tokens: [..., L, D], one per word piece.
    mask: bool [..., L], True = real word piece.
    sentence: [..., D], the end token's embedding, which stands for the text.
    """

    tokens: jax.Array
    mask: jax.Array
    sentence: jax.Array


class TextTower(nn.Module):
    """CLIP's causal text transformer; the embedding at the end token stands for the text."""

    width: int
    num_layers: int
    num_heads: int
    max_tokens: int
    remat: bool = False
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, text_tokens: jax.Array) -> TextFeatures:
        """text_tokens int32 [..., L], zeros after the end token → TextFeatures [..., L, width]."""
        *leading, length = text_tokens.shape
        text_tokens = text_tokens.reshape(-1, length)
        embedding = nn.Embed(
            VOCABULARY_SIZE, self.width, embedding_init=nn.initializers.normal(0.02), dtype=self.dtype,
            name="token_embedding",
        )  # fmt: skip
        position = self.param(
            "position_embedding", nn.initializers.normal(0.01), (self.max_tokens, self.width)
        )
        x = embedding(text_tokens) + position[:length].astype(self.dtype)
        causal = jnp.tril(jnp.ones((length, length), bool))
        x = Transformer(
            self.num_layers, self.num_heads, 4 * self.width, quick_gelu, 1e-5, self.remat, self.unroll, self.dtype,
            name="transformer",
        )(x, causal[None])  # fmt: skip
        x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm_out")(x)
        end = text_tokens.argmax(-1)[:, None]  # the end token has the largest id
        sentence = jnp.take_along_axis(x, end[..., None], axis=1)[:, 0]
        features = TextFeatures(x, jnp.arange(length) <= end, sentence)
        return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), features)
