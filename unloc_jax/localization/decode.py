"""Decodes the model's output into segments in seconds, on the device, batched over videos and texts."""

from typing import NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp

from unloc_jax.localization.geometry import PyramidGeometry
from unloc_jax.localization.nms import NMSConfig, suppress


@flax.struct.dataclass
class Localization:
    """The model's localisation output.

    Attributes:
      relevance: float32 [B, N, P], logits.
      offsets: float32 [B, N, P, 2] ≥ 0, distances to start and end in units of the point's stride; [B, 1, P, 2] where
        all texts share them, None where the model has no boundaries.
    """

    relevance: jax.Array
    offsets: jax.Array | None


class Detections(NamedTuple):
    """Segments, best first after NMS.

    Attributes:
      segments_s: float32 [B, N, K, 2], start and end in seconds.
      scores: float32 [B, N, K] in [0, 1]; 0 = padding.
      point: int32 [B, N, K], the pyramid point that each segment comes from; None where there is no
        pyramid.
    """

    segments_s: jax.Array
    scores: jax.Array
    point: jax.Array | None


def grid_to_seconds(grid: jax.Array, span_s: jax.Array, num_frames: int) -> jax.Array:
    """Converts grid units to seconds.

    Args:
      grid: float32 [B, ...], in grid units: 0 is the first sampled frame, num_frames - 1 the last.
      span_s: float32 [B, 2], times in seconds of the first and the last sampled frame.
      num_frames: T.

    Returns:
      float32 [B, ...], in seconds.
    """
    first, last = (span_s[:, i].reshape(-1, *[1] * (grid.ndim - 1)) for i in (0, 1))
    return first + grid * (last - first) / max(num_frames - 1, 1)


def decode(
    localization: Localization,
    frame_mask: jax.Array,
    span_s: jax.Array,
    geometry: PyramidGeometry,
    settings: NMSConfig,
    nms: bool = True,
) -> Detections:
    """Decodes points into segments in seconds and applies NMS per (video, text).

    Args:
      localization: relevance [B, N, P], offsets [B, N, P, 2] or [B, 1, P, 2].
      frame_mask: bool [B, T], True = real frame; points on other frames are dropped.
      span_s: float32 [B, 2], times in seconds of the first and the last sampled frame.
      geometry: The pyramid.
      settings: Of the suppression; K is its max_detections.
      nms: False skips NMS, for windows whose candidates are merged later: K is then P, in the order of the points.

    Returns:
      Detections with K segments per (video, text), clipped to the span of the real frames.
    """
    assert localization.offsets is not None, "a model without boundaries has no segments"
    batch, num_points = len(frame_mask), geometry.num_points
    chex.assert_type(frame_mask, bool)
    chex.assert_shape(frame_mask, (batch, geometry.num_frames))
    chex.assert_shape(localization.relevance, (batch, None, num_points))
    chex.assert_shape(localization.offsets, (batch, None, num_points, 2))
    chex.assert_shape(span_s, (batch, 2))
    positions, strides = jnp.asarray(geometry.positions), jnp.asarray(geometry.strides)
    distances = localization.offsets * strides[:, None]
    segments = jnp.stack([positions - distances[..., 0], positions + distances[..., 1]], axis=-1)
    # A window that is longer than the video ends with its last real frame.
    last = jnp.where(frame_mask, jnp.arange(geometry.num_frames, dtype=jnp.float32), 0.0).max(-1)
    segments = jnp.clip(segments, 0.0, last[:, None, None, None])
    scores = jax.nn.sigmoid(localization.relevance)
    real_point = geometry.point_mask(frame_mask)
    scores = jnp.where(real_point[:, None], scores, 0.0)
    segments_s = grid_to_seconds(segments, span_s, geometry.num_frames)
    segments_s = jnp.broadcast_to(segments_s, (*scores.shape, 2))
    if not nms:
        kept = jnp.where(scores > settings.score_threshold, scores, 0.0)
        points = jnp.broadcast_to(jnp.arange(scores.shape[-1], dtype=jnp.int32), scores.shape)
        return Detections(segments_s, kept, points)
    return Detections(*suppress(segments_s, scores, settings))


def frame_curve(scores: jax.Array, geometry: PyramidGeometry) -> jax.Array:
    """Maps scores of points to frames: float32 [B, N, P] → [B, N, T].

    A frame gets the highest score among the points that cover it.
    """
    levels = geometry.split_levels(scores, axis=2)
    spread = [
        jnp.repeat(x, geometry.stride**level, axis=2)[:, :, : geometry.num_frames]
        for level, x in enumerate(levels)
    ]
    return jnp.stack(spread).max(0)
