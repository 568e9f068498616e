"""Relevance and boundary heads on the pyramid (paper section 3.4, the design of ActionFormer)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unloc_jax.localization.decode import Localization
from unloc_jax.localization.geometry import PyramidGeometry


class ConvHead(nn.Module):
    """LayerNorm → convolution → ReLU, `num_conv_layers` times, then a linear output."""

    output_dim: int
    num_conv_layers: int
    kernel_size: int
    output_bias: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[M, T, D] → float32 [M, T, output_dim]."""
        for i in range(self.num_conv_layers):
            x = nn.LayerNorm(dtype=self.dtype, name=f"norm_{i}")(x)
            x = nn.relu(nn.Conv(x.shape[-1], (self.kernel_size,), dtype=self.dtype, name=f"conv_{i}")(x))
        return nn.Dense(
            self.output_dim,
            kernel_init=nn.initializers.xavier_normal(),
            bias_init=nn.initializers.constant(self.output_bias),
            name="output",
        )(x.astype(jnp.float32))


class LocalizationHead(nn.Module):
    """One relevance head and one boundary head shared by all levels, with a scale and a shift per level.

    Attributes:
      geometry: the pyramid.
      num_conv_layers, kernel_size: of both heads.
      relevance_bias: initial logit; negative where most (video, text) pairs are negative.
      offsets_bias: initial distance in strides; > 0, or ReLU distances are dead from the start.
    """

    geometry: PyramidGeometry
    num_conv_layers: int
    kernel_size: int
    relevance_bias: float
    offsets_bias: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> Localization:
        """x [B, N, P, D] fused tokens of all levels → Localization."""
        batch, num_texts, _, width = x.shape
        head = lambda dim, bias, name: ConvHead(
            dim, self.num_conv_layers, self.kernel_size, bias, self.dtype, name=name
        )
        relevance_head, offsets_head = (
            head(1, self.relevance_bias, "relevance"),
            head(2, self.offsets_bias, "offsets"),
        )
        relevance, offsets = [], []
        for level, tokens in enumerate(self.geometry.split_levels(x, axis=2)):
            flat = tokens.reshape(-1, tokens.shape[2], width)
            relevance.append(relevance_head(flat))
            scale = self.param(f"scale_{level}", nn.initializers.ones, (1,))
            shift = self.param(f"shift_{level}", nn.initializers.zeros, (1,))
            offsets.append(nn.relu(offsets_head(flat) * scale + shift))
        shape = (batch, num_texts, self.geometry.num_points)
        return Localization(
            jnp.concatenate(relevance, axis=1).reshape(shape),
            jnp.concatenate(offsets, axis=1).reshape(*shape, 2),
        )
