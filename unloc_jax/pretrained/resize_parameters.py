"""Adapts parameters whose shape depends on the input's size to another size.

The rules are those by which Scenic's UnLoc initialises a model from a checkpoint of another size
(scenic/projects/unloc/model_utils.py unless stated otherwise); docstrings mark our own rules, for what the reference
lacks. One difference everywhere: the reference interpolates with scipy.ndimage.zoom, which, due to a rounding error,
sets the last row to 0 for some pairs of sizes, such as 24 → 22; ours never does.

All functions are pure and run on the host. D is the tower's width; results have the source's dtype.
"""

import math

import numpy as np

from unloc_jax.config import ImageTowerConfig
from unloc_jax.errors import UserError


def adapt_text_positions(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Adapts text position embeddings to another text length (the reference's `init_text_posemb`).

    Args:
      source: Floating [L0, D], from the checkpoint.
      target: Floating [L1, D], the model's own.

    Returns:
      [L1, D] with the dtype of `source`: its first L1 rows and, if L1 > L0, `target`'s own rows after them.

    Raises:
      UserError: The widths differ.
    """
    if source.shape[1] != target.shape[1]:
        raise UserError(
            f"the checkpoint's text tower has width {source.shape[1]} and the model's {target.shape[1]}: "
            "set the model's width to the checkpoint's."
        )
    kept = source[: len(target)]
    return np.concatenate([kept, target[len(kept) :]]).astype(source.dtype)


def adapt_image_positions(
    source: np.ndarray,
    num_target: int,
    source_has_class: bool,
    target_has_class: bool,
    target: np.ndarray | None = None,
) -> np.ndarray:
    """Adapts image position embeddings to another image size (the reference's `init_posembed`).

    The square grid of patches is interpolated bilinearly with aligned corners (`interpolate_positional_embeddings` in
    vivit/model_utils.py).

    Args:
      source: Floating [n0, D], from the checkpoint, row by row of the grid; the class row comes first, if there is one.
      num_target: Number of rows wanted, including the class row.
      source_has_class: Whether `source` has a class row.
      target_has_class: Whether the result has one.
      target: Floating [num_target, D], the model's own; only its class row is used, and only if `source` has none.

    Returns:
      [num_target, D] with the dtype of `source`.

    Raises:
      UserError: The rows without the class row do not form a square grid.
      ValueError: A class row is wanted, and neither `source` nor `target` has one.
    """
    if source_has_class == target_has_class and len(source) == num_target:
        return source
    patches = source[1:] if source_has_class else source
    side = _grid_side(len(patches), "checkpoint")
    new_side = _grid_side(num_target - target_has_class, "model")
    grid = patches.reshape(side, side, -1)
    patches = _resample(_resample(grid, new_side, axis=0), new_side, axis=1).reshape(new_side**2, -1)
    if not target_has_class:
        return patches
    if not source_has_class and target is None:
        raise ValueError("the class row must come from `target`: `source` has none")
    class_row = source[:1] if source_has_class else np.asarray(target)[:1].astype(source.dtype)
    return np.concatenate([class_row, patches])


def adapt_class_embedding(source: np.ndarray, num_frames: int | None) -> np.ndarray:
    """Adapts the image tower's class embedding to another number of frames.

    CLIP has one vector, UnLoc one per frame. One vector is repeated (`init_class_embedding`); T0 vectors are
    interpolated linearly over time to T1, with aligned ends (`interpolate_class_embedding` in unloc/train_utils.py),
    which suits frames sampled evenly over the whole video. Several vectors become one by averaging: our rule, the
    reference has none.

    Args:
      source: Floating [D] or [T0, D].
      num_frames: T1, or None for a model with one vector for all frames.

    Returns:
      [T1, D], or [D] if `num_frames` is None, with the dtype of `source`.
    """
    if num_frames is None:
        return source if source.ndim == 1 else source.mean(axis=0, dtype=np.float64).astype(source.dtype)
    if source.ndim == 1:
        return np.tile(source, (num_frames, 1))
    return _resample(source, num_frames, axis=0)


def adapt_sequence_positions(source: np.ndarray, n1: int) -> np.ndarray:
    """Adapts learned position embeddings of the fusion: floating [n0, D] → [n1, D] (our rule; the reference has none).

    They are interpolated linearly, with aligned ends. This suits positions over time (frames); text tokens that
    follow in the same sequence must be cut off before.
    """
    return _resample(source, n1, axis=0)


def adapt_tower_parameter(
    kind: str,
    path: tuple[str, ...],
    source: np.ndarray,
    own: np.ndarray,
    image: ImageTowerConfig,
    source_has_class: bool,
) -> np.ndarray:
    """Adapts a tower's parameter to the shape of the model's own by one of the rules above, or returns it unchanged.

    Args:
      kind: "image" or "text".
      path: Of the parameter in the tower, such as ("position_embedding",).
      source: The parameter to adapt.
      own: The model's own. Its values are fetched only if needed, because other hosts may hold parts of them.
      image: Config of the model's image tower.
      source_has_class: Whether the image tower that `source` comes from has a class token.

    Returns:
      An array with the dtype of `source`.
    """
    if source.shape == own.shape or source.shape[-1] != own.shape[-1]:
        return source
    if kind == "text" and path == ("position_embedding",):
        return adapt_text_positions(source, np.asarray(own) if len(own) > len(source) else source[: len(own)])
    if kind == "image" and path == ("class_embedding",):
        return adapt_class_embedding(source, own.shape[0] if own.ndim == 2 else None)
    if kind == "image" and path == ("position_embedding",):
        has_class = image.pooling == "token"
        row = np.asarray(own) if has_class and not source_has_class else None
        return adapt_image_positions(source, len(own), source_has_class, has_class, row)
    if kind == "image" and path == ("patch_embedding", "kernel"):
        of_frame = 3 * image.patch_size**2
        if len(source) % of_frame == 0 and len(own) > len(source):
            # Our rule: zeros for neighbouring frames that are new, so that the tower computes the same as before.
            new = (len(own) - len(source)) // 2
            return np.pad(source, ((new, new), (0, 0)))
    return source


def _grid_side(num_patches: int, whose: str) -> int:
    """Returns the side of a square grid of patches."""
    side = math.isqrt(max(num_patches, 0))
    if side == 0 or side**2 != num_patches:
        raise UserError(
            f"the {whose}'s image position embedding has {num_patches} patches (without the class row), "
            "which is not a square grid: only square images can be adapted. Check the image size, the patch size "
            "and whether the classifier is a token."
        )
    return side


def _resample(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Interpolates linearly to `size` points along `axis`, with aligned ends (a single point is the first).

    Any other axes and the dtype are kept.
    """
    if values.shape[axis] == size:
        return values
    at = np.linspace(0, values.shape[axis] - 1, size)
    low = np.floor(at).astype(int)
    high = np.ceil(at).astype(int)
    weight = np.expand_dims(at - low, tuple(range(1, values.ndim - axis)))
    wide = values.astype(np.float64)
    mixed = np.take(wide, low, axis) * (1 - weight) + np.take(wide, high, axis) * weight
    return mixed.astype(values.dtype)
