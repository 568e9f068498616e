"""Heads: relevance and boundaries of pyramid points (paper section 3.4, ActionFormer's design); video scores."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unloc_jax.config import HeadConfig
from unloc_jax.localization.geometry import PyramidGeometry
from unloc_jax.model.layout import Layout

_DISTANCES = {"relu": nn.relu, "relu_clip": lambda x: jnp.clip(x, 0.0, 1.0), "sigmoid": nn.sigmoid}


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
        return linear(self.output_dim, self.output_bias, nn.initializers.xavier_normal(), "output")(
            x.astype(jnp.float32)
        )


def linear(
    output_dim: int, bias: float, kernel_init: nn.initializers.Initializer, name: str | None
) -> nn.Dense:
    """A linear layer in float32, whatever the computation's dtype: scores lose rank in bfloat16."""
    return nn.Dense(output_dim, kernel_init=kernel_init, bias_init=nn.initializers.constant(bias), name=name)


class LocalizationHead(nn.Module):
    """Relevance and boundaries of every point of every (video, text) pair.

    One head for all levels with a scale and a shift of distances per level, or a head per level.

    Attributes:
      geometry: the pyramid.
      config: a negative `relevance_bias` suits data where most pairs are negative; `offsets_bias` must be > 0 with
        ReLU distances, or they are dead from the start.
      num_classes: scores per point: 1 because texts are paired with the video before. More is a closed vocabulary
        scored without texts (the reference's `localization_head`): N is 1 in and C out.
    """

    geometry: PyramidGeometry
    config: HeadConfig
    num_classes: int = 1
    dtype: jnp.dtype = jnp.float32
    layout: Layout = Layout()

    def setup(self):
        config = self.config
        boundaries = 2 * (self.num_classes if config.offsets_per_text else 1)
        if config.type == "linear":
            self.linear = linear(
                self.num_classes, config.relevance_bias, nn.initializers.xavier_uniform(), None
            )
            return
        head = lambda dim, bias: ConvHead(dim, config.num_conv_layers, config.kernel_size, bias, self.dtype)
        if config.shared_levels:
            self.relevance = head(self.num_classes, config.relevance_bias)
            self.offsets = head(boundaries, config.offsets_bias)
            levels = range(self.geometry.num_levels)
            self.scale = [self.param(f"scale_{i}", nn.initializers.ones, (1,)) for i in levels]
            self.shift = [self.param(f"shift_{i}", nn.initializers.zeros, (1,)) for i in levels]
        else:
            levels = range(self.geometry.num_levels)
            self.relevance_of = [head(self.num_classes, config.relevance_bias) for _ in levels]
            self.offsets_of = [head(boundaries, config.offsets_bias) for _ in levels]

    def score(self, x: jax.Array) -> jax.Array:
        """Relevance logits: x [B, N, P, D] → float32 [B, N, P] ([B, C, P] with a closed vocabulary)."""
        if self.config.type == "linear":
            logits = self.linear(x.astype(jnp.float32))
        else:
            heads = (
                [self.relevance] * self.geometry.num_levels
                if self.config.shared_levels
                else self.relevance_of
            )
            logits = self._per_level(heads, x)
        if self.num_classes == 1:
            return logits[..., 0]
        return jnp.moveaxis(logits[:, 0], -1, 1)

    def distances(self, x: jax.Array) -> jax.Array:
        """Distances to start and end in strides: x [B, N, P, D] → float32 [B, N, P, 2] ≥ 0."""
        activation = _DISTANCES[self.config.distances]
        if self.config.shared_levels:
            levels = self._per_level([self.offsets] * self.geometry.num_levels, x, joined=False)
            levels = [y * scale + shift for y, scale, shift in zip(levels, self.scale, self.shift)]
        else:
            levels = self._per_level(self.offsets_of, x, joined=False)
        distances = activation(jnp.concatenate(levels, axis=2))
        if distances.shape[-1] == 2:
            return distances
        batch, _, points, _ = distances.shape
        return jnp.moveaxis(distances.reshape(batch, points, self.num_classes, 2), 2, 1)

    def _per_level(self, heads, x: jax.Array, joined: bool = True):
        """Runs heads[l] on the points of level l: [B, N, P, D] → [B, N, P, outputs], or a list of levels."""
        outputs = []
        for head, tokens in zip(heads, self.geometry.split_levels(x, axis=2)):
            flat = self.layout.merge(tokens, "videos", "texts")
            outputs.append(self.layout.split(head(flat), tokens.shape[:2], "videos", "texts"))
        return jnp.concatenate(outputs, axis=2) if joined else outputs


class VideoHead(nn.Module):
    """One score per (video, text) pair from the fused text token, for pretraining on trimmed videos."""

    bias: float = 0.0

    @nn.compact
    def __call__(self, text: jax.Array) -> jax.Array:
        """[B, N, D] → float32 logits [B, N]."""
        head = linear(1, self.bias, nn.initializers.xavier_uniform(), "output")
        return head(text.astype(jnp.float32))[..., 0]
