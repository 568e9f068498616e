"""One function for all frames of a video, a few at a time."""

from collections.abc import Callable

import jax

# Enough to keep a device busy, and few enough that no float copy of a batch ever exists.
FRAMES_AT_ONCE = 8


def map_frames(function: Callable[[jax.Array], jax.Array], video: jax.Array) -> jax.Array:
    """[3, H, W] → [...] for every frame of a video [T, 3, H, W]; returns [T, ...]."""
    return jax.lax.map(function, video, batch_size=FRAMES_AT_ONCE)
