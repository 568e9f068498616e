"""Histograms and lookup tables of bytes, on which most colour operations are built.

TPUs access single bytes at computed addresses one by one. There, a histogram is a product of one-hot vectors of the
bytes' two halves, which the matrix units compute at little cost, and a lookup is a sequence of selects. Results are
bit-identical.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.augmentation.per_frame import map_frames


def histogram(video: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Counts how often each channel has each value: uint8 [T, 3, H, W] → int32 [3, 256].

    Only real frames count, where `mask`, bool [T], is True; None = all are real.
    """
    counts = jax.lax.platform_dependent(
        video,
        # On CPUs, XLA's scatter is several times slower for several frames at once.
        cpu=lambda video: jax.lax.map(count_by_scatter, video),
        default=lambda video: map_frames(count_by_one_hot, video),
    )
    return counts.sum(0) if mask is None else jnp.where(mask[:, None, None], counts, 0).sum(0)


def lookup(frame: jax.Array, tables: jax.Array) -> jax.Array:
    """Replaces every byte of uint8 [3, H, W] by its entry in a table per channel, uint8 [3, 256] → uint8 [3, H, W]."""
    return jax.lax.platform_dependent(frame, tables, tpu=lookup_by_selects, default=lookup_by_gather)


def count_by_scatter(frame: jax.Array) -> jax.Array:
    """Counts values with a scatter: uint8 [3, H, W] → int32 [3, 256]."""
    bins = frame.reshape(3, -1) + 256 * jnp.arange(3)[:, None]
    counts = jnp.zeros(3 * 256, jnp.int32).at[bins.reshape(-1)].add(1, mode="promise_in_bounds")
    return counts.reshape(3, 256)


def count_by_one_hot(frame: jax.Array) -> jax.Array:
    """Counts values with a matrix product: uint8 [3, H, W] → int32 [3, 256]."""
    values = jnp.arange(16, dtype=jnp.uint8)[:, None, None]
    high = (frame[:, None] >> 4 == values).astype(jnp.bfloat16)
    low = (frame[:, None] & 15 == values).astype(jnp.bfloat16)
    # Sums of ones are exact in float32 up to 2^24, more pixels than a frame has.
    counts = jnp.einsum("chyx,clyx->chl", high, low, preferred_element_type=jnp.float32)
    return counts.reshape(3, 256).astype(jnp.int32)


def lookup_by_gather(frame: jax.Array, tables: jax.Array) -> jax.Array:
    """Looks bytes up with a gather: uint8 [3, H, W] in tables uint8 [3, 256] → uint8 [3, H, W]."""
    return tables.at[np.arange(3)[:, None, None], frame].get(mode="promise_in_bounds")


def lookup_by_selects(frame: jax.Array, tables: jax.Array) -> jax.Array:
    """Looks bytes up with selects: uint8 [3, H, W] in tables uint8 [3, 256] → uint8 [3, H, W].

    Each bit, from the lowest, halves a pixel's remaining candidates.
    """
    values = [tables[:, i, None, None].astype(jnp.int32) for i in range(256)]
    for bit in range(8):
        is_set = frame >> bit & 1 > 0
        values = [jnp.where(is_set, odd, even) for even, odd in zip(values[::2], values[1::2])]
    return values[0].astype(jnp.uint8)
