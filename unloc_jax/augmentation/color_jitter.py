"""Random brightness, saturation, contrast and hue, and conversion to grey.

Formulas and ranges are those of tf.image and of DMVR's standard augmentation, which Scenic's UnLoc uses, with two
differences. Scenic jitters pixels that are already normalised to CLIP's mean and variance and then clips them to
[0, 1]; here jitter precedes normalisation. And the result is rounded to bytes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unloc_jax.augmentation.per_frame import map_frames

MAX_BRIGHTNESS = 32 / 255
SATURATION = CONTRAST = (0.6, 1.4)
MAX_HUE = 0.2

# Weights of ITU-R BT.601, with as many digits as in tf.image.
LUMA = (0.2989, 0.5870, 0.1140)


class ColorShift(NamedTuple):
    """Parameters of a colour jitter, float32 scalars.

    Attributes:
      brightness: Added to pixels in [0, 1].
      saturation, contrast: Factors.
      hue: Rotation of the colour wheel, in turns.
    """

    brightness: jax.Array
    saturation: jax.Array
    contrast: jax.Array
    hue: jax.Array


def jitter_colors(video: jax.Array, key: jax.Array, color: float, grey: float) -> jax.Array:
    """Shifts colours with probability `color` and, independently, converts to grey with probability `grey`.

    uint8 [T, 3, H, W] → uint8 [T, 3, H, W]; `key` is a typed random key.
    """
    shift_key, chance_key = jax.random.split(key)
    shift = draw_shift(shift_key)
    shifted, greyed = jax.random.uniform(chance_key, (2,)) < jnp.array([color, grey])

    def jitter(frame: jax.Array) -> jax.Array:
        pixels = frame.astype(jnp.float32) / 255
        pixels = jnp.where(shifted, shift_colors(pixels, shift), pixels)
        pixels = jnp.where(greyed, luma(pixels), pixels)
        return jnp.round(255 * pixels).astype(jnp.uint8)

    return map_frames(jitter, video)


def draw_shift(key: jax.Array) -> ColorShift:
    """Draws a colour shift, float32 scalars, uniformly from the ranges above; `key` is a typed random key []."""
    low = jnp.array([-MAX_BRIGHTNESS, SATURATION[0], CONTRAST[0], -MAX_HUE])
    high = jnp.array([MAX_BRIGHTNESS, SATURATION[1], CONTRAST[1], MAX_HUE])
    return ColorShift(*jax.random.uniform(key, (4,), minval=low, maxval=high))


def shift_colors(pixels: jax.Array, shift: ColorShift) -> jax.Array:
    """Shifts the colours of float32 [3, H, W] in [0, 1]; returns float32 [3, H, W].

    Values may leave [0, 1] between steps, as in the reference; the result does not.
    """
    pixels = pixels + shift.brightness
    pixels = saturate(pixels, shift.saturation)
    mean = pixels.mean((1, 2), keepdims=True)
    pixels = mean + shift.contrast * (pixels - mean)
    return jnp.clip(turn_hue(pixels, shift.hue), 0, 1)


def saturate(pixels: jax.Array, factor: jax.Array) -> jax.Array:
    """Multiplies HSV's saturation by a factor and caps it at 1: float32 [3, H, W] → float32 [3, H, W].

    Hue and value do not change. With them fixed, a channel's distance to the value is proportional to the saturation,
    so no conversion to HSV is needed.
    """
    value = pixels.max(0)
    distance = value - pixels
    largest = distance.max(0)
    # Saturation is largest / value, so factor × saturation ≤ 1 if the factor is at most value / largest. A value below
    # zero has no saturation.
    most = jnp.maximum(value, 0) / jnp.where(largest > 0, largest, 1)
    return value - jnp.minimum(factor, most) * distance


def turn_hue(pixels: jax.Array, turns: jax.Array) -> jax.Array:
    """Rotates HSV's hue by turns of the colour wheel: float32 [3, H, W] → float32 [3, H, W].

    The largest and the smallest of the three channels do not change.
    """
    red, green, blue = pixels
    most, least = pixels.max(0), pixels.min(0)
    scale = 1 / jnp.where(most > least, most - least, 1)
    # In sixths of a turn from red. Channels are compared with each other instead of with their maximum: a compiler may
    # compute a channel twice with different last bits, and if none equals the maximum, the hue is entirely wrong.
    hue = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) * scale,
        jnp.where(green >= blue, 2 + (blue - red) * scale, 4 + (red - green) * scale),
    )
    # A channel is the largest within a sixth of a turn from its own hue, and the smallest beyond two sixths.
    distance = (hue + 6 * turns - jnp.array([0.0, 2.0, 4.0])[:, None, None]) % 6
    distance = jnp.minimum(distance, 6 - distance)
    return least + (most - least) * jnp.clip(2 - distance, 0, 1)


def luma(pixels: jax.Array) -> jax.Array:
    """Computes the luma of float32 [3, ...] → float32 [...]."""
    red, green, blue = pixels
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
