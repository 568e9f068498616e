"""From the model's Localization to segments in seconds, on the device, batched over videos and texts."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from unloc_jax.localization.geometry import PyramidGeometry
from unloc_jax.localization.nms import NMS, suppress


@flax.struct.dataclass
class Localization:
    """The model's only localisation output.

    relevance: float32 [B, N, P] logits.
    offsets: float32 [B, N, P, 2] ≥ 0, distances to start and end in units of the point's stride; [B, 1, P, 2]
      where all texts share them, None where the model has no boundaries.
    """

    relevance: jax.Array
    offsets: jax.Array | None


class Detections(NamedTuple):
    """Segments, best first after NMS.

    segments_s: float32 [B, N, K, 2], start and end in seconds.
    scores: float32 [B, N, K] in [0, 1]; 0 fills up.
    point: int32 [B, N, K], the pyramid point that each segment came from; None where there is no pyramid.
    """

    segments_s: jax.Array
    scores: jax.Array
    point: jax.Array | None


def grid_to_seconds(grid: jax.Array, span_s: jax.Array, num_frames: int) -> jax.Array:
    """Grid units [B, ...] → seconds, with span_s [B, 2] the times of the first and last sampled frame."""
    first, last = (span_s[:, i].reshape(-1, *[1] * (grid.ndim - 1)) for i in (0, 1))
    return first + grid * (last - first) / max(num_frames - 1, 1)


def decode(
    localization: Localization,
    frame_mask: jax.Array,
    span_s: jax.Array,
    geometry: PyramidGeometry,
    settings: NMS,
    nms: bool = True,
) -> Detections:
    """Points → segments in seconds → NMS per (video, text).

    Args:
      localization: relevance [B, N, P], offsets [B, N, P, 2].
      frame_mask: bool [B, T], True = real frame; points on other frames are dropped.
      span_s: float32 [B, 2].
      geometry: the pyramid.
      settings: of the suppression; K = its max_detections.
      nms: False leaves it out, for windows whose candidates are merged later: K is P then, in the points' order.

    Returns:
      Detections with K segments per (video, text), clipped to the span of the real frames.
    """
    positions, strides = jnp.asarray(geometry.positions), jnp.asarray(geometry.strides)
    assert localization.offsets is not None, "a model without boundaries has no segments"
    distances = localization.offsets * strides[:, None]
    segments = jnp.stack([positions - distances[..., 0], positions + distances[..., 1]], axis=-1)
    # A window may be longer than the video: it ends with its last real frame.
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
    """Scores of points [B, N, P] → of frames [B, N, T]: the highest among the points that cover a frame."""
    levels = geometry.split_levels(scores, axis=2)
    spread = [
        jnp.repeat(x, geometry.stride**level, axis=2)[:, :, : geometry.num_frames]
        for level, x in enumerate(levels)
    ]
    return jnp.stack(spread).max(0)
