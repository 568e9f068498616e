"""Assigns training targets to pyramid points, on the device (paper section 3.4; ActionFormer's assignment)."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from unloc_jax.localization.geometry import PyramidGeometry


class Targets(NamedTuple):
    """Targets of each pyramid point for each text.

    Attributes:
      relevance: float32 [B, N, P], 1 where the point is in a segment of the text that its level is responsible for,
        else 0.
      offsets: float32 [B, N, P, 2], distances to that segment's start and end in units of the point's stride; 0 where
        relevance is 0.
    """

    relevance: jax.Array
    offsets: jax.Array


def assign_targets(
    segments: jax.Array,
    segment_text: jax.Array,
    num_texts: int,
    geometry: PyramidGeometry,
    radius: float | None = None,
) -> Targets:
    """Assigns to every pyramid point one segment of every text, or none.

    A point is positive for a segment if it lies inside (both ends included), within `radius` strides of the segment's
    centre, and the larger of its two distances is in its level's regression range. If several segments of a text
    qualify, the shortest wins. (The reference takes the nearest start and the nearest end, which may belong to
    different segments.)

    Args:
      segments: float32 [B, S, 2], start and end in grid units.
      segment_text: int32 [B, S], each segment's text in [0, num_texts); -1 = padding.
      num_texts: N.
      geometry: The pyramid.
      radius: Centre-sampling radius in strides; None = the whole segment is positive.

    Returns:
      Targets for [B, N, P].
    """
    chex.assert_shape(segments, (*segment_text.shape, 2))
    chex.assert_rank(segment_text, 2)
    chex.assert_type(segment_text, int)
    positions, strides = jnp.asarray(geometry.positions), jnp.asarray(geometry.strides)
    low, high = jnp.asarray(geometry.ranges[:, 0]), jnp.asarray(geometry.ranges[:, 1])
    batch = segments.shape[0]

    def visit(best, segment):
        best_length, best_offsets = best
        (start, end), text = (segment[0][:, 0, None], segment[0][:, 1, None]), segment[1]
        to_start, to_end = positions - start, end - positions  # [B, P]
        farthest = jnp.maximum(to_start, to_end)
        positive = (to_start >= 0) & (to_end >= 0) & (farthest >= low) & (farthest < high)
        if radius is not None:
            positive &= jnp.abs(positions - 0.5 * (start + end)) <= radius * strides
        length = jnp.broadcast_to(end - start, positive.shape)
        is_text = jax.nn.one_hot(text, num_texts, dtype=bool)  # [B, N]; padding (-1) matches no text
        better = is_text[:, :, None] & positive[:, None]
        better &= length[:, None] < best_length
        offsets = jnp.stack([to_start, to_end], axis=-1)[:, None]
        return (
            jnp.where(better, length[:, None], best_length),
            jnp.where(better[..., None], offsets, best_offsets),
        ), None

    shape = (batch, num_texts, geometry.num_points)
    nothing = (jnp.full(shape, jnp.inf), jnp.zeros((*shape, 2)))
    per_segment = (jnp.moveaxis(segments, 1, 0), jnp.moveaxis(segment_text, 1, 0))
    (length, offsets), _ = jax.lax.scan(visit, nothing, per_segment)
    relevance = jnp.isfinite(length).astype(jnp.float32)
    return Targets(relevance, offsets / strides[:, None])
