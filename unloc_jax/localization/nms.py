"""Gaussian soft-NMS (Bodla et al. 2017) on temporal segments, written for the device."""

import jax
import jax.numpy as jnp


def soft_nms(
    segments: jax.Array, scores: jax.Array, max_detections: int, sigma: float, score_threshold: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Repeatedly takes the best candidate and decays the others by exp(-IoU² / (2·sigma)).

    That is the decay of the reference (TensorFlow's op); OpenTAD's lacks the factor 2. All leading axes are
    independent problems that run together: one step per detection, whatever the batch.

    Args:
      segments: float32 [..., P, 2], start and end in any unit.
      scores: float32 [..., P].
      max_detections: K ≥ 1.
      sigma: > 0.
      score_threshold: a candidate whose (decayed) score is at or below this is never taken.

    Returns:
      (segments [..., K, 2], scores [..., K], index [..., K] into P), best first. Rows that fill up have
      score 0, segment (0, 0) and index 0.
    """
    start, end = segments[..., 0], segments[..., 1]

    def take_best(remaining, _):
        best = remaining.argmax(-1)[..., None]
        pick = lambda x: jnp.take_along_axis(x, best, -1)
        score, first, last = pick(remaining), pick(start), pick(end)
        overlap = jnp.maximum(jnp.minimum(end, last) - jnp.maximum(start, first), 0.0)
        union = (end - start) + (last - first) - overlap
        iou = jnp.where(union > 0, overlap / jnp.where(union > 0, union, 1.0), 0.0)
        valid = score > score_threshold
        decayed = remaining * jnp.exp(-0.5 * iou**2 / sigma)
        taken = jnp.arange(remaining.shape[-1]) == best
        remaining = jnp.where(taken, -1.0, decayed)
        found = [jnp.where(valid, x, 0)[..., 0] for x in (first, last, score, best)]
        return remaining, tuple(found)

    _, (first, last, score, index) = jax.lax.scan(take_best, scores, None, length=max_detections)
    first, last, score, index = (jnp.moveaxis(x, 0, -1) for x in (first, last, score, index))
    return jnp.stack([first, last], axis=-1), score, index
