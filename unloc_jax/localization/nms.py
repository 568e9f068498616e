"""Non-maximum suppression of temporal segments for the device, batched over any leading axes."""

import dataclasses

import chex
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class NMSConfig:
    """Settings of non-maximum suppression.

    Attributes:
      max_detections: K ≥ 1.
      kind: Factor by which the score of an overlapping candidate is multiplied. "gaussian" (Bodla et al. 2017):
        exp(-IoU² / (2·sigma)) as in TensorFlow and the reference (OpenTAD and ActionFormer lack the 2, so their sigma
        is twice this one). "linear": 1 - IoU if it is at least iou_threshold. "hard": 0 if IoU is at least
        iou_threshold.
      sigma: Width of "gaussian", above 0.
      iou_threshold: Of "linear" and "hard".
      score_threshold: A candidate is dropped once its (lowered) score is at or below this.
      voting_threshold: See `vote`; 0 = no voting.
      voting_by_overlap: See `vote`.
    """

    max_detections: int
    kind: str
    sigma: float
    iou_threshold: float
    score_threshold: float
    voting_threshold: float
    voting_by_overlap: bool


def suppress(
    segments: jax.Array, scores: jax.Array, settings: NMSConfig
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Selects the best candidate and lowers the scores of those that overlap it, repeatedly.

    The leading axes hold independent problems that run together: one step per detection, whatever the batch.

    Args:
      segments: float32 [..., P, 2], start and end in any unit.
      scores: float32 [..., P].
      settings: Static.

    Returns:
      (segments float32 [..., K, 2], scores float32 [..., K], index int32 [..., K] into P), best first. Padding rows
      have score 0, segment (0, 0) and index 0.
    """
    chex.assert_shape(segments, (*scores.shape, 2))
    start, end = segments[..., 0], segments[..., 1]

    def take_best(remaining, _):
        best = _first_of_highest(remaining)
        pick = lambda x: jnp.take_along_axis(x, best, -1)
        score, first, last = pick(remaining), pick(start), pick(end)
        iou = _iou(start, end, first, last)
        if settings.kind == "gaussian":
            factor = jnp.exp(-0.5 * iou**2 / settings.sigma)
        else:
            overlapping = 0.0 if settings.kind == "hard" else 1.0 - iou
            factor = jnp.where(iou >= settings.iou_threshold, overlapping, 1.0)
        valid = score > settings.score_threshold
        taken = jnp.arange(remaining.shape[-1]) == best
        lowered = jnp.where(taken, -1.0, remaining * factor)
        found = [jnp.where(valid, x, 0)[..., 0] for x in (first, last, score, best)]
        return lowered, tuple(found)

    _, (first, last, score, index) = jax.lax.scan(take_best, scores, None, length=settings.max_detections)
    first, last, score, index = (jnp.moveaxis(x, 0, -1) for x in (first, last, score, index))
    found = jnp.stack([first, last], axis=-1)
    if settings.voting_threshold:
        moved = vote(found, segments, scores, settings.voting_threshold, settings.voting_by_overlap)
        found = jnp.where(score[..., None] > 0, moved, 0.0)
    return found, score, index.astype(jnp.int32)


def _first_of_highest(x: jax.Array) -> jax.Array:
    """Returns the first index of the maximum along the last axis: [..., P] → int32 [..., 1].

    Two maxima are many times faster than `argmax` on a CPU, where that is not vectorised.
    """
    places = jnp.arange(x.shape[-1], dtype=jnp.float32)  # exact below 2^24
    highest = x == x.max(-1, keepdims=True)
    return -jnp.where(highest, -places, -jnp.inf).max(-1, keepdims=True).astype(jnp.int32)


def _iou(start: jax.Array, end: jax.Array, first: jax.Array, last: jax.Array) -> jax.Array:
    """Computes IoU of segments [..., P] with one segment [..., 1]: float32 [..., P], 0 where both are empty."""
    overlap = jnp.maximum(jnp.minimum(end, last) - jnp.maximum(start, first), 0.0)
    union = (end - start) + (last - first) - overlap
    return jnp.where(union > 0, overlap / jnp.where(union > 0, union, 1.0), 0.0)


def vote(
    found: jax.Array, segments: jax.Array, scores: jax.Array, iou_threshold: float, by_overlap: bool
) -> jax.Array:
    """Moves detected segments to the weighted mean of the candidates around them ("segment voting").

    Args:
      found: float32 [..., K, 2], after suppression.
      segments, scores: float32 [..., P, 2] and [..., P], the candidates before suppression.
      iou_threshold: Candidates with at least this IoU vote; above 0.
      by_overlap: Weights are score · IoU (ActionFormer) instead of the score alone (OpenTAD).

    Returns:
      float32 [..., K, 2]; a segment without votes keeps its place.
    """

    # One of the K detections at a time: K·P overlaps might not fit into memory.
    def move(segment: jax.Array) -> jax.Array:  # [..., 2]
        first, last = segment[..., 0:1], segment[..., 1:2]
        iou = _iou(segments[..., 0], segments[..., 1], first, last)
        weight = jnp.where(iou >= iou_threshold, scores * iou if by_overlap else scores, 0.0)
        total = weight.sum(-1, keepdims=True)
        mean = (weight[..., None] * segments).sum(-2) / jnp.where(total > 0, total, 1.0)
        return jnp.where(total > 0, mean, segment)

    return jnp.moveaxis(jax.lax.map(move, jnp.moveaxis(found, -2, 0)), 0, -2)
