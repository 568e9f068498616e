"""Heads: relevance and boundaries of pyramid points (paper section 3.4, ActionFormer's design), and video scores."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from unloc_jax.config import HeadConfig
from unloc_jax.localization.geometry import PyramidGeometry
from unloc_jax.model import padding
from unloc_jax.model.layout import UNSHARDED, Layout

_DISTANCES = {"relu": nn.relu, "relu_clip": lambda x: jnp.clip(x, 0.0, 1.0), "sigmoid": nn.sigmoid}


class ConvHead(nn.Module):
    """`num_conv_layers` blocks of LayerNorm, convolution and ReLU, followed by a linear output."""

    output_dim: int
    num_conv_layers: int
    kernel_size: int
    output_bias: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, levels: np.ndarray, mask: jax.Array | None = None) -> jax.Array:
        """Applies the head to every point.

        Args:
          x: Floating [M, P, D].
          levels: int [P], the pyramid level of each point.
          mask: bool [M, P], True = real point; None = all are real.

        Returns:
          float32 [M, P, output_dim].
        """
        for i in range(self.num_conv_layers):
            x = nn.LayerNorm(dtype=self.dtype, name=f"norm_{i}")(x)
            x = nn.relu(LevelConv(self.kernel_size, self.dtype, name=f"conv_{i}")(x, levels, mask))
        return linear(self.output_dim, self.output_bias, nn.initializers.xavier_normal(), "output")(
            x.astype(jnp.float32)
        )


class LevelConv(nn.Module):
    """`nn.Conv` with SAME padding within each pyramid level, for all levels at once.

    Parameters and results are those of `nn.Conv`, computed as one matrix product: convolutions of a few wide points,
    one per level, are several times slower on a CPU (`python benchmarks/blocks.py`).
    """

    kernel_size: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, levels: np.ndarray, mask: jax.Array | None = None) -> jax.Array:
        """Convolves every level; points that are not real count as zeros.

        Args:
          x: Floating [M, P, D].
          levels: int [P], the pyramid level of each point.
          mask: bool [M, P], True = real point; None = all are real.

        Returns:
          [M, P, D].
        """
        x = padding.fill_up(x, mask)
        size, (count, points, width) = self.kernel_size, x.shape
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (size, width, width)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        around = ((size - 1) // 2, size // 2)
        padded, levels_of = jnp.pad(x, ((0, 0), around, (0, 0))), np.pad(levels, around, constant_values=-1)
        taps = []
        for first in range(size):
            same_level = levels_of[first : first + points] == levels
            taps.append(padded[:, first : first + points] * jnp.asarray(same_level, x.dtype)[:, None])
        x = jnp.concatenate(taps, axis=-1).reshape(count * points, -1) @ kernel.reshape(-1, width)
        return x.reshape(count, points, width) + bias


def linear(
    output_dim: int, bias: float, kernel_init: nn.initializers.Initializer, name: str | None
) -> nn.Dense:
    """Returns a linear layer that always computes in float32: scores lose their ranking in bfloat16."""
    return nn.Dense(output_dim, kernel_init=kernel_init, bias_init=nn.initializers.constant(bias), name=name)


class LocalizationHead(nn.Module):
    """Predicts relevance and boundaries for every point of every (video, text) pair.

    One head is shared by all levels, with a scale and a shift of the distances per level, or each level has its own.

    Attributes:
      geometry: The pyramid.
      config: A negative `relevance_bias` suits data in which most pairs are negative. `offsets_bias` must be above 0
        with ReLU distances, which have no gradient otherwise.
      num_classes: Scores per point. It is 1 because the fusion has paired videos with texts before. More is a closed
        vocabulary scored without texts (the reference's `localization_head`): N is 1 in the input and C in the output.
      dtype: Of the computation.
      layout: How activations are sharded.
    """

    geometry: PyramidGeometry
    config: HeadConfig
    num_classes: int = 1
    dtype: DTypeLike = jnp.float32
    layout: Layout = UNSHARDED

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

    def predict_relevance(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Computes relevance logits.

        Args:
          x: Floating [B, N, P, D].
          mask: bool [B, P], True = real point; None = all are real.

        Returns:
          float32 [B, N, P], or [B, C, P] with a closed vocabulary.
        """
        if self.config.type == "linear":
            logits = self.linear(x.astype(jnp.float32))
        else:
            logits = self._apply_head(
                self.relevance if self.config.shared_levels else self.relevance_of, x, mask
            )
        if self.num_classes == 1:
            return logits[..., 0]
        return jnp.moveaxis(logits[:, 0], -1, 1)

    def predict_offsets(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Computes distances to a segment's start and end, in units of the point's stride.

        Args:
          x: Floating [B, N, P, D].
          mask: bool [B, P], True = real point; None = all are real.

        Returns:
          float32 [B, N, P, 2] ≥ 0, or [B, C, P, 2] with a closed vocabulary and offsets per class.
        """
        if self.config.shared_levels:
            per_point = lambda per_level: jnp.concatenate(per_level)[self.geometry.levels, None]
            distances = self._apply_head(self.offsets, x, mask) * per_point(self.scale) + per_point(
                self.shift
            )
        else:
            distances = self._apply_head(self.offsets_of, x, mask)
        distances = _DISTANCES[self.config.distances](distances)
        if distances.shape[-1] == 2:
            return distances
        batch, _, points, _ = distances.shape
        return jnp.moveaxis(distances.reshape(batch, points, self.num_classes, 2), 2, 1)

    def _apply_head(
        self, head: ConvHead | list[ConvHead], x: jax.Array, mask: jax.Array | None = None
    ) -> jax.Array:
        """Applies one head, or one per level: x [B, N, P, D], mask bool [B, P] → float32 [B, N, P, outputs]."""
        flat, levels = self.layout.merge(x, "videos", "texts"), self.geometry.levels
        if mask is not None:
            mask = self.layout.merge(jnp.broadcast_to(mask[:, None], x.shape[:3]), "videos", "texts")
        if isinstance(head, ConvHead):
            out = head(flat, levels, mask)
        else:
            split = self.geometry.split_levels
            masks = [None] * len(head) if mask is None else split(mask, axis=1)
            per_level = zip(head, split(flat, axis=1), split(levels, axis=0), masks)
            out = jnp.concatenate([own(*inputs) for own, *inputs in per_level], axis=1)
        batch, num_texts = x.shape[:2]
        return self.layout.split(out, (batch, num_texts), "videos", "texts")


class VideoHead(nn.Module):
    """Scores each (video, text) pair from its fused text token, for pretraining on trimmed videos."""

    bias: float = 0.0

    @nn.compact
    def __call__(self, text: jax.Array) -> jax.Array:
        """Maps fused text tokens [B, N, D] to float32 logits [B, N]."""
        head = linear(1, self.bias, nn.initializers.xavier_uniform(), "output")
        return head(text.astype(jnp.float32))[..., 0]
