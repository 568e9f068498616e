"""Colour augmentations of training videos, on the device.

They change colours only: nothing moves, so segments stay true. Crop, flip and scale jitter happen at decoding.
"""

import jax
import jax.numpy as jnp

from unloc_jax.augmentation.color_jitter import jitter_colors
from unloc_jax.augmentation.rand_augment import rand_augment
from unloc_jax.config import AugmentationConfig


def augment(
    frames: jax.Array, keys: jax.Array, config: AugmentationConfig, frame_mask: jax.Array | None = None
) -> jax.Array:
    """Colour jitter, then grey, then RandAugment; every video has its own draw, the same for all its frames.

    Scenic's recipes set all three, but there only RandAugment happens: with `do_rand_augment`, its other colour
    settings do nothing. Its recipes are therefore color=0, grey=0, rand_augment_layers=3 here. Frames that only fill
    up a video do not count in the statistics that RandAugment takes of a video; in Scenic they do.

    Args:
      frames: uint8 [B, T, H, W, 3].
      keys: typed random keys [B], one per video.
      config: static; chances and layers of 0 cost nothing.
      frame_mask: bool [B, T], True = real frame; None = all.

    Returns:
      uint8 [B, T, H, W, 3].

    Raises:
      TypeError: if the frames are no bytes.
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

    # Channel by channel inside: an innermost axis of 3 would leave most of an accelerator's lanes empty.
    mask = jnp.ones(frames.shape[:2], bool) if frame_mask is None else frame_mask
    planes = jax.vmap(augment_video)(jnp.moveaxis(frames, -1, 2), keys, mask)
    return jnp.moveaxis(planes, 2, -1)
