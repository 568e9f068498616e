"""Rotary positions of the patches of a picture (Su et al. 2021, in two dimensions as in PE-Core and EVA-02)."""

import jax
import jax.numpy as jnp
import numpy as np

_LONGEST_WAVE = 10_000.0  # over 2π


def picture_rotation(grid: tuple[int, int], trained_side: int, head_width: int, others: int) -> jax.Array:
    """Returns by what the queries and keys of a picture's tokens are rotated.

    A patch's column turns the first half of a head, its row the second one, both counted from 1.

    Args:
      grid: Rows and columns.
      trained_side: Of the grid on which positions are counted; those of another grid are stretched to it.
      head_width: D/H, divisible by 4.
      others: Number of tokens before the patches, which are not rotated.

    Returns:
      Cosines and sines, float32 [2, others + rows · columns, D/H/2].
    """
    rows, columns = ((np.arange(side) + 1.0) / side * trained_side for side in grid)
    count = head_width // 4
    waves = _LONGEST_WAVE ** -(np.arange(count) / count)
    angles = np.stack(np.broadcast_arrays(columns[None, :, None], rows[:, None, None]), axis=2) * waves
    angles = np.pad(angles.reshape(-1, 2 * count), ((others, 0), (0, 0)))
    return jnp.asarray(np.stack([np.cos(angles), np.sin(angles)]), jnp.float32)


def rotate(x: jax.Array, rotation: jax.Array) -> jax.Array:
    """Rotates neighbouring pairs of numbers: floating [M, L, H, D/H], float32 [2, L, D/H/2] → the same as x."""
    cosine, sine = rotation[:, :, None]
    even, odd = x[..., ::2].astype(jnp.float32), x[..., 1::2].astype(jnp.float32)
    pairs = jnp.stack([even * cosine - odd * sine, odd * cosine + even * sine], axis=-1)
    return pairs.reshape(x.shape).astype(x.dtype)
