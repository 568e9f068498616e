"""Early video–text fusion (paper section 3.2): one transformer reads frame tokens and text tokens together."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.transformer import Transformer


def sinusoid_positions(length: int, width: int) -> np.ndarray:
    """float32 [length, width]: sines in the first half of the channels, cosines in the second."""
    frequency = np.exp(-np.log(10_000.0) * np.arange(0, width // 2) / max(width // 2 - 1, 1))
    angle = np.arange(length)[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


class Fusion(nn.Module):
    """Self-attention over [frame tokens; text tokens] of every (video, text) pair.

    Attributes:
      num_layers, num_heads, mlp_dim: sizes.
      all_text_tokens: fuse with every word piece, or only with the sentence token.
    """

    num_layers: int
    num_heads: int
    mlp_dim: int
    all_text_tokens: bool
    remat: bool = False
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, video: jax.Array, frame_mask: jax.Array, text: TextFeatures) -> jax.Array:
        """Pairs every video with its texts.

        Args:
          video: [B, T, D] frame tokens.
          frame_mask: bool [B, T].
          text: features of leading shape [B, N] (texts per video) or [1, N] (the same texts for all videos).

        Returns:
          [B, N, T, D] frame tokens that have seen the text.
        """
        batch, time, width = video.shape
        num_texts = text.sentence.shape[1]
        tokens, text_mask = text.tokens, text.mask
        if not self.all_text_tokens:
            tokens, text_mask = text.sentence[:, :, None], text.mask[:, :, :1]
        pair = lambda x, shape: jnp.broadcast_to(x, (batch, num_texts, *shape)).reshape(-1, *shape)
        x = jnp.concatenate(
            [pair(video[:, None], (time, width)), pair(tokens, tokens.shape[2:])], axis=1
        )  # [B·N, T + L, D]
        mask = jnp.concatenate(
            [pair(frame_mask[:, None], (time,)), pair(text_mask, text_mask.shape[2:])], axis=1
        )
        x = x + jnp.asarray(sinusoid_positions(x.shape[1], width), self.dtype)
        x = Transformer(
            self.num_layers,
            self.num_heads,
            self.mlp_dim,
            remat=self.remat,
            unroll=self.unroll,
            dtype=self.dtype,
            name="transformer",
        )(x, mask[:, None])
        return x[:, :time].reshape(batch, num_texts, time, width)
