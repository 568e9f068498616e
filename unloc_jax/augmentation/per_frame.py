"""Maps a function over the frames of a video, a few at a time."""

from collections.abc import Callable

import jax

# Enough to keep a device busy, and few enough that a float copy of a batch never exists.
FRAMES_AT_ONCE = 8


def map_frames(function: Callable[[jax.Array], jax.Array], video: jax.Array) -> jax.Array:
    """Applies a function [3, H, W] → [...] to every frame of a video [T, 3, H, W]; returns [T, ...]."""
    return jax.lax.map(function, video, batch_size=FRAMES_AT_ONCE)
