"""What layers that mix neighbours in time see of frames that only fill up a video: nothing.

With it, a video of n real frames of T gets the numbers that it gets alone, with T = n.
"""

import jax
import jax.numpy as jnp


def fill_up(x: jax.Array, mask: jax.Array | None, stride: int = 1) -> jax.Array:
    """Prepares tokens for a convolution or a pooling with SAME padding: a video then ends with its last real token.

    Alone, a video whose length the stride does not divide is filled up with its last token, and beyond that a
    convolution sees zeros. So padding that shares a group of `stride` tokens with a real one becomes that one, and all
    other padding becomes zero.

    Args:
      x: [M, T, D].
      mask: bool [M, T], True = real; None = all.
      stride: of the layer.

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
