"""Hides padded frames from layers that mix neighbouring frames.

A video with n real frames out of T then gets the same numbers as alone, with T = n.
"""

import jax
import jax.numpy as jnp


def fill_up(x: jax.Array, mask: jax.Array | None, stride: int = 1) -> jax.Array:
    """Prepares tokens for a convolution or pooling with SAME padding, such that a video ends with its last real token.

    Alone, a video whose length is not divisible by the stride is extended with its last token, and beyond that a
    convolution sees zeros. Therefore padding in the same group of `stride` tokens as a real token becomes a copy of the
    last real one, and all other padding becomes zero.

    Args:
      x: Floating [M, T, D].
      mask: bool [M, T], True = real token; None = all are real.
      stride: Of the layer.

    Returns:
      [M, ⌈T / stride⌉ · stride, D].
    """
    more = ((0, 0), (0, -x.shape[1] % stride))
    if mask is None:
        return jnp.pad(x, (*more, (0, 0)), mode="edge") if more[1][1] else x
    real = jnp.pad(mask, more)[:, :, None]
    x = jnp.where(real, jnp.pad(x, (*more, (0, 0))), 0)
    if stride == 1:
        return x
    split = lambda x: x.reshape(len(x), -1, stride, x.shape[-1])
    groups, real = split(x), split(real)
    filled = [groups[:, :, 0]]
    for i in range(1, stride):
        filled.append(jnp.where(real[:, :, i], groups[:, :, i], filled[-1]))
    return jnp.stack(filled, axis=2).reshape(x.shape)
