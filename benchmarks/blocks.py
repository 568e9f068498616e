"""Times the project's building blocks against flax's own layers: `python benchmarks/blocks.py`.

Prints the median time of a gradient on this machine, both in the same run, at quickstart sizes unless others are given.
"""

import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.localization.geometry import pyramid_geometry
from unloc_jax.model.heads import LevelConv
from unloc_jax.model.pyramid import DepthwiseConv
from unloc_jax.model.transformer import TransformerBlock

RUNS = 11


class PlainBlock(nn.Module):
    """The same block built from flax's own layers, on three axes, with autodiff of the activation."""

    num_heads: int
    mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        attention = nn.MultiHeadDotProductAttention(self.num_heads)
        x = x + attention(nn.LayerNorm()(x), mask=mask)
        return x + nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(self.mlp_dim)(nn.LayerNorm()(x))))


class PlainLevelConv(nn.Module):
    """One convolution call per level."""

    level_lengths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv, ends = nn.Conv(x.shape[-1], (3,)), np.cumsum(self.level_lengths)
        return jnp.concatenate([conv(level) for level in jnp.split(x, ends[:-1], axis=1)], axis=1)


class OurLevelConv(nn.Module):
    """One convolution call for all levels."""

    levels: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return LevelConv(3)(x, np.array(self.levels))


def median_ms(module: nn.Module, *inputs: jax.Array | None) -> float:
    """Returns the median milliseconds of the gradient with respect to the parameters and the first input."""
    params = module.init(jax.random.key(0), *inputs)
    loss = lambda params, x: (module.apply(params, x, *inputs[1:]) ** 2).sum()
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    jax.block_until_ready(gradient(params, inputs[0]))
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        jax.block_until_ready(gradient(params, inputs[0]))
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def main() -> None:
    tokens = jax.random.normal(jax.random.key(1), (96, 33, 96))
    frames = jax.random.normal(jax.random.key(1), (96, 32, 96))
    pyramid = pyramid_geometry(16, num_levels=4, stride=2)
    points = jax.random.normal(jax.random.key(1), (40, pyramid.num_points, 512))
    never_skipped = jnp.zeros(())
    pairs = {
        "transformer block": (
            median_ms(TransformerBlock(4, 384), tokens, None, never_skipped),
            median_ms(PlainBlock(4, 384), tokens, None),
        ),
        "depthwise convolution, stride 2": (
            median_ms(DepthwiseConv(3, 2), frames),
            median_ms(nn.Conv(96, (3,), strides=2, feature_group_count=96), frames),
        ),
        "convolution, 4 levels of width 512": (
            median_ms(OurLevelConv(tuple(pyramid.levels.tolist())), points),
            median_ms(PlainLevelConv(tuple(pyramid.level_lengths)), points),
        ),
    }
    print(f"gradient, median of {RUNS} runs, {jax.devices()[0].device_kind}, jax {jax.__version__}")
    print(f"{'':<36}{'ours (ms)':>12}{'flax (ms)':>12}{'ratio':>8}")
    for name, (ours, plain) in pairs.items():
        print(f"{name:<36}{ours:>12.1f}{plain:>12.1f}{plain / ours:>8.1f}")


if __name__ == "__main__":
    main()
