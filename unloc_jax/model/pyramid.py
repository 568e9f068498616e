"""Feature pyramids over frame tokens (paper section 3.3). Lengths need not be divisible by the stride."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from unloc_jax.localization.geometry import PyramidGeometry
from unloc_jax.model import padding


class SimplePyramid(nn.Module):
    """ViTDet-like pyramid: every level is a strided depthwise convolution of the level below.

    Level 0 has stride 1. Each level has its own LayerNorm.
    """

    geometry: PyramidGeometry
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, frame_mask: jax.Array | None = None) -> jax.Array:
        """Computes all levels.

        Args:
          x: Floating [M, T, D].
          frame_mask: bool [M, T], True = real frame; None = all are real.

        Returns:
          [M, P, D], level after level.
        """
        masks = level_masks(self.geometry, frame_mask)
        levels = []
        for level in range(self.geometry.num_levels):
            stride = 1 if level == 0 else self.geometry.stride
            below = masks[max(level - 1, 0)]
            x = DepthwiseConv(3, stride, self.dtype, name=f"conv_{level}")(x, below)
            x = nn.LayerNorm(dtype=self.dtype, name=f"norm_{level}")(x)
            levels.append(x)
        return jnp.concatenate(levels, axis=1)


class FeaturePyramid(nn.Module):
    """FPN: levels taken from the fusion's layers, each summed with the coarser ones (top-down path)."""

    geometry: PyramidGeometry
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array], frame_mask: jax.Array | None = None) -> jax.Array:
        """Merges the levels top-down.

        Args:
          levels: Floating [M, T, D], [M, ⌈T/stride⌉, D], …, finest first.
          frame_mask: bool [M, T], True = real frame; None = all are real.

        Returns:
          [M, P, D], level after level.
        """
        merged = [levels[-1]]
        for finer in reversed(levels[:-1]):
            above = jnp.repeat(merged[0], self.geometry.stride, axis=1)[:, : finer.shape[1]]
            merged.insert(0, finer + above)
        outputs = []
        for level, (x, mask) in enumerate(zip(merged, level_masks(self.geometry, frame_mask))):
            x = DepthwiseConv(3, 1, self.dtype, name=f"conv_{level}")(x, mask)
            outputs.append(nn.LayerNorm(dtype=self.dtype, name=f"norm_{level}")(x))
        return jnp.concatenate(outputs, axis=1)


def level_masks(geometry: PyramidGeometry, frame_mask: jax.Array | None) -> list[jax.Array | None]:
    """Splits bool [M, T] (True = real frame) into one bool [M, ⌈T/stride**level⌉] per level; None gives Nones."""
    if frame_mask is None:
        return [None] * geometry.num_levels
    return geometry.split_levels(geometry.point_mask(frame_mask), axis=1)


class Downsample(nn.Module):
    """Downsamples one level of an FPN to the next.

    Attributes:
      kind: "max_pool", "avg_pool", "strided_conv", "strided_depthwise_conv" or "subsample".
      stride: Frames per step.
      dtype: Of the computation.
    """

    kind: str
    stride: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Downsamples x.

        Args:
          x: Floating [M, T, D].
          mask: bool [M, T], True = real; None = all are real.

        Returns:
          [M, ⌈T/stride⌉, D].
        """
        if self.kind == "subsample":
            return subsample(x, self.stride)
        x = padding.fill_up(x, mask, self.stride)
        if self.kind == "strided_conv":
            return nn.Conv(x.shape[-1], (3,), (self.stride,), dtype=self.dtype, name="conv")(x)
        if self.kind == "strided_depthwise_conv":
            return DepthwiseConv(3, self.stride, self.dtype, name="conv")(x)
        pool = nn.max_pool if self.kind == "max_pool" else nn.avg_pool
        return pool(x, (self.stride,), (self.stride,))


def subsample(x: jax.Array, stride: int) -> jax.Array:
    """Keeps every stride-th token of x [M, T, D]. (From its second level on, the reference repeats the last one.)"""
    return x[:, ::stride]


class DepthwiseConv(nn.Module):
    """`nn.Conv` with one group per channel and SAME padding, as a sum of shifted products.

    Parameters and results are those of `nn.Conv`; on a CPU this is several times faster than the grouped convolution.
    A length that is not divisible by the stride is extended with the last token (see `padding.fill_up`).
    """

    kernel_size: int
    stride: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Convolves x over time.

        Args:
          x: Floating [M, T, D].
          mask: bool [M, T], True = real; None = all are real.

        Returns:
          [M, ⌈T/stride⌉, D].
        """
        x = padding.fill_up(x, mask, self.stride)
        length, width = x.shape[1:]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.kernel_size, 1, width))
        bias = self.param("bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        out_length = length // self.stride
        around = max((out_length - 1) * self.stride + self.kernel_size - length, 0)
        x = jnp.pad(x, ((0, 0), (around // 2, around - around // 2), (0, 0)))
        end = (out_length - 1) * self.stride + 1
        taps = [
            x[:, i : i + end : self.stride] * kernel[i].astype(self.dtype) for i in range(self.kernel_size)
        ]
        return sum(taps, bias)
