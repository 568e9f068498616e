"""Colour augmentation of training videos, on the device.

It changes colours only: no pixel moves, so segments stay valid. Crop, flip and scale jitter happen during decoding.
"""

import chex
import jax
import jax.numpy as jnp

from unloc_jax.augmentation.color_jitter import jitter_colors
from unloc_jax.augmentation.rand_augment import rand_augment
from unloc_jax.config import AugmentationConfig


def augment(
    frames: jax.Array, keys: jax.Array, config: AugmentationConfig, frame_mask: jax.Array | None = None
) -> jax.Array:
    """Applies colour jitter, then greyscale, then RandAugment, with one draw per video for all of its frames.

    Scenic's recipes set all three, but with `do_rand_augment` the other colour settings have no effect there: its
    recipes are color=0, grey=0, rand_augment_layers=3 here. Padded frames do not count in RandAugment's statistics of a
    video; in Scenic they do.

    Args:
      frames: uint8 [B, T, H, W, 3], not normalised.
      keys: Typed random keys [B], one per video.
      config: Static; what has probability 0 or 0 layers costs nothing.
      frame_mask: bool [B, T], True = real frame; None = all are real.

    Returns:
      uint8 [B, T, H, W, 3].

    Raises:
      TypeError: The frames are not uint8.
    """
    if frames.dtype != jnp.uint8:
        raise TypeError(f"frames are {frames.dtype}; only uint8, not yet normalised, can be augmented")

    def augment_video(video: jax.Array, key: jax.Array, mask: jax.Array) -> jax.Array:
        jitter_key, rand_augment_key = jax.random.split(key)
        if config.color or config.grey:
            video = jitter_colors(video, jitter_key, config.color, config.grey)
        if config.rand_augment_layers:
            layers, magnitude = config.rand_augment_layers, config.rand_augment_magnitude
            video = rand_augment(video, rand_augment_key, layers, magnitude, mask)
        return video

    chex.assert_shape(frames, (len(keys), None, None, None, 3))
    # Channels first: an innermost axis of 3 would leave most of an accelerator's lanes empty.
    mask = jnp.ones(frames.shape[:2], bool) if frame_mask is None else frame_mask
    chex.assert_shape(mask, frames.shape[:2])
    planes = jax.vmap(augment_video)(jnp.moveaxis(frames, -1, 2), keys, mask)
    return jnp.moveaxis(planes, 2, -1)
