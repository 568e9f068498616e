"""RandAugment's operations that do not move pixels, each applied to a whole video.

Most of them replace each byte by a value that depends on its channel alone, and are lookup tables. "color" and
"sharpness" blend each frame with another image; "cutout" blackens a box.

At magnitude 10, the only one in the recipes of the reference (Scenic's UnLoc), results equal the reference's, except:
  - contrast is relative to the mean grey; the reference uses the number of pixels / 256, which is white for a video;
  - sharpness stops at a frame's border; the reference stacks a video's frames and filters across them;
  - cutout's box is a fraction of the frame; the reference's has 80 pixels, which is the same for frames of 224.
Below 10, operations with a strength become weaker, down to no effect at 0. The reference's posterize and solarize
become stronger (its solarize inverts everything at 10 because 256 overflows to 0), and its blends change direction
at 5.
"""

import jax
import jax.numpy as jnp

from unloc_jax.augmentation.byte_tables import histogram, lookup
from unloc_jax.augmentation.color_jitter import luma
from unloc_jax.augmentation.per_frame import map_frames

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "invert",
    "posterize",
    "solarize",
    "solarize_add",
    "contrast",
    "brightness",
    "color",
    "sharpness",
    "cutout",
)

# Half the side of cutout's box at magnitude 10, as a fraction of the frame's side: 40 of 224 pixels.
CUTOUT = 40 / 224


def apply_operation(
    video: jax.Array,
    operation: jax.Array,
    center: jax.Array,
    magnitude: float,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Applies one operation, without branches, so that the videos of a batch can have different ones.

    Args:
      video: uint8 [T, 3, H, W].
      operation: int32 scalar, index into `OPERATIONS`.
      center: float32 [2] in [0, 1], the centre of cutout's box as fractions of height and width.
      magnitude: 0 to 10.
      mask: bool [T], True = real frame; only these count in the video's histogram; None = all.

    Returns:
      uint8 [T, 3, H, W]; equal frames stay equal.
    """
    strength = magnitude / 10
    by_name = tables(histogram(video, mask), strength)
    unchanged = jnp.broadcast_to(jnp.arange(256, dtype=jnp.uint8), (3, 256))
    table = jnp.stack([by_name.get(name, unchanged) for name in OPERATIONS])[operation]
    is_color, is_sharpness, is_cutout = (
        operation == OPERATIONS.index(name) for name in ("color", "sharpness", "cutout")
    )
    erased = is_cutout & box(video.shape[2:], center, strength)

    def apply(frame: jax.Array) -> jax.Array:
        blended = blend(jnp.where(is_color, grey(frame), smooth(frame)), frame, strength)
        changed = jnp.where(is_color | is_sharpness, blended, lookup(frame, table))
        return jnp.where(erased, 0, changed)

    return map_frames(apply, video)


def tables(counts: jax.Array, strength: float) -> dict[str, jax.Array]:
    """Builds lookup tables, uint8 [3, 256] by operation, from a video's histogram, int32 [3, 256].

    `strength` is magnitude / 10, in [0, 1].
    """
    values = jnp.arange(256)
    inverted = 255 - values
    dropped_bits = int(4 * strength)
    by_name = {
        "autocontrast": autocontrast(counts),
        "equalize": equalize(counts),
        "invert": inverted,
        "posterize": values >> dropped_bits << dropped_bits,
        "solarize": jnp.where(values < 256 - int(256 * strength), values, inverted),
        "solarize_add": jnp.where(values < 128, jnp.minimum(values + int(110 * strength), 255), values),
        "contrast": blend(mean_grey(counts), values, strength),
        "brightness": blend(jnp.zeros(256), values, strength),
    }
    return {name: jnp.broadcast_to(table, (3, 256)).astype(jnp.uint8) for name, table in by_name.items()}


def autocontrast(counts: jax.Array) -> jax.Array:
    """Stretches each channel from its darkest value to 0 and its brightest to 255; a channel of one value does not
    change. Histogram int32 [3, 256] → int32 [3, 256], what each value becomes.
    """
    values = jnp.arange(256)
    low = jnp.argmax(counts > 0, axis=1, keepdims=True)
    high = 255 - jnp.argmax(counts[:, ::-1] > 0, axis=1, keepdims=True)
    stretched = jnp.clip((values - low) * 255 // jnp.maximum(high - low, 1), 0, 255)
    return jnp.where(high > low, stretched, values)


def equalize(counts: jax.Array) -> jax.Array:
    """Equalises each channel's histogram by the rule of PIL's ImageOps.equalize.

    Histogram int32 [3, 256] → int32 [3, 256], what each value becomes.
    """
    values = jnp.arange(256)
    brightest = 255 - jnp.argmax(counts[:, ::-1] > 0, axis=1, keepdims=True)
    step = jnp.where(values == brightest, 0, counts).sum(1, keepdims=True) // 255
    darker = jnp.cumsum(counts, axis=1) - counts
    equalized = jnp.clip((darker + step // 2) // jnp.maximum(step, 1), 0, 255)
    return jnp.where(step > 0, equalized, values)


def mean_grey(counts: jax.Array) -> jax.Array:
    """Computes a video's mean grey, rounded as in PIL's ImageEnhance.Contrast: int32 [3, 256] → float32 scalar."""
    frequencies = counts / jnp.maximum(counts.sum(1, keepdims=True), 1)
    return jnp.floor(luma((frequencies * jnp.arange(256)).sum(1)) + 0.5)


def grey(frame: jax.Array) -> jax.Array:
    """Converts a frame, [3, H, W] → float32 [H, W], rounded to whole levels."""
    return jnp.floor(luma(frame.astype(jnp.float32)) + 0.5)


def smooth(frame: jax.Array) -> jax.Array:
    """Smooths a frame with weight 5 at a pixel and 1 at its eight neighbours: uint8 [3, H, W] → float32 [3, H, W].

    The outermost pixels do not change.
    """
    pixels = frame.astype(jnp.int32)
    rows = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * pixels[:, 1:-1, 1:-1]
    return pixels.at[:, 1:-1, 1:-1].set(total // 13).astype(jnp.float32)


def blend(start: jax.Array, pixels: jax.Array, strength: float) -> jax.Array:
    """Extrapolates from `start` to `pixels` and 0.9 × strength beyond, like PIL's Image.blend.

    Values in [0, 255], [...] of shapes that broadcast → uint8 [...], clipped and truncated (not rounded).
    """
    start, pixels = start.astype(jnp.float32), pixels.astype(jnp.float32)
    return jnp.clip(start + (1 + 0.9 * strength) * (pixels - start), 0, 255).astype(jnp.uint8)


def box(size: tuple[int, ...], center: jax.Array, strength: float) -> jax.Array:
    """Returns bool [H, W], True inside cutout's box, which may extend beyond the border.

    Args:
      size: (H, W).
      center: float32 [2] in [0, 1], as fractions of H and W.
      strength: In [0, 1].
    """
    inside = [
        abs(jnp.arange(length) + 0.5 - at * length) < CUTOUT * strength * length
        for length, at in zip(size, center)
    ]
    return inside[0][:, None] & inside[1]
