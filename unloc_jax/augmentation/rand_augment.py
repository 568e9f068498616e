"""RandAugment (arXiv 1909.13719) for videos, without the operations that move pixels."""

import jax

from unloc_jax.augmentation.operations import OPERATIONS, apply_operation


def rand_augment(
    video: jax.Array, key: jax.Array, layers: int, magnitude: float, mask: jax.Array | None = None
) -> jax.Array:
    """Applies `layers` operations in sequence, drawn independently and shared by all frames.

    As in the reference, a draw is one of eleven operations or none, all twelve equally likely.

    Args:
      video: uint8 [T, 3, H, W].
      key: Typed random key.
      layers: Number of draws.
      magnitude: 0 to 10; see `operations` for its meaning and the differences from the reference.
      mask: bool [T], True = real frame; only these count in the video's statistics; None = all.

    Returns:
      uint8 [T, 3, H, W].
    """

    def layer(video: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        operation_key, center_key = jax.random.split(key)
        operation = jax.random.randint(operation_key, (), 0, len(OPERATIONS))
        center = jax.random.uniform(center_key, (2,))
        return apply_operation(video, operation, center, magnitude, mask), None

    return jax.lax.scan(layer, video, jax.random.split(key, layers))[0]
